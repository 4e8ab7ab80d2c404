"""What a cluster is made of: hosts, their devices, and where they run.

The schema of `cluster_configs/*.yaml`, with the defaults of what may be left out:

    ray: {address: null, num_cpus: null, object_store_gib: null}
    placement: pack               or spread
    local_paths: []               pack only
    local_root: null              pack only
    timeout_s: 600                for a host to answer a call that moves values
    hosts:                        at least one
      - {job: worker, tasks: 1, gpus: 0}     the job must be given
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from dsave.errors import ConfigError, DeviceError
from dsave.model.device import cpu0

Placement = Literal["pack", "spread"]

# TensorFlow's Python takes any job name; its C++, which reads the graphs, only these
# (tensorflow/core/util/device_name_utils.cc): others are a "Malformed device specification".
_JOB = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_JOBS = "a letter, then letters, digits and _; localhost is the process that calls save"
_PATH = "an absolute path other than /, without . and .. in it"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySpec:
    """The Ray that hosts run on; None leaves a choice to Ray."""

    address: str | None = None
    """None starts a small Ray in this process, "auto" joins the cluster that runs here."""

    num_cpus: int | None = None
    object_store_gib: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """`tasks` hosts of one job, each with a `CPU:0` and `gpus` GPUs."""

    job: str
    tasks: int = 1
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """A whole cluster config, checked.

    Raises:
        ConfigError: a value that is not allowed, under its key: `hosts[0].gpus`.
    """

    hosts: tuple[HostSpec, ...]
    ray: RaySpec = RaySpec()
    placement: Placement = "pack"

    local_paths: tuple[str, ...] = ()
    """Paths of which each host sees a private copy, as separate machines would."""

    local_root: str | None = None
    """The directory of this machine that holds those copies; None: a new temporary one."""

    timeout_s: float = 600.0
    """How long a host may take to answer a call that only moves values, behind its step."""

    def __post_init__(self) -> None:
        _check_ray(self.ray)
        if self.placement not in ("pack", "spread"):
            raise ConfigError("placement", repr(self.placement), "pack or spread")
        set_field = object.__setattr__  # the frozen dataclass is normalised once, here
        set_field(self, "local_paths", _local_paths(self.local_paths, self.placement))
        if self.local_root is not None:
            _pack_only("local_root", self.local_root, self.placement)
            set_field(self, "local_root", _path("local_root", self.local_root))
        set_field(self, "hosts", _hosts(self.hosts))
        _positive("timeout_s", self.timeout_s)

    @classmethod
    def from_mapping(cls, mapping: object) -> "ClusterSpec":
        """The spec that a parsed config file describes.

        Raises:
            ConfigError: an unknown or missing key, or a value that is not allowed.
        """
        # The keys are checked here, the values where the dataclasses are put together.
        given = dict(_keyed(mapping, "", cls))
        if "ray" in given:
            given["ray"] = RaySpec(**_keyed(given["ray"], "ray", RaySpec))  # type: ignore[arg-type]
        if "hosts" not in given:
            raise ConfigError("hosts", "nothing", "a list of at least one host")
        if isinstance(given["hosts"], list | tuple):
            given["hosts"] = [_host(host, index) for index, host in enumerate(given["hosts"])]
        return cls(**given)  # type: ignore[arg-type]

    @property
    def host_names(self) -> tuple[str, ...]:
        """`/job:worker/replica:0/task:0` and so on, in the order of the config."""
        return tuple(
            f"/job:{host.job}/replica:0/task:{task}"
            for host in self.hosts
            for task in range(host.tasks)
        )

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device of every host, in the order of the config."""
        return tuple(device for host in self.host_names for device in self.devices_of(host))

    def devices_of(self, host: str) -> tuple[str, ...]:
        """The devices of one host: its `CPU:0`, then its GPUs.

        Raises:
            DeviceError: the cluster has no such host.
        """
        if host not in self.host_names:
            raise DeviceError(
                host, f"no such host; the cluster has {', '.join(self.host_names)}"
            )
        gpus = next(spec.gpus for spec in self.hosts if host.startswith(f"/job:{spec.job}/"))
        return (cpu0(host), *(f"{host}/device:GPU:{index}" for index in range(gpus)))


