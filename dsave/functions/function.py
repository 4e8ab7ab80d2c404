"""`dsave.function`: numpy code that runs as it is, and is traced where a graph is wanted."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any, overload

import numpy as np

from dsave.errors import OptionTypeError, TraceError
from dsave.functions.arguments import (
    Args,
    Change,
    KeywordArgs,
    check_names,
    fitted,
    fitting_spec,
    fitting_value,
    named,
    spec_of,
)
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.graph import FunctionGraph, TensorSpec
from dsave.functions.structure import flatten, key_of, mapped
from dsave.functions.table import FACES
from dsave.functions.tracer import Trace, current_trace
from dsave.model.readable import reading_eagerly, values_in
from dsave.model.trackable import METHOD_SLOT, Module


class Function:
    """Numpy code: called, it runs; asked for a concrete function, it is traced.

    In a class it is a method: each instance has one Function of its own.
    """

    def __init__(
        self,
        python_function: Callable[..., Any],
        input_signature: Sequence[object] | None = None,
        instance: object = None,
    ) -> None:
        if input_signature is not None and not isinstance(input_signature, list | tuple):
            raise OptionTypeError(
                "input_signature", f"a list of TensorSpecs is wanted, got {input_signature!r}"
            )
        self.python_function = python_function
        self.instance = instance
        self.name = getattr(python_function, "__name__", type(python_function).__name__)
        self.input_signature = None if input_signature is None else tuple(input_signature)
        for leaf in flatten(self.input_signature or ()):
            if not isinstance(leaf, TensorSpec):
                raise OptionTypeError(
                    "input_signature", f"got {leaf!r} where a TensorSpec is wanted"
                )
        self.__doc__ = python_function.__doc__
        self._attribute = self.name
        self._concrete: dict[object, ConcreteFunction] = {}
        self._adopted: set[ConcreteFunction] = set()
        code = python_function if instance is None else python_function.__get__(instance)
        self._call: Callable[..., Any] = code
        self.signature = inspect.signature(code)
        if input_signature is None and not self.signature.parameters:
            self.input_signature = ()  # what takes nothing is always given the same

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    def __get__(self, instance: object, owner: type | None = None) -> "Function":
        if instance is None:
            return self
        slot = METHOD_SLOT + self._attribute
        found = vars(instance).get(slot)
        # A shallow copy of the instance has the functions of the instance.
        if not isinstance(found, Function) or found.instance is not instance:
            found = Function(self.python_function, self.input_signature, instance)
            found._attribute = self._attribute
            vars(instance)[slot] = found
        return found

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # What was traced is left behind: it can be traced again.
        if self.instance is not None:
            return getattr, (self.instance, self._attribute)
        return Function, (self.python_function, self.input_signature)

    def __repr__(self) -> str:
        return f"<Function {self.name}{self.signature}>"

    @property
    def concrete_functions(self) -> tuple[ConcreteFunction, ...]:
        """Those traced so far, in that order."""
        return tuple(self._concrete.values())

    def adopt(self, concrete: ConcreteFunction) -> None:
        """Take a function that was traced elsewhere for one of those that this is traced to."""
        specs: Any = concrete.structured_input_signature
        if self.input_signature is not None:
            specs = self._bound(self.input_signature, {})
        self._concrete[key_of(specs)] = concrete
        self._adopted.add(concrete)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Run the code as it is; in another function's trace it becomes part of that graph.

        Raises:
            OptionTypeError: with an input_signature, an argument that is not of its spec.
        """
        if self.input_signature is not None:
            args, kwargs = self._fitted(args, kwargs, fitting_value)
        elif (trace := current_trace()) is not None:
            with contextlib.suppress(TypeError):  # of variables, say, there are no specs
                specs: Any = mapped(spec_of, self._bound(args, kwargs))
                trace.calls.append((self, specs))
        with reading_eagerly():
            return values_in(self._call(*args, **kwargs))

    def get_concrete_function(self, *args: object, **kwargs: object) -> ConcreteFunction:
        """The function traced for these TensorSpecs, or for arrays like these.

        Python values other than arrays are traced as they are. With an input_signature
        nothing need be given.

        Raises:
            OptionTypeError: the arguments do not fit the function or its input_signature.
            TraceError: the code cannot be traced.
        """
        specs: Any
        if self.input_signature is None:
            specs = mapped(spec_of, self._bound(args, kwargs))
        elif args or kwargs:
            specs = self._fitted(args, kwargs, fitting_spec)
        else:
            specs = self.wanted()
        key = key_of(specs)
        if key not in self._concrete:
            self._concrete[key] = ConcreteFunction(self._traced(*specs))
        return self._concrete[key]

    def traced_again(self) -> tuple[ConcreteFunction, ...]:
        """What it is traced to now, for its input_signature or for all that it was traced for.

        What the code finds in Python (numbers, arrays, which variables there are) may be other
        than it was. `concrete_functions` stay as they are, and so does what was adopted.

        Raises:
            TraceError: the code cannot be traced.
        """
        if self.input_signature is not None and not self._adopted:
            return (ConcreteFunction(self._traced(*self.wanted())),)
        return tuple(
            each
            if each in self._adopted
            else ConcreteFunction(self._traced(*each.structured_input_signature))
            for each in self.concrete_functions
        )

    def traced_for(self, calls: Iterable[Any]) -> Iterator[ConcreteFunction]:
        """What it is traced to for arguments that it was called with, and not traced for.

        `calls` are (positional, by keyword). What cannot be traced alone is left out.
        """
        others = {key_of(specs): specs for specs in calls}
        for key in () if self._adopted else others:
            if key not in self._concrete:
                with contextlib.suppress(TraceError):  # it is a part of its caller
                    yield ConcreteFunction(self._traced(*others[key]))

    def wanted(self) -> Any:
        """(positional, by keyword): what the input_signature describes, and defaults.

        Arrays among these are tensors.
        """
        return mapped(
            lambda leaf: spec_of(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf,
            self._bound(self.input_signature or (), {}),
        )

    def _bound(self, args: Args, kwargs: Mapping[str, object]) -> tuple[Args, KeywordArgs]:
        """The arguments as the code takes them, defaults filled in."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise OptionTypeError(self.name, str(error)) from None
        if isinstance(self.python_function, FunctionType | MethodType):
            # Those of numpy's own functions are often no values at all.
            bound.apply_defaults()
        return bound.args, bound.kwargs

    def _fitted(self, args: Args, kwargs: KeywordArgs, change: Change) -> Any:
        """The arguments with each that the input_signature describes changed to fit it."""
        wanted = self.wanted()
        taken = fitted(wanted, self._bound(args, kwargs), self.name, change)
        check_names(wanted, taken, self.name)
        return taken

    def _traced(self, args: Args, kwargs: KeywordArgs) -> FunctionGraph:
        structure = named(self.signature, args, kwargs)
        arguments = [leaf for leaf in flatten(structure) if isinstance(leaf, TensorSpec)]
        trace = Trace(FACES)
        with trace.recording():
            tensors: Any = mapped(
                lambda leaf: trace.argument(leaf) if isinstance(leaf, TensorSpec) else leaf,
                structure,
            )
            try:
                results = self._call(*tensors[0], **tensors[1])
            except (TypeError, ValueError) as error:
                raise trace.covered_by(error) from None
            return trace.finished(self.name, structure, arguments, results)


@overload
def function(
    python_function: Callable[..., Any], /, *, input_signature: Sequence[object] | None = None
) -> Function: ...


@overload
def function(
    *, input_signature: Sequence[object] | None = None
) -> Callable[[Callable[..., Any]], Function]: ...


def function(
    python_function: Callable[..., Any] | None = None,
    /,
    *,
    input_signature: Sequence[object] | None = None,
) -> Function | Callable[[Callable[..., Any]], Function]:
    """Make numpy code a function that can be saved: a decorator, with or without arguments.

    `input_signature` describes the positional arguments, in lists, tuples and dicts if they
    are: the function is then traced once, for these.

    Raises:
        OptionTypeError: the input_signature holds something else than TensorSpecs.
    """
    if python_function is None:
        return lambda code: Function(code, input_signature)
    return Function(python_function, input_signature)


def functions_of(module: Module) -> dict[str, Function]:
    """The functions of a module by attribute: its class's, base classes first, then its own."""
    names = [
        name
        for kind in reversed(type(module).__mro__)
        for name, value in vars(kind).items()
        if isinstance(value, Function)
    ]
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Function) and not name.startswith(METHOD_SLOT)
    }
    found = {name: getattr(module, name) for name in dict.fromkeys(names)} | own
    # A subclass, or the instance, may have put something else in a function's place.
    return {name: value for name, value in found.items() if isinstance(value, Function)}
