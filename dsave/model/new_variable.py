"""Describe a new variable of each kind: its components, their names, devices and boxes.

`new_key` gives each component the key under which its host will hold the array.
"""

from collections.abc import Callable, Iterable, Sequence

from dsave.errors import ModelError, OptionError
from dsave.model.dtype import DType
from dsave.model.slices import Box, partition
from dsave.model.trackable import is_text
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
)

_MAX_NBYTES = 1 << 62

NewKey = Callable[[], str]


def checked_shape(shape: Sequence[object], dtype: DType, name: str) -> tuple[int, ...]:
    """The shape as a tuple of sizes.

    Raises:
        ModelError: a size that is not a number of elements, or more bytes than any file holds.
    """
    sizes: list[int] = []
    if not isinstance(shape, Iterable):
        raise ModelError(name, f"its shape is a list or tuple of ints, got {shape!r}")
    for size in shape:
        try:
            sizes.append(size.__index__())  # type: ignore[attr-defined]
        except AttributeError:
            raise ModelError(name, f"each size of its shape is an int, got {size!r}") from None
    if any(size < 0 for size in sizes):
        raise ModelError(name, f"each size of its shape is 0 or more, got {tuple(sizes)}")
    if Box.whole(sizes).size * max(dtype.itemsize, 1) > _MAX_NBYTES:
        raise ModelError(name, f"shape {tuple(sizes)} of {dtype} is larger than any file")
    return tuple(sizes)


def plain(
    name: str,
    dtype: DType,
    shape: tuple[int, ...],
    device: str,
    new_key: NewKey,
    *,
    trainable: bool,
) -> Variable:
    """A variable on one device."""
    component = Component(_checked_name(name), device, new_key(), Box.whole(shape), dtype)
    return Variable(name, dtype, shape, (component,), trainable)


def mirrored(
    name: str,
    dtype: DType,
    shape: tuple[int, ...],
    devices: Sequence[str],
    new_key: NewKey,
    *,
    trainable: bool,
    aggregation: object,
) -> MirroredVariable:
    """Equal copies on these devices.

    Raises:
        OptionError: no such aggregation.
    """
    components = _replicas(name, dtype, shape, devices, new_key)
    how = Aggregation.from_obj(aggregation)
    return MirroredVariable(name, dtype, shape, components, trainable, how)


def sync_on_read(
    name: str,
    dtype: DType,
    shape: tuple[int, ...],
    devices: Sequence[str],
    new_key: NewKey,
    *,
    aggregation: object,
) -> SyncOnReadVariable:
    """Copies on these devices that differ and are aggregated.

    Raises:
        OptionError: no such aggregation, or none that this dtype has.
    """
    how = Aggregation.from_obj(aggregation)
    if how is Aggregation.NONE:
        raise OptionError("aggregation", f"{name!r} needs sum, mean or only_first_replica")
    if how is Aggregation.MEAN and not dtype.is_float:
        raise OptionError("aggregation", f"{name!r} is {dtype}, which has no mean")
    if how is Aggregation.SUM and (dtype.is_string or dtype.name == "bool"):
        raise OptionError("aggregation", f"{name!r} is {dtype}, which has no sum")
    components = _replicas(name, dtype, shape, devices, new_key)
    return SyncOnReadVariable(name, dtype, shape, components, aggregation=how)


def sharded(
    name: str,
    dtype: DType,
    shape: tuple[int, ...],
    devices: Sequence[str],
    new_key: NewKey,
    *,
    trainable: bool,
) -> ShardedVariable:
    """One tensor cut along axis 0 evenly; with fewer rows than devices the last get none.

    Raises:
        ModelError: a scalar has no axis to cut.
    """
    if not shape:
        raise ModelError(
            _checked_name(name), "a scalar cannot be sharded; it has no axis to cut"
        )
    rows, *rest = shape
    runs = partition(rows, max(1, min(len(devices), rows)))
    components = tuple(
        Component(
            f"{_checked_name(name)}/part_{index}",
            devices[index],
            new_key(),
            Box((start, *(0 for _ in rest)), (length, *rest)),
            dtype,
        )
        for index, (start, length) in enumerate(runs)
    )
    return ShardedVariable(name, dtype, shape, components, trainable)


def _replicas(
    name: str,
    dtype: DType,
    shape: tuple[int, ...],
    devices: Sequence[str],
    new_key: NewKey,
) -> tuple[Component, ...]:
    _checked_name(name)
    return tuple(
        Component(
            name if index == 0 else f"{name}/replica_{index}",
            device,
            new_key(),
            Box.whole(shape),
            dtype,
        )
        for index, device in enumerate(devices)
    )


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ModelError(repr(name), "a variable's name is a str that is not empty")
    if not is_text(name):
        raise ModelError(repr(name), "a variable's name has to be text, which UTF-8 can encode")
    return name
