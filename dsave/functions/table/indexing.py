"""Elements of tensors: slices, and gathering by an array of indices."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.extents import extents, vector
from dsave.functions.table.rules import ints, known, normal_axis
from dsave.functions.table.shapes import shape
from dsave.functions.tensor import Face, Known, Tensor
from dsave.functions.tracer import Value, apply, known_shape, operand

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


def _gathered(attrs: AnyAttrs, x: Value, indices: Value, axis: Array) -> Shape:
    place = normal_axis(int(axis), x.ndim, "numpy.take")
    inner = indices.shape[attrs["batch_dims"] :]
    return (*x.shape[:place], *inner, *x.shape[place + 1 :])


def _gather(attrs: AnyAttrs, x: Array, indices: Array, axis: Array) -> Array:
    depth = attrs["batch_dims"]
    if not depth:
        return np.take(x, indices, int(axis))
    assert isinstance(depth, int)
    batches = np.ndindex(*x.shape[:depth])
    inner = int(axis) % x.ndim - depth
    parts = [np.take(x[batch], indices[batch], inner) for batch in batches]
    return np.reshape(np.stack(parts), (*x.shape[:depth], *parts[0].shape))


_GATHER = op(
    "GatherV2(params: Tparams, indices: Tindices, axis: Taxis) -> output: Tparams",
    shape=_gathered,
    kernel=_gather,
    batch_dims=0,
)


def _getitem(x: Any, index: Any) -> Any:
    items = _expanded(x, index if isinstance(index, tuple) else (index,))
    places = [place for place, item in enumerate(items) if _is_array(item)]
    if not places:
        return _basic(x, items)
    if len(places) > 1:
        raise trace_error(_NAME, "at most one index is an array; dsave has no op for more")
    (place,) = places
    if any(isinstance(item, int | Tensor) for item in items[:place] + items[place + 1 :]):
        raise trace_error(_NAME, "an array of indices goes with slices only, not with numbers")
    axis = place
    rest = [*items[:place], slice(None), *items[place + 1 :]]
    return take(_basic(x, rest), items[place], axis)


def _expanded(x: Tensor, items: Sequence[Any]) -> list[Any]:
    """One item for each axis of x, and for each new one."""
    items = [_item(item) for item in items]
    missing = x.ndim - sum(item is not None and item is not Ellipsis for item in items)
    if missing < 0:
        raise trace_error(_NAME, f"{x.ndim - missing} indices for a tensor of {x.spec}")
    if sum(item is Ellipsis for item in items) > 1:
        raise trace_error(_NAME, "an index has one ellipsis at most")
    place = next((p for p, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:place], *[slice(None)] * missing, *items[place + 1 :]]


def _item(item: Any) -> Any:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_) or operand(item).dtype == bool:
        raise trace_error(
            _NAME, "with a mask the result's shape depends on values; numpy.where keeps it"
        )
    value = operand(item)
    if value.dtype.kind not in "iu":
        raise trace_error(_NAME, f"an index is an integer, got {value.dtype}")
    return value if isinstance(value, Tensor) or value.ndim else value.item()


def _is_array(item: Any) -> bool:
    return isinstance(item, Tensor | np.ndarray) and item.ndim > 0


def _is_whole(item: Any) -> bool:
    # A bound may be a tensor, which `==` would record.
    return isinstance(item, slice) and item.start is item.stop is item.step is None


def _basic(x: Tensor, items: Sequence[Any]) -> Any:
    """By slices, numbers and new axes: one StridedSlice, or nothing if it takes all."""
    if all(map(_is_whole, items)):
        return x
    begin: list[Any] = []
    end: list[Any] = []
    strides: list[int] = []
    masks = dict.fromkeys(("begin_mask", "end_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    axis = 0
    for place, item in enumerate(items):
        bit = 1 << place
        start, stop, step = 0, 0, 1
        if item is None:
            masks["new_axis_mask"] |= bit
        elif isinstance(item, slice):
            step = 1 if item.step is None else operator.index(item.step)
            if not step:
                raise trace_error(_NAME, "a slice's step is not 0")
            start, stop = (0 if bound is None else bound for bound in (item.start, item.stop))
            masks["begin_mask"] |= bit if item.start is None else 0
            masks["end_mask"] |= bit if item.stop is None else 0
            axis += 1
        else:
            start, stop = item, item + 1
            _check_bounds(item, x.spec.shape[axis])
            masks["shrink_axis_mask"] |= bit
            # The element before the end is -1, which as a stop would be 0.
            masks["end_mask"] |= bit if isinstance(item, int) and item == -1 else 0
            axis += 1
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


def take(a: Any, indices: Any, axis: Any = None, out: None = None, mode: str = "raise") -> Any:
    """As `numpy.take`."""
    del out
    if mode != "raise":
        raise trace_error("numpy.take", f"mode is 'raise', got {mode!r}")
    a = operand(a)
    if axis is None:
        a, axis = np.ravel(a), 0
    place = normal_axis(axis, a.ndim, "numpy.take")
    return apply(_GATHER, a, _from_start(a, operand(indices), place), ints(place))


def _from_start(a: Any, indices: Value, axis: int) -> Value:
    """The indices with negative ones, which TensorFlow refuses, counted from the start."""
    if indices.dtype.kind == "u":
        return cast(indices, "int64" if indices.dtype.itemsize > 2 else "int32")
    if indices.dtype.kind != "i":
        raise trace_error("numpy.take", f"indices are integers, got {indices.dtype}")
    wide = cast(indices, "int64" if indices.dtype.itemsize > 4 else "int32")
    extent = known_shape(a)[axis]
    if not isinstance(wide, Tensor):
        if extent is not None:
            lowest, highest = wide.min(initial=0), wide.max(initial=0)
            if wide.size and not -extent <= lowest <= highest < extent:
                worst = lowest if lowest < -extent else highest
                raise trace_error(
                    "numpy.take", f"index {worst} of an axis with {extent} elements"
                )
            # On small arrays python ints would be int64, on which the graph need not compute.
            return ints(np.where(wide < 0, wide + extent, wide))
        if not (wide < 0).any():
            return ints(wide)
    count = shape(a)[axis] if extent is None else extent
    return np.where(wide < 0, wide + cast(count, wide.dtype), wide)


OPS: tuple[Op, ...] = (_STRIDED_SLICE, _GATHER)

FACES: dict[Callable[..., Any], Face] = {operator.getitem: _getitem, np.take: take}
