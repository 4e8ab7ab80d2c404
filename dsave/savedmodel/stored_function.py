"""Functions that a SavedModel holds: they run as their graphs say, op by op.

What cannot be run here is a function nevertheless: it has a name, takes and returns what was
saved, and says why it cannot be run when it is called.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dsave.errors import ModelError, OptionTypeError, TraceError
from dsave.functions.arguments import fitted, fitting_value, named
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function
from dsave.functions.graph import Call, FunctionGraph, TensorSpec
from dsave.functions.structure import flatten, mapped
from dsave.model.asset import Asset
from dsave.model.readable import value_of
from dsave.savedmodel.interpreter import Argument, Interpreter


@dataclass(frozen=True, slots=True)
class Body:
    """A function of the library, and what it is bound to.

    `inputs` are (positional, by keyword), None if not even these can be had. `problem` says why
    it cannot be run; it is empty if it can.
    """

    name: str
    function: str
    inputs: Any
    outputs: Any
    captures: tuple[Argument | Asset, ...]
    interpreter: Interpreter
    problem: str = ""

    def fits(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        """The arguments as it takes them.

        Raises:
            OptionTypeError: it takes others.
        """
        if self.inputs is None:
            raise OptionTypeError(self.function, self.problem)
        taken = fitted(self.inputs, (args, kwargs), self.function, fitting_value)
        for wanted, given in zip(flatten(self.inputs), flatten((args, kwargs)), strict=True):
            if not isinstance(wanted, TensorSpec) and (type(wanted), wanted) != (
                type(given),
                given,
            ):
                raise OptionTypeError(self.function, f"{wanted!r} is wanted, got {given!r}")
        return taken

    def run(self, taken: object) -> object:
        """The results for arguments that fit.

        Raises:
            ModelError: it cannot be run.
        """
        self.check()
        leaves = zip(flatten(self.inputs), flatten(taken), strict=True)
        tensors: list[Any] = [value for spec, value in leaves if isinstance(spec, TensorSpec)]
        arguments = [*tensors, *map(value_of, self.captures)]
        results = iter(self.interpreter.run(self.name, arguments))
        return mapped(
            lambda leaf: next(results) if isinstance(leaf, TensorSpec) else leaf, self.outputs
        )

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ModelError: it cannot.
        """
        if self.problem:
            raise ModelError(f"function {self.function}", self.problem)


class StoredFunction(ConcreteFunction):
    """A function that was traced before it was saved. Asked for its graph, it is traced again.

    `code` runs it with the arguments of `signature`.
    """

    def __init__(
        self, body: Body, code: Callable[..., Any], signature: inspect.Signature
    ) -> None:
        self.body = body
        self._code = code
        self._inputs: Any = ((), {})
        if body.inputs is not None:
            self._inputs = named(signature, *body.inputs)
        self._traced: FunctionGraph | None = None

    @property
    def graph(self) -> FunctionGraph:
        """It traced again.

        Raises:
            ModelError: it cannot be run.
            TraceError: the graph has what no trace of numpy code has.
        """
        self.body.check()
        if self._traced is None:
            args, kwargs = self._inputs
            self._traced = Function(self._code).get_concrete_function(*args, **kwargs).graph
        return self._traced

    @property
    def calls(self) -> tuple[Call, ...]:
        """None: all that it called is in its graph."""
        return ()

    def recorded(self) -> FunctionGraph | None:
        """Its graph, if a trace is all of what it does."""
        if self.body.problem or self.body.interpreter.follows_values(self.body.name):
            return None
        try:
            return self.graph
        except (ModelError, TraceError):
            return None

    @property
    def name(self) -> str:
        """The name of the user's function."""
        return self.body.function

    @property
    def arguments(self) -> tuple[TensorSpec, ...]:
        """The tensors that it takes, each by its name."""
        leaves = flatten(self._inputs)
        return tuple(leaf for leaf in leaves if isinstance(leaf, TensorSpec))

    @property
    def results(self) -> tuple[TensorSpec, ...]:
        """The tensors that it returns."""
        leaves = flatten(self.body.outputs)
        return tuple(leaf for leaf in leaves if isinstance(leaf, TensorSpec))

    @property
    def structured_input_signature(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """(positional, by keyword): TensorSpecs, and Python values traced as they were."""
        args, kwargs = self._inputs
        return args, kwargs

    @property
    def structured_outputs(self) -> object:
        """The results: TensorSpecs and Python values in the user's lists, tuples and dicts."""
        return self.body.outputs

    def __call__(self, *tensors: object, **by_name: object) -> object:
        """Run it, as any concrete function.

        Raises:
            ModelError: it cannot be run.
        """
        self.body.check()
        return super().__call__(*tensors, **by_name)

    def _results(self, arguments: list[Any]) -> object:
        given = iter(arguments)
        return self.body.run(
            mapped(
                lambda leaf: next(given) if isinstance(leaf, TensorSpec) else leaf, self._inputs
            )
        )


def code_of(
    bodies: Sequence[Body], name: str, signature: inspect.Signature
) -> Callable[..., Any]:
    """Python code that runs the first of the bodies that takes the arguments."""

    def loaded(*args: object, **kwargs: object) -> object:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        problems: list[str] = []
        for body in bodies:
            try:
                taken = body.fits(bound.args, bound.kwargs)
            except OptionTypeError as error:
                problems.append(error.problem)
            else:
                return body.run(taken)
        if bodies and all(body.problem for body in bodies):
            bodies[0].check()
        raise OptionTypeError(name, "; ".join(problems) or "it was saved without being traced")

    loaded.__name__ = loaded.__qualname__ = name
    loaded.__doc__ = None
    loaded.__signature__ = signature  # type: ignore[attr-defined]
    return loaded
