"""Ops that change a tensor's shape, and put tensors together."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.number import Extent
from dsave.functions.op import AnyAttrs, Op, op, plain
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.extents import extents, shape_operand
from dsave.functions.table.rules import ints, known, normal_axes, normal_axis
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")


def _reshaped(_: AnyAttrs, x: Value, shape: Known | Array) -> Shape:
    wanted = extents(shape)
    known = all(n is not None for n in x.shape)
    open_extents = sum(n is None or n < 0 for n in wanted)
    if not known or open_extents > 1 or None in wanted:
        return tuple(None if n is None or n < 0 else n for n in wanted)
    size, found = math.prod(x.shape), _filled_in(wanted, x.shape)
    if math.prod(found) != size:
        raise trace_error(
            "numpy.reshape", f"{size} elements of shape {x.shape} do not fit in {wanted}"
        )
    return found


def _filled_in(wanted: Sequence[Any], shape: Sequence[Any]) -> tuple[int, ...]:
    """The extents that are wanted, -1 replaced by what remains.

    To TensorFlow that follows from extents other than 0, if there is a 0 among those wanted.
    """
    size = math.prod(n for n in shape if n or 0 not in wanted)
    rest = math.prod(n for n in wanted if n > 0)
    return tuple(int(size // rest if n < 0 else n) for n in wanted)


_RESHAPE = op(
    "Reshape(tensor: T, shape: Tshape) -> output: T",
    shape=_reshaped,
    kernel=lambda _, x, shape: np.reshape(x, _filled_in(shape.tolist(), x.shape)),
    Tshape=_INT32,
)
_SHAPE = op(
    "Shape(input: T) -> output: out_type",
    shape=lambda _, x: (x.ndim,),
    kernel=lambda _, x: np.array(x.shape),
    out_type=_INT32,
)
_TRANSPOSE = op(
    "Transpose(x: T, perm: Tperm) -> y: T",
    shape=lambda _, x, perm: tuple(x.shape[axis] for axis in known(perm, "transpose")),
    kernel=plain(np.transpose),
    Tperm=_INT32,
)


def _expanded(_: AnyAttrs, x: Value, axis: Array) -> Shape:
    place = normal_axis(int(axis), x.ndim + 1, "numpy.expand_dims")
    return (*x.shape[:place], 1, *x.shape[place:])


_EXPAND_DIMS = op(
    "ExpandDims(input: T, dim: Tdim) -> output: T",
    shape=_expanded,
    kernel=lambda _, x, axis: np.expand_dims(x, int(axis)),
    Tdim=_INT32,
)
_SQUEEZE = op(
    "Squeeze(input: T) -> output: T",
    shape=lambda attrs, x: tuple(
        n for axis, n in enumerate(x.shape) if axis not in attrs["squeeze_dims"]
    ),
    kernel=lambda attrs, x: np.squeeze(x, tuple(attrs["squeeze_dims"]) or None),
    squeeze_dims=[],
)


def _concatenated(_: AnyAttrs, *inputs: Value) -> Shape:
    *values, axis = inputs
    place = normal_axis(int(axis), values[0].ndim, "numpy.concatenate")
    for value in values:
        if value.ndim != values[0].ndim:
            ranks = f"{values[0].shape} and {value.shape}"
            raise trace_error("numpy.concatenate", f"{ranks} differ in their number of axes")
    others = [(*v.shape[:place], 1, *v.shape[place + 1 :]) for v in values]
    along = [value.shape[place] for value in values]
    total = None if None in along else sum(n for n in along if n is not None)
    merged = list(equal("numpy.concatenate", others))
    merged[place] = total
    return tuple(merged)


def equal(function: str, shapes: Sequence[Shape]) -> Shape:
    """The shape of tensors that have one shape, as far as each is known."""
    merged = []
    for many in zip(*shapes, strict=True):
        known = {extent for extent in many if extent is not None}
        if len(known) > 1:
            raise trace_error(function, f"shapes {', '.join(map(str, shapes))} differ")
        merged.append(known.pop() if known else None)
    return tuple(merged)


_CONCAT = op(
    "ConcatV2(values: N*T, axis: Tidx) -> output: T",
    shape=_concatenated,
    kernel=lambda _, *inputs: np.concatenate(inputs[:-1], int(inputs[-1])),
    Tidx=_INT32,
)


def _stacked(attrs: AnyAttrs, *values: Value) -> Shape:
    axis = normal_axis(attrs["axis"], values[0].ndim + 1, "numpy.stack")
    if len({value.ndim for value in values}) > 1:
        raise trace_error("numpy.stack", "the tensors differ in their number of axes")
    shape = equal("numpy.stack", [value.shape for value in values])
    return (*shape[:axis], len(values), *shape[axis:])


_PACK = op(
    "Pack(values: N*T) -> output: T",
    shape=_stacked,
    kernel=lambda attrs, *values: np.stack(values, attrs["axis"]),
    axis=0,
)


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    if order != "C":
        raise trace_error("numpy.reshape", f"order is 'C', got {order!r}")
    a = operand(a)
    return apply(_RESHAPE, a, shape_operand(_without_own_extent(a, shape)))


def _without_own_extent(a: Value, shape: Any) -> Any:
    """The shape with what follows from it where all unknown extents of `a` are in it.

    An extent of -1 is known then, and an only unknown one can be -1, in a constant.
    """
    given = list(shape) if np.iterable(shape) else [shape]
    unknown = [axis for axis, n in enumerate(known_shape(a)) if n is None]
    own = [n for n in given if isinstance(n, Extent) and n.of(a)]
    others = [n for n in given if type(n) is int]
    if sorted(n.axis for n in own) != unknown or not len(given) - len(others) == len(own) > 0:
        return shape
    size = math.prod(n for n in known_shape(a) if n is not None)
    known = math.prod(n for n in others if n != -1)
    if others.count(-1) == 1 and known and size % known == 0:
        given = [size // known if type(n) is int and n == -1 else n for n in given]
    elif -1 in others or size != known:
        raise trace_error(
            "numpy.reshape", f"elements of shape {known_shape(a)} do not fit in {tuple(given)}"
        )
    # Beside a 0 nothing follows.
    has_zero = any(type(n) is int and n == 0 for n in given)
    return given if len(own) > 1 or has_zero else [-1 if n is own[0] else n for n in given]


def _ravel(a: Any, order: str = "C") -> Any:
    return _reshape(a, -1, order)


def _transpose(a: Any, axes: Any = None) -> Any:
    a = operand(a)
    order = range(a.ndim)[::-1] if axes is None else normal_axes(axes, a.ndim, "transpose")
    if len(order) != a.ndim:
        raise trace_error("numpy.transpose", f"{axes} does not name the {a.ndim} axes")
    return apply(_TRANSPOSE, a, ints(order))


def _expand_dims(a: Any, axis: Any) -> Any:
    a = operand(a)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    for place in sorted(normal_axes(axis, a.ndim + count, "numpy.expand_dims")):
        a = apply(_EXPAND_DIMS, a, ints(place))
    return a


def _squeeze(a: Any, axis: Any = None) -> Any:
    a = operand(a)
    if axis is None:
        axes = tuple(place for place, n in enumerate(known_shape(a)) if n == 1)
        if None in known_shape(a):
            raise trace_error(
                "numpy.squeeze", f"name the axes: {known_shape(a)} is not all known"
            )
    else:
        axes = normal_axes(axis, a.ndim, "numpy.squeeze")
    for place in axes:
        if known_shape(a)[place] not in {1, None}:
            raise trace_error("numpy.squeeze", f"axis {place} of {known_shape(a)} is not 1")
    # No axes would be all that are 1 to TensorFlow.
    return apply(_SQUEEZE, a, squeeze_dims=list(axes)) if axes else a


def _concatenate(arrays: Any, axis: Any = 0, out: None = None) -> Any:
    del out
    values = _common([operand(each) for each in arrays])
    if axis is None:
        values, axis = [np.ravel(value) for value in values], 0
    place = normal_axis(axis, values[0].ndim, "numpy.concatenate")
    # TensorFlow's op takes two tensors at least.
    return apply(_CONCAT, values, ints(place)) if len(values) > 1 else values[0]


def _stack(arrays: Any, axis: Any = 0, out: None = None) -> Any:
    del out
    values = _common([operand(each) for each in arrays])
    place = normal_axis(axis, values[0].ndim + 1, "numpy.stack")
    if values[0].dtype == np.uint16:
        # Of one tensor several times TensorFlow's optimiser makes a Tile, which has no uint16.
        return np.concatenate([np.expand_dims(value, place) for value in values], place)
    return apply(_PACK, values, axis=place)


def _common(values: list[Value]) -> list[Any]:
    dtype = common_dtype(*values)
    return [cast(value, dtype) for value in values]


def shape(x: Any) -> Value:
    """The extents of a tensor, int32: an array if all are known, else a tensor."""
    x = operand(x)
    if not isinstance(x, Tensor) or None not in known_shape(x):
        return ints(known_shape(x))
    recorded = x.tracer.recorded_shapes
    if x.output not in recorded:
        recorded[x.output] = apply(_SHAPE, x)
    return recorded[x.output]


def _extent(x: Tensor, axis: int) -> Any:
    return shape(x)[axis]


def extents_of(x: Value) -> list[Any]:
    """The extents of a tensor: ints, and tensors of int32 where they are unknown."""
    return [n.int32 if isinstance(n, Extent) else n for n in x.shape]


def element_count(x: Value, axes: Sequence[int]) -> Any:
    """How many elements there are along these axes: an int, or a tensor if that is unknown."""
    found = extents_of(x)
    return math.prod(found[axis] for axis in axes)


OPS: tuple[Op, ...] = (
    _RESHAPE,
    _SHAPE,
    _TRANSPOSE,
    _EXPAND_DIMS,
    _SQUEEZE,
    _CONCAT,
    _PACK,
)

FACES: dict[Callable[..., Any], Face] = {
    Extent: _extent,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.transpose: _transpose,
    np.expand_dims: _expand_dims,
    np.squeeze: _squeeze,
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
}
