"""Ops that reduce axes, or accumulate along one.

With nan among the elements numpy's argmax is the place of the first, TensorFlow's is not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.rules import (
    NUMBERS,
    REALS,
    dtype_like,
    ints,
    known,
    normal_axes,
    normal_axis,
    same,
)
from dsave.functions.table.shapes import element_count
from dsave.functions.tensor import Face
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_INT64 = dtype_of("int64")


def _reduced(attrs: AnyAttrs, x: Value, axes: Known | Array) -> Shape:
    axes = known(axes, "a reduction")
    chosen = set(normal_axes(axes.ravel().tolist(), x.ndim, "a reduction"))
    if attrs["keep_dims"]:
        return tuple(1 if axis in chosen else n for axis, n in enumerate(x.shape))
    return tuple(n for axis, n in enumerate(x.shape) if axis not in chosen)


def _is_half(dtype: "np.dtype[Any]") -> bool:
    return dtype.itemsize < 4 and dtype.kind in "fV"


def _reduction(name: str, function: Callable[..., Any], types: Any, kind: str = "T") -> Op:
    def kernel(attrs: AnyAttrs, x: Array, axes: Array) -> Array:
        over = tuple(axes.ravel().tolist())
        x = x.astype(np.float32) if _is_half(x.dtype) else x
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


def _position(name: str, function: Callable[..., Any]) -> Op:
    return op(
        f"{name}(input: T, dimension: Tidx) -> output: output_type",
        shape=lambda _, x, axis: tuple(n for a, n in enumerate(x.shape) if a != axis % x.ndim),
        kernel=lambda _, x, axis: function(x, int(axis)),
        types=REALS,
        Tidx=_INT32,
        output_type=_INT64,
    )


def _cumulation(name: str, function: Callable[..., Any], first: int) -> Op:
    def kernel(attrs: AnyAttrs, x: Array, axis: Array) -> Array:
        along = int(axis)
        x = np.flip(x, along) if attrs["reverse"] else x
        total: Array = function(x, along, dtype=x.dtype)
        if attrs["exclusive"]:
            total = np.roll(total, 1, along)
            np.moveaxis(total, along, 0)[:1] = first
        return np.flip(total, along) if attrs["reverse"] else total

    return op(
        f"{name}(x: T, axis: Tidx) -> out: T",
        shape=same,
        kernel=kernel,
        types=NUMBERS,
        exclusive=False,
        reverse=False,
        Tidx=_INT32,
    )


def _mean_of(x: Array, **how: Any) -> Array:
    summed = {"i": np.int64, "u": np.uint64}.get(x.dtype.kind, x.dtype)
    total = np.sum(x, dtype=summed, **how)
    count = total.dtype.type(x.size // max(total.size, 1))
    if x.dtype.kind in "iu":  # what is no integer is cut off
        return np.asarray((total - np.fmod(total, count)) // count)
    return np.asarray(total / count)


def _extreme_of(function: Callable[..., Any], *, lowest: bool) -> Callable[..., Any]:
    """Of no elements it is the number that is less, or more, than all."""

    def found(x: Array, **how: Any) -> Array:
        if x.dtype.kind in "iu":
            limits = np.iinfo(x.dtype)
            initial: Any = limits.min if lowest else limits.max
        else:
            initial = -np.inf if lowest else np.inf
        result: Array = function(x, initial=initial, **how)
        return result

    return found


# numpy's sum and product of small integers are wider than they are, unlike TensorFlow's.
_SUM = _reduction("Sum", lambda x, **how: np.sum(x, dtype=x.dtype, **how), NUMBERS)
_PROD = _reduction("Prod", lambda x, **how: np.prod(x, dtype=x.dtype, **how), NUMBERS)
_MEAN = _reduction("Mean", _mean_of, NUMBERS)
_MAX = _reduction("Max", _extreme_of(np.max, lowest=True), REALS)
_MIN = _reduction("Min", _extreme_of(np.min, lowest=False), REALS)
_ALL = _reduction("All", np.all, None, "bool")
_ANY = _reduction("Any", np.any, None, "bool")
_ARGMAX = _position("ArgMax", np.argmax)
_ARGMIN = _position("ArgMin", np.argmin)
_CUMSUM = _cumulation("Cumsum", np.cumsum, 0)
_CUMPROD = _cumulation("Cumprod", np.cumprod, 1)


def _over(op: Op, x: Value, axis: Any, keepdims: bool) -> Any:
    axes = normal_axes(axis, x.ndim, op.name)
    return apply(op, x, ints(axes), keep_dims=bool(keepdims))


def kept(a: Any, where: Any, nothing: Any) -> Any:
    """A tensor with what changes nothing in place of the elements that do not count."""
    return a if where is True else np.where(where, a, cast(nothing, a.dtype))


def _accumulating(
    function: Callable[..., Any], op: Op, combine: np.ufunc, nothing: int
) -> Face:
    def face(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        del out
        a = operand(a)
        wanted = dtype_like(function, a.dtype) if dtype is None else dtype
        result = _over(op, kept(cast(a, wanted), where, nothing), axis, keepdims)
        return result if initial is None else combine(result, cast(initial, result.dtype))

    return face


def _mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Any:
    del out
    a = operand(a)
    _check_mean("numpy.mean", dtype)
    if dtype is None and _is_half(a.dtype):
        # Added up as numpy adds up float16; TensorFlow would do it in the dtype itself.
        return cast(_mean(a, axis, np.float32, None, keepdims, where=where), a.dtype)
    x = cast(a, dtype_like(np.mean, a.dtype) if dtype is None else dtype)
    if where is True:
        return _over(_MEAN, x, axis, keepdims)
    total = _over(_SUM, kept(x, where, 0), axis, keepdims)
    return total / _count(x, axis, keepdims, where)


def _check_mean(name: str, dtype: Any) -> None:
    if dtype is not None and dtype_of(dtype).numpy.kind in "iub":
        problem = f"of floats, not in {dtype_of(dtype)}; astype cuts off what is no integer"
        raise trace_error(name, f"it is computed in a dtype {problem}")


def _count(x: Any, axis: Any, keepdims: bool, where: Any) -> Any:
    """How many elements of x count in a reduction, in its dtype."""
    return _over(_SUM, kept(np.ones_like(x), where, 0), axis, keepdims)


def _choosing(op: Op, boolean: Op, combine: np.ufunc) -> Face:
    def face(
        a: Any,
        axis: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        del out
        a = operand(a)
        if where is not True:
            if initial is None:
                raise trace_error(
                    f"numpy.{op.name.lower()}", "where= may leave nothing; initial= is wanted"
                )
            a = kept(a, where, initial)
        result = _over(boolean if a.dtype == bool else op, a, axis, keepdims)
        return result if initial is None else combine(result, cast(initial, result.dtype))

    return face


def _logical(op: Op, nothing: bool) -> Face:
    def face(
        a: Any, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = True
    ) -> Any:
        del out
        return _over(op, kept(cast(a, bool), where, nothing), axis, keepdims)

    return face


def _finding(op: Op) -> Face:
    def face(a: Any, axis: Any = None, out: None = None, *, keepdims: bool = False) -> Any:
        del out
        a = operand(a)
        if axis is None:
            found = apply(op, _numeric(np.ravel(a)), ints(0))
            return np.reshape(found, (1,) * a.ndim) if keepdims else found
        place = normal_axis(axis, a.ndim, op.name)
        found = apply(op, _numeric(a), ints(place))
        return np.expand_dims(found, place) if keepdims else found

    return face


def _numeric(x: Any) -> Value:
    return cast(x, np.uint8) if x.dtype == bool else x


def _cumulating(function: Callable[..., Any], op: Op) -> Face:
    def face(a: Any, axis: Any = None, dtype: Any = None, out: None = None) -> Any:
        del out
        a = operand(a)
        if axis is None:
            a, axis = np.ravel(a), 0
        wanted = dtype_like(function, a.dtype) if dtype is None else dtype
        place = normal_axis(axis, a.ndim, op.name)
        return apply(op, cast(a, wanted), ints(place))

    return face


def _var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    del out
    a = operand(a)
    _check_mean("numpy.var", dtype)
    if a.dtype.kind == "c" and dtype is not None and dtype_of(dtype).numpy.kind != "c":
        problem = f"of {a.dtype} {dtype_of(dtype)} drops the imaginary part; numpy.real does"
        raise trace_error("numpy.var", problem)
    less = ddof if correction is None else correction
    if dtype is None and _is_half(a.dtype):
        wide = _var(a, axis, np.float32, None, less, keepdims, where=where, mean=mean)
        return cast(wide, a.dtype)
    x = cast(a, dtype_like(np.mean, a.dtype) if dtype is None else dtype)
    mean = np.mean(x, axis=axis, keepdims=True, where=where) if mean is None else mean
    squares = np.square(np.abs(x - mean))
    if where is True and not less:
        return np.mean(squares, axis=axis, keepdims=keepdims)
    if where is True:
        count = element_count(a, normal_axes(axis, a.ndim, "numpy.var"))
    else:
        count = _count(squares, axis, keepdims, where)
    freedom = cast(np.maximum(count - less, 0), squares.dtype)
    return np.sum(squares, axis=axis, keepdims=keepdims, where=where) / freedom


def _std(a: Any, *args: Any, **kwargs: Any) -> Any:
    return np.sqrt(_var(a, *args, **kwargs))


def _count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.sum(cast(a, bool), axis=axis, dtype=np.int64, keepdims=keepdims)


OPS: tuple[Op, ...] = (
    *(_SUM, _MEAN, _PROD, _MAX, _MIN, _ALL, _ANY),
    *(_ARGMAX, _ARGMIN, _CUMSUM, _CUMPROD),
)

FACES: dict[Callable[..., Any], Face] = {
    np.sum: _accumulating(np.sum, _SUM, np.add, 0),
    np.mean: _mean,
    np.prod: _accumulating(np.prod, _PROD, np.multiply, 1),
    **dict.fromkeys((np.max, np.amax), _choosing(_MAX, _ANY, np.maximum)),
    **dict.fromkeys((np.min, np.amin), _choosing(_MIN, _ALL, np.minimum)),
    np.all: _logical(_ALL, nothing=True),
    np.any: _logical(_ANY, nothing=False),
    np.argmax: _finding(_ARGMAX),
    np.argmin: _finding(_ARGMIN),
    np.cumsum: _cumulating(np.cumsum, _CUMSUM),
    np.cumprod: _cumulating(np.cumprod, _CUMPROD),
    np.var: _var,
    np.std: _std,
    np.count_nonzero: _count_nonzero,
}
