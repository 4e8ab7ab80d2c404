"""Functions of numpy on each element that are made of other ops."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.op import Op
from dsave.functions.operands import operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import bits_of, cast, common_dtype, loop_dtypes
from dsave.functions.tensor import Face


def _composed(ufunc: np.ufunc, function: Callable[..., Any]) -> Face:
    """The face of a ufunc that other ops compute of its inputs, cast as it casts them."""

    def face(*inputs: Any, dtype: Any = None, casting: str = "same_kind") -> Any:
        loop = loop_dtypes(ufunc, inputs, dtype, casting)
        return function(*map(cast, inputs, loop))

    return face


def _like(x: Any, number: float) -> Any:
    return cast(float(number), x.dtype)


def _logarithm(base: float) -> Callable[..., Any]:
    return lambda x: np.log(x) / _like(x, math.log(base))


def _scaled(factor: float) -> Callable[..., Any]:
    return lambda x: x * _like(x, factor)


def _trunc(x: Any) -> Any:
    return np.where(np.less(x, 0), np.ceil(x), np.floor(x))


def _added_exponents(power: np.ufunc, base: float) -> Callable[..., Any]:
    """The logarithm of the sum of powers, computed without their overflow."""

    def function(x: Any, y: Any) -> Any:
        logarithm = _like(x, math.log(base))
        more = np.log1p(power(-np.abs(x - y))) / logarithm
        # Of equals the difference is 0, or that of infinities.
        twice = x + _like(x, math.log(2.0)) / logarithm
        return np.where(np.equal(x, y), twice, np.maximum(x, y) + more)

    return function


def _hypot(x: Any, y: Any) -> Any:
    if x.dtype.itemsize < 4:
        return cast(_hypot(cast(x, np.float32), cast(y, np.float32)), x.dtype)
    x, y = np.abs(x), np.abs(y)
    larger = np.maximum(x, y)
    # Squares of large numbers would overflow, so the larger is taken out of the root.
    ratio = np.minimum(x, y) / np.where(larger == 0, 1, larger)
    root = larger * np.sqrt(1 + np.square(ratio))
    return np.where(np.isinf(x) | np.isinf(y), np.inf, root)


def _signbit(x: Any) -> Any:
    return np.less(bits_of(x), 0)


def _copysign(x: Any, y: Any) -> Any:
    return np.where(np.equal(_signbit(x), _signbit(y)), x, -x)


def _unless_nan(choose: np.ufunc) -> Callable[..., Any]:
    def function(x: Any, y: Any) -> Any:
        return np.where(np.isnan(x), y, np.where(np.isnan(y), x, choose(x, y)))

    return function


def _cbrt(x: Any) -> Any:
    return _copysign(np.power(np.abs(x), _like(x, 1.0 / 3.0)), x)


def _heaviside(x: Any, at_zero: Any) -> Any:
    step = np.where(np.less(x, 0), _like(x, 0.0), np.where(np.greater(x, 0), _like(x, 1.0), x))
    return np.where(np.equal(x, 0), at_zero, step)


_UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.log2: _logarithm(2.0),
    np.log10: _logarithm(10.0),
    np.exp2: lambda x: np.power(_like(x, 2.0), x),
    np.degrees: _scaled(180.0 / np.pi),
    np.rad2deg: _scaled(180.0 / np.pi),
    np.radians: _scaled(np.pi / 180.0),
    np.deg2rad: _scaled(np.pi / 180.0),
    np.trunc: _trunc,
    np.hypot: _hypot,
    np.logaddexp: _added_exponents(np.exp, math.e),
    np.logaddexp2: _added_exponents(np.exp2, 2.0),
    np.signbit: _signbit,
    np.copysign: _copysign,
    np.fmax: _unless_nan(np.maximum),
    np.fmin: _unless_nan(np.minimum),
    np.cbrt: _cbrt,
    np.heaviside: _heaviside,
    np.divmod: lambda x, y: (x // y, x % y),
}


def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist) or not len(condlist):
        raise trace_error(
            "numpy.select", f"{len(condlist)} conditions for {len(choicelist)} choices"
        )
    dtype = common_dtype(*choicelist, default)
    result = cast(default, dtype)
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        if operand(condition).dtype != bool:
            raise trace_error("numpy.select", "conditions are of bool")
        result = np.where(operand(condition), cast(choice, dtype), result)
    return result


def _isclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    x, y = operand(a), operand(b)
    y = cast(y, common_dtype(y, 1.0))
    near = np.abs(x - y) <= atol + rtol * np.abs(y)
    close = np.logical_or(np.logical_and(near, np.isfinite(y)), np.equal(x, y))
    return close | (np.isnan(x) & np.isnan(y)) if equal_nan else close


def _allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    return np.all(_isclose(a, b, rtol, atol, equal_nan))


def _nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    del copy
    x = operand(x)
    if x.dtype.kind in "iub":
        return x
    if x.dtype.kind != "f":
        raise trace_error("numpy.nan_to_num", f"real numbers are wanted, got {x.dtype}")
    limits = np.finfo(x.dtype)
    highest = limits.max if posinf is None else posinf
    lowest = limits.min if neginf is None else neginf
    real = np.where(np.isnan(x), cast(nan, x.dtype), x)
    real = np.where(np.equal(x, np.inf), cast(highest, x.dtype), real)
    return np.where(np.equal(x, -np.inf), cast(lowest, x.dtype), real)


OPS: tuple[Op, ...] = ()

FACES: dict[Callable[..., Any], Face] = {
    **{ufunc: _composed(ufunc, function) for ufunc, function in _UFUNCS.items()},
    np.select: _select,
    np.isclose: _isclose,
    np.allclose: _allclose,
    np.nan_to_num: _nan_to_num,
    np.logical_xor: lambda x1, x2: np.not_equal(cast(x1, bool), cast(x2, bool)),
}
