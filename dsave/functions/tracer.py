"""The graph of a function in the making."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from dsave.errors import OptionTypeError, TraceError
from dsave.functions.constants import Constants
from dsave.functions.graph import (
    CONST,
    PLACEHOLDER,
    READ,
    Array,
    Attrs,
    Call,
    Capture,
    FunctionGraph,
    Node,
    Output,
    TensorSpec,
    unnamed_spec,
)
from dsave.functions.names import Names
from dsave.functions.number import Extent
from dsave.functions.operands import Value, described, operand
from dsave.functions.stack import trace_error, user_stack
from dsave.functions.structure import mapped
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import DType
from dsave.model.readable import reading
from dsave.model.variable import Variable

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
    """A function's graph in the making.

    `faces` are what numpy's functions do to tensors. `recorded_shapes` are vectors of extents.
    `refused_size` is the last error about a size that is not known. `calls` are those of the
    FunctionGraph.
    """

    def __init__(self, faces: Mapping[Callable[..., Any], Face]) -> None:
        self.faces = faces
        self.nodes: list[Node] = []
        self._names = Names()
        self._captures: dict[Capture, Tensor] = {}
        self._constants = Constants(self._add_constant)
        self._shapes: dict[Output, tuple[int | Extent, ...]] = {}
        self.recorded_shapes: dict[Output, Tensor] = {}
        self.calls: list[Call] = []
        # These calls do not return while the function is traced, so they are walked once.
        self._caller = sys._getframe(1)
        self.refused_size: TraceError | None = None
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

    def covered_by(self, error: Exception) -> Exception:
        """The error of a tensor that numpy covered with one of its own, or the error as it is.

        So it does in an assignment to an array's elements, and in `numpy.zeros(n)`.
        """
        if isinstance(error, TraceError):
            return error
        if isinstance(error.__cause__, TraceError):
            return error.__cause__
        is_of_a_size = isinstance(error, TypeError) and "sequence of integers" in str(error)
        return self.refused_size or error if is_of_a_size else error

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

    def shape_of(self, tensor: Tensor) -> tuple[int | Extent, ...]:
        """The extents of a tensor; those that are unknown are always the same objects."""
        if tensor.output not in self._shapes:
            self._shapes[tensor.output] = tuple(
                Extent(tensor, axis) if extent is None else extent
                for axis, extent in enumerate(tensor.spec.shape)
            )
        return self._shapes[tensor.output]

    def constant(self, array: Array) -> Tensor:
        """A tensor of these elements."""
        return Tensor(self, self._constants[array], described(array))

    def output_of(self, value: Value) -> Output:
        """The tensor's place in the graph; an array becomes a constant of it."""
        if isinstance(value, Tensor):
            if value.tracer is not self:
                raise trace_error("a tensor", _FOREIGN)
            return value.output
        return self._constants[value]

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
            self._names.unique(name or _NOT_IN_NAMES.sub("_", op)),
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
            try:
                value = operand(result)
            except TraceError as error:
                raise trace_error(f"a result of {name}", error.problem) from None
            outputs.append(self.output_of(value))
            return described(value)

        try:
            structure = mapped(output, results)
        except OptionTypeError as error:
            raise trace_error(f"{error.option}, a result of {name}", error.problem) from None
        return FunctionGraph(
            name,
            tuple(arguments),
            structured_inputs,
            tuple(self.nodes),
            tuple(self._captures),
            tuple(outputs),
            structure,
            tuple(self.calls),
        )

    def _add_constant(self, dtype: DType, array: Array) -> Output:
        spec = unnamed_spec(array.shape, dtype)
        attrs: Attrs = {"dtype": dtype, "value": array}
        (tensor,) = self.add(CONST, (), attrs, (spec,), (("output", 1),))
        return tensor.output
