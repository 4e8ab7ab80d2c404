"""Ops on images that models of TensorFlow have, and no function of dsave leads to.

Images are batch, height, width, channels. TensorFlow computes those whose channels come first
on GPUs only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.table.extents import extents
from dsave.functions.table.rules import FLOATS, REALS
from dsave.functions.table.windows import (
    NHWC,
    check_format,
    slid,
    spans,
    transposed,
    transposed_shape,
    windows_of,
)
from dsave.functions.tensor import Face, Known
from dsave.functions.tracer import Value
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")
_RESIZED = REALS - dtypes("uint32 uint64")


def _depthwise_shape(attrs: AnyAttrs, x: Value, filters: Value) -> Shape:
    *sizes, channels, times = filters.shape
    depth = None if None in {channels, times} else channels * times
    return (x.shape[0], *slid(attrs, x, spans(attrs, sizes)), depth)


def _depthwise(attrs: AnyAttrs, x: Array, filters: Array) -> Array:
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    seen = windows_of(attrs, x.astype(wide), filters.shape[:2], 0, attrs["dilations"][1:3])
    result: Array = np.einsum("bhwcij,ijcm->bhwcm", seen, filters.astype(wide), optimize=True)
    return result.reshape(*result.shape[:3], -1)


def _normalized_shapes(attrs: AnyAttrs, x: Value, scale: Value, *_others: Value) -> list[Shape]:
    check_format(attrs)
    return [x.shape, *[scale.shape] * 4, (None,)]


def _normalized(
    attrs: AnyAttrs, x: Array, scale: Array, offset: Array, mean: Array, variance: Array
) -> list[Array]:
    check_format(attrs)
    wide = x.astype(np.float32)
    kept = [mean, variance]
    if attrs["is_training"]:
        count, factor = x.size // x.shape[3], np.float32(attrs["exponential_avg_factor"])
        mean, variance = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
        fresh = [mean, variance * np.float32(count / max(count - 1, 1))]
        if factor == 1:
            kept = fresh  # what was kept so far may be empty
        else:
            kept = [old + (new - old) * factor for old, new in zip(kept, fresh, strict=True)]
    y = (wide - mean) / np.sqrt(variance + np.float32(attrs["epsilon"])) * scale + offset
    return [y, *kept, mean, variance, np.zeros(0, np.float32)]


def _resized_shape(_: AnyAttrs, images: Value, size: Known | Array) -> Shape:
    return (images.shape[0], *extents(size), images.shape[3])


def _sources(attrs: AnyAttrs, count: int, wanted: int, shift: float) -> Array:
    """Where each of the elements that are wanted along an axis lies among those there are.

    Half pixels are taken off again by `shift`.
    """
    places = np.arange(wanted, dtype=np.float32)
    if attrs["align_corners"] and wanted > 1:
        return places * (np.float32(count - 1) / np.float32(wanted - 1))
    scale = np.float32(count) / np.float32(wanted)
    if attrs["half_pixel_centers"]:
        return (places + np.float32(0.5)) * scale - np.float32(shift)
    return places * scale


def _bilinear(attrs: AnyAttrs, images: Array, size: Array) -> Array:
    x = images.astype(np.float32)
    for axis, wanted in ((2, int(size[1])), (1, int(size[0]))):
        places = _sources(attrs, x.shape[axis], wanted, 0.5)
        low = np.floor(places)
        after = (places - low).reshape(-1, *[1] * (3 - axis))
        first = x.take(np.maximum(low, 0).astype(np.int64), axis)
        ends = np.minimum(np.ceil(places).astype(np.int64), x.shape[axis] - 1)
        x = first + (x.take(ends, axis) - first) * after
    return x


def _nearest(attrs: AnyAttrs, images: Array, size: Array) -> Array:
    for axis, wanted in zip((1, 2), size.tolist(), strict=True):
        places = _sources(attrs, images.shape[axis], wanted, 0.0)
        if attrs["align_corners"]:
            places += np.float32(0.5)  # numpy rounds halves to even
        ends = np.minimum(np.floor(places).astype(np.int64), images.shape[axis] - 1)
        images = images.take(ends, axis)
    return images


def _blocks(attrs: AnyAttrs, x: Value) -> Shape:
    check_format(attrs)
    size = attrs["block_size"]
    batch, height, width, depth = x.shape
    return (batch, _part(height, size), _part(width, size), _times(depth, size * size))


def _to_depth(attrs: AnyAttrs, x: Array) -> Array:
    check_format(attrs)
    size = attrs["block_size"]
    batch, height, width, depth = x.shape
    cut = x.reshape(batch, height // size, size, width // size, size, depth)
    moved = cut.transpose(0, 1, 3, 2, 4, 5)
    return moved.reshape(batch, height // size, width // size, depth * size * size)


def _unblocked(attrs: AnyAttrs, x: Value) -> Shape:
    check_format(attrs)
    size = attrs["block_size"]
    batch, height, width, depth = x.shape
    return (batch, _times(height, size), _times(width, size), _part(depth, size * size))


def _to_space(attrs: AnyAttrs, x: Array) -> Array:
    check_format(attrs)
    size = attrs["block_size"]
    batch, height, width, depth = x.shape
    cut = x.reshape(batch, height, width, size, size, depth // (size * size))
    moved = cut.transpose(0, 1, 3, 2, 4, 5)
    return moved.reshape(batch, height * size, width * size, depth // (size * size))


def _part(extent: int | None, count: int) -> int | None:
    return None if extent is None else extent // count


def _times(extent: int | None, count: int) -> int | None:
    return None if extent is None else extent * count


def _batched_shape(_: AnyAttrs, x: Value, blocks: Array, pads: Array) -> Shape:
    inner = [
        None if n is None else (n + int(before) + int(after)) // int(size)
        for n, size, (before, after) in zip(x.shape[1:], blocks, pads, strict=False)
    ]
    return (_times(x.shape[0], int(np.prod(blocks))), *inner, *x.shape[1 + len(inner) :])


def _to_batch(_: AnyAttrs, x: Array, blocks: Array, pads: Array) -> Array:
    count = len(blocks)
    rest = x.ndim - 1 - count
    padded = np.pad(x, [(0, 0), *pads.tolist(), *[(0, 0)] * rest])
    inner = [n // size for n, size in zip(padded.shape[1:], blocks.tolist(), strict=False)]
    pairs = [n for pair in zip(inner, blocks.tolist(), strict=True) for n in pair]
    cut = padded.reshape(x.shape[0], *pairs, *x.shape[1 + count :])
    places = [2 * axis + 2 for axis in range(count)]
    kept = [2 * axis + 1 for axis in range(count)]
    moved = cut.transpose(*places, 0, *kept, *range(2 * count + 1, cut.ndim))
    return moved.reshape(-1, *inner, *x.shape[1 + count :])


def _unbatched_shape(_: AnyAttrs, x: Value, blocks: Array, crops: Array) -> Shape:
    inner = [
        None if n is None else n * int(size) - int(before) - int(after)
        for n, size, (before, after) in zip(x.shape[1:], blocks, crops, strict=False)
    ]
    return (_part(x.shape[0], int(np.prod(blocks))), *inner, *x.shape[1 + len(inner) :])


def _from_batch(_: AnyAttrs, x: Array, blocks: Array, crops: Array) -> Array:
    count = len(blocks)
    sizes = blocks.tolist()
    cut = x.reshape(*sizes, x.shape[0] // int(np.prod(sizes)), *x.shape[1:])
    pairs = [axis for place in range(count) for axis in (count + 1 + place, place)]
    moved = cut.transpose(count, *pairs, *range(2 * count + 1, cut.ndim))
    inner = [n * size for n, size in zip(x.shape[1:], sizes, strict=False)]
    whole = moved.reshape(moved.shape[0], *inner, *x.shape[1 + count :])
    kept = [slice(before, n - after) for n, (before, after) in zip(inner, crops, strict=True)]
    result: Array = whole[(slice(None), *kept)]
    return result


_STEPS: dict[str, Any] = {"explicit_paddings": [], "data_format": NHWC}

OPS: tuple[Op, ...] = (
    op(
        "DepthwiseConv2dNative(input: T, filter: T) -> output: T",
        shape=_depthwise_shape,
        kernel=_depthwise,
        types=FLOATS,
        dilations=[1, 1, 1, 1],
        **_STEPS,
    ),
    op(
        "Conv2DBackpropInput(input_sizes: int32, filter: T, out_backprop: T) -> output: T",
        shape=transposed_shape,
        kernel=transposed,
        types=FLOATS,
        dilations=[1, 1, 1, 1],
        use_cudnn_on_gpu=True,
        **_STEPS,
    ),
    op(
        "FusedBatchNormV3(x: T, scale: U, offset: U, mean: U, variance: U) -> y: T, "
        "batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U, "
        "reserve_space_3: U",
        shape=_normalized_shapes,
        kernel=_normalized,
        types=dtypes("float16 bfloat16 float32"),
        epsilon=0.0001,
        exponential_avg_factor=1.0,
        data_format=NHWC,
        is_training=True,
    ),
    op(
        "ResizeBilinear(images: T, size: int32) -> resized_images: float32",
        shape=_resized_shape,
        kernel=_bilinear,
        types=_RESIZED,
        align_corners=False,
        half_pixel_centers=False,
    ),
    op(
        "ResizeNearestNeighbor(images: T, size: int32) -> resized_images: T",
        shape=_resized_shape,
        kernel=_nearest,
        types=_RESIZED,
        align_corners=False,
        half_pixel_centers=False,
    ),
    op(
        "SpaceToDepth(input: T) -> output: T",
        shape=_blocks,
        kernel=_to_depth,
        data_format=NHWC,
    ),
    op(
        "DepthToSpace(input: T) -> output: T",
        shape=_unblocked,
        kernel=_to_space,
        data_format=NHWC,
    ),
    op(
        "SpaceToBatchND(input: T, block_shape: Tblock_shape, paddings: Tpaddings) -> output: T",
        shape=_batched_shape,
        kernel=_to_batch,
        Tblock_shape=_INT32,
        Tpaddings=_INT32,
    ),
    op(
        "BatchToSpaceND(input: T, block_shape: Tblock_shape, crops: Tcrops) -> output: T",
        shape=_unbatched_shape,
        kernel=_from_batch,
        Tblock_shape=_INT32,
        Tcrops=_INT32,
    ),
)

FACES: dict[Callable[..., Any], Face] = {}
