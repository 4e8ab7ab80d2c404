"""Move values between the calling process and the hosts that hold them, and free them there."""

import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from dsave.errors import ModelError
from dsave.model import new_variable
from dsave.model.dtype import DType, dtype_of
from dsave.model.slices import Box
from dsave.model.variable import (
    Aggregation,
    Component,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
    aggregated,
)
from dsave.runtime.answers import answers
from dsave.runtime.arrays import Array, as_variable_array

TIMEOUT_SETTING = "a step that it runs comes first, and timeout_s in the cluster's config"
"""Why a host answers late a call that only moves values, and what says how late it may."""


def described(
    initial: object, shape: Sequence[int] | None, dtype: object, name: str
) -> tuple[Any, DType, tuple[int, ...]]:
    """(the value or the function, dtype, shape) of a new variable."""
    kind = None if dtype is None else dtype_of(dtype)
    if callable(initial):
        if shape is None or kind is None:
            raise ModelError(name, "with a function as its initial value, give shape and dtype")
        return initial, kind, new_variable.checked_shape(shape, kind, name)
    array, kind = as_variable_array(initial, kind, name)
    if shape is not None and new_variable.checked_shape(shape, kind, name) != array.shape:
        raise ModelError(name, f"shape {tuple(shape)} was given, its value has {array.shape}")
    return array, kind, array.shape


class Values:
    """The values of a cluster's variables.

    `submit` calls a method of a host, as `Hosts.submit`; `shared` makes an array an argument
    for many calls; `together` is held while one change is sent to several hosts. A host that
    runs a step answers after it, at the latest in `timeout_s` seconds.

    Raises:
        HostLostError: from every method, when a host died; StalledError: or did not answer.
    """

    def __init__(
        self,
        submit: Callable[..., "Future[Any]"],
        shared: Callable[[Array], object],
        together: AbstractContextManager[object],
        timeout_s: float,
    ) -> None:
        self._submit = submit
        self._shared = shared
        self._together = together
        self._timeout_s = timeout_s
        self._dropped: deque[Mapping[str, list[str]]] = deque()

    def fill(self, variable: Variable, value: Any) -> None:
        """Give a new variable its value, an array or a function that makes it on its hosts."""
        self.keep(variable)  # first: if this fails, what hosts have of it is freed too
        if callable(value):
            self._initialize(variable, value)
        else:
            self.store(variable, variable.components, value, Box.whole(variable.shape))

    def _initialize(self, variable: Variable, make: Callable[..., object]) -> None:
        phase = "making a variable"
        calls = {
            host: self._submit(host, phase, "initialize", _slots(variable, held), make)
            for host, held in _by_host(variable.components).items()
        }
        checksums = answers(phase, calls, self._timeout_s, TIMEOUT_SETTING)
        if not isinstance(variable, ShardedVariable) and len(set(checksums.values())) > 1:
            raise ModelError(
                variable.name,
                f"its function returns different arrays on {', '.join(checksums)}; "
                "replicas begin equal, so give random generators a seed",
            )

    def store(
        self, variable: Variable, components: Sequence[Component], value: Array, box: Box
    ) -> None:
        """Send each host the part of `value`, which covers `box`, that its components hold."""
        phase = "assigning a variable"
        by_host = _by_host(components)
        is_whole = any(component.box == box for component in components)
        whole = (
            self._shared(value) if is_whole else value
        )  # of parts each goes once, on its own
        arguments = [
            (
                host,
                _slots(variable, [c for c in held if c.box == part]),
                whole if part == box else value[part.within(box).index],
            )
            for host, held in by_host.items()
            for part in dict.fromkeys(component.box for component in held)
        ]
        with self._together:
            calls = [(a[0], self._submit(a[0], phase, "store", *a[1:])) for a in arguments]
        for host, call in calls:
            answers(phase, {host: call}, self._timeout_s, TIMEOUT_SETTING)

    def fetch(self, components: Sequence[Component]) -> list[Array]:
        """The arrays of components."""
        phase = "reading a variable"
        with self._together:
            calls = [(c.host, self._submit(c.host, phase, "fetch", c.key)) for c in components]
        return [
            answers(phase, {host: call}, self._timeout_s, TIMEOUT_SETTING)[host]
            for host, call in calls
        ]

    def read(self, variable: Variable) -> Array:
        """What a variable is worth."""
        if isinstance(variable, ShardedVariable):
            return np.concatenate(self.fetch(variable.components))
        added = variable.aggregation in {Aggregation.SUM, Aggregation.MEAN}
        if isinstance(variable, SyncOnReadVariable) and added:
            return aggregated(variable.aggregation, self.fetch(variable.components))
        return self.fetch(variable.components[:1])[0]

    def free(self) -> None:
        """Have hosts drop the arrays of variables that nobody has any more."""
        while self._dropped:
            for host, dropped in self._dropped.popleft().items():
                self._submit(host, "dropping a variable", "forget", dropped)

    def keep(self, variable: Variable) -> None:
        """Free a variable's values when nobody has the variable any more."""
        self.free()
        keys = {h: [c.key for c in held] for h, held in _by_host(variable.components).items()}
        # A finalizer may run anywhere, inside Ray too, so it only leaves a note.
        weakref.finalize(variable, self._dropped.append, keys).atexit = False


def _by_host(components: Sequence[Component]) -> dict[str, list[Component]]:
    by_host: dict[str, list[Component]] = {}
    for component in components:
        by_host.setdefault(component.host, []).append(component)
    return by_host


def _slots(
    variable: Variable, components: Sequence[Component]
) -> dict[str, tuple[str, DType, Box]]:
    return {c.key: (variable.name, variable.dtype, c.box) for c in components}
