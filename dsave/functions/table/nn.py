"""Ops of neural networks that are not about images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.operands import Value, operand, spec_dtype
from dsave.functions.table.casts import cast, loop_dtypes
from dsave.functions.table.erf import erf_of
from dsave.functions.table.rules import FLOATS, REALS, normal_axis, same
from dsave.functions.tensor import Face


def _wide(function: Callable[[Array], Array]) -> Callable[..., Array]:
    """The kernel of a function that needs more digits than half a float has."""
    return lambda _, x: function(x.astype(np.float32) if x.dtype.itemsize < 4 else x)


def _softmax_of(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


def _log_softmax_of(x: Array) -> Array:
    less = x - x.max(-1, keepdims=True, initial=-np.inf)
    result: Array = less - np.log(np.exp(less).sum(-1, keepdims=True))
    return result


_SOFTMAX = op(
    "Softmax(logits: T) -> softmax: T", shape=same, kernel=_wide(_softmax_of), types=FLOATS
)
_LOG_SOFTMAX = op(
    "LogSoftmax(logits: T) -> logsoftmax: T",
    shape=same,
    kernel=_wide(_log_softmax_of),
    types=FLOATS,
)
_RELU = op(
    "Relu(features: T) -> activations: T",
    shape=same,
    kernel=lambda _, x: np.maximum(x, np.zeros((), x.dtype)),
    types=REALS,
)
_SIGMOID = op(
    "Sigmoid(x: T) -> y: T",
    shape=same,
    kernel=_wide(lambda x: 1 / (1 + np.exp(-x))),
    types=FLOATS,
)
_SOFTPLUS = op(
    "Softplus(features: T) -> activations: T",
    shape=same,
    kernel=_wide(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    types=FLOATS,
)
_ERF = op("Erf(x: T) -> y: T", shape=same, kernel=_wide(erf_of), types=FLOATS)


def _one_hot_shape(
    attrs: AnyAttrs, indices: Value, depth: Known | Array, *_values: Value
) -> Shape:
    place = normal_axis(attrs["axis"], indices.ndim + 1, "dsave.ops.one_hot")
    extent = None if isinstance(depth, Known) else int(depth)
    return (*indices.shape[:place], extent, *indices.shape[place:])


def _one_hot_kernel(
    attrs: AnyAttrs, indices: Array, depth: Array, on_value: Array, off_value: Array
) -> Array:
    hot = np.where(indices[..., None] == np.arange(int(depth)), on_value, off_value)
    return np.moveaxis(hot, -1, attrs["axis"])


_ONE_HOT = op(
    "OneHot(indices: TI, depth: int32, on_value: T, off_value: T) -> output: T",
    shape=_one_hot_shape,
    kernel=_one_hot_kernel,
    types=dtypes("uint8 int8 int32 int64"),
    axis=-1,
)


def softmax(x: Any, axis: int = -1) -> Any:
    """Powers of e, divided by their sum along an axis."""
    return _along_last(_SOFTMAX, x, axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of `softmax`, computed without its overflow."""
    return _along_last(_LOG_SOFTMAX, x, axis)


def relu(x: Any) -> Any:
    """The larger of x and 0."""
    return apply(_RELU, operand(x))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return apply(_SIGMOID, floating(x))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), computed without its overflow."""
    return apply(_SOFTPLUS, floating(x))


def erf(x: Any) -> Any:
    """The error function."""
    return apply(_ERF, floating(x))


def one_hot(
    indices: Any,
    depth: int,
    *,
    on_value: Any = 1,
    off_value: Any = 0,
    axis: int = -1,
    dtype: object = "float32",
) -> Any:
    """A new axis of `depth` elements: on at each index, off elsewhere."""
    indices = operand(indices)
    place = normal_axis(axis, indices.ndim + 1, "dsave.ops.one_hot")
    return apply(
        _ONE_HOT,
        indices if spec_dtype(indices) in (_ONE_HOT.types or ()) else cast(indices, "int64"),
        cast(depth, np.int32),
        cast(on_value, dtype),
        cast(off_value, dtype),
        axis=-1 if place == indices.ndim else place,
    )


def _along_last(op: Op, x: Any, axis: int) -> Any:
    x = floating(x)
    place = normal_axis(axis, x.ndim, f"dsave.ops.{op.outputs[0].name}")
    if place == x.ndim - 1:
        return apply(op, x)
    return np.swapaxes(apply(op, np.swapaxes(x, place, -1)), place, -1)


def floating(x: Any) -> Any:
    """The value in the dtype that numpy's functions of floats give."""
    x = operand(x)
    return cast(x, loop_dtypes(np.exp, (x,))[0])


OPS: tuple[Op, ...] = (_SOFTMAX, _LOG_SOFTMAX, _RELU, _SIGMOID, _SOFTPLUS, _ERF, _ONE_HOT)

FACES: dict[Callable[..., Any], Face] = {}
