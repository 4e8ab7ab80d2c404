"""The functions of `dsave.ops` compute what TensorFlow's functions of their names compute.

Here they run on arrays; that traced they compute the same is the catalogue's to show.
"""

import numpy as np
import pytest

from dsave import ops

RNG = np.random.default_rng(7)
X = RNG.normal(size=(2, 3, 4), scale=3).astype("float32")

IMAGES = RNG.normal(size=(2, 6, 7, 4)).astype("float32")
FILTERS = RNG.normal(size=(3, 2, 4, 6)).astype("float32")

FUNCTIONS = {
    "elu": (ops.elu, lambda tf: tf.nn.elu(X)),
    "gelu": (ops.gelu, lambda tf: tf.nn.gelu(X)),
    "gelu by tanh": (
        lambda x: ops.gelu(x, approximate=True),
        lambda tf: tf.nn.gelu(X, approximate=True),
    ),
    "leaky_relu": (ops.leaky_relu, lambda tf: tf.nn.leaky_relu(X)),
    "leaky_relu of 0.1": (
        lambda x: ops.leaky_relu(x, 0.1),
        lambda tf: tf.nn.leaky_relu(X, 0.1),
    ),
    "log_softmax": (ops.log_softmax, lambda tf: tf.nn.log_softmax(X)),
    "logsumexp": (
        lambda x: ops.logsumexp(x * 99, (0, -1)),
        lambda tf: tf.reduce_logsumexp(X * 99, (0, -1)),
    ),
    "relu": (ops.relu, lambda tf: tf.nn.relu(X)),
    "sigmoid": (ops.sigmoid, lambda tf: tf.nn.sigmoid(X)),
    "silu": (ops.silu, lambda tf: tf.nn.silu(X)),
    "softmax": (lambda x: ops.softmax(x, 1), lambda tf: tf.nn.softmax(X, 1)),
    "softplus": (ops.softplus, lambda tf: tf.nn.softplus(X)),
    "layer_norm": (
        lambda x: ops.layer_norm(x, x[0, 0], x[1, 1]),
        lambda tf: tf.nn.batch_normalization(
            X, *tf.nn.moments(tf.constant(X), -1, keepdims=True), X[1, 1], X[0, 0], 1e-5
        ),
    ),
    "top_k": (lambda x: ops.top_k(x, 2)[0], lambda tf: tf.math.top_k(X, 2)[0]),
    "conv1d": (
        lambda x: ops.conv1d(x, FILTERS[0], strides=2),
        lambda tf: tf.nn.conv1d(X, FILTERS[0], 2, "SAME"),
    ),
    "conv2d": (
        lambda _: ops.conv2d(IMAGES, FILTERS, padding="VALID", dilations=2),
        lambda tf: tf.nn.conv2d(IMAGES, FILTERS, 1, "VALID", dilations=2),
    ),
    "conv2d in groups": (
        lambda _: ops.conv2d(IMAGES, FILTERS[:, :, :2], strides=(1, 2), groups=2),
        lambda tf: tf.concat(
            [
                tf.nn.conv2d(IMAGES[..., :2], FILTERS[:, :, :2, :3], (1, 2), "SAME"),
                tf.nn.conv2d(IMAGES[..., 2:], FILTERS[:, :, :2, 3:], (1, 2), "SAME"),
            ],
            -1,
        ),
    ),
    "conv2d_transpose": (
        lambda _: ops.conv2d_transpose(IMAGES, FILTERS[..., :4], strides=2),
        lambda tf: tf.nn.conv2d_transpose(IMAGES, FILTERS[..., :4], (2, 12, 14, 4), 2),
    ),
    "conv3d": (
        lambda _: ops.conv3d(IMAGES[:, :, :, None], FILTERS[:, :, None]),
        lambda tf: tf.nn.conv3d(IMAGES[:, :, :, None], FILTERS[:, :, None], [1] * 5, "SAME"),
    ),
    "depthwise_conv2d": (
        lambda _: ops.depthwise_conv2d(IMAGES, FILTERS, dilations=2),
        lambda tf: tf.nn.depthwise_conv2d(IMAGES, FILTERS, [1] * 4, "SAME", dilations=(2, 2)),
    ),
    "max_pool1d": (
        lambda x: ops.max_pool1d(x, 2, strides=1, padding="SAME"),
        lambda tf: tf.nn.max_pool1d(X, 2, 1, "SAME"),
    ),
    "avg_pool3d": (
        lambda _: ops.avg_pool3d(IMAGES[..., None], 2, strides=1, padding="SAME"),
        lambda tf: tf.nn.avg_pool3d(IMAGES[..., None], 2, 1, "SAME"),
    ),
    "resize": (
        lambda _: ops.resize(IMAGES, (4, 11)),
        lambda tf: tf.image.resize(IMAGES, (4, 11)),
    ),
    "resize to the nearest": (
        lambda _: ops.resize(IMAGES, (4, 11), "nearest"),
        lambda tf: tf.image.resize(IMAGES, (4, 11), "nearest"),
    ),
}


@pytest.mark.tf
@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_compute_what_tensorflow_computes(tf, name):
    ours, theirs = FUNCTIONS[name]
    np.testing.assert_allclose(ours(X), theirs(tf).numpy(), 1e-5, 1e-5)


def test_nothing_overflows_or_warns():
    far = np.array([-1e4, 0, 1e4], "float32")
    with np.errstate(all="raise"):
        assert ops.silu(far).tolist() == [0, 0, 1e4]
        assert ops.elu(far).tolist() == [-1, 0, 1e4]
        assert ops.gelu(far).tolist() == [0, 0, 1e4]
        assert ops.sigmoid(far).tolist() == [0, 0.5, 1]
        assert ops.logsumexp(far) == 1e4
        assert ops.logsumexp(np.array([-np.inf, -np.inf])) == -np.inf
        assert ops.logsumexp(np.array([np.inf, 0])) == np.inf
