"""Elements of tensors by an index: slices, numbers, new axes, arrays and masks."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.extents import extents, vector
from dsave.functions.table.gathering import from_start, gather
from dsave.functions.table.rules import ints, known
from dsave.functions.tensor import Face, Tensor

_NAME = "indexing"

_UNKNOWN: Any = object()
"""A bound that is a tensor."""


def _items(
    attrs: AnyAttrs, begin: Known | Array, end: Known | Array, strides: Known | Array
) -> list[Any]:
    """The index that numpy would be given."""
    bounds = [
        [_UNKNOWN if bound is None else bound for bound in extents(each)]
        for each in (begin, end)
    ]
    strides = known(strides, _NAME)
    items: list[Any] = []
    for place in range(len(strides)):
        bit = 1 << place

        def has(mask: str, bit: int = bit) -> bool:
            return bool(attrs[mask] & bit)

        if has("ellipsis_mask"):
            items.append(Ellipsis)
        elif has("new_axis_mask"):
            items.append(None)
        elif has("shrink_axis_mask"):
            items.append(bounds[0][place])
        else:
            start = None if has("begin_mask") else bounds[0][place]
            stop = None if has("end_mask") else bounds[1][place]
            items.append(slice(start, stop, int(strides[place])))
    return items


def _sliced(
    attrs: AnyAttrs,
    x: Value,
    begin: Known | Array,
    end: Known | Array,
    strides: Known | Array,
) -> Shape:
    items = _items(attrs, begin, end, strides)
    taken = sum(item is not None and item is not Ellipsis for item in items)
    of_x = iter(x.shape)
    result: list[int | None] = []
    for item in items:
        if item is Ellipsis:
            result += [next(of_x) for _ in range(x.ndim - taken)]
        elif item is None:
            result.append(1)
        elif isinstance(item, slice):
            result.append(_extent(item, next(of_x)))
        else:
            next(of_x)
    return (*result, *of_x)


def _extent(item: slice, extent: int | None) -> int | None:
    if item.start is item.stop is None and item.step in {1, -1}:
        return extent
    if extent is None or item.start is _UNKNOWN or item.stop is _UNKNOWN:
        return None
    return len(range(*item.indices(extent)))


def _slice(attrs: AnyAttrs, x: Array, begin: Array, end: Array, strides: Array) -> Array:
    result: Array = x[tuple(_items(attrs, begin, end, strides))]
    return result


_STRIDED_SLICE = op(
    "StridedSlice(input: T, begin: Index, end: Index, strides: Index) -> output: T",
    shape=_sliced,
    kernel=_slice,
    begin_mask=0,
    end_mask=0,
    ellipsis_mask=0,
    new_axis_mask=0,
    shrink_axis_mask=0,
)


def _getitem(x: Any, index: Any) -> Any:
    given = [_item(item) for item in (index if isinstance(index, tuple) else (index,))]
    items = _expanded(x, given)
    if not any(map(_is_array, items)):
        return _basic(x, items)
    items = _without_masks(x, items)
    # Numbers are taken first, so that one array remains where there was one.
    y = _basic(x, [slice(None) if _is_array(item) else item for item in items])
    left = [item for item in items if _keeps_axis(item) or _is_array(item)]
    axes = [axis for axis, item in enumerate(left) if _is_array(item)]
    found, place = gather(y, [left[axis] for axis in axes], axes)
    # What arrays and numbers choose stays in its place if they stand together, or comes first.
    chosen = [place for place, item in enumerate(given) if not _keeps_axis(item)]
    wanted = axes[0] if chosen[-1] - chosen[0] < len(chosen) else 0
    if place == wanted:
        return found
    count = found.ndim - y.ndim + len(axes)
    return np.moveaxis(found, range(place, place + count), range(wanted, wanted + count))


def _expanded(x: Tensor, items: Sequence[Any]) -> list[Any]:
    """One item for each axis of x, and for each new one; a mask is one for all its axes."""
    missing = x.ndim - sum(_taken_axes(item) for item in items)
    if missing < 0:
        raise trace_error(_NAME, f"{x.ndim - missing} indices for a tensor of {x.spec}")
    if sum(item is Ellipsis for item in items) > 1:
        raise trace_error(_NAME, "an index has one ellipsis at most")
    place = next((p for p, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:place], *[slice(None)] * missing, *items[place + 1 :]]


def _taken_axes(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if _is_mask(item) else 1


def _without_masks(x: Tensor, items: Sequence[Any]) -> list[Any]:
    """Arrays in place of masks: where these are true, an array for each axis."""
    found: list[Any] = []
    axis = 0
    for item in items:
        if _is_mask(item):
            extents = known_shape(x)[axis : axis + item.ndim]
            pairs = zip(extents, known_shape(item), strict=True)
            if not all(None in {n, m} or n == m for n, m in pairs):
                raise trace_error(_NAME, f"a mask of {item.shape} for a shape of {extents}")
            found += np.nonzero(item)
        elif _is_array(item):
            found.append(from_start(x, item, axis))
        else:
            found.append(item)
        axis += _taken_axes(item)
    return found


def _item(item: Any) -> Any:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    value = operand(item)
    if value.dtype == bool and not value.ndim:
        raise trace_error(_NAME, "a mask has an axis at least; numpy.where chooses by a bool")
    if value.dtype.kind not in "iub":
        raise trace_error(_NAME, f"an index is an integer, got {value.dtype}")
    return value if isinstance(value, Tensor) or value.ndim else value.item()


def _is_array(item: Any) -> bool:
    return isinstance(item, Tensor | np.ndarray) and item.ndim > 0


def _is_mask(item: Any) -> bool:
    return _is_array(item) and item.dtype == bool


def _keeps_axis(item: Any) -> bool:
    return item is None or item is Ellipsis or isinstance(item, slice)


def _is_whole(item: Any) -> bool:
    # A bound may be a tensor, which `==` would record.
    return isinstance(item, slice) and item.start is item.stop is item.step is None


def _basic(x: Tensor, items: Sequence[Any]) -> Any:
    """By slices, numbers and new axes: one StridedSlice, which gets the new axes then."""
    # The op has new axes as well, which TensorFlow's optimiser loses where a Pack is cut.
    y = _cut(x, [item for item in items if item is not None])
    left = [item for item in items if _keeps_axis(item)]
    new = tuple(axis for axis, item in enumerate(left) if item is None)
    return np.expand_dims(y, new) if new else y


def _cut(x: Tensor, items: Sequence[Any]) -> Any:
    """By slices and numbers: one StridedSlice, or nothing if it takes all."""
    if all(map(_is_whole, items)):
        return x
    begin: list[Any] = []
    end: list[Any] = []
    strides: list[int] = []
    masks = dict.fromkeys(("begin_mask", "end_mask", "shrink_axis_mask"), 0)
    for place, item in enumerate(items):
        bit = 1 << place
        start, stop, step = 0, 0, 1
        if isinstance(item, slice):
            step = 1 if item.step is None else operator.index(item.step)
            if not step:
                raise trace_error(_NAME, "a slice's step is not 0")
            start, stop = (0 if bound is None else bound for bound in (item.start, item.stop))
            masks["begin_mask"] |= bit if item.start is None else 0
            masks["end_mask"] |= bit if item.stop is None else 0
        else:
            start, stop = item, item + 1
            _check_bounds(item, x.spec.shape[place])
            masks["shrink_axis_mask"] |= bit
            # The element before the end is -1, which as a stop would be 0.
            masks["end_mask"] |= bit if isinstance(item, int) and item == -1 else 0
        begin.append(start)
        end.append(stop)
        strides.append(step)
    bounds = _alike([vector(begin), vector(end), ints(strides)])
    return apply(_STRIDED_SLICE, x, *bounds, **masks)


def _check_bounds(item: Any, extent: int | None) -> None:
    if isinstance(item, int) and extent is not None and not -extent <= item < extent:
        raise trace_error(_NAME, f"index {item} of an axis with {extent} elements")


def _alike(values: list[Value]) -> list[Value]:
    wide = any(value.dtype.itemsize > 4 or value.dtype == np.uint32 for value in values)
    return [cast(value, "int64" if wide else "int32") for value in values]


OPS: tuple[Op, ...] = (_STRIDED_SLICE,)

FACES: dict[Callable[..., Any], Face] = {operator.getitem: _getitem}
