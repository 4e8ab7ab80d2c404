"""Components as objects of their own: what a policy that expands adds to the tree.

When TensorFlow's Python loads a model, it makes one variable of each variable node and gives
it to every capture that is bound to the node. Its own expanded models bind all components of a
variable to one node, so a function that adds two replicas, of 10 and 20, adds 30 to 30 once it
is loaded. Here components are variable nodes of their own, children of the root's child
`_components`. The checkpoint says under its own key what each is worth, so that every reader
computes what the function computed before:

    mirrored                 all but the first    the bytes of the variable's own entry
    on read, by sum or mean  all                  its own value
    on read, by first        all but the first    its own value
    sharded                  all                  the bytes of its rows, within the variable's

The first of a mirrored variable is the variable's own node. Where replicas are added up that is
their sum or mean, and the first replica is another one.

Without nodes of their own are rows of strings, which are no run of bytes, and replicas of a
dtype that TensorFlow cannot add: there is only what they are worth together.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dsave.format.bundle import Entry
from dsave.functions.names import Names
from dsave.model.slices import Box
from dsave.model.trackable import Module, Node, ObjectGraph, checkpoint_key
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    Synchronization,
    Variable,
)
from dsave.options import VariablePolicy
from dsave.proto.object_graph_pb2 import SavedObject, SavedObjectGraph
from dsave.savedmodel.tree import StoredVariable, numbered

_CONTAINER = "_components"
"""The root's child that has the components as children; `_components_1` where that is taken."""

_ADDED = frozenset(
    {"float16", "float32", "float64", "bfloat16", "complex64", "complex128"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
"""The dtypes for which TensorFlow 2.21 has AddV2."""


@dataclass(frozen=True, slots=True)
class ComponentNode:
    """A component that is an object, and its variable, with the checkpoint key of each."""

    node_id: int
    key: str
    component: Component
    variable: Variable
    variable_key: str


def lists_components(variable: Variable, policy: VariablePolicy) -> bool:
    """Whether the components of this variable are saved: those of a distributed one may be."""
    return (
        policy.expands
        and variable.synchronization is not Synchronization.AUTO
        and not (isinstance(variable, ShardedVariable) and variable.dtype.is_string)
    )


def expanded(
    graph: ObjectGraph, policy: VariablePolicy
) -> tuple[ObjectGraph, tuple[ComponentNode, ...]]:
    """The graph with the nodes that the policy adds, and these; none of the others changes."""
    names = Names()
    root = graph.nodes[0]
    taken = {name for name, _ in root.children}
    within = next(n for n in numbered(_CONTAINER, len(taken)) if n not in taken)
    container = len(graph.nodes)
    components: list[ComponentNode] = []
    children: list[tuple[str, int]] = []
    nodes: list[Node] = []
    for _, variable_key, variable in graph.variables():
        for component in _own_nodes(variable, policy):
            name = names.unique(component.name)
            path = (within, name)
            node_id = container + 1 + len(nodes)
            children.append((name, node_id))
            nodes.append(Node(component, path, ()))
            components.append(
                ComponentNode(node_id, checkpoint_key(path), component, variable, variable_key)
            )
    if not nodes:
        return graph, ()
    root = replace(root, children=(*root.children, (within, container)))
    middle = Node(Module(), (within,), tuple(children))
    return ObjectGraph((root, *graph.nodes[1:], middle, *nodes)), tuple(components)


def container_of(objects: SavedObjectGraph) -> int | None:
    """The number of the root's child that `expanded` added, if the objects have one.

    It is the last child of such a name. An earlier one holds what were components before
    TensorFlow loaded the model and saved it again: ordinary variables of the same names.
    """
    names = {
        component.name
        for node in objects.nodes
        for component in node.variable.experimental_distributed_variable_components
    }
    below = dict(enumerate(objects.nodes))
    nothing = SavedObject()
    for child in reversed(below.pop(0, nothing).children):
        node = below.get(child.node_id, nothing)
        held = [below.get(each.node_id, nothing) for each in node.children]
        if (
            is_container_name(child.local_name)
            and node.HasField("user_object")
            and held
            and all(each.HasField("variable") and each.variable.name in names for each in held)
        ):
            return child.node_id
    return None


def is_container_name(name: str) -> bool:
    """Whether the root's child that `expanded` adds may have this name."""
    return re.fullmatch(rf"{_CONTAINER}(_\d+)?", name) is not None


def component_keys(components: Iterable[ComponentNode]) -> dict[str, str]:
    """The checkpoint key of each component whose bytes are not those of all others.

    By the key that its host knows it by: parts of sharded variables, and replicas that differ.
    """
    return {
        node.component.key: node.key
        for node in components
        if not isinstance(node.variable, MirroredVariable)
    }


def component_entries(
    components: Iterable[ComponentNode], entries: Iterable[Entry]
) -> Iterator[Entry]:
    """The entries of components that are not among `entries`: of their variables' bytes."""
    stored: dict[str, list[Entry]] = {}
    for entry in entries:
        stored.setdefault(entry.key, []).append(entry)
    for node in components:
        if node.key in stored:
            continue
        pieces, box = stored[node.variable_key], node.component.box
        if box.covers(node.variable.shape):
            yield from (piece._replace(key=node.key) for piece in pieces)
        elif not box.size:
            yield pieces[0]._replace(
                key=node.key, shape=box.lengths, nbytes=0, crc32c=0, box=None
            )
        else:
            for piece in pieces:
                lies = Box.whole(piece.shape) if piece.box is None else piece.box
                if box.overlap(lies) is not None:
                    inner = lies.within(box)
                    inner_box = None if inner.covers(box.lengths) else inner
                    yield piece._replace(key=node.key, shape=box.lengths, box=inner_box)


def own_places(variable: Variable | StoredVariable) -> range:
    """Which components of a distributed variable are objects of their own, if any are."""
    count = len(variable.components)
    if variable.synchronization is Synchronization.NONE:
        return range(count)
    if variable.synchronization is Synchronization.ON_READ and count > 1:
        added = variable.aggregation in {Aggregation.SUM, Aggregation.MEAN}
        if added:
            return range(count if variable.dtype.name in _ADDED else 0)
    return range(1, count)


def _own_nodes(variable: Variable, policy: VariablePolicy) -> tuple[Component, ...]:
    if not lists_components(variable, policy) or not variable.dtype.variable:
        return ()
    return tuple(variable.components[place] for place in own_places(variable))
