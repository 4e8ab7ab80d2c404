"""Functions of one SavedModel in another, as they were saved.

So are kept those that a trace does not express: that branch and loop by values, have effects,
or have ops that only TensorFlow runs. Those that they run are copied with them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from dsave.errors import ModelError
from dsave.functions.graph import Array, TensorSpec
from dsave.functions.names import Names
from dsave.model.asset import Asset
from dsave.model.dtype import dtype_of
from dsave.model.variable import Variable
from dsave.proto.graph_pb2 import AttrValue, FunctionDef, NameAttrList
from dsave.savedmodel.function_def import (
    CALL,
    add_call,
    argument_name,
    argument_types,
    set_input_shapes,
)
from dsave.savedmodel.interpreter import Handle, Interpreter, plain_name
from dsave.savedmodel.nodes import add_const
from dsave.savedmodel.reads import Readings
from dsave.savedmodel.resources import Resource, add_capture
from dsave.savedmodel.stored_function import Body, StoredFunction

New = Callable[[str], FunctionDef]
"""A new function in a library, by the name that it would like."""


class Copies:
    """What was copied into one library, each function once."""

    def __init__(self, new: New) -> None:
        self._new = new
        self._names: dict[tuple[Interpreter, str], str] = {}

    def add(
        self, function: StoredFunction, readings: Readings
    ) -> tuple[str, tuple[Resource, ...]]:
        """The name of a function's copy, and the resources that it takes after its arguments.

        Raises:
            ModelError: it reads what cannot be saved.
        """
        body = function.body
        bound = [_bound(body, capture, readings) for capture in body.captures]
        resources = tuple(dict.fromkeys(each for each in bound if isinstance(each, Resource)))
        copied = self._copied(body)
        if list(resources) == bound:
            return copied, resources
        proto = self._new(body.function)
        _set_call(proto, copied, function.arguments, bound, resources, function.results)
        return proto.signature.name, resources

    def _copied(self, body: Body) -> str:
        """The name of the copy of a function, whose last arguments are all that it captures."""
        source = body.interpreter
        waiting = deque[tuple[str, FunctionDef]]()

        def name_of(name: str) -> str:
            found = self._names.get((source, name))
            if found is None:
                proto = self._new(plain_name(name))
                found = self._names[source, name] = proto.signature.name
                waiting.append((name, proto))
            return found

        wanted = name_of(body.name)
        while waiting:
            name, proto = waiting.popleft()
            definition = source.definition(name)
            if definition is None:
                raise ModelError(
                    f"function {body.function}", f"it runs {name}, which is not there"
                )
            copy = proto.signature.name
            proto.CopyFrom(definition)
            proto.signature.name = copy
            for node in proto.node_def:
                if source.definition(node.op) is not None:
                    node.op = name_of(node.op)
                for called in _functions(node.attr.values()):
                    called.name = name_of(called.name)
        return wanted


def _bound(body: Body, capture: object, readings: Readings) -> Resource | Array:
    """What a copy takes in the place of a capture: a resource, or the constant itself."""
    if isinstance(capture, np.ndarray):
        return capture
    what = capture.variable if isinstance(capture, Handle) else capture
    if isinstance(what, Variable | Asset):
        return readings.of(what, body.function).resources[0]
    raise ModelError(
        f"function {body.function}",
        "it reads what can be loaded and not saved; take it out of the model to save the rest",
    )


def _set_call(
    proto: FunctionDef,
    called: str,
    arguments: Sequence[TensorSpec],
    bound: Sequence[Resource | Array],
    resources: Sequence[Resource],
    outputs: Sequence[TensorSpec],
) -> None:
    """Fill in a function that calls another one with constants among its captures."""
    names = Names()
    inputs = []
    for spec in arguments:
        inputs.append(names.unique(argument_name(str(spec.name))))
        proto.signature.input_arg.add(name=inputs[-1], type=spec.dtype.number)
    handles = {each: names.unique(argument_name(each.node)) for each in resources}
    for resource, name in handles.items():
        add_capture(proto, name, resource)
    set_input_shapes(proto, [spec.shape for spec in arguments], len(handles))
    types = argument_types(arguments, ())
    for each in bound:
        if isinstance(each, Resource):
            inputs.append(handles[each])
            types.list.type.append(each.argument_type)  # type: ignore[arg-type]
        else:
            node = names.unique("Const")
            add_const(proto.node_def, node, each)
            inputs.append(f"{node}:output:0")
            types.list.type.append(dtype_of(each.dtype).number)  # type: ignore[arg-type]
    call = names.unique(CALL)
    add_call(proto.node_def, call, called, inputs, types, outputs)
    for place, spec in enumerate(outputs):
        result = names.unique(f"output_{place}")
        proto.signature.output_arg.add(name=result, type=spec.dtype.number)
        proto.ret[result] = f"{call}:output:{place}"
    proto.signature.control_output.append(call)
    proto.control_ret[call] = call
    proto.signature.is_stateful = True


def _functions(attrs: Iterable[AttrValue]) -> Iterator[NameAttrList]:
    """The functions among attributes."""
    for attr in attrs:
        if attr.HasField("func"):
            yield attr.func
        yield from attr.list.func
