"""What the two object graphs say of the tree of objects.

- modules, lists, tuples, dicts and variables are what TensorFlow revives as such
- an object under two names is one node, under the first key
- both graphs number the nodes alike, and end with the map of signatures
- a node has checkpoint values if a variable is it or below it, also around a cycle
- the checkpoint keeps the names of variables as they are
- TensorFlow writes the same objects for the same tree
"""

import pytest

from dsave.model.trackable import Module, trace
from dsave.options import SaveOptions
from dsave.proto.object_graph_pb2 import TrackableObjectGraph
from dsave.proto.saved_model_pb2 import SavedModel
from dsave.savedmodel.meta_graph import build_saved_model
from dsave.savedmodel.object_graph import trackable_object_graph

GENERIC = "_generic_user_object"


def tracked(graph):
    return TrackableObjectGraph.FromString(trackable_object_graph(graph, ())).nodes


def saved(graph):
    saved_model = SavedModel.FromString(build_saved_model(graph, SaveOptions()).saved_model)
    return saved_model.meta_graphs[0].object_graph_def.nodes


def kind(node):
    which = node.WhichOneof("kind")
    return node.user_object.identifier if which == "user_object" else which


def edges(nodes):
    return [[(child.local_name, child.node_id) for child in node.children] for node in nodes]


def test_each_kind_of_container_is_revived_as_itself(make):
    graph = make.model(
        m=Module(), t=(make.plain("a"),), d={"k": make.plain("b")}, many=[make.plain("c")]
    )
    nodes = saved(graph)
    kinds = [GENERIC, GENERIC, "trackable_tuple_wrapper", "trackable_dict_wrapper"]
    kinds += ["trackable_list_wrapper", "variable", "variable", "variable", "signature_map"]
    assert [kind(node) for node in nodes] == kinds
    versions = {
        (node.user_object.version.producer, node.user_object.version.min_consumer)
        for node in nodes
        if node.HasField("user_object")
    }
    assert versions == {(1, 1)}


def test_both_graphs_have_the_same_nodes_and_the_signatures_last(make):
    shared = make.plain("v")
    graph = make.model(a=shared, d={"x": shared, "y/z": [make.plain("w")]})
    expected = [
        [("a", 1), ("d", 2), ("signatures", 5)],
        [],
        [("x", 1), ("y/z", 3)],
        [("0", 4)],
        [],
        [],
    ]
    assert edges(tracked(graph)) == edges(saved(graph)) == expected


def test_a_variable_has_one_value_under_its_first_key_and_its_own_name(make):
    shared = make.plain("my weights")
    graph = make.model(d={"y/z": shared}, a=shared)
    values = [
        [(value.name, value.full_name, value.checkpoint_key) for value in node.attributes]
        for node in tracked(graph)
    ]
    key = "a/.ATTRIBUTES/VARIABLE_VALUE"
    assert values == [[], [], [("VARIABLE_VALUE", "my weights", key)], []]


def test_nodes_that_lead_to_variables_have_checkpoint_values(make):
    root, branch = Module(), Module()
    root.bare, root.branch, branch.parent = Module(), branch, root
    branch.leaf = make.plain("v")
    nodes = tracked(trace(root))
    assert all(node.HasField("has_checkpoint_values") for node in nodes)
    names = ["root", "bare", "branch", "leaf", "signatures"]
    assert {
        name
        for name, node in zip(names, nodes, strict=True)
        if node.has_checkpoint_values.value
    } == {"root", "branch", "leaf"}


@pytest.mark.tf
def test_tensorflow_writes_the_same_objects_for_the_same_tree(tf, make, tmp_path):
    theirs = tf.Module()
    theirs.v = tf.Variable([1.0, 2.0], name="v")
    theirs.d = {"a": tf.Variable(1, name="q"), "b.c": [theirs.v]}
    tf.saved_model.save(theirs, str(tmp_path))
    from tensorflow.core.protobuf import saved_model_pb2

    their_model = saved_model_pb2.SavedModel.FromString(
        (tmp_path / "saved_model.pb").read_bytes()
    )
    their_objects = their_model.meta_graphs[0].object_graph_def.nodes
    checkpoint = tf.train.load_checkpoint(str(tmp_path / "variables" / "variables"))
    their_tracked = TrackableObjectGraph.FromString(
        checkpoint.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    ).nodes
    v = make.plain("v", (2,))
    graph = make.model(v=v, d={"a": make.plain("q", dtype="int32"), "b.c": [v]})
    assert by_path(saved(graph), facts) == by_path(their_objects, facts)
    assert by_path(tracked(graph), values_of) == by_path(their_tracked, values_of)


def facts(node):
    return node.SerializeToString() if node.HasField("variable") else kind(node)


def values_of(node):
    return [
        value.SerializeToString() for value in node.attributes
    ], node.has_checkpoint_values.value


def by_path(nodes, describe):
    """Every path through the graph, and what is said of the node it leads to."""
    found = {}
    queue = [((), 0)]
    while queue:
        path, node_id = queue.pop()
        found[path] = describe(nodes[node_id])
        queue += [((*path, c.local_name), c.node_id) for c in nodes[node_id].children]
    return found
