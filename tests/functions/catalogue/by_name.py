"""Ops that loaded graphs have, and no function of numpy leads to."""

import numpy as np

from catalogue.case import (
    COMPLEX,
    FLOAT,
    SIGNED,
    UNSIGNED,
    A,
    B,
    Case,
    M,
    index,
    positive,
    unit,
)
from dsave import ops


def _windows(ndim):
    sizes = [1, *[2] * (ndim - 2), 1]
    return {"ksize": sizes, "strides": sizes, "padding": "SAME"}


CASES = {
    "Unpack": Case(
        lambda x: ops.call("Unpack", [x], {"num": 3, "axis": 0}), ["float32"], [A], batches=()
    ),
    "Range": Case(
        lambda x: ops.call("Range", [x, x * 0 + 9, x * 0 + 2]),
        [*FLOAT, "int32", "int64"],
        [()],
        positive,
    ),
    "FloorDiv of floats": Case(
        lambda x, y: ops.call("FloorDiv", [x, y]), FLOAT, [A, A], positive
    ),
    "ArgMax of int32": Case(
        lambda x: ops.call("ArgMax", [x, np.int32(0)], {"output_type": np.int32}),
        ["float32"],
        [A],
    ),
    "MatMul of transposed": Case(
        lambda x, y: ops.call("MatMul", [x, y], {"transpose_a": True, "transpose_b": True}),
        ["float32", "bfloat16"],
        [(4, 3), (5, 4)],
        batches=(),
    ),
    "BatchMatMulV2 of adjoint": Case(
        lambda x, y: ops.call("BatchMatMulV2", [x, y], {"adj_x": True, "adj_y": True}),
        ["complex64", "bfloat16"],
        [(2, 4, 3), (2, 5, 4)],
    ),
    "Cumsum reversed": Case(
        lambda x: [
            ops.call("Cumsum", [x, np.int32(1)], {"reverse": True}),
            ops.call("Cumprod", [x, np.int32(0)], {"exclusive": True}),
            ops.call("Cumsum", [x, np.int32(0)], {"exclusive": True, "reverse": True}),
        ],
        ["float32"],
        [A],
    ),
    "GatherV2 of batches": Case(
        lambda x, y: ops.call("GatherV2", [x, y, np.int32(1)], {"batch_dims": 1}),
        ["int32"],
        [(3, 4, 2), (3, 2)],
        index,
    ),
    "StridedSlice with an ellipsis": Case(
        lambda x: ops.call(
            "StridedSlice",
            [x, *(np.array(n, np.int32) for n in ([0, 0, 1], [0, 0, 3], [1, 1, 1]))],
            {"ellipsis_mask": 1, "new_axis_mask": 2},
        ),
        ["float32"],
        [B],
    ),
    "Mean of integers": Case(
        lambda x: [ops.call("Mean", [x, np.int32(axis)]) for axis in (0, 1)],
        [*SIGNED, *UNSIGNED],
        [(3, 40)],
        batches=(5,),
    ),
    "MatrixBandPart": Case(
        lambda x: [
            ops.call("MatrixBandPart", [x, np.int64(below), np.int64(above)])
            for below, above in ((0, -1), (-1, 1), (1, 0))
        ],
        [*M, "bool"],
        [B],
    ),
    "Conv3D of half floats": Case(
        lambda x, f: ops.call("Conv3D", [x, f], {"strides": [1] * 5, "padding": "SAME"}),
        ["float16", "bfloat16"],
        [(2, 4, 5, 3, 2), (3, 1, 2, 2, 3)],
        unit,  # TensorFlow adds bfloat16 up in bfloat16
    ),
    "AvgPool of half floats": Case(
        lambda x: ops.call("AvgPool", [x], _windows(4)),
        ["float16", "bfloat16"],
        [(2, 5, 3, 2)],
    ),
    "AvgPool3D of half floats": Case(
        lambda x: ops.call("AvgPool3D", [x], _windows(5)), ["bfloat16"], [(2, 5, 3, 4, 2)]
    ),
    "Where of numbers": Case(
        lambda x: ops.call("Where", [x]),
        ["float32", "float64", *SIGNED, *UNSIGNED, *COMPLEX],
        [A],
    ),
}
