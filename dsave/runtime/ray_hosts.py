"""Ray, in one place: start or join it, place one actor for each host, call them.

Everywhere else a host is a name, a call is a future, and a dead actor is a `HostLostError`.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dsave.errors import ClusterError, DsaveError, HostLostError, SaveError
from dsave.model.cluster_spec import ClusterSpec, RaySpec
from dsave.runtime.arrays import Array
from dsave.runtime.host import Host
from dsave.runtime.turns import WRITERS

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 120.0
_PROBE_TIMEOUT_S = 5.0
_INLINE_NBYTES = 64 << 10  # Ray sends arguments below 100 KiB along with the call

# A step of the user's has the actor's main group to itself, so that neither a save nor a
# question about its progress waits for it, nor the question for the save; nor what is short
# in one save for the files of another.
_ACTOR_OPTIONS: dict[str, Any] = {
    "num_cpus": 0,
    "concurrency_groups": {"write": WRITERS, "save": 8, "io": 8, "control": 4},
}
_HostActor: Any = ray.remote(**_ACTOR_OPTIONS)(Host)


@dataclass(slots=True)
class _Session:
    """A Ray that the first of its clusters joined or started; the last one leaves it."""

    address: str | None
    clusters: int = 1


_session: _Session | None = None


def _connect(spec: RaySpec) -> _Session | None:
    """Use the Ray of this process, else join or start one; None: it is not ours to end.

    Raises:
        ClusterError: there is no Ray at that address, or it does not start.
    """
    global _session  # noqa: PLW0603 - Ray itself is one for a process
    if ray.is_initialized():
        if not _is_in_use(spec.address):
            raise ClusterError(
                f"this process uses another Ray than {spec.address!r} (setting: ray.address); "
                "close the cluster that uses it, or share that Ray"
            )
        if _session is not None:
            _session.clusters += 1
        return _session
    _probe(spec.address)
    options: dict[str, Any] = {"address": spec.address or "local", "logging_level": "ERROR"}
    if spec.address is None:
        # Ray makes its workers nice to others; a save that waits for a busy machine is slow.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options |= {"include_dashboard": False, "num_cpus": spec.num_cpus}
        if spec.object_store_gib is not None:
            options["object_store_memory"] = int(spec.object_store_gib * (1 << 30))
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        if spec.address is None:
            problem = "cannot start a Ray (settings: ray.num_cpus, ray.object_store_gib)"
        else:
            problem = f"cannot use the Ray at {spec.address!r} (setting: ray.address)"
        raise ClusterError(f"{problem}: {error}") from None
    _session = _Session(spec.address)
    return _session


def _is_in_use(address: str | None) -> bool:
    """Whether the Ray that this process uses will do for a cluster with this address."""
    if address in {None, "auto"} or (_session is not None and _session.address == address):
        return True
    host, _, port = str(address).rpartition(":")
    used_host, _, used_port = ray.get_runtime_context().gcs_address.rpartition(":")
    with contextlib.suppress(OSError):
        return bool(port == used_port and socket.gethostbyname(host) == used_host)
    return False


def _probe(address: str | None) -> None:
    """See that somebody listens at host:port, for which Ray itself waits minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or "//" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(f"no Ray at {address!r} (setting: ray.address): {error}") from None


