"""Ops on each element: arithmetic, comparisons, logic, choice and casts."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from dsave.functions.op import Op, op, plain
from dsave.functions.ops.rules import (
    BOOL,
    COMPLEXES,
    FLOATS,
    NUMBERS,
    REALS,
    SIGNED,
    broadcast_inputs,
    same,
)
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Face, Tensor
from dsave.functions.tracer import Value, apply, operand, spec_dtype
from dsave.model.dtype import dtype_of


def _binary(name: str, function: Callable[..., Any], types: Any, result: str = "T") -> Op:
    return op(
        f"{name}(x: T, y: T) -> z: {result}",
        shape=broadcast_inputs,
        kernel=plain(function),
        types=types,
    )


def _unary(name: str, function: Callable[..., Any], types: Any, result: str = "T") -> Op:
    return op(f"{name}(x: T) -> y: {result}", shape=same, kernel=plain(function), types=types)


def _logical(name: str, function: Callable[..., Any]) -> Op:
    return op(
        f"{name}(x: bool, y: bool) -> z: bool", shape=broadcast_inputs, kernel=plain(function)
    )


_AND = _logical("LogicalAnd", np.logical_and)
_OR = _logical("LogicalOr", np.logical_or)
_NOT = op("LogicalNot(x: bool) -> y: bool", shape=same, kernel=plain(np.logical_not))
_NOT_EQUAL = _binary("NotEqual", np.not_equal, NUMBERS | BOOL, "bool")
_ABS = _unary("Abs", np.absolute, FLOATS | SIGNED)
_COMPLEX_ABS = op(
    "ComplexAbs(x: T) -> y: Tout", shape=same, kernel=plain(np.absolute), types=COMPLEXES
)
_CAST = op(
    "Cast(x: SrcT) -> y: DstT",
    shape=same,
    kernel=lambda attrs, x: x.astype(attrs["DstT"].numpy),
)
_SELECT = op(
    "SelectV2(condition: bool, t: T, e: T) -> output: T",
    shape=broadcast_inputs,
    kernel=plain(np.where),
)

# numpy's function, the op, and the op for operands of another kind (`numpy.dtype.kind`).
_UFUNCS: tuple[tuple[np.ufunc, Op, dict[str, Op]], ...] = (
    (np.add, _binary("AddV2", np.add, NUMBERS), {"b": _OR}),
    (np.subtract, _binary("Sub", np.subtract, NUMBERS), {}),
    (np.multiply, _binary("Mul", np.multiply, NUMBERS), {"b": _AND}),
    (np.true_divide, _binary("RealDiv", np.true_divide, FLOATS | COMPLEXES), {}),
    (np.maximum, _binary("Maximum", np.maximum, REALS), {"b": _OR}),
    (np.minimum, _binary("Minimum", np.minimum, REALS), {"b": _AND}),
    (np.equal, _binary("Equal", np.equal, NUMBERS | BOOL, "bool"), {}),
    (np.not_equal, _NOT_EQUAL, {}),
    (np.less, _binary("Less", np.less, REALS, "bool"), {}),
    (np.less_equal, _binary("LessEqual", np.less_equal, REALS, "bool"), {}),
    (np.greater, _binary("Greater", np.greater, REALS, "bool"), {}),
    (np.greater_equal, _binary("GreaterEqual", np.greater_equal, REALS, "bool"), {}),
    (np.logical_and, _AND, {}),
    (np.logical_or, _OR, {}),
    (np.logical_xor, _NOT_EQUAL, {}),
    (np.logical_not, _NOT, {}),
    (np.negative, _unary("Neg", np.negative, FLOATS | SIGNED | COMPLEXES), {}),
    (np.absolute, _ABS, {"c": _COMPLEX_ABS}),
    (np.exp, _unary("Exp", np.exp, FLOATS | COMPLEXES), {}),
    (np.log, _unary("Log", np.log, FLOATS | COMPLEXES), {}),
    (np.sqrt, _unary("Sqrt", np.sqrt, FLOATS | COMPLEXES), {}),
    (np.square, _unary("Square", np.square, FLOATS | SIGNED | COMPLEXES), {}),
    (np.tanh, _unary("Tanh", np.tanh, FLOATS | COMPLEXES), {}),
)


def cast(value: Any, dtype: object) -> Value:
    """The value in another dtype, as a tensor or an array.

    Python scalars are converted, and must be in the dtype's range.
    """
    wanted = dtype_of(dtype)
    if type(value) in {bool, int, float, complex}:
        return np.asarray(value, wanted.numpy)
    given: Value = operand(value)
    return given if spec_dtype(given) == wanted else apply(_CAST, given, DstT=wanted)


def _ufunc(ufunc: np.ufunc, op: Op, by_kind: dict[str, Op]) -> Face:
    def face(*inputs: Any) -> Any:
        loop = loop_dtypes(ufunc, inputs)
        chosen = by_kind.get(loop[0].kind, op)
        types = {"Tout": dtype_of(loop[-1])} if chosen is _COMPLEX_ABS else {}
        return apply(
            chosen,
            *(cast(value, dtype) for value, dtype in zip(inputs, loop, strict=False)),
            **types,
        )

    return face


def loop_dtypes(ufunc: np.ufunc, inputs: tuple[Any, ...]) -> "tuple[np.dtype[Any], ...]":
    """The dtypes that numpy's ufunc converts its inputs to, then those of its outputs.

    Python numbers are weak, as in NEP 50.
    """
    try:
        return _loop_dtypes(ufunc, tuple(map(kind_of, inputs)))
    except TypeError as error:
        raise trace_error(f"numpy.{ufunc.__name__}", str(error)) from None


def kind_of(value: Any) -> Any:
    """The dtype of a value, or the type of a Python number, which takes on that of others."""
    if type(value) in {int, float, complex}:
        return type(value)
    return value.dtype if isinstance(value, Tensor) else operand(value).dtype


@cache
def _loop_dtypes(ufunc: np.ufunc, kinds: tuple[Any, ...]) -> "tuple[np.dtype[Any], ...]":
    return ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))


def _where(condition: Any, x: Any, y: Any) -> Any:
    dtype = common_dtype(x, y)
    return apply(_SELECT, cast(condition, bool), cast(x, dtype), cast(y, dtype))


def common_dtype(*values: Any) -> "np.dtype[Any]":
    """The dtype that holds all of these values, as numpy has it."""
    weak = [v for v in values if type(v) in {int, float, complex}]
    strong = [kind_of(v) for v in values if type(v) not in {int, float, complex}]
    return np.result_type(*strong, *weak)


def _astype(x: Any, dtype: object) -> Value:
    return cast(x, dtype)


OPS: tuple[Op, ...] = (
    *(op for _, op, _ in _UFUNCS),
    _COMPLEX_ABS,
    _CAST,
    _SELECT,
)

FACES: dict[Callable[..., Any], Face] = {
    **{ufunc: _ufunc(ufunc, op, by_kind) for ufunc, op, by_kind in _UFUNCS},
    np.where: _where,
    np.ndarray.astype: _astype,
}
