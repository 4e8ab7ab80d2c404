"""Ops that repeat, pad, reorder and cut."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, whole
from dsave.functions.table.extents import extents, vector
from dsave.functions.table.rules import (
    broadcast,
    ints,
    normal_axes,
    normal_axis,
    same,
)
from dsave.functions.table.shapes import extents_of
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_INT64 = dtype_of("int64")


def _scaled(extent: int | None, times: int | None) -> int | None:
    return None if extent is None or times is None else extent * times


_TILE = op(
    "Tile(input: T, multiples: Tmultiples) -> output: T",
    shape=lambda _, x, times: tuple(map(_scaled, x.shape, extents(times))),
    kernel=lambda _, x, times: np.tile(x, times),
    Tmultiples=_INT32,
)
_REVERSE = op(
    "ReverseV2(tensor: T, axis: Tidx) -> output: T",
    shape=same,
    kernel=lambda _, x, axes: np.flip(x, tuple(axes.tolist())),
    Tidx=_INT32,
)
_ROLL = op(
    "Roll(input: T, shift: Tshift, axis: Taxis) -> output: T",
    shape=same,
    kernel=lambda _, x, shift, axes: np.roll(
        x, tuple(np.atleast_1d(shift)), tuple(np.atleast_1d(axes))
    ),
)


def _split_shapes(attrs: AnyAttrs, axis: Array, x: Value) -> list[Shape]:
    count, place = attrs["num_split"], normal_axis(int(axis), x.ndim, "numpy.split")
    extent = x.shape[place]
    if extent is not None and extent % count:
        raise trace_error("numpy.split", f"{extent} elements in {count} equal parts")
    part = None if extent is None else extent // count
    return [(*x.shape[:place], part, *x.shape[place + 1 :])] * count


_SPLIT = op(
    "Split(split_dim: int32, value: T) -> output: num_split*T",
    shape=_split_shapes,
    kernel=lambda attrs, axis, x: np.split(x, attrs["num_split"], int(axis)),
)
UNPACK = op(
    "Unpack(value: T) -> output: num*T",
    shape=lambda attrs, x: (
        [x.shape[: attrs["axis"]] + x.shape[attrs["axis"] % x.ndim + 1 :]] * attrs["num"]
    ),
    kernel=lambda attrs, x: list(np.moveaxis(x, attrs["axis"], 0)),
    axis=0,
)


def _banded(_: AnyAttrs, x: Array, lower: Array, upper: Array) -> Array:
    rows, columns = np.ogrid[: x.shape[-2], : x.shape[-1]]
    below, above = rows - columns, columns - rows
    kept = ((lower < 0) | (below <= lower)) & ((upper < 0) | (above <= upper))
    return np.where(kept, x, np.zeros((), x.dtype))


_BAND = op(
    "MatrixBandPart(input: T, num_lower: Tindex, num_upper: Tindex) -> band: T",
    shape=same,
    kernel=_banded,
    Tindex=_INT64,
)


def _swapaxes(a: Any, axis1: Any, axis2: Any) -> Any:
    a = operand(a)
    one = normal_axis(axis1, a.ndim, "numpy.swapaxes")
    other = normal_axis(axis2, a.ndim, "numpy.swapaxes")
    order = list(range(a.ndim))
    order[one], order[other] = other, one
    return np.transpose(a, order)


def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    a = operand(a)
    sources = normal_axes(source, a.ndim, "numpy.moveaxis")
    places = normal_axes(destination, a.ndim, "numpy.moveaxis")
    if len(sources) != len(places):
        raise trace_error("numpy.moveaxis", f"{source} and {destination} differ in number")
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return a if order == sorted(order) else np.transpose(a, order)


def _joined(least: int, axis: int) -> Face:
    """`vstack` and its like: the tensors get axes until they have `least`."""

    def face(tup: Any) -> Any:
        values = [with_axes(operand(value), least) for value in tup]
        one_axis = axis == 1 and values[0].ndim == 1
        return np.concatenate(values, axis=0 if one_axis else axis)

    return face


def with_axes(value: Any, least: int) -> Any:
    """The tensor with so many axes at least, where `vstack` and its like put new ones."""
    if least == 3 and value.ndim == 2:
        return np.expand_dims(value, 2)
    while value.ndim < least:
        value = np.expand_dims(value, 2 if value.ndim == 2 else 0)
    return value


def _split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    ary = operand(ary)
    place = normal_axis(axis, ary.ndim, "numpy.split")
    if not np.iterable(indices_or_sections):
        count = int(indices_or_sections)
        parts: list[Any] = apply(_SPLIT, ints(place), ary, num_split=count)
        return parts
    cuts = [None, *indices_or_sections, None]
    before = (slice(None),) * place
    return [ary[(*before, slice(start, stop))] for start, stop in itertools.pairwise(cuts)]


def _tile(A: Any, reps: Any) -> Any:  # noqa: N803 - numpy's name
    times = list(reps) if np.iterable(reps) else [reps]
    x = operand(A)
    missing = len(times) - x.ndim
    if missing > 0:
        x = np.expand_dims(x, tuple(range(missing)))
    return _tiled(x, [1] * max(0, -missing) + times)


def _tiled(x: Value, times: list[Any]) -> Any:
    # TensorFlow tiles no uint16.
    dtype = x.dtype
    return cast(
        apply(_TILE, cast(x, np.int32) if dtype == np.uint16 else x, vector(times)), dtype
    )


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    a = operand(a)
    if axis is None:
        a, axis = np.ravel(a), 0
    if np.ndim(repeats):
        raise trace_error("numpy.repeat", "the number of repeats is one int for all elements")
    place = normal_axis(axis, a.ndim, "numpy.repeat")
    times: list[Any] = [1] * (a.ndim + 1)
    times[place + 1] = repeats
    wide = _tiled(np.expand_dims(a, place + 1), times)
    wanted = extents_of(a)
    wanted[place] = wanted[place] * repeats
    return np.reshape(wide, wanted)


def _flip(m: Any, axis: Any = None) -> Any:
    m = operand(m)
    return apply(_REVERSE, m, ints(normal_axes(axis, m.ndim, "numpy.flip")))


def _roll(a: Any, shift: Any, axis: Any = None) -> Any:
    a = operand(a)
    if axis is None:
        return np.reshape(np.roll(np.ravel(a), shift, 0), extents_of(a))
    places = [
        normal_axis(each, a.ndim, "numpy.roll")
        for each in (axis if np.iterable(axis) else (axis,))
    ]
    shifts: Any = operand(shift)
    extents: Any = broadcast(known_shape(shifts), (len(places),))
    if len(extents) != 1 or extents[0] is None:
        raise trace_error("numpy.roll", f"shifts of {shifts.shape} for the axes {axis}")
    shifts = whole(np.broadcast_to(shifts, extents), "numpy.roll")
    shifts = shifts if isinstance(shifts, Tensor) else ints(shifts)
    return apply(_ROLL, a, shifts, ints(np.broadcast_to(np.array(places), extents)))


def _triangle(compare: Callable[..., Any], m: Any, k: Any = 0) -> Any:
    """What is on one side of a diagonal, which may be anywhere, or nowhere, when it runs."""
    x: Any = operand(m)
    if not x.ndim:
        raise trace_error("a triangle", "a scalar has none")
    # Of a vector each row is the vector.
    rows, columns = (
        np.arange(extent, dtype=np.int32, like=x) for extent in (extents_of(x) * 2)[-2:]
    )
    return np.where(compare(columns - np.expand_dims(rows, 1), k), x, cast(0, x.dtype))


OPS: tuple[Op, ...] = (
    *(_TILE, _REVERSE, _ROLL, _SPLIT, UNPACK),
    _BAND,
)

FACES: dict[Callable[..., Any], Face] = {
    np.swapaxes: _swapaxes,
    np.moveaxis: _moveaxis,
    np.vstack: _joined(2, 0),
    np.hstack: _joined(1, 1),
    np.dstack: _joined(3, 2),
    np.split: _split,
    np.tile: _tile,
    np.repeat: _repeat,
    np.flip: _flip,
    np.roll: _roll,
    np.tril: partial(_triangle, np.less_equal),
    np.triu: partial(_triangle, np.greater_equal),
}
