"""Lists of tensors, which loops of recurrent models fill and read: no arrays, so in no table.

Source: tensorflow/core/kernels/list_kernels.cc. An element that was never set is zeros.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from dsave.functions.operands import Value
from dsave.model.dtype import dtype_of

AnyAttrs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TensorList:
    """The elements; None is one that was never set. `shape` is what is known of theirs."""

    items: tuple[Value | None, ...]
    shape: tuple[int, ...] | None

    def element(self, attrs: AnyAttrs, place: Any, shape: Any) -> Value:
        """An element; `shape` is what its reader knows of it."""
        item = self.items[operator.index(place)]
        if item is not None:
            return item
        known = next((v.shape for v in self.items if v is not None), None)
        for extents in (known, self.shape, _shape(shape)):
            if extents is not None and all(n is not None and n >= 0 for n in extents):
                zeros: Value = np.zeros(extents, dtype_of(attrs["element_dtype"]).numpy)
                return zeros
        raise ValueError("an element of unknown shape was never set")

    def with_element(self, place: Any, value: Value, *, resize: bool) -> "TensorList":
        """The list with another element."""
        items, number = list(self.items), operator.index(place)
        if resize:
            items += [None] * (number + 1 - len(items))
        items[number] = value
        return TensorList(tuple(items), self.shape)


def _shape(given: Any) -> tuple[int, ...] | None:
    """The extents, -1 for unknown ones; None if not even their number is known."""
    array = np.asarray(given)
    return tuple(array.tolist()) if array.ndim else None


def _stack(attrs: AnyAttrs, held: TensorList, shape: Any) -> Value:
    if not held.items:
        extents = _shape(shape) or held.shape or ()
        empty: Value = np.zeros((0, *extents), dtype_of(attrs["element_dtype"]).numpy)
        return empty
    stacked: Value = np.stack(
        [held.element(attrs, place, shape) for place in range(len(held.items))]
    )
    return stacked


LISTS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "EmptyTensorList": lambda _, shape, _most: TensorList((), _shape(shape)),
        "TensorListFromTensor": lambda _, x, shape: TensorList(tuple(x), _shape(shape)),
        "TensorListGather": lambda attrs, held, places, shape: np.stack(
            [held.element(attrs, place, shape) for place in places.tolist()]
        ),
        "TensorListGetItem": lambda attrs, held, place, shape: held.element(
            attrs, place, shape
        ),
        "TensorListLength": lambda _, held: np.array(len(held.items), np.int32),
        "TensorListPushBack": lambda _, held, x: TensorList((*held.items, x), held.shape),
        "TensorListReserve": lambda _, shape, count: TensorList(
            (None,) * operator.index(count), _shape(shape)
        ),
        "TensorListSetItem": lambda attrs, held, place, x: held.with_element(
            place, x, resize=attrs.get("resize_if_index_out_of_bounds", False)
        ),
        "TensorListStack": _stack,
    }
)
"""From attributes and inputs to the one output."""
