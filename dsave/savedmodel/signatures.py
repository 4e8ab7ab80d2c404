"""Signatures: functions that are called with named tensors and return named tensors.

TensorFlow flattens named tensors by sorted name and does not look at the names again: a
function whose arguments are in another order silently gets them swapped. So each signature has
a function of its own, whose arguments and outputs are sorted, around the user's. One that was
loaded and is copied is such a function already:

    __inference_signature_wrapper_NAME    in the library, and the object graph's signature map
    KEY_INPUT                             in the main graph, a placeholder for each input
    StatefulPartitionedCall               the call of that function, whose outputs are fetched
    signature_def[KEY]                    says which is which

Sources: tensorflow/python/saved_model/{signature_serialization,save}.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dsave.errors import ModelError, OptionError, OptionTypeError
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function
from dsave.functions.graph import TensorSpec
from dsave.functions.names import Names
from dsave.model.trackable import ObjectGraph
from dsave.proto.graph_pb2 import GraphDef
from dsave.proto.saved_model_pb2 import SignatureDef, TensorInfo
from dsave.savedmodel.function_def import (
    CALL,
    add_call,
    argument_name,
    argument_types,
    set_input_shapes,
)
from dsave.savedmodel.library import Library, LibraryFunction, Traces
from dsave.savedmodel.nodes import (
    add_node,
    set_shape,
)
from dsave.savedmodel.resources import add_capture

INIT_OP = "__saved_model_init_op"
"""The signature, and the output in it, that names the op that initializes the graph."""

_DEFAULT_KEY = "serving_default"
_DEFAULT_ATTRIBUTE = "_default_save_signature"
_METHOD = "tensorflow/serving/predict"

_NOT_IN_PLACEHOLDERS = re.compile(r"[^A-Za-z0-9_.\-]")
_NOT_FIRST = re.compile(r"^[^A-Za-z0-9.]+")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: names of its tensors, each with its place in what the function takes."""

    key: str
    function: ConcreteFunction
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


def chosen_signatures(
    signatures: object, graph: ObjectGraph, traces: Traces
) -> tuple[Signature, ...]:
    """The signatures that were asked for; for None the one that TensorFlow would choose.

    Raises:
        OptionError, OptionTypeError: something that is no function, or a key that is not free.
        ModelError: a function whose results are not tensors with a name each.
        TraceError: a function cannot be traced.
    """
    if signatures is None:
        function = _default(graph, traces)
        signatures = {} if function is None else function
    if not isinstance(signatures, Mapping):
        signatures = {_DEFAULT_KEY: signatures}
    for key in signatures:
        if not isinstance(key, str):
            raise OptionTypeError("signatures", f"keys are str, got {key!r}")
        if key == INIT_OP:
            raise OptionError("signatures", f"the key {key!r} is reserved")
    return tuple(
        _signature(key, _concrete(key, given, traces)) for key, given in signatures.items()
    )


def add_signature(
    graph: GraphDef, names: Names, library: Library, signature: Signature, proto: SignatureDef
) -> str:
    """Add a signature to the library, the main graph and the map of signatures.

    Returns the name of its function.
    """
    function = library[signature.function]
    specs = [(name, function.arguments[place]) for name, place in signature.inputs]
    results = [
        (name, _named_spec(function.outputs[place], name)) for name, place in signature.outputs
    ]
    wrapper = function.name
    if not function.by_name:
        wrapper = _add_wrapper(library, signature, function)
        structure = ((), dict(specs)), dict(results)
        library.describe(wrapper, function.captures, *structure, signature.function.name)
    placeholders = []
    for name, spec in specs:
        wanted = _NOT_IN_PLACEHOLDERS.sub("_", f"{signature.key}_{name}")
        node = names.unique(_NOT_FIRST.sub("", wanted) or "input")
        add_node(graph.node, node, "Placeholder", dtype=spec.dtype, shape=spec.shape)
        placeholders.append(node)
        _set_info(proto.inputs[name], f"{node}:0", spec)
    call = names.unique(CALL)
    inputs = [*placeholders, *(resource.node for resource in function.captures)]
    outputs = [spec for _, spec in results]
    types = argument_types([spec for _, spec in specs], function.captures)
    add_call(graph.node, call, wrapper, inputs, types, outputs)
    for place, (name, spec) in enumerate(results):
        _set_info(proto.outputs[name], f"{call}:{place}", spec)
    proto.method_name = _METHOD
    return wrapper


