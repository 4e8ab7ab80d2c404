"""Everything that a SavedModel says about a model: `saved_model.pb` and the object graph.

    graph_def           variables, the calls of save and restore, their functions
    saver_def           how sessions restore
    signature_def       the init op, which has nothing to do
    collection_def      the init op once more, for older loaders
    object_graph_def    how Python restores

Format: tensorflow/core/protobuf/{saved_model,meta_graph}.proto. Equal models give equal bytes.
"""

from dataclasses import dataclass

from dsave.model.trackable import ObjectGraph
from dsave.options import VariablePolicy
from dsave.proto.saved_model_pb2 import MetaGraphDef, SavedModel
from dsave.savedmodel.nodes import Names, add_node
from dsave.savedmodel.object_graph import saved_object_graph, trackable_object_graph
from dsave.savedmodel.resources import add_variable
from dsave.savedmodel.saver import add_saver

SERVING_TAG = "serve"
"""The tag by which loaders ask for the graph."""

TENSORFLOW_VERSION = "2.21.0"
"""The TensorFlow whose rules the graph follows; readers see it as the writer's version."""

_GRAPH_PRODUCER = 2474
_GRAPH_MIN_CONSUMER = 12
"""The graph versions of that TensorFlow, tensorflow/core/public/version.h."""

INIT_OP = "__saved_model_init_op"
"""The signature, and the output in it, that names the op that initializes the graph."""

_MAIN_OP = "saved_model_main_op"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is written beside the tensors.

    `saved_model` is saved_model.pb. `object_graph` is the value of the checkpoint's entry
    `_CHECKPOINTABLE_OBJECT_GRAPH`.
    """

    saved_model: bytes
    object_graph: bytes


def build_saved_model(graph: ObjectGraph, policy: VariablePolicy) -> Metadata:
    """The metadata of a model whose variables are described as the policy says."""
    object_graph = trackable_object_graph(graph)
    proto = SavedModel(saved_model_schema_version=1)
    meta_graph = proto.meta_graphs.add()
    meta_graph.meta_info_def.tags.append(SERVING_TAG)
    meta_graph.meta_info_def.tensorflow_version = TENSORFLOW_VERSION
    meta_graph.meta_info_def.stripped_default_attrs = True
    main = meta_graph.graph_def
    main.versions.producer = _GRAPH_PRODUCER
    main.versions.min_consumer = _GRAPH_MIN_CONSUMER
    names = Names()
    variables = [
        add_variable(main.node, names, key, variable, policy)
        for _, key, variable in graph.variables()
        if variable.dtype.variable
    ]
    _add_init_op(meta_graph, names)
    meta_graph.saver_def.CopyFrom(add_saver(main, names, variables, object_graph))
    meta_graph.object_graph_def.CopyFrom(saved_object_graph(graph, policy))
    return Metadata(proto.SerializeToString(deterministic=True), object_graph)


def _add_init_op(meta_graph: MetaGraphDef, names: Names) -> None:
    node = names.unique("NoOp")
    add_node(meta_graph.graph_def.node, node, "NoOp")
    meta_graph.collection_def[_MAIN_OP].node_list.value.append(node)
    output = meta_graph.signature_def[INIT_OP].outputs[INIT_OP]
    output.name = node
    output.tensor_shape.unknown_rank = True
