"""Traced functions as FunctionDefs.

- arguments, then handles, nodes and results by reference, literally
- a read becomes what each policy makes of it, literally; a resource is one argument
- ops that the table does not know are control outputs and run in order; others are not
- names that the graph has and names that it gets do not collide; no name has an `@`
- a variable that the model lacks, or that no graph can hold, is refused by name
- what is described of arguments and results is what TensorFlow describes and reads
"""

from collections import namedtuple

import numpy as np
import pytest

import dsave
from dsave import TensorSpec
from dsave.errors import ModelError
from dsave.model.trackable import Module
from dsave.options import SaveOptions, VariablePolicy
from dsave.proto.object_graph_pb2 import FunctionSpec, StructuredValue
from dsave.proto.saved_model_pb2 import SavedModel
from dsave.savedmodel.meta_graph import build_saved_model
from dsave.savedmodel.structured import set_function_spec, set_structure

NONE, DEVICES, EXPAND = VariablePolicy

FLOAT, INT, RESOURCE = 1, 3, 20


def built(graph, policy=NONE):
    options = SaveOptions(experimental_variable_policy=policy)
    saved = build_saved_model(graph, options, {}).saved_model
    return SavedModel.FromString(saved).meta_graphs[0]


def only_function(meta_graph):
    """The one function that is not the saver's."""
    (function,) = (
        function
        for function in meta_graph.graph_def.library.function
        if "traced" not in function.signature.name
    )
    return function


def nodes(function):
    return [(node.name, node.op, list(node.input)) for node in function.node_def]


def traced(code, *specs):
    return dsave.function(code, input_signature=list(specs))


def test_a_function_is_its_arguments_nodes_and_results(make):
    function = traced(
        lambda x, y: {"b": [np.matmul(x, y), x], "a": y + np.float32(1)},
        TensorSpec([None, 2], name="X"),
        TensorSpec([2, 3], name="y"),
    )
    found = only_function(built(make.model(f=function)))
    assert found.signature.name == "__inference_lambda_2"
    assert [(a.name, a.type) for a in found.signature.input_arg] == [("x", FLOAT), ("y", FLOAT)]
    assert nodes(found) == [
        ("MatMul", "MatMul", ["x", "y"]),
        ("Const", "Const", []),
        ("AddV2", "AddV2", ["y", "Const:output:0"]),
    ]
    assert [found.ret[arg.name] for arg in found.signature.output_arg] == [
        "AddV2:z:0",
        "MatMul:product:0",
        "x",
    ]
    shapes = found.attr["_input_shapes"].list.shape
    assert [[dim.size for dim in shape.dim] for shape in shapes] == [[-1, 2], [2, 3]]
    assert not found.signature.is_stateful
    assert not found.control_ret


def test_attributes_are_what_the_op_wants_without_those_at_their_default(make):
    function = traced(
        lambda x: np.concatenate([np.sum(x, axis=0, keepdims=True), x]), TensorSpec([2, 2])
    )
    attrs = {
        node.op: {name: value.WhichOneof("value") for name, value in node.attr.items()}
        for node in only_function(built(make.model(f=function))).node_def
    }
    assert attrs["Sum"] == {"T": "type", "keep_dims": "b"}
    assert attrs["ConcatV2"] == {"T": "type", "N": "i"}
    assert attrs["Const"] == {"dtype": "type", "value": "tensor"}


def kinds(make):
    m = Module()
    m.v = make.mirrored("v", (2,))
    m.n = make.on_read("n", "sum", dtype="int32")
    m.mean = make.on_read("mean", "mean")
    m.e = make.sharded("e", (3, 2))
    return m


