"""Run the functions of a graph's library: on arrays, or on tensors, which records them anew.

Only what the results and the control outputs of a function need is run. Calls of other
functions are followed, so that what is recorded is one graph. Format of the references:
tensorflow/core/framework/function.proto.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dsave.errors import CorruptionError
from dsave.functions.call import call
from dsave.functions.graph import CONST, READ, Attr
from dsave.functions.table import OPS
from dsave.functions.tracer import Value, operand
from dsave.proto.graph_pb2 import FunctionDef, FunctionDefLibrary, NodeDef
from dsave.savedmodel.read_values import read_attr

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_PASSED = frozenset(
    {"CheckNumerics", "Identity", "IdentityN", "PreventGradient", "Snapshot", "StopGradient"}
)
"""Ops whose outputs are their inputs."""

_NOTHING = frozenset({"NoOp"})
_MAX_DEPTH = 100


def _add_all(_: Mapping[str, Any], *values: Any) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _sliced(_: Mapping[str, Any], value: Any, begin: Any, size: Any) -> Any:
    return value[
        tuple(
            slice(start, None if length < 0 else start + length)
            for start, length in zip(begin.tolist(), size.tolist(), strict=True)
        )
    ]


_OTHERS: Mapping[str, Callable[..., Any]] = {
    "Add": _add_all,
    "AddN": _add_all,
    "BiasAdd": lambda attrs, value, bias: (
        value + bias.reshape(-1, *[1] * (value.ndim - 2))
        if attrs.get("data_format") == b"NCHW"
        else value + bias
    ),
    "Erfc": lambda _, value: 1 - call("Erf", [value]),
    "ResourceGather": lambda _, value, rows: np.take(value, rows, axis=0),
    "Rsqrt": lambda _, value: np.reciprocal(np.sqrt(value)),
    "Slice": _sliced,
    "SquaredDifference": lambda _, first, second: np.square(first - second),
}
"""Ops that the table does not have, by those that it has."""


_KNOWN = {CONST, READ} | _PASSED | _NOTHING | _OTHERS.keys() | OPS.keys()


@dataclass(frozen=True, slots=True)
class Handle:
    """A variable as a graph passes it on; `read` gives its value."""

    read: Callable[[], Any]


Argument = Value | Handle


@dataclass(slots=True)
class _Step:
    """One node: its inputs are (step, output), or (-1, argument)."""

    node: NodeDef
    attrs: dict[str, Attr]
    inputs: list[tuple[int, int]]
    function: str | None = None


@dataclass(slots=True)
class _Program:
    """A function in the order in which it runs."""

    arguments: int
    steps: list[_Step] = field(default_factory=list)
    results: list[tuple[int, int]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)


class Interpreter:
    """The functions of a library; `file` is its name in errors."""

    def __init__(self, library: FunctionDefLibrary, file: str) -> None:
        self._definitions = {each.signature.name: each for each in library.function}
        self._file = file
        self._programs: dict[str, _Program] = {}

    def arguments(self, name: str) -> int:
        """How many arguments a function takes, handles included.

        Raises:
            CorruptionError: there is no such function, or it contradicts itself.
        """
        return self._program(name).arguments

    def results(self, name: str) -> int:
        """How many tensors a function returns."""
        return len(self._program(name).results)

    def unknown(self, name: str) -> set[str]:
        """The ops in a function, and in those that it calls, that cannot be run here.

        Raises:
            CorruptionError: a function contradicts itself, or calls itself.
        """
        found: set[str] = set()
        seen: set[str] = set()
        self._look(name, found, seen, ())
        return found

    def run(self, name: str, arguments: Sequence[Argument]) -> list[Value]:
        """The results of a function, as `functions.run` has them; each variable is read once.

        Requires: `unknown` said that there is nothing that cannot be run.
        """
        return self._run(name, arguments, {})

    def _look(
        self, name: str, found: set[str], seen: set[str], callers: tuple[str, ...]
    ) -> None:
        if name in callers or len(callers) > _MAX_DEPTH:
            raise CorruptionError(self._file, name, "the function calls itself")
        if name in seen:
            return
        program = self._program(name)
        found |= program.unknown
        for step in program.steps:
            if step.function is not None:
                self._look(step.function, found, seen, (*callers, name))
        seen.add(name)

    def _run(
        self, name: str, arguments: Sequence[Argument], reads: dict[int, Value]
    ) -> list[Value]:
        program = self._program(name)
        outputs: list[list[Any]] = []

        def value(source: tuple[int, int]) -> Any:
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
            outputs.append(self._step(step, inputs, reads))
        return [value(source) for source in program.results]

    def _step(self, step: _Step, inputs: list[Any], reads: dict[int, Value]) -> list[Any]:
        op = step.node.op
        if op in _NOTHING:
            return []
        if op in _PASSED:
            return inputs
        if step.function is not None:
            return self._run(step.function, inputs, reads)
        if op == CONST:
            return [step.attrs["value"]]
        if inputs and isinstance(inputs[0], Handle):
            if id(inputs[0]) not in reads:
                reads[id(inputs[0])] = operand(inputs[0].read())
            inputs[0] = reads[id(inputs[0])]
        if op == READ:
            return inputs
        if op in _OTHERS:
            return [operand(_OTHERS[op](step.attrs, *inputs))]
        results = call(op, inputs, step.attrs)
        return results if isinstance(results, list) else [results]

    def _program(self, name: str) -> _Program:
        if name not in self._programs:
            if name not in self._definitions:
                raise CorruptionError(self._file, name, "the graph has no such function")
            self._programs[name] = self._compiled(self._definitions[name])
        return self._programs[name]

    def _compiled(self, definition: FunctionDef) -> _Program:
        name = definition.signature.name
        arguments = {
            arg.name: place for place, arg in enumerate(definition.signature.input_arg)
        }
        nodes = {node.name: node for node in definition.node_def}
        program = _Program(len(arguments))
        places: dict[str, int] = {}
        wanted = [definition.ret[arg.name] for arg in definition.signature.output_arg]
        for root in (*wanted, *(f"^{node}" for node in definition.control_ret.values())):
            for node in self._needed(root, nodes, arguments, places, name):
                places[node.name] = len(program.steps)
                step = self._compiled_node(node, arguments, places, nodes, name)
                program.steps.append(step)
                if step.function is None and node.op not in _KNOWN:
                    program.unknown.add(node.op)
        for reference in wanted:
            program.results.append(_source(reference, arguments, places, nodes))
        return program

    def _needed(
        self,
        root: str,
        nodes: Mapping[str, NodeDef],
        arguments: Mapping[str, int],
        placed: Mapping[str, int],
        function: str,
    ) -> Iterator[NodeDef]:
        """The nodes that a reference needs, each after what it needs itself."""
        waiting: list[tuple[str, Iterator[str]]] = []
        open_nodes: set[str] = set()

        def enter(reference: str) -> None:
            node = _node_of(reference)
            if node in placed or (node in arguments and ":" not in reference):
                return
            if node not in nodes:
                raise CorruptionError(self._file, function, f"it has no node {node!r}")
            if node in open_nodes:
                raise CorruptionError(self._file, function, f"node {node!r} needs itself")
            open_nodes.add(node)
            waiting.append((node, iter(nodes[node].input)))

        enter(root)
        while waiting:
            node, inputs = waiting[-1]
            reference = next(inputs, None)
            if reference is not None:
                enter(reference)
                continue
            waiting.pop()
            open_nodes.discard(node)
            if node not in placed:
                yield nodes[node]

    def _compiled_node(
        self,
        node: NodeDef,
        arguments: Mapping[str, int],
        places: Mapping[str, int],
        nodes: Mapping[str, NodeDef],
        function: str,
    ) -> _Step:
        attrs = {}
        for key, proto in node.attr.items():
            if not key.startswith("_"):
                attr = read_attr(proto, self._file, f"{function}, node {node.name}")
                if attr is not None:
                    attrs[key] = attr
        called = None
        if node.op in _CALLS:
            called = node.attr["f"].func.name
        elif node.op in self._definitions:
            called = node.op
        elif node.op == CONST and "value" not in attrs:
            raise CorruptionError(self._file, function, f"{node.name!r} has no value")
        sources = [
            _source(reference, arguments, places, nodes)
            for reference in node.input
            if not reference.startswith("^")
        ]
        return _Step(node, attrs, sources, called)


def _node_of(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]


def _source(
    reference: str,
    arguments: Mapping[str, int],
    places: Mapping[str, int],
    nodes: Mapping[str, NodeDef],
) -> tuple[int, int]:
    """(step, output) of a reference: `argument`, `node:output:number`, or `node:number`."""
    name, *rest = reference.split(":")
    if not rest and name in arguments:
        return -1, arguments[name]
    number = rest[-1] if rest else "0"
    return places[name], _before(nodes[name], rest) + (int(number) if number.isdigit() else 0)


def _before(node: NodeDef, rest: Sequence[str]) -> int:
    """How many outputs a node has before those of the argument that a reference names."""
    args = OPS[node.op].outputs if len(rest) > 1 and node.op in OPS else ()
    before = itertools.takewhile(lambda arg: arg.name != rest[0], args)
    return sum(node.attr[arg.count].i if arg.count else 1 for arg in before)
