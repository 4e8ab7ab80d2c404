"""Dtypes as numpy has them: what functions convert their inputs to, and the op that does."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from dsave.errors import TraceError
from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.number import Number
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand, spec_dtype
from dsave.functions.stack import trace_error
from dsave.functions.table.rules import NUMBERS, same
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import dtype_of


def _cast(attrs: AnyAttrs, x: Array) -> Array:
    wanted = attrs["DstT"].numpy
    # Of complex numbers TensorFlow takes the real part, also for a bool.
    real = x.dtype.kind == "c" and wanted.kind != "c"
    return (x.real if real else x).astype(wanted)


_CAST = op("Cast(x: SrcT) -> y: DstT", shape=same, kernel=_cast)


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

    Raises:
        TraceError: a Python number that is not in the dtype's range.
    """
    wanted = dtype_of(dtype)
    if type(value) in {bool, int, float, complex}:
        try:
            return np.asarray(value, wanted.numpy)
        except (OverflowError, TypeError) as error:
            raise trace_error(f"{value!r}", str(error)) from None
    given: Value = operand(value)
    if wanted.name == "bool" and given.dtype.kind == "c":
        different: Any = np.not_equal(given, 0)
        return different if isinstance(different, Tensor) else np.asarray(different)
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
    except TraceError:
        raise
    except TypeError as error:
        raise trace_error(f"numpy.{ufunc.__name__}", str(error)) from None


def kind_of(value: Any) -> Any:
    """The dtype of a value, or the type of a Python number, which takes on that of others."""
    if type(value) in {int, float, complex}:
        return type(value)
    if isinstance(value, Number):
        return value.kind
    return value.dtype if isinstance(value, Tensor) else operand(value).dtype


@cache
def _loop_dtypes(
    ufunc: np.ufunc, kinds: tuple[Any, ...], wanted: "np.dtype[Any] | None", casting: Any
) -> "tuple[np.dtype[Any], ...]":
    if all(isinstance(kind, type) for kind in kinds):
        kinds = tuple(map(np.dtype, kinds))  # or some ufuncs would take them for objects
    outputs = (None,) * ufunc.nout
    if wanted is None:
        return ufunc.resolve_dtypes((*kinds, *outputs), casting=casting)
    signature = (*(None,) * ufunc.nin, *(wanted,) * ufunc.nout)
    return ufunc.resolve_dtypes((*kinds, *outputs), signature=signature, casting=casting)


def common_dtype(*values: Any) -> "np.dtype[Any]":
    """The dtype that holds all of these values, as numpy has it."""
    kinds = map(kind_of, values)
    # What is not a dtype is the type of a Python number, of which its zero speaks.
    return np.result_type(*(kind() if isinstance(kind, type) else kind for kind in kinds))


OPS: tuple[Op, ...] = (_CAST, _BITCAST)

FACES: dict[Callable[..., Any], Face] = {np.ndarray.astype: cast}
