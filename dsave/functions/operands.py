"""Operands of ops: tensors whose elements are not known, or arrays, whose are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape, TensorSpec, unnamed_spec
from dsave.functions.number import Number
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Tensor
from dsave.model.dtype import DType, dtype_of
from dsave.model.readable import value_of

Value = Tensor | Array
"""A tensor whose elements are not known, or are."""


def operand(value: Any) -> Value:
    """The value of a variable, a tensor as it is, anything else as an array.

    Raises:
        TraceError: it is no tensor.
    """
    value = value_of(value)
    if isinstance(value, Number):
        # No longer weak: as numpy makes arrays of Python numbers.
        return Tensor(value.tracer, value.output, value.spec)
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and _has_tensors(value):
        return np.stack([operand(item) for item in value])
    array = np.asarray(value)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    if array.dtype.kind == "S":
        return array.astype(object)
    if array.dtype.kind == "O":
        return _text(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _has_tensors(items: Sequence[Any]) -> bool:
    """Whether there is a tensor among these, or in one of them."""
    return any(
        _has_tensors(item)
        if isinstance(item, list | tuple)
        else isinstance(value_of(item), Tensor)
        for item in items
    )


def _text(array: Array) -> Array:
    """An array of objects as one of bytes."""
    for item in array.flat:
        if item is None:
            raise trace_error(
                "an operand",
                "None is no tensor",
            )
        if not isinstance(item, str | bytes):
            raise trace_error("an operand", f"a {type(item).__name__} is no tensor")
    made = [item.encode() if isinstance(item, str) else item for item in array.flat]
    return np.array(made, object).reshape(array.shape)


def known_shape(value: Value) -> Shape:
    """The extents of a tensor or an array; None is unknown."""
    return value.spec.shape if isinstance(value, Tensor) else value.shape


def described(value: Value) -> TensorSpec:
    """Shape and dtype of a tensor or an array."""
    if isinstance(value, Tensor):
        return unnamed_spec(value.spec.shape, value.spec.dtype)
    return unnamed_spec(value.shape, dtype_of(value.dtype))


def spec_dtype(value: Value) -> DType:
    """The dtype of a tensor or an array."""
    return value.spec.dtype if isinstance(value, Tensor) else dtype_of(value.dtype)
