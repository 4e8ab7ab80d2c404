"""Ops that put elements in order, and find places in what is in order.

TensorFlow sorts by one op, the largest first and equals in their order, which nan may confuse.
So floats are sorted as integers in the order of numpy: 0 beside -0, and nan last.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import bits_of, cast, common_dtype
from dsave.functions.table.gathering import take, take_along
from dsave.functions.table.rules import REALS, normal_axis
from dsave.functions.table.shapes import extents_of
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_INT64 = dtype_of("int64")


def _tops(_: AnyAttrs, x: Value, k: Known | Array) -> list[Shape]:
    count = None if isinstance(k, Known) else int(k)
    extent = known_shape(x)[-1]
    if count is not None and not 0 <= count <= (count if extent is None else extent):
        raise trace_error("dsave.ops.top_k", f"the largest {count} of {extent} elements")
    return [(*known_shape(x)[:-1], count)] * 2


def _top(_: AnyAttrs, x: Array, k: Array) -> list[Array]:
    # From the last, so that the first of equals comes first when all is turned around.
    order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]
    order = order[..., : int(k)]
    return [np.take_along_axis(x, order, -1), order]


def _bound(side: Any) -> Callable[..., Array]:
    def kernel(_: AnyAttrs, rows: Array, values: Array) -> Array:
        found = [
            np.searchsorted(row, each, side) for row, each in zip(rows, values, strict=True)
        ]
        return np.reshape(found, values.shape)

    return kernel


_TOP = op(
    "TopKV2(input: T, k: Tk) -> values: T, indices: index_type",
    shape=_tops,
    kernel=_top,
    types=REALS,
    sorted=True,
    Tk=_INT32,
    index_type=_INT32,
)
_LOWER, _UPPER = (
    op(
        f"{name}(sorted_inputs: T, values: T) -> output: out_type",
        shape=lambda _, _rows, values: known_shape(values),
        kernel=_bound(side),
        types=REALS,
        out_type=_INT32,
    )
    for name, side in (("LowerBound", "left"), ("UpperBound", "right"))
)


def top_k(x: Any, k: Any, axis: int = -1) -> tuple[Any, Any]:
    """The k largest elements along an axis, the largest first, and their places there.

    Of equal elements the first comes first.
    """
    x = operand(x)
    place = normal_axis(axis, x.ndim, "dsave.ops.top_k")
    count = operand(k)
    if count.ndim or count.dtype.kind not in "iu":
        raise trace_error("dsave.ops.top_k", f"k is an int, got {k!r}")
    rows = np.moveaxis(_numeric(x), place, -1)
    values, places = apply(_TOP, rows, cast(count, "int32"), index_type=_INT64)
    typed: Any = cast(values, x.dtype)
    return np.moveaxis(typed, -1, place), np.moveaxis(places, -1, place)


def _ordered(x: Value) -> Any:
    """Integers in the order of the elements, the last of them for nan."""
    if x.dtype.kind in "iub":
        return _numeric(x)
    if x.dtype.kind not in "fV":
        raise trace_error("numpy.sort", f"elements of {x.dtype} have no order in TensorFlow")
    bits = bits_of(np.where(np.equal(x, 0), cast(0.0, x.dtype), x))
    last = np.array(np.iinfo(bits.dtype).max, bits.dtype)
    # Of numbers below 0 the bits grow as these fall.
    return np.where(np.isnan(x), last, np.where(bits < 0, bits ^ last, bits))


def _numeric(x: Any) -> Any:
    return cast(x, np.uint8) if x.dtype == bool else x


def _argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: None = None, *, stable: Any = None
) -> Any:
    del kind, stable
    if order is not None:
        raise trace_error("numpy.argsort", "tensors have no fields to order by")
    a = operand(a)
    if axis is None:
        a, axis = np.ravel(a), 0
    place = normal_axis(axis, a.ndim, "numpy.argsort")
    return top_k(np.invert(_ordered(a)), extents_of(a)[place], place)[1]


def _sort(
    a: Any, axis: Any = -1, kind: Any = None, order: None = None, *, stable: Any = None
) -> Any:
    a = operand(a)
    if axis is None:
        a, axis = np.ravel(a), 0
    rows = np.moveaxis(a, normal_axis(axis, a.ndim, "numpy.sort"), -1)
    found = take_along(rows, _argsort(rows, -1, kind, order, stable=stable))
    return np.moveaxis(found, -1, axis)


def _argpartition(
    a: Any, kth: Any, axis: Any = -1, kind: Any = None, order: None = None
) -> Any:
    del kth
    return _argsort(a, axis, kind, order)


def _partition(a: Any, kth: Any, axis: Any = -1, kind: Any = None, order: None = None) -> Any:
    del kth
    return _sort(a, axis, kind, order)


def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    if side not in {"left", "right"}:
        raise trace_error("numpy.searchsorted", f"side is left or right, got {side!r}")
    a, v = operand(a), operand(v)
    if a.ndim != 1:
        raise trace_error(
            "numpy.searchsorted", f"what is searched has one axis, got {known_shape(a)}"
        )
    a = a if sorter is None else take(a, sorter)
    try:
        dtype = common_dtype(a, v)
    except TypeError:
        dtype = np.dtype(np.float64)  # as bfloat16 and int64, which numpy compares as objects
    found = apply(
        _LOWER if side == "left" else _UPPER,
        np.expand_dims(_numeric(cast(a, dtype)), 0),
        np.reshape(_numeric(cast(v, dtype)), (1, -1)),
        out_type=_INT64,
    )
    return np.reshape(found, extents_of(v))


def _digitize(x: Any, bins: Any, right: bool = False) -> Any:
    bins = operand(bins)
    if isinstance(bins, Tensor):
        raise trace_error(
            "numpy.digitize",
            "whether bins rise or fall must be known; numpy.searchsorted takes those that rise",
        )
    side = "left" if right else "right"
    if (bins[1:] >= bins[:-1]).all():
        return _searchsorted(bins, x, side)
    if (bins[1:] <= bins[:-1]).all():
        return bins.size - _searchsorted(bins[::-1], x, side)
    raise trace_error("numpy.digitize", "bins rise, or fall")


OPS: tuple[Op, ...] = (_TOP, _LOWER, _UPPER)

FACES: dict[Callable[..., Any], Face] = {
    np.sort: _sort,
    np.argsort: _argsort,
    np.partition: _partition,
    np.argpartition: _argpartition,
    np.searchsorted: _searchsorted,
    np.digitize: _digitize,
}
