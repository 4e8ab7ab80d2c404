"""Values in a graph as numpy and Python have them: tensors, attributes, nested structures.

Messages: tensorflow/core/framework/{tensor,attr_value}.proto, core/protobuf/struct.proto.
"""

import math
from collections import namedtuple
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsave.errors import CorruptionError, DtypeError, ModelError
from dsave.functions.graph import Attr, TensorSpec
from dsave.model.dtype import DType, dtype_numbered
from dsave.proto.graph_pb2 import AttrValue, TensorProto
from dsave.proto.object_graph_pb2 import StructuredValue
from dsave.proto.types_pb2 import TensorShapeProto

_MAX_ELEMENTS = 1 << 28
_MAX_TIMES = 8
"""How often the last of several elements is repeated before a constant counts as large."""

_LISTS = {
    "int32": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "int4": "int_val",
    "uint4": "int_val",
    "int2": "int_val",
    "uint2": "int_val",
    "qint8": "int_val",
    "quint8": "int_val",
    "qint16": "int_val",
    "quint16": "int_val",
    "qint32": "int_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "float32": "float_val",
    "float64": "double_val",
    "bool": "bool_val",
}
"""The field that has the elements of a tensor as numbers, where that is all there is to it."""


def read_tensor(
    proto: TensorProto, file: str, name: str, *, large: bool = False
) -> NDArray[Any]:
    """A read-only array; `file` and `name` say whose it is.

    The last element that is given stands for all that are not. One alone is kept once; `large`
    allows an array that is much larger than the message.

    Raises:
        CorruptionError: it has more elements than its shape, or none of them.
        DtypeError: no array has its dtype.
        ModelError: it is too large.
    """
    dtype = dtype_numbered(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise CorruptionError(file, name, f"a constant of shape {shape}")
    count = math.prod(shape)
    given = _elements(proto, dtype, file, name)
    missing = count - len(given)
    if missing < 0 or (missing and not len(given)):
        raise CorruptionError(file, name, f"{len(given)} elements for the shape {shape}")
    most = _MAX_ELEMENTS if large or len(given) == 1 else _MAX_TIMES * len(given)
    if missing and count > most:
        raise ModelError(name, f"a constant of shape {shape} with {missing} elements left out")
    if len(given) == 1:  # an array that is read-only, and no larger than what is given
        return np.broadcast_to(given.reshape(()), shape)
    if missing:
        given = np.concatenate([given, np.repeat(given[-1:], missing)])
    array = given.reshape(shape)
    array.flags.writeable = False
    return array


def _elements(proto: TensorProto, dtype: DType, file: str, name: str) -> NDArray[Any]:
    if proto.tensor_content:
        if dtype.is_string or len(proto.tensor_content) % dtype.itemsize:
            raise CorruptionError(file, name, f"its bytes are no {dtype} elements")
        return np.frombuffer(proto.tensor_content, dtype.numpy)
    if dtype.is_string:
        strings = np.empty(len(proto.string_val), np.object_)
        strings[:] = list(proto.string_val)
        return strings
    try:
        if dtype.name in _LISTS:
            return np.array(getattr(proto, _LISTS[dtype.name]), np.object_).astype(dtype.numpy)
        if dtype.name == "complex64":
            return np.array(proto.scomplex_val, np.float32).view(np.complex64)
        if dtype.name == "complex128":
            return np.array(proto.dcomplex_val, np.float64).view(np.complex128)
        if dtype.name in {"float16", "bfloat16"}:
            return np.array(proto.half_val, np.uint16).view(dtype.numpy)
        return np.frombuffer(proto.float8_val, np.uint8).view(dtype.numpy)
    except (ValueError, OverflowError) as error:
        raise CorruptionError(file, name, f"its elements are no {dtype}: {error}") from None


def read_attr(proto: AttrValue, file: str, name: str) -> Attr | None:
    """An attribute, or None for one that is a function or a resource's dtype.

    Raises:
        CorruptionError: a tensor that contradicts itself.
        DtypeError: no array has the dtype of a tensor.
        ModelError: a shape without a rank, or a tensor much larger than its message.
    """
    kind = proto.WhichOneof("value")
    if kind == "type":
        return _dtype(proto.type)
    if kind == "shape":
        return _shape(proto.shape, name)
    if kind == "tensor":
        return read_tensor(proto.tensor, file, name)
    if kind in {"s", "i", "f", "b"}:
        value: bytes | int | float | bool = getattr(proto, kind)
        return value
    if kind != "list":
        return None
    values = proto.list
    if values.type:
        dtypes = [_dtype(number) for number in values.type]
        return None if None in dtypes else dtypes  # type: ignore[return-value]
    if values.shape:
        return [_shape(shape, name) for shape in values.shape]
    return list(values.s) or list(values.i) or list(values.f) or list(values.b)


def read_structure(proto: StructuredValue, name: str) -> Any:
    """Nested lists, tuples and dicts of TensorSpecs and Python values; `name` says whose.

    Raises:
        DtypeError, ModelError: something in it that has no counterpart here.
    """
    kind = proto.WhichOneof("kind")
    if kind in {None, "none_value"}:
        return None
    if kind in {"float64_value", "int64_value", "string_value", "bool_value"}:
        return getattr(proto, str(kind))
    if kind == "numpy_value":
        return read_tensor(proto.numpy_value, "saved_model.pb", name)
    if kind in {"tensor_spec_value", "bounded_tensor_spec_value"}:
        spec = getattr(proto, str(kind))
        dtype = dtype_numbered(spec.dtype)
        return TensorSpec(_shape(spec.shape, name), dtype, spec.name or None)
    if kind == "list_value":
        return [read_structure(item, name) for item in proto.list_value.values]
    if kind == "tuple_value":
        return tuple(read_structure(item, name) for item in proto.tuple_value.values)
    if kind == "dict_value":
        fields = proto.dict_value.fields
        return {key: read_structure(fields[key], name) for key in sorted(fields)}
    if kind == "named_tuple_value":
        pairs = proto.named_tuple_value.values
        try:
            made = _namedtuple(tuple(pair.key for pair in pairs))
        except ValueError as error:
            raise ModelError(name, str(error)) from None
        return made(*(read_structure(pair.value, name) for pair in pairs))
    raise ModelError(name, f"it takes or returns a {kind}, which has no counterpart in numpy")


@lru_cache(maxsize=64)  # Python makes one by compiling its code
def _namedtuple(fields: tuple[str, ...]) -> type[Any]:
    return namedtuple("Fields", fields)  # noqa: PYI024


def _dtype(number: int) -> DType | None:
    try:
        return dtype_numbered(number)
    except DtypeError:
        return None


def _shape(proto: TensorShapeProto, name: str) -> tuple[int | None, ...]:
    if proto.unknown_rank:
        raise ModelError(name, "it takes or returns a tensor of unknown rank")
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)
