"""What was wrong once: each test is named for what TensorFlow, or a graph, did to such code.

Here numpy, the graph and TensorFlow agree, or what is refused says why. What TensorFlow's
optimiser did to functions that it loads is in the catalogue.
"""

import re

import ml_dtypes
import numpy as np
import pytest

from dsave import TensorSpec, TraceError, function, ops

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


def some(*shape, dtype="float32"):
    return np.arange(3, 3 + np.prod(shape)).reshape(shape).astype(dtype)


SQUARE, CUBE = TensorSpec([None, None]), TensorSpec([None, None, None])
PLACES = np.array([0, 1, 1]), np.array([2, -1, 0])

# What failed in TensorFlow, or was refused, where numpy computes it.
FAILED = {
    "a triangle beyond the matrix": (
        lambda x: [f(x, k) for f in (np.tril, np.triu) for k in (-9, -1, 0, 1, 9)],
        [SQUARE],
        [[some(2, 3)], [some(0, 3)], [some(5, 2)]],
    ),
    "a mask of what comes later": (
        lambda x: [
            np.tril(np.ones(x.shape, bool, like=x), x.shape[1] - x.shape[0]),
            np.triu(np.ones((x.shape[1],) * 2, like=x), 1),
        ],
        [SQUARE],
        [[some(2, 5)], [some(1, 3)]],
    ),
    "triangles of a vector": (
        lambda x: [np.tril(x), np.triu(x, 1)],
        [TensorSpec([None])],
        [[some(3)]],
    ),
    "a range that runs away from its end": (
        lambda x: [
            np.arange(3, x.shape[0], like=x),
            np.arange(x.shape[0] - 4, like=x),
            np.arange(x.shape[0], 4, -1, like=x),
            np.arange(x.shape[0] * 1.5, 2, like=x),
            np.arange(x.shape[0], 3, x.shape[1] - 3, like=x),
            np.arange(3, 1, like=x),
        ],
        [SQUARE],
        [[some(2, 2)], [some(5, 2)], [some(2, 4)]],
    ),
    "elements of no rows by two arrays": (
        lambda x, i, j: [x[:, i, j], x[:, PLACES[0], PLACES[1]], x[:, i][:, :, j]],
        [CUBE, TensorSpec([None], "int64"), TensorSpec([None], "int32")],
        [[some(n, 4, 5), PLACES[0], PLACES[1].astype("int32")] for n in (0, 2)],
    ),
    "elements of columns that there are not": (
        lambda x: x[[0, -1], :, [1, 2]],
        [TensorSpec([3, 0, 4])],
        [[some(3, 0, 4)]],
    ),
    "repeated uint16": (
        lambda x: [np.repeat(x, 2), np.tile(x, (2, 1)), np.repeat(x, x.shape[0], 1)],
        [TensorSpec([None, 2], "uint16")],
        [[some(2, 2, dtype="uint16")]],
    ),
    "a product of Kronecker of three axes": (
        lambda x, y: [np.kron(x, y), np.kron(y, x), np.kron(x[0], y)],
        [TensorSpec([None, 2, 3]), TensorSpec([2, None, 2])],
        [[some(2, 2, 3), some(2, 3, 2)], [some(1, 2, 3), some(2, 0, 2)]],
    ),
    "places of a scalar": (
        lambda x: np.argwhere(x.sum() > 10),
        [SQUARE],
        [[some(1, 2)], [some(2, 2)]],
    ),
    "diagonals beyond the matrix": (
        lambda x: [np.diagonal(x, 2), np.diagonal(x, -2), np.trace(x, 3)],
        [SQUARE],
        [[some(2, 2)], [some(4, 5)], [some(0, 2)]],
    ),
    "diagonals beyond a matrix that is known": (
        lambda x: [np.diagonal(x, 2), np.diagonal(x, -7)],
        [TensorSpec([2, 2])],
        [[some(2, 2)]],
    ),
    "a median of nothing": (
        lambda x: [np.median(x, 1), np.median(x, (0, 1), keepdims=True)],
        [SQUARE],
        [[some(2, 0)], [some(0, 3)], [some(3, 4)], [some(1, 3) * np.float32(6e37)]],
    ),
    "a condition alone": (
        lambda x: [np.where(x > 4), np.where(x[0] > 3)[0]],
        [SQUARE],
        [[some(2, 2)], [some(1, 0)]],
    ),
    "other names of functions": (
        lambda x: [np.amax(x), np.amin(x, 1), np.around(x / 7, 1)],
        [SQUARE],
        [[some(2, 2)]],
    ),
    "places of integers among bfloat16": (
        lambda x, i: [
            np.searchsorted(x, i),
            np.searchsorted(i, x, "right"),
            np.digitize(i, np.array([4.5, 5.5], ml_dtypes.bfloat16)),
        ],
        [TensorSpec([None], "bfloat16"), TensorSpec([None], "int64")],
        [[some(3, dtype=ml_dtypes.bfloat16), np.array([3, 4, 9])]],
    ),
    "the largest of no rows, from a start": (
        lambda x: [np.max(x, 0, initial=-np.inf), np.min(x, 0, initial=9)],
        [SQUARE],
        [[some(0, 2)], [some(2, 2)]],
    ),
    "softmax of nothing": (
        lambda x: [ops.softmax(x), ops.log_softmax(x)],
        [SQUARE],
        [[np.zeros((0, 3), np.float32)], [some(2, 2)]],
    ),
    "a convolution of no images by channel": (
        lambda x: ops.depthwise_conv2d(x, some(3, 2, 3, 2)),
        [TensorSpec([None, 6, 7, 3])],
        [[some(0, 6, 7, 3)]],
    ),
    "a scalar with nothing around it": (lambda x: np.pad(x.sum(), 2), [SQUARE], [[some(2, 2)]]),
    "a product of small integers": (
        lambda x, y: [np.vdot(x, x), np.vdot(x > 0, x > 5), np.vdot(x, y)],
        [TensorSpec([None], "int8"), TensorSpec([None], "complex64")],
        [[np.array([100, -7, 3], "int8"), np.array([1j, 2, 3 - 1j], "complex64")]],
    ),
    "bounds of bfloat16": (
        lambda x: [
            np.clip(x, 0, 4),
            np.clip(x, 0, None),
            np.clip(x, None, 4),
            np.clip(x.astype("int8"), 4, x),
        ],
        [TensorSpec([None], "bfloat16")],
        [[some(3, dtype=ml_dtypes.bfloat16)]],
    ),
    "a rounded truth": (
        np.round,
        [TensorSpec([None], "bool")],
        [[np.array([True, False])]],
    ),
    "a shape with 0": (
        lambda x: [
            x.reshape(x.shape[0], 0),
            x.reshape(x.shape[0], 2, 0),
            x.reshape(len(x.T), 7),
        ],
        [TensorSpec([None, 0])],
        [[some(3, 0)]],
    ),
}


