"""The objects of a SavedModel, whoever wrote it: containers, and the variables in them.

`saved_model.pb` says what each object is, the object graph in the checkpoint where a variable's
value lies. Both name the same objects, and are followed by names together, from the root.
What is neither a container nor a leaf that the caller makes is left out.

A variable that an optimizer keeps for another one is no object's child. Here it becomes a
member of a dict of dicts: `optimizer.slots["momentum"]["path/of/the/variable"]`.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from google.protobuf.message import DecodeError

from dsave.errors import CorruptionError, ModelError
from dsave.format.bundle import Entry
from dsave.format.naming import OBJECT_GRAPH_KEY
from dsave.proto.object_graph_pb2 import (
    SavedObject,
    SavedObjectGraph,
    TrackableObjectGraph,
)
from dsave.proto.saved_model_pb2 import MetaGraphDef, SavedModel
from dsave.savedmodel.components import container_of
from dsave.savedmodel.read_variable import read_variable
from dsave.savedmodel.tree import Kind, StoredVariable, Tree, TreeNode, numbered

_VALUE = "VARIABLE_VALUE"
_SIGNATURES = "signatures"
"""The root's child that is the map of signatures, and no part of the model."""

_SLOTS = "slots"

_LEAVES = (Kind.FUNCTION, Kind.CONCRETE_FUNCTION, Kind.ASSET)


def parse_saved_model(data: bytes, file: str) -> MetaGraphDef:
    """The first graph of a serialized SavedModel; `file` names it in errors.

    Raises:
        CorruptionError: the bytes are no SavedModel.
    """
    try:
        proto = SavedModel.FromString(data)
    except DecodeError:
        raise CorruptionError(file, "", "it cannot be parsed as a SavedModel") from None
    if not proto.meta_graphs:
        raise CorruptionError(file, "", "it holds no graph")
    return proto.meta_graphs[0]


def read_tree(
    meta_graph: MetaGraphDef,
    object_graph: bytes | None,
    entries: Mapping[str, tuple[Entry, ...]],
    file: str,
) -> Tree:
    """The tree of a SavedModel; `file` names its saved_model.pb in errors.

    `entries` are those of the checkpoint's index, by key.

    Raises:
        CorruptionError: what the files say of the objects contradicts itself.
        ModelError: it has no objects, as TensorFlow 1 saved.
    """
    if not meta_graph.object_graph_def.nodes:
        raise ModelError(file, "it holds a graph and no objects; dsave.open reads its tensors")
    walk = _Walk(meta_graph.object_graph_def, _tracked(object_graph, file), entries, file)
    tree = walk.tree()
    if walk.problems:
        raise walk.problems[0]
    return tree


def tree_problems(
    meta_graph: MetaGraphDef,
    object_graph: bytes | None,
    entries: Mapping[str, tuple[Entry, ...]],
    file: str,
) -> list[CorruptionError]:
    """All for which `read_tree` refuses the objects. Without objects there is none."""
    if not meta_graph.object_graph_def.nodes:
        return []
    try:
        walk = _Walk(meta_graph.object_graph_def, _tracked(object_graph, file), entries, file)
        walk.tree()
    except CorruptionError as error:
        return [error]
    return walk.problems


def _tracked(object_graph: bytes | None, file: str) -> TrackableObjectGraph:
    if object_graph is None:
        raise CorruptionError(file, OBJECT_GRAPH_KEY, "the checkpoint has no object graph")
    try:
        return TrackableObjectGraph.FromString(object_graph)
    except DecodeError:
        raise CorruptionError(file, OBJECT_GRAPH_KEY, "it cannot be parsed") from None


