"""The arrays in a graph: a node for each that differs, with a copy of what it was."""

from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np

from dsave.functions.graph import Array, Output
from dsave.model.dtype import DType, dtype_of

_SMALL = 4096
"""Bytes of an array that is sooner hashed than compared."""


class Constants:
    """The constants of one graph; `add` makes a node of a read-only array."""

    def __init__(self, add: Callable[[DType, Array], Output]) -> None:
        self._add = add
        self._by_content: dict[object, tuple[Array, Output]] = {}
        self._seen: dict[int, tuple[ref[Array], Array, Output]] = {}

    def __getitem__(self, array: Array) -> Output:
        """The node that has the elements that this array has now."""
        # A large one is looked for as the object that it is, if that was not changed since.
        array_id = id(array)
        if array_id in self._seen:
            seen, kept, output = self._seen[array_id]
            if seen() is array and (_is_frozen(array) or _are_equal(array, kept)):
                return output
        kept, output = self._kept(array)
        if array.nbytes > _SMALL and array.dtype != object:
            self._seen[array_id] = ref(array), kept, output
        return output

    def _kept(self, array: Array) -> tuple[Array, Output]:
        dtype = dtype_of(array.dtype)
        # The content is copied, since the user may change the array after this use of it.
        if dtype.is_string:
            content: object = tuple(array.ravel().tolist())
            kept = np.array(array, object)
            kept.flags.writeable = False
        else:
            content = array.tobytes()
            kept = np.frombuffer(content, array.dtype).reshape(array.shape)
        key = (dtype, array.shape, content)
        if key not in self._by_content:
            self._by_content[key] = kept, self._add(dtype, kept)
        return self._by_content[key]


def _is_frozen(array: Array) -> bool:
    """Whether nobody can have changed it."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not owner.flags.writeable:
        owner = owner.base
    return owner is None


def _are_equal(array: Array, kept: Array) -> bool:
    """Whether they have the same bits."""
    if not array.flags.c_contiguous:
        return array.tobytes() == kept.tobytes()
    words = np.uint64 if array.nbytes % 8 == 0 else np.uint8
    return np.array_equal(array.reshape(-1).view(words), kept.reshape(-1).view(words))
