"""The variables in the main graph: one `VarHandleOp` and one read of it for each resource.

    NONE, SAVE_VARIABLE_DEVICES    v
    EXPAND, mirrored or on read    v, v/replica_1, ...
    EXPAND, sharded                emb (the whole), emb/part_0, emb/part_1, ...

TensorFlow saves sharded variables without their parts under every policy; here EXPAND means
the same for each kind of distributed variable.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dsave.model.slices import Box
from dsave.model.variable import ShardedVariable, Variable
from dsave.options import VariablePolicy
from dsave.savedmodel.nodes import Names, Nodes, add_node, node_name
from dsave.savedmodel.object_graph import lists_components


@dataclass(frozen=True, slots=True)
class Resource:
    """One handle in the main graph: the name of its node, and its box of the variable."""

    node: str
    box: Box


@dataclass(frozen=True, slots=True)
class GraphVariable:
    """A variable and its resources.

    The first resource holds the whole value, and is what functions capture. After it come the
    other replicas, or the parts, if the policy expands.
    """

    key: str
    variable: Variable
    resources: tuple[Resource, ...]


def add_variable(
    nodes: Nodes, names: Names, key: str, variable: Variable, policy: VariablePolicy
) -> GraphVariable:
    """Add a variable's handles and reads to the main graph."""
    resources = []
    for name, device, box in _resources(variable, policy):
        node = names.unique(node_name(name))
        add_node(
            nodes,
            node,
            "VarHandleOp",
            device=device,
            dtype=variable.dtype,
            shape=box.lengths,
            # Sessions find a variable by this name alone, so it is as unique as the node's.
            shared_name=node.encode(),
            debug_name=f"{node}/".encode(),
        )
        read = names.unique(f"{node}/Read/ReadVariableOp")
        add_node(nodes, read, "ReadVariableOp", (node,), device, dtype=variable.dtype)
        resources.append(Resource(node, box))
    return GraphVariable(key, variable, tuple(resources))


def _resources(variable: Variable, policy: VariablePolicy) -> Iterator[tuple[str, str, Box]]:
    """(name, device, box) of each resource."""
    device = variable.device if policy.saves_devices else ""
    yield variable.name, device, Box.whole(variable.shape)
    if lists_components(variable, policy):
        parts = variable.components
        for part in parts if isinstance(variable, ShardedVariable) else parts[1:]:
            yield part.name, part.device, part.box
