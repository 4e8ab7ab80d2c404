"""Ops on volumes: batch, depth, height, width, channels. No function of dsave leads to them."""

from collections.abc import Callable
from typing import Any

from dsave.functions.op import Op, dtypes, op
from dsave.functions.table.rules import FLOATS
from dsave.functions.table.windows import (
    NDHWC,
    avg_pool,
    convolve,
    convolved,
    max_pool,
    pooled,
    transposed,
    transposed_shape,
)
from dsave.functions.tensor import Face
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_POOLED = dtypes("bfloat16 float32")

OPS: tuple[Op, ...] = (
    op(
        "Conv3D(input: T, filter: T) -> output: T",
        shape=convolved,
        kernel=convolve,
        types=FLOATS,
        data_format=NDHWC,
        dilations=[1, 1, 1, 1, 1],
    ),
    op(
        "Conv3DBackpropInputV2(input_sizes: Tshape, filter: T, out_backprop: T) -> output: T",
        shape=transposed_shape,
        kernel=transposed,
        data_format=NDHWC,
        dilations=[1, 1, 1, 1, 1],
        Tshape=_INT32,
    ),
    op(
        "MaxPool3D(input: T) -> output: T",
        shape=pooled,
        kernel=max_pool,
        types=_POOLED,
        data_format=NDHWC,
    ),
    op(
        "AvgPool3D(input: T) -> output: T",
        shape=pooled,
        kernel=avg_pool,
        types=_POOLED,
        data_format=NDHWC,
    ),
)

FACES: dict[Callable[..., Any], Face] = {}
