"""The four kinds of variable: descriptions of what lives where. The values live on hosts.

What a distributed variable is on disk follows TensorFlow 2.21
(python/distribute/values.py, values_util.py, sharded_variable.py):

    kind            stored value                        graph resource under EXPAND
    Variable        its value                           name
    Mirrored        any replica's: all are equal        name, name/replica_1, ...
    SyncOnRead      sum, mean or first of the replicas  name, name/replica_1, ...
    Sharded         one tensor, stored in slices        name, name/part_0, ...
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dsave.errors import OptionError, OptionTypeError
from dsave.model.device import host_of
from dsave.model.dtype import DType
from dsave.model.readable import Readable
from dsave.model.short_names import short_devices
from dsave.model.slices import Box


class Synchronization(enum.IntEnum):
    """`VariableSynchronization`, tensorflow/core/framework/variable.proto."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class Aggregation(enum.IntEnum):
    """`VariableAggregation`, tensorflow/core/framework/variable.proto."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3

    @classmethod
    def from_obj(cls, obj: object) -> "Aggregation":
        """The aggregation that `obj` names: one of these, or its name in any case.

        Raises:
            OptionError: `obj` names no aggregation.
        """
        if isinstance(obj, cls):
            return obj
        if isinstance(obj, str) and obj.upper() in cls.__members__:
            return cls[obj.upper()]
        allowed = ", ".join(name.lower() for name in cls.__members__)
        raise OptionError("aggregation", f"{obj!r} is none of {allowed}")


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Component(Readable):
    """One device's part in a variable.

    `key` is the name under which the device's host holds the array, whose box in the
    variable is `box`. In the code of a function it stands for that array, as a variable for its
    value; elsewhere components are equal that have equal fields.
    """

    name: str
    device: str
    key: str
    box: Box
    dtype: DType

    def __hash__(self) -> int:
        return hash(self._fields)

    def __repr__(self) -> str:
        return _short(self, self.box.lengths, [self.device])

    def _is(self, other: object) -> bool:
        return type(other) is Component and self._fields == other._fields

    @property
    def _fields(self) -> tuple[object, ...]:
        return self.name, self.device, self.key, self.box, self.dtype

    @property
    def host(self) -> str:
        """The host that holds the array."""
        return host_of(self.device)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True, repr=False)
class Variable(Readable):
    """One array on one device.

    In the code of a function it stands for its value, elsewhere for itself (`Readable`).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    components: tuple[Component, ...]
    trainable: bool = True
    aggregation: Aggregation = Aggregation.NONE

    synchronization: ClassVar[Synchronization] = Synchronization.AUTO

    def __repr__(self) -> str:
        return _short(self, self.shape, [part.device for part in self.components])

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: what it describes lives once, on its hosts."""
        return self

    @property
    def device(self) -> str:
        """The device of the first component, which stands for the whole."""
        return self.components[0].device

    @property
    def nbytes(self) -> int:
        """Bytes of the value as stored; 0 for strings, whose size only their host knows."""
        return Box.whole(self.shape).size * self.dtype.itemsize


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class MirroredVariable(Variable):
    """Equal copies of one array on several devices."""

    synchronization: ClassVar[Synchronization] = Synchronization.ON_WRITE


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class SyncOnReadVariable(Variable):
    """Different arrays of one shape, aggregated when they are read or saved."""

    trainable: bool = field(default=False)

    synchronization: ClassVar[Synchronization] = Synchronization.ON_READ


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class ShardedVariable(Variable):
    """One array cut along axis 0, a part on each of several devices."""

    synchronization: ClassVar[Synchronization] = Synchronization.NONE


def _short(item: Variable | Component, shape: tuple[int, ...], devices: list[str]) -> str:
    """`<MirroredVariable w: float32 (64, 10) on worker:0-1 GPU:0-1>`."""
    places = ", ".join(short_devices(devices))
    return f"<{type(item).__name__} {item.name}: {item.dtype} {shape} on {places}>"


def check_variable(given: object) -> None:
    """See that it is a variable.

    Raises:
        OptionTypeError: it is none.
    """
    if not isinstance(given, Variable):
        raise OptionTypeError("variable", f"a variable is wanted, got {given!r}")


def aggregated(
    aggregation: Aggregation, arrays: Sequence[NDArray[np.generic]]
) -> NDArray[np.generic]:
    """What a sync-on-read variable with these replicas, in order, is worth.

    Replicas are added from the first to the last in the variable's own dtype, so that the
    result does not depend on which host computes it. Integer sums wrap, as in TensorFlow.
    Takes arrays of equal dtype and shape, or equal pieces of them.
    """
    if aggregation in {Aggregation.NONE, Aggregation.ONLY_FIRST_REPLICA}:
        return arrays[0]
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.asarray(reduce(np.add, arrays), dtype=arrays[0].dtype)
        if aggregation is Aggregation.MEAN:
            total = np.asarray(total / arrays[0].dtype.type(len(arrays)), arrays[0].dtype)
    return total
