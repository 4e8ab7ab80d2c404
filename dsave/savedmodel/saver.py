"""The functions by which a graph restores and saves its own variables, and the `SaverDef`.

Sessions and model servers have no object graph: they load a SavedModel by running its restore
function. TensorFlow's assigns only the first component of a distributed variable, so that
functions which read another one fail there; this one gives every resource what the checkpoint
has under its key (see `components`).

The save function stores what the runtime would: what each variable is worth, and each of its
components. Bodies name no device but the CPU for file ops: a handle's device decides where it
is used.
Structure: tensorflow/python/checkpoint/functional_saver.py.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dsave.format.naming import OBJECT_GRAPH_KEY
from dsave.functions.names import Names
from dsave.model.dtype import STRING, DType
from dsave.proto.graph_pb2 import FunctionDef, GraphDef
from dsave.proto.saved_model_pb2 import SaverDef
from dsave.savedmodel.nodes import (
    CPU,
    RESOURCE,
    Nodes,
    add_argument,
    add_const,
    add_handle_argument,
    add_node,
    add_strings,
    function_attr,
    types_attr,
)
from dsave.savedmodel.reads import Reading, add_read, worth
from dsave.savedmodel.resources import GraphVariable

SAVE = "__inference__traced_save_0"
RESTORE = "__inference__traced_restore_1"

_PREFIX = "file_prefix"
_OBJECT_GRAPH = "object_graph"

_Handles = Mapping[str, str]
"""The argument of a function that is the handle of each resource, by the resource's node."""


def add_saver(
    graph: GraphDef, names: Names, variables: Sequence[GraphVariable], object_graph: bytes
) -> SaverDef:
    """Add both functions and the nodes that call them; returns where sessions find these."""
    handles = [resource.node for variable in variables for resource in variable.resources]
    filename = names.unique("saver_filename")
    add_node(graph.node, filename, "Placeholder", dtype=STRING, shape=())
    constant = names.unique("Const")
    add_strings(graph.node, constant, object_graph, CPU)
    _add_save_function(graph.library.function.add(), variables)
    save = _add_call(graph, names, SAVE, [filename, constant, *handles], tensors=2)
    _add_restore_function(graph.library.function.add(), variables)
    restore = _add_call(graph, names, RESTORE, [filename, *handles], tensors=1)
    return SaverDef(
        filename_tensor_name=f"{filename}:0",
        save_tensor_name=f"{save}:0",
        restore_op_name=restore,
        version=SaverDef.V2,
    )


def _add_call(
    graph: GraphDef, names: Names, function: str, inputs: Sequence[str], tensors: int
) -> str:
    """Call a function of `tensors` strings and then handles, which returns a string."""
    node = names.unique("StatefulPartitionedCall")
    strings = [STRING.number] * tensors
    add_node(
        graph.node,
        node,
        "StatefulPartitionedCall",
        inputs,
        Tin=types_attr([*strings, *[RESOURCE] * (len(inputs) - tensors)]),
        Tout=types_attr([STRING.number]),
        f=function_attr(function),
    )
    return node


def _add_restore_function(function: FunctionDef, variables: Sequence[GraphVariable]) -> None:
    function.signature.name = RESTORE
    add_argument(function, _PREFIX, STRING)
    handles = _add_handle_arguments(function, variables)
    nodes = function.node_def
    resources = [resource for variable in variables for resource in variable.resources]
    assigned = []
    if resources:
        inputs = [_PREFIX, *_add_keys(nodes, "RestoreV2", [r.key for r in resources])]
        dtypes = types_attr(resource.dtype.number for resource in resources)
        add_node(nodes, "RestoreV2", "RestoreV2", inputs, CPU, dtypes=dtypes)
    for number, resource in enumerate(resources):
        node = f"AssignVariableOp_{number}"
        value = f"RestoreV2:tensors:{number}"
        inputs = [handles[resource.node], value]
        add_node(nodes, node, "AssignVariableOp", inputs, dtype=resource.dtype)
        assigned.append(f"^{node}")
    _return_prefix(function, assigned)