class RayHosts:
    """The actors of a cluster, by host name, and Ray for as long as they live.

    Raises:
        ClusterError: no Ray, too few of its nodes for `placement: spread`, or a host does
            not start.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self._actors: dict[str, Any] = {}
        self.mounts: Mapping[str, Mapping[str, str]] = {}
        """For each host where its private copies of the local paths lie on this machine."""
        self._session = _connect(spec.ray)
        pack = spec.placement == "pack"
        self._own_address: str = _LOOPBACK if pack else ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        try:
            self._start(spec)
        except BaseException:
            self.close()
            raise

    def submit(
        self,
        host: str,
        phase: str,
        method: str,
        *args: Any,
        group: str | None = None,
        **kwargs: Any,
    ) -> "Future[Any]":
        """Call a method of a host; `phase` says what for, should the host die meanwhile.

        The future fails with the method's own exception, or with HostLostError.
        """
        call = getattr(self._actors[host], method)
        if group is not None:
            call = call.options(concurrency_group=group)
        translated: Future[Any] = Future()
        try:
            answer = call.remote(*args, **kwargs).future()
        except RayActorError as error:
            translated.set_exception(_lost(host, phase, error))
            return translated

        def translate(done: "Future[Any]") -> None:
            error = done.exception()
            if error is None:
                translated.set_result(done.result())
            else:
                translated.set_exception(_as_ours(error, host, phase))

        answer.add_done_callback(translate)
        return translated

    @property
    def own_address(self) -> str:
        """Where the hosts can reach this process."""
        return self._own_address

    def shared(self, value: Array) -> object:
        """The array as an argument for many calls: stored once, if it is large."""
        return value if value.nbytes <= _INLINE_NBYTES else ray.put(value)

    def close(self) -> None:
        """End all actors, which hold nothing that outlives them, and Ray if it is ours."""
        global _session  # noqa: PLW0603 - as in _connect
        if not ray.is_initialized() or (self._session and self._session is not _session):
            return  # it was shut down under us; another one knows nothing of these actors
        for actor in self._actors.values():
            with contextlib.suppress(RayError, ValueError):
                ray.kill(actor)
        if self._session is not None:
            self._session.clusters -= 1
            if not self._session.clusters:
                _session = None
                ray.shutdown()

    def _start(self, spec: ClusterSpec) -> None:
        self.mounts = _private_paths(spec)
        for host, (node_id, address) in zip(spec.host_names, _places(spec), strict=True):
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
            self._actors[host] = _HostActor.options(scheduling_strategy=strategy).remote(
                host, spec.devices_of(host), self.mounts[host], address
            )
        started = {host: actor.real_path.remote("/") for host, actor in self._actors.items()}
        for host, ref in started.items():
            try:
                ray.get(ref, timeout=_START_TIMEOUT_S)
            except (RayError, TimeoutError) as error:
                raise ClusterError(f"{host} did not start: {error}") from None


def _private_paths(spec: ClusterSpec) -> dict[str, dict[str, str]]:
    """For each host where its private copies of the local paths lie on this machine."""
    if not spec.local_paths:
        return {host: {} for host in spec.host_names}
    try:
        return _made_paths(
            spec, Path(spec.local_root or tempfile.mkdtemp(prefix="dsave-hosts-"))
        )
    except OSError as error:
        raise ClusterError(
            f"the hosts' own paths cannot be made (setting: local_root): {error}"
        ) from None


def _made_paths(spec: ClusterSpec, root: Path) -> dict[str, dict[str, str]]:
    mounts: dict[str, dict[str, str]] = {}
    for host in spec.host_names:
        job_task = host.strip("/").replace("/replica:0", "")
        own = root / job_task.replace("/", "-").replace(":", "-")
        mounts[host] = {path: str(own / path.lstrip("/")) for path in spec.local_paths}
        for private in mounts[host].values():
            Path(private).mkdir(parents=True, exist_ok=True)
    return mounts


def _places(spec: ClusterSpec) -> list[tuple[str, str]]:
    """(node id, address) for each host."""
    if spec.placement == "pack":
        here = ray.get_runtime_context().get_node_id()
        return [(here, _LOOPBACK)] * len(spec.host_names)
    alive: list[Mapping[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node for node in alive if node["Alive"]]
    if len(nodes) < len(spec.host_names):
        raise ClusterError(
            f"placement spread wants a Ray node for each of {len(spec.host_names)} hosts, "
            f"and {len(nodes)} are alive; start more, or use placement pack"
        )
    nodes.sort(key=lambda node: (_octets(node["NodeManagerAddress"]), node["NodeID"]))
    return [(n["NodeID"], n["NodeManagerAddress"]) for n in nodes[: len(spec.host_names)]]


def _octets(address: str) -> tuple[int, ...]:
    return tuple(int(octet) for octet in address.split(".") if octet.isdigit())


def _as_ours(error: BaseException, host: str, phase: str) -> BaseException:
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, DsaveError):
            return cause
        if isinstance(cause, Exception):
            cause.add_note(f"raised on {host}, {phase}:\n{error}")
            return cause
        return SaveError(host, phase, str(error))
    if isinstance(error, RayError):
        return _lost(host, phase, error)
    return error


def _lost(host: str, phase: str, error: BaseException) -> HostLostError:
    problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return HostLostError(host, phase, f"the host is gone: {problem}")
