"""Ops of neural networks."""

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
}
