"""Elements of tensors by arrays of their places."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.broadcasting import stretched
from dsave.functions.table.casts import cast, whole
from dsave.functions.table.rules import broadcast, ints, normal_axis
from dsave.functions.table.shapes import extents_of, shape
from dsave.functions.tensor import Face, Tensor


def _gathered(attrs: AnyAttrs, x: Value, indices: Value, axis: Array) -> Shape:
    place = normal_axis(int(axis), x.ndim, "numpy.take")
    inner = known_shape(indices)[attrs["batch_dims"] :]
    extents = known_shape(x)
    batch = broadcast(*(known_shape(each)[: attrs["batch_dims"]] for each in (x, indices)))
    return (*batch, *extents[len(batch) : place], *inner, *extents[place + 1 :])


def _gather(attrs: AnyAttrs, x: Array, indices: Array, axis: Array) -> Array:
    _check_signs(indices)
    depth, place = attrs["batch_dims"], int(axis) % x.ndim
    if not depth:
        return np.take(x, indices, place)
    batch, inner = x.shape[:depth], indices.shape[depth:]
    rows = np.reshape(x, (math.prod(batch), *x.shape[depth:]))
    rows = np.moveaxis(rows, place - depth + 1, 1)
    picked = indices.reshape(math.prod(batch), math.prod(inner))
    found = rows[np.arange(len(rows))[:, None], picked]
    found = found.reshape(*batch, *inner, *rows.shape[2:])
    chosen = range(depth, depth + len(inner))
    return np.moveaxis(found, chosen, range(place, place + len(inner)))


def _gathered_together(_: AnyAttrs, x: Value, indices: Value) -> Shape:
    *outer, count = known_shape(indices)
    if count is None or count > x.ndim:
        raise trace_error("GatherNd", f"indices of {indices.shape} for a shape of {x.shape}")
    return (*outer, *known_shape(x)[count:])


def _gather_together(_: AnyAttrs, x: Array, indices: Array) -> Array:
    _check_signs(indices)
    if not indices.shape[-1]:
        return np.broadcast_to(x, (*indices.shape[:-1], *x.shape))
    found: Array = x[tuple(np.moveaxis(indices, -1, 0))]
    return found


def _check_signs(indices: Array) -> None:
    if indices.min(initial=0) < 0:
        raise IndexError(f"index {indices.min()} is out of bounds")


_GATHER = op(
    "GatherV2(params: Tparams, indices: Tindices, axis: Taxis) -> output: Tparams",
    shape=_gathered,
    kernel=_gather,
    batch_dims=0,
)
_GATHER_ND = op(
    "GatherNd(params: Tparams, indices: Tindices) -> output: Tparams",
    shape=_gathered_together,
    kernel=_gather_together,
)


def gather(x: Any, places: Sequence[Value], axes: Sequence[int]) -> tuple[Any, int]:
    """The elements at these places, one array of them for each of the axes.

    What is found, and the axis at which the arrays' axes are in it.
    """
    if len(axes) == 1:
        return apply(_GATHER, x, places[0], ints(axes[0])), axes[0]
    wide = any(each.dtype.itemsize > 4 for each in places)
    together = stretched([cast(each, "int64" if wide else "int32") for each in places])
    indices = np.stack(together, -1)
    others = [axis for axis in range(x.ndim) if axis not in axes]
    order = [*axes, *others]
    rows = x if order == sorted(order) else np.transpose(x, order)
    if all(known_shape(x)[axis] for axis in others):
        return apply(_GATHER_ND, rows, indices), 0
    # Of what is empty TensorFlow takes nothing by it; so the rows that are wanted are found
    # among their numbers, and taken then.
    extents = extents_of(rows)
    outer, inner = extents[: len(axes)], extents[len(axes) :]
    numbers = np.reshape(np.arange(math.prod(outer), like=rows), outer)
    found = apply(_GATHER_ND, numbers, indices)
    return apply(_GATHER, np.reshape(rows, [math.prod(outer), *inner]), found, ints(0)), 0


def take(a: Any, indices: Any, axis: Any = None, out: None = None, mode: str = "raise") -> Any:
    """As `numpy.take`."""
    del out
    if mode not in {"raise", "clip", "wrap"}:
        raise trace_error("numpy.take", f"mode is raise, clip or wrap, got {mode!r}")
    a, places = operand(a), operand(indices)
    if axis is None:
        a, axis = np.ravel(a), 0
    place = normal_axis(axis, a.ndim, "numpy.take")
    if mode == "raise":
        return gather(a, [from_start(a, places, place)], [place])[0]
    inner: Any = whole(places, "numpy.take")
    count = cast(extents_of(a)[place], inner.dtype)
    inner = np.clip(inner, 0, count - 1) if mode == "clip" else inner % count
    return gather(a, [inner if isinstance(inner, Tensor) else ints(inner)], [place])[0]


def take_along(a: Any, places: Any) -> Any:
    """The elements at places along the last axis that are those of each row alone."""
    last = a.ndim - 1
    return apply(_GATHER, a, places, ints(last), batch_dims=last)


def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    name = "numpy.take_along_axis"
    a: Any = operand(arr)
    indices = operand(indices)
    if axis is None:
        a, axis = np.ravel(a), 0
    if a.ndim != indices.ndim:
        raise trace_error(
            name, f"shapes {known_shape(a)} and {known_shape(indices)} differ in their axes"
        )
    place = normal_axis(axis, a.ndim, name)
    places: Any = from_start(a, indices, place)
    a, places = stretched([np.moveaxis(a, place, -1), np.moveaxis(places, place, -1)], own=1)
    return np.moveaxis(take_along(a, places), -1, place)


def from_start(a: Any, indices: Value, axis: int) -> Value:
    """The indices with negative ones, which TensorFlow refuses, counted from the start."""
    wide = whole(indices, "numpy.take")
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
    if indices.dtype.kind == "u":
        return wide
    count = shape(a)[axis] if extent is None else extent
    return np.where(wide < 0, wide + cast(count, wide.dtype), wide)


OPS: tuple[Op, ...] = (_GATHER, _GATHER_ND)

FACES: dict[Callable[..., Any], Face] = {
    np.take: take,
    np.take_along_axis: _take_along_axis,
}
