"""What the ops' shape rules and faces share: broadcasting, axes, dtypes."""

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, dtypes
from dsave.functions.operands import Value
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Tensor

FLOATS = dtypes("float16 bfloat16 float32 float64")
COMPLEXES = dtypes("complex64 complex128")
SIGNED = dtypes("int8 int16 int32 int64")
UNSIGNED = dtypes("uint8 uint16 uint32 uint64")
INTEGERS = SIGNED | UNSIGNED
REALS = FLOATS | INTEGERS
NUMBERS = REALS | COMPLEXES


def same(_: AnyAttrs, first: Value, *_others: Value) -> Shape:
    """The shape of the first input."""
    return first.shape


def broadcast_inputs(_: AnyAttrs, *inputs: Value) -> Shape:
    """The shape that the inputs have together."""
    return broadcast(*(value.shape for value in inputs))


def broadcast(*shapes: Shape) -> Shape:
    """The shape of tensors of these shapes once each is stretched to fit the others."""
    if len(set(shapes)) == 1:
        return shapes[0]
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(shape)) + shape for shape in shapes]
    return tuple(_together(extents, shapes) for extents in zip(*padded, strict=True))


def _together(extents: Sequence[int | None], shapes: Sequence[Shape]) -> int | None:
    known = {extent for extent in extents if extent not in {None, 1}}
    if len(known) > 1:
        raise trace_error("broadcasting", f"shapes {', '.join(map(str, shapes))} do not fit")
    if known:
        return known.pop()
    # An unknown extent may yet be anything.
    return None if None in extents else 1


def known(value: Known | Array, function: str) -> Array:
    """The elements of an input that a shape depends on.

    Raises:
        TraceError: it is a tensor.
    """
    if isinstance(value, Known):
        raise trace_error(
            function, f"the shape of its result depends on a tensor, {value.tensor.spec}"
        )
    return value


def normal_axis(axis: Any, ndim: int, function: str) -> int:
    """The axis counted from the first."""
    try:
        number = operator.index(axis)
    except TypeError:  # a tensor's own error among them
        raise trace_error(function, f"an axis is an int, got {axis!r}") from None
    if not -ndim <= number < ndim:
        raise trace_error(function, f"axis {number} of a tensor that has {ndim}")
    return number % ndim


def normal_axes(axis: Any, ndim: int, function: str) -> tuple[int, ...]:
    """Axes counted from the first; None is all of them."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, Iterable) and not isinstance(axis, Tensor) else (axis,)
    axes = tuple(normal_axis(each, ndim, function) for each in given)
    if len(set(axes)) < len(axes):
        raise trace_error(function, f"an axis is named twice in {axis}")
    return axes


def ints(values: Any) -> Array:
    """An array of int32, or of int64 if some value needs it."""
    array = np.asarray(values, np.int64)
    small = np.abs(array).max(initial=0) < 1 << 31
    return array.astype(np.int32) if small else array


@cache
def dtype_like(function: Callable[..., Any], dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """The dtype that a numpy function gives for an array of this one: numpy itself is asked."""
    return np.asarray(function(np.ones(1, dtype))).dtype
