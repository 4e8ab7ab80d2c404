"""What the table says of an op: the form of its arguments, its shapes and its arithmetic.

The form is written as TensorFlow's op registry prints it
(tensorflow/core/framework/op_def.proto):

    MatMul(a: T, b: T) -> product: T         T is an attribute: the dtype of a, b and product
    Shape(input: T) -> output: out_type      out_type is one that no input gives
    ConcatV2(values: N*T, axis: Tidx) -> ... N is an attribute: the number of values
    Fill(dims: int32, ...) -> ...            a dtype that is always the same
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Attr, Attrs, Shape
from dsave.model.dtype import DTYPES, DType, dtype_of

AnyAttrs = Mapping[str, Any]
"""Attributes, defaults included, as the code of an op takes them: it knows their types."""

ShapeRule = Callable[..., "Shape | list[Shape]"]
"""From attributes and inputs to the outputs' shapes. Inputs are arrays where they are known."""

Kernel = Callable[..., "Array | list[Array]"]
"""From attributes and arrays to an array, or a list of them where the op gives several."""

_FORM = re.compile(r"(?P<name>[\w>]+)\((?P<inputs>.*)\) -> (?P<outputs>.+)")
_DTYPES = frozenset(dtype.name for dtype in DTYPES)


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of an op: a tensor, or as many as the attribute `count` says.

    `dtype` is that of the tensors, or the name of the attribute that says it.
    """

    name: str
    dtype: DType | str
    count: str | None


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One TensorFlow op.

    `types` are the dtypes that TensorFlow computes it for on a CPU, values of the attribute
    `type_attr`; None: any. `defaults` are the attributes that have one.
    """

    name: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    shape: ShapeRule
    kernel: Kernel
    types: frozenset[DType] | None
    type_attr: str | None
    defaults: Attrs

    @property
    def gives_several(self) -> bool:
        """Whether its result is a list of tensors, be it of one."""
        return len(self.outputs) > 1 or self.outputs[0].count is not None

    def output_args(self, attrs: AnyAttrs) -> tuple[tuple[str, int], ...]:
        """Name of, and number of tensors in, each output argument."""
        return tuple((arg.name, _count(arg, attrs)) for arg in self.outputs)

    def output_dtypes(self, attrs: AnyAttrs) -> list[DType]:
        """The dtype of each output tensor."""
        dtypes = []
        for arg in self.outputs:
            dtype = attrs[arg.dtype] if isinstance(arg.dtype, str) else arg.dtype
            assert isinstance(dtype, DType)
            dtypes += [dtype] * _count(arg, attrs)
        return dtypes

    def run(self, attrs: AnyAttrs, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs, computed with numpy."""
        full = {**self.defaults, **attrs}
        with np.errstate(all="ignore"):  # as TensorFlow, which warns of no overflow
            results = self.kernel(full, *inputs)
        outputs = results if isinstance(results, list) else [results]
        dtypes = self.output_dtypes(full)
        return tuple(
            np.asarray(output, dtype.numpy)
            for output, dtype in zip(outputs, dtypes, strict=True)
        )


def op(
    form: str,
    *,
    shape: ShapeRule,
    kernel: Kernel,
    types: frozenset[DType] | None = None,
    **defaults: Attr,
) -> Op:
    """An op of the form that is described above."""
    found = _FORM.fullmatch(form)
    assert found, form
    inputs = tuple(map(_arg, filter(None, found["inputs"].split(", "))))
    outputs = tuple(map(_arg, found["outputs"].split(", ")))
    known: Mapping[str, Attr] = MappingProxyType(defaults)
    type_attr = next((arg.dtype for arg in inputs if isinstance(arg.dtype, str)), None)
    return Op(found["name"], inputs, outputs, shape, kernel, types, type_attr, known)


def plain(function: Callable[..., Any]) -> Kernel:
    """The kernel of an op whose attributes do not matter."""
    return lambda _, *inputs: function(*inputs)


def dtypes(names: str) -> frozenset[DType]:
    """The dtypes of these names."""
    return frozenset(map(dtype_of, names.split()))


def _arg(text: str) -> Arg:
    name, _, kind = text.partition(": ")
    count, _, dtype = kind.rpartition("*")
    return Arg(name, dtype_of(dtype) if dtype in _DTYPES else dtype, count or None)


def _count(arg: Arg, attrs: AnyAttrs) -> int:
    if arg.count is None:
        return 1
    count = attrs[arg.count]
    assert isinstance(count, int)
    return count
