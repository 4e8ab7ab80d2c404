"""Device names: `/job:worker/replica:0/task:1/device:GPU:0`, whole or in part.

Grammar and errors follow tensorflow/python/framework/device_spec.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from dsave.errors import DeviceError

LOCALHOST = "/job:localhost/replica:0/task:0"
"""The process that calls `save`: an io device, never a host of a cluster."""

_SHORT_TYPES = frozenset({"CPU", "GPU", "TPU", "CUSTOM", "EPU"})


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device name, possibly partial: a None field says nothing about that part.

    Raises:
        DeviceError: from `from_string`, for text that is no device name.
    """

    job: str | None = None
    replica: int | None = None
    task: int | None = None
    device_type: str | None = None
    device_index: int | None = None

    def __post_init__(self) -> None:
        if self.device_type in {"cpu", "gpu"}:
            object.__setattr__(self, "device_type", self.device_type.upper())

    @classmethod
    def from_string(cls, spec: "str | DeviceSpec | None") -> "DeviceSpec":
        """Parse a device name; empty parts say nothing and later parts win.

        What is parsed already is returned as it is.

        Raises:
            DeviceError: it is no device name.
        """
        if isinstance(spec, DeviceSpec):
            return spec
        if spec is not None and not isinstance(spec, str):
            raise DeviceError(repr(spec), "a device name or a DeviceSpec is wanted")
        fields: dict[str, str | int | None] = {}
        typed = False
        for part in (spec or "").split("/"):
            key, *rest = part.split(":")
            if not key:
                continue
            if key == "job" and len(rest) == 1:
                fields["job"] = rest[0]
                continue
            if key in {"replica", "task"} and len(rest) == 1:
                fields[key] = _integer(rest[0], spec)
                continue
            if key == "device" and len(rest) == 2:
                device_type, index = rest
            elif key.upper() in _SHORT_TYPES and len(rest) <= 1:
                device_type, index = key.upper(), rest[0] if rest else "*"
            else:
                raise DeviceError(
                    str(spec),
                    f"Unknown attribute {key!r} is encountered while parsing the device spec; "
                    "a full name is /job:NAME/replica:0/task:0/device:GPU:0",
                )
            if typed:
                raise DeviceError(
                    str(spec),
                    "Multiple device types are not allowed while parsing the device spec",
                )
            typed = True
            fields["device_type"] = device_type
            fields["device_index"] = None if index == "*" else _integer(index, spec)
        return cls(**fields)  # type: ignore[arg-type]

    def to_string(self) -> str:
        """The canonical name; an index without a type is dropped."""
        parts = [
            f"/{key}:{value}"
            for key, value in (
                ("job", self.job),
                ("replica", self.replica),
                ("task", self.task),
            )
            if value is not None
        ]
        if self.device_type is not None:
            index = "*" if self.device_index is None else self.device_index
            parts.append(f"/device:{self.device_type}:{index}")
        return "".join(parts)

    def __str__(self) -> str:
        return self.to_string()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceSpec) and self.to_string() == other.to_string()

    def __hash__(self) -> int:
        return hash(self.to_string())

    def replace(self, **fields: str | int | None) -> "DeviceSpec":
        """A copy with these fields changed."""
        return replace(self, **fields)  # type: ignore[arg-type]

    def make_merged_spec(self, inner: "DeviceSpec") -> "DeviceSpec":
        """This name with the parts that `inner` gives laid over it, as nested scopes do."""
        given = {
            name: value
            for name, value in zip(DeviceSpec.__slots__, inner._fields(), strict=True)
            if value is not None
        }
        return self.replace(**given)

    def matches(self, device: "DeviceSpec") -> bool:
        """Whether a whole name agrees with every part that this one gives."""
        return all(
            wanted is None or wanted == given
            for wanted, given in zip(self._fields(), device._fields(), strict=True)
        )

    def _fields(self) -> tuple[str | int | None, ...]:
        return (self.job, self.replica, self.task, self.device_type, self.device_index)


@lru_cache(maxsize=1024)  # a few devices, asked for many times for each variable
def host_of(device: str) -> str:
    """The host part of a whole device name: `/job:worker/replica:0/task:1`."""
    return device.rpartition("/device:")[0]


def cpu0(host: str) -> str:
    """The name of a host's `CPU:0`."""
    return f"{host}/device:CPU:0"


def resolve_host(name: "str | DeviceSpec", hosts: Sequence[str]) -> str:
    """The one host that a name, whole or in part, names.

    Raises:
        DeviceError: no host agrees, or several do.
    """
    if name in hosts:
        return str(name)
    spec = DeviceSpec.from_string(name)
    found = [host for host in hosts if spec.matches(DeviceSpec.from_string(host))]
    if not found:
        raise DeviceError(str(name), f"no such host; the cluster has {', '.join(hosts)}")
    if len(found) > 1:
        raise DeviceError(str(name), f"ambiguous, it is each of {', '.join(found)}")
    return found[0]


def resolve_placement(spec: DeviceSpec, devices: Iterable[str]) -> str:
    """The device that a placement names: the first that agrees, in the cluster's order.

    What the name leaves open is filled in from the first host, as TensorFlow fills it in
    from the client's own; without a device type the host's CPU:0 is meant.

    Raises:
        DeviceError: no device of the cluster agrees.
    """
    devices = tuple(devices)
    for device in devices:
        if spec.matches(DeviceSpec.from_string(device)):
            return device
    raise DeviceError(spec.to_string(), _no_such(devices))


def resolve_io_host(name: str, devices: Iterable[str]) -> str:
    """The one host whose filesystem an io device names; `/job:localhost` is the caller's.

    Raises:
        DeviceError: unparsable; no such device; or devices of several hosts agree.
    """
    devices = tuple(devices)
    spec = DeviceSpec.from_string(name)
    if spec.job == "localhost":
        local = DeviceSpec.from_string(cpu0(LOCALHOST))
        if spec.matches(local):
            return LOCALHOST
        raise DeviceError(name, f"the calling process has one device, {local}")
    hosts = list(
        dict.fromkeys(
            host_of(device)
            for device in devices
            if spec.matches(DeviceSpec.from_string(device))
        )
    )
    if not hosts:
        raise DeviceError(name, _no_such(devices))
    if len(hosts) > 1:
        raise DeviceError(
            name, f"ambiguous, it is on each of {', '.join(hosts)}; give the job and the task"
        )
    return hosts[0]


def _no_such(devices: tuple[str, ...]) -> str:
    return f"unknown device; the cluster has {', '.join(devices)}"


def _integer(text: str, spec: str | None) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise DeviceError(str(spec), str(error)) from None
