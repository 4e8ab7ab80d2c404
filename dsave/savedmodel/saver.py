"""The functions by which a graph restores and saves its own variables, and the `SaverDef`.

Sessions and model servers have no object graph: they load a SavedModel by running its restore
function. TensorFlow's assigns only the first component of a distributed variable, so that
functions which read another one fail there; this one assigns every component:

    mirrored                                      the value to each
    on read, by mean, by first, not aggregated    the value to each
    on read, by sum                               the value to the first, zeros to the others
    sharded                                       the value to the whole, its rows to each part

A sum stays exact that way, of integers too; TensorFlow divides by the number of replicas.

The save function stores what the runtime would: the first component, or the sum or the mean of
all. Bodies name no device but the CPU for file ops: a handle's device decides where it is used.
Structure: tensorflow/python/checkpoint/functional_saver.py.
"""

from collections.abc import Sequence

import numpy as np

from dsave.format.naming import OBJECT_GRAPH_KEY
from dsave.model.dtype import STRING
from dsave.model.variable import Aggregation, ShardedVariable, SyncOnReadVariable
from dsave.proto.graph_pb2 import FunctionDef, GraphDef
from dsave.proto.saved_model_pb2 import SaverDef
from dsave.savedmodel.nodes import (
    CPU,
    RESOURCE,
    Names,
    Nodes,
    add_argument,
    add_const,
    add_handle_argument,
    add_node,
    add_strings,
    function_attr,
    types_attr,
)
from dsave.savedmodel.resources import GraphVariable

_SAVE = "__inference__traced_save_0"
_RESTORE = "__inference__traced_restore_1"

_PREFIX = "file_prefix"
_OBJECT_GRAPH = "object_graph"

_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16", "complex64", "complex128"})
_ADDED = _FLOATS | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""The dtypes for which TensorFlow 2.21 has AddN and ZerosLike.

