"""Small builders of graphs: names, attributes, nodes and the signatures of functions.

Messages: tensorflow/core/framework/{node_def,attr_value,op_def,function}.proto. An attribute
at its op's default is left out, as `stripped_default_attrs` promises.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from numpy.typing import NDArray

from dsave.functions import graph
from dsave.model.dtype import STRING, DType, dtype_of
from dsave.proto.graph_pb2 import AttrValue, FunctionDef, NodeDef, TensorProto
from dsave.proto.types_pb2 import DT_RESOURCE, TensorShapeProto

CPU = "/device:CPU:0"
"""Where file ops run: the CPU of whichever task runs the graph."""

RESOURCE: int = DT_RESOURCE
"""The `DataType` of a variable's handle."""

Nodes = RepeatedCompositeFieldContainer[NodeDef]
"""The nodes of a graph, or of a function's body."""

Attr = graph.Attr | AttrValue
"""What an attribute is made of: a Python value, or the message itself."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./>-]")
_NOT_FIRST = re.compile(r"^[^A-Za-z0-9.]+")


def node_name(name: str) -> str:
    """`name`, made a name that a node may have if it is none.

    Source: `_VALID_OP_NAME_REGEX`, tensorflow/python/framework/ops.py.
    """
    return _NOT_FIRST.sub("", _NOT_IN_NAMES.sub("_", name)) or "unnamed"


def set_shape(proto: TensorShapeProto, shape: Iterable[int | None]) -> None:
    """Fill in a shape; an extent of None is unknown. A scalar's shape is present and empty."""
    proto.SetInParent()
    for extent in shape:
        proto.dim.add().size = -1 if extent is None else extent


def set_tensor(proto: TensorProto, array: NDArray[np.generic], dtype: DType) -> None:
    """Fill in the elements of an array, or strings."""
    proto.dtype = dtype.number  # type: ignore[assignment]
    set_shape(proto.tensor_shape, array.shape)
    if dtype.is_string:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.astype(array.dtype.newbyteorder("<")).tobytes()


def types_attr(numbers: Iterable[int]) -> AttrValue:
    """A list of `DataType` numbers as an attribute."""
    value = AttrValue()
    value.list.type.extend(numbers)  # type: ignore[arg-type]
    return value


def function_attr(name: str) -> AttrValue:
    """A function as an attribute."""
    value = AttrValue()
    value.func.name = name
    return value


def add_node(
    nodes: Nodes,
    name: str,
    op: str,
    inputs: Iterable[str] = (),
    device: str = "",
    /,  # whatever attributes are named
    **attrs: Attr,
) -> None:
    """Add a node; its name is taken as it is."""
    node = nodes.add(name=name, op=op, input=inputs, device=device)
    for key, attr in attrs.items():
        set_attr(node.attr[key], attr)


def set_attr(value: AttrValue, attr: Attr) -> None:
    """Fill in an attribute: a tuple is a shape, an array a tensor."""
    if isinstance(attr, DType):
        value.type = attr.number  # type: ignore[assignment]
    elif isinstance(attr, bytes):
        value.s = attr
    elif isinstance(attr, tuple):
        set_shape(value.shape, attr)
    elif isinstance(attr, bool):
        value.b = attr
    elif isinstance(attr, int):
        value.i = attr
    elif isinstance(attr, float):
        value.f = attr
    elif isinstance(attr, np.ndarray):
        set_tensor(value.tensor, attr, dtype_of(attr.dtype))
    elif isinstance(attr, list):
        value.list.SetInParent()
        for item in attr:
            _append(value.list, item)
    else:
        value.CopyFrom(attr)


def _append(
    values: AttrValue.ListValue, item: DType | bytes | graph.Shape | bool | float
) -> None:
    if isinstance(item, DType):
        values.type.append(item.number)  # type: ignore[arg-type]
    elif isinstance(item, bytes):
        values.s.append(item)
    elif isinstance(item, tuple):
        set_shape(values.shape.add(), item)
    elif isinstance(item, bool):
        values.b.append(item)
    elif isinstance(item, int):
        values.i.append(item)
    else:
        values.f.append(item)


def add_strings(
    nodes: Nodes, name: str, value: bytes | Sequence[bytes], device: str = ""
) -> None:
    """Add a constant string, or a constant vector of strings."""
    add_const(nodes, name, np.array(value, object), STRING, device)


def add_const(
    nodes: Nodes,
    name: str,
    value: NDArray[np.generic],
    dtype: DType | None = None,
    device: str = "",
) -> None:
    """Add a constant; `dtype` is told from the array if it can be."""
    dtype = dtype_of(value.dtype) if dtype is None else dtype
    attr = AttrValue()
    set_tensor(attr.tensor, value, dtype)
    add_node(nodes, name, "Const", (), device, dtype=dtype, value=attr)


def add_argument(function: FunctionDef, name: str, dtype: DType) -> None:
    """Add a tensor to a function's arguments."""
    function.signature.input_arg.add(name=name, type=dtype.number)


def add_handle_argument(
    function: FunctionDef, name: str, dtype: DType, shape: Iterable[int]
) -> None:
    """Add the handle of a variable of this dtype and shape to a function's arguments."""
    argument = function.signature.input_arg.add(name=name, type=DT_RESOURCE)
    holds = argument.handle_data.add(dtype=dtype.number)
    set_shape(holds.shape, shape)