def _add_save_function(function: FunctionDef, variables: Sequence[GraphVariable]) -> None:
    function.signature.name = SAVE
    add_argument(function, _PREFIX, STRING)
    add_argument(function, _OBJECT_GRAPH, STRING)
    handles = _add_handle_arguments(function, variables)
    nodes = function.node_def
    names = Names()
    stored = [
        value
        for variable in variables
        for value in _add_values(nodes, names, variable, handles)
    ]
    # TensorFlow keeps no temporary directory on S3.
    add_strings(nodes, "s3_suffix", b".part", CPU)
    add_strings(nodes, "suffix", b"_temp/part", CPU)
    add_node(nodes, "on_s3", "StaticRegexFullMatch", (_PREFIX,), CPU, pattern=b"^s3://.*")
    suffixes = ("on_s3:output:0", "s3_suffix:output:0", "suffix:output:0")
    add_node(nodes, "Select", "Select", suffixes, CPU, T=STRING)
    add_node(nodes, "StringJoin", "StringJoin", (_PREFIX, "Select:output:0"), CPU, N=2)
    add_const(nodes, "shard", np.array(0, np.int32), device=CPU)
    add_const(nodes, "num_shards", np.array(1, np.int32), device=CPU)
    shard = ("StringJoin:output:0", "shard:output:0", "num_shards:output:0")
    add_node(nodes, "ShardedFilename", "ShardedFilename", shard, CPU)
    keys = _add_keys(nodes, "SaveV2", [*(key for key, _, _ in stored), OBJECT_GRAPH_KEY])
    values = [value for _, _, value in stored]
    add_node(
        nodes,
        "SaveV2",
        "SaveV2",
        ["ShardedFilename:filename:0", *keys, *values, _OBJECT_GRAPH],
        CPU,
        dtypes=types_attr([*(dtype.number for _, dtype, _ in stored), STRING.number]),
    )
    add_node(
        nodes, "Pack", "Pack", ("ShardedFilename:filename:0", "^SaveV2"), CPU, T=STRING, N=1
    )
    add_node(nodes, "MergeV2Checkpoints", "MergeV2Checkpoints", ("Pack:output:0", _PREFIX), CPU)
    _return_prefix(function, ["^MergeV2Checkpoints"])


def _add_values(
    nodes: Nodes, names: Names, variable: GraphVariable, handles: _Handles
) -> Iterator[tuple[str, DType, str]]:
    """Read what is to be stored of a variable: (checkpoint key, dtype, value)."""
    dtype = variable.variable.dtype

    def read(reading: Reading) -> str:
        return add_read(nodes, names, "Read", reading, lambda r: handles[r.node], CPU)

    yield variable.key, dtype, read(worth(variable))
    for resource in variable.resources:
        if resource.key != variable.key:
            yield resource.key, dtype, read(Reading((resource,)))


def _add_handle_arguments(
    function: FunctionDef, variables: Sequence[GraphVariable]
) -> dict[str, str]:
    """Add an argument for each handle; returns their names by node."""
    names = {}
    for number, variable in enumerate(variables):
        for place, resource in enumerate(variable.resources):
            names[resource.node] = f"variable_{number}_{place}"
            add_handle_argument(
                function, names[resource.node], resource.dtype, resource.box.lengths
            )
    return names


def _add_keys(nodes: Nodes, node: str, keys: Sequence[str]) -> tuple[str, str]:
    """Add what SaveV2 and RestoreV2 take: checkpoint keys, and the slice of each: the whole."""
    add_strings(nodes, f"{node}/tensor_names", [key.encode() for key in keys], CPU)
    add_strings(nodes, f"{node}/shape_and_slices", [b""] * len(keys), CPU)
    return f"{node}/tensor_names:output:0", f"{node}/shape_and_slices:output:0"


def _return_prefix(function: FunctionDef, after: Sequence[str]) -> None:
    """Return the first argument once these nodes have run."""
    add_node(function.node_def, "Identity", "Identity", (_PREFIX, *after), CPU, T=STRING)
    function.signature.output_arg.add(name="prefix", type=STRING.number)
    function.signature.is_stateful = True
    function.ret["prefix"] = "Identity:output:0"
