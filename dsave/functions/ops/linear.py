"""Products of matrices."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.graph import Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.ops.elementwise import cast, loop_dtypes
from dsave.functions.ops.rules import COMPLEXES, FLOATS, broadcast
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Face
from dsave.functions.tracer import Value, apply, operand

_TYPES = FLOATS | COMPLEXES | dtypes("int32 int64")


def _product(attrs: AnyAttrs, x: Value, y: Value) -> Shape:
    *batch_x, rows, inner_x = x.shape
    *batch_y, inner_y, columns = y.shape
    if attrs.get("transpose_a") or attrs.get("adj_x"):
        rows, inner_x = inner_x, rows
    if attrs.get("transpose_b") or attrs.get("adj_y"):
        inner_y, columns = columns, inner_y
    if None not in {inner_x, inner_y} and inner_x != inner_y:
        raise trace_error("numpy.matmul", f"shapes {x.shape} and {y.shape} do not fit")
    return (*broadcast(tuple(batch_x), tuple(batch_y)), rows, columns)


_MATMUL = op(
    "MatMul(a: T, b: T) -> product: T",
    shape=_product,
    kernel=lambda attrs, a, b: np.matmul(
        a.T if attrs["transpose_a"] else a, b.T if attrs["transpose_b"] else b
    ),
    types=_TYPES,
    transpose_a=False,
    transpose_b=False,
)
_BATCH_MATMUL = op(
    "BatchMatMulV2(x: T, y: T) -> output: T",
    shape=_product,
    kernel=lambda attrs, x, y: np.matmul(
        x.conj().swapaxes(-1, -2) if attrs["adj_x"] else x,
        y.conj().swapaxes(-1, -2) if attrs["adj_y"] else y,
    ),
    types=_TYPES,
    adj_x=False,
    adj_y=False,
)


def _matmul(x1: Any, x2: Any) -> Any:
    x, y = operand(x1), operand(x2)
    if not x.ndim or not y.ndim:
        raise trace_error("numpy.matmul", "a scalar has no product of matrices; multiply it")
    loop = loop_dtypes(np.matmul, (x, y))
    x, y = cast(x, loop[0]), cast(y, loop[1])
    # A vector is a matrix with one row, or one column, which the result does not have.
    left = x if x.ndim > 1 else np.expand_dims(x, 0)
    right = y if y.ndim > 1 else np.expand_dims(y, 1)
    batched = left.ndim > 2 or right.ndim > 2
    result = apply(_BATCH_MATMUL if batched else _MATMUL, left, right)
    gone = tuple(axis for axis, v in ((-2, x), (-1, y)) if v.ndim == 1)
    return np.squeeze(result, gone) if gone else result


OPS: tuple[Op, ...] = (_MATMUL, _BATCH_MATMUL)

FACES: dict[Callable[..., Any], Face] = {np.matmul: _matmul}
