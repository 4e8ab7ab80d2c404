"""Convolution: filters at each place of images, whose channels come last."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.known import Known
from dsave.functions.op import AnyAttrs, Op, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table import windows
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.extents import extents, shape_operand
from dsave.functions.table.rules import FLOATS
from dsave.functions.table.shapes import extents_of
from dsave.functions.table.windows import NDHWC, NHWC, Padding, Spatial, wide
from dsave.functions.tensor import Face
from dsave.model.dtype import dtype_of


def _convolved(attrs: AnyAttrs, x: Value, filters: Value) -> Shape:
    batch, *_, channels = known_shape(x)
    *sizes, taken, depth = known_shape(filters)
    if channels is not None and taken is not None and (not taken or channels % taken):
        raise trace_error("convolution", f"{channels} channels where filters take {taken}")
    return (batch, *windows.slid(attrs, x, sizes), depth)


def _convolve(attrs: AnyAttrs, x: Array, filters: Array) -> Array:
    *sizes, taken, depth = filters.shape
    seen, filters = windows.seen(attrs, wide(x), sizes, 0), wide(filters)
    groups = x.shape[-1] // taken
    count = len(sizes)
    each = depth // groups
    # Over the window's axes and the channels that a group takes.
    axes = [*range(count + 2, 2 * count + 2), count + 1], range(count + 1)
    parts = [
        np.tensordot(
            np.take(seen, range(group * taken, (group + 1) * taken), count + 1),
            filters[..., group * each : (group + 1) * each],
            axes,
        )
        for group in range(groups)
    ]
    return np.concatenate(parts, -1)


def _convolved_by_channel(attrs: AnyAttrs, x: Value, filters: Value) -> Shape:
    batch, *_, channels = known_shape(x)
    *sizes, taken, times = known_shape(filters)
    if None not in {channels, taken} and channels != taken:
        raise trace_error("convolution", f"{channels} channels where filters take {taken}")
    known = taken if channels is None else channels
    depth = None if known is None or times is None else known * times
    return (batch, *windows.slid(attrs, x, sizes), depth)


def _convolve_by_channel(attrs: AnyAttrs, x: Array, filters: Array) -> Array:
    seen = windows.seen(attrs, wide(x), filters.shape[:2], 0)
    result: Array = np.einsum("nhwcij,ijcm->nhwcm", seen, wide(filters))
    return result.reshape(*result.shape[:3], result.shape[3] * result.shape[4])


def _spread_shape(attrs: AnyAttrs, sizes: Known | Array, filters: Value, x: Value) -> Shape:
    windows.check_format(attrs)
    wanted = extents(sizes)
    if len(wanted) == x.ndim - 2:
        return (known_shape(x)[0], *wanted, known_shape(filters)[-2])
    known = (known_shape(x)[0], *[None] * (x.ndim - 2), known_shape(filters)[-2])
    return tuple(k if n is None else n for n, k in zip(wanted, known, strict=True))


def _spread(attrs: AnyAttrs, sizes: Array, filters: Array, x: Array) -> Array:
    """Each element times the filters, added where it came from."""
    *window, depth, _ = filters.shape
    x, filters = wide(x), wide(filters)
    axes = range(1, x.ndim - 1)
    spread = sizes.tolist()[-len(axes) - 1 : -1] if len(sizes) > len(axes) else sizes.tolist()
    gaps, steps = attrs["dilations"][1:-1], attrs["strides"][1:-1]
    around = [
        windows.pads(attrs, axis, extent, windows.reach(size, gap))
        for axis, extent, size, gap in zip(axes, spread, window, gaps, strict=True)
    ]
    around = [(max(0, before), max(0, after)) for before, after in around]
    padded = [extent + sum(pair) for extent, pair in zip(spread, around, strict=True)]
    total = np.zeros((len(x), *padded, depth), x.dtype)
    for place in np.ndindex(*window):
        starts = [at * gap for at, gap in zip(place, gaps, strict=True)]
        area = [
            slice(start, start + (count - 1) * step + 1, step)
            for start, count, step in zip(starts, x.shape[1:-1], steps, strict=True)
        ]
        total[(slice(None), *area)] += x @ filters[place].T
    inner = [slice(before, before + n) for n, (before, _) in zip(spread, around, strict=True)]
    result: Array = total[(slice(None), *inner)]
    return result


_CONV = op(
    "Conv2D(input: T, filter: T) -> output: T",
    shape=_convolved,
    kernel=_convolve,
    types=FLOATS,
    explicit_paddings=[],
    data_format=NHWC,
    dilations=[1] * 4,
    use_cudnn_on_gpu=True,
)
_CONV_3D = op(
    "Conv3D(input: T, filter: T) -> output: T",
    shape=_convolved,
    kernel=_convolve,
    types=FLOATS,
    data_format=NDHWC,
    dilations=[1] * 5,
)
_DEPTHWISE = op(
    "DepthwiseConv2dNative(input: T, filter: T) -> output: T",
    shape=_convolved_by_channel,
    kernel=_convolve_by_channel,
    types=FLOATS,
    explicit_paddings=[],
    data_format=NHWC,
    dilations=[1] * 4,
)
_TRANSPOSED = op(
    "Conv2DBackpropInput(input_sizes: int32, filter: T, out_backprop: T) -> output: T",
    shape=_spread_shape,
    kernel=_spread,
    types=FLOATS,
    explicit_paddings=[],
    data_format=NHWC,
    dilations=[1] * 4,
    use_cudnn_on_gpu=True,
)
_TRANSPOSED_3D = op(
    "Conv3DBackpropInputV2(input_sizes: Tshape, filter: T, out_backprop: T) -> output: T",
    shape=_spread_shape,
    kernel=_spread,
    data_format=NDHWC,
    dilations=[1] * 5,
    Tshape=dtype_of("int32"),
)


def conv1d(
    x: Any,
    filters: Any,
    *,
    strides: int = 1,
    padding: Padding = "SAME",
    dilations: int = 1,
    groups: int = 1,
) -> Any:
    """Filters (width, channels in, channels out) at each place of sequences.

    `padding` is "SAME", "VALID", or (before, after). Each of the `groups` of filters takes its
    part of the channels.
    """
    name = "dsave.ops.conv1d"
    found = conv2d(
        np.expand_dims(windows.image(x, 1, name), 1),
        np.expand_dims(_filters(filters, 3, name), 0),
        strides=(1, strides),
        padding=padding if isinstance(padding, str) else ((0, 0), padding),
        dilations=(1, dilations),
        groups=groups,
    )
    return np.squeeze(found, 1)


def conv2d(
    x: Any,
    filters: Any,
    *,
    strides: Spatial = 1,
    padding: Padding = "SAME",
    dilations: Spatial = 1,
    groups: int = 1,
) -> Any:
    """Filters (height, width, channels in, channels out) at each place of images.

    `padding` is "SAME", "VALID", or ((top, bottom), (left, right)). Each of the `groups` of
    filters takes its part of the channels.
    """
    name = "dsave.ops.conv2d"
    x, filters = _alike(windows.image(x, 2, name), _filters(filters, 4, name))
    _check_groups(x, filters, groups, name)
    return apply(_CONV, x, filters, **_slides(strides, dilations, padding, name))


def conv3d(x: Any, filters: Any, *, strides: Spatial = 1, padding: Padding = "SAME") -> Any:
    """Filters (depth, height, width, channels in, channels out) at each place of volumes."""
    name = "dsave.ops.conv3d"
    x, filters = _alike(windows.image(x, 3, name), _filters(filters, 5, name))
    _check_groups(x, filters, 1, name)
    if not isinstance(padding, str):
        x, padding = np.pad(x, ((0, 0), *padding, (0, 0))), "VALID"
    steps = windows.spatial(strides, 3, name)
    dtype = x.dtype
    # TensorFlow adds up half floats in their dtype, unlike those of images.
    found = apply(
        _CONV_3D,
        windows.summed(windows.trimmed(x, extents_of(filters)[:3], steps, padding)),
        windows.summed(filters),
        strides=steps,
        **windows.padding(padding, name),
    )
    return cast(found, dtype)


def depthwise_conv2d(
    x: Any,
    filters: Any,
    *,
    strides: Spatial = 1,
    padding: Padding = "SAME",
    dilations: Spatial = 1,
) -> Any:
    """Filters (height, width, channels, number) at each place of images, by channel.

    The results of one channel are together.
    """
    name = "dsave.ops.depthwise_conv2d"
    x, filters = _alike(windows.image(x, 2, name), _filters(filters, 4, name))
    attrs = _slides(strides, dilations, padding, name)
    (_, down, across, _), apart = attrs["strides"], attrs["dilations"]
    if down == across and apart == [1] * 4:
        return apply(_DEPTHWISE, x, filters, **attrs)
    # Of what TensorFlow's op does not do on a CPU, that of groups of one channel does.
    height, width, channels, times = known_shape(filters)
    if channels is None or times is None:
        raise trace_error(name, "the number of filters is unknown")
    known = (-1 if n is None else n for n in (height, width))
    return apply(_CONV, x, np.reshape(filters, (*known, 1, channels * times)), **attrs)


def conv2d_transpose(
    x: Any,
    filters: Any,
    *,
    strides: Spatial = 1,
    padding: Padding = "SAME",
    size: Any = None,
) -> Any:
    """What the gradient of `conv2d` does: filters are spread over images.

    Filters are (height, width, channels out, channels in). `size` is the height and width of
    the result, of which strides leave a choice; if it is not given, what "SAME" gives is as
    many times larger as the strides are, and else it is the smallest.
    """
    name = "dsave.ops.conv2d_transpose"
    x, filters = _alike(windows.image(x, 2, name), _filters(filters, 4, name))
    attrs = _slides(strides, 1, padding, name)
    batch, *spread, channels = extents_of(x)
    *window, depth, taken = extents_of(filters)
    known = known_shape(x)[3], known_shape(filters)[3]
    if None not in known and channels != taken:
        raise trace_error(name, f"{channels} channels where filters take {taken}")
    if size is None:
        size = [
            _spread_extent(attrs, axis, *pair)
            for axis, pair in enumerate(zip(spread, window, strict=True), 1)
        ]
    sizes = cast(shape_operand([batch, *size, depth]), "int32")
    return apply(_TRANSPOSED, sizes, filters, x, **attrs)


def _spread_extent(attrs: AnyAttrs, axis: int, extent: Any, window: Any) -> Any:
    """An extent that convolution makes this one of."""
    stride = attrs["strides"][axis]
    if attrs["padding"] == b"SAME":
        return extent * stride
    around = attrs.get("explicit_paddings", [0] * 8)[2 * axis : 2 * axis + 2]
    spread = (extent - 1) * stride + window - sum(around)
    if isinstance(spread, int) and spread < 0:
        raise trace_error(
            "dsave.ops.conv2d_transpose", f"padding of {around} leaves nothing of axis {axis}"
        )
    return spread


def _alike(x: Value, filters: Value) -> tuple[Any, Any]:
    dtype = common_dtype(x, filters)
    return cast(x, dtype), cast(filters, dtype)


def _filters(given: Any, axes: int, name: str) -> Value:
    filters = operand(given)
    if filters.ndim != axes:
        raise trace_error(name, f"filters have {axes} axes, got {known_shape(filters)}")
    return filters


def _check_groups(x: Value, filters: Value, groups: int, name: str) -> None:
    channels, (taken, depth) = known_shape(x)[-1], known_shape(filters)[-2:]
    if None not in {channels, taken} and channels != taken * groups:  # type: ignore[operator] # known
        raise trace_error(
            name, f"{channels} channels where {groups} groups of filters take {taken} each"
        )
    if depth is not None and depth % groups:
        raise trace_error(name, f"{depth} filters are not {groups} equal groups")


def _slides(strides: Spatial, dilations: Spatial, given: Padding, name: str) -> dict[str, Any]:
    return {
        "strides": windows.spatial(strides, 2, name),
        "dilations": windows.spatial(dilations, 2, name),
        **windows.padding(given, name),
    }


OPS: tuple[Op, ...] = (_CONV, _CONV_3D, _DEPTHWISE, _TRANSPOSED, _TRANSPOSED_3D)

FACES: dict[Callable[..., Any], Face] = {}
