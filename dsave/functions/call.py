"""`dsave.ops.call`: any TensorFlow op, by its name."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsave.errors import ModelError, OptionTypeError
from dsave.functions.apply import apply, bound
from dsave.functions.graph import Attr, TensorSpec
from dsave.functions.op import Op
from dsave.functions.operands import Value, operand
from dsave.functions.table import OPS
from dsave.functions.tensor import Tensor
from dsave.functions.tracer import current_trace
from dsave.model.dtype import DType, dtype_of


def call(
    op_name: str,
    inputs: Sequence[Any] = (),
    attrs: Mapping[str, Any] | None = None,
    outputs: TensorSpec | Sequence[TensorSpec] | None = None,
) -> Any:
    """Record a TensorFlow op, `Namespace>Op` included; its output, or the list of them.

    `attrs` are dtypes, bools, ints, floats, str, arrays (tensors), tuples (shapes; None is an
    unknown extent) and lists of these. `outputs` describe the op's outputs; their names are
    those of its output arguments, "output" if not given. For an op that dsave knows, outputs
    and the attributes that follow from the inputs may be left out, and arrays are computed on
    outside of traces.

    Raises:
        ModelError: the op is not known, and no function is being traced.
        OptionTypeError: the attributes or outputs are no such things.
        TraceError: the inputs do not fit the op.
    """
    values = [operand(value) for value in inputs]
    given = {name: attr_of(attr, f"{op_name}, {name}") for name, attr in (attrs or {}).items()}
    known = OPS.get(op_name)
    if known is not None and outputs is None:
        return apply(known, *_grouped(known, values), **given)
    trace = current_trace()
    if trace is None:
        raise ModelError(
            op_name, "numpy cannot run this op; TensorFlow does where a dsave.function has it"
        )
    specs = [outputs] if isinstance(outputs, TensorSpec) else list(outputs or ())
    if not all(isinstance(spec, TensorSpec) for spec in specs):
        raise OptionTypeError("outputs", f"TensorSpecs are wanted, got {outputs!r}")
    if known is not None:
        given = {**bound(known, _grouped(known, values))[1], **given}
        args = known.output_args({**known.defaults, **given})
    else:
        names = itertools.groupby(spec.name or "output" for spec in specs)
        args = tuple((name, len(list(same))) for name, same in names)
    plain = [TensorSpec(spec.shape, spec.dtype) for spec in specs]
    tensors = trace.add(op_name, values, given, plain, args)
    return tensors[0] if len(tensors) == 1 else tensors


def attr_of(given: Any, name: str) -> Attr:
    """An attribute as a node has it.

    Raises:
        OptionTypeError: no attribute can be made of it.
    """
    attr: Any
    if isinstance(given, Tensor):
        raise OptionTypeError(name, f"no attribute can be made of a tensor, {given.spec}")
    if isinstance(given, bool | np.bool_):
        return bool(given)
    if isinstance(given, int | np.integer):
        return int(given)
    if isinstance(given, float | np.floating):
        return float(given)
    if isinstance(given, str):
        return given.encode()
    if isinstance(given, DType | bytes):
        return given
    if isinstance(given, np.ndarray):
        return given
    if isinstance(given, tuple):
        return TensorSpec(given).shape
    if isinstance(given, list):
        attr = [attr_of(each, name) for each in given]
        return attr  # type: ignore[no-any-return]
    if isinstance(given, np.dtype | type):
        return dtype_of(given)
    raise OptionTypeError(name, f"no attribute can be made of {given!r}")


def _grouped(op: Op, values: list[Value]) -> list[Any]:
    """The inputs as `apply` takes them: a list for an argument of several tensors."""
    many = len(values) - len(op.inputs) + 1
    if many != 1 and not (many >= 0 and any(arg.count for arg in op.inputs)):
        names = ", ".join(arg.name for arg in op.inputs)
        raise OptionTypeError(op.name, f"its inputs are {names}, got {len(values)}")
    rest = iter(values)
    return [
        list(itertools.islice(rest, many)) if arg.count else next(rest) for arg in op.inputs
    ]
