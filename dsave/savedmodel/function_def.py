"""A traced function as a `FunctionDef`.

    arguments    the tensors, then a handle for each resource that is read, and assets' paths
    nodes        in the order of the trace; a read becomes what its policy makes of it (`reads`)
    ret          each output: an argument's name, or `node:argument of the op:number in it`
    control_ret  nodes that must run though nothing needs their outputs

Ops that the table does not know may have effects, so they run in the order in which they were
called, whatever is done with their outputs. Format: tensorflow/core/framework/function.proto.
"""

import re
from collections.abc import Iterable, Sequence

from dsave.functions.graph import (
    CONST,
    PLACEHOLDER,
    READ,
    Frame,
    FunctionGraph,
    Output,
    Shape,
    TensorSpec,
)
from dsave.functions.names import Names
from dsave.functions.table import OPS
from dsave.proto.graph_pb2 import AttrValue, FunctionDef
from dsave.savedmodel.nodes import (
    Nodes,
    add_node,
    function_attr,
    node_name,
    set_shape,
    types_attr,
)
from dsave.savedmodel.reads import Readings, add_read
from dsave.savedmodel.resources import Resource, add_capture

Stack = tuple[Frame, ...]
"""The user's calls that made a node, oldest first."""

CALL = "StatefulPartitionedCall"
"""The op that calls a function."""

_WITHOUT_EFFECT = OPS.keys() | {CONST, PLACEHOLDER, READ}

_NOT_IN_ARGUMENTS = re.compile(r"[^a-z0-9_]")
_NOT_FIRST_IN_ARGUMENTS = re.compile(r"^[^a-z]+")


def set_function(
    function: FunctionDef, graph: FunctionGraph, variables: Readings
) -> tuple[tuple[Resource, ...], dict[str, Stack]]:
    """Fill in a function; the resources it takes, in order, and each node's stack by name.

    Raises:
        ModelError: it reads a variable that the model does not have.
    """
    names, stacks = Names(), dict[str, Stack]()
    values: list[list[str]] = []  # the references to the outputs of each node of the trace
    count = len(graph.arguments)
    for spec, node in zip(graph.arguments, graph.nodes[:count], strict=True):
        argument = names.unique(argument_name(node.name))
        function.signature.input_arg.add(name=argument, type=spec.dtype.number)
        values.append([argument])
        stacks[argument] = node.stack
    readings = [variables.of(capture, graph.name) for capture in graph.captures]
    handles = {resource: "" for reading in readings for resource in reading.resources}
    for resource in list(handles):
        argument = handles[resource] = names.unique(argument_name(resource.node))
        add_capture(function, argument, resource)
    set_input_shapes(function, [spec.shape for spec in graph.arguments], len(handles))

    def reference(output: Output) -> str:
        return values[output.node][output.index]

    nodes = function.node_def
    last: list[str] = []
    for node in graph.nodes[count:]:
        before = len(nodes)
        wanted = node_name(node.name)
        if node.capture is None:
            unique = names.unique(wanted)
            inputs = [reference(source) for source in node.inputs]
            if node.op not in _WITHOUT_EFFECT:
                inputs += last
                last = [f"^{unique}"]
                function.signature.control_output.append(unique)
                function.control_ret[unique] = unique
            add_node(nodes, unique, node.op, inputs, **node.attrs)
            args = node.output_args
            values.append([f"{unique}:{arg}:{i}" for arg, size in args for i in range(size)])
        else:
            reading = readings[node.capture]
            values.append([add_read(nodes, names, wanted, reading, handles.__getitem__)])
        stacks |= {added.name: node.stack for added in nodes[before:]}
    function.signature.is_stateful = bool(handles or last)
    for number, output in enumerate(graph.outputs):
        result = names.unique(f"output_{number}")
        dtype = graph.nodes[output.node].outputs[output.index].dtype
        function.signature.output_arg.add(name=result, type=dtype.number)
        function.ret[result] = reference(output)
    return tuple(handles), stacks


def add_call(
    nodes: Nodes,
    node: str,
    function: str,
    inputs: Sequence[str],
    types: AttrValue,
    outputs: Sequence[TensorSpec],
) -> None:
    """Call a function of inputs of these types."""
    shapes = AttrValue()
    shapes.list.SetInParent()
    for spec in outputs:
        set_shape(shapes.list.shape.add(), spec.shape)
    add_node(
        nodes,
        node,
        CALL,
        inputs,
        Tin=types,
        Tout=types_attr(spec.dtype.number for spec in outputs),
        f=function_attr(function),
        _output_shapes=shapes,
    )


def argument_types(arguments: Sequence[TensorSpec], captures: Sequence[Resource]) -> AttrValue:
    """The types of tensors, then of what is captured."""
    tensors = [spec.dtype.number for spec in arguments]
    return types_attr([*tensors, *(resource.argument_type for resource in captures)])


def argument_name(name: str) -> str:
    """`name` made one that an argument may have: lower case letters, digits and `_`."""
    name = _NOT_IN_ARGUMENTS.sub("_", name.lower())
    return _NOT_FIRST_IN_ARGUMENTS.sub("", name) or "arg"


def set_input_shapes(function: FunctionDef, shapes: Iterable[Shape], handles: int) -> None:
    """Say what is known of the arguments' shapes: those of tensors, then those of handles."""
    known = function.attr["_input_shapes"].list
    known.SetInParent()
    for shape in (*shapes, *[()] * handles):
        set_shape(known.shape.add(), shape)
