"""Arguments and results of functions as `StructuredValue`s: nested values and TensorSpecs.

Source: tensorflow/core/protobuf/struct.proto, python/saved_model/nested_structure_coder.py. The
parameters of a function are a namedtuple, as `inspect.getfullargspec` gives it.
"""

import inspect
import itertools
from collections.abc import Mapping

import numpy as np

from dsave.errors import ModelError
from dsave.functions.function import Function
from dsave.functions.graph import TensorSpec
from dsave.functions.operands import operand
from dsave.model.dtype import dtype_of
from dsave.proto.object_graph_pb2 import FunctionSpec, StructuredValue
from dsave.savedmodel.nodes import set_shape, set_tensor


def set_structure(proto: StructuredValue, value: object, function: str) -> None:
    """Fill in a nested structure of TensorSpecs, numbers, strings, arrays and None.

    Raises:
        ModelError: `function` takes or returns something that no SavedModel describes.
    """
    if value is None:
        proto.none_value.SetInParent()
    elif isinstance(value, TensorSpec):
        spec = proto.tensor_spec_value
        spec.name = value.name or ""
        spec.dtype = value.dtype.number  # type: ignore[assignment]
        set_shape(spec.shape, value.shape)
    elif isinstance(value, np.ndarray | np.generic):
        array = operand(value)
        assert isinstance(array, np.ndarray)
        set_tensor(proto.numpy_value, array, dtype_of(array.dtype))
    elif isinstance(value, bool):
        proto.bool_value = value
    elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        proto.int64_value = value
    elif isinstance(value, float):
        proto.float64_value = value
    elif isinstance(value, str):
        proto.string_value = value
    elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        proto.dict_value.SetInParent()
        for key, item in value.items():
            set_structure(proto.dict_value.fields[key], item, function)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        proto.named_tuple_value.name = type(value).__name__
        for key, item in zip(value._fields, value, strict=True):
            set_structure(proto.named_tuple_value.values.add(key=key).value, item, function)
    elif isinstance(value, list):
        proto.list_value.SetInParent()
        for item in value:
            set_structure(proto.list_value.values.add(), item, function)
    elif isinstance(value, tuple):
        proto.tuple_value.SetInParent()
        for item in value:
            set_structure(proto.tuple_value.values.add(), item, function)
    else:
        raise ModelError(
            f"function {function}",
            f"a SavedModel cannot describe {value!r}; it can describe tensors, numbers, str, "
            "None, and lists, tuples and dicts by str of these",
        )


def set_function_spec(proto: FunctionSpec, function: Function) -> None:
    """Fill in the parameters of a function, without those that its instance fills in.

    Raises:
        ModelError: a default that no SavedModel describes.
    """
    of_kind: dict[object, list[inspect.Parameter]] = {}
    for parameter in function.signature.parameters.values():
        of_kind.setdefault(parameter.kind, []).append(parameter)
    positional = [
        *of_kind.get(inspect.Parameter.POSITIONAL_ONLY, ()),
        *of_kind.get(inspect.Parameter.POSITIONAL_OR_KEYWORD, ()),
    ]
    by_keyword = of_kind.get(inspect.Parameter.KEYWORD_ONLY, [])
    defaults = tuple(_defaults(positional).values())
    named = {
        "args": [parameter.name for parameter in positional],
        "varargs": _name(of_kind.get(inspect.Parameter.VAR_POSITIONAL)),
        "varkw": _name(of_kind.get(inspect.Parameter.VAR_KEYWORD)),
        "defaults": defaults or None,
        "kwonlyargs": [parameter.name for parameter in by_keyword],
        "kwonlydefaults": _defaults(by_keyword) or None,
        "annotations": {},
    }
    proto.fullargspec.named_tuple_value.name = "FullArgSpec"
    for key, value in named.items():
        pair = proto.fullargspec.named_tuple_value.values.add(key=key)
        set_structure(pair.value, value, function.name)
    set_structure(proto.input_signature, _input_signature(function), function.name)


def _input_signature(function: Function) -> tuple[object, ...] | None:
    """That of the function, and the arrays that are the defaults of what follows."""
    if function.input_signature is None:
        return None
    args: tuple[object, ...] = function.wanted()[0]
    count = len(function.input_signature)
    defaults = itertools.takewhile(lambda arg: isinstance(arg, TensorSpec), args[count:])
    return (*function.input_signature, *defaults)


def _defaults(parameters: list[inspect.Parameter]) -> dict[str, object]:
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _name(parameters: list[inspect.Parameter] | None) -> str | None:
    return parameters[0].name if parameters else None
