"""The functions of a graph's library, put in the order in which their nodes run.

Only what the results and the control outputs of a function need is in it. Format of the
references: tensorflow/core/framework/function.proto.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dsave.errors import CorruptionError, DtypeError, ModelError
from dsave.functions.graph import CONST, Attr
from dsave.functions.table import OPS
from dsave.model.dtype import DTYPES
from dsave.proto.graph_pb2 import FunctionDef, FunctionDefLibrary, NodeDef
from dsave.savedmodel.read_values import read_attr

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BRANCHES = frozenset({"If", "StatelessIf"})
CASES = frozenset({"Case", "StatelessCase"})
LOOPS = frozenset({"While", "StatelessWhile"})
"""Ops that run functions: one, one of two, one of several, two again and again."""

_NUMBERS = frozenset(dtype.number for dtype in DTYPES)
_MAX_DEPTH = 100
_DIGITS = 9

Source = tuple[int, int]
"""(step, output), or (-1, argument)."""


@dataclass(slots=True)
class Step:
    """One node; `functions` are the names of those that it runs.

    `op` is the node's, or what no op is called: a constant that no array holds. The value of
    one that is much larger than its message is not among `attrs`. `done` are the steps whose
    outputs nobody wants after it.
    """

    node: NodeDef
    op: str
    attrs: dict[str, Attr]
    inputs: list[Source]
    functions: tuple[str, ...]
    done: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Program:
    """A function in the order in which it runs; `arguments` is how many it takes."""

    arguments: int
    steps: list[Step] = field(default_factory=list)
    results: list[Source] = field(default_factory=list)


class Programs:
    """The functions of a library by name; `file` is its name in errors."""

    def __init__(self, library: FunctionDefLibrary, file: str) -> None:
        self.definitions = {each.signature.name: each for each in library.function}
        self._file = file
        self._programs: dict[str, Program] = {}

    def __getitem__(self, name: str) -> Program:
        """The function of this name.

        Raises:
            CorruptionError: there is none, or it contradicts itself.
        """
        if name not in self._programs:
            if name not in self.definitions:
                raise CorruptionError(self._file, name, "the graph has no such function")
            self._programs[name] = self._compiled(self.definitions[name])
        return self._programs[name]

    def ops(self, name: str) -> set[str]:
        """The ops in a function and in those that it runs, but for calls.

        Raises:
            CorruptionError: a function contradicts itself, or calls itself.
        """
        found: set[str] = set()
        self._look(name, found, set(), ())
        return found

    def _look(
        self, name: str, found: set[str], seen: set[str], callers: tuple[str, ...]
    ) -> None:
        if name in callers:
            raise CorruptionError(self._file, name, "the function calls itself")
        if len(callers) > _MAX_DEPTH:
            problem = f"more than {_MAX_DEPTH} functions call each other in a row"
            raise CorruptionError(self._file, name, problem)
        if name in seen:
            return
        for step in self[name].steps:
            if not step.functions or step.op in BRANCHES | CASES | LOOPS:
                found.add(step.op)
            for function in step.functions:
                self._look(function, found, seen, (*callers, name))
        seen.add(name)

    def _compiled(self, definition: FunctionDef) -> Program:
        name = definition.signature.name
        arguments = {
            arg.name: place for place, arg in enumerate(definition.signature.input_arg)
        }
        nodes = {node.name: node for node in definition.node_def}
        program = Program(len(arguments))
        places: dict[str, int] = {}

        def source(reference: str) -> Source:
            return self._source(reference, arguments, places, program.steps)

        wanted = [definition.ret[arg.name] for arg in definition.signature.output_arg]
        for root in (*wanted, *(f"^{node}" for node in definition.control_ret.values())):
            for node in self._needed(root, nodes, arguments, places, name):
                inputs = [source(each) for each in node.input if not each.startswith("^")]
                places[node.name] = len(program.steps)
                attrs, op = self._attrs(node, name), node.op
                if op == CONST and "value" not in attrs:
                    if not node.attr["value"].HasField("tensor"):
                        raise CorruptionError(self._file, name, f"{node.name!r} has no value")
                    number = node.attr["value"].tensor.dtype
                    if number not in _NUMBERS:
                        op = f"{CONST} of dtype number {number}"
                program.steps.append(Step(node, op, attrs, inputs, self._functions(node)))
        program.results = [source(reference) for reference in wanted]
        last = {step: at for at, each in enumerate(program.steps) for step, _ in each.inputs}
        for step in last.keys() - {-1} - {step for step, _ in program.results}:
            program.steps[last[step]].done.append(step)
        return program

    def _needed(
        self,
        root: str,
        nodes: Mapping[str, NodeDef],
        arguments: Collection[str],
        placed: Collection[str],
        function: str,
    ) -> Iterator[NodeDef]:
        """The nodes that a reference needs, each after what it needs itself."""
        waiting: list[tuple[str, Iterator[str]]] = []
        open_nodes: set[str] = set()

        def enter(reference: str) -> None:
            node = reference.removeprefix("^").partition(":")[0]
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

    def _attrs(self, node: NodeDef, function: str) -> dict[str, Attr]:
        """The attributes, but for those that dsave has no values for, such as unknown ranks."""
        attrs = {}
        for key, proto in node.attr.items():
            if not key.startswith("_"):
                try:
                    attr = read_attr(proto, self._file, f"{function}, node {node.name}")
                except (DtypeError, ModelError):
                    continue
                if attr is not None:
                    attrs[key] = attr
        return attrs

    def _functions(self, node: NodeDef) -> tuple[str, ...]:
        if node.op in _CALLS:
            return (node.attr["f"].func.name,)
        if node.op in BRANCHES:
            return tuple(node.attr[key].func.name for key in ("then_branch", "else_branch"))
        if node.op in LOOPS:
            return tuple(node.attr[key].func.name for key in ("cond", "body"))
        if node.op in CASES:
            return tuple(branch.name for branch in node.attr["branches"].list.func)
        return (node.op,) if node.op in self.definitions else ()

    def _source(
        self,
        reference: str,
        arguments: Mapping[str, int],
        places: Mapping[str, int],
        steps: Sequence[Step],
    ) -> Source:
        """What `argument`, `node:output argument:number in it` or `node:number` refers to."""
        name, *rest = reference.split(":")
        if not rest and name in arguments:
            return -1, arguments[name]
        digits = rest[-1] if rest else ""
        number = int(digits) if digits.isdecimal() and len(digits) <= _DIGITS else 0
        if len(rest) > 1:
            number += self._first(steps[places[name]].node, rest[0])
        return places[name], number

    def _first(self, node: NodeDef, argument: str) -> int:
        """The number of the first output in an output argument of a node.

        An op that runs here has one such argument, or several of one tensor each.
        """
        if node.op in self.definitions:
            names = [arg.name for arg in self.definitions[node.op].signature.output_arg]
        else:
            names = [arg.name for arg in OPS[node.op].outputs] if node.op in OPS else []
        return names.index(argument) if argument in names else 0
