"""What ufuncs do besides: reduce, accumulate and outer."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.op import Op
from dsave.functions.operands import known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table import arithmetic, composed, elementwise
from dsave.functions.table.casts import cast, loop_dtypes
from dsave.functions.table.rules import normal_axis
from dsave.functions.tensor import Face


def _reducing(ufunc: np.ufunc, function: Callable[..., Any]) -> Face:
    def face(
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        del out
        given = {"dtype": dtype, "initial": initial}
        asked = {name: value for name, value in given.items() if value is not None}
        try:
            return function(array, axis, keepdims=keepdims, where=where, **asked)
        except TypeError as error:
            raise trace_error(f"numpy.{ufunc.__name__}.reduce", str(error)) from None

    return face


def _accumulating(ufunc: np.ufunc) -> Face:
    """Each element with all before it: in steps, each of which doubles how many these are."""

    def face(array: Any, axis: Any = 0, dtype: Any = None, out: None = None) -> Any:
        del out
        name = f"numpy.{ufunc.__name__}.accumulate"
        x = operand(array)
        x = cast(x, loop_dtypes(ufunc, (x, x), dtype)[-1])
        place = normal_axis(axis, x.ndim, name)
        extent = known_shape(x)[place]
        if extent is None:
            raise trace_error(name, f"extent {place} of {known_shape(x)} is unknown")
        before = (slice(None),) * place
        step = 1
        while step < extent:
            later = ufunc(x[(*before, slice(step, None))], x[(*before, slice(-step))])
            x = np.concatenate([x[(*before, slice(step))], later], place)
            step *= 2
        return x

    return face


def _outer(ufunc: np.ufunc) -> Face:
    def face(A: Any, B: Any, **how: Any) -> Any:  # noqa: N803 - numpy's names
        one, other = operand(A), operand(B)
        axes = tuple(range(one.ndim, one.ndim + other.ndim))
        return ufunc(np.expand_dims(one, axes), other, **how)

    return face


_BINARY = [
    ufunc
    for ufunc in {**arithmetic.FACES, **elementwise.FACES, **composed.FACES}
    if isinstance(ufunc, np.ufunc) and ufunc.nin == 2
]

OPS: tuple[Op, ...] = ()

FACES: dict[Callable[..., Any], Face] = {
    np.add.reduce: _reducing(np.add, np.sum),
    np.multiply.reduce: _reducing(np.multiply, np.prod),
    np.maximum.reduce: _reducing(np.maximum, np.max),
    np.minimum.reduce: _reducing(np.minimum, np.min),
    np.logical_and.reduce: _reducing(np.logical_and, np.all),
    np.logical_or.reduce: _reducing(np.logical_or, np.any),
    np.add.accumulate: lambda array, axis=0, dtype=None, out=None: np.cumsum(
        array, axis, dtype, out
    ),
    np.multiply.accumulate: lambda array, axis=0, dtype=None, out=None: np.cumprod(
        array, axis, dtype, out
    ),
    **{
        ufunc.accumulate: _accumulating(ufunc)
        for ufunc in (np.maximum, np.minimum, np.logical_and, np.logical_or, np.logaddexp)
    },
    **{ufunc.outer: _outer(ufunc) for ufunc in _BINARY},
}
