"""The functions of a SavedModel, made functions again.

A function that was loaded is Python code that runs its graph op by op: with numpy where it is
called, and into the trace where another function or a save traces it. What numpy has no code
for is left out, and that is said.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsave.errors import (
    CorruptionError,
    DsaveError,
    DtypeError,
    ModelError,
    OptionError,
    OptionTypeError,
    TraceError,
)
from dsave.functions.arguments import fitted, fitting_value
from dsave.functions.function import ConcreteFunction, Function
from dsave.functions.graph import Array, TensorSpec
from dsave.functions.structure import flatten, mapped
from dsave.model.asset import Asset
from dsave.model.readable import value_of
from dsave.proto.object_graph_pb2 import (
    FunctionSpec,
    SavedFunction,
    SavedObject,
    TrackableObjectGraph,
)
from dsave.proto.saved_model_pb2 import MetaGraphDef
from dsave.savedmodel.interpreter import Argument, Handle, Interpreter
from dsave.savedmodel.read_values import read_structure, read_tensor
from dsave.savedmodel.tree import Kind, Tree

_SIGNATURES = "signatures"
_UNREADABLE = (DtypeError, ModelError, OptionError, OptionTypeError, TraceError)
"""Why a function that contradicts nothing cannot be had here."""


@dataclass(frozen=True, slots=True)
class Functions:
    """What functions there are: by node id, and the signatures by key.

    `notes` say which are left out, and why.
    """

    by_node: Mapping[int, Function | ConcreteFunction]
    signatures: Mapping[str, ConcreteFunction]
    notes: tuple[str, ...]


def read_functions(
    meta_graph: MetaGraphDef,
    tree: Tree,
    reads: Mapping[int, Callable[[], Any]],
    assets: Mapping[int, Asset],
    file: str,
) -> Functions:
    """The functions of a graph whose variables, by node id, are read by `reads`.

    `assets` are by node id too. `file` names the SavedModel in errors.

    Raises:
        CorruptionError: a function contradicts itself.
    """
    return _Reading(meta_graph, reads, assets, file).all(tree)


@dataclass(frozen=True, slots=True)
class _Body:
    """A function of the library and what it is bound to."""

    name: str
    inputs: Any
    outputs: Any
    captures: tuple[Argument | Asset, ...]
    interpreter: Interpreter

    def fits(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        """The arguments as it takes them.

        Raises:
            OptionTypeError: it takes others.
        """
        taken = fitted(self.inputs, (args, kwargs), self.name, fitting_value)
        for wanted, given in zip(flatten(self.inputs), flatten((args, kwargs)), strict=True):
            if not isinstance(wanted, TensorSpec) and (type(wanted), wanted) != (
                type(given),
                given,
            ):
                raise OptionTypeError(self.name, f"{wanted!r} is wanted, got {given!r}")
        return taken

    def run(self, taken: object) -> object:
        """The results for arguments that fit."""
        leaves = zip(flatten(self.inputs), flatten(taken), strict=True)
        tensors: list[Any] = [value for spec, value in leaves if isinstance(spec, TensorSpec)]
        arguments = [*tensors, *map(value_of, self.captures)]
        results = iter(self.interpreter.run(self.name, arguments))
        return mapped(
            lambda leaf: next(results) if isinstance(leaf, TensorSpec) else leaf, self.outputs
        )


class _Reading:
    def __init__(
        self,
        meta_graph: MetaGraphDef,
        reads: Mapping[int, Callable[[], Any]],
        assets: Mapping[int, Asset],
        file: str,
    ) -> None:
        self._meta_graph = meta_graph
        self._objects = meta_graph.object_graph_def
        self._file = file
        self._interpreter = Interpreter(meta_graph.graph_def.library, file)
        self._captures: dict[int, Argument | Asset] = {
            **{number: Handle(read) for number, read in reads.items()},
            **assets,
        }
        self._constants = {
            node.name: node for node in meta_graph.graph_def.node if node.op == "Const"
        }
        self._notes: list[str] = []

    def all(self, tree: Tree) -> Functions:
        """All that can be had."""
        by_node: dict[int, Function | ConcreteFunction] = {}
        for number, node in enumerate(tree.nodes):
            saved = self._objects.nodes[number] if number < len(self._objects.nodes) else None
            made: Function | ConcreteFunction | None = None
            if saved is not None and node.kind is Kind.FUNCTION:
                made = self._tried(self._function, saved.function)
            elif saved is not None and node.kind is Kind.CONCRETE_FUNCTION:
                name = saved.bare_concrete_function.concrete_function_name
                made = self._tried(self._concrete, name)
            if made is not None:
                by_node[number] = made
        return Functions(by_node, self._signatures(), tuple(dict.fromkeys(self._notes)))

    def _signatures(self) -> dict[str, ConcreteFunction]:
        signatures: dict[str, ConcreteFunction] = {}
        for reference in self._objects.nodes[0].children:
            if reference.local_name == _SIGNATURES:
                for child in self._object(reference).children:
                    saved = self._object(child).bare_concrete_function
                    made = self._tried(
                        self._concrete,
                        saved.concrete_function_name,
                        f"signature {child.local_name!r}, ",
                    )
                    if made is not None:
                        signatures[child.local_name] = made
        return signatures

    def _object(
        self, reference: TrackableObjectGraph.TrackableObject.ObjectReference
    ) -> SavedObject:
        if not 0 <= reference.node_id < len(self._objects.nodes):
            raise CorruptionError(self._file, reference.local_name, "there is no such object")
        return self._objects.nodes[reference.node_id]

    def _tried(self, make: Callable[[Any], Any], saved: Any, what: str = "") -> Any:
        try:
            return make(saved)
        except _UNREADABLE as error:
            self._notes.append(f"{what}{error}; it is left out")
            return None

    def _function(self, saved: SavedFunction) -> Function:
        bodies = [self._body(name) for name in saved.concrete_functions]
        name = _plain(bodies[0].name) if bodies else "function"
        signature = _signature(saved.function_spec, name)
        wanted = read_structure(saved.function_spec.input_signature, name)
        function = Function(_code(bodies, name, signature), wanted)
        if wanted is None:
            for body in bodies:
                args, kwargs = body.inputs
                function.get_concrete_function(*args, **kwargs)
        return function

    def _concrete(self, name: str) -> ConcreteFunction:
        body = self._body(name)
        args, kwargs = body.inputs
        parameters = [
            *(
                inspect.Parameter(f"arg_{place}", inspect.Parameter.POSITIONAL_ONLY)
                for place, _ in enumerate(args)
            ),
            inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]
        code = _code([body], _plain(name), inspect.Signature(parameters))
        return Function(code).get_concrete_function(*args, **kwargs)

    def _body(self, name: str) -> _Body:
        function = _plain(name)
        unknown = self._interpreter.unknown(name)
        if unknown:
            ops = ", ".join(sorted(unknown))
            raise ModelError(f"function {function}", f"numpy cannot run {ops}; TensorFlow can")
        if name not in self._objects.concrete_functions:
            raise CorruptionError(self._file, name, "the object graph does not describe it")
        saved = self._objects.concrete_functions[name]
        inputs = read_structure(saved.canonicalized_input_signature, f"function {function}")
        outputs = read_structure(saved.output_signature, f"function {function}")
        captures = tuple(self._capture(number, function) for number in saved.bound_inputs)
        if not (
            isinstance(inputs, tuple)
            and [type(part) for part in inputs] == [tuple, dict]
            and _tensors(inputs) + len(captures) == self._interpreter.arguments(name)
            and _tensors(outputs) == self._interpreter.results(name)
        ):
            raise CorruptionError(
                self._file, name, "the function takes or returns other things than it says"
            )
        return _Body(name, inputs, outputs, captures, self._interpreter)

    def _capture(self, number: int, function: str) -> Argument | Asset:
        if number not in self._captures:
            known = 0 <= number < len(self._objects.nodes)
            saved = self._objects.nodes[number] if known else None
            if saved is None or not saved.HasField("constant"):
                kind = saved.WhichOneof("kind") if saved is not None else "nothing"
                raise ModelError(f"function {function}", f"it is bound to a {kind}")
            self._captures[number] = self._constant(saved.constant.operation)
        return self._captures[number]

    def _constant(self, name: str) -> Array:
        if name not in self._constants:
            raise CorruptionError(self._file, name, "the graph has no such constant")
        return read_tensor(self._constants[name].attr["value"].tensor, self._file, name)


def _code(
    bodies: Sequence[_Body], name: str, signature: inspect.Signature
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
        raise OptionTypeError(name, "; ".join(problems) or "it was saved without being traced")

    loaded.__name__ = loaded.__qualname__ = name
    loaded.__doc__ = None
    loaded.__signature__ = signature  # type: ignore[attr-defined]
    return loaded


def _plain(name: str) -> str:
    """`f` of `__inference_f_12`."""
    stem, _, number = name.removeprefix("__inference_").rpartition("_")
    return stem.removeprefix("signature_wrapper_") if stem and number.isdigit() else name


def _tensors(structure: object) -> int:
    return sum(isinstance(leaf, TensorSpec) for leaf in flatten(structure))


def _signature(spec: FunctionSpec, name: str) -> inspect.Signature:
    """The parameters of the user's code."""
    kind = inspect.Parameter
    try:
        given = read_structure(spec.fullargspec, name)
        names = [each for each in given.args if each != "self"]
        defaults = list(given.defaults or ())
        empty = [kind.empty] * (len(names) - len(defaults))
        parameters = [
            kind(each, kind.POSITIONAL_OR_KEYWORD, default=default)
            for each, default in zip(names, [*empty, *defaults], strict=True)
        ]
        if given.varargs:
            parameters.append(kind(given.varargs, kind.VAR_POSITIONAL))
        for each in given.kwonlyargs:
            default = (given.kwonlydefaults or {}).get(each, kind.empty)
            parameters.append(kind(each, kind.KEYWORD_ONLY, default=default))
        if given.varkw:
            parameters.append(kind(given.varkw, kind.VAR_KEYWORD))
        return inspect.Signature(parameters)
    except (AttributeError, DsaveError, TypeError, ValueError):
        return inspect.Signature(
            [kind("args", kind.VAR_POSITIONAL), kind("kwargs", kind.VAR_KEYWORD)]
        )
