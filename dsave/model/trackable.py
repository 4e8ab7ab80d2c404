"""The object tree: modules, lists, tuples and dicts that lead to variables, functions, assets.

Nodes are numbered breadth first from the root. An object that is reachable by two names is
one node, and its checkpoint key is the first path to it
(tensorflow/python/checkpoint/graph_view.py, trackable_utils.py).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsave.errors import ModelError, OptionTypeError
from dsave.model.asset import Asset
from dsave.model.variable import Variable

METHOD_SLOT = "function "
"""Before the name of a method: where an object keeps its own function of it."""

_LOOKED_INTO = 3
"""Levels of objects that are not followed in which variables are looked for."""

VALUE_SUFFIX = ".ATTRIBUTES/VARIABLE_VALUE"
"""The last part of the key of a variable's value."""


class Module:
    """A plain container: its attributes are what is saved. Subclass it for models.

    Attributes that are variables, functions, assets, modules, or lists, tuples and dicts that
    hold some, are saved under their names; methods that are functions too. All others (numbers,
    arrays, strings) are not part of the model.
    """

    if TYPE_CHECKING:  # any attribute may be set, and read again; `object` does the rest

        def __setattr__(self, name: str, value: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...


def is_text(name: str) -> bool:
    """Whether files can hold a name: half of a surrogate pair is no character."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


FunctionsOf = Callable[[Module], Mapping[str, object]]
"""The functions among a module's attributes, its methods included."""


@dataclass(frozen=True, slots=True)
class Node:
    """One object of the tree.

    `children` are (local name, node id) in order. `path` is the names that lead from the
    root, the first ones found.
    """

    value: object
    path: tuple[str, ...]
    children: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ObjectGraph:
    """All objects of a model, breadth first; node 0 is the root."""

    nodes: tuple[Node, ...]

    def variables(self) -> Iterator[tuple[int, str, Variable]]:
        """(node id, checkpoint key, variable) of each variable, in node order."""
        for node_id, node in enumerate(self.nodes):
            if isinstance(node.value, Variable):
                yield node_id, checkpoint_key(node.path), node.value

    def assets(self) -> Iterator[tuple[int, Asset]]:
        """(node id, asset) of each asset, in node order."""
        for node_id, node in enumerate(self.nodes):
            if isinstance(node.value, Asset):
                yield node_id, node.value


def checkpoint_key(path: tuple[str, ...]) -> str:
    """The key of the variable at `path`: its names escaped, joined, and the value's suffix."""
    return "/".join([*map(_escaped, path), VALUE_SUFFIX])


def _escaped(name: str) -> str:
    return name.replace(".", "..").replace("/", ".S")


def trace(
    root: object,
    functions_of: FunctionsOf = lambda _: {},
    leaf_types: tuple[type, ...] = (),
) -> ObjectGraph:
    """Walk the objects below `root`; objects of `leaf_types` are nodes too, such as functions.

    Raises:
        OptionTypeError: `root` is not a Module.
        ModelError: an attribute named `signatures`, a dict with a key that is not a str, or a
            name that no file can hold.
    """
    if not isinstance(root, Module):
        raise OptionTypeError("model", f"a dsave.Module is wanted, got a {type(root).__name__}")
    if "signatures" in vars(root) or "signatures" in functions_of(root):
        raise ModelError(
            "signatures",
            "this attribute of the model is reserved for what `save(signatures=...)` stores; "
            "del it, or give it another name",
        )
    ends = (Variable, Asset, Module, *leaf_types)
    ids: dict[int, int] = {id(root): 0}
    paths: dict[int, tuple[str, ...]] = {0: ()}
    nodes: list[Node] = []
    queue: deque[object] = deque([root])
    while queue:
        value = queue.popleft()
        path = paths[len(nodes)]
        children = []
        for name, child in _members(value, path, functions_of):
            if id(child) not in ids:
                if not _tracked(child, ends, set()):
                    continue
                ids[id(child)] = len(ids)
                paths[ids[id(child)]] = (*path, _checked(name, path))
                queue.append(child)
            children.append((name, ids[id(child)]))
        nodes.append(Node(value, path, tuple(children)))
    return ObjectGraph(tuple(nodes))


def left_out(graph: ObjectGraph) -> Iterator[str]:
    """Paths of what holds variables and is not followed: sets, deques, other objects."""
    for node in graph.nodes:
        named = dict(node.children)
        for name, value in _members(node.value, node.path, lambda _: {}):
            if name not in named and _holds_variables(value, _LOOKED_INTO):
                yield "/".join((*node.path, name))


def _holds_variables(value: object, levels: int) -> bool:
    if isinstance(value, Variable | Module):
        return True
    return levels > 0 and any(_holds_variables(each, levels - 1) for each in _held(value))


def _held(value: object) -> Iterable[object]:
    if isinstance(value, str | bytes | type):
        return ()
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, AbstractSet | Sequence):
        return value
    return vars(value).values() if hasattr(value, "__dict__") else ()


def _checked(name: str, path: tuple[str, ...]) -> str:
    # Keys of a checkpoint that begin with NUL are those of slices.
    if not is_text(name) or (not path and name.startswith("\0")):
        raise ModelError(repr("/".join((*path, name))), "no checkpoint can have this name")
    return name


def _members(
    value: object, path: tuple[str, ...], functions_of: FunctionsOf
) -> Iterator[tuple[str, object]]:
    if isinstance(value, Module):
        functions = functions_of(value)
        for name, item in vars(value).items():
            if name not in functions and not name.startswith(METHOD_SLOT):
                yield name, item
        yield from functions.items()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ModelError(
                    "/".join(path),
                    f"a dict that holds variables or functions has only str keys, got {key!r}",
                )
            yield key, item
    elif isinstance(value, list | tuple):
        # A member of a namedtuple has two names, its field's first, as in TensorFlow.
        yield from zip(getattr(value, "_fields", ()), value, strict=False)
        yield from ((str(index), item) for index, item in enumerate(value))


def _tracked(value: object, ends: tuple[type, ...], seen: set[int]) -> bool:
    """Whether the value is one of the `ends`, or a container that leads to one."""
    if isinstance(value, ends):
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, Mapping):
        return any(_tracked(item, ends, seen) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_tracked(item, ends, seen) for item in value)
    return False
