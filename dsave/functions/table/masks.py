"""Where a tensor is true: how many places there are is known when the function runs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op, plain
from dsave.functions.operands import Value, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.gathering import take
from dsave.functions.table.rules import NUMBERS
from dsave.functions.tensor import Face


def _places(_: AnyAttrs, x: Value) -> Shape:
    return (None, x.ndim)


_WHERE = op(
    "Where(input: T) -> index: int64",
    shape=_places,
    kernel=plain(np.argwhere),
    types=(NUMBERS | dtypes("bool")) - dtypes("float16 bfloat16"),
)


def _argwhere(a: Any) -> Any:
    a = operand(a)
    if not a.ndim:
        return _argwhere(np.expand_dims(a, 0))[:, :0]
    return apply(_WHERE, cast(a, bool))


def _nonzero(a: Any) -> Any:
    a = operand(a)
    if not a.ndim:
        raise trace_error("numpy.nonzero", "a scalar has no places; numpy.atleast_1d gives one")
    places = _argwhere(a)
    return tuple(places[:, axis] for axis in range(a.ndim))


def _extract(condition: Any, arr: Any) -> Any:
    return take(np.ravel(operand(arr)), np.flatnonzero(operand(condition)))


def _compress(condition: Any, a: Any, axis: Any = None, out: None = None) -> Any:
    del out
    a = operand(a)
    if axis is None:
        a, axis = np.ravel(a), 0
    return take(a, np.flatnonzero(operand(condition)), axis)


OPS: tuple[Op, ...] = (_WHERE,)

FACES: dict[Callable[..., Any], Face] = {
    np.argwhere: _argwhere,
    np.nonzero: _nonzero,
    np.flatnonzero: lambda a: _argwhere(np.ravel(operand(a)))[:, 0],
    np.extract: _extract,
    np.compress: _compress,
}