READS = {
    "v": lambda m: m.v,
    "v.components[1]": lambda m: m.v.components[1],
    "n": lambda m: m.n,
    "mean": lambda m: m.mean,
    "e": lambda m: m.e,
    "e.components[1]": lambda m: m.e.components[1],
}
ONE = [("ReadVariableOp", "ReadVariableOp", ["HANDLE"])]
ADDED = [
    ("ReadVariableOp/replica_0", "ReadVariableOp", ["HANDLE"]),
    ("ReadVariableOp/replica_1", "ReadVariableOp", ["HANDLE_replica_1"]),
]
ROWS = [
    ("ReadVariableOp/whole", "ReadVariableOp", ["HANDLE"]),
    ("ReadVariableOp/begin", "Const", []),
    ("ReadVariableOp/size", "Const", []),
    (
        "ReadVariableOp",
        "Slice",
        [
            "ReadVariableOp/whole:value:0",
            "ReadVariableOp/begin:output:0",
            "ReadVariableOp/size:output:0",
        ],
    ),
]
REPLICAS = ["ReadVariableOp/replica_0:value:0", "ReadVariableOp/replica_1:value:0"]
LOWERED = {
    ("v", NONE): (["v"], ONE),
    ("v", EXPAND): (["v"], ONE),
    ("v.components[1]", NONE): (["v"], ONE),
    ("v.components[1]", DEVICES): (["v"], ONE),
    ("v.components[1]", EXPAND): (["v_replica_1"], ONE),
    ("n", NONE): (["n"], ONE),
    ("n", DEVICES): (["n"], ONE),
    ("n", EXPAND): (
        ["n", "n_replica_1"],
        [*ADDED, ("ReadVariableOp", "AddV2", REPLICAS)],
    ),
    ("mean", NONE): (["mean"], ONE),
    ("mean", EXPAND): (
        ["mean", "mean_replica_1"],
        [
            *ADDED,
            ("ReadVariableOp/sum", "AddV2", REPLICAS),
            ("ReadVariableOp/count", "Const", []),
            (
                "ReadVariableOp",
                "RealDiv",
                ["ReadVariableOp/sum:z:0", "ReadVariableOp/count:output:0"],
            ),
        ],
    ),
    ("e", EXPAND): (["e"], ONE),
    ("e.components[1]", NONE): (["e"], ROWS),
    ("e.components[1]", EXPAND): (["e_part_1"], ONE),
}


@pytest.mark.parametrize(("read", "policy"), LOWERED, ids=str)
def test_a_read_is_what_the_policy_makes_of_it(make, read, policy):
    m = kinds(make)
    m.f = traced(lambda: np.negative(READS[read](m)))
    found = only_function(built(make.tree(m), policy))
    handles, reads = LOWERED[read, policy]
    arguments = found.signature.input_arg
    assert [(arg.name, arg.type) for arg in arguments] == [(name, RESOURCE) for name in handles]
    renamed = [
        (name, op, [i.replace("HANDLE", handles[0]) for i in inputs])
        for name, op, inputs in reads
    ]
    output = {"Slice": "output", "AddV2": "z", "RealDiv": "z"}.get(reads[-1][1], "value")
    negated = ("Neg", "Neg", [f"ReadVariableOp:{output}:0"])
    assert nodes(found) == [*renamed, negated]
    assert not any(node.device for node in found.node_def)
    assert found.signature.is_stateful


def test_captures_are_bound_to_the_objects_of_what_is_read(make):
    m = kinds(make)
    m.f = traced(lambda: (m.n + 0, m.e.components[1] + 0, m.v.components[1] + 0, m.v + 0))
    for policy, expected in ((NONE, [2, 4, 1]), (EXPAND, [8, 9, 13, 7, 1])):
        meta_graph = built(make.tree(m), policy)
        name = only_function(meta_graph).signature.name
        saved = meta_graph.object_graph_def.concrete_functions[name]
        assert list(saved.bound_inputs) == expected
        if policy is EXPAND:
            objects = meta_graph.object_graph_def.nodes
            names = [objects[node_id].variable.name for node_id in expected]
            assert names == ["n", "n/replica_1", "e/part_1", "v/replica_1", "v"]


def test_ops_that_the_table_does_not_know_run_in_order(make):
    def code(x):
        dsave.ops.call("Before>Op", [x], {"T": np.float32})
        (y,) = [dsave.ops.call("Custom", [np.tanh(x)], {"T": np.float32}, TensorSpec([]))]
        return y

    found = only_function(built_allowing(make.model(f=traced(code, TensorSpec([], name="x")))))
    assert nodes(found) == [
        ("Before_Op", "Before>Op", ["x"]),
        ("Tanh", "Tanh", ["x"]),
        ("Custom", "Custom", ["Tanh:y:0", "^Before_Op"]),
    ]
    assert list(found.signature.control_output) == ["Before_Op", "Custom"]
    assert dict(found.control_ret) == {"Before_Op": "Before_Op", "Custom": "Custom"}
    assert found.signature.is_stateful


def built_allowing(graph):
    options = SaveOptions(namespace_whitelist=["Before"])
    saved = build_saved_model(graph, options, {}).saved_model
    return SavedModel.FromString(saved).meta_graphs[0]


