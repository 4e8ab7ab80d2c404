"""Turn what users hand in into numpy arrays that nobody changes any more."""

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
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if type(value).__module__.partition(".")[0] == "torch":
        return _torch_as_numpy(value)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    array = np.asarray(value)
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64:
        narrow = array.astype(np.int32)
        if not np.array_equal(narrow, array):
            raise DtypeError("int32", f"{value!r} does not fit; give a numpy array or a dtype")
        return narrow
    return array


def as_variable_array(value: object, dtype: DType | None, name: str) -> tuple[Array, DType]:
    """`value` as an array of a dtype that can be saved, and that dtype.

    Raises:
        DtypeError: no SavedModel can hold it.
        ModelError: the value does not convert to the dtype that was asked for.
    """
    if dtype is None:
        array = as_numpy(value)
        dtype = dtype_of(array.dtype)
    else:
        array = np.asarray(value) if _is_python(value) else as_numpy(value)
    if dtype.is_string:
        return _as_strings(array, name), dtype
    if array.dtype != dtype.numpy:
        if array.dtype.names is not None and dtype_of(array.dtype) == dtype:
            array = array.view(dtype.numpy)  # TensorFlow's numpy face of a quantized type
        else:
            try:
                array = array.astype(dtype.numpy)
            except (TypeError, ValueError) as error:
                raise ModelError(
                    name, f"its value does not convert to {dtype}: {error}"
                ) from None
    return array, dtype


def frozen(array: Array) -> Array:
    """The array in row-major order, read-only, and never seen by anyone who may write to it.

    An array that owns its memory and is read-only already is kept; anything else is copied,
    since a view may have a writable base.
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


def _torch_as_numpy(tensor: Any) -> Array:
    tensor = tensor.detach().cpu().contiguous()
    bits = _TORCH_BITS.get(str(tensor.dtype))
    if bits is None:
        return np.asarray(tensor.numpy())
    carrier, numpy = bits
    import torch  # noqa: PLC0415 - the caller has imported it already

    return np.asarray(tensor.view(getattr(torch, carrier)).numpy()).view(numpy)


def _as_strings(array: Array, name: str) -> Array:
    strings = np.empty(array.shape, np.object_)
    flat = strings.reshape(-1)
    for index, element in enumerate(array.reshape(-1).tolist()):
        if isinstance(element, str):
            flat[index] = element.encode()
        elif isinstance(element, bytes):
            flat[index] = element
        else:
            raise ModelError(name, f"a string is wanted, element {index} is {element!r}")
    return strings
