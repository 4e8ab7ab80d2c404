"""A cluster of hosts: where variables are made, read, assigned and saved from.

One class, and so longer than a file should be: most of it says what the verbs take and raise.
"""

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Self

import numpy as np

from dsave.errors import ClusterError, DeviceError, ModelError, OptionTypeError
from dsave.model import new_variable
from dsave.model.asset import Asset
from dsave.model.cluster_spec import ClusterSpec
from dsave.model.device import DeviceSpec, cpu0, resolve_host, resolve_placement
from dsave.model.readable import supply_reader
from dsave.model.slices import Box
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
    check_variable,
)
from dsave.runtime.answers import answers
from dsave.runtime.arrays import Array, as_variable_array
from dsave.runtime.config import load_spec
from dsave.runtime.hosts import Hosts, token_of
from dsave.runtime.values import described

_ANYWHERE = DeviceSpec()
_scope: ContextVar[DeviceSpec] = ContextVar("dsave_device", default=_ANYWHERE)
_active: list["Cluster"] = []
_open: dict[str, "Cluster"] = {}
"""Clusters that are not closed, by what the keys of their components begin with."""


def active_cluster() -> "Cluster":
    """The cluster that was started last and is not closed.

    Raises:
        ClusterError: there is none.
    """
    if not _active:
        raise ClusterError("there is no cluster; start one with dsave.Cluster.start(...)")
    return _active[-1]


