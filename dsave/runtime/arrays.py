"""Turn what users hand in into numpy arrays that nobody changes any more."""

import reprlib
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from dsave.errors import DtypeError, ModelError
from dsave.model.dtype import DType, dtype_of

Array = NDArray[Any]

_TORCH_BITS: dict[str, tuple[str, np.dtype[Any]]] = {
    # torch gives numpy no view of these, so their bits travel as integers of the same width.
    "torch.bfloat16": ("int16", np.dtype(ml_dtypes.bfloat16)),
    "torch.float8_e4m3fn": ("uint8", np.dtype(ml_dtypes.float8_e4m3fn)),
    "torch.float8_e4m3fnuz": ("uint8", np.dtype(ml_dtypes.float8_e4m3fnuz)),
    "torch.float8_e5m2": ("uint8", np.dtype(ml_dtypes.float8_e5m2)),
    "torch.float8_e5m2fnuz": ("uint8", np.dtype(ml_dtypes.float8_e5m2fnuz)),
}


def as_numpy(value: object) -> Array:
    """The array that `value` is: numpy's own, a torch tensor, `__array__`, or `__dlpack__`.

    Python numbers become float32, int32, bool or complex128, as in TensorFlow.

    Raises:
        DtypeError: it is no array, or one with a mask, or a number does not fit.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise DtypeError(str(value.dtype), "a SavedModel has no masks; give it as filled(...)")
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if any(
        f"{kind.__module__}.{kind.__name__}" == "torch.Tensor" for kind in type(value).__mro__
    ):
        return _torch_as_numpy(value)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    if isinstance(value, memoryview) or type(value).__module__ == "array":
        return np.asarray(value)  # which have a dtype of their own
    array = _python_as_numpy(value)
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
        if (np.isinf(single) & np.isfinite(array)).any():
            raise _does_not_fit("float32", value)
        return single
    if array.dtype in (np.int64, np.uint64):
        narrow = array.astype(np.int32)
        if not np.array_equal(narrow, array):
            raise _does_not_fit("int32", value)
        return narrow
    if array.dtype == np.object_ and all(isinstance(e, int) for e in array.flat):
        raise _does_not_fit("int32", value)
    return array


def as_variable_array(value: object, dtype: DType | None, name: str) -> tuple[Array, DType]:
    """`value` as an array of a dtype that can be saved, and that dtype.

    Raises:
        DtypeError: no SavedModel can hold it.
        ModelError: the value does not convert to the dtype that was asked for: floats are
            rounded, but nothing else is changed.
    """
    if dtype is None:
        array = as_numpy(value)
        dtype = dtype_of(array.dtype)
    else:
        array = _python_as_numpy(value) if _is_python(value) else as_numpy(value)
    if dtype.is_string:
        return _as_strings(array, name), dtype
    if array.dtype != dtype.numpy:
        array = _converted(array, dtype, name)
    return array, dtype


def frozen(array: Array) -> Array:
    """The array in row-major order, read-only, and never seen by anyone who may write to it.

    An array that owns its memory and is read-only already is kept; anything else is copied,
    since a view may have a writable base. Requires: nobody kept a view of it from before it was
    made read-only.
    """
    if array.flags.c_contiguous and not array.flags.writeable and array.base is None:
        return array
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    return copy


def as_bytes(array: Array) -> memoryview:
    """The memory of a row-major array of fixed-size elements, without a copy."""
    return memoryview(array.reshape(-1).view(np.uint8))


def _is_python(value: object) -> bool:
    return isinstance(value, bool | int | float | complex | str | bytes | list | tuple)


def _python_as_numpy(value: object) -> Array:
    try:
        array = np.asarray(value)
        # numpy pads its own strings with NUL, and so forgets where one ends with it.
        return np.asarray(value, np.object_) if array.dtype.kind in "SU" else array
    except ValueError as error:
        raise DtypeError(type(value).__name__, f"it is no array: {error}") from None


def _does_not_fit(dtype: str, value: object) -> DtypeError:
    shown = reprlib.repr(value)
    return DtypeError(dtype, f"{shown} does not fit; give a numpy array or a dtype")


def _torch_as_numpy(tensor: Any) -> Array:
    import torch  # noqa: PLC0415 - the caller has imported it already

    bits = _TORCH_BITS.get(str(tensor.dtype))
    try:
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if bits is None:
            return np.asarray(tensor.numpy())
        carrier, numpy = bits
        return np.asarray(tensor.view(getattr(torch, carrier)).numpy()).view(numpy)
    except (TypeError, RuntimeError) as error:
        raise DtypeError(str(tensor.dtype), f"this tensor is no array: {error}") from None


def _converted(array: Array, dtype: DType, name: str) -> Array:
    if array.dtype.names is not None:  # as TensorFlow shows quantized types to numpy
        array = array.view(dtype_of(array.dtype).numpy)
    if array.dtype.kind not in "biufcV" or (
        array.dtype.kind == "c" and dtype.numpy.kind != "c"
    ):
        raise ModelError(name, f"its value is {array.dtype}, which does not convert to {dtype}")
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            converted = array.astype(dtype.numpy)
    except (TypeError, ValueError) as error:
        raise ModelError(name, f"its value does not convert to {dtype}: {error}") from None
    if not dtype.is_float and not np.array_equal(converted, array):
        raise ModelError(name, f"its value has elements that are no {dtype}")
    converted.flags.writeable = False  # it is nobody else's, so it need not be copied again
    return converted


def _as_strings(array: Array, name: str) -> Array:
    strings = np.empty(array.shape, np.object_)
    flat = strings.reshape(-1)
    for index, element in enumerate(array.reshape(-1).tolist()):
        try:
            flat[index] = element.encode() if isinstance(element, str) else element
        except UnicodeEncodeError as error:
            raise _no_string(name, index, str(error)) from None
        if not isinstance(flat[index], bytes):
            raise _no_string(name, index, repr(element))
    strings.flags.writeable = False
    return strings


def _no_string(name: str, index: int, problem: str) -> DtypeError:
    return DtypeError(
        "object", f"element {index} of {name!r} is neither bytes nor text: {problem}"
    )
