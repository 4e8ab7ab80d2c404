"""What slides over the axes between batch and channels: where it stops, and what it sees.

The attributes `strides`, `dilations` and `ksize` are lists, one number for each axis of the
input. TensorFlow's rules: tensorflow/core/framework/common_shape_fns.cc.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsave.functions.graph import Array
from dsave.functions.op import AnyAttrs
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.shapes import extents_of

Spatial = int | Sequence[int]
"""A number for each axis between batch and channels, or one for all of them."""

Padding = str | Sequence[Any]
"""SAME, VALID, or (before, after) for each axis."""


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


def reach(size: int, dilation: int) -> int:
    """Over how many elements a window goes that looks at so many."""
    return (size - 1) * dilation + 1


def pads(attrs: AnyAttrs, axis: int, extent: int, over: int) -> tuple[int, int]:
    """Elements before and after an axis, for a window that goes over so many.

    They are fewer than none where elements of a volume are left out: with SAME, TensorFlow
    puts the places of windows in the middle of it, of an image at its beginning.
    """
    check_format(attrs)
    if attrs["padding"] == b"VALID":
        return 0, 0
    if attrs["padding"] == b"EXPLICIT":
        before, after = attrs["explicit_paddings"][2 * axis : 2 * axis + 2]
        return before, after
    stride = attrs["strides"][axis]
    missing = (-(-extent // stride) - 1) * stride + over - extent
    if attrs["data_format"] != NDHWC:
        missing = max(0, missing)
    before = int(missing / 2)
    return before, missing - before


def slid(attrs: AnyAttrs, x: Value, sizes: Sequence[int | None]) -> list[int | None]:
    """The extents after a window of these sizes has slid over the axes."""
    found: list[int | None] = []
    dilations = attrs.get("dilations", [1] * x.ndim)
    for axis, size in enumerate(sizes, 1):
        extent, stride = known_shape(x)[axis], attrs["strides"][axis]
        if extent is None or size is None:
            found.append(None)
            continue
        over = reach(size, dilations[axis])
        places = extent + sum(pads(attrs, axis, extent, over)) - over
        if places < 0:
            raise trace_error("a window", f"{over} elements do not fit in {extent}")
        found.append(places // stride + 1)
    return found


def seen(attrs: AnyAttrs, x: Array, sizes: Sequence[int], fill: Any) -> Array:
    """Batch, places, channels, and what the window sees at each place."""
    axes = tuple(range(1, x.ndim - 1))
    dilations = attrs.get("dilations", [1] * x.ndim)
    overs = [reach(size, dilations[axis]) for axis, size in zip(axes, sizes, strict=True)]
    around = [pads(attrs, axis, x.shape[axis], overs[axis - 1]) for axis in axes]
    inner = [
        slice(max(0, -before), extent - max(0, -after))
        for extent, (before, after) in zip(x.shape[1:-1], around, strict=True)
    ]
    outer = [(max(0, before), max(0, after)) for before, after in around]
    padded = np.pad(x[:, *inner], [(0, 0), *outer, (0, 0)], constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, overs, axes)
    every = [slice(None, None, step) for step in attrs["strides"][1:-1]]
    apart = [slice(None, None, step) for step in dilations[1:-1]]
    found: Array = views[(slice(None), *every, slice(None), *apart)]
    return found


def trimmed(x: Any, sizes: Sequence[Any], strides: Sequence[int], padding: str) -> Any:
    """Volumes without what is behind the last window, as images have it with SAME.

    Where windows leave elements out TensorFlow would place them elsewhere. `strides` are an
    attribute's.
    """
    if padding.upper() != "SAME":
        return x
    needed = []
    for size, stride, extent in zip(sizes, strides[1:-1], extents_of(x)[1:-1], strict=True):
        last = (extent - 1) // stride * stride + size
        is_all = isinstance(size, int) and (
            size >= stride or (isinstance(extent, int) and last >= extent)
        )
        needed.append(slice(None if is_all else np.minimum(last, extent)))
    return x[:, *needed]


def wide(x: Array) -> Array:
    """Half floats as TensorFlow adds them up: in float32."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def summed(x: Any) -> Value:
    """Half floats in float32, for ops that TensorFlow adds them up by in their own dtype."""
    return cast(x, np.float32) if x.dtype.itemsize < 4 else operand(x)


def image(x: Any, axes: int, name: str) -> Value:
    """A tensor of batch, so many axes, and channels."""
    value = operand(x)
    if value.ndim != axes + 2:
        kinds = ", ".join([*("depth", "height", "width")[-axes:]])
        raise trace_error(
            name, f"batch, {kinds}, channels are wanted; got a shape of {known_shape(value)}"
        )
    return value


def spatial(given: Spatial, axes: int, name: str) -> list[int]:
    """The numbers as an attribute has them: 1 for batch and for channels."""
    numbers = [given] * axes if isinstance(given, int) else list(given)
    if len(numbers) != axes:
        raise trace_error(name, f"{axes} numbers are wanted, or one for all; got {given}")
    return [1, *map(int, numbers), 1]


def padding(given: Padding, name: str) -> dict[str, Any]:
    """The attributes about padding."""
    if not isinstance(given, str):
        around = [int(n) for pair in given for n in pair]
        return {"padding": b"EXPLICIT", "explicit_paddings": [0, 0, *around, 0, 0]}
    if given.upper() not in {"SAME", "VALID"}:
        raise trace_error(name, f"padding is SAME or VALID, got {given!r}")
    return {"padding": given.upper().encode()}
