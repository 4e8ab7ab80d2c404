"""Ops that numpy has no function for, on arrays and on traced tensors alike: `dsave.ops`."""

from typing import Any

from dsave.functions.call import call
from dsave.functions.operands import operand
from dsave.functions.table.casts import cast
from dsave.functions.table.convolution import (
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    depthwise_conv2d,
)
from dsave.functions.table.gathering import take
from dsave.functions.table.layers import (
    elu,
    gelu,
    layer_norm,
    leaky_relu,
    logsumexp,
    silu,
)
from dsave.functions.table.nn import (
    erf,
    log_softmax,
    one_hot,
    relu,
    sigmoid,
    softmax,
    softplus,
)
from dsave.functions.table.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from dsave.functions.table.resizing import resize
from dsave.functions.table.sorting import top_k
from dsave.model.readable import value_of

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "call",
    "cast",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "depthwise_conv2d",
    "elu",
    "erf",
    "gather",
    "gelu",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "one_hot",
    "read",
    "relu",
    "resize",
    "shape",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "top_k",
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