@pytest.mark.tf
@pytest.mark.filterwarnings("ignore:(Mean of empty|invalid value):RuntimeWarning")
@pytest.mark.parametrize("name", FAILED)
def test_this_failed(agree, name):
    code, specs, tried = FAILED[name]
    for arrays in tried:
        agree(code, specs, *arrays, within=1e-6)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("op", "argument", "inputs", "attrs"),
    [
        ("Reshape", "shape", (np.zeros((0, 3, 4)), [0, -1]), {}),
        ("Reshape", "shape", (np.zeros((0, 0)), [0, -1]), {}),
        ("Reshape", "shape", (np.zeros((0, 3)), [0, 2, -1]), {}),
        ("Reshape", "shape", (np.zeros((4, 0)), [-1, 0]), {}),
        ("Max", "axis", (np.zeros((0, 3), "float32"), [0]), {}),
        ("Min", "axis", (np.zeros((0, 3), "int8"), [0]), {}),
        ("Mean", "axis", (np.zeros((0, 3), "float32"), [0]), {}),
        ("Mean", "axis", (np.array([[-7, 100], [4, 100]], "int8"), [0]), {}),
        ("Softmax", None, (np.zeros((2, 0)),), {}),
        ("LogSoftmax", None, (np.zeros((2, 0)),), {}),
        ("PadV2", "paddings", (np.zeros(()), np.zeros((0, 2))), {"constant_values": 0.0}),
    ],
)
def test_numpy_refused_what_tensorflow_does_with_nothing(tf, op, argument, inputs, attrs):
    x, *others = inputs
    first = {"Reshape": "tensor", "Softmax": "logits", "LogSoftmax": "logits"}.get(op, "input")
    more = [np.array(other, np.int32) for other in others]
    names = dict(zip([argument], more, strict=False))
    wanted = getattr(tf.raw_ops, op)(**{first: x}, **names, **attrs).numpy()
    found = ops.call(op, [x, *more, *attrs.values()])
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(found, wanted)


class Unknown:
    """What no graph gives."""


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda _: Unknown(), r"a result of .*lambda.*a Unknown is no tensor"),
        (lambda x: {"a": [{1, 2}, x]}, r"a result of .*lambda.*a set is no tensor"),
        (lambda x: {"a": x, 1: x}, r"a dict, a result of .*lambda.*of one type.*int, str"),
    ],
)
def test_an_error_of_a_result_did_not_say_that_it_is_one(result, message):
    with pytest.raises(TraceError, match=message):
        function(result).get_concrete_function(OPEN)


def multiplies_a_shape(x):
    return np.prod(x.shape)


def pads_it_away(x):
    return ops.conv2d_transpose(x[None, ..., None], np.ones((2, 2, 1, 1)), padding=[(3, 3)] * 2)


def averages_in_integers(x):
    return np.mean(x, dtype=int)


def varies_in_integers(x):
    return np.nanstd(x.astype(int), dtype=int)


def rounds_truths_to_tens(x):
    return np.round(x > 0, -1)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (multiplies_a_shape, r"unknown extent.*math\.prod multiplies extents"),
        (pads_it_away, r"conv2d_transpose.*padding of \[3, 3\] leaves nothing of axis 1"),
        (averages_in_integers, r"numpy\.mean.*not in int64; astype"),
        (varies_in_integers, r"numpy\.var.*not in int64; astype"),
        (rounds_truths_to_tens, r"numpy\.round.*0 decimals"),
    ],
)
def test_the_error_said_nothing_of_a_way_out(refused, code, message):
    spec = TensorSpec([2, 2]) if code is pads_it_away else OPEN
    assert re.search(message, refused(code, spec))