Of the others no function can compute a sum, so their components are all restored alike.
"""


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
    save = _add_call(graph, names, _SAVE, [filename, constant, *handles], tensors=2)
    _add_restore_function(graph.library.function.add(), variables)
    restore = _add_call(graph, names, _RESTORE, [filename, *handles], tensors=1)
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
    function.signature.name = _RESTORE
    add_argument(function, _PREFIX, STRING)
    handles = _add_handle_arguments(function, variables)
    nodes = function.node_def
    wanted: list[tuple[GraphVariable, str]] = []
    assigned: list[str] = []
    for number, variable in enumerate(variables):
        dtype = variable.variable.dtype
        value = f"RestoreV2:tensors:{len(wanted)}"
        wanted.append((variable, ""))
        values = [value]
        others = variable.resources[1:]
        if others and isinstance(variable.variable, ShardedVariable):
            if dtype.reassembled:
                for part in others:
                    values.append(f"RestoreV2:tensors:{len(wanted)}")
                    wanted.append((variable, part.box.spec(variable.variable.shape)))
            else:
                values += _add_split(nodes, f"SplitV_{number}", value, variable)
        elif others and _aggregates(variable, Aggregation.SUM):
            add_node(nodes, f"ZerosLike_{number}", "ZerosLike", (value,), CPU, T=dtype)
            values += [f"ZerosLike_{number}:y:0"] * len(others)
        else:
            values += [value] * len(others)
        for handle, value in zip(handles[number], values, strict=True):
            node = f"AssignVariableOp_{len(assigned)}"
            add_node(nodes, node, "AssignVariableOp", (handle, value), dtype=dtype)
            assigned.append(f"^{node}")
    if wanted:
        inputs = [_PREFIX, *_add_keys(nodes, "RestoreV2", wanted)]
        dtypes = types_attr(variable.variable.dtype.number for variable, _ in wanted)
        add_node(nodes, "RestoreV2", "RestoreV2", inputs, CPU, dtypes=dtypes)
    _return_prefix(function, assigned)


def _add_split(nodes: Nodes, node: str, value: str, variable: GraphVariable) -> list[str]:
    """Cut a whole value, of a dtype that TensorFlow does not read in slices, in its parts."""
    parts = [resource.box.lengths[0] for resource in variable.resources[1:]]
    add_const(nodes, f"{node}/size_splits", np.array(parts, np.int64), CPU)
    add_const(nodes, f"{node}/axis", np.array(0, np.int32), CPU)
    add_node(
        nodes,
        node,
        "SplitV",
        (value, f"{node}/size_splits:output:0", f"{node}/axis:output:0"),
        CPU,
        T=variable.variable.dtype,
        num_split=len(parts),
    )
    return [f"{node}:output:{part}" for part in range(len(parts))]


def _add_save_function(function: FunctionDef, variables: Sequence[GraphVariable]) -> None:
    function.signature.name = _SAVE
    add_argument(function, _PREFIX, STRING)
    add_argument(function, _OBJECT_GRAPH, STRING)
    handles = _add_handle_arguments(function, variables)
    nodes = function.node_def
    values = [
        _add_value(nodes, number, variable, handles[number])
        for number, variable in enumerate(variables)
    ]
    # TensorFlow keeps no temporary directory on S3.
    add_strings(nodes, "s3_suffix", b".part", CPU)
    add_strings(nodes, "suffix", b"_temp/part", CPU)
    add_node(nodes, "on_s3", "StaticRegexFullMatch", (_PREFIX,), CPU, pattern=b"^s3://.*")
    suffixes = ("on_s3:output:0", "s3_suffix:output:0", "suffix:output:0")
    add_node(nodes, "Select", "Select", suffixes, CPU, T=STRING)
    add_node(nodes, "StringJoin", "StringJoin", (_PREFIX, "Select:output:0"), CPU, N=2)
    add_const(nodes, "shard", np.array(0, np.int32), CPU)
    add_const(nodes, "num_shards", np.array(1, np.int32), CPU)
    shard = ("StringJoin:output:0", "shard:output:0", "num_shards:output:0")
    add_node(nodes, "ShardedFilename", "ShardedFilename", shard, CPU)
    keys = _add_keys(nodes, "SaveV2", [(variable, "") for variable in variables], graph=True)
    add_node(
        nodes,
        "SaveV2",
        "SaveV2",
        ["ShardedFilename:filename:0", *keys, *values, _OBJECT_GRAPH],
        CPU,
        dtypes=types_attr([v.variable.dtype.number for v in variables] + [STRING.number]),
    )
    add_node(
        nodes, "Pack", "Pack", ("ShardedFilename:filename:0", "^SaveV2"), CPU, T=STRING, N=1
    )
    add_node(nodes, "MergeV2Checkpoints", "MergeV2Checkpoints", ("Pack:output:0", _PREFIX), CPU)
    _return_prefix(function, ["^MergeV2Checkpoints"])


def _add_value(
    nodes: Nodes, number: int, variable: GraphVariable, handles: Sequence[str]
) -> str:
    """Read what a variable is worth: its first component, or the aggregate of all."""
    dtype = variable.variable.dtype
    if not _aggregates(variable, Aggregation.SUM, Aggregation.MEAN):
        handles = handles[:1]
    reads = []
    for place, handle in enumerate(handles):
        read = f"ReadVariableOp_{number}_{place}"
        add_node(nodes, read, "ReadVariableOp", (handle,), dtype=dtype)
        reads.append(f"{read}:value:0")
    if len(reads) == 1:
        return reads[0]
    add_node(nodes, f"AddN_{number}", "AddN", reads, CPU, T=dtype, N=len(reads))
    total = f"AddN_{number}:sum:0"
    if not _aggregates(variable, Aggregation.MEAN):
        return total
    add_const(nodes, f"count_{number}", np.array(len(reads), dtype.numpy), CPU)
    mean = f"RealDiv_{number}"
    add_node(nodes, mean, "RealDiv", (total, f"count_{number}:output:0"), CPU, T=dtype)
    return f"{mean}:z:0"


def _aggregates(variable: GraphVariable, *ways: Aggregation) -> bool:
    """Whether it is one of these aggregates of its components, which TensorFlow can compute."""
    described = variable.variable
    return (
        isinstance(described, SyncOnReadVariable)
        and described.aggregation in ways
        and described.dtype.name in _ADDED
        and (described.aggregation is not Aggregation.MEAN or described.dtype.name in _FLOATS)
    )


def _add_handle_arguments(
    function: FunctionDef, variables: Sequence[GraphVariable]
) -> list[list[str]]:
    """Add an argument for each handle; returns their names, a list for each variable."""
    names = []
    for number, variable in enumerate(variables):
        names.append(
            [f"variable_{number}_{place}" for place, _ in enumerate(variable.resources)]
        )
        for name, resource in zip(names[-1], variable.resources, strict=True):
            shape = resource.box.lengths
            add_handle_argument(function, name, variable.variable.dtype, shape)
    return names


def _add_keys(
    nodes: Nodes, node: str, wanted: Sequence[tuple[GraphVariable, str]], *, graph: bool = False
) -> tuple[str, str]:
    """Add what SaveV2 and RestoreV2 take: checkpoint keys and the slice of each."""
    keys = [variable.key.encode() for variable, _ in wanted]
    slices = [spec.encode() for _, spec in wanted]
    if graph:
        keys.append(OBJECT_GRAPH_KEY.encode())
        slices.append(b"")
    add_strings(nodes, f"{node}/tensor_names", keys, CPU)
    add_strings(nodes, f"{node}/shape_and_slices", slices, CPU)
    return f"{node}/tensor_names:output:0", f"{node}/shape_and_slices:output:0"


def _return_prefix(function: FunctionDef, after: Sequence[str]) -> None:
    """Return the first argument once these nodes have run."""
    add_node(function.node_def, "Identity", "Identity", (_PREFIX, *after), CPU, T=STRING)
    function.signature.output_arg.add(name="prefix", type=STRING.number)
    function.signature.is_stateful = True
    function.ret["prefix"] = "Identity:output:0"
