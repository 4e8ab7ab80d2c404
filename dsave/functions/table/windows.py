"""Windows that slide over images and volumes: what convolutions and pools are made of.

Tensors are batch, one to three axes of space, channels; what is said of axes, strides and the
like counts all of these axes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs
from dsave.functions.stack import trace_error
from dsave.functions.table.extents import extents
from dsave.functions.tensor import Known
from dsave.functions.tracer import Value

NHWC, NDHWC = b"NHWC", b"NDHWC"
"""The orders of axes that there are; others TensorFlow has on GPUs only."""


def check_format(attrs: AnyAttrs) -> None:
    """Refuse tensors whose channels do not come last.

    Raises:
        TraceError: they do not.
    """
    if attrs["data_format"] not in {NHWC, NDHWC}:
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
    """The extents of space after a window has slid over it."""
    found: list[int | None] = []
    for axis, reach in enumerate(reaches, 1):
        extent, stride = x.shape[axis], attrs["strides"][axis]
        if extent is None or reach is None:
            found.append(None)
            continue
        before, after = padding_of(attrs, axis, extent, reach)
        places = extent + before + after - reach
        if places < 0:
            raise trace_error("a window", f"{reach} elements do not fit in {extent}")
        found.append(places // stride + 1)
    return found


def spans(attrs: AnyAttrs, sizes: Sequence[int | None]) -> list[int | None]:
    """How far filters of these sizes reach, with gaps between their elements."""
    return [
        None if size is None else (size - 1) * dilation + 1
        for size, dilation in zip(sizes, attrs["dilations"][1:-1], strict=True)
    ]


def windows_of(
    attrs: AnyAttrs,
    x: Array,
    sizes: Sequence[int],
    fill: Any,
    dilations: Sequence[int] | None = None,
) -> Array:
    """Batch, space, channels, and the space within the window at each place."""
    gaps = dilations or [1] * len(sizes)
    reaches = [(size - 1) * gap + 1 for size, gap in zip(sizes, gaps, strict=True)]
    axes = tuple(range(1, len(sizes) + 1))
    pads = [padding_of(attrs, axis, x.shape[axis], reaches[axis - 1]) for axis in axes]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reaches, axes)
    steps = [slice(None, None, step) for step in (*attrs["strides"], *gaps)]
    found: Array = windows[tuple(steps)]
    return found


def convolved(attrs: AnyAttrs, x: Value, filters: Value) -> Shape:
    """The shape of a convolution."""
    *sizes, channels, depth = filters.shape
    if None not in {x.shape[-1], channels} and not _groups(x.shape[-1], channels, depth):
        raise trace_error(
            "dsave.ops.conv2d", f"{x.shape[-1]} channels where the filters take {channels}"
        )
    return (x.shape[0], *slid(attrs, x, spans(attrs, sizes)), depth)


def _groups(given: Any, taken: Any, depth: Any) -> int:
    """In how many groups the channels go through as many groups of filters; 0: they do not."""
    groups = given // taken if taken else 0
    fits = groups and groups * taken == given and (depth is None or not depth % groups)
    return groups if fits else 0


def convolve(attrs: AnyAttrs, x: Array, filters: Array) -> Array:
    """A convolution: filters are space, channels in, channels out."""
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    space, filters = filters.ndim - 2, filters.astype(wide)
    windows = windows_of(
        attrs, x.astype(wide), filters.shape[:space], 0, attrs["dilations"][1:-1]
    )
    axes = ((*range(space + 2, 2 * space + 2), space + 1), tuple(range(space + 1)))
    groups = _groups(x.shape[-1], *filters.shape[space:])
    if groups <= 1:
        result: Array = np.tensordot(windows, filters, axes)
        return result
    parts = zip(
        np.split(windows, groups, space + 1), np.split(filters, groups, -1), strict=True
    )
    return np.concatenate([np.tensordot(part, own, axes) for part, own in parts], -1)


def transposed_shape(attrs: AnyAttrs, sizes: Known | Array, filters: Value, x: Value) -> Shape:
    """The shape of a transposed convolution, as far as `sizes` is known."""
    check_format(attrs)
    known = (x.shape[0], *[None] * (x.ndim - 2), filters.shape[-2])
    return tuple(k if n is None else n for n, k in zip(extents(sizes), known, strict=True))


def transposed(attrs: AnyAttrs, sizes: Array, filters: Array, x: Array) -> Array:
    """A transposed convolution: each element times the filters, added where it came from."""
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    x, filters = x.astype(wide), filters.astype(wide)
    batch, *extents, channels = sizes.tolist()
    gaps, steps = attrs["dilations"][1:-1], attrs["strides"][1:-1]
    window = filters.shape[:-2]
    pads = [
        padding_of(attrs, axis + 1, extent, (size - 1) * gap + 1)
        for axis, (extent, size, gap) in enumerate(zip(extents, window, gaps, strict=True))
    ]
    padded = [n + sum(pad) for n, pad in zip(extents, pads, strict=True)]
    whole = np.zeros((batch, *padded, channels), wide)
    for place in np.ndindex(*window):
        starts = [at * gap for at, gap in zip(place, gaps, strict=True)]
        ends = [
            start + (n - 1) * step + 1
            for start, n, step in zip(starts, x.shape[1:], steps, strict=False)
        ]
        area = tuple(map(slice, starts, ends, steps))
        whole[(slice(None), *area)] += np.tensordot(x, filters[place], (-1, 1))
    inner = [slice(before, before + n) for (before, _), n in zip(pads, extents, strict=True)]
    result: Array = whole[(slice(None), *inner)]
    return result


def pooled(attrs: AnyAttrs, x: Value) -> Shape:
    """The shape of a pool."""
    return (x.shape[0], *slid(attrs, x, attrs["ksize"][1:-1]), x.shape[-1])


def _lowest(dtype: "np.dtype[Any]") -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def max_pool(attrs: AnyAttrs, x: Array) -> Array:
    """The largest element of each window."""
    within = tuple(range(x.ndim, 2 * x.ndim - 2))
    result: Array = windows_of(attrs, x, attrs["ksize"][1:-1], _lowest(x.dtype)).max(within)
    return result


def avg_pool(attrs: AnyAttrs, x: Array) -> Array:
    """The mean of each window. What is beyond the edges does not count."""
    wide = x.astype(np.float32 if x.dtype.itemsize < 4 else x.dtype)
    within, sizes = tuple(range(x.ndim, 2 * x.ndim - 2)), attrs["ksize"][1:-1]
    sums = windows_of(attrs, wide, sizes, 0).sum(within)
    counts = windows_of(attrs, np.ones_like(wide), sizes, 0).sum(within)
    result: Array = sums / counts
    return result
