"""Ray, in one place: start or join it, place one actor for each host, call them.

Everywhere else a host is a name, a call is a future, and a dead actor is a `HostLostError`.
"""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dsave.errors import ClusterError, DsaveError, HostLostError, SaveError
from dsave.model.cluster_spec import ClusterSpec, RaySpec
from dsave.runtime.host import Host

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 120.0

# A step of the user's has the actor's main group to itself, so that neither a save nor a
# question about its progress waits for it, nor the question for the save.
_ACTOR_OPTIONS: dict[str, Any] = {
    "num_cpus": 0,
    "concurrency_groups": {"io": 8, "control": 4},
}
_HostActor: Any = ray.remote(**_ACTOR_OPTIONS)(Host)


def connect(spec: RaySpec) -> bool:
    """Use the Ray of this process if there is one, else join or start one; whether it is ours.

    Raises:
        ClusterError: there is no Ray at that address, or it does not start.
    """
    if ray.is_initialized():
        return False
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
        where = "a Ray of its own" if spec.address is None else f"the Ray at {spec.address!r}"
        raise ClusterError(f"cannot use {where} (setting: ray.address): {error}") from None
    return True


class RayHosts:
    """The actors of a cluster, by host name.

    Raises:
        ClusterError: too few Ray nodes for `placement: spread`, or a host does not start.
    """

    def __init__(self, spec: ClusterSpec, local_root: Path) -> None:
        places = _places(spec)
        self._actors: dict[str, Any] = {}
        for host, (node_id, address) in zip(spec.host_names, places, strict=True):
            mounts = {
                path: str(private_path(local_root, host, path)) for path in spec.local_paths
            }
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
            self._actors[host] = _HostActor.options(scheduling_strategy=strategy).remote(
                host, spec.devices_of(host), mounts, address
            )
        started = {host: actor.real_path.remote("/") for host, actor in self._actors.items()}
        for host, ref in started.items():
            try:
                ray.get(ref, timeout=_START_TIMEOUT_S)
            except (RayError, TimeoutError) as error:
                self.kill()
                raise ClusterError(f"{host} did not start: {error}") from None

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

    def kill(self) -> None:
        """End all actors; they hold nothing that outlives them."""
        for actor in self._actors.values():
            ray.kill(actor)


def private_path(local_root: Path, host: str, path: str) -> Path:
    """Where a host's private copy of a path lies on this machine."""
    job_task = host.strip("/").replace("/replica:0", "").replace("/", "-").replace(":", "-")
    return local_root / job_task / path.lstrip("/")


def disconnect() -> None:
    """Stop the Ray that `connect` started."""
    ray.shutdown()


def shared(value: object) -> object:
    """The value as an argument for many calls: stored once, if it is large."""
    return ray.put(value)


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
            cause.add_note(f"raised on {host}, {phase}:\n{error.traceback_str}")
            return cause
        return SaveError(host, phase, str(error))
    if isinstance(error, RayError):
        return _lost(host, phase, error)
    return error


def _lost(host: str, phase: str, error: BaseException) -> HostLostError:
    problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return HostLostError(host, phase, f"the host is gone: {problem}")
