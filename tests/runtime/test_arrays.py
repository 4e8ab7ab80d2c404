"""What users hand in becomes arrays that can be saved, and that nobody changes any more.

- Python's numbers become TensorFlow's defaults; those that do not fit are refused
- whatever is an array is taken as one: numpy, torch, `__array__`, `__dlpack__`
- byte order and memory order do not matter, the values do
- a dtype that is asked for rounds floats and changes nothing else
- strings are bytes; what is no array, no text, or has a mask is refused
- a frozen array is read-only and shares no memory with anyone who may write
- the bytes of an array are its memory, whatever its dtype and shape
"""

import gc

import ml_dtypes
import numpy as np
import pytest

from dsave.errors import DtypeError, ModelError
from dsave.model.dtype import DTYPES, dtype_of
from dsave.runtime.arrays import as_bytes, as_numpy, as_variable_array, frozen

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def variable(value, dtype=None):
    """The array of a new variable, and the name of its dtype."""
    array, kind = as_variable_array(value, None if dtype is None else dtype_of(dtype), "v")
    assert array.dtype == kind.numpy
    return array, kind.name


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"),
        ([1, 2.5], "float32"),
        (3, "int32"),
        ([[1], [2]], "int32"),
        (2**31 - 1, "int32"),
        (-(2**31), "int32"),
        (True, "bool"),
        (1 + 2j, "complex128"),
        ([], "float32"),
        (np.float64(1.5), "float64"),
        (np.int64(3), "int64"),
        (np.bool_(True), "bool"),
        (np.array([1.5]), "float64"),
        (np.array([2**40]), "int64"),
        (np.zeros((2, 0, 3), np.uint16), "uint16"),
        (np.array([1], BFLOAT16), "bfloat16"),
        (np.array([1], ml_dtypes.int4), "int4"),
    ],
)
def test_a_value_has_the_dtype_that_tensorflow_gives_it(value, dtype):
    array, kind = variable(value)
    assert kind == dtype
    np.testing.assert_array_equal(array, value)


@pytest.mark.tf
@pytest.mark.parametrize(
    "value",
    [1.5, 3, True, 1 + 2j, [1, 2.5], [], "x", b"x", np.float64(2), 3.4e38, [1e-50], np.inf],
)
def test_tensorflow_makes_the_same_of_it(tf, value):
    theirs = tf.constant(value)
    array, kind = variable(value)
    assert kind == theirs.dtype.name
    assert array.tolist() == np.array(theirs.numpy(), array.dtype).tolist()


@pytest.mark.parametrize(
    "value", [2**31, -(2**31) - 1, [1, 2**40], 2**63, [2**63], 2**64, [[2**70]]]
)
def test_an_integer_that_does_not_fit_is_refused_and_not_wrapped(value):
    with pytest.raises(DtypeError, match=r"^dtype int32: .* does not fit"):
        variable(value)


@pytest.mark.parametrize("value", [1e300, [1.0, -1e39]])
def test_a_float_that_does_not_fit_is_refused_and_not_made_infinite(value):
    with pytest.raises(DtypeError, match=r"^dtype float32: .* does not fit"):
        variable(value)
    assert variable(value, "float64")[0].tolist() == value


def test_an_integer_fits_a_dtype_that_is_asked_for():
    assert variable(2**40, "int64")[0] == 2**40
    assert variable(2**63, "uint64")[0] == 2**63
    assert variable([200], "uint8")[0].tolist() == [200]


