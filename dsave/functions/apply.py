"""Apply an op: record it if an operand is a tensor that is traced, or run it on arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import Attr, unnamed_spec
from dsave.functions.known import Known
from dsave.functions.op import Arg, Op
from dsave.functions.operands import Value, spec_dtype
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Tensor
from dsave.model.dtype import DType


def apply(op: Op, *inputs: Value | Sequence[Value], **given: Attr) -> Any:
    """Record an op on tensors, or run it on arrays.

    One input for each argument of the op: a list where the op takes several tensors. One
    value is returned, or a list of them where the op gives several.

    Raises:
        TraceError: the dtypes or the shapes do not fit the op.
    """
    flat, types = bound(op, inputs)
    attrs = {**op.defaults, **types, **given}
    traces = [value.tracer for value in flat if isinstance(value, Tensor)]
    outputs: Sequence[Value]
    if traces:
        known = (Known(value) if isinstance(value, Tensor) else value for value in flat)
        shapes = op.shape(attrs, *known)
        specs = [
            unnamed_spec(shape, dtype)
            for shape, dtype in zip(
                shapes if isinstance(shapes, list) else [shapes],
                op.output_dtypes(attrs),
                strict=True,
            )
        ]
        kept = {
            key: attr
            for key, attr in attrs.items()
            if key not in op.defaults or attr != op.defaults[key]
        }
        outputs = traces[0].add(op.name, flat, kept, specs, op.output_args(attrs))
    else:
        outputs = op.run(attrs, flat)  # type: ignore[arg-type]
    return list(outputs) if op.gives_several else outputs[0]


def bound(
    op: Op, inputs: Sequence[Value | Sequence[Value]]
) -> tuple[list[Value], dict[str, Attr]]:
    """The flat inputs, and the attributes that they imply.

    Raises:
        TraceError: the dtypes do not fit the op.
    """
    flat: list[Value] = []
    attrs: dict[str, Attr] = {}
    for arg, given in zip(op.inputs, inputs, strict=True):
        values = list(given) if arg.count else [given]
        if arg.count:
            attrs[arg.count] = len(values)
        for value in values:
            assert isinstance(value, Tensor | np.ndarray)
            _check_dtype(op, arg, spec_dtype(value), attrs)
            flat.append(value)
    return flat, attrs


def _check_dtype(op: Op, arg: Arg, dtype: DType, attrs: dict[str, Attr]) -> None:
    wanted: object = arg.dtype
    if isinstance(arg.dtype, str):
        if arg.dtype == op.type_attr and op.types is not None and dtype not in op.types:
            names = ", ".join(sorted(map(str, op.types)))
            raise trace_error(op.name, f"TensorFlow computes it for {names}, not for {dtype}")
        wanted = attrs.setdefault(arg.dtype, dtype)
    if dtype is not wanted:  # each is one object
        raise trace_error(op.name, f"{arg.name} is {dtype} where {wanted!s} is wanted")
