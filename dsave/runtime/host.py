"""One host of a job: it holds arrays, runs the user's steps, takes part in saves and loads.

A plain class; `cluster` makes an actor of it. Arrays are replaced, never changed in place
(`frozen`), so a save takes a snapshot by taking references.
"""

import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dsave.errors import DeviceError, ModelError, SaveError
from dsave.model.device import DeviceSpec
from dsave.model.dtype import DType
from dsave.model.slices import Box
from dsave.model.variable import Component, Variable, check_variable
from dsave.runtime.arrays import Array, as_bytes, as_variable_array, frozen
from dsave.runtime.host_load import HostLoad, LoadTicket, View
from dsave.runtime.host_save import HostSave
from dsave.runtime.mounts import behind
from dsave.runtime.save_messages import Found, Ticket

_REMEMBERED = 100

Initializer = Callable[[tuple[slice, ...]], object]


class Host:
    """What a step that `Cluster.run` calls gets as its first argument."""

    def __init__(
        self, name: str, devices: tuple[str, ...], mounts: Mapping[str, str], address: str
    ) -> None:
        self.name = name
        self.devices = devices
        self._mounts = mounts
        self._address = address
        self._arrays: dict[str, Array] = {}
        self._saves: dict[str, HostSave] = {}
        self._lock = threading.Lock()
        """Held to begin and to give up: they come by different threads of the actor."""
        self._given_up: deque[str] = deque(maxlen=_REMEMBERED)
        """Saves and loads that ended before they began here, the latest of them."""
        self._loads: dict[str, HostLoad] = {}

    def value(self, variable: Variable, device: str | None = None) -> Array:
        """The replica or part on a device of this host; None: the first one here. Read-only.

        Raises:
            OptionTypeError: it is no variable.
            DeviceError: the variable is not there.
            ModelError: it is of another cluster.
        """
        component = self._component(variable, device)
        self._check_held(variable, [component])
        return self._arrays[component.key]

    def assign(self, variable: Variable, array: object, device: str | None = None) -> None:
        """Replace the replicas or parts on this host, or the one on a device of it.

        Raises:
            OptionTypeError: it is no variable.
            DeviceError: the variable is not there.
            ModelError: the array has another shape, or the variable is of another cluster.
        """
        check_variable(variable)
        components = (
            [c for c in variable.components if c.host == self.name]
            if device is None
            else [self._component(variable, device)]
        )
        if not components:
            raise self._not_here(variable, self.name)
        self._check_held(variable, components)
        self.store({c.key: (variable.name, variable.dtype, c.box) for c in components}, array)

    def store(self, keys: Mapping[str, tuple[str, DType, Box]], value: object) -> None:
        """Take one value for several component keys, each with its name, dtype and box."""
        arrays: dict[tuple[DType, Box], Array] = {}
        for name, dtype, box in keys.values():
            if (dtype, box) not in arrays:
                arrays[dtype, box] = _checked(value, name, dtype, box)
        for key, (_, dtype, box) in keys.items():
            self._arrays[key] = arrays[dtype, box]

    def initialize(self, keys: Mapping[str, tuple[str, DType, Box]], make: Initializer) -> int:
        """Fill keys with what `make` returns for each box; returns a checksum of it."""
        arrays: dict[Box, Array] = {}
        for key, (name, dtype, box) in keys.items():
            if box not in arrays:
                arrays[box] = _checked(make(box.index), name, dtype, box)
            self._arrays[key] = arrays[box]
        checksum = 0
        for array in arrays.values():
            text = repr(array.tolist()).encode() if array.dtype.hasobject else as_bytes(array)
            checksum = zlib.crc32(text, checksum)
        return checksum

    def fetch(self, key: str) -> Array:
        """One array."""
        return self._arrays[key]

    def forget(self, keys: list[str]) -> None:
        """Drop arrays; a save that is under way keeps its own references."""
        for key in keys:
            self._arrays.pop(key, None)

    def call(self, step: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run a step of the user's."""
        try:
            return step(self, *args)
        except SystemExit as error:  # it would end the host, and all that it holds
            raise RuntimeError(f"a step called sys.exit({error.code!r})") from None

    def real_path(self, path: str) -> str:
        """Where a path as this host sees it lies on the machine."""
        return behind(path, self._mounts)

    def begin_save(self, ticket: Ticket, names: Mapping[str, str], *, stores: bool) -> Found:
        """Take a snapshot of these component keys (with the names of their variables)."""
        missing = next((name for key, name in names.items() if key not in self._arrays), None)
        if missing is not None:
            raise ModelError(
                missing, f"{self.name} does not hold it: is it of another cluster?"
            )
        arrays = {key: self._arrays[key] for key in names}
        path = self.real_path(ticket.directory)
        save = HostSave(self.name, path, self._address, ticket, arrays)
        with self._lock:
            if ticket.epoch in self._given_up:  # a step was running; the caller did not wait
                raise SaveError(self.name, "taking a snapshot", "the save was given up")
            self._saves[ticket.epoch] = save
        return save.begin(stores=stores)

    def in_save(self, epoch: str, verb: str, *args: Any) -> Any:
        """Carry out a verb of `HostSave`; the last one ends the save here.

        Raises:
            SaveError: no such save is going on here.
        """
        with self._lock:
            if epoch not in self._saves:
                self._given_up.append(epoch)
                raise SaveError(self.name, "taking part in a save", "it has not begun here")
            part = self._saves.pop(epoch) if verb == "end" else self._saves[epoch]
        return getattr(part, verb)(*args)

    def begin_load(self, ticket: LoadTicket, *, looks: bool) -> View | None:
        """Take part in a load; with `looks`, see what is in its directory."""
        path = self.real_path(ticket.directory)
        load = HostLoad(self.name, path, self._address, ticket)
        with self._lock:
            if ticket.epoch in self._given_up:
                raise SaveError(self.name, "looking at the directory", "the load was given up")
            self._loads[ticket.epoch] = load
        return load.look() if looks else None

    def in_load(self, epoch: str, verb: str, *args: Any) -> Any:
        """Carry out a verb of `HostLoad`; the last one ends the load here.

        Raises:
            SaveError: no such load is going on here.
        """
        with self._lock:
            if epoch not in self._loads:
                self._given_up.append(epoch)
                raise SaveError(self.name, "taking part in a load", "it has not begun here")
            part = self._loads.pop(epoch) if verb == "end" else self._loads[epoch]
        return getattr(part, verb)(*args)

    def can_adopt(self, epoch: str, *, replaces: bool) -> None:
        """See that everything is staged; no step is running while this is asked.

        Raises:
            ModelError: with `replaces`, there is nothing in whose place a value would come.
        """
        staged = self._loads[epoch].staged()
        if replaces and not staged.keys() <= self._arrays.keys():
            raise ModelError(
                "into", f"{self.name} does not hold its variables: is it of another cluster?"
            )

    def adopt(self, epoch: str) -> None:
        """Take over what a load has staged, all of it at once."""
        load = self._loads[epoch]
        staged = load.staged()
        load.replaced = {key: (array, self._arrays.get(key)) for key, array in staged.items()}
        self._arrays.update(staged)

    def take_back(self, epoch: str) -> None:
        """Undo `adopt`, if it happened: another host could not. What came later stays."""
        for key, (adopted, before) in self._loads[epoch].replaced.items():
            if self._arrays.get(key) is not adopted:
                continue
            if before is None:
                del self._arrays[key]
            else:
                self._arrays[key] = before

    def _component(self, variable: Variable, device: str | None) -> Component:
        check_variable(variable)
        wanted = DeviceSpec.from_string(device)
        for component in variable.components:
            if component.host == self.name and wanted.matches(
                DeviceSpec.from_string(component.device)
            ):
                return component
        raise self._not_here(variable, device or self.name)

    def _check_held(self, variable: Variable, components: Sequence[Component]) -> None:
        if any(component.key not in self._arrays for component in components):
            raise ModelError(
                variable.name, f"{self.name} does not hold it: is it of another cluster?"
            )

    def _not_here(self, variable: Variable, device: str) -> DeviceError:
        devices = ", ".join(component.device for component in variable.components)
        return DeviceError(device, f"variable {variable.name!r} is on {devices}")


def _checked(value: object, name: str, dtype: DType, box: Box) -> Array:
    array, _ = as_variable_array(value, dtype, name)
    if array.shape != box.lengths:
        raise ModelError(name, f"an array of shape {box.lengths} is wanted, got {array.shape}")
    return frozen(array)
