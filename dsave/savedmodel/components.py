"""Components as objects of their own: what a policy that expands adds to the tree.

When TensorFlow's Python loads a model, it makes one variable of each variable node and gives
it to every capture that is bound to the node. Its own expanded models bind all components of a
variable to one node, so a function that adds two replicas, of 10 and 20, adds 30 to 30 once it
is loaded. Here each replica but the first, and each part of a sharded variable, is a variable
node of its own, a child of the root's child `_components`. The checkpoint says under its own
key what it is worth, so that every reader computes what the function computed before:

    mirrored, or read by mean or first    the bytes of the variable's own entry
    read by sum                           zeros: the variable's own entry is the whole sum
    sharded                               the bytes of its rows, within the variable's own
    sharded strings                       no node: strings are stored whole, rows have no bytes

Nothing is written twice. The zeros are one run of bytes, as long as the longest sum.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dsave.errors import ModelError
from dsave.format.bundle import Entry
from dsave.format.crc32c import crc32c
from dsave.functions.names import Names
from dsave.model.slices import Box
from dsave.model.trackable import Module, Node, ObjectGraph, checkpoint_key
from dsave.model.variable import (
    Aggregation,
    Component,
    ShardedVariable,
    Synchronization,
    SyncOnReadVariable,
    Variable,
)
from dsave.options import VariablePolicy

COMPONENTS = "_components"
"""The root's child that has the components as children."""


@dataclass(frozen=True, slots=True)
class ComponentNode:
    """A component that is an object, and its variable, with the checkpoint key of each."""

    node_id: int
    key: str
    component: Component
    variable: Variable
    variable_key: str

    @property
    def holds_zeros(self) -> bool:
        """Whether it is one of several that are added up, and the first holds the sum."""
        return (
            isinstance(self.variable, SyncOnReadVariable)
            and self.variable.aggregation is Aggregation.SUM
        )


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
    """The graph with the nodes that the policy adds, and these; none of the others changes.

    Raises:
        ModelError: the root has an attribute of the name that the components need.
    """
    names = Names()
    container = len(graph.nodes)
    components: list[ComponentNode] = []
    children: list[tuple[str, int]] = []
    nodes: list[Node] = []
    for _, variable_key, variable in graph.variables():
        for component in _own_nodes(variable, policy):
            name = names.unique(component.name)
            path = (COMPONENTS, name)
            node_id = container + 1 + len(nodes)
            children.append((name, node_id))
            nodes.append(Node(component, path, ()))
            components.append(
                ComponentNode(node_id, checkpoint_key(path), component, variable, variable_key)
            )
    if not nodes:
        return graph, ()
    root = graph.nodes[0]
    if any(name == COMPONENTS for name, _ in root.children):
        raise ModelError(
            COMPONENTS,
            f"under {policy.name} this attribute of the model is reserved; "
            "give it another name",
        )
    root = replace(root, children=(*root.children, (COMPONENTS, container)))
    middle = Node(Module(), (COMPONENTS,), tuple(children))
    return ObjectGraph((root, *graph.nodes[1:], middle, *nodes)), tuple(components)


def part_keys(components: Iterable[ComponentNode]) -> dict[str, str]:
    """The checkpoint key of each part of a sharded variable, by the key that its host knows."""
    return {
        node.component.key: node.key
        for node in components
        if isinstance(node.variable, ShardedVariable)
    }


def zeros_nbytes(components: Iterable[ComponentNode]) -> int:
    """Bytes of the run of zeros that components are worth."""
    return max((node.variable.nbytes for node in components if node.holds_zeros), default=0)


def component_entries(
    components: Iterable[ComponentNode],
    entries: Iterable[Entry],
    zeros_shard: int,
    zeros_offset: int,
) -> Iterator[Entry]:
    """The entries of components that are not among `entries`, of bytes that are stored anyway.

    The run of zeros is in data file `zeros_shard` at byte `zeros_offset`.
    """
    stored: dict[str, list[Entry]] = {}
    for entry in entries:
        stored.setdefault(entry.key, []).append(entry)
    zeros_crcs: dict[int, int] = {0: 0}
    for node in components:
        dtype, box = node.variable.dtype, node.component.box
        nbytes = box.size * dtype.itemsize
        if node.key in stored:
            continue
        if node.holds_zeros or not (nbytes or dtype.is_string):
            if nbytes not in zeros_crcs:
                zeros_crcs[nbytes] = crc32c(bytes(nbytes))
            crc = zeros_crcs[nbytes]
            yield Entry(node.key, dtype, box.lengths, zeros_shard, zeros_offset, nbytes, crc)
            continue
        for piece in stored[node.variable_key]:
            lies = Box.whole(piece.shape) if piece.box is None else piece.box
            if box.overlap(lies) is not None:
                inner = lies.within(box)
                stored_box = None if inner.covers(box.lengths) else inner
                yield piece._replace(key=node.key, shape=box.lengths, box=stored_box)


def _own_nodes(variable: Variable, policy: VariablePolicy) -> tuple[Component, ...]:
    if not lists_components(variable, policy) or not variable.dtype.variable:
        return ()
    parts = variable.components
    return parts if isinstance(variable, ShardedVariable) else parts[1:]
