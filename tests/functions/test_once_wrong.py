"""What was wrong once: each test is named for what TensorFlow, or a graph, did to such code.

Here numpy, the graph and TensorFlow agree, or what is refused says why. What TensorFlow's
optimiser did to functions that it loads is in the catalogue.
"""

import re

import ml_dtypes
import numpy as np
import pytest

from dsave import TensorSpec, ops

OPEN = TensorSpec([None, 2], name="x")


def repeats_a_list(x):
    return np.stack([x[0]] * x.shape[0])


def repeats_a_tuple(x):
    return np.tile(x, x.shape[0] * (1,))


def repeats_a_shape(x):
    return np.zeros_like(x, shape=[2] * x.shape[0])


def repeats_text(x):
    return "ab" * x.shape[0]


@pytest.mark.parametrize(
    "code", [repeats_a_list, repeats_a_tuple, repeats_a_shape, repeats_text]
)
def test_a_sequence_times_an_extent_was_multiplied(refused, code):
    wanted = r"sequence repeated an unknown number of times.*numpy\.repeat.*broadcast_to"
    assert re.search(wanted, refused(code, OPEN))


def adds_a_list(x):
    return [1] + x.shape[0]


def test_a_sequence_and_an_extent_were_added(refused):
    assert re.search("a sequence and an extent", refused(adds_a_list, OPEN))


def test_an_extent_was_compared_with_the_elements_of_a_sequence(look):
    def code(x):
        assert (x.shape[0] == [1], x.shape[0] != "a", x.shape[0] == (3, 2)) == (0, 1, 0)
        return x

    look.graph(code, OPEN)


def volume(*extents):
    count = int(np.prod(extents))
    return np.arange(10, 10 + count, dtype=np.float32).reshape(1, *extents, 1)


STEPS = [(1, 3), ((1, 2, 1), (3, 4, 2)), (2, 3), (3, 2)]
SPECS = {
    "known": lambda x: TensorSpec(x.shape),
    "unknown": lambda _: TensorSpec([None] * 4 + [1]),
}


@pytest.mark.tf
@pytest.mark.parametrize("shape", SPECS)
@pytest.mark.parametrize(("size", "strides"), STEPS)
@pytest.mark.parametrize("extent", [7, 8, 9])
def test_windows_that_leave_out_elements_of_volumes_were_placed_elsewhere(
    agree, extent, size, strides, shape
):
    filters = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1, 1)
    x = volume(extent, extent, 2)
    agree(
        lambda x: [
            ops.max_pool3d(x, size, strides=strides, padding="SAME"),
            ops.avg_pool3d(x, size, strides=strides, padding="SAME"),
            ops.conv3d(x, filters[: 1 if size == 1 else 2], strides=strides),
        ],
        [SPECS[shape](x)],
        x,
        within=1e-6,
    )


def test_volumes_have_the_windows_of_images():
    x = volume(9, 1, 1)
    pooled = ops.max_pool3d(x, 1, strides=(3, 1, 1), padding="SAME")
    assert pooled.ravel().tolist() == [10, 13, 16]


@pytest.mark.tf
@pytest.mark.parametrize(("size", "strides"), [((1, 1, 1), (3, 4, 5)), ((2, 3, 1), (5, 4, 3))])
@pytest.mark.parametrize("extent", range(5, 11))
def test_volumes_in_models_of_tensorflow_had_the_windows_of_images(tf, extent, size, strides):
    x = volume(extent, extent, extent)
    filters = np.arange(np.prod(size), dtype=np.float32).reshape(*size, 1, 1)
    how = {"strides": [1, *strides, 1], "padding": "SAME"}
    pool = {"ksize": [1, *size, 1], **how}
    for op, inputs, attrs in (
        ("MaxPool3D", [x], pool),
        ("AvgPool3D", [x], pool),
        ("Conv3D", [x, filters], how),
    ):
        wanted = getattr(tf.raw_ops, op)(**dict(zip(_names(op), inputs, strict=True)), **attrs)
        np.testing.assert_allclose(ops.call(op, inputs, attrs), wanted.numpy(), 1e-6)


def _names(op):
    return ["input", "filter"] if op == "Conv3D" else ["input"]


@pytest.mark.tf
def test_means_of_many_bfloat16_were_added_up_in_bfloat16(agree):
    x = np.full((1, 8, 8, 8, 1), 3.3, ml_dtypes.bfloat16)
    found = agree(
        lambda x: [ops.avg_pool3d(x, 8), ops.avg_pool2d(x[:, 0], 8)],
        [TensorSpec(x.shape, x.dtype)],
        x,
    )
    assert [each.item() for each in found] == [x[0, 0, 0, 0, 0]] * 2


def varies_without_imaginary_parts(x):
    return np.var(x.astype("complex64"), dtype="float32")


def test_a_variance_of_complex_numbers_in_a_real_dtype_lost_their_imaginary_part(refused):
    assert re.search(r"numpy\.var.*numpy\.real", refused(varies_without_imaginary_parts, OPEN))
