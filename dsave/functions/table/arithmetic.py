"""Quotients, shifts and comparisons, of which TensorFlow's ops are not numpy's functions.

The faces make up for that; the kernels are TensorFlow's.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array
from dsave.functions.op import Op, dtypes, op, plain
from dsave.functions.operands import operand
from dsave.functions.table.casts import cast, loop_dtypes
from dsave.functions.table.rules import INTEGERS, NUMBERS, REALS, broadcast_inputs
from dsave.functions.tensor import Face, Tensor


def binary(
    name: str,
    function: Callable[..., Any],
    types: Any,
    result: str = "T",
    form: str = "x: T, y: T",
) -> Op:
    """An op of two tensors of one dtype."""
    return op(
        f"{name}({form}) -> z: {result}",
        shape=broadcast_inputs,
        kernel=plain(function),
        types=types,
    )


def _bits(dtype: "np.dtype[Any]") -> int:
    return 8 * dtype.itemsize


def _floored(x: Array, y: Array) -> Array:
    """TensorFlow's quotients of floats are rounded down once they are computed."""
    return np.floor_divide(x, y) if x.dtype.kind in "iu" else np.floor(np.true_divide(x, y))


_FLOOR_DIV = binary("FloorDiv", _floored, REALS)
_FLOOR_MOD = binary("FloorMod", np.remainder, REALS)
_TRUNCATE_MOD = binary("TruncateMod", np.fmod, dtypes("int32 int64 float32 float64"))


def _clamped(shift: Callable[..., Any]) -> Callable[..., Any]:
    """TensorFlow shifts by as many bits as there are but one at most, and by none at least."""
    return lambda x, y: shift(x, np.clip(y, 0, _bits(x.dtype) - 1))


_LEFT_SHIFT = binary("LeftShift", _clamped(np.left_shift), INTEGERS)
_RIGHT_SHIFT = binary("RightShift", _clamped(np.right_shift), INTEGERS)

_COMPARED = NUMBERS | dtypes("bool string")
NOT_EQUAL = binary("NotEqual", np.not_equal, _COMPARED, "bool")

_COMPARISONS: tuple[tuple[np.ufunc, Op], ...] = (
    (np.equal, binary("Equal", np.equal, _COMPARED, "bool")),
    (np.not_equal, NOT_EQUAL),
    (np.less, binary("Less", np.less, REALS, "bool")),
    (np.less_equal, binary("LessEqual", np.less_equal, REALS, "bool")),
    (np.greater, binary("Greater", np.greater, REALS, "bool")),
    (np.greater_equal, binary("GreaterEqual", np.greater_equal, REALS, "bool")),
)


def _comparison(ufunc: np.ufunc, op: Op) -> Face:
    def face(x1: Any, x2: Any, **how: Any) -> Any:
        if _is_beyond(x2, x1):
            return np.full_like(operand(x1), ufunc(0, x2), dtype=bool)
        if _is_beyond(x1, x2):
            return np.full_like(operand(x2), ufunc(x1, 0), dtype=bool)
        x, y = _converted(ufunc, (x1, x2), how)
        # uint64 and int64 numpy compares as they are: what is below 0 is less than all others.
        if x.dtype.kind + y.dtype.kind == "ui":
            return np.where(y < 0, ufunc(0, -1), apply(op, x, cast(y, x.dtype)))
        if x.dtype.kind + y.dtype.kind == "iu":
            return np.where(x < 0, ufunc(-1, 0), apply(op, cast(x, y.dtype), y))
        return apply(op, x, y)

    return face


def _is_beyond(number: Any, other: Any) -> bool:
    """Whether a Python int is none that the integers it is compared with can be."""
    if type(number) is not int or type(other) is int:
        return False
    dtype = operand(other).dtype
    if dtype.kind not in "iu":
        return False
    return not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


def _converted(ufunc: np.ufunc, inputs: tuple[Any, ...], how: Mapping[str, Any]) -> list[Any]:
    """The inputs in the dtypes that numpy's ufunc computes in, as it is told."""
    return list(map(cast, inputs, loop_dtypes(ufunc, inputs, **how)))


def _floor_divide(x1: Any, x2: Any, **how: Any) -> Any:
    x, y = _converted(np.floor_divide, (x1, x2), how)
    if x.dtype.kind in "iu":
        return _unless_by_zero(_FLOOR_DIV, x, y)
    if x.dtype.itemsize < 4:
        return cast(_floor_divide(cast(x, np.float32), cast(y, np.float32)), x.dtype)
    # TensorFlow rounds x / y down, of which 1 / 0.1 is 10; numpy leaves out what remains.
    rest = apply(_FLOOR_MOD, x, y)
    quotient = np.rint((x - rest) / y)
    if not isinstance(y, Tensor) and (np.isfinite(y) & (y != 0)).all():
        return quotient
    return np.where(y == 0, x / y, np.where(np.isinf(rest), -1, quotient))


def _remainder(x1: Any, x2: Any, **how: Any) -> Any:
    x, y = _converted(np.remainder, (x1, x2), how)
    return (
        _unless_by_zero(_FLOOR_MOD, x, y) if x.dtype.kind in "iu" else apply(_FLOOR_MOD, x, y)
    )


def _fmod(x1: Any, x2: Any, **how: Any) -> Any:
    x, y = _converted(np.fmod, (x1, x2), how)
    dtype = x.dtype
    if dtype.kind == "u":
        return np.remainder(x, y)
    wide = np.promote_types(dtype, np.int32 if dtype.kind == "i" else np.float32)
    x, y = cast(x, wide), cast(y, wide)
    found = (_unless_by_zero if dtype.kind == "i" else apply)(_TRUNCATE_MOD, x, y)
    return cast(found, dtype)


def _unless_by_zero(op: Op, x: Any, y: Any) -> Any:
    """Of integers, and 0 where they are divided by 0, which TensorFlow refuses."""
    if not isinstance(y, Tensor) and y.all():
        return apply(op, x, y)
    by_zero = y == 0
    return np.where(by_zero, 0, apply(op, x, operand(np.where(by_zero, 1, y))))


def _shift(ufunc: np.ufunc, op: Op) -> Face:
    def face(x1: Any, x2: Any, **how: Any) -> Any:
        x, y = _converted(ufunc, (x1, x2), how)
        within = y < _bits(y.dtype)
        if y.dtype.kind == "i":
            within = within & (y >= 0)
        shifted = apply(op, x, y)
        if not isinstance(y, Tensor) and np.all(within):
            return shifted
        # Beyond them numpy has what is left when all bits are shifted out.
        left: Any = 0
        if op is _RIGHT_SHIFT and x.dtype.kind == "i":
            left = np.where(x < 0, cast(-1, x.dtype), cast(0, x.dtype))
        return np.where(within, shifted, left)

    return face


OPS: tuple[Op, ...] = (
    *(_FLOOR_DIV, _FLOOR_MOD, _TRUNCATE_MOD, _LEFT_SHIFT, _RIGHT_SHIFT),
    *(op for _, op in _COMPARISONS),
)

FACES: dict[Callable[..., Any], Face] = {
    **{ufunc: _comparison(ufunc, op) for ufunc, op in _COMPARISONS},
    np.floor_divide: _floor_divide,
    np.remainder: _remainder,
    np.fmod: _fmod,
    np.left_shift: _shift(np.left_shift, _LEFT_SHIFT),
    np.right_shift: _shift(np.right_shift, _RIGHT_SHIFT),
}