def _add_wrapper(library: Library, signature: Signature, function: LibraryFunction) -> str:
    """Add the function that takes and returns tensors by sorted name."""
    proto = library.new(f"signature_wrapper_{signature.function.name}")
    names = Names()
    arguments: dict[int, str] = {}
    for name, place in signature.inputs:
        arguments[place] = names.unique(argument_name(name))
        spec = function.arguments[place]
        proto.signature.input_arg.add(name=arguments[place], type=spec.dtype.number)
    handles = []
    for resource in function.captures:
        handles.append(names.unique(argument_name(resource.node)))
        add_capture(proto, handles[-1], resource)
    set_input_shapes(
        proto, [function.arguments[place].shape for _, place in signature.inputs], len(handles)
    )
    call = names.unique(CALL)
    add_call(
        proto.node_def,
        call,
        function.name,
        [*(arguments[place] for place in range(len(arguments))), *handles],
        argument_types(function.arguments, function.captures),
        function.outputs,
    )
    for name, place in signature.outputs:
        result = names.unique(argument_name(name))
        dtype = function.outputs[place].dtype
        proto.signature.output_arg.add(name=result, type=dtype.number)
        proto.ret[result] = f"{call}:output:{place}"
    proto.signature.control_output.append(call)
    proto.control_ret[call] = call
    proto.signature.is_stateful = True
    return proto.signature.name


def _set_info(info: TensorInfo, tensor: str, spec: TensorSpec) -> None:
    info.name = tensor
    info.dtype = spec.dtype.number  # type: ignore[assignment]
    set_shape(info.tensor_shape, spec.shape)


def _named_spec(spec: TensorSpec, name: str) -> TensorSpec:
    return TensorSpec(spec.shape, spec.dtype, name)


def _default(graph: ObjectGraph, traces: Traces) -> Function | ConcreteFunction | None:
    """The function that is a signature though nobody said so: the only one that can be.

    Source: `find_function_to_export`, signature_serialization.py.
    """
    possible: list[ConcreteFunction] = []
    for name, node_id in graph.nodes[0].children:
        value = graph.nodes[node_id].value
        if not isinstance(value, Function | ConcreteFunction):
            continue
        if name == _DEFAULT_ATTRIBUTE:
            return value
        if isinstance(value, Function):
            if value.input_signature is None:
                continue
            (value,) = traces[value]
        try:
            _signature(_DEFAULT_KEY, value)
        except ModelError:
            continue
        possible.append(value)
    return possible[0] if len(possible) == 1 else None


def _concrete(key: str, given: object, traces: Traces) -> ConcreteFunction:
    if isinstance(given, ConcreteFunction):
        return given
    if not isinstance(given, Function):
        raise OptionTypeError(
            "signatures",
            f"{key!r}: a dsave.function or a concrete function is wanted, got {given!r}",
        )
    if given.input_signature is None:
        raise OptionError(
            "signatures",
            f"{key!r}: {given.name} has no input_signature; give it one, or "
            f"give {given.name}.get_concrete_function(...)",
        )
    (concrete,) = traces[given]
    return concrete


def _signature(key: str, function: ConcreteFunction) -> Signature:
    names = [str(spec.name) for spec in function.arguments]
    results = _named(key, function)
    # Dicts are flattened by sorted key, all else in its own order.
    is_dict = isinstance(function.structured_outputs, Mapping)
    return Signature(
        key,
        function,
        tuple(sorted((name, place) for place, name in enumerate(names))),
        tuple(
            sorted(
                (name, place)
                for place, name in enumerate(sorted(results) if is_dict else results)
            )
        ),
    )


def _named(key: str, function: ConcreteFunction) -> list[str]:
    """The name of each result, in the function's own order."""
    structure = function.structured_outputs
    if isinstance(structure, Mapping):
        named = list(structure.items())
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        named = list(zip(structure._fields, structure, strict=True))
    else:
        results = structure if isinstance(structure, list | tuple) else [structure]
        named = [(f"output_{place}", result) for place, result in enumerate(results)]
    if not named:
        raise ModelError(f"signature {key!r}", f"{function.name} returns no tensor")
    for name, result in named:
        if not isinstance(result, TensorSpec) or not isinstance(name, str):
            raise ModelError(
                f"signature {key!r}",
                f"{function.name} returns {result} as {name!r}; a signature returns a tensor, "
                "a list or tuple of them, or a dict of them by str",
            )
    return [name for name, _ in named]
