"""Ops that change a tensor's shape, and put tensors together."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import CONST, Array, Node, Output, Shape
from dsave.functions.op import AnyAttrs, Op, op, plain
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.rules import broadcast, ints, normal_axes, normal_axis
from dsave.functions.tensor import Face, Tensor
from dsave.functions.tracer import Trace, Value, apply, operand
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")


def extents(value: Value) -> list[int | None]:
    """What is known of the elements of a vector of extents."""
    if not isinstance(value, Tensor):
        return [int(extent) for extent in value]
    node = value.trace.nodes[value.output.node]
    if node.op == "Shape":
        source = node.inputs[0]
        return list(value.trace.nodes[source.node].outputs[source.index].shape)
    if node.op == "Cast":
        return extents(_tensor(value.trace, node.inputs[0]))
    if node.op == "Pack":
        return [_known_extent(value.trace.nodes, source) for source in node.inputs]
    if node.op == "BroadcastArgs":
        one, other = (extents(_tensor(value.trace, source)) for source in node.inputs)
        return list(broadcast(tuple(one), tuple(other)))
    count = value.shape[0]
    if count is None:
        raise trace_error("a shape", "its number of axes must be known when it is traced")
    return [None] * count


def _tensor(trace: Trace, source: Output) -> Value:
    node = trace.nodes[source.node]
    if node.op == CONST:
        return np.asarray(node.attrs["value"])
    return Tensor(trace, source, node.outputs[source.index])


def _known_extent(nodes: Sequence[Node], source: Output) -> int | None:
    """What is known of a scalar: a constant, or an element of a shape."""
    node = nodes[source.node]
    if node.op == CONST:
        return int(np.asarray(node.attrs["value"]).item())
    if node.op == "StridedSlice" and node.outputs[0].shape == ():
        whole, begin = (nodes[each.node] for each in node.inputs[:2])
        if whole.op == "Shape" and begin.op == CONST:
            measured = whole.inputs[0]
            shape = nodes[measured.node].outputs[measured.index].shape
            return shape[int(np.asarray(begin.attrs["value"]).item())]
    return None


def shape_operand(shape: Any) -> Value:
    """A vector of extents: a constant, or with tensors among them one that is put together."""
    if isinstance(shape, Tensor):
        return shape if shape.ndim else np.expand_dims(shape, 0)
    given = list(shape) if np.iterable(shape) else [shape]
    if not any(isinstance(extent, Tensor) for extent in given):
        for extent in given:
            if extent is None:
                raise trace_error(
                    "a shape",
                    f"an extent of {tuple(given)} is unknown; dsave.ops.shape(x)[axis] gives "
                    "it as a tensor",
                )
        return ints(given)
    return np.stack([cast(extent, _INT32) for extent in given])


def _reshaped(_: AnyAttrs, x: Value, shape: Value) -> Shape:
    wanted = extents(shape)
    known = all(n is not None for n in x.shape)
    rest = math.prod(n for n in wanted if n is not None and n >= 0)
    open_extents = sum(n is None or n < 0 for n in wanted)
    if not known or open_extents > 1 or None in wanted:
        return tuple(None if n is None or n < 0 else n for n in wanted)
    size = math.prod(n for n in x.shape if n is not None)
    if size != rest and (not open_extents or not rest or size % rest):
        raise trace_error(
            "numpy.reshape", f"{size} elements of shape {x.shape} do not fit in {wanted}"
        )
    return tuple(size // rest if n is not None and n < 0 else n for n in wanted)


_RESHAPE = op(
    "Reshape(tensor: T, shape: Tshape) -> output: T",
    shape=_reshaped,
    kernel=plain(np.reshape),
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
    shape=lambda _, x, perm: tuple(x.shape[axis] for axis in perm),
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
    if isinstance(shape, tuple | list) and sum(extent is None for extent in shape) == 1:
        # One extent that is taken from an unknown one: what remains.
        shape = [-1 if extent is None else extent for extent in shape]
    return apply(_RESHAPE, operand(a), shape_operand(shape))


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
        axes = tuple(place for place, n in enumerate(a.shape) if n == 1)
        if None in a.shape:
            raise trace_error("numpy.squeeze", f"name the axes: {a.shape} is not all known")
    else:
        axes = normal_axes(axis, a.ndim, "numpy.squeeze")
    for place in axes:
        if a.shape[place] not in {1, None}:
            raise trace_error("numpy.squeeze", f"axis {place} of {a.shape} is not 1")
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
    return apply(_PACK, values, axis=normal_axis(axis, values[0].ndim + 1, "numpy.stack"))


def _common(values: list[Value]) -> list[Any]:
    dtype = common_dtype(*values)
    return [cast(value, dtype) for value in values]


def shape(x: Any) -> Value:
    """The extents of a tensor, int32: an array if all are known, else a tensor."""
    x = operand(x)
    if None not in x.shape:
        return ints(x.shape)
    result: Value = apply(_SHAPE, x)
    return result


def extents_of(x: Value) -> list[Any]:
    """The extents of a tensor: ints, and tensors where they are unknown."""
    if None not in x.shape:
        return list(x.shape)
    whole = shape(x)
    return [whole[axis] if extent is None else extent for axis, extent in enumerate(x.shape)]


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
