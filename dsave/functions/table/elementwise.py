"""Ops on each element: functions of numbers, logic, choice."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.op import Op, op, plain
from dsave.functions.operands import operand
from dsave.functions.stack import trace_error
from dsave.functions.table.arithmetic import NOT_EQUAL, binary
from dsave.functions.table.casts import cast, common_dtype, loop_dtypes
from dsave.functions.table.rules import (
    COMPLEXES,
    FLOATS,
    INTEGERS,
    NUMBERS,
    REALS,
    SIGNED,
    broadcast_inputs,
    same,
)
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import DType, dtype_of


def _unary(name: str, function: Callable[..., Any], types: Any, result: str = "T") -> Op:
    return op(f"{name}(x: T) -> y: {result}", shape=same, kernel=plain(function), types=types)


def _logical(name: str, function: Callable[..., Any]) -> Op:
    return op(
        f"{name}(x: bool, y: bool) -> z: bool", shape=broadcast_inputs, kernel=plain(function)
    )


_AND = _logical("LogicalAnd", np.logical_and)
_OR = _logical("LogicalOr", np.logical_or)
_NOT = op("LogicalNot(x: bool) -> y: bool", shape=same, kernel=plain(np.logical_not))
_ABS = _unary("Abs", np.absolute, FLOATS | SIGNED)
_COMPLEX_ABS = op(
    "ComplexAbs(x: T) -> y: Tout", shape=same, kernel=plain(np.absolute), types=COMPLEXES
)
_REAL = op("Real(input: T) -> output: Tout", shape=same, kernel=plain(np.real), types=COMPLEXES)
_IMAG = op("Imag(input: T) -> output: Tout", shape=same, kernel=plain(np.imag), types=COMPLEXES)
_SELECT = op(
    "SelectV2(condition: bool, t: T, e: T) -> output: T",
    shape=broadcast_inputs,
    kernel=plain(np.where),
)

_CONJ = op(
    "Conj(input: T) -> output: T", shape=same, kernel=plain(np.conjugate), types=COMPLEXES
)
_IDENTITY = op("Identity(input: T) -> output: T", shape=same, kernel=plain(np.asarray))
_WHOLE = dict.fromkeys("iub", _IDENTITY)
_SQUARE = _unary("Square", np.square, NUMBERS)
_POW = binary("Pow", np.power, FLOATS | SIGNED | COMPLEXES)


def _unsigned_power(x: Any, y: Any) -> Any:
    # What is too large is cut off, in the signed dtype as well.
    return cast(np.power(cast(x, np.int64), cast(y, np.int64)), x.dtype)


_SUB = binary("Sub", np.subtract, NUMBERS)


def _unsigned_difference(x: Any, y: Any) -> Any:
    # TensorFlow's optimiser makes 0 - y a negation, which it has not for these dtypes.
    zero = not isinstance(x, Tensor) and not x.any()
    return np.negative(y) + x if zero else apply(_SUB, x, y)


_NEVER = dict.fromkeys("iub", lambda x: np.not_equal(x, x))
_ALWAYS = dict.fromkeys("iub", lambda x: np.equal(x, x))

# numpy's function, the op, and what is done for operands of another kind (`numpy.dtype.kind`).
_UFUNCS: tuple[tuple[np.ufunc, Op, Mapping[str, Op | Face]], ...] = (
    (np.add, binary("AddV2", np.add, NUMBERS), {"b": _OR}),
    (np.subtract, _SUB, {"u": _unsigned_difference}),
    (np.multiply, binary("Mul", np.multiply, NUMBERS), {"b": _AND}),
    (np.true_divide, binary("RealDiv", np.true_divide, FLOATS | COMPLEXES), {}),
    (np.power, _POW, {"u": _unsigned_power}),
    (np.float_power, _POW, {}),
    (np.maximum, binary("Maximum", np.maximum, REALS), {"b": _OR}),
    (np.minimum, binary("Minimum", np.minimum, REALS), {"b": _AND}),
    (np.arctan2, binary("Atan2", np.arctan2, FLOATS, form="y: T, x: T"), {}),
    (np.logical_and, _AND, {}),
    (np.logical_or, _OR, {}),
    (np.logical_not, _NOT, {}),
    (np.bitwise_and, binary("BitwiseAnd", np.bitwise_and, INTEGERS), {"b": _AND}),
    (np.bitwise_or, binary("BitwiseOr", np.bitwise_or, INTEGERS), {"b": _OR}),
    (np.bitwise_xor, binary("BitwiseXor", np.bitwise_xor, INTEGERS), {"b": NOT_EQUAL}),
    (np.invert, _unary("Invert", np.invert, INTEGERS), {"b": _NOT}),
    (np.positive, _IDENTITY, {}),
    (
        np.negative,
        _unary("Neg", np.negative, FLOATS | SIGNED | COMPLEXES),
        {"u": lambda x: np.invert(x) + np.ones((), x.dtype)},
    ),
    (np.absolute, _ABS, {"c": _COMPLEX_ABS, "u": _IDENTITY, "b": _IDENTITY}),
    (np.fabs, _ABS, {}),
    (
        np.sign,
        _unary("Sign", np.sign, FLOATS | SIGNED),
        {"u": lambda x: np.minimum(x, np.ones((), x.dtype))},
    ),
    (np.conjugate, _IDENTITY, {"c": _CONJ}),
    (np.square, _SQUARE, {}),
    (np.sqrt, _unary("Sqrt", np.sqrt, FLOATS | COMPLEXES), {}),
    (np.reciprocal, _unary("Reciprocal", np.reciprocal, FLOATS | COMPLEXES), {}),
    (np.exp, _unary("Exp", np.exp, FLOATS | COMPLEXES), {}),
    (np.expm1, _unary("Expm1", np.expm1, FLOATS | COMPLEXES), {}),
    (np.log, _unary("Log", np.log, FLOATS | COMPLEXES), {}),
    (np.log1p, _unary("Log1p", np.log1p, FLOATS | COMPLEXES), {}),
    (np.sin, _unary("Sin", np.sin, FLOATS | COMPLEXES), {}),
    (np.cos, _unary("Cos", np.cos, FLOATS | COMPLEXES), {}),
    (np.tan, _unary("Tan", np.tan, FLOATS | COMPLEXES), {}),
    (np.arcsin, _unary("Asin", np.arcsin, FLOATS | COMPLEXES), {}),
    (np.arccos, _unary("Acos", np.arccos, FLOATS | COMPLEXES), {}),
    (np.arctan, _unary("Atan", np.arctan, FLOATS | COMPLEXES), {}),
    (np.sinh, _unary("Sinh", np.sinh, FLOATS | COMPLEXES), {}),
    (np.cosh, _unary("Cosh", np.cosh, FLOATS | COMPLEXES), {}),
    (np.tanh, _unary("Tanh", np.tanh, FLOATS | COMPLEXES), {}),
    (np.arcsinh, _unary("Asinh", np.arcsinh, FLOATS | COMPLEXES), {}),
    (np.arccosh, _unary("Acosh", np.arccosh, FLOATS | COMPLEXES), {}),
    (np.arctanh, _unary("Atanh", np.arctanh, FLOATS | COMPLEXES), {}),
    (np.floor, _unary("Floor", np.floor, FLOATS), _WHOLE),
    (np.ceil, _unary("Ceil", np.ceil, FLOATS), _WHOLE),
    (np.rint, _unary("Round", np.rint, FLOATS), {}),
    (
        np.isnan,
        _unary("IsNan", np.isnan, FLOATS, "bool"),
        {**_NEVER, "c": lambda x: np.isnan(np.real(x)) | np.isnan(np.imag(x))},
    ),
    (
        np.isinf,
        _unary("IsInf", np.isinf, FLOATS, "bool"),
        {**_NEVER, "c": lambda x: np.isinf(np.real(x)) | np.isinf(np.imag(x))},
    ),
    (
        np.isfinite,
        _unary("IsFinite", np.isfinite, FLOATS, "bool"),
        {**_ALWAYS, "c": lambda x: np.isfinite(np.real(x)) & np.isfinite(np.imag(x))},
    ),
)


def _ufunc(ufunc: np.ufunc, op: Op, by_kind: Mapping[str, Op | Face]) -> Face:
    def face(*inputs: Any, dtype: Any = None, casting: str = "same_kind") -> Any:
        loop = loop_dtypes(ufunc, inputs, dtype, casting)
        chosen = by_kind.get(loop[0].kind, op)
        if not isinstance(chosen, Op):
            return chosen(*map(cast, inputs, loop))
        types = {"Tout": dtype_of(loop[-1])} if chosen is _COMPLEX_ABS else {}
        wanted = [
            arg.dtype if isinstance(arg.dtype, DType) else dtype
            for arg, dtype in zip(chosen.inputs, loop, strict=False)
        ]
        return apply(chosen, *map(cast, inputs, wanted), **types)

    return face


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return np.nonzero(condition)
    dtype = common_dtype(x, y)
    return apply(_SELECT, cast(condition, bool), cast(x, dtype), cast(y, dtype))


def _part(op: Op, of_real: Callable[..., Any]) -> Face:
    def face(val: Any) -> Any:
        val = operand(val)
        if val.dtype.kind != "c":
            return of_real(val)
        return apply(op, val, Tout=dtype_of(np.empty(0, val.dtype).real.dtype))

    return face


def _clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: None = None,
    *,
    min: Any = None,  # noqa: A002 - numpy's name
    max: Any = None,  # noqa: A002 - numpy's name
) -> Any:
    del out
    a = operand(a)
    a_min, a_max = (min if a_min is None else a_min), (max if a_max is None else a_max)
    if a_min is not None and a_max is not None and common_dtype(a, a_min, a_max).kind == "V":
        a = cast(a, np.float32)  # as numpy, whose own function for that has no bfloat16
    if a.dtype.kind in "iu":  # as numpy, which has no bound there
        limits = np.iinfo(a.dtype)
        a_min = None if type(a_min) is int and a_min <= limits.min else a_min
        a_max = None if type(a_max) is int and a_max >= limits.max else a_max
    for bound, choose in ((a_min, np.maximum), (a_max, np.minimum)):
        a = a if bound is None else choose(a, bound)
    return a


def _round(a: Any, decimals: int = 0, out: None = None) -> Any:
    del out
    a = operand(a)
    if a.dtype.kind == "b":
        if decimals:
            raise trace_error("numpy.round", "truths are rounded to 0 decimals")
        return np.rint(a)
    if a.dtype.kind in "iu":
        if decimals < 0:
            raise trace_error("numpy.round", "integers are rounded to decimals of 0 or more")
        return a
    scale = cast(float(10 ** abs(decimals)), a.dtype)
    if decimals < 0:
        return np.rint(a / scale) * scale
    return np.rint(a * scale) / scale if decimals else np.rint(a)


OPS: tuple[Op, ...] = (
    *dict.fromkeys(op for _, op, _ in _UFUNCS),
    _COMPLEX_ABS,
    _REAL,
    _IMAG,
    _CONJ,
    _SELECT,
)

FACES: dict[Callable[..., Any], Face] = {
    **{ufunc: _ufunc(ufunc, op, by_kind) for ufunc, op, by_kind in _UFUNCS},
    np.where: _where,
    np.clip: _clip,
    np.round: _round,
    np.around: _round,
    np.real: _part(_REAL, lambda x: x),
    np.imag: _part(_IMAG, np.zeros_like),
    np.copy: lambda a: a,
}