def test_a_long_list_is_not_repeated_in_an_error():
    with pytest.raises(DtypeError) as caught:
        variable(list(range(2**31, 2**31 + 1000)))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "dtype", "stored"),
    [
        (0.1, "float64", 0.1),
        (np.array([1.0, 3.0]), "float16", [1.0, 3.0]),
        (np.array([1e300]), "float32", [np.inf]),
        (np.array([257.0]), "bfloat16", [256.0]),
        (np.arange(3), "float32", [0.0, 1.0, 2.0]),
        (np.array([1.0, 2.0]), "int32", [1, 2]),
        (np.array([-8, 7]), "int4", [-8, 7]),
        (np.array([1, 0]), "bool", [True, False]),
        (np.array([True]), "int8", [1]),
        (1.5, "complex64", 1.5 + 0j),
        (np.array([1.5], BFLOAT16), "float32", [1.5]),
        (np.array([-128, 127]), "qint8", [-128, 127]),
        (np.array([-2, 1], ml_dtypes.int4), "int8", [-2, 1]),
    ],
)
def test_a_dtype_that_is_asked_for_is_given(value, dtype, stored):
    array, kind = variable(value, dtype)
    assert kind == dtype
    assert array.tolist() == stored


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "int32"),
        (np.array([1, 2.5]), "int64"),
        (np.nan, "int32"),
        (np.array([300]), "uint8"),
        (np.array([-1]), "uint64"),
        (np.array([2**63], np.uint64), "int64"),
        (np.array([8]), "int4"),
        (np.array([-1], ml_dtypes.int4), "uint4"),
        (np.array([0.5], BFLOAT16), "int4"),
        (2, "bool"),
        (1 + 2j, "float32"),
        ("1.5", "float32"),
        (None, "float32"),
        (np.array(["2026-01-01"], "datetime64[D]"), "float32"),
    ],
)
def test_a_value_that_a_dtype_would_change_is_refused(value, dtype):
    with pytest.raises(ModelError, match=r"^v: its value"):
        variable(value, dtype)


@pytest.mark.filterwarnings("error")
def test_nothing_warns_of_what_is_rounded_or_refused():
    variable(np.array([1e300]), "float16")
    for value in (np.inf, np.nan, 1j):
        with pytest.raises(ModelError):
            variable(value, "int32")


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">c16", ">u2"])
def test_a_big_endian_array_keeps_its_values(dtype):
    array, kind = variable(np.array([1, 2, 3], dtype))
    assert kind == np.dtype(dtype).name
    assert array.tolist() == [1, 2, 3]
    assert array.tobytes() == np.array([1, 2, 3], dtype.replace(">", "<")).tobytes()


def test_a_fortran_array_keeps_its_rows():
    array = frozen(variable(np.asfortranarray([[1.0, 2.0], [3.0, 4.0]], np.float32))[0])
    assert bytes(as_bytes(array)) == np.array([[1, 2], [3, 4]], "<f4").tobytes()


def test_a_quantized_array_as_tensorflow_shows_it_is_taken_by_its_width():
    shown = np.array([(-3,), (5,)], [("qint8", np.int8)])
    array, kind = variable(shown)
    assert (kind, array.dtype, array.tolist()) == ("qint8", np.int8, [-3, 5])
    assert variable(shown, "qint8")[0].tolist() == [-3, 5]
    assert variable(shown, "int32")[0].tolist() == [-3, 5]
    with pytest.raises(ModelError):
        variable(shown, "uint8")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("grüße", "grüße".encode()),
        (b"\xff\0", b"\xff\0"),
        (["a\0\0", ""], [b"a\0\0", b""]),
        (np.array(b"\xff\0", object), b"\xff\0"),
        (["a", "bc"], [b"a", b"bc"]),
        (np.array([b"a", b"bc"]), [b"a", b"bc"]),
        (np.array([["a"], ["ü"]]), [[b"a"], ["ü".encode()]]),
        (np.array(["a", b"b"], object), [b"a", b"b"]),
        (np.array([], str), []),
        (np.array(["x", "y"], np.dtypes.StringDType()), [b"x", b"y"]),
    ],
)
def test_strings_are_bytes(value, stored):
    array, kind = variable(value)
    assert (kind, array.tolist()) == ("string", stored)
    assert variable(value, "string")[0].tolist() == stored


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": 1},
        {1.0},
        object(),
        [None, "a"],
        ["a", 1],
        np.array([1.5, "a"], object),
        "\ud800",
        [[1], [1, 2]],
        np.ma.masked_array([1.0, 2.0], [True, False]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.array([(1, 2)], [("a", "i4"), ("b", "i4")]),
        np.array([1], np.longdouble),
    ],
)
def test_what_is_no_array_of_numbers_or_text_is_refused(value):
    with pytest.raises(DtypeError):
        variable(value)


@pytest.mark.parametrize("value", [1.5, [1, 2], np.array([True]), None])
def test_what_is_no_text_is_no_string(value):
    with pytest.raises(DtypeError, match="element 0 of 'v' is neither bytes nor text"):
        variable(value, "string")


def test_a_mask_is_refused_whatever_is_asked_for():
    with pytest.raises(DtypeError, match=r"filled\(...\)"):
        variable(np.ma.masked_array([1.0], [False]), "float32")


