"""Convolution and pooling of images: batch, height, width, channels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.rules import FLOATS, REALS
from dsave.functions.tensor import Face
from dsave.functions.tracer import Value, apply, operand

Pair = int | Sequence[int]
"""Of the height and of the width; one number is both."""

NHWC = b"NHWC"
"""The order of axes that there is; the other one TensorFlow has on GPUs only."""


def check_format(attrs: AnyAttrs) -> None:
    """Refuse images whose channels come first.

    Raises:
        TraceError: they do.
    """
    if attrs["data_format"] != NHWC:
        order = attrs["data_format"].decode(errors="replace")
        raise trace_error("an op on images", f"the order of axes is NHWC, got {order}")


def padding_of(attrs: AnyAttrs, axis: int, extent: int, reach: int) -> tuple[int, int]:
    """Elements before and after an axis, for a window that reaches over so many."""
    check_format(attrs)
    if attrs["padding"] == b"VALID":
        return 0, 0
    if attrs["padding"] == b"EXPLICIT":
        before, after = attrs["explicit_paddings"][2 * axis : 2 * axis + 2]
        return before, after
    stride = attrs["strides"][axis]
    missing = max(0, (-(-extent // stride) - 1) * stride + reach - extent)
    return missing // 2, missing - missing // 2


def slid(attrs: AnyAttrs, x: Value, reaches: Sequence[int | None]) -> list[int | None]:
    """Height and width after a window has slid over them."""
    extents: list[int | None] = []
    for axis, reach in zip((1, 2), reaches, strict=True):
        extent, stride = x.shape[axis], attrs["strides"][axis]
        if extent is None or reach is None:
            extents.append(None)
            continue
        before, after = padding_of(attrs, axis, extent, reach)
        places = extent + before + after - reach
        if places < 0:
            raise trace_error("a window", f"{reach} elements do not fit in {extent}")
        extents.append(places // stride + 1)
    return extents


def span(size: int | None, dilation: int) -> int | None:
    """How far so many elements reach with gaps between them."""
    return None if size is None else (size - 1) * dilation + 1


def _convolved(attrs: AnyAttrs, x: Value, filters: Value) -> Shape:
    height, width, channels, depth = filters.shape
    if None not in {x.shape[3], channels} and not _groups(x.shape[3], channels, depth):
        raise trace_error(
            "dsave.ops.conv2d", f"{x.shape[3]} channels where the filters take {channels}"
        )
    reaches = [span(size, attrs["dilations"][i + 1]) for i, size in enumerate((height, width))]
    return (x.shape[0], *slid(attrs, x, reaches), depth)


def _groups(given: Any, taken: Any, depth: Any) -> int:
    """In how many groups the channels go through as many groups of filters; 0: they do not."""
    groups = given // taken if taken else 0
    fits = groups and groups * taken == given and (depth is None or not depth % groups)
    return groups if fits else 0


def windows_of(
    attrs: AnyAttrs,
    x: Array,
    sizes: Sequence[int],
    fill: Any,
    dilations: Sequence[int] = (1, 1),
) -> Array:
    """Batch, height, width, channels, and the height and width of the window at each place."""
    reaches = [
        (size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)
    ]
    pads = [padding_of(attrs, axis, x.shape[axis], reaches[axis - 1]) for axis in (1, 2)]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reaches, (1, 2))
    _, down, across, _ = attrs["strides"]
    found: Array = windows[:, ::down, ::across, :, :: dilations[0], :: dilations[1]]
    return found


def _convolve(attrs: AnyAttrs, x: Array, filters: Array) -> Array:
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    windows = windows_of(attrs, x.astype(wide), filters.shape[:2], 0, attrs["dilations"][1:3])
    filters = filters.astype(wide)
    groups = _groups(x.shape[3], *filters.shape[2:])
    if groups <= 1:
        result: Array = np.tensordot(windows, filters, ((4, 5, 3), (0, 1, 2)))
        return result
    parts = zip(np.split(windows, groups, 3), np.split(filters, groups, 3), strict=True)
    return np.concatenate(
        [np.tensordot(part, own, ((4, 5, 3), (0, 1, 2))) for part, own in parts], 3
    )


def _pooled(attrs: AnyAttrs, x: Value) -> Shape:
    return (x.shape[0], *slid(attrs, x, attrs["ksize"][1:3]), x.shape[3])


def _lowest(dtype: "np.dtype[Any]") -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _max_pool(attrs: AnyAttrs, x: Array) -> Array:
    result: Array = windows_of(attrs, x, attrs["ksize"][1:3], _lowest(x.dtype)).max((4, 5))
    return result


def _avg_pool(attrs: AnyAttrs, x: Array) -> Array:
    wide = x.astype(np.float32 if x.dtype.itemsize < 4 else x.dtype)
    # What is beyond the edges does not count.
    sums = windows_of(attrs, wide, attrs["ksize"][1:3], 0).sum((4, 5))
    counts = windows_of(attrs, np.ones_like(wide), attrs["ksize"][1:3], 0).sum((4, 5))
    result: Array = sums / counts
    return result


_CONV = op(
    "Conv2D(input: T, filter: T) -> output: T",
    shape=_convolved,
    kernel=_convolve,
    types=FLOATS,
    explicit_paddings=[],
    data_format=NHWC,
    dilations=[1, 1, 1, 1],
    use_cudnn_on_gpu=True,
)
_MAX_POOL = op(
    "MaxPool(input: T) -> output: T",
    shape=_pooled,
    kernel=_max_pool,
    types=REALS - dtypes("uint32 uint64"),
    explicit_paddings=[],
    data_format=NHWC,
)
_AVG_POOL = op(
    "AvgPool(value: T) -> output: T",
    shape=_pooled,
    kernel=_avg_pool,
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
