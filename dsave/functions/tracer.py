"""Record ops: the graph in the making, and `apply`, by which all ops are recorded or run."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from dsave.functions.graph import (
    CONST,
    PLACEHOLDER,
    READ,
    Array,
    Attr,
    Attrs,
    Capture,
    FunctionGraph,
    Node,
    Output,
    TensorSpec,
)
from dsave.functions.op import Arg, Op
from dsave.functions.stack import trace_error, user_stack
from dsave.functions.structure import mapped
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import DType, dtype_of
from dsave.model.readable import reading, value_of
from dsave.model.variable import Variable

Value = Tensor | Array
"""A tensor whose elements are not known, or are."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")

_FOREIGN = (
    "it belongs to another function, or to another trace of this one; pass it as an argument, "
    "or return it"
)

_tracing: ContextVar["Trace | None"] = ContextVar("dsave_trace", default=None)


def current_trace() -> "Trace | None":
    """The trace that user code runs in, if any."""
    return _tracing.get()


class Trace:
    """A function's graph in the making. `faces` are what numpy's functions do to tensors."""

    def __init__(self, faces: Mapping[Callable[..., Any], Face]) -> None:
        self.faces = faces
        self.nodes: list[Node] = []
        self._names: set[str] = set()
        self._uses: dict[str, int] = {}
        self._captures: dict[Capture, Tensor] = {}
        self._constants: dict[object, Output] = {}
        # These calls do not return while the function is traced, so they are walked once.
        self._caller = sys._getframe(1)
        self._callers = user_stack()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run user code in this trace: its variables are read as tensors."""
        token = _tracing.set(self)
        try:
            with reading(self.read):
                yield
        finally:
            _tracing.reset(token)
            del self._caller

    def argument(self, spec: TensorSpec) -> Tensor:
        """A tensor that is given when the function runs."""
        name = _NOT_IN_NAMES.sub("_", spec.name or "arg")
        attrs: Attrs = {"dtype": spec.dtype, "shape": spec.shape}
        return self.add(PLACEHOLDER, (), attrs, (spec,), (("output", 1),), name=name)[0]

    def read(self, variable: Capture) -> Tensor:
        """The value of a variable, a component or an asset, read once in a function."""
        tensor = self._captures.get(variable)
        if tensor is None:
            shape = variable.shape if isinstance(variable, Variable) else variable.box.lengths
            spec = TensorSpec(shape, variable.dtype)
            (tensor,) = self.add(
                READ,
                (),
                {"dtype": spec.dtype},
                (spec,),
                (("value", 1),),
                capture=len(self._captures),
            )
            self._captures[variable] = tensor
        return tensor

    def output_of(self, value: Value) -> Output:
        """The tensor's place in the graph; an array becomes a constant of it."""
        if isinstance(value, Tensor):
            if value.trace is not self:
                raise trace_error("a tensor", _FOREIGN)
            return value.output
        return self._constant(value)

    def add(
        self,
        op: str,
        inputs: Sequence[Value],
        attrs: Attrs,
        outputs: Sequence[TensorSpec],
        output_args: tuple[tuple[str, int], ...],
        *,
        name: str | None = None,
        capture: int | None = None,
    ) -> list[Tensor]:
        """Record a node; its outputs."""
        if current_trace() is not self:
            raise trace_error("a tensor", _FOREIGN)
        sources = tuple(map(self.output_of, inputs))
        node = Node(
            self._unique(name or _NOT_IN_NAMES.sub("_", op)),
            op,
            sources,
            attrs,
            tuple(outputs),
            output_args,
            (*self._callers, *user_stack(self._caller)),
            capture,
        )
        self.nodes.append(node)
        place = len(self.nodes) - 1
        return [Tensor(self, Output(place, index), spec) for index, spec in enumerate(outputs)]

    def finished(
        self,
        name: str,
        structured_inputs: tuple[tuple[object, ...], dict[str, object]],
        arguments: Sequence[TensorSpec],
        results: object,
    ) -> FunctionGraph:
        """The graph whose outputs are these results of the user's code."""
        outputs: list[Output] = []

        def output(result: object) -> TensorSpec | None:
            if result is None:
                return None
            value = operand(result)
            outputs.append(self.output_of(value))
            return TensorSpec(value.shape, spec_dtype(value))

        structure = mapped(output, results)
        return FunctionGraph(
            name,
            tuple(arguments),
            structured_inputs,
            tuple(self.nodes),
            tuple(self._captures),
            tuple(outputs),
            structure,
        )

    def _constant(self, array: Array) -> Output:
        dtype = dtype_of(array.dtype)
        # The content is copied, since the user may change the array after this use of it.
        if dtype.is_string:
            content: object = tuple(array.ravel().tolist())
            kept = np.array(array, object)
            kept.flags.writeable = False
        else:
            content = array.tobytes()
            kept = np.frombuffer(content, array.dtype).reshape(array.shape)
        key = (dtype, array.shape, content)
        if key not in self._constants:
            spec = TensorSpec(array.shape, dtype)
            attrs: Attrs = {"dtype": dtype, "value": kept}
            (tensor,) = self.add(CONST, (), attrs, (spec,), (("output", 1),))
            self._constants[key] = tensor.output
        return self._constants[key]

    def _unique(self, wanted: str) -> str:
        # Without regard to case, as in tensorflow/python/framework/ops.py.
        name, key = wanted, wanted.lower()
        while name.lower() in self._names:
            self._uses[key] = self._uses.get(key, 0) + 1
            name = f"{wanted}_{self._uses[key]}"
        self._names.add(name.lower())
        return name


def operand(value: Any) -> Value:
    """The value of a variable, a tensor as it is, anything else as an array.

    Raises:
        TraceError: it is no tensor.
    """
    value = value_of(value)
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    if array.dtype.kind == "S":
        return array.astype(object)
    if array.dtype.kind == "O":
        return _text(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _text(array: Array) -> Array:
    """An array of objects as one of bytes."""
    for item in array.flat:
        if item is None:
            raise trace_error(
                "an operand",
                "None is no tensor; if it is an unknown extent of a shape, "
                "dsave.ops.shape(x)[axis] gives it as a tensor",
            )
        if not isinstance(item, str | bytes):
            raise trace_error("an operand", f"a {type(item).__name__} is no tensor")
    made = [item.encode() if isinstance(item, str) else item for item in array.flat]
    return np.array(made, object).reshape(array.shape)


def spec_dtype(value: Value) -> DType:
    """The dtype of a tensor or an array."""
    return value.spec.dtype if isinstance(value, Tensor) else dtype_of(value.dtype)


def apply(op: Op, *inputs: Value | Sequence[Value], **given: Attr) -> Any:
    """Record an op on tensors, or run it on arrays.

    One input for each argument of the op: a list where the op takes several tensors. One
    value is returned, or a list of them where the op gives several.

    Raises:
        TraceError: the dtypes or the shapes do not fit the op.
    """
    flat, types = bound(op, inputs)
    attrs = {**op.defaults, **types, **given}
    traces = [value.trace for value in flat if isinstance(value, Tensor)]
    outputs: Sequence[Value]
    if traces:
        shapes = op.shape(attrs, *flat)
        specs = [
            TensorSpec(shape, dtype)
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
    several = len(op.outputs) > 1 or op.outputs[0].count
    return list(outputs) if several else outputs[0]


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