class only_array:
    """Nothing but `__array__`."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        assert dtype is None
        assert not copy
        return self.array


class only_dlpack:
    """Nothing but `__dlpack__`."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [only_array, only_dlpack])
def test_an_object_that_is_an_array_is_taken_as_one(kind):
    array, dtype = variable(kind(np.array([[1.5, 2.5]])))
    assert (array.tolist(), dtype) == ([[1.5, 2.5]], "float64")
    assert variable(kind(np.array([1.0])), "int8")[0].tolist() == [1]


@pytest.fixture
def torch():
    """PyTorch, if it is installed."""
    return pytest.importorskip("torch", reason="PyTorch is not installed here")


@pytest.mark.parametrize(
    "name",
    [
        *["float32", "float64", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"],
        *["float8_e4m3fnuz", "float8_e5m2fnuz", "int8", "int16", "int32", "int64"],
        *["uint8", "uint16", "uint32", "uint64"],
    ],
)
def test_a_torch_tensor_of_any_dtype_keeps_its_bits(torch, name):
    tensor = torch.tensor([[0.5, 1.0], [2.0, 3.0]]).to(getattr(torch, name))
    array, dtype = variable(tensor)
    assert (dtype, array.shape) == (name, (2, 2))
    expected = np.array(tensor.to(torch.float64).tolist())
    np.testing.assert_array_equal(array.astype(np.float64), expected)


def test_a_torch_tensor_may_have_a_gradient_any_strides_and_no_axes(torch):
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    assert variable(tensor)[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert variable(tensor.T)[0].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert variable(tensor[:, ::2].to(torch.bfloat16))[0].tolist() == [[0, 2], [3, 5]]
    assert variable(torch.tensor(1.5, dtype=torch.bfloat16))[0].shape == ()
    assert variable(torch.nn.Parameter(tensor))[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert variable(torch.tensor([1 + 2j]).conj())[0].tolist() == [1 - 2j]
    assert variable(torch.tensor([True]))[1] == "bool"


def test_a_torch_tensor_that_is_no_array_is_refused(torch):
    with pytest.raises(DtypeError, match=r"^dtype torch\.float32: this tensor is no array"):
        variable(torch.eye(2).to_sparse())


def test_a_later_step_of_torch_does_not_change_a_frozen_array(torch):
    for dtype in (torch.float32, torch.bfloat16):
        weights = torch.ones(3, dtype=dtype)
        array = frozen(variable(weights)[0])
        weights += 1
        assert array.tolist() == [1, 1, 1]


def read_only(array):
    array.flags.writeable = False
    return array


def test_a_frozen_array_is_read_only_and_in_row_major_order():
    for array in (
        np.ones((2, 3)),
        np.ones((3, 2)).T,
        np.ones((4, 6))[::2, ::2],
        np.ones(()),
        read_only(np.asfortranarray(np.ones((2, 3)))),
    ):
        copy = frozen(array)
        assert not copy.flags.writeable
        assert copy.flags.c_contiguous
        assert copy.shape == array.shape


def test_an_array_that_is_read_only_already_is_kept():
    array = read_only(np.ones((2, 3)))
    assert frozen(array) is array
    assert frozen(frozen(np.ones(3))).base is None


def test_a_read_only_view_of_what_others_may_write_is_copied():
    base = np.ones(4)
    array = frozen(read_only(base[:2]))
    base[:] = 2
    assert array.tolist() == [1, 1]


def test_a_writable_array_is_copied():
    base = np.ones(2)
    array = frozen(base)
    base[:] = 2
    assert array.tolist() == [1, 1]


def test_a_converted_array_is_not_copied_once_more():
    array, _ = variable(np.ones(3), "float32")
    assert frozen(array) is array


def test_a_frozen_array_outlives_what_it_was_made_of():
    array = frozen(variable(only_dlpack(np.arange(1000.0)))[0])
    gc.collect()
    assert array.tolist() == list(range(1000))


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.is_string])
def test_the_bytes_of_an_array_are_its_memory(dtype, shape):
    array = frozen(np.ones(shape, dtype.numpy))
    memory = as_bytes(array)
    assert bytes(memory) == array.tobytes()
    assert memory.nbytes == np.prod(shape, dtype=int) * dtype.itemsize
    assert memory.readonly
    if array.size:
        assert np.shares_memory(np.frombuffer(memory, np.uint8), array)


def test_numpy_arrays_are_taken_without_a_copy():
    array = np.ones(3)
    assert as_numpy(array) is array
