"""Convolution and pooling of images: batch, height, width, channels."""

from collections.abc import Callable, Sequence
from typing import Any

from dsave.functions.op import Op, dtypes, op
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.rules import FLOATS, REALS
from dsave.functions.table.windows import (
    NHWC,
    avg_pool,
    convolve,
    convolved,
    max_pool,
    pooled,
)
from dsave.functions.tensor import Face
from dsave.functions.tracer import Value, apply, operand

Pair = int | Sequence[int]
"""Of the height and of the width; one number is both."""

_CONV = op(
    "Conv2D(input: T, filter: T) -> output: T",
    shape=convolved,
    kernel=convolve,
    types=FLOATS,
    explicit_paddings=[],
    data_format=NHWC,
    dilations=[1, 1, 1, 1],
    use_cudnn_on_gpu=True,
)
_MAX_POOL = op(
    "MaxPool(input: T) -> output: T",
    shape=pooled,
    kernel=max_pool,
    types=REALS - dtypes("uint32 uint64"),
    explicit_paddings=[],
    data_format=NHWC,
)
_AVG_POOL = op(
    "AvgPool(value: T) -> output: T",
    shape=pooled,
    kernel=avg_pool,
    types=FLOATS,
    data_format=NHWC,
)


def conv2d(
    x: Any,
    filters: Any,
    *,
    strides: Pair = 1,
    padding: str | Sequence[Sequence[int]] = "SAME",
    dilations: Pair = 1,
) -> Any:
    """Filters (height, width, channels in, channels out) at each place of images.

    `padding` is "SAME", "VALID", or ((top, bottom), (left, right)). Images of more channels
    than filters take go through them in groups, each group through its part of the filters.
    """
    name = "dsave.ops.conv2d"
    x, filters = _image(x, name), operand(filters)
    if filters.ndim != 4:
        raise trace_error(name, f"filters have 4 axes, got {filters.shape}")
    dtype = common_dtype(x, filters)
    explicit: dict[str, Any] = {}
    if not isinstance(padding, str):
        (top, bottom), (left, right) = padding
        explicit["explicit_paddings"] = [0, 0, top, bottom, left, right, 0, 0]
        padding = "EXPLICIT"
    return apply(
        _CONV,
        cast(x, dtype),
        cast(filters, dtype),
        strides=_spatial(strides),
        padding=_padding(padding, name, "SAME", "VALID", "EXPLICIT"),
        dilations=_spatial(dilations),
        **explicit,
    )


def max_pool2d(
    x: Any, size: Pair, *, strides: Pair | None = None, padding: str = "VALID"
) -> Any:
    """The largest element of each window; `strides` are the window's size if not given."""
    return _pool(_MAX_POOL, "dsave.ops.max_pool2d", x, size, strides, padding)


def avg_pool2d(
    x: Any, size: Pair, *, strides: Pair | None = None, padding: str = "VALID"
) -> Any:
    """The mean of each window; `strides` are the window's size if not given."""
    return _pool(_AVG_POOL, "dsave.ops.avg_pool2d", x, size, strides, padding)


def _pool(op: Op, name: str, x: Any, size: Pair, strides: Pair | None, padding: str) -> Any:
    return apply(
        op,
        _image(x, name),
        ksize=_spatial(size),
        strides=_spatial(size if strides is None else strides),
        padding=_padding(padding, name, "SAME", "VALID"),
    )


def _image(x: Any, name: str) -> Value:
    image = operand(x)
    if image.ndim != 4:
        raise trace_error(
            name, f"images are batch, height, width, channels; got a shape of {image.shape}"
        )
    return image


def _spatial(given: Pair) -> list[int]:
    height, width = (given, given) if isinstance(given, int) else given
    return [1, int(height), int(width), 1]


def _padding(given: str, name: str, *allowed: str) -> bytes:
    if given.upper() not in allowed:
        raise trace_error(name, f"padding is {' or '.join(allowed)}, got {given!r}")
    return given.upper().encode()


OPS: tuple[Op, ...] = (_CONV, _MAX_POOL, _AVG_POOL)

FACES: dict[Callable[..., Any], Face] = {}
