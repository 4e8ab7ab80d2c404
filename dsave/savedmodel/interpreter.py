"""Run the functions of a graph's library: on arrays, or on tensors, which records them anew.

Calls of other functions are followed, so that what is recorded is one graph. So are branches
and loops, by the values of their conditions: those of tensors that are being recorded have
none.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dsave.errors import CorruptionError, DsaveError, ModelError
from dsave.functions import xla_call_module
from dsave.functions.call import call as call_op
from dsave.functions.graph import CONST, READ, Attr, TensorSpec
from dsave.functions.operands import Value, operand
from dsave.functions.table import OPS
from dsave.functions.tracer import current_trace
from dsave.model.variable import Variable
from dsave.proto.graph_pb2 import FunctionDef, FunctionDefLibrary, NodeDef
from dsave.savedmodel.composed import COMPOSED
from dsave.savedmodel.programs import BRANCHES, CASES, LOOPS, Programs, Source, Step
from dsave.savedmodel.read_values import read_tensor
from dsave.savedmodel.tensor_lists import LISTS

_PASSED = frozenset(
    {
        *("CheckNumerics", "Identity", "IdentityN", "PlaceholderWithDefault"),
        *("PreventGradient", "Snapshot", "StopGradient"),
    }
)
"""Ops whose outputs are their inputs."""

_NOTHING = frozenset({"NoOp"})
_ASSERT = "Assert"

_BY_VALUE = BRANCHES | CASES | LOOPS | LISTS.keys() | {_ASSERT}
_KNOWN = (
    _BY_VALUE
    | {CONST, READ, xla_call_module.OP}
    | _PASSED
    | _NOTHING
    | COMPOSED.keys()
    | OPS.keys()
)

_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    xla_call_module.JaxError,
)
"""What arithmetic raises of inputs that do not fit together, and what JAX does."""


@dataclass(frozen=True, slots=True)
class Handle:
    """A variable as a graph passes it on; `read` gives its value.

    `variable` is the one that can be saved in its place, if there is one.
    """

    read: Callable[[], Any]
    variable: Variable | None = None


Argument = Value | Handle


class Interpreter:
    """The functions of a library; `file` is its name in errors."""

    def __init__(self, library: FunctionDefLibrary, file: str) -> None:
        self._programs = Programs(library, file)
        self._file = file

    def arguments(self, name: str) -> int:
        """How many arguments a function takes, handles included.

        Raises:
            CorruptionError: there is no such function, or it contradicts itself.
        """
        return self._programs[name].arguments

    def results(self, name: str) -> int:
        """How many tensors a function returns."""
        return len(self._programs[name].results)

    def unknown(self, name: str) -> set[str]:
        """The ops in a function, and in those that it runs, that cannot be run here.

        Raises:
            CorruptionError: a function contradicts itself, or calls itself.
        """
        return self._programs.ops(name) - _KNOWN

    def follows_values(self, name: str) -> bool:
        """Whether what a function does depends on values, so that a trace has one case of it.

        Raises:
            CorruptionError: a function contradicts itself, or calls itself.
        """
        return not self._programs.ops(name).isdisjoint(_BY_VALUE)

    def definition(self, name: str) -> FunctionDef | None:
        """A function as it was saved."""
        return self._programs.definitions.get(name)

    def run(self, name: str, arguments: Sequence[Argument]) -> list[Value]:
        """The results of a function, as `functions.run` has them; each variable is read once.

        Requires: `unknown` said that there is nothing that cannot be run.

        Raises:
            ModelError: the arguments do not fit together, or there is no JAX to run its code.
        """
        call = _Call()
        try:
            return self._run(name, arguments, call)
        except DsaveError:
            raise
        except _FAULTS as error:
            assert call.node is not None
            where = f"function {plain_name(name)}, node {call.node.name}"
            raise ModelError(where, f"{call.node.op} cannot be run: {error}") from error

    def _run(self, name: str, arguments: Sequence[Argument], call: "_Call") -> list[Value]:
        program = self._programs[name]
        outputs: list[list[Any]] = []

        def value(source: Source) -> Any:
            step, index = source
            try:
                return arguments[index] if step < 0 else outputs[step][index]
            except IndexError:
                node = program.steps[step].node.name
                raise CorruptionError(
                    self._file, name, f"node {node!r} has no output {index}"
                ) from None

        for step in program.steps:
            inputs = [value(source) for source in step.inputs]
            call.node = step.node
            outputs.append(self._step(step, inputs, call))
            for done in step.done:
                outputs[done] = []
        return [value(source) for source in program.results]

    def _step(self, step: Step, inputs: list[Any], call: "_Call") -> list[Any]:
        op = step.op
        if op in _NOTHING:
            return []
        if op in _PASSED:
            return inputs
        if step.functions:
            return self._functions(step, inputs, call)
        if op == CONST:
            return [self._constant(step)]
        if inputs and isinstance(inputs[0], Handle):
            inputs[0] = call.value(inputs[0])
        if op == READ:
            return inputs
        if op in LISTS:
            return [LISTS[op](step.attrs, *inputs)]
        if op == _ASSERT:
            return _assert(*inputs)
        if op == xla_call_module.OP:
            return _run_module(step.attrs, inputs)
        if op in COMPOSED:
            with np.errstate(all="ignore"):  # as TensorFlow, which warns of no overflow
                results = COMPOSED[op](step.attrs, *inputs)
        else:
            results = call_op(op, inputs, step.attrs)
        return list(map(operand, results)) if isinstance(results, list) else [operand(results)]

    def _constant(self, step: Step) -> Attr:
        """Its array; a large one is made where it is wanted, and not kept."""
        found = step.attrs.get("value")
        if found is None:
            tensor = step.node.attr["value"].tensor
            return read_tensor(tensor, self._file, step.node.name, large=True)
        return found

    def _functions(self, step: Step, inputs: list[Any], call: "_Call") -> list[Any]:
        """Run those that a node runs."""
        op, names = step.op, step.functions
        if op in BRANCHES:
            chosen = 0 if _is_true(inputs[0]) else 1
            return self._run(names[chosen], inputs[1:], call)
        if op in CASES:
            place = operator.index(inputs[0])
            last = len(names) - 1
            return self._run(names[place if 0 <= place < last else last], inputs[1:], call)
        if op in LOOPS:
            condition, body = names
            while _is_true(self._run(condition, inputs, call)[0]):
                inputs = self._run(body, inputs, call)
            return inputs
        return self._run(names[0], inputs, call)


@dataclass(slots=True)
class _Call:
    """What a call has read so far, by handle, and the node that runs."""

    reads: dict[int, Value] = field(default_factory=dict)
    node: NodeDef | None = None

    def value(self, handle: Handle) -> Value:
        """What a variable is worth: the same all through the call."""
        if id(handle) not in self.reads:
            self.reads[id(handle)] = operand(handle.read())
        return self.reads[id(handle)]


def _run_module(attrs: dict[str, Attr], inputs: list[Any]) -> list[Any]:
    """Run code of JAX; of tensors it is recorded."""
    if current_trace() is None:
        return list(xla_call_module.run_module(attrs, inputs))
    shapes: Any = attrs["Sout"]
    types: Any = attrs["Tout"]
    specs = [TensorSpec(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
    outputs = call_op(xla_call_module.OP, inputs, attrs, specs)
    return outputs if isinstance(outputs, list) else [outputs]


def _is_true(value: Value) -> bool:
    """As a condition: a scalar that is not 0 or empty, or a tensor that has elements."""
    return bool(value) if not value.ndim else bool(value.size)


def _assert(condition: Value, *data: Value) -> list[Any]:
    if not condition.all():
        raise ValueError(" ".join(map(_text, data)) or "the condition does not hold")
    return []


def _text(value: Value) -> str:
    items = value.ravel().tolist() if isinstance(value, np.ndarray) else ["?"]
    return " ".join(
        i.decode(errors="replace") if isinstance(i, bytes) else str(i) for i in items
    )


def plain_name(name: str) -> str:
    """`f` of `__inference_f_12`."""
    stem, _, number = name.removeprefix("__inference_").rpartition("_")
    return stem.removeprefix("signature_wrapper_") if stem and number.isdigit() else name
