"""The hosts of a cluster, as the other parts of dsave call them."""

import itertools
import os
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from dsave.errors import ClusterError, DeviceError, ModelError
from dsave.model.cluster_spec import ClusterSpec
from dsave.model.device import DeviceSpec, resolve_host, resolve_placement
from dsave.model.variable import Component, Variable
from dsave.runtime.mounts import behind, private_note
from dsave.runtime.values import Values


class Hosts:
    """Calls of hosts, and what all variables of one cluster have in common.

    `together` is held while one call is made to several hosts: all do such calls in one order.
    The keys of all components begin with `token`.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        # Here, so that whoever only reads a checkpoint or a config need not wait for Ray.
        from dsave.runtime.ray_hosts import RayHosts  # noqa: PLC0415

        self.names = spec.host_names
        self.devices = spec.devices
        self.token = secrets.token_hex(8)
        self.together = threading.RLock()
        self._count = itertools.count()
        self._actors = RayHosts(spec)
        self._background: list[threading.Thread] = []
        self.closed = False
        self.values = Values(self.submit, self._actors.shared, self.together, spec.timeout_s)

    def submit(
        self,
        host: str,
        phase: str,
        method: str,
        *args: Any,
        group: str | None = None,
        **kwargs: Any,
    ) -> "Future[Any]":
        """Call a method of `runtime.host.Host` on a host.

        Raises:
            ClusterError: the cluster is closed.
        """
        if self.closed:
            raise ClusterError("the cluster is closed")
        return self._actors.submit(host, phase, method, *args, group=group, **kwargs)

    @property
    def own_address(self) -> str:
        """Where the hosts can reach the calling process."""
        return self._actors.own_address

    def real_path(self, path: str | os.PathLike[str], host: str) -> str:
        """Where a path as a host sees it lies on this machine.

        Raises:
            DeviceError: no host has that name, or several have.
        """
        return behind(os.fspath(path), self._actors.mounts[resolve_host(host, self.names)])

    def private_note(self, path: str) -> str:
        """What to know of a path of which each host has its own copy; empty: they have not."""
        return private_note(path, self._actors.mounts)

    def wait_for(self, thread: threading.Thread) -> None:
        """Let `join` wait for a save in the background."""
        self._background = [each for each in self._background if each.is_alive()] + [thread]

    def join(self) -> None:
        """Wait for what goes on in the background."""
        for thread in self._background:
            thread.join()

    def close(self) -> None:
        """End the hosts."""
        self.closed = True
        self._actors.close()

    def new_key(self) -> str:
        """A key for a component that no other component has."""
        return f"{self.token}-{next(self._count)}"

    def check_own(self, variable: Variable | Component) -> None:
        """See that a variable, or a component of one, was made on this cluster.

        Raises:
            ModelError: it was not.
        """
        if token_of(variable) != self.token:
            raise ModelError(variable.name, "it is of another cluster")

    def resolved(self, devices: Sequence[str | DeviceSpec]) -> list[str]:
        """The whole names of devices, each of them once.

        Raises:
            DeviceError: the cluster has no such device, or one is named twice.
        """
        if not isinstance(devices, list | tuple) or not devices:
            raise DeviceError(str(devices), "a list of at least one device name is wanted")
        names = [
            resolve_placement(DeviceSpec.from_string(device), self.devices)
            for device in devices
        ]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DeviceError(twice, "it is named twice")
        return names


def token_of(variable: Variable | Component) -> str:
    """What the keys of all components of its cluster begin with."""
    component = variable if isinstance(variable, Component) else variable.components[0]
    return component.key.partition("-")[0]