class _Walk:
    """Both graphs, followed from the root, breadth first.

    `problems` are the variables of which they contradict each other, or the index.
    """

    def __init__(
        self,
        saved: SavedObjectGraph,
        tracked: TrackableObjectGraph,
        entries: Mapping[str, tuple[Entry, ...]],
        file: str,
    ) -> None:
        self._saved = saved
        self._tracked = tracked
        self._entries = entries
        self._file = file
        self.problems: list[CorruptionError] = []
        self._container = container_of(saved)
        self._twins: dict[int, int | None] = {0: 0 if tracked.nodes else None}
        """For each object met, its number in the checkpoint's graph."""
        self._parents: dict[int, tuple[int, str]] = {}
        """Where each object was met first. Paths are long, so they are made when asked for."""
        self._missing: list[str] = []

    def tree(self) -> Tree:
        """What they lead to."""
        nodes = [TreeNode(Kind.OTHER, ())] * len(self._saved.nodes)
        queue = deque([0])
        while queue:
            number = queue.popleft()
            nodes[number] = self._node(number)
            twins = self._twins_below(number)
            for name, child in nodes[number].children:
                if child not in self._twins:
                    self._parents[child] = (number, name)
                    self._twins[child] = twins.get(name)
                    queue.append(child)
        for number in list(self._twins):
            self._add_slots(nodes, number)
        missing = tuple(self._missing)
        return Tree(tuple(nodes), missing, self._components())

    def _components(self) -> dict[int, StoredVariable]:
        found = {}
        number = self._container
        if number is not None:
            name = next(
                c.local_name for c in self._saved.nodes[0].children if c.node_id == number
            )
            self._parents[number] = (0, name)
            self._twins[number] = self._twins_below(0).get(name)
            twins = self._twins_below(number)
            for child in self._saved.nodes[number].children:
                self._parents[child.node_id] = (number, child.local_name)
                self._twins[child.node_id] = twins.get(child.local_name)
                variable = self._variable(child.node_id)
                if variable is not None:
                    found[child.node_id] = variable
        return found

    def _twins_below(self, number: int) -> dict[str, int]:
        twin = self._twins[number]
        children = () if twin is None else self._tracked.nodes[twin].children
        return {
            child.local_name: self._checked(child.node_id, self._tracked, child.local_name)
            for child in children
        }

    def _path(self, number: int) -> str:
        names: list[str] = []
        while number in self._parents:
            number, name = self._parents[number]
            names.append(name)
        return "/".join(reversed(names))

    def _node(self, number: int) -> TreeNode:
        saved = self._saved.nodes[number]
        kind = Kind.MODULE if number == 0 else _kind(saved)
        if kind is Kind.VARIABLE or (kind is Kind.MODULE and self._value_key(number)):
            variable = self._variable(number)
            return TreeNode(Kind.OTHER if variable is None else Kind.VARIABLE, (), variable)
        if kind in _LEAVES or kind is Kind.OTHER:
            return TreeNode(kind, ())
        children = [
            (child.local_name, self._checked(child.node_id, self._saved, child.local_name))
            for child in saved.children
            if number or (child.local_name != _SIGNATURES and child.node_id != self._container)
        ]
        return TreeNode(kind, tuple(children))

    def _checked(
        self, number: int, graph: SavedObjectGraph | TrackableObjectGraph, name: str
    ) -> int:
        if not 0 <= number < len(graph.nodes):
            raise CorruptionError(
                self._file, name, f"object {number} of a graph of {len(graph.nodes)} objects"
            )
        return number

    def _value_key(self, number: int) -> tuple[str, str] | None:
        """(checkpoint key, full name) of an object's value."""
        twin = self._twins[number]
        for attribute in () if twin is None else self._tracked.nodes[twin].attributes:
            if attribute.name == _VALUE:
                return attribute.checkpoint_key, attribute.full_name
        return None

    def _variable(self, number: int) -> StoredVariable | None:
        path = self._path(number)
        found = self._value_key(number)
        if found is None:
            problem = "the checkpoint's object graph has no value of it"
            self.problems.append(CorruptionError(self._file, path, problem))
            return None
        key, full_name = found
        if key not in self._entries:
            self._missing.append(path)
            return None
        try:
            return read_variable(
                self._saved.nodes[number],
                self._entries[key][0],
                file=self._file,
                path=path,
                key=key,
                full_name=full_name,
            )
        except CorruptionError as error:
            self.problems.append(error)
            return None

    def _add_slots(self, nodes: list[TreeNode], number: int) -> None:
        """Give an optimizer its dict of dicts, if it keeps variables for others."""
        by_slot: dict[str, list[tuple[str, int]]] = {}
        for slot in self._saved.nodes[number].slot_variables:
            kept, original = slot.slot_variable_node_id, slot.original_variable_node_id
            self._checked(kept, self._saved, slot.slot_name)
            if original not in self._twins:
                continue  # of a variable that is not part of the model
            name = self._path(original)
            if kept not in self._twins:
                self._parents[kept] = (number, f"{_SLOTS}/{slot.slot_name}/{name}")
                self._twins[kept] = self._slot_twin(number, original, slot.slot_name)
                nodes[kept] = self._node(kept)
            by_slot.setdefault(slot.slot_name, []).append((name, kept))
        if by_slot and nodes[number].kind is Kind.MODULE:
            slots = []
            for name, members in by_slot.items():
                slots.append((name, len(nodes)))
                nodes.append(TreeNode(Kind.DICT, tuple(members)))
            taken = {name for name, _ in nodes[number].children}
            name = next(n for n in numbered(_SLOTS, len(taken)) if n not in taken)
            children = (*nodes[number].children, (name, len(nodes)))
            nodes[number] = replace(nodes[number], children=children)
            nodes.append(TreeNode(Kind.DICT, tuple(slots)))

    def _slot_twin(self, number: int, original: int, name: str) -> int | None:
        twin, about = self._twins[number], self._twins[original]
        for slot in () if twin is None else self._tracked.nodes[twin].slot_variables:
            if slot.original_variable_node_id == about and slot.slot_name == name:
                return self._checked(slot.slot_variable_node_id, self._tracked, name)
        return None


def _kind(saved: SavedObject) -> Kind:
    what = saved.WhichOneof("kind")
    if what == "user_object":
        identifier = saved.user_object.identifier
        kinds: Mapping[str, Kind] = {
            kind.value: kind for kind in (Kind.LIST, Kind.TUPLE, Kind.DICT)
        }
        return kinds.get(identifier, Kind.MODULE)
    leaves = {kind.value: kind for kind in (Kind.VARIABLE, *_LEAVES)}
    return leaves.get(what or "", Kind.OTHER)
