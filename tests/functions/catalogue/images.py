"""Ops of images."""

from catalogue.case import FLOAT, SIGNED, Case
from dsave import ops

CASES = {
    "conv2d": Case(
        lambda x, f: [
            ops.conv2d(x, f),
            ops.conv2d(x, f, strides=2),
            ops.conv2d(x, f, strides=(1, 2), padding="VALID"),
            ops.conv2d(x, f, padding=((1, 2), (0, 1))),
            ops.conv2d(x, f, dilations=(1, 2)),
        ],
        FLOAT,
        [(2, 6, 7, 3), (3, 2, 3, 4)],
    ),
    "max_pool2d": Case(
        lambda x: [ops.max_pool2d(x, 2), ops.max_pool2d(x, (3, 2), strides=2, padding="SAME")],
        FLOAT + SIGNED + ["uint8", "uint16"],
        [(2, 5, 6, 3)],
    ),
    "avg_pool2d": Case(
        lambda x: [ops.avg_pool2d(x, 2), ops.avg_pool2d(x, 3, strides=(1, 2), padding="SAME")],
        FLOAT,
        [(2, 5, 6, 3)],
    ),
}
