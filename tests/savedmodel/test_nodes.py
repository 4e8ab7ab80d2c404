"""The builders of graphs.

- names are made unique as TensorFlow's graphs make them
- a node's attributes are those that were given, of the type that was meant
- numbers become constants that TensorFlow reads
"""

import ml_dtypes
import numpy as np
import pytest

from dsave.functions.names import Names
from dsave.model.dtype import dtype_of
from dsave.proto.graph_pb2 import GraphDef
from dsave.savedmodel.nodes import (
    add_const,
    add_node,
    add_strings,
    types_attr,
)


@pytest.mark.tf
def test_names_are_made_unique_as_in_tensorflow(tf):
    wanted = ["x", "X", "x_1", "x", "x_1", "x_1_1", "y/z", "y/Z", "y/z_1", "x", "x_2", "X"]
    graph, names = tf.Graph(), Names()
    assert [names.unique(name) for name in wanted] == [
        graph.unique_name(name) for name in wanted
    ]


def test_attributes_are_stored_as_what_they_are():
    graph = GraphDef()
    add_node(
        graph.node,
        "n",
        "Op",
        ("a", "^b"),
        "/device:CPU:0",
        T=dtype_of("float16"),
        text=b"t",
        count=3,
        yes=True,
        half=0.5,
        name=b"an attribute, not the node's",
        shape=(2, None),
        tensor=np.array([1, 2], np.int32),
        types=types_attr([1, 3]),
    )
    (node,) = graph.node
    assert (node.name, node.op, list(node.input), node.device) == (
        "n",
        "Op",
        ["a", "^b"],
        "/device:CPU:0",
    )
    assert node.attr["T"].type == 19
    assert node.attr["text"].s == b"t"
    assert node.attr["count"].i == 3
    assert node.attr["yes"].b
    assert node.attr["half"].f == 0.5
    assert node.attr["name"].s == b"an attribute, not the node's"
    assert node.attr["tensor"].tensor.dtype == 3
    assert [dim.size for dim in node.attr["shape"].shape.dim] == [2, -1]
    assert list(node.attr["types"].list.type) == [1, 3]


@pytest.mark.parametrize(
    ("given", "field", "stored"),
    [
        ([dtype_of("int32"), dtype_of("bool")], "type", [3, 10]),
        ([b"a", b""], "s", [b"a", b""]),
        ([True, False], "b", [True, False]),
        ([1, -2], "i", [1, -2]),
        ([0.5, 1.0], "f", [0.5, 1.0]),
    ],
)
def test_lists_are_lists_of_what_they_hold(given, field, stored):
    graph = GraphDef()
    add_node(graph.node, "n", "Op", attr=given)
    assert list(getattr(graph.node[0].attr["attr"].list, field)) == stored


def test_lists_of_shapes_keep_unknown_extents_and_empty_lists_are_lists():
    graph = GraphDef()
    add_node(graph.node, "n", "Op", shapes=[(None, 2), ()], empty=[])
    shapes = graph.node[0].attr["shapes"].list.shape
    assert [[dim.size for dim in shape.dim] for shape in shapes] == [[-1, 2], []]
    assert graph.node[0].attr["empty"].WhichOneof("value") == "list"


@pytest.mark.tf
@pytest.mark.parametrize(
    "value",
    [
        np.array([[1, -2], [3, 4]], np.int64),
        np.array(3, ">i4"),
        np.array([1.5, -0.0], np.float16),
        np.array(2, ml_dtypes.bfloat16),
        np.array([1 + 2j], np.complex64),
        np.zeros((0, 2), np.uint8),
    ],
    ids=str,
)
def test_tensorflow_reads_constants_of_numbers(tf, value):
    graph = GraphDef()
    add_const(graph.node, "c", value)
    read = tf.make_ndarray(attr_of(tf, graph).tensor)
    assert (read.dtype, read.shape) == (value.dtype.newbyteorder("="), value.shape)
    assert read.tolist() == value.tolist()


@pytest.mark.tf
@pytest.mark.parametrize(
    ("value", "shape"), [(b"a\0\xff", ()), ([b"a", b""], (2,)), ([], (0,))]
)
def test_tensorflow_reads_constants_of_strings(tf, value, shape):
    graph = GraphDef()
    add_strings(graph.node, "c", value)
    read = tf.make_ndarray(attr_of(tf, graph).tensor)
    assert read.shape == shape
    assert read.tolist() == value


def attr_of(tf, graph):
    (node,) = tf.compat.v1.GraphDef.FromString(graph.SerializeToString()).node
    return node.attr["value"]
