"""Ops that put elements around a tensor."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, whole
from dsave.functions.table.creation import RANGE
from dsave.functions.table.gathering import take
from dsave.functions.table.rules import ints
from dsave.functions.table.shapes import shape
from dsave.functions.tensor import Face, Tensor
from dsave.model.dtype import dtype_of

_INT32 = dtype_of("int32")


def _padded(_: AnyAttrs, x: Value, pads: Known | Array, *_value: Value) -> Shape:
    if isinstance(pads, Known):
        return (None,) * x.ndim
    return tuple(
        None if extent is None else extent + int(before) + int(after)
        for extent, (before, after) in zip(known_shape(x), pads, strict=True)
    )


_MIRRORED: dict[bytes, Any] = {b"REFLECT": "reflect", b"SYMMETRIC": "symmetric"}

_PAD = op(
    "PadV2(input: T, paddings: Tpaddings, constant_values: T) -> output: T",
    shape=_padded,
    kernel=lambda _, x, pads, value: np.pad(x, pads, constant_values=value) if x.ndim else x,
    Tpaddings=_INT32,
)
_MIRROR_PAD = op(
    "MirrorPad(input: T, paddings: Tpaddings) -> output: T",
    shape=_padded,
    kernel=lambda attrs, x, pads: np.pad(x, pads, mode=_MIRRORED[attrs["mode"]]),
    Tpaddings=_INT32,
)


def _edge(place: Any, count: Any) -> Any:
    return np.clip(place, 0, count - 1)


def _wrapped(place: Any, count: Any) -> Any:
    return place % count


def _reflected(place: Any, count: Any) -> Any:
    period = np.maximum(2 * count - 2, 1)
    return np.minimum(place % period, period - place % period)


def _mirrored(place: Any, count: Any) -> Any:
    period = 2 * count
    return np.minimum(place % period, period - 1 - place % period)


# Where in an axis of so many elements one stands that is beyond its ends.
_PLACES: dict[str, Callable[..., Any]] = {
    "edge": _edge,
    "reflect": _reflected,
    "symmetric": _mirrored,
    "wrap": _wrapped,
}


def _pad(
    array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0
) -> Any:
    x = operand(array)
    if not x.ndim:
        return x
    widths: Any = np.broadcast_to(operand(pad_width), (x.ndim, 2))
    if isinstance(widths, Tensor):
        if mode != "constant" or np.ndim(constant_values):
            raise trace_error("numpy.pad", "of unknown widths it puts one constant around")
        return apply(_PAD, x, whole(widths, "numpy.pad"), cast(constant_values, x.dtype))
    pads = ints(widths)
    if (pads < 0).any():
        raise trace_error("numpy.pad", f"elements to put around are 0 or more, got {pad_width}")
    if mode == "constant":
        return _filled(x, pads, constant_values)
    if mode not in _PLACES:
        modes = ", ".join(_PLACES)
        raise trace_error("numpy.pad", f"mode is constant, {modes}, got {mode!r}")
    padded = [axis for axis in range(x.ndim) if pads[axis].any()]
    name = mode.upper().encode()
    if name in _MIRRORED and all(_is_within(known_shape(x)[a], pads[a], mode) for a in padded):
        return apply(_MIRROR_PAD, x, pads, mode=name)
    for axis in padded:
        x = take(x, _places(x, axis, pads[axis], mode), axis)
    return x


def _filled(x: Any, pads: Array, values: Any) -> Any:
    if not np.ndim(values):
        return apply(_PAD, x, pads, cast(values, x.dtype))
    for axis, edges in enumerate(np.broadcast_to(values, (x.ndim, 2))):
        for edge, value in enumerate(edges):
            one = np.zeros_like(pads)
            one[axis, edge] = pads[axis, edge]
            x = apply(_PAD, x, one, cast(value, x.dtype)) if one.any() else x
    return x


def _is_within(extent: int | None, pads: Array, mode: str) -> bool:
    """Whether an axis is mirrored once at each end, as TensorFlow does."""
    return extent is not None and bool(pads.max() <= extent - (mode == "reflect"))


def _places(x: Any, axis: int, pads: Array, mode: str) -> Any:
    """The places in an axis that its elements, and those around them, are taken from."""
    before, after = pads.tolist()
    extent = known_shape(x)[axis]
    if extent is not None:
        return _PLACES[mode](np.arange(-before, extent + after), extent)
    count = shape(x)[axis]
    step = np.array(1, np.int32)
    return _PLACES[mode](apply(RANGE, np.array(-before, np.int32), count + after, step), count)


OPS: tuple[Op, ...] = (_PAD, _MIRROR_PAD)

FACES: dict[Callable[..., Any], Face] = {np.pad: _pad}
