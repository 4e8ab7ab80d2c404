"""Ops of images, sequences and volumes."""

import numpy as np

from catalogue.case import FLOAT, KNOWN, OPEN, SIGNED, Case, F, M, positive
from dsave import ops

HALF_OR_WHOLE = ["bfloat16", "float32"]

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
    "conv2d in groups": Case(
        lambda x, f: [
            ops.conv2d(x, f, groups=2),
            ops.conv2d(x, f, strides=(1, 2), groups=2, padding="VALID"),
            ops.conv2d(x, f, dilations=2, groups=2),
        ],
        FLOAT,
        [(2, 6, 7, 4), (3, 2, 2, 6)],
    ),
    "conv1d": Case(
        lambda x, f: [
            ops.conv1d(x, f),
            ops.conv1d(x, f, strides=2, padding="VALID"),
            ops.conv1d(x, f, padding=(2, 0), dilations=2),
            ops.conv1d(x[..., :2], f[:, :1], groups=2),
        ],
        FLOAT,
        [(2, 7, 3), (3, 3, 4)],
    ),
    "conv3d": Case(
        lambda x, f: [
            ops.conv3d(x, f),
            ops.conv3d(x, f, strides=(1, 2, 1), padding="VALID"),
            ops.conv3d(x, f, padding=((0, 1), (1, 1), (2, 0))),
        ],
        FLOAT,
        [(2, 4, 5, 3, 2), (3, 1, 2, 2, 3)],
    ),
    "depthwise_conv2d": Case(
        lambda x, f: [
            ops.depthwise_conv2d(x, f),
            ops.depthwise_conv2d(x, f, strides=2, padding="VALID"),
            ops.depthwise_conv2d(x, f, padding=((1, 2), (0, 1))),
            ops.depthwise_conv2d(x, f[..., :1]),
        ],
        FLOAT,
        [(2, 6, 7, 3), (3, 2, 3, 2)],
    ),
    "depthwise_conv2d by groups": Case(
        lambda x: [
            ops.depthwise_conv2d(x, np.ones((3, 2, 3, 2), x.dtype), strides=(1, 2)),
            ops.depthwise_conv2d(x, np.ones((3, 2, 3, 1), x.dtype), dilations=2),
        ],
        F,
        [(2, 6, 7, 3)],
    ),
    "conv2d_transpose": Case(
        lambda x, f: [
            ops.conv2d_transpose(x, f),
            ops.conv2d_transpose(x, f, strides=2),
            ops.conv2d_transpose(x, f, strides=(2, 3), padding="VALID"),
            ops.conv2d_transpose(x, f, strides=2, size=(7, 10)),
            ops.conv2d_transpose(x, f, strides=2, padding=((1, 0), (0, 1))),
        ],
        FLOAT,
        [(2, 4, 5, 3), (3, 2, 4, 3)],
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
    "pool1d": Case(
        lambda x: [
            ops.max_pool1d(x, 2),
            ops.max_pool1d(x, 3, strides=2, padding="SAME"),
            ops.avg_pool1d(x, 2, strides=1),
            ops.avg_pool1d(x, 3, padding="SAME"),
        ],
        FLOAT,
        [(2, 7, 3)],
    ),
    "pool3d": Case(
        lambda x: [
            ops.max_pool3d(x, 2),
            ops.max_pool3d(x, (1, 3, 2), strides=(1, 2, 1), padding="SAME"),
            ops.avg_pool3d(x, 2),
            ops.avg_pool3d(x, 3, strides=2, padding="SAME"),
        ],
        HALF_OR_WHOLE,
        [(2, 4, 5, 3, 2)],
    ),
    "resize": Case(
        lambda x: [
            ops.resize(x, (3, 9)),
            ops.resize(x, (4, 2)),
            ops.resize(x, (5, 9), "nearest"),
            ops.resize(x, [12, 3], method="nearest"),
        ],
        [*FLOAT, *SIGNED, "uint8", "uint16"],
        [(2, 5, 6, 3)],
    ),
    "resize to another's size": Case(
        lambda x, y: ops.resize(x, ops.shape(y)[1:3], "nearest"),
        F,
        [(2, 5, 6, 3), (2, 3, 8, 1)],
    ),
    "Conv3DBackpropInputV2": Case(
        lambda f, x: ops.call(
            "Conv3DBackpropInputV2",
            [np.array([2, 4, 5, 7, 3], np.int32), f, x],
            {"strides": [1, 2, 2, 2, 1], "padding": "SAME"},
        ),
        FLOAT,
        [(2, 3, 2, 3, 4), (2, 2, 3, 4, 4)],
        batches=(),
        how=(KNOWN, OPEN),
    ),
    "FusedBatchNormV3": Case(
        lambda x, scale: ops.call(
            "FusedBatchNormV3",
            [x, *(scale.astype("float32") + np.float32(n) for n in range(4))],
            {"is_training": False, "epsilon": 0.01},
        )[:3],
        ["float16", "bfloat16", "float32"],
        [(2, 3, 4, 3), (3,)],
        positive,
    ),
    "FusedBatchNormV3 in training": Case(
        lambda x, scale: [
            *ops.call("FusedBatchNormV3", [x, *[scale] * 4], {"epsilon": 0.01})[:3],
            *ops.call("FusedBatchNormV3", [x, *[scale] * 4], {"exponential_avg_factor": 0.25})[
                :3
            ],
        ],
        F,
        [(2, 3, 4, 3), (3,)],
        positive,
    ),
    "SpaceToDepth": Case(
        lambda x: ops.call("SpaceToDepth", [x], {"block_size": 2}), M, [(2, 4, 6, 3)]
    ),
    "DepthToSpace": Case(
        lambda x: ops.call("DepthToSpace", [x], {"block_size": 2}), M, [(2, 2, 3, 12)]
    ),
    "SpaceToBatchND": Case(
        lambda x: ops.call(
            "SpaceToBatchND",
            [x, np.array([2, 3], np.int32), np.array([[1, 0], [1, 1]], np.int32)],
        ),
        M,
        [(2, 3, 4, 2)],
    ),
    "BatchToSpaceND": Case(
        lambda x: ops.call(
            "BatchToSpaceND",
            [x, np.array([2, 3], np.int32), np.array([[1, 0], [1, 1]], np.int32)],
        ),
        M,
        [(12, 2, 2, 2)],
        batches=(6, 18),
    ),
    "resizes by name": Case(
        lambda x: [
            ops.call(f"Resize{method}", [x, np.array(size, np.int32)], {"align_corners": on})
            for method in ("NearestNeighbor", "Bilinear")
            for on in (True, False)
            for size in ((7, 3), (2, 9), (1, 1))
        ],
        F,
        [(2, 5, 6, 3)],
    ),
}
