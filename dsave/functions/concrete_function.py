"""A function that was traced: its graph, its arguments and its results."""

from collections.abc import Iterator
from typing import Any

from dsave.errors import OptionTypeError
from dsave.functions.arguments import check_names, fitting_value
from dsave.functions.graph import Call, FunctionGraph, TensorSpec
from dsave.functions.operands import Value
from dsave.functions.run import record_graph, run_graph
from dsave.functions.structure import mapped
from dsave.functions.tracer import current_trace
from dsave.model.readable import reading_eagerly, value_of


class ConcreteFunction:
    """A function traced for inputs of certain shapes and dtypes."""

    def __init__(self, graph: FunctionGraph) -> None:
        self._graph = graph

    @property
    def graph(self) -> FunctionGraph:
        """What was traced."""
        return self._graph

    @property
    def calls(self) -> tuple[Call, ...]:
        """The functions that it called when it was traced."""
        return self._graph.calls

    @property
    def name(self) -> str:
        """The name of the user's function."""
        return self.graph.name

    @property
    def arguments(self) -> tuple[TensorSpec, ...]:
        """The tensors that it takes, each by its name."""
        return self.graph.arguments

    @property
    def structured_input_signature(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """(positional, by keyword): TensorSpecs, and Python values traced as they were."""
        return self.graph.structured_inputs

    @property
    def structured_outputs(self) -> object:
        """The results: TensorSpecs and None in the user's lists, tuples and dicts."""
        return self.graph.structured_outputs

    def __call__(self, *tensors: object, **by_name: object) -> object:
        """Run the graph with numpy: on the tensor arguments in order, or by their names.

        In a function's trace it becomes part of that graph.

        Raises:
            OptionTypeError: an argument is missing, or is not of its spec.
        """
        specs = self.arguments
        given = dict(zip([spec.name for spec in specs], tensors, strict=False), **by_name)
        names = [str(spec.name) for spec in specs]
        if len(tensors) + len(by_name) != len(names) or given.keys() != set(names):
            raise OptionTypeError(self.name, f"the arguments are {', '.join(names) or 'none'}")
        arguments: list[Any] = [
            fitting_value(given[str(spec.name)], spec, self.name) for spec in specs
        ]
        check_names(specs, arguments, self.name)
        with reading_eagerly():
            return self._results(arguments)

    def _results(self, arguments: list[Value]) -> object:
        """The results for arguments that fit."""
        trace = current_trace()
        if trace is not None:
            trace.calls += self.calls
        outputs: Iterator[object] = iter(
            run_graph(self.graph, arguments, value_of)
            if trace is None
            else record_graph(self.graph, arguments, trace)
        )
        return mapped(
            lambda spec: None if spec is None else next(outputs), self.structured_outputs
        )

    def __repr__(self) -> str:
        arguments = ", ".join(f"{spec.name}: {spec}" for spec in self.arguments)
        return f"<ConcreteFunction {self.name}({arguments})>"
