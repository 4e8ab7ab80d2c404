"""The two object graphs of a SavedModel: what its checkpoint holds, and what its objects are.

    TrackableObjectGraph   in the checkpoint: names, checkpoint keys
    SavedObjectGraph       in saved_model.pb: kinds of objects, facts about variables, functions

Both number the nodes as `ObjectGraph` does, components included; the map of signatures, a child
of the root, comes after the last of them, and then the functions in it. Format:
tensorflow/core/protobuf/{trackable_object_graph,saved_object_graph}.proto; identifiers:
tensorflow/python/trackable/data_structures.py.
"""

from collections.abc import Mapping, Sequence

from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function
from dsave.model.trackable import Module, Node, ObjectGraph
from dsave.model.variable import Variable
from dsave.options import VariablePolicy
from dsave.proto.object_graph_pb2 import (
    SavedBareConcreteFunction,
    SavedObject,
    SavedObjectGraph,
    SavedVariable,
    TrackableObjectGraph,
)
from dsave.savedmodel.components import ComponentNode, lists_components
from dsave.savedmodel.library import Library, Traces
from dsave.savedmodel.nodes import node_name, set_shape
from dsave.savedmodel.signatures import Signature
from dsave.savedmodel.structured import set_function_spec

SIGNATURES = "signatures"
"""The root's child that maps signature keys to functions."""

_VALUE = "VARIABLE_VALUE"


def trackable_object_graph(graph: ObjectGraph, components: Sequence[ComponentNode]) -> bytes:
    """The serialized TrackableObjectGraph, the same bytes for the same graph."""
    proto = TrackableObjectGraph()
    values = [(node_id, key, variable.name) for node_id, key, variable in graph.variables()]
    values += [(node.node_id, node.key, node.component.name) for node in components]
    holding = _leading_to(graph, [node_id for node_id, _, _ in values])
    for node_id, node in enumerate(graph.nodes):
        tracked = proto.nodes.add()
        _add_children(tracked, node)
        tracked.has_checkpoint_values.value = node_id in holding
    for node_id, key, name in values:
        proto.nodes[node_id].attributes.add(name=_VALUE, full_name=name, checkpoint_key=key)
    proto.nodes[0].children.add(node_id=len(graph.nodes), local_name=SIGNATURES)
    proto.nodes.add().has_checkpoint_values.value = False
    return proto.SerializeToString(deterministic=True)


def set_saved_object_graph(
    proto: SavedObjectGraph,
    graph: ObjectGraph,
    components: Sequence[ComponentNode],
    policy: VariablePolicy,
    traces: Traces,
    library: Library,
    signatures: Mapping[str, tuple[Signature, str]],
) -> None:
    """Say what every object is; of variables also, as the policy says, devices and components.

    `signatures` are those in the library, each with the name of its function there. Assets are
    described in the order of their nodes.

    Raises:
        ModelError, TraceError: a function cannot be saved.
    """
    parts = {node.node_id: node for node in components}
    assets = {node_id: number for number, (node_id, _) in enumerate(graph.assets())}
    for node_id, node in enumerate(graph.nodes):
        saved = proto.nodes.add()
        _add_children(saved, node)
        if node_id in parts:
            _describe_component(saved.variable, parts[node_id])
        elif isinstance(node.value, Variable) and node.value.dtype.variable:
            _describe(saved.variable, node.value, policy)
        elif node_id in assets:
            saved.asset.SetInParent()  # or the first, number 0, would be none
            saved.asset.asset_file_def_index = assets[node_id]
        elif isinstance(node.value, Function):
            concrete = traces[node.value]
            saved.function.concrete_functions.extend(library[each].name for each in concrete)
            set_function_spec(saved.function.function_spec, node.value)
        elif isinstance(node.value, ConcreteFunction):
            function = library[node.value]
            keywords = [str(spec.name) for spec in function.arguments]
            _describe_concrete(
                saved.bare_concrete_function, function.name, keywords, len(keywords)
            )
        else:
            _revive_as(saved, _identifier(node.value))
    proto.nodes[0].children.add(node_id=len(graph.nodes), local_name=SIGNATURES)
    signature_map = proto.nodes.add()
    _revive_as(signature_map, "signature_map")
    for key, (signature, name) in signatures.items():
        signature_map.children.add(node_id=len(proto.nodes), local_name=key)
        keywords = [keyword for keyword, _ in signature.inputs]
        # One tensor needs no name; of several any order would be a guess.
        positional = int(len(keywords) == 1)
        saved = proto.nodes.add()
        _describe_concrete(saved.bare_concrete_function, name, keywords, positional)


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


def _describe_component(proto: SavedVariable, node: ComponentNode) -> None:
    proto.dtype = node.variable.dtype.number  # type: ignore[assignment]
    set_shape(proto.shape, node.component.box.lengths)
    proto.trainable = node.variable.trainable
    proto.name = node_name(node.component.name)
    proto.device = node.component.device


def _describe_concrete(
    proto: SavedBareConcreteFunction, name: str, keywords: Sequence[str], positional: int
) -> None:
    proto.concrete_function_name = name
    proto.argument_keywords.extend(keywords)
    proto.allowed_positional_arguments = positional


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


def _leading_to(graph: ObjectGraph, ends: Sequence[int]) -> set[int]:
    """These nodes and those that have one below them; objects may form cycles."""
    parents: dict[int, list[int]] = {}
    for node_id, node in enumerate(graph.nodes):
        for _, child in node.children:
            parents.setdefault(child, []).append(node_id)
    found = set(ends)
    queue = list(ends)
    while queue:
        for parent in parents.get(queue.pop(), ()):
            if parent not in found:
                found.add(parent)
                queue.append(parent)
    return found
