"""Functions that take tensors apart, put them together and turn them, made of other ops."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.op import Op
from dsave.functions.operands import known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.broadcasting import stretched
from dsave.functions.table.casts import cast
from dsave.functions.table.layout import UNPACK, with_axes
from dsave.functions.table.rules import normal_axes, normal_axis
from dsave.functions.table.shapes import extents_of
from dsave.functions.tensor import Face


def _array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> Any:
    cuts = indices_or_sections
    if isinstance(cuts, Iterable):
        return np.split(ary, list(cuts), axis)
    ary, name = operand(ary), "numpy.array_split"
    extent = known_shape(ary)[normal_axis(axis, ary.ndim, name)]
    if extent is None:
        raise trace_error(name, f"extent {axis} of {known_shape(ary)} is unknown")
    count = int(cuts)
    more, each = extent % count, extent // count
    cuts = [part * each + min(part, more) for part in range(1, count)]
    return np.split(ary, cuts, axis)


def _split_along(axis: int, least: int) -> Face:
    def face(ary: Any, indices_or_sections: Any) -> Any:
        ary = operand(ary)
        if ary.ndim < least:
            raise trace_error("numpy.split", f"{least} axes are wanted, got {known_shape(ary)}")
        return np.split(ary, indices_or_sections, axis if ary.ndim > 1 else 0)

    return face


def _unstack(x: Any, /, *, axis: Any = 0) -> tuple[Any, ...]:
    x = operand(x)
    place = normal_axis(axis, x.ndim, "numpy.unstack")
    extent = known_shape(x)[place]
    if extent is None:
        raise trace_error("numpy.unstack", f"extent {place} of {known_shape(x)} is unknown")
    return tuple(apply(UNPACK, x, num=extent, axis=place))


def _column_stack(tup: Any) -> Any:
    given: list[Any] = [operand(each) for each in tup]
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in given], 1)


def _append(arr: Any, values: Any, axis: Any = None) -> Any:
    if axis is None:
        arr, values, axis = np.ravel(operand(arr)), np.ravel(operand(values)), 0
    return np.concatenate((arr, values), axis)


def _led(x: Any, least: int) -> Any:
    """A tensor with so many axes, new ones first."""
    return np.expand_dims(x, tuple(range(least - x.ndim))) if x.ndim < least else x


def _atleast(least: int) -> Face:
    def face(*arys: Any) -> Any:
        results = tuple(with_axes(operand(each), least) for each in arys)
        return results if len(results) != 1 else results[0]

    return face


def _block(arrays: Any) -> Any:
    depth = _depth(arrays)
    ndim = max(depth, *(operand(each).ndim for each in _leaves(arrays)))

    def joined(given: Any, axis: int) -> Any:
        if not isinstance(given, list):
            return _led(operand(given), ndim)
        return np.concatenate([joined(each, axis + 1) for each in given], axis)

    return joined(arrays, -depth)


def _depth(arrays: Any) -> int:
    return 1 + max(map(_depth, arrays), default=0) if isinstance(arrays, list) else 0


def _leaves(arrays: Any) -> list[Any]:
    if not isinstance(arrays, list):
        return [arrays]
    return [leaf for each in arrays for leaf in _leaves(each)]


def _meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Any, ...]:
    del copy
    if indexing not in {"xy", "ij"}:
        raise trace_error("numpy.meshgrid", f"indexing is xy or ij, got {indexing!r}")
    axes = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        axes[:2] = 1, 0
    grids = [
        np.reshape(operand(x), [-1 if place == axis else 1 for place in range(len(xi))])
        for x, axis in zip(xi, axes, strict=True)
    ]
    return tuple(grids if sparse else stretched(grids))


def _diff(a: Any, n: int = 1, axis: Any = -1, prepend: Any = None, append: Any = None) -> Any:
    a = operand(a)
    place = normal_axis(axis, a.ndim, "numpy.diff")
    if n < 0:
        raise trace_error("numpy.diff", f"n is 0 or more, got {n}")
    parts = [_edge(prepend, a, place), a, _edge(append, a, place)]
    a = np.concatenate([part for part in parts if part is not None], place)
    before = (slice(None),) * place
    differ = np.not_equal if a.dtype == bool else np.subtract
    for _ in range(n):
        a = differ(a[(*before, slice(1, None))], a[(*before, slice(-1))])
    return a


def _edge(given: Any, a: Any, axis: int) -> Any:
    """What is put at an end: a number stands for one element in each row."""
    if given is None:
        return None
    value = operand(given)
    if value.ndim:
        return value
    one = a[(*(slice(None),) * axis, slice(1))]
    return np.full_like(one, value, dtype=value.dtype)


def _flipped(axis: int, least: int) -> Face:
    def face(m: Any) -> Any:
        m = operand(m)
        if m.ndim < least:
            raise trace_error("numpy.flip", f"{least} axes are wanted, got {known_shape(m)}")
        return np.flip(m, axis)

    return face


def _rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    m = operand(m)
    one, other = normal_axes(axes, m.ndim, "numpy.rot90")
    if k % 4 == 2:
        return np.flip(np.flip(m, one), other)
    if k % 4 == 1:
        return np.swapaxes(np.flip(m, other), one, other)
    return np.flip(np.swapaxes(m, one, other), other) if k % 4 else m


def _kron(a: Any, b: Any) -> Any:
    a, b = operand(a), operand(b)
    ndim = max(a.ndim, b.ndim)
    a, b = _led(a, ndim), _led(b, ndim)
    of_a, of_b = extents_of(a), extents_of(b)
    # By axes of their own TensorFlow multiplies tensors of a few axes only.
    product = np.reshape(np.outer(a, b), [*of_a, *of_b])
    pairs = [
        axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair
    ]
    return np.reshape(
        np.transpose(product, pairs), [n * m for n, m in zip(of_a, of_b, strict=True)]
    )


def _cross(
    a: Any, b: Any, axisa: Any = -1, axisb: Any = -1, axisc: Any = -1, axis: Any = None
) -> Any:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    one: Any = operand(a)
    other: Any = operand(b)
    a, b = np.moveaxis(one, axisa, -1), np.moveaxis(other, axisb, -1)
    if known_shape(a)[-1] != 3 or known_shape(b)[-1] != 3:
        raise trace_error(
            "numpy.cross", f"vectors of 3 are wanted: {known_shape(a)} and {known_shape(b)}"
        )
    x, y = ([each[..., place] for place in range(3)] for each in (a, b))
    parts = [x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.moveaxis(np.stack(parts, -1), -1, axisc)


def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: None = None) -> Any:
    del copy, device
    return cast(x, dtype)


OPS: tuple[Op, ...] = ()

FACES: dict[Callable[..., Any], Face] = {
    np.array_split: _array_split,
    np.vsplit: _split_along(0, 2),
    np.hsplit: _split_along(1, 1),
    np.dsplit: _split_along(2, 3),
    np.column_stack: _column_stack,
    np.append: _append,
    np.atleast_1d: _atleast(1),
    np.atleast_2d: _atleast(2),
    np.atleast_3d: _atleast(3),
    np.block: _block,
    np.meshgrid: _meshgrid,
    np.diff: _diff,
    np.flipud: _flipped(0, 1),
    np.fliplr: _flipped(1, 2),
    np.rot90: _rot90,
    np.kron: _kron,
    np.cross: _cross,
}

# What numpy has since 2.0, and since 2.1.
if hasattr(np, "matrix_transpose"):
    FACES[np.matrix_transpose] = lambda x: np.swapaxes(x, -1, -2)
    FACES[np.astype] = _astype
if hasattr(np, "unstack"):
    FACES[np.unstack] = _unstack
