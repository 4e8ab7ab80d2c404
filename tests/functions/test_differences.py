"""Where TensorFlow's ops are not numpy's functions, the graph makes up for it.

- means of half floats are added up in float32
- integers divided by 0 are 0; of floats a quotient is rounded down as numpy rounds it
- bits that are shifted out are gone, however far
- a complex number is true unless it is 0
- hypotenuses do not overflow
- integers are compared as numbers, whatever their dtypes can hold
- einsum stretches axes of 1, and refuses what numpy's refuses
"""

import re

import ml_dtypes
import numpy as np
import pytest

import dsave
from dsave import TensorSpec

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("count", [1000, 100_000])
def test_means_of_float16_are_added_up_in_float32(agree, count):
    numbers = (np.random.default_rng(0).random(count) * 2 + 0.5).astype(np.float16)
    rows = numbers.reshape(10, -1)
    agree(
        lambda x: [x.mean(), np.mean(x, 0), x.mean(1, keepdims=True)],
        [TensorSpec([10, None], "float16")],
        rows,
        within=1e-3,
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_moments_of_many_half_floats_are_right(run_in_tensorflow, dtype):
    half = np.dtype(getattr(ml_dtypes, dtype, dtype))
    numbers = (np.random.default_rng(0).random(100_000) * 2 + 0.5).astype(half)
    exact = numbers.astype(np.float64)
    wanted = [exact.mean(), exact.var(), exact.std(), exact.var(ddof=1)]
    function = dsave.function(
        lambda x: [x.mean(), x.var(), x.std(), np.var(x, ddof=1)],
        input_signature=[TensorSpec([None], dtype)],
    )
    traced = function.get_concrete_function()(numbers)
    for found in (traced, run_in_tensorflow(function, [numbers])):
        assert all(np.asarray(each).dtype == half for each in found)
        np.testing.assert_allclose(np.asarray(found, np.float64), wanted, rtol=5e-3)


def integers(dtype):
    below = [-1, -7, np.iinfo(dtype).min] if dtype.startswith("i") else []
    return np.array([0, 1, 2, 7, 9, np.iinfo(dtype).max, *below], dtype)


INTS = {dtype: integers(dtype) for dtype in ("int8", "int32", "int64", "uint8", "uint64")}
FLOATS = np.array(
    [np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 2.5, -2.5, 0.1, 3, 7, -7, 1e30, -1e30, 1e-30]
)


def floats(dtype):
    with np.errstate(over="ignore", under="ignore"):
        return FLOATS.astype(getattr(ml_dtypes, dtype, dtype))


def pairs(numbers):
    """(arrays of all pairs of these numbers, their specs)."""
    arrays = numbers[:, None], numbers[None, :]
    return arrays, [TensorSpec([None, None], numbers.dtype)] * 2


@pytest.mark.parametrize("dtype", INTS)
def test_integers_divided_by_0_are_0(agree, dtype):
    arrays, specs = pairs(INTS[dtype])
    agree(
        lambda x, y: [x // y, x % y, np.divmod(x, y), 7 // x, x // INTS[dtype]], specs, *arrays
    )


def test_a_divisor_that_is_known_and_not_0_takes_one_op(look):
    spec = TensorSpec([None], "int32")
    assert look.ops(lambda x: x // 2, spec) == ["Placeholder", "Const", "FloorDiv"]
    assert look.ops(lambda x: x << 2, spec) == ["Placeholder", "Const", "LeftShift"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_quotients_of_floats_are_rounded_down_as_numpy_does(agree, dtype):
    numbers = floats(dtype)
    arrays, specs = pairs(numbers)
    agree(lambda x, y: [x // y, x % y], specs, *arrays, within=1e-2 if "16" in dtype else 1e-6)


def test_quotients_by_a_known_float_are_too(agree):
    numbers = FLOATS.astype(np.float32)
    agree(lambda x: [x // 0.1, x // -2.5, x // np.inf, 1 // x], [TensorSpec([None])], numbers)


@pytest.mark.parametrize("dtype", INTS)
def test_bits_that_are_shifted_out_are_gone(agree, dtype):
    far = [0, 1, 6, 7, 8, 31, 32, 63, 64, 100, *([-1, -100] if dtype[0] == "i" else [])]
    by = np.array(far, dtype)
    specs = [TensorSpec([None, 1], dtype), TensorSpec([None], dtype)]
    agree(lambda x, y: [x << y, x >> y, x << 40, x >> by], specs, INTS[dtype][:, None], by)


def test_a_complex_number_is_true_unless_it_is_0(agree):
    numbers = np.array([0, 1j, -1j, 2, np.nan, complex(0, np.nan)], np.complex64)
    agree(
        lambda x: [
            x.astype(bool),
            np.where(x, 1, 2),
            np.logical_and(x, True),
            np.logical_not(x),
            np.any(x),
            np.all(x[1:]),
            np.count_nonzero(x),
        ],
        [TensorSpec([None], "complex64")],
        numbers,
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "float32", "float64"])
def test_hypotenuses_do_not_overflow(agree, dtype):
    numbers = INTS[dtype] if dtype in INTS else floats(dtype)
    arrays, specs = pairs(numbers)
    agree(np.hypot, specs, *arrays, within=1e-3 if dtype in {"int8", "uint8"} else 1e-6)


def test_hypotenuses_of_several_dtypes_have_the_dtype_of_numpys(agree):
    x, y = np.array([3, 100], "int16"), np.array([4, 3], "float16")
    agree(np.hypot, [TensorSpec([2], "int16"), TensorSpec([2], "float16")], x, y, within=1e-6)


def hypotenuse_of_complex(x):
    return np.hypot(x, 1)


def test_hypotenuses_of_complex_numbers_are_refused(refused):
    spec = TensorSpec([None], "complex64")
    assert re.search(r"numpy\.hypot", refused(hypotenuse_of_complex, spec))


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(3, 1), (4, 5)]),
        ("ij,jk->ik", [(3, 4), (1, 5)]),
        ("ij,ij->ij", [(3, 1), (1, 4)]),
        ("i,ij->ij", [(1,), (3, 4)]),
        ("ij,jk,kl->il", [(3, 1), (4, 1), (5, 2)]),
        ("ii,ij->j", [(1, 1), (3, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 1), (1, 4, 5)]),
        ("b...i,bi->...i", [(1, 3, 4), (2, 4)]),
        ("i,i", [(1,), (3,)]),
        ("ij,jk", [(1, 1), (1, 1)]),
    ],
)
@pytest.mark.parametrize("unknown", [False, True], ids=["known", "unknown"])
def test_einsum_stretches_axes_of_1(agree, subscripts, shapes, unknown):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in shapes]
    # Whether an axis is 1 must be known, what it is stretched to need not be.
    specs = [
        TensorSpec([None if unknown and n != 1 else n for n in shape], "float64")
        for shape in shapes
    ]
    agree(lambda *given: np.einsum(subscripts, *given), specs, *arrays, within=1e-12)


MATRIX = TensorSpec([3, 4])


@pytest.mark.parametrize(
    "subscripts", ["ij->ii", "ij->k", "ij->jk", "i->i", "ijk->i", "i$->i", "ij,jk->ik", "ii->i"]
)
def test_einsum_refuses_what_numpys_refuses(subscripts):
    with pytest.raises(ValueError):  # noqa: PT011 - numpy has many
        np.einsum(subscripts, np.ones((3, 4)))
    with pytest.raises(dsave.TraceError, match=r"^numpy\.einsum, at .*test_differences"):
        dsave.function(lambda x: np.einsum(subscripts, x)).get_concrete_function(MATRIX)


def test_extents_of_one_label_that_differ_are_refused():
    with pytest.raises(dsave.TraceError, match="'j' is of 4 and of 3"):
        dsave.function(lambda x: np.einsum("ij,jk->ik", x, x)).get_concrete_function(MATRIX)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
def test_numbers_that_a_dtype_cannot_hold_are_compared(agree, dtype):
    agree(
        lambda x: [
            *(x == -1, x != -1, x < 256, x <= -129, x > 1 << 64, x >= -(1 << 64)),
            *(-1 == x, 300 != x, 300 < x, 300 >= x),  # noqa: SIM300
            np.where(x < 1 << 70, x, 0),
        ],
        [TensorSpec([None], dtype)],
        np.array([0, 1, np.iinfo(dtype).max], dtype),
    )


def test_uint64_and_int64_are_compared_as_they_are(agree):
    x = np.array([0, 1, 1 << 63, (1 << 64) - 1], "uint64")
    y = np.array([0, -1, (1 << 63) - 1, -(1 << 63)], "int64")
    specs = [TensorSpec([None, 1], "uint64"), TensorSpec([None], "int64")]
    agree(
        lambda x, y: [
            *(x == y, x != y, x < y, x <= y, x > y, x >= y),
            *(y == x, y != x, y < x, y <= x, y > x, y >= x),
        ],
        specs,
        x[:, None],
        y,
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_bounds_that_a_dtype_cannot_hold_are_none(agree, dtype):
    agree(
        lambda x: [
            *(np.clip(x, -200, 300), np.clip(x, 1, 300), x.clip(-200, 3)),
            *(np.clip(x, min=1), x.clip(max=3), np.clip(x, None, None)),
        ],
        [TensorSpec([None], dtype)],
        np.array([0, 1, 5, np.iinfo(dtype).max], dtype),
    )
