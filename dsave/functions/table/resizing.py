"""Images in another size."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.operands import Value, known_shape
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast
from dsave.functions.table.extents import extents, shape_operand
from dsave.functions.table.rules import REALS
from dsave.functions.table.windows import image
from dsave.functions.tensor import Face


def _resized(_: AnyAttrs, x: Value, size: Known | Array) -> Shape:
    batch, *_old, channels = known_shape(x)
    return (batch, *extents(size), channels)


def _places(attrs: AnyAttrs, extent: int, size: int, centre: float) -> Array:
    """Where in the old axis each place of the new one is, in the digits of TensorFlow."""
    corners = attrs["align_corners"] and size > 1
    scale = np.float32(extent - 1 if corners else extent) / np.float32(size - corners)
    places = np.arange(size, dtype=np.float32)
    if not attrs["half_pixel_centers"]:
        return places * scale
    return (places + np.float32(0.5)) * scale - np.float32(centre)


def _nearest(attrs: AnyAttrs, x: Array, size: Array) -> Array:
    for axis, wanted in enumerate(size.tolist(), 1):
        places = _places(attrs, x.shape[axis], wanted, 0)
        # TensorFlow rounds halves away from 0 where the corners are aligned.
        whole = np.floor(places + np.float32(0.5) if attrs["align_corners"] else places)
        x = np.take(x, np.clip(whole.astype(int), 0, x.shape[axis] - 1), axis)
    return x


def _bilinear(attrs: AnyAttrs, x: Array, size: Array) -> Array:
    x = x.astype(np.float32)
    for axis, wanted in reversed(list(enumerate(size.tolist(), 1))):
        places = _places(attrs, x.shape[axis], wanted, 0.5)
        lower, upper = np.floor(places), np.ceil(places)
        shape = [-1 if place == axis else 1 for place in range(x.ndim)]
        part = np.reshape(places - lower, shape)
        low = np.take(x, np.maximum(lower, 0).astype(int), axis)
        high = np.take(x, np.minimum(upper, x.shape[axis] - 1).astype(int), axis)
        x = low + (high - low) * part
    return x


_TYPES = REALS - dtypes("uint32 uint64")
_NEAREST = op(
    "ResizeNearestNeighbor(images: T, size: int32) -> resized_images: T",
    shape=_resized,
    kernel=_nearest,
    types=_TYPES,
    align_corners=False,
    half_pixel_centers=False,
)
_BILINEAR = op(
    "ResizeBilinear(images: T, size: int32) -> resized_images: float32",
    shape=_resized,
    kernel=_bilinear,
    types=_TYPES,
    align_corners=False,
    half_pixel_centers=False,
)


def resize(x: Any, size: Any, method: str = "bilinear") -> Any:
    """Images of another height and width, by the `method` "nearest" or "bilinear".

    As TensorFlow's `tf.image.resize`; bilinear gives float32.
    """
    name = "dsave.ops.resize"
    ops = {"nearest": _NEAREST, "bilinear": _BILINEAR}
    if method not in ops:
        raise trace_error(name, f"the method is nearest or bilinear, got {method!r}")
    wanted = shape_operand(size)
    if known_shape(wanted) != (2,):
        raise trace_error(name, f"the size is a height and a width, got {size!r}")
    return apply(ops[method], image(x, 2, name), cast(wanted, "int32"), half_pixel_centers=True)


OPS: tuple[Op, ...] = (_NEAREST, _BILINEAR)

FACES: dict[Callable[..., Any], Face] = {}
