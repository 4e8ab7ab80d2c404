"""What a SavedModel holds, as nouns: its objects, and its variables as they were saved."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from dsave.model.dtype import DType
from dsave.model.variable import Aggregation, Synchronization


class Kind(enum.Enum):
    """What an object is here."""

    MODULE = "_generic_user_object"
    LIST = "trackable_list_wrapper"
    TUPLE = "trackable_tuple_wrapper"
    DICT = "trackable_dict_wrapper"
    VARIABLE = "variable"
    FUNCTION = "function"
    CONCRETE_FUNCTION = "bare_concrete_function"
    ASSET = "asset"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class StoredVariable:
    """A variable as it was saved. Its value is the checkpoint's entry `key`.

    `device` is empty where none was saved; `components` are the devices of the components of
    an expanded variable.
    """

    key: str
    path: str
    name: str
    dtype: DType
    shape: tuple[int, ...]
    trainable: bool
    synchronization: Synchronization
    aggregation: Aggregation
    device: str
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One object: `children` are (name, node id) in order."""

    kind: Kind
    children: tuple[tuple[str, int], ...]
    variable: StoredVariable | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """The objects that the root, node 0, leads to. The others are `OTHER`, without children.

    `missing` are the paths of variables whose values are not in the checkpoint. `components`
    are those of expanded variables, by node id: no children of the root here, but functions
    read them.
    """

    nodes: tuple[TreeNode, ...]
    missing: tuple[str, ...]
    components: Mapping[int, StoredVariable]

    def variables(self) -> dict[int, StoredVariable]:
        """The variables, by node id."""
        return {
            number: node.variable
            for number, node in enumerate(self.nodes)
            if node.variable is not None
        }


def numbered(name: str, count: int) -> list[str]:
    """`name`, `name_1` and so on: as many as one of them is not among `count` others."""
    return [name, *(f"{name}_{index}" for index in range(1, count + 1))]
