"""Decide where a loaded variable goes: on the devices that were saved, or near them."""

from collections.abc import Sequence
from dataclasses import dataclass

from dsave.errors import DeviceError
from dsave.model.device import DeviceSpec


@dataclass(frozen=True, slots=True)
class Moved:
    """A variable that is not where it was saved: that device does not exist here."""

    variable: str
    saved: str
    device: str

    def __str__(self) -> str:
        return (
            f"variable {self.variable!r}: it was saved on {self.saved}, which does not exist "
            f"here, and is now on {self.device}"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The devices of a variable, each once, and which of them stand for others."""

    devices: tuple[str, ...]
    moved: tuple[Moved, ...]


def place(variable: str, saved: Sequence[str], devices: Sequence[str], *, soft: bool) -> Place:
    """Where to put a variable that was saved on one or more devices.

    `devices` are those of the cluster, in its order. With `soft` a device that does not exist
    is replaced by the nearest one that does, and two that become one are one.

    Raises:
        DeviceError: without `soft`, for a saved device that does not exist.
    """
    chosen: dict[str, None] = {}
    moved = []
    for name in saved:
        spec = DeviceSpec.from_string(name)
        device = next((d for d in devices if spec.matches(DeviceSpec.from_string(d))), None)
        if device is None:
            if not soft:
                raise DeviceError(
                    name,
                    f"variable {variable!r} was saved on it, and the cluster has only "
                    f"{', '.join(devices)}; soft_device_placement=True puts it near, "
                    "placement={...} where you say",
                )
            device = nearest_device(spec, devices)
            moved.append(Moved(variable, name, device))
        chosen[device] = None
    return Place(tuple(chosen), tuple(moved))


def nearest_device(wanted: DeviceSpec, devices: Sequence[str]) -> str:
    """The existing device that is nearest to one that is not there.

    On the same host, else on the task of the same job with the nearest number, else on the
    first host. There the device of the same type with the nearest index, else CPU:0. What is
    equally near comes in the order of `devices`.
    """
    hosts: dict[tuple[str | None, int | None, int | None], int] = {}

    def distance(name: str) -> tuple[int, ...]:
        device = DeviceSpec.from_string(name)
        host = (device.job, device.replica, device.task)
        order = hosts.setdefault(host, len(hosts))
        same_job = wanted.job in {None, device.job}
        same_type = wanted.device_type in {None, device.device_type}
        return (
            int(not same_job),
            _apart(wanted.replica, device.replica) if same_job else 0,
            _apart(wanted.task, device.task) if same_job else order,
            order,
            int(not same_type),
            _apart(wanted.device_index, device.device_index) if same_type else 0,
            int(device.device_type != "CPU"),
        )

    return min(devices, key=distance)


def _apart(wanted: int | None, given: int | None) -> int:
    return 0 if wanted is None or given is None else abs(wanted - given)
