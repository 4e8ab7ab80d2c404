"""Tensors stretched to one shape, whatever of their extents is known."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, op, plain
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.table.extents import extents, shape_operand
from dsave.functions.table.rules import broadcast, ints
from dsave.functions.table.shapes import extents_of, shape
from dsave.functions.tensor import Face
from dsave.model.dtype import dtype_of


def _together(_: AnyAttrs, one: Known | Array, other: Known | Array) -> Shape:
    return (max(len(extents(one)), len(extents(other))),)


_BROADCAST_TO = op(
    "BroadcastTo(input: T, shape: Tidx) -> output: T",
    shape=lambda _, x, shape: broadcast(known_shape(x), tuple(extents(shape))),
    kernel=plain(np.broadcast_to),
    Tidx=dtype_of("int32"),
)
_BROADCAST_ARGS = op(
    "BroadcastArgs(s0: T, s1: T) -> r0: T",
    shape=_together,
    kernel=plain(lambda one, other: np.array(np.broadcast_shapes(tuple(one), tuple(other)))),
    T=dtype_of("int32"),
)


def broadcast_to(array: Any, shape: Any) -> Any:
    """As `numpy.broadcast_to`; the shape may be a tensor."""
    return apply(_BROADCAST_TO, operand(array), shape_operand(shape))


def stretched(values: Sequence[Value], own: int = 0) -> list[Any]:
    """The values, of the shape that they have together; each keeps its `own` last axes."""
    shapes = [_cut(known_shape(value), own) for value in values]
    whole = broadcast(*shapes)
    found: Any = ints(whole) if None not in whole else _measured(values, own)

    def one(value: Value, shape: Sequence[int | None]) -> Any:
        if shape == whole and None not in whole:
            return value
        if not own:
            return broadcast_to(value, found)
        wanted = [found[axis] if n is None else n for axis, n in enumerate(whole)]
        return broadcast_to(value, [*wanted, *extents_of(value)[-own:]])

    return list(map(one, values, shapes))


def _measured(values: Sequence[Value], own: int) -> Value:
    """The shape that the values have together, as a tensor."""
    shapes: list[Any] = [_cut(shape(value), own) for value in values]
    result: Value = reduce(partial(apply, _BROADCAST_ARGS), shapes)
    return result


def _cut(extents: Any, own: int) -> Any:
    return extents[:-own] if own else extents


OPS: tuple[Op, ...] = (_BROADCAST_TO, _BROADCAST_ARGS)

FACES: dict[Callable[..., Any], Face] = {
    np.broadcast_to: broadcast_to,
    np.broadcast_arrays: lambda *args: tuple(stretched([operand(each) for each in args])),
}