class Cluster:
    """Hosts, their devices, and the variables that live there. Made by `start`."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.inner = Hosts(spec)
        """For the other parts of dsave."""
        _active.append(self)
        _open[self.inner.token] = self

    @classmethod
    def start(
        cls, config: "str | os.PathLike[str] | Mapping[str, Any] | ClusterSpec"
    ) -> "Cluster":
        """Start the hosts of a config: a YAML file's path, a mapping, or a ClusterSpec.

        The cluster is the active one until it is closed; it is a context manager.

        Raises:
            ConfigError: the config says something that is not allowed.
            ClusterError: Ray does not give what the config asks for.
        """
        return cls(load_spec(config))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the hosts, and Ray if this cluster started it. Saved files stay.

        Saves that go on in the background are waited for.
        """
        if self.inner.closed:
            return
        self.inner.join()
        _active.remove(self)
        del _open[self.inner.token]
        self.inner.close()

    @property
    def hosts(self) -> tuple[str, ...]:
        """`/job:worker/replica:0/task:0` and so on."""
        return self.inner.names

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device of every host, `/job:worker/replica:0/task:0/device:CPU:0` and so on."""
        return self.inner.devices

    @property
    def default_device(self) -> str:
        """Where a variable is put here and now: on the device of the scope."""
        return resolve_placement(_scope.get(), self.inner.devices)

    @contextlib.contextmanager
    def device(self, name: str | DeviceSpec) -> Iterator[None]:
        """Put variables made in this scope on a device; inner scopes override outer ones.

        What the name leaves open is taken from the first host of the cluster that agrees.

        Raises:
            DeviceError: the cluster has no such device.
        """
        spec = _scope.get().make_merged_spec(DeviceSpec.from_string(name))
        resolve_placement(spec, self.inner.devices)
        token = _scope.set(spec)
        try:
            yield
        finally:
            _scope.reset(token)

    def variable(
        self,
        initial: object,
        name: str = "Variable",
        *,
        shape: Sequence[int] | None = None,
        dtype: object = None,
        trainable: bool = True,
    ) -> Variable:
        """A variable on the device of the scope; outside of any, on the first host's CPU:0.

        `initial` is an array, a number, a string, or with `shape` and `dtype` a function of the
        index (a slice for each axis) that runs on the host and returns an array.

        Raises:
            DtypeError: a SavedModel cannot hold this dtype.
            ModelError: the value does not fit the shape or the dtype.
        """
        value, kind, full = described(initial, shape, dtype, name)
        variable = new_variable.plain(
            name, kind, full, self.default_device, self.inner.new_key, trainable=trainable
        )
        self.inner.values.fill(variable, value)
        return variable

    def mirrored_variable(
        self,
        initial: object,
        name: str = "Variable",
        *,
        devices: Sequence[str | DeviceSpec] | None = None,
        shape: Sequence[int] | None = None,
        dtype: object = None,
        trainable: bool = True,
        aggregation: object = Aggregation.NONE,
    ) -> MirroredVariable:
        """Equal copies on several devices; None: on every GPU, or without any on every CPU:0.

        `initial` as in `variable`; a function must return equal arrays on every host.
        `aggregation`: "none", "sum", "mean" or "only_first_replica". It is saved with the
        variable, for TensorFlow; here replicas are equal whatever it is.

        Raises:
            DeviceError: the cluster has no such device, or one is named twice.
            DtypeError, ModelError: as `variable`.
            OptionError: no such aggregation.
        """
        value, kind, full = described(initial, shape, dtype, name)
        variable = new_variable.mirrored(
            name,
            kind,
            full,
            self._replica_devices(devices),
            self.inner.new_key,
            trainable=trainable,
            aggregation=aggregation,
        )
        self.inner.values.fill(variable, value)
        return variable

    def sync_on_read_variable(
        self,
        initial: object,
        name: str = "Variable",
        *,
        aggregation: object,
        devices: Sequence[str | DeviceSpec] | None = None,
        shape: Sequence[int] | None = None,
        dtype: object = None,
    ) -> SyncOnReadVariable:
        """Copies that differ, and are worth their sum, mean or first. Each begins as `initial`.

        `aggregation`: "sum", "mean" or "only_first_replica". `devices` as in
        `mirrored_variable`.

        Raises:
            DeviceError, DtypeError, ModelError: as `mirrored_variable`.
            OptionError: no such aggregation, or none that this dtype has.
        """
        value, kind, full = described(initial, shape, dtype, name)
        variable = new_variable.sync_on_read(
            name,
            kind,
            full,
            self._replica_devices(devices),
            self.inner.new_key,
            aggregation=aggregation,
        )
        self.inner.values.fill(variable, value)
        return variable

    def sharded_variable(
        self,
        initial: object,
        name: str = "Variable",
        *,
        devices: Sequence[str | DeviceSpec] | None = None,
        shape: Sequence[int] | None = None,
        dtype: object = None,
        trainable: bool = True,
    ) -> ShardedVariable:
        """One tensor cut along axis 0, a part on each device; None: on every host's CPU:0.

        `initial` as in `variable`; a function is called once for each part, on its host.

        Raises:
            DeviceError, DtypeError, ModelError: as `mirrored_variable`, and for a scalar.
        """
        value, kind, full = described(initial, shape, dtype, name)
        places = (
            [cpu0(h) for h in self.inner.names]
            if devices is None
            else self.inner.resolved(devices)
        )
        variable = new_variable.sharded(
            name, kind, full, places, self.inner.new_key, trainable=trainable
        )
        self.inner.values.fill(variable, value)
        return variable

    def read(self, variable: Variable | Component, device: str | None = None) -> Array:
        """A variable's value, or with `device` the replica or part that is there.

        Of a component, its array. Functions read so when they run.

        Raises:
            DeviceError: the variable has nothing on that device.
            OptionTypeError: it is no variable.
            ModelError: it is of another cluster.
        """
        if not isinstance(variable, Component):
            check_variable(variable)
        self.inner.check_own(variable)
        if isinstance(variable, Component):
            return self.inner.values.fetch([variable])[0]
        if device is not None:
            return self.inner.values.fetch([self._on_device(variable, device)])[0]
        return self.inner.values.read(variable)

    def assign(self, variable: Variable, value: object, device: str | None = None) -> None:
        """Replace all replicas of a variable, or with `device` the one that is there.

        Raises:
            DeviceError: the variable has nothing on that device.
            OptionTypeError: it is no variable.
            ModelError: the value does not fit the variable's shape or dtype, or the variable is
                of another cluster.
        """
        check_variable(variable)
        self.inner.check_own(variable)
        array, _ = as_variable_array(value, variable.dtype, variable.name)
        if device is not None:
            component = self._on_device(variable, device)
            components, box = [component], component.box
        else:
            components, box = list(variable.components), Box.whole(variable.shape)
        if array.shape != box.lengths:
            raise ModelError(
                variable.name, f"an array of shape {box.lengths} is wanted, got {array.shape}"
            )
        self.inner.values.store(variable, components, array, box)

    def run(
        self,
        step: Callable[..., Any],
        *args: Any,
        hosts: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Call `step(host, *args)` on every host (or these), and return the results by host.

        `host` has `name`, `devices`, `value(variable, device=None)` and
        `assign(variable, array, device=None)`. Each of `hosts` may be named in part,
        `/job:worker/task:0`. Without `timeout_s` this waits as long as the hosts live.

        Raises:
            OptionTypeError: the step is no function, or one that only begins when it is called.
            DeviceError: no host has that name, or several have.
            HostLostError: a host died.
            Exception: what the step raised.
        """
        _check_step(step)
        chosen = self.inner.names if hosts is None else self._known(hosts)
        self.inner.values.free()
        with self.inner.together:
            calls = {
                h: self.inner.submit(h, "running a step", "call", step, args) for h in chosen
            }
        return answers("running a step", calls, timeout_s, "timeout_s")

    def real_path(self, path: str | os.PathLike[str], host: str) -> str:
        """Where a path as a host sees it lies on this machine (placement: pack).

        Also after the cluster was closed. The host may be named in part.

        Raises:
            DeviceError: no host has that name, or several have.
        """
        return self.inner.real_path(path, host)

    def _known(self, hosts: Sequence[str]) -> tuple[str, ...]:
        if isinstance(hosts, str):
            raise DeviceError(hosts, "a list of hosts is wanted")
        return tuple(dict.fromkeys(resolve_host(host, self.inner.names) for host in hosts))

    def __reduce__(self) -> str:
        raise ClusterError(
            "a cluster stays in its process; a step uses host.value, host.assign"
        )

    def _replica_devices(self, devices: Sequence[str | DeviceSpec] | None) -> list[str]:
        if devices is not None:
            return self.inner.resolved(devices)
        gpus = [device for device in self.inner.devices if "/device:GPU:" in device]
        return gpus or [cpu0(host) for host in self.inner.names]

    def _on_device(self, variable: Variable, device: str) -> Component:
        wanted = DeviceSpec.from_string(device)
        for component in variable.components:
            if wanted.matches(DeviceSpec.from_string(component.device)):
                return component
        places = ", ".join(component.device for component in variable.components)
        raise DeviceError(device, f"variable {variable.name!r} is on {places}")


def _check_step(step: object) -> None:
    begins = (
        inspect.isgeneratorfunction,
        inspect.iscoroutinefunction,
        inspect.isasyncgenfunction,
    )
    if not callable(step) or any(only(step) for only in begins):
        raise OptionTypeError(
            "step",
            "a plain function is wanted, which has done its work when it returns, not a "
            f"generator or an async function; got {step!r}",
        )


def _read(item: Variable | Component | Asset) -> Array:
    if isinstance(item, Asset):
        return np.array(item.path.encode(), object)
    cluster = _open.get(token_of(item))
    if cluster is None:
        raise ClusterError(f"the cluster of variable {item.name!r} is closed")
    return cluster.read(item)


supply_reader(_read)
