"""Statistics that are made of other ops, those that pass over nan among them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.op import Op
from dsave.functions.operands import known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.reductions import kept
from dsave.functions.table.rules import dtype_like, normal_axes
from dsave.functions.table.shapes import element_count, extents_of
from dsave.functions.tensor import Face


def _without_nan(function: Callable[..., Any]) -> Face:
    """The function of what is no nan."""

    def face(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: None = None,
        *args: Any,
        where: Any = True,
        **kwargs: Any,
    ) -> Any:
        a = operand(a)
        real = _numbers(a)
        if real is not True:
            where = real if where is True else np.logical_and(where, real)
        return function(a, axis, dtype, out, *args, where=where, **kwargs)

    return face


def _extreme(function: Callable[..., Any], lowest: float) -> Face:
    def face(
        a: Any,
        axis: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        a = operand(a)
        real = _numbers(a)
        if real is True:
            return function(a, axis, out, keepdims, initial, where)
        found = function(kept(a, real, lowest), axis, out, keepdims, initial, where)
        if initial is not None:
            return found
        nothing = np.logical_not(np.any(real, axis, keepdims=keepdims))
        return np.where(nothing, cast(np.nan, a.dtype), found)

    return face


def _numbers(a: Any) -> Any:
    """Where there is no nan: True if there is none anywhere."""
    return np.logical_not(np.isnan(a)) if a.dtype.kind in "fcV" else True


def _average(
    a: Any,
    axis: Any = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    a = operand(a)
    axes = normal_axes(axis, a.ndim, "numpy.average")
    if weights is None:
        mean = np.mean(a, axis, keepdims=keepdims)
        count = np.sum(np.ones_like(a, mean.dtype), axis, keepdims=keepdims)
        return (mean, count) if returned else mean
    w = operand(weights)
    if w.ndim != a.ndim:
        if w.ndim != len(axes) or axis is None:
            raise trace_error(
                "numpy.average",
                f"weights of {known_shape(w)} for the axes {axis} of {known_shape(a)}",
            )
        w = np.transpose(w, np.argsort(axes))
        w = np.expand_dims(w, [place for place in range(a.ndim) if place not in axes])
    whole = (np.float64,) if a.dtype.kind in "iub" else ()
    dtype = np.result_type(a.dtype, w.dtype, *whole)
    total = np.sum(w, axis, dtype=dtype, keepdims=keepdims)
    mean = np.sum(cast(a, dtype) * cast(w, dtype), axis, keepdims=keepdims) / total
    return (mean, np.broadcast_to(total, extents_of(mean))) if returned else mean


def _median(
    a: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    del out, overwrite_input
    a = operand(a)
    axes = normal_axes(axis, a.ndim, "numpy.median")
    others = [place for place in range(a.ndim) if place not in axes]
    extents = extents_of(a)
    rows: Any = np.transpose(a, [*others, *axes])
    count = element_count(a, axes)
    rows = np.sort(np.reshape(rows, [*(extents[place] for place in others), count]))
    rows = cast(rows, dtype_like(np.median, a.dtype))
    # Slices, of which there may be none: their mean is nan.
    middle = np.mean(rows[..., (count - 1) // 2 : count // 2 + 1], -1)
    result = np.where(np.any(np.isnan(rows[..., -1:]), -1), cast(np.nan, rows.dtype), middle)
    return np.expand_dims(result, axes) if keepdims else result


def _ptp(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
    del out
    a = operand(a)
    return np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)


OPS: tuple[Op, ...] = ()

FACES: dict[Callable[..., Any], Face] = {
    np.nansum: _without_nan(np.sum),
    np.nanprod: _without_nan(np.prod),
    np.nanmean: _without_nan(np.mean),
    np.nanvar: _without_nan(np.var),
    np.nanstd: _without_nan(np.std),
    np.nanmax: _extreme(np.max, -np.inf),
    np.nanmin: _extreme(np.min, np.inf),
    np.average: _average,
    np.median: _median,
    np.ptp: _ptp,
}
