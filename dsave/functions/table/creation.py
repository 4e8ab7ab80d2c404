"""Tensors that are made of a shape, a range, or what is an array already."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.number import Extent
from dsave.functions.op import Op, dtypes, op
from dsave.functions.operands import Value, operand
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.extents import extents, shape_operand
from dsave.functions.table.rules import FLOATS, same
from dsave.functions.table.shapes import shape
from dsave.functions.tensor import Face, Tensor
from dsave.functions.tracer import current_trace
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")

_FILL = op(
    "Fill(dims: index_type, value: T) -> output: T",
    shape=lambda _, dims, _value: tuple(extents(dims)),
    kernel=lambda _, dims, value: np.full(dims, value, value.dtype),
    index_type=_INT32,
)
_ZEROS_LIKE = op(
    "ZerosLike(x: T) -> y: T", shape=same, kernel=lambda _, x: np.zeros(x.shape, x.dtype)
)
_ONES_LIKE = op(
    "OnesLike(x: T) -> y: T", shape=same, kernel=lambda _, x: np.ones(x.shape, x.dtype)
)
RANGE = op(
    "Range(start: Tidx, limit: Tidx, delta: Tidx) -> output: Tidx",
    shape=lambda *_: (None,),
    kernel=lambda _, start, limit, delta: np.arange(start, limit, delta),
    types=FLOATS | dtypes("int32 int64"),
    Tidx=_INT32,
)


def _zeros_like(a: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    return _like(_ZEROS_LIKE, a, 0, dtype, shape)


def _ones_like(a: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    # Of these dtypes TensorFlow's optimiser makes zeros of it.
    is_folded = operand(a).dtype.name in {"uint32", "uint64"}
    return _like(None if is_folded else _ONES_LIKE, a, 1, dtype, shape)


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    return _like(None, a, fill_value, dtype, shape)


def _like(same_shape: Op | None, a: Any, value: Any, dtype: Any, wanted: Any) -> Any:
    a = operand(a)
    dtype = dtype_of(a.dtype if dtype is None else dtype)
    if same_shape is not None and wanted is None and dtype.numpy == a.dtype:
        return apply(same_shape, a)
    dims = shape(a) if wanted is None else shape_operand(wanted)
    filled = cast(value, dtype)
    if isinstance(dims, Tensor) or isinstance(filled, Tensor):
        return apply(_FILL, dims, filled)
    return np.full(dims, filled, dtype.numpy)


def _full(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: None = None
) -> Any:
    del order, device
    filled = operand(fill_value) if dtype is None else cast(fill_value, dtype)
    return _tensor(apply(_FILL, shape_operand(shape), filled))


def _of(value: int) -> Face:
    def face(shape: Any, dtype: Any = float, order: str = "C", *, device: None = None) -> Any:
        del device
        return _full(shape, value, float if dtype is None else dtype, order)

    return face


def _arange(
    start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: None = None
) -> Any:
    del device
    first, last = (0, start) if stop is None else (start, stop)
    wanted = dtype_of(common_dtype(first, last, step) if dtype is None else dtype)
    counted = wanted if wanted in (RANGE.types or ()) else "int64"
    begin, end, by = (cast(value, counted) for value in (first, last, step))
    counts_up = type(first) is int and first <= 0 and isinstance(last, Extent)
    if not (counts_up and type(step) is int and step > 0):
        end = operand(_not_before(begin, end, by))
    return _tensor(cast(apply(RANGE, begin, end, by), wanted))


def _not_before(begin: Any, end: Any, by: Any) -> Any:
    """The end of a range that is empty where it would run away from it: TensorFlow refuses."""
    if isinstance(by, Tensor):
        return np.where(by < 0, np.minimum(begin, end), np.maximum(begin, end))
    return (np.minimum if by < 0 else np.maximum)(begin, end)


def _asarray(
    a: Any, dtype: Any = None, *, order: str = "C", copy: object = None, device: None = None
) -> Any:
    del order, copy, device
    return _tensor(operand(a) if dtype is None else cast(a, dtype))


def _tensor(value: Value) -> Value:
    """A constant of the trace, if it is known: what `like=` asks for."""
    trace = current_trace()
    return value if isinstance(value, Tensor) or trace is None else trace.constant(value)


OPS: tuple[Op, ...] = (_FILL, _ZEROS_LIKE, _ONES_LIKE, RANGE)

FACES: dict[Callable[..., Any], Face] = {
    np.zeros: _of(0),
    np.empty: _of(0),
    np.ones: _of(1),
    np.full: _full,
    np.arange: _arange,
    np.asarray: _asarray,
    np.array: _asarray,
    np.zeros_like: _zeros_like,
    np.empty_like: _zeros_like,
    np.ones_like: _ones_like,
    np.full_like: _full_like,
}
