"""The dtypes that a SavedModel can hold, and the numpy dtype that carries each.

Numbers and sizes: tensorflow/core/framework/types.proto. Sub-byte types take one byte an
element on disk and in memory, as in ml_dtypes. Quantized types are carried by the integer
type of the same width; only their name tells them apart, so ask for them by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import ml_dtypes
import numpy as np

from dsave.errors import DtypeError


@dataclass(frozen=True, slots=True)
class DType:
    """One TensorFlow dtype.

    `number` is its `DataType`. `numpy` carries its elements; strings are `bytes` in arrays of
    dtype object. `itemsize` is in bytes on disk, 0 for strings, whose elements vary.
    `reassembled` says whether TensorFlow 2.21 can put a tensor together that was stored in
    slices (tensorflow/core/util/tensor_bundle/tensor_bundle.cc, GetSliceValue). `variable` says
    whether it has variables of the dtype, and not only tensors
    (tensorflow/core/kernels/resource_variable_ops.cc).
    """

    name: str
    number: int
    numpy: np.dtype
    itemsize: int
    reassembled: bool
    variable: bool

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype, by which numpy takes this for a dtype."""
        return self.numpy

    @property
    def is_string(self) -> bool:
        """Whether elements are byte strings of any length."""
        return self.itemsize == 0

    @property
    def is_float(self) -> bool:
        """Whether a mean of two elements is an element."""
        return "float" in self.name or self.name.startswith("complex")

    def __str__(self) -> str:
        return self.name

    # Thousands of entries cross between processes with their dtypes: one number each.
    def __reduce__(self) -> tuple[Callable[[int], "DType"], tuple[int]]:
        return dtype_numbered, (self.number,)


_ROWS: tuple[tuple[str, int, object, bool], ...] = (
    ("float32", 1, np.float32, True),
    ("float64", 2, np.float64, True),
    ("int32", 3, np.int32, True),
    ("uint8", 4, np.uint8, True),
    ("int16", 5, np.int16, True),
    ("int8", 6, np.int8, True),
    ("string", 7, np.object_, False),
    ("complex64", 8, np.complex64, True),
    ("int64", 9, np.int64, True),
    ("bool", 10, np.bool_, True),
    ("qint8", 11, np.int8, True),
    ("quint8", 12, np.uint8, True),
    ("qint32", 13, np.int32, True),
    ("bfloat16", 14, ml_dtypes.bfloat16, True),
    ("qint16", 15, np.int16, False),
    ("quint16", 16, np.uint16, False),
    ("uint16", 17, np.uint16, False),
    ("complex128", 18, np.complex128, True),
    ("float16", 19, np.float16, False),
    ("uint32", 22, np.uint32, False),
    ("uint64", 23, np.uint64, False),
    ("float8_e5m2", 24, ml_dtypes.float8_e5m2, False),
    ("float8_e4m3fn", 25, ml_dtypes.float8_e4m3fn, False),
    ("float8_e4m3fnuz", 26, ml_dtypes.float8_e4m3fnuz, False),
    ("float8_e4m3b11fnuz", 27, ml_dtypes.float8_e4m3b11fnuz, False),
    ("float8_e5m2fnuz", 28, ml_dtypes.float8_e5m2fnuz, False),
    ("int4", 29, ml_dtypes.int4, True),
    ("uint4", 30, ml_dtypes.uint4, True),
    ("int2", 31, ml_dtypes.int2, False),
    ("uint2", 32, ml_dtypes.uint2, False),
    ("float4_e2m1fn", 33, ml_dtypes.float4_e2m1fn, False),
)


_TENSORS_ONLY = frozenset(
    {"qint16", "quint16", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"}
)


def _row(name: str, number: int, carrier: object, reassembled: bool) -> DType:
    numpy = np.dtype(carrier)  # type: ignore[call-overload]
    itemsize = 0 if name == "string" else numpy.itemsize
    return DType(name, number, numpy, itemsize, reassembled, name not in _TENSORS_ONLY)


DTYPES: tuple[DType, ...] = tuple(_row(*row) for row in _ROWS)
"""Every dtype that can be saved, by number."""

_BY_NAME: Mapping[str, DType] = MappingProxyType({dtype.name: dtype for dtype in DTYPES})
_BY_NUMBER: Mapping[int, DType] = MappingProxyType({dtype.number: dtype for dtype in DTYPES})
_BY_NUMPY: Mapping[np.dtype, DType] = MappingProxyType(
    # The quantized types share their carriers, so the plain integers keep them.
    {dtype.numpy: dtype for dtype in DTYPES if not dtype.name.startswith(("qint", "quint"))}
)
STRING = _BY_NAME["string"]


def dtype_of(dtype: object) -> DType:
    """The `DType` of a name, a numpy dtype, a scalar type, or a `DType` itself.

    Raises:
        DtypeError: a SavedModel cannot hold this dtype.
    """
    if isinstance(dtype, DType):
        return dtype
    if isinstance(dtype, np.dtype) and dtype in _BY_NUMPY:  # nearly always, and quick
        return _BY_NUMPY[dtype]
    if isinstance(dtype, str) and dtype in _BY_NAME:
        return _BY_NAME[dtype]
    if dtype is None:  # which numpy would take for float64
        raise DtypeError("None", _problem())
    try:
        numpy = np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise DtypeError(str(dtype), _problem()) from None
    if numpy.kind in "SUT" or numpy == np.object_:
        return STRING
    if numpy.names is not None and len(numpy.names) == 1:
        quantized = _BY_NAME.get(numpy.names[0])  # as TensorFlow shows these to numpy
        if quantized is not None and quantized.numpy == numpy[0]:
            return quantized
    found = _BY_NUMPY.get(numpy.newbyteorder("="))
    if found is None:
        raise DtypeError(str(numpy), _problem())
    return found


def dtype_numbered(number: int) -> DType:
    """The `DType` of a `DataType` number read from a file.

    Raises:
        DtypeError: no tensor in a bundle can have this dtype.
    """
    found = _BY_NUMBER.get(number)
    if found is None:
        raise DtypeError(f"number {number}", "no tensor of this dtype can be stored")
    return found


def _problem() -> str:
    return f"a SavedModel cannot hold it; it can hold {', '.join(d.name for d in DTYPES)}"