def _keyed(mapping: object, where: str, spec: type) -> Mapping[str, object]:
    """The mapping itself, once each of its keys is known to be a field of `spec`."""
    allowed = [field.name for field in fields(spec)]
    listed = ", ".join(allowed)
    if not isinstance(mapping, Mapping):
        raise ConfigError(where or "config", repr(mapping), f"a mapping of {listed}")
    for key in mapping:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            name = f"{where}.{key}" if where else str(key)
            raise ConfigError(name, "an unknown key", f"{listed}{hint}")
    return mapping


def _host(mapping: object, index: int) -> HostSpec:
    given = _keyed(mapping, f"hosts[{index}]", HostSpec)
    if "job" not in given:
        raise ConfigError(f"hosts[{index}].job", "nothing", _JOBS)
    return HostSpec(**given)  # type: ignore[arg-type]


def _check_ray(ray: RaySpec) -> None:
    _text("ray.address", ray.address)
    if ray.num_cpus is not None:
        _integer("ray.num_cpus", ray.num_cpus, least=0, other=" or null")
    if ray.object_store_gib is not None:
        _positive("ray.object_store_gib", ray.object_store_gib, other=" or null")


def _hosts(hosts: object) -> tuple[HostSpec, ...]:
    if not isinstance(hosts, list | tuple) or not hosts:
        raise ConfigError("hosts", repr(hosts), "a list of at least one host")
    jobs: set[str] = set()
    for index, host in enumerate(hosts):
        key = f"hosts[{index}]"
        if not isinstance(host, HostSpec):
            raise ConfigError(key, repr(host), "a HostSpec")
        _job(f"{key}.job", host.job)
        if host.job in jobs:
            allowed = "each job once; `tasks` says how many hosts it has"
            raise ConfigError(f"{key}.job", f"{host.job!r} again", allowed)
        jobs.add(host.job)
        _integer(f"{key}.tasks", host.tasks, least=1)
        _integer(f"{key}.gpus", host.gpus, least=0)
    return tuple(hosts)


def _job(key: str, given: object) -> None:
    if not isinstance(given, str) or not _JOB.fullmatch(given) or given == "localhost":
        raise ConfigError(key, repr(given), _JOBS)


def _local_paths(paths: object, placement: Placement) -> tuple[str, ...]:
    if not isinstance(paths, list | tuple):
        raise ConfigError("local_paths", repr(paths), "a list of absolute paths")
    if paths:
        _pack_only("local_paths", paths, placement)
    kept: list[str] = []
    for index, given in enumerate(paths):
        key = f"local_paths[{index}]"
        path = _path(key, given)
        for other in kept:
            if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
                raise ConfigError(key, repr(given), f"a path neither in nor above {other}")
        kept.append(path)
    return tuple(kept)


def _path(key: str, given: object) -> str:
    """The path without doubled and trailing slashes."""
    if isinstance(given, str) and given.startswith("/") and "\0" not in given:
        names = [name for name in given.split("/") if name]
        if names and not {".", ".."} & set(names):
            return "/" + "/".join(names)
    raise ConfigError(key, repr(given), _PATH)


def _pack_only(key: str, given: object, placement: Placement) -> None:
    if placement != "pack":
        raise ConfigError(
            key,
            f"{given!r} with placement {placement}",
            "nothing: hosts on machines of their own have paths of their own",
        )


def _integer(key: str, given: object, *, least: int, other: str = "") -> None:
    # bool is an int to Python, but a slip in a config.
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise ConfigError(key, repr(given), f"an integer of at least {least}{other}")


def _positive(key: str, given: object, *, other: str = "") -> None:
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not 0 < given < math.inf
    ):
        raise ConfigError(key, repr(given), f"a number above 0{other}")


def _text(key: str, given: object) -> None:
    if given is not None and not isinstance(given, str):
        raise ConfigError(key, repr(given), "a string or null")
