"""Small builders of graphs: names, attributes, nodes and the signatures of functions.

Messages: tensorflow/core/framework/{node_def,attr_value,op_def,function}.proto. An attribute
at its op's default is left out, as `stripped_default_attrs` promises.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from numpy.typing import NDArray

from dsave.model.dtype import STRING, DType, dtype_of
from dsave.proto.graph_pb2 import AttrValue, FunctionDef, NodeDef
from dsave.proto.types_pb2 import DT_RESOURCE, TensorShapeProto

CPU = "/device:CPU:0"
"""Where file ops run: the CPU of whichever task runs the graph."""

RESOURCE: int = DT_RESOURCE
"""The `DataType` of a variable's handle."""

Nodes = RepeatedCompositeFieldContainer[NodeDef]
"""The nodes of a graph, or of a function's body."""

Attr = DType | bytes | int | tuple[int, ...] | AttrValue
"""What an attribute is made of: a dtype, string, integer or shape, or the message itself."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./>-]")
_NOT_FIRST = re.compile(r"^[^A-Za-z0-9.]+")


class Names:
    """The names in use in one graph, told apart without regard to case.

    Source: `Graph.unique_name`, tensorflow/python/framework/ops.py.
    """

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, or `wanted_1`, `wanted_2` and so on if it is taken; taken from now on."""
        key = wanted.lower()
        uses = self._uses.get(key, 0)
        self._uses[key] = uses + 1
        if not uses:
            return wanted
        while f"{key}_{uses}" in self._uses:
            uses += 1
        self._uses[f"{key}_{uses}"] = 1
        return f"{wanted}_{uses}"


def node_name(name: str) -> str:
    """`name`, made a name that a node may have if it is none.

    Source: `_VALID_OP_NAME_REGEX`, tensorflow/python/framework/ops.py.
    """
    return _NOT_FIRST.sub("", _NOT_IN_NAMES.sub("_", name)) or "unnamed"


def set_shape(proto: TensorShapeProto, shape: Iterable[int]) -> None:
    """Fill in a shape; an extent of -1 is unknown. A scalar's shape is present and empty."""
    proto.SetInParent()
    for extent in shape:
        proto.dim.add().size = extent


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
    **attrs: Attr,
) -> None:
    """Add a node; its name is taken as it is."""
    node = nodes.add(name=name, op=op, input=inputs, device=device)
    for key, attr in attrs.items():
        value = node.attr[key]
        if isinstance(attr, DType):
            value.type = attr.number  # type: ignore[assignment]
        elif isinstance(attr, bytes):
            value.s = attr
        elif isinstance(attr, tuple):
            set_shape(value.shape, attr)
        elif isinstance(attr, int):
            value.i = attr
        else:
            value.CopyFrom(attr)


def add_strings(
    nodes: Nodes, name: str, value: bytes | Sequence[bytes], device: str = ""
) -> None:
    """Add a constant string, or a constant vector of strings."""
    attr = AttrValue()
    tensor = attr.tensor
    tensor.dtype = STRING.number  # type: ignore[assignment]
    if isinstance(value, bytes):
        set_shape(tensor.tensor_shape, ())
        tensor.string_val.append(value)
    else:
        set_shape(tensor.tensor_shape, (len(value),))
        tensor.string_val.extend(value)
    add_node(nodes, name, "Const", device=device, dtype=STRING, value=attr)


def add_const(nodes: Nodes, name: str, value: NDArray[np.generic], device: str = "") -> None:
    """Add a constant of numbers."""
    dtype = dtype_of(value.dtype)
    attr = AttrValue()
    attr.tensor.dtype = dtype.number  # type: ignore[assignment]
    set_shape(attr.tensor.tensor_shape, value.shape)
    attr.tensor.tensor_content = value.astype(value.dtype.newbyteorder("<")).tobytes()
    add_node(nodes, name, "Const", device=device, dtype=dtype, value=attr)


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
