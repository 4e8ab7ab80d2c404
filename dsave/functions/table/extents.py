"""Vectors of extents: what is known of them, and how they are put together."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import CONST, Array, Output
from dsave.functions.known import Known
from dsave.functions.number import Extent, Number
from dsave.functions.operands import Value
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.rules import broadcast, ints
from dsave.functions.tensor import Tensor
from dsave.functions.tracer import Trace
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_INT64 = dtype_of("int64")


def extents(value: Known | Array) -> list[int | None]:
    """What is known of the elements of a vector of integers."""
    if not isinstance(value, Known):
        return [int(extent) for extent in value]
    tensor = value.tensor
    count = value.shape[0]
    if count is None:
        raise trace_error("a shape", "its number of axes must be known when it is traced")
    return _elements(tensor.tracer, tensor.output, count)


def _elements(trace: Trace, output: Output, count: int) -> list[int | None]:
    node = trace.nodes[output.node]
    sources = [trace.nodes[source.node] for source in node.inputs]
    if node.op == CONST:
        value = node.attrs["value"]
        assert isinstance(value, np.ndarray)
        return [int(element) for element in value]
    if node.op == "Shape":
        return list(sources[0].outputs[node.inputs[0].index].shape)
    if node.op == "Cast":
        return _elements(trace, node.inputs[0], count)
    if node.op == "Pack":
        return [_element(trace, source) for source in node.inputs]
    if node.op == "BroadcastArgs":
        one, other = (_elements(trace, source, _count(trace, source)) for source in node.inputs)
        return list(broadcast(tuple(one), tuple(other)))
    return [None] * count


def _count(trace: Trace, output: Output) -> int:
    count = trace.nodes[output.node].outputs[output.index].shape[0]
    assert count is not None
    return count


def _element(trace: Trace, output: Output) -> int | None:
    """What is known of a scalar: a constant, or an element of a shape."""
    node = trace.nodes[output.node]
    if node.op == CONST:
        return int(np.asarray(node.attrs["value"]).item())
    if node.op == "StridedSlice" and node.outputs[0].shape == ():
        whole, begin = (trace.nodes[source.node] for source in node.inputs[:2])
        if whole.op == "Shape" and begin.op == CONST:
            shape = _elements(trace, node.inputs[0], 0)
            return shape[int(np.asarray(begin.attrs["value"]).item())]
    return None


def vector(values: Sequence[Any]) -> Value:
    """Integers, some of them tensors perhaps, in a row: of int32, or int64 if some need it."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return ints([_index(value) for value in values])
    for tensor in tensors:
        if tensor.ndim or tensor.dtype.kind not in "iu":
            raise trace_error("a shape", f"an extent is an integer, got {tensor.spec}")
    numbers = ints([_index(value) for value in values if not isinstance(value, Tensor)])
    wide = numbers.itemsize > 4 or not all(
        isinstance(tensor, Extent) or np.can_cast(tensor.dtype, np.int32) for tensor in tensors
    )
    return np.stack([_integer(value, wide) for value in values])


def _integer(value: Any, wide: bool) -> Value:
    if isinstance(value, Extent) and not wide:
        return value.int32
    return cast(
        value if isinstance(value, Tensor) else _index(value), _INT64 if wide else _INT32
    )


def _index(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise trace_error("a shape", f"an extent is an integer, got {value!r}") from None


def shape_operand(shape: Any) -> Value:
    """A vector of extents: a constant, or with tensors among them one that is put together."""
    if isinstance(shape, Tensor) and not isinstance(shape, Number):
        return shape if shape.ndim else np.expand_dims(shape, 0)
    given = list(shape) if np.iterable(shape) else [shape]
    return vector(given)
