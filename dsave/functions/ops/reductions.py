"""Ops that reduce axes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.ops.elementwise import cast
from dsave.functions.ops.rules import (
    NUMBERS,
    REALS,
    dtype_like,
    ints,
    normal_axes,
)
from dsave.functions.tensor import Face
from dsave.functions.tracer import Value, apply, operand
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_INT64 = dtype_of("int64")


def _reduced(attrs: AnyAttrs, x: Value, axes: Value) -> Shape:
    if not isinstance(axes, np.ndarray):
        return (None,) * x.ndim if attrs["keep_dims"] else ()
    chosen = set(normal_axes(axes.ravel().tolist(), x.ndim, "a reduction"))
    if attrs["keep_dims"]:
        return tuple(1 if axis in chosen else n for axis, n in enumerate(x.shape))
    return tuple(n for axis, n in enumerate(x.shape) if axis not in chosen)


def _reduction(name: str, function: Callable[..., Any], types: Any, kind: str = "T") -> Op:
    def kernel(attrs: AnyAttrs, x: Array, axes: Array) -> Array:
        over = tuple(axes.ravel().tolist())
        result: Array = function(x, axis=over, keepdims=attrs["keep_dims"])
        return result

    return op(
        f"{name}(input: {kind}, reduction_indices: Tidx) -> output: {kind}",
        shape=_reduced,
        kernel=kernel,
        types=types,
        keep_dims=False,
        Tidx=_INT32,
    )


_SUM = _reduction("Sum", np.sum, NUMBERS)
_MEAN = _reduction("Mean", np.mean, NUMBERS)
_PROD = _reduction("Prod", np.prod, NUMBERS)
_MAX = _reduction("Max", np.max, REALS)
_MIN = _reduction("Min", np.min, REALS)
_ALL = _reduction("All", np.all, None, "bool")
_ANY = _reduction("Any", np.any, None, "bool")


def _over(op: Op, x: Value, axis: Any, keepdims: bool) -> Any:
    axes = normal_axes(axis, x.ndim, op.name)
    return apply(op, x, ints(axes), keep_dims=bool(keepdims))


def _accumulating(function: Callable[..., Any], op: Op) -> Face:
    def face(
        a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False
    ) -> Any:
        del out
        a = operand(a)
        wanted = dtype_like(function, a.dtype) if dtype is None else dtype
        return _over(op, cast(a, wanted), axis, keepdims)

    return face


def _choosing(op: Op, boolean: Op) -> Face:
    def face(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
        del out
        a = operand(a)
        return _over(boolean if a.dtype == bool else op, a, axis, keepdims)

    return face


def _logical(op: Op) -> Face:
    def face(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
        del out
        return _over(op, cast(a, bool), axis, keepdims)

    return face


OPS: tuple[Op, ...] = (_SUM, _MEAN, _PROD, _MAX, _MIN, _ALL, _ANY)

FACES: dict[Callable[..., Any], Face] = {
    np.sum: _accumulating(np.sum, _SUM),
    np.mean: _accumulating(np.mean, _MEAN),
    np.prod: _accumulating(np.prod, _PROD),
    np.max: _choosing(_MAX, _ANY),
    np.min: _choosing(_MIN, _ALL),
    np.all: _logical(_ALL),
    np.any: _logical(_ANY),
}
