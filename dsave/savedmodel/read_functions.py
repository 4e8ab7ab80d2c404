"""The functions of a SavedModel, made functions again.

A function that was loaded is Python code that runs its graph op by op: with numpy where it is
called, and into the trace where another function or a save traces it. One that uses what
numpy has no code for is there too: it says so when it is called.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dsave.errors import (
    CorruptionError,
    DsaveError,
    DtypeError,
    ModelError,
    OptionError,
    OptionTypeError,
)
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function
from dsave.functions.graph import Array, TensorSpec
from dsave.functions.structure import flatten
from dsave.model.asset import Asset
from dsave.model.variable import Aggregation, Synchronization
from dsave.proto.object_graph_pb2 import (
    FunctionSpec,
    SavedFunction,
    SavedObject,
    TrackableObjectGraph,
)
from dsave.proto.saved_model_pb2 import MetaGraphDef
from dsave.savedmodel.interpreter import Argument, Handle, Interpreter, plain_name
from dsave.savedmodel.read_values import read_structure, read_tensor
from dsave.savedmodel.stored_function import Body, StoredFunction, code_of
from dsave.savedmodel.tree import Kind, Tree

_SIGNATURES = "signatures"
_UNREADABLE = (DtypeError, ModelError, OptionError, OptionTypeError)
"""Why a function that contradicts nothing cannot be described or bound here."""


@dataclass(frozen=True, slots=True)
class Functions:
    """What functions there are: by node id, and the signatures by key.

    `notes` say which cannot be called, and why.
    """

    by_node: Mapping[int, Function | ConcreteFunction]
    signatures: Mapping[str, ConcreteFunction]
    notes: tuple[str, ...]


def read_functions(
    meta_graph: MetaGraphDef,
    tree: Tree,
    handles: Mapping[int, Handle],
    assets: Mapping[int, Asset],
    file: str,
) -> Functions:
    """The functions of a graph whose variables, by node id, have these handles.

    `assets` are by node id too. `file` names the SavedModel in errors.

    Raises:
        CorruptionError: a function contradicts itself.
    """
    return _Reading(meta_graph, tree, handles, assets, file).all()


class _Reading:
    def __init__(
        self,
        meta_graph: MetaGraphDef,
        tree: Tree,
        handles: Mapping[int, Handle],
        assets: Mapping[int, Asset],
        file: str,
    ) -> None:
        self._tree = tree
        self._objects = meta_graph.object_graph_def
        self._file = file
        self._interpreter = Interpreter(meta_graph.graph_def.library, file)
        self._captures: dict[int, Argument | Asset] = {**handles, **assets}
        self._constants = {
            node.name: node for node in meta_graph.graph_def.node if node.op == "Const"
        }
        self._sums = {
            number: Handle(partial(np.zeros, variable.shape, variable.dtype.numpy))
            for number, variable in tree.variables().items()
            if len(variable.components) > 1
            and variable.synchronization is Synchronization.ON_READ
            and variable.aggregation is Aggregation.SUM
        }
        """For each expanded sum, what its replicas but the first are worth."""
        self._notes: list[str] = []

    def all(self) -> Functions:
        """All that there are."""
        by_node: dict[int, Function | ConcreteFunction] = {}
        for number, node in enumerate(self._tree.nodes):
            saved = self._objects.nodes[number] if number < len(self._objects.nodes) else None
            if saved is not None and node.kind is Kind.FUNCTION:
                by_node[number] = self._function(saved.function)
            elif saved is not None and node.kind is Kind.CONCRETE_FUNCTION:
                name = saved.bare_concrete_function.concrete_function_name
                by_node[number] = self._concrete(name)
        return Functions(by_node, self._signatures(), tuple(dict.fromkeys(self._notes)))

    def _signatures(self) -> dict[str, ConcreteFunction]:
        signatures: dict[str, ConcreteFunction] = {}
        for reference in self._objects.nodes[0].children:
            if reference.local_name == _SIGNATURES:
                for child in self._object(reference).children:
                    saved = self._object(child).bare_concrete_function
                    signatures[child.local_name] = self._concrete(
                        saved.concrete_function_name, f"signature {child.local_name!r}, "
                    )
        return signatures

    def _object(
        self, reference: TrackableObjectGraph.TrackableObject.ObjectReference
    ) -> SavedObject:
        if not 0 <= reference.node_id < len(self._objects.nodes):
            raise CorruptionError(self._file, reference.local_name, "there is no such object")
        return self._objects.nodes[reference.node_id]

    def _function(self, saved: SavedFunction) -> Function:
        bodies = [self._body(name) for name in saved.concrete_functions]
        name = bodies[0].function if bodies else "function"
        signature = _signature(saved.function_spec, name)
        code = code_of(bodies, name, signature)
        function = self._untraced(code, saved.function_spec, name)
        for body in bodies:
            if body.inputs is not None:
                alone = code if len(bodies) == 1 else code_of([body], name, signature)
                function.adopt(StoredFunction(body, alone, signature))
        return function

    def _untraced(self, code: Callable[..., Any], spec: FunctionSpec, name: str) -> Function:
        """The user's function, with its input_signature where that can be had."""
        try:
            function = Function(code, read_structure(spec.input_signature, name))
            if function.input_signature is not None:
                function.signature.bind(*function.input_signature)
        except (*_UNREADABLE, TypeError):
            return Function(code)
        return function

    def _concrete(self, name: str, what: str = "") -> ConcreteFunction:
        body = self._body(name, what)
        args, _ = body.inputs or ((), {})
        parameters = [
            *(
                inspect.Parameter(f"arg_{place}", inspect.Parameter.POSITIONAL_ONLY)
                for place, _ in enumerate(args)
            ),
            inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]
        signature = inspect.Signature(parameters)
        return StoredFunction(body, code_of([body], body.function, signature), signature)

    def _body(self, name: str, what: str = "") -> Body:
        """A function of the library; `what` it is, before its name in the notes."""
        function = plain_name(name)
        unknown = self._interpreter.unknown(name)
        if name not in self._objects.concrete_functions:
            raise CorruptionError(self._file, name, "the object graph does not describe it")
        saved = self._objects.concrete_functions[name]
        problem, inputs, outputs = "", None, None
        captures: tuple[Argument | Asset, ...] = ()
        if unknown:
            problem = f"numpy cannot run {', '.join(sorted(unknown))}; TensorFlow can"
        try:
            given = read_structure(saved.canonicalized_input_signature, function)
            outputs = read_structure(saved.output_signature, function)
            inputs = given
            captures = self._bound(saved.bound_inputs)
        except _UNREADABLE as error:
            problem = problem or error.problem
        else:
            self._check_counts(name, inputs, outputs, len(captures))
        if problem:
            self._notes.append(f"{what}function {function}: {problem}; to call it is an error")
        return Body(name, function, inputs, outputs, captures, self._interpreter, problem)

    def _check_counts(self, name: str, inputs: Any, outputs: Any, captures: int) -> None:
        if not (
            isinstance(inputs, tuple)
            and [type(part) for part in inputs] == [tuple, dict]
            and _tensors(inputs) + captures == self._interpreter.arguments(name)
            and _tensors(outputs) == self._interpreter.results(name)
        ):
            raise CorruptionError(
                self._file, name, "the function takes or returns other things than it says"
            )

    def _bound(self, numbers: Sequence[int]) -> tuple[Argument | Asset, ...]:
        """What a function is bound to.

        TensorFlow binds it to one variable in place of all replicas of it. A function that adds
        them up would have that many times their sum, so the first has all of it here.
        """
        captures: list[Argument | Asset] = []
        seen: set[int] = set()
        for number in numbers:
            capture = self._capture(number)
            captures.append(self._sums.get(number, capture) if number in seen else capture)
            seen.add(number)
        return tuple(captures)

    def _capture(self, number: int) -> Argument | Asset:
        if number not in self._captures:
            known = 0 <= number < len(self._objects.nodes)
            saved = self._objects.nodes[number] if known else None
            if saved is None or not saved.HasField("constant"):
                kind = saved.WhichOneof("kind") if saved is not None else "nothing"
                raise ModelError("a capture", f"it is bound to a {kind}, which numpy has not")
            self._captures[number] = self._constant(saved.constant.operation)
        return self._captures[number]

    def _constant(self, name: str) -> Array:
        if name not in self._constants:
            raise CorruptionError(self._file, name, "the graph has no such constant")
        return read_tensor(self._constants[name].attr["value"].tensor, self._file, name)


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