def test_outputs_are_counted_within_their_argument(make):
    outputs = [
        TensorSpec([], name="first"),
        TensorSpec([], "int32", name="rest"),
        TensorSpec([], "int32", name="rest"),
    ]

    def code(x):
        a, b, c = dsave.ops.call("Many", [x], outputs=outputs)
        return c, b, a

    found = only_function(built(make.model(f=traced(code, TensorSpec([])))))
    assert [found.ret[arg.name] for arg in found.signature.output_arg] == [
        "Many:rest:1",
        "Many:rest:0",
        "Many:first:0",
    ]
    assert [arg.type for arg in found.signature.output_arg] == [INT, INT, FLOAT]


def test_no_two_names_are_alike(make):
    v = make.plain("AddV2")
    specs = [TensorSpec([], name=name) for name in ("_x", "X", "addv2", "output_0", "@")]
    function = traced(lambda *args: args[0] + args[1] + args[2] + args[3] + args[4] + v, *specs)
    found = only_function(built(make.model(v=v, f=function)))
    signature = found.signature
    names = [arg.name for arg in (*signature.input_arg, *signature.output_arg)]
    names += [node.name for node in found.node_def]
    assert len({name.lower() for name in names}) == len(names)
    assert names[:6] == ["x", "x_1", "addv2", "output_0", "arg", "addv2_1"]
    assert not any("@" in name for name in names)


def test_a_variable_that_the_model_lacks_is_named(make):
    stray = make.plain("stray")
    with pytest.raises(ModelError, match=r"function serve: the variable 'stray' is not part"):
        build_saved_model(
            make.model(f=dsave.function(reading(stray), input_signature=[])), SaveOptions()
        )


def test_so_is_one_that_only_a_signature_reads_and_a_component_of_one(make):
    stray = make.mirrored("stray")
    function = dsave.function(reading(stray.components[1]), input_signature=[])
    with pytest.raises(ModelError, match=r"function serve: .*'stray/replica_1' is not part"):
        build_saved_model(make.model(), SaveOptions(), function)


def test_a_variable_that_tensorflow_cannot_have_cannot_be_read(make):
    q = make.plain("q", dtype="qint16")
    function = dsave.function(reading(q), input_signature=[])
    with pytest.raises(
        ModelError, match=r"'q' is qint16, of which TensorFlow has no variables"
    ):
        build_saved_model(make.model(q=q, f=function), SaveOptions())


def reading(variable):
    def serve():
        return dsave.ops.read(variable)

    return serve


Pair = namedtuple("Pair", ["x", "y"])  # noqa: PYI024 - untyped, as users write them

STRUCTURES = [
    None,
    True,
    -(1 << 63),
    2.5,
    "text",
    [1, (2.0, {"b": None, "a": [False]})],
    (),
    {},
    Pair("p", [1]),
]


@pytest.mark.tf
@pytest.mark.parametrize("value", STRUCTURES, ids=str)
def test_structures_are_described_as_tensorflow_describes_them(tf, value):
    from tensorflow.python.saved_model import nested_structure_coder

    ours = StructuredValue()
    set_structure(ours, value, "f")
    theirs = nested_structure_coder.encode_structure(value)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


@pytest.mark.tf
def test_specs_are_described_as_tensorflow_describes_them(tf):
    from tensorflow.python.saved_model import nested_structure_coder

    ours = StructuredValue()
    set_structure(ours, TensorSpec([None, 3], "int64", name="n"), "f")
    theirs = nested_structure_coder.encode_structure(tf.TensorSpec([None, 3], tf.int64, "n"))
    assert ours.SerializeToString() == theirs.SerializeToString()


@pytest.mark.parametrize("value", [1 << 63, b"bytes", {1: 2}, object()])
def test_what_cannot_be_described_is_refused(value):
    with pytest.raises(ModelError, match="function f: a SavedModel cannot describe"):
        set_structure(StructuredValue(), [value], "f")


def everything(a, /, b, c=3, *rest, d, e="e", **others):
    return a


@pytest.mark.tf
@pytest.mark.parametrize("code", [everything, lambda: 1, lambda x=None: x], ids=str)
def test_parameters_are_described_as_tensorflow_describes_them(tf, code):
    from tensorflow.python.saved_model import function_serialization

    function = tf.function(code)
    ours = FunctionSpec()
    set_function_spec(ours, dsave.function(code))
    theirs = function_serialization._serialize_function_spec(function.function_spec)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_what_cannot_be_described_is_refused_by_the_name_of_the_function(make):
    def scale(x, by):
        return x

    function = dsave.function(scale)
    function.get_concrete_function(TensorSpec([]), b"bytes")
    with pytest.raises(ModelError, match=r"^function scale: a SavedModel cannot describe b'"):
        built(make.model(f=function))
