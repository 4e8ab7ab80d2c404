"""Where TensorFlow's ops are not numpy's functions, the graph makes up for it.

- means of half floats are added up in float32
"""

import ml_dtypes
import numpy as np
import pytest

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
    import dsave

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
