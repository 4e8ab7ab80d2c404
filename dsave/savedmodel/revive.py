"""Make the containers of a loaded model: modules, lists, tuples and dicts, around given leaves.

What a list held beside objects was not saved: in its place is None, as in TensorFlow. A tuple
whose members have names becomes a namedtuple again.
"""

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from dsave.errors import CorruptionError
from dsave.model.trackable import Module
from dsave.savedmodel.tree import Kind, Tree, TreeNode

_DIGITS = 9
_MAX_SPARE = 1 << 20
"""Items of all lists and tuples that are there on the word of the last one's name alone."""


def revive(tree: Tree, root: Module, leaves: Mapping[int, object], file: str) -> None:
    """Fill `root` with what the tree holds; children that are no container and no leaf are not.

    `leaves` are what some nodes have become, by number; `file` names the file in errors.

    Raises:
        CorruptionError: a list or a tuple cannot have these items.
    """
    _Revival(tree, root, leaves, file).fill()


class CallableModule(Module):
    """A module that was saved with a function `__call__`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return vars(self)["__call__"](*args, **kwargs)


class _Revival:
    def __init__(
        self, tree: Tree, root: Module, leaves: Mapping[int, object], file: str
    ) -> None:
        self._nodes = tree.nodes
        self._file = file
        self._spare = _MAX_SPARE
        self._made: dict[int, Any] = {**leaves, 0: root}
        for number, node in enumerate(self._nodes):
            if number not in self._made and node.kind in _EMPTY:
                is_called = any(name == "__call__" and c in leaves for name, c in node.children)
                is_module = node.kind is Kind.MODULE
                kind = CallableModule if is_module and is_called else _EMPTY[node.kind]
                self._made[number] = kind()

    def fill(self) -> None:
        """Tuples first, since they cannot be filled later; then what may lead in circles."""
        self._make_tuples()
        for number, node in enumerate(self._nodes):
            if node.kind is Kind.LIST:
                self._made[number].extend(self._in_order(node)[0])
            elif node.kind is Kind.DICT:
                self._made[number].update(self._members(node))
            elif node.kind is Kind.MODULE and number in self._made:
                vars(self._made[number]).update(self._members(node))

    def _members(self, node: TreeNode) -> dict[str, Any]:
        return {name: self._made[child] for name, child in node.children if child in self._made}

    def _make_tuples(self) -> None:
        waiting: dict[int, int] = {}
        holders: dict[int, list[int]] = {}
        for number, node in enumerate(self._nodes):
            if node.kind is Kind.TUPLE:
                held = [c for _, c in node.children if self._nodes[c].kind is Kind.TUPLE]
                waiting[number] = len(held)
                for child in held:
                    holders.setdefault(child, []).append(number)
        ready = [number for number, held in waiting.items() if not held]
        for number in ready:
            self._made[number] = self._tuple(self._nodes[number])
            for holder in holders.get(number, ()):
                waiting[holder] -= 1
                if not waiting[holder]:
                    ready.append(holder)
        if len(ready) < len(waiting):
            raise CorruptionError(self._file, "", "it holds a tuple that is its own member")

    def _tuple(self, node: TreeNode) -> tuple[Any, ...]:
        items, fields = self._in_order(node)
        if len(fields) == len(items) and items:
            try:
                return namedtuple("Members", fields)(*items)  # noqa: PYI024
            except ValueError:
                pass  # names that Python does not take
        return tuple(items)

    def _in_order(self, node: TreeNode) -> tuple[list[Any], list[str]]:
        """The items of a list or tuple by their numbers, and the other names that they have."""
        items: dict[int, Any] = {}
        fields = []
        for name, child in node.children:
            if not (name.isascii() and name.isdigit() and len(name) <= _DIGITS):
                fields.append(name)
            elif child in self._made:
                items[int(name)] = self._made[child]
        length = max(items, default=-1) + 1
        self._spare -= length - len(items)
        if self._spare < 0:
            raise CorruptionError(self._file, "", f"a list in it claims to have {length} items")
        return [items.get(index) for index in range(length)], fields


_EMPTY: Mapping[Kind, type[Any]] = {Kind.MODULE: Module, Kind.LIST: list, Kind.DICT: dict}
