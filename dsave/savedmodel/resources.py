"""The variables in the main graph: one `VarHandleOp` and one read of it for each resource.

    NONE, SAVE_VARIABLE_DEVICES    v
    EXPAND, mirrored or on read    v, v/replica_1, ...
    EXPAND, sharded                emb (the whole), emb/part_0, emb/part_1, ...

TensorFlow saves sharded variables without their parts under every policy; here EXPAND means
the same for each kind of distributed variable, but for sharded strings, which have no parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dsave.functions.names import Names
from dsave.model.dtype import DType
from dsave.model.slices import Box
from dsave.model.variable import ShardedVariable, Variable
from dsave.options import VariablePolicy
from dsave.proto.graph_pb2 import FunctionDef
from dsave.savedmodel.components import ComponentNode
from dsave.savedmodel.nodes import (
    RESOURCE,
    Nodes,
    add_argument,
    add_handle_argument,
    add_node,
    node_name,
)


@dataclass(frozen=True, slots=True)
class Resource:
    """One handle: its node in the main graph, its object, its checkpoint key, what it holds.

    `box` is its part of the variable. `by_value`: functions take the value and no handle, as
    they do of the path of an asset; the node is then that of the value.
    """

    node: str
    node_id: int
    key: str
    dtype: DType
    box: Box
    by_value: bool = False

    @property
    def argument_type(self) -> int:
        """The `DataType` of what functions take."""
        return self.dtype.number if self.by_value else RESOURCE


@dataclass(frozen=True, slots=True)
class GraphVariable:
    """A variable, its checkpoint key, and its resources.

    The first resource holds the whole value, and after it come the other replicas or the parts,
    if the policy expands. But of replicas that are added up there is no whole.
    """

    variable: Variable
    key: str
    resources: tuple[Resource, ...]

    @property
    def is_aggregate(self) -> bool:
        """Whether the resources are replicas that are added up."""
        return all(resource.key != self.key for resource in self.resources)


def add_capture(function: FunctionDef, name: str, resource: Resource) -> None:
    """Add what a function reads to its arguments."""
    if resource.by_value:
        add_argument(function, name, resource.dtype)
    else:
        add_handle_argument(function, name, resource.dtype, resource.box.lengths)


def add_variable(
    nodes: Nodes,
    names: Names,
    node_id: int,
    key: str,
    variable: Variable,
    components: Sequence[ComponentNode],
    policy: VariablePolicy,
) -> GraphVariable:
    """Add a variable's handles and reads, and those of its components, to the main graph."""
    wanted = [
        (own.component.name, own.component.device, own.node_id, own.key, own.component.box)
        for own in components
    ]
    first_is_own = bool(components) and components[0].component is variable.components[0]
    if not first_is_own or isinstance(variable, ShardedVariable):
        whole = variable.name, variable.device, node_id, key, Box.whole(variable.shape)
        wanted.insert(0, whole)
    resources = []
    for name, device, object_id, entry, box in wanted:
        node = names.unique(node_name(name))
        place = device if policy.saves_devices else ""
        add_node(
            nodes,
            node,
            "VarHandleOp",
            (),
            place,
            dtype=variable.dtype,
            shape=box.lengths,
            # Sessions find a variable by this name alone, so it is as unique as the node's.
            shared_name=node.encode(),
            debug_name=f"{node}/".encode(),
        )
        read = names.unique(f"{node}/Read/ReadVariableOp")
        add_node(nodes, read, "ReadVariableOp", (node,), place, dtype=variable.dtype)
        resources.append(Resource(node, object_id, entry, variable.dtype, box))
    return GraphVariable(variable, key, tuple(resources))
