"""Ops of neural networks."""

import numpy as np

from catalogue.case import FLOAT, REAL, A, B, Case, index
from dsave import ops

CASES = {
    "softmax": Case(lambda x: [ops.softmax(x), ops.softmax(x, 0)], [*FLOAT, "int32"], [B]),
    "log_softmax": Case(lambda x: ops.log_softmax(x, axis=1), FLOAT, [B]),
    "relu": Case(ops.relu, REAL, [A]),
    "sigmoid": Case(lambda x: [ops.sigmoid(x), ops.softplus(x)], FLOAT, [A]),
    "erf": Case(ops.erf, FLOAT, [A]),
    "gelu": Case(lambda x: [ops.gelu(x), ops.gelu(x, approximate=True)], FLOAT, [A]),
    "one_hot": Case(
        lambda x: [ops.one_hot(x, 4), ops.one_hot(x, 3, axis=0, dtype="int32", on_value=5)],
        ["uint8", "int8", "int16", "int32", "int64"],
        [A],
        index,
    ),
    "activations": Case(
        lambda x: [
            ops.silu(x),
            ops.leaky_relu(x),
            ops.leaky_relu(x, 0.01),
            ops.elu(x),
            ops.elu(x, alpha=0.5),
        ],
        [*FLOAT, "int32"],
        [A],
    ),
    "logsumexp": Case(
        lambda x: [
            ops.logsumexp(x),
            ops.logsumexp(x, -1),
            ops.logsumexp(x, (0, 2), keepdims=True),
            ops.logsumexp(np.log(np.maximum(x, 0)), 1),
        ],
        [*FLOAT, "int32"],
        [B],
    ),
    "layer_norm": Case(
        lambda x, y: [
            ops.layer_norm(x),
            ops.layer_norm(x, y, 2 * y, axis=(1, 2)),
            ops.layer_norm(x, scale=y[0], epsilon=0.1),
        ],
        FLOAT,
        [B, (3, 4)],
    ),
}
