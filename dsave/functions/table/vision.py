"""Ops on images that models of TensorFlow have, and no function of dsave leads to.

Images are batch, height, width, channels. TensorFlow computes those whose channels come first
on GPUs only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.operands import Value
from dsave.functions.table.windows import NHWC, check_format
from dsave.functions.tensor import Face
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")


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


OPS: tuple[Op, ...] = (
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
