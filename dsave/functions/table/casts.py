"""Dtypes as numpy has them: what functions convert their inputs to, and the op that does."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.stack import trace_error
from dsave.functions.table.rules import NUMBERS, known_shape, same
from dsave.functions.tensor import Face, Tensor
from dsave.functions.tracer import Value, apply, operand, spec_dtype
from dsave.model.dtype import dtype_of

_CAST = op(
    "Cast(x: SrcT) -> y: DstT",
    shape=same,
    kernel=lambda attrs, x: x.astype(attrs["DstT"].numpy),
)


def _recast_shape(attrs: AnyAttrs, x: Value) -> Shape:
    times, left = divmod(x.dtype.itemsize, attrs["type"].numpy.itemsize)
    if times:
        return known_shape(x) if times == 1 else (*known_shape(x), times)
    parts = attrs["type"].numpy.itemsize // left
    if not x.ndim or known_shape(x)[-1] not in {None, parts}:
        raise trace_error("Bitcast", f"the last axis of {x.shape} is not of {parts} parts")
    return known_shape(x)[:-1]


def _recast(attrs: AnyAttrs, x: Array) -> Array:
    result: Array = np.frombuffer(x.tobytes(), attrs["type"].numpy)
    return result.reshape([extent or 0 for extent in _recast_shape(attrs, x)])


_BITCAST = op(
    "Bitcast(input: T) -> output: type", shape=_recast_shape, kernel=_recast, types=NUMBERS
)


def bits_of(x: Value) -> Any:
    """The bits of each element as a signed integer."""
    return apply(_BITCAST, x, type=dtype_of(f"int{8 * x.dtype.itemsize}"))


def cast(value: Any, dtype: object) -> Value:
    """The value in another dtype, as a tensor or an array.

    Python scalars are converted, and must be in the dtype's range.
    """
    wanted = dtype_of(dtype)
    if type(value) in {bool, int, float, complex}:
        return np.asarray(value, wanted.numpy)
    given: Value = operand(value)
    return given if spec_dtype(given) is wanted else apply(_CAST, given, DstT=wanted)


def whole(value: Value, function: str) -> Value:
    """Integers as int32, or as int64 if they may need it."""
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind not in "iu":
        raise trace_error(function, f"integers are wanted, got {value.dtype}")
    return cast(value, "int32" if size <= (2 if kind == "u" else 4) else "int64")


def loop_dtypes(
    ufunc: np.ufunc, inputs: tuple[Any, ...], dtype: Any = None, casting: str = "same_kind"
) -> "tuple[np.dtype[Any], ...]":
    """The dtypes that numpy's ufunc converts its inputs to, then those of its outputs.

    Python numbers are weak, as in NEP 50. `dtype` is what is wanted of the outputs.
    """
    wanted = None if dtype is None else dtype_of(dtype).numpy
    try:
        return _loop_dtypes(ufunc, tuple(map(kind_of, inputs)), wanted, casting)
    except TypeError as error:
        raise trace_error(f"numpy.{ufunc.__name__}", str(error)) from None


def kind_of(value: Any) -> Any:
    """The dtype of a value, or the type of a Python number, which takes on that of others."""
    if type(value) in {int, float, complex}:
        return type(value)
    return value.dtype if isinstance(value, Tensor) else operand(value).dtype


@cache
def _loop_dtypes(
    ufunc: np.ufunc, kinds: tuple[Any, ...], wanted: "np.dtype[Any] | None", casting: Any
) -> "tuple[np.dtype[Any], ...]":
    outputs = (None,) * ufunc.nout
    if wanted is None:
        return ufunc.resolve_dtypes((*kinds, *outputs), casting=casting)
    signature = (*(None,) * ufunc.nin, *(wanted,) * ufunc.nout)
    return ufunc.resolve_dtypes((*kinds, *outputs), signature=signature, casting=casting)


def common_dtype(*values: Any) -> "np.dtype[Any]":
    """The dtype that holds all of these values, as numpy has it."""
    weak = [v for v in values if type(v) in {int, float, complex}]
    strong = [kind_of(v) for v in values if type(v) not in {int, float, complex}]
    return np.result_type(*strong, *weak)


OPS: tuple[Op, ...] = (_CAST, _BITCAST)

FACES: dict[Callable[..., Any], Face] = {np.ndarray.astype: cast}
