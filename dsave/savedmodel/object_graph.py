"""The two object graphs of a SavedModel: what its checkpoint holds, and what its objects are.

    TrackableObjectGraph   in the checkpoint: names, checkpoint keys
    SavedObjectGraph       in saved_model.pb: kinds of objects, facts about variables

Both number the nodes as `ObjectGraph` does; the map of signatures, a child of the root, comes
after the last of them. Format: tensorflow/core/protobuf/{trackable_object_graph,
saved_object_graph}.proto; identifiers: tensorflow/python/trackable/data_structures.py.
"""

from collections.abc import Mapping

from dsave.model.trackable import Module, Node, ObjectGraph
from dsave.model.variable import Synchronization, Variable
from dsave.options import VariablePolicy
from dsave.proto.object_graph_pb2 import (
    SavedObject,
    SavedObjectGraph,
    SavedVariable,
    TrackableObjectGraph,
)
from dsave.savedmodel.nodes import node_name, set_shape

SIGNATURES = "signatures"
"""The root's child that maps signature keys to functions."""

_VALUE = "VARIABLE_VALUE"


def trackable_object_graph(graph: ObjectGraph) -> bytes:
    """The serialized TrackableObjectGraph, the same bytes for the same graph."""
    proto = TrackableObjectGraph()
    holding = _leading_to_variables(graph)
    for node_id, node in enumerate(graph.nodes):
        tracked = proto.nodes.add()
        _add_children(tracked, node)
        tracked.has_checkpoint_values.value = node_id in holding
    for node_id, key, variable in graph.variables():
        proto.nodes[node_id].attributes.add(
            name=_VALUE, full_name=variable.name, checkpoint_key=key
        )
    proto.nodes[0].children.add(node_id=len(graph.nodes), local_name=SIGNATURES)
    proto.nodes.add().has_checkpoint_values.value = False
    return proto.SerializeToString(deterministic=True)


def saved_object_graph(graph: ObjectGraph, policy: VariablePolicy) -> SavedObjectGraph:
    """What every object is; of variables also, as the policy says, devices and components."""
    proto = SavedObjectGraph()
    for node in graph.nodes:
        saved = proto.nodes.add()
        _add_children(saved, node)
        if isinstance(node.value, Variable) and node.value.dtype.variable:
            _describe(saved.variable, node.value, policy)
        else:
            _revive_as(saved, _identifier(node.value))
    proto.nodes[0].children.add(node_id=len(graph.nodes), local_name=SIGNATURES)
    _revive_as(proto.nodes.add(), "signature_map")
    return proto


def lists_components(variable: Variable, policy: VariablePolicy) -> bool:
    """Whether the components of this variable are saved: those of a distributed one may be."""
    return policy.expands and variable.synchronization is not Synchronization.AUTO


def _describe(proto: SavedVariable, variable: Variable, policy: VariablePolicy) -> None:
    proto.dtype = variable.dtype.number  # type: ignore[assignment]
    set_shape(proto.shape, variable.shape)
    proto.trainable = variable.trainable
    proto.synchronization = int(variable.synchronization)  # type: ignore[assignment]
    proto.aggregation = int(variable.aggregation)  # type: ignore[assignment]
    proto.name = node_name(variable.name)
    if policy.saves_devices:
        proto.device = variable.device
    if lists_components(variable, policy):
        for component in variable.components:
            proto.experimental_distributed_variable_components.add(
                name=node_name(component.name), device=component.device
            )


def _revive_as(saved: SavedObject, identifier: str) -> None:
    saved.user_object.identifier = identifier
    saved.user_object.version.producer = 1
    saved.user_object.version.min_consumer = 1


def _identifier(value: object) -> str:
    # A variable of a dtype that TensorFlow has no variables of keeps its place, and its value
    # in the checkpoint.
    if isinstance(value, Module | Variable):
        return "_generic_user_object"
    if isinstance(value, Mapping):
        return "trackable_dict_wrapper"
    return "trackable_list_wrapper" if isinstance(value, list) else "trackable_tuple_wrapper"


def _add_children(
    proto: TrackableObjectGraph.TrackableObject | SavedObject, node: Node
) -> None:
    for name, child in node.children:
        proto.children.add(node_id=child, local_name=name)


def _leading_to_variables(graph: ObjectGraph) -> set[int]:
    """The nodes that are variables or have some below them; objects may form cycles."""
    parents: dict[int, list[int]] = {}
    for node_id, node in enumerate(graph.nodes):
        for _, child in node.children:
            parents.setdefault(child, []).append(node_id)
    found = {node_id for node_id, _, _ in graph.variables()}
    queue = list(found)
    while queue:
        for parent in parents.get(queue.pop(), ()):
            if parent not in found:
                found.add(parent)
                queue.append(parent)
    return found
