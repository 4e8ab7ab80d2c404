"""The functions of `dsave.ops` compute what TensorFlow's functions of their names compute.

Here they run on arrays; that traced they compute the same is the catalogue's to show.
"""

import numpy as np
import pytest

from dsave import ops

RNG = np.random.default_rng(7)
X = RNG.normal(size=(2, 3, 4), scale=3).astype("float32")

ACTIVATIONS = {
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
    "top_k": (
        lambda x: ops.top_k(x, 2)[0],
        lambda tf: tf.math.top_k(X, 2)[0],
    ),
}


@pytest.mark.tf
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_they_compute_what_tensorflow_computes(tf, name):
    ours, theirs = ACTIVATIONS[name]
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
