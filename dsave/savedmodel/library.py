"""The functions of a graph, each added once, under a name that no other has.

Names are TensorFlow's, `__inference_NAME_NUMBER`: its loader strips them to `NAME`, and
fingerprints order functions by the number.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function
from dsave.functions.graph import FunctionGraph, TensorSpec
from dsave.proto.graph_pb2 import FunctionDef, FunctionDefLibrary
from dsave.proto.object_graph_pb2 import SavedConcreteFunction
from dsave.savedmodel.copies import Copies
from dsave.savedmodel.function_def import Stack, set_function
from dsave.savedmodel.reads import Readings
from dsave.savedmodel.resources import Resource
from dsave.savedmodel.stored_function import StoredFunction
from dsave.savedmodel.structured import set_structure

_FIRST_NUMBER = 2
"""After those of the functions of the saver."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class LibraryFunction:
    """A function of the library: `captures` are what its last arguments are handles of.

    `by_name`: it takes and returns tensors by their sorted names, as signatures do.
    """

    name: str
    arguments: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    captures: tuple[Resource, ...]
    by_name: bool = False


class Traces:
    """What functions are traced to for one save: by their code as it is then, and each once.

    As in TensorFlow a function that others call is there for what they call it with too.

    Raises:
        TraceError: a function cannot be traced.
    """

    def __init__(self, functions: Iterable[Function | ConcreteFunction]) -> None:
        self._traced: dict[Function, tuple[ConcreteFunction, ...]] = {}
        callers: list[ConcreteFunction] = []
        for function in dict.fromkeys(functions):
            if isinstance(function, Function):
                self._traced[function] = function.traced_again()
                callers += self._traced[function]
            else:
                callers.append(function)
        called: dict[Function, list[Any]] = {}
        for callee, arguments in (call for caller in callers for call in caller.calls):
            if callee in self._traced:
                called.setdefault(callee, []).append(arguments)
        for callee, calls in called.items():
            self._traced[callee] += tuple(callee.traced_for(calls))

    def __getitem__(self, function: Function) -> tuple[ConcreteFunction, ...]:
        """All that is saved of a function."""
        return self._traced[function]


class Library:
    """A `FunctionDefLibrary` in the making.

    `stacks` are the user's calls that made each node, by function and node, where these are
    not the call of the save.
    """

    def __init__(
        self,
        proto: FunctionDefLibrary,
        concrete_functions: "Mapping[str, SavedConcreteFunction]",
        readings: Readings,
    ) -> None:
        self.stacks: dict[str, Mapping[str, Stack]] = {}
        self._proto = proto
        self._saved = concrete_functions
        self._readings = readings
        self._numbers = itertools.count(_FIRST_NUMBER)
        self._copies = Copies(self.new)
        self._added: dict[ConcreteFunction, LibraryFunction] = {}

    def __getitem__(self, function: ConcreteFunction) -> LibraryFunction:
        """The function, which is added to the library unless it is there.

        Raises:
            ModelError: it reads a variable, or takes or returns a value, that cannot be saved.
        """
        if function not in self._added:
            self._added[function] = self._add(function)
        return self._added[function]

    def new(self, name: str) -> FunctionDef:
        """A new function that the user did not write, with a name of its own."""
        proto = self._proto.function.add()
        plain = _NOT_IN_NAMES.sub("_", name).strip("_") or "function"
        proto.signature.name = f"__inference_{plain}_{next(self._numbers)}"
        return proto

    def describe(
        self,
        name: str,
        captures: tuple[Resource, ...],
        inputs: object,
        outputs: object,
        function: str,
    ) -> None:
        """Say what `function`, in the library as `name`, takes and returns.

        Raises:
            ModelError: that cannot be described.
        """
        saved = self._saved[name]
        saved.bound_inputs.extend(resource.node_id for resource in captures)
        set_structure(saved.canonicalized_input_signature, inputs, function)
        set_structure(saved.output_signature, outputs, function)

    def _add(self, function: ConcreteFunction) -> LibraryFunction:
        if not isinstance(function, StoredFunction):
            return self._add_graph(function.graph)
        graph = function.recorded()
        return self._add_copy(function) if graph is None else self._add_graph(graph)

    def _add_graph(self, graph: FunctionGraph) -> LibraryFunction:
        proto = self.new(graph.name)
        name = proto.signature.name
        captures, self.stacks[name] = set_function(proto, graph, self._readings)
        self.describe(
            name, captures, graph.structured_inputs, graph.structured_outputs, graph.name
        )
        outputs = [graph.nodes[output.node].outputs[output.index] for output in graph.outputs]
        return LibraryFunction(name, graph.arguments, tuple(outputs), captures)

    def _add_copy(self, function: StoredFunction) -> LibraryFunction:
        name, captures = self._copies.add(function, self._readings)
        (args, kwargs), outputs = (
            function.structured_input_signature,
            function.structured_outputs,
        )
        if name not in self._saved:
            self.describe(name, captures, (args, kwargs), outputs, function.name)
        names = [spec.name for spec in function.arguments]
        by_name = not args and names == sorted(kwargs) and isinstance(outputs, Mapping)
        return LibraryFunction(name, function.arguments, function.results, captures, by_name)
