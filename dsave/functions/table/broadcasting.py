"""Tensors stretched to one shape, whatever of their extents is known."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from dsave.functions.graph import Shape
from dsave.functions.op import AnyAttrs, Op, op, plain
from dsave.functions.table.rules import broadcast, ints, known_shape
from dsave.functions.table.shapes import extents, shape, shape_operand
from dsave.functions.tensor import Face
from dsave.functions.tracer import Value, apply, operand
from dsave.model.dtype import dtype_of


def _together(_: AnyAttrs, one: Value, other: Value) -> Shape:
    return (max(len(extents(one)), len(extents(other))),)


_BROADCAST_TO = op(
    "BroadcastTo(input: T, shape: Tidx) -> output: T",
    shape=lambda _, x, shape: broadcast(x.shape, tuple(extents(shape))),
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


def stretched(values: Sequence[Value]) -> list[Any]:
    """The values, each of the shape that they have together."""
    shapes = [known_shape(value) for value in values]
    whole = broadcast(*shapes)
    if None in whole:
        wanted = reduce(partial(apply, _BROADCAST_ARGS), map(shape, values))
    else:
        wanted = ints(whole)
    return [
        value if each == whole and None not in whole else broadcast_to(value, wanted)
        for value, each in zip(values, shapes, strict=True)
    ]


OPS: tuple[Op, ...] = (_BROADCAST_TO, _BROADCAST_ARGS)

FACES: dict[Callable[..., Any], Face] = {
    np.broadcast_to: broadcast_to,
    np.broadcast_arrays: lambda *args: tuple(stretched([operand(each) for each in args])),
}
