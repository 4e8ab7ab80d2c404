"""Ops that numpy has no function for, on arrays and on traced tensors alike: `dsave.ops`."""

from typing import Any

from dsave.functions.call import call
from dsave.functions.table.casts import cast
from dsave.functions.table.images import avg_pool2d, conv2d, max_pool2d
from dsave.functions.table.indexing import take
from dsave.functions.table.nn import (
    erf,
    gelu,
    log_softmax,
    one_hot,
    relu,
    sigmoid,
    softmax,
    softplus,
)
from dsave.functions.tracer import operand
from dsave.model.readable import value_of

__all__ = [
    "avg_pool2d",
    "call",
    "cast",
    "conv2d",
    "erf",
    "gather",
    "gelu",
    "log_softmax",
    "max_pool2d",
    "one_hot",
    "read",
    "relu",
    "shape",
    "sigmoid",
    "softmax",
    "softplus",
    "take",
]


def gather(x: Any, indices: Any, axis: int = 0) -> Any:
    """The slices of x at these indices along an axis; negative ones count from its end."""
    return take(x, indices, axis)


def shape(x: Any) -> tuple[Any, ...]:
    """The extents, as `numpy.shape` gives them: ints, and numbers that no trace knows."""
    return tuple(operand(x).shape)


def read(variable: Any) -> Any:
    """The value of a variable, or of one component of it.

    Raises:
        ModelError: outside of a function.
    """
    return value_of(variable)
