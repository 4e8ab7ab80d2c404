"""Pooling: the largest element, or the mean, of windows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.operands import Value, known_shape
from dsave.functions.table import windows
from dsave.functions.table.casts import cast
from dsave.functions.table.rules import FLOATS, REALS
from dsave.functions.table.windows import NDHWC, NHWC, Spatial, wide
from dsave.functions.tensor import Face


def _pooled(attrs: AnyAttrs, x: Value) -> Shape:
    batch, *_, channels = known_shape(x)
    return (batch, *windows.slid(attrs, x, attrs["ksize"][1:-1]), channels)


def _seen(attrs: AnyAttrs, x: Array, fill: Any) -> tuple[Array, tuple[int, ...]]:
    """What each window sees, and the axes of it."""
    found = windows.seen(attrs, x, attrs["ksize"][1:-1], fill)
    return found, tuple(range(x.ndim, found.ndim))


def _largest(attrs: AnyAttrs, x: Array) -> Array:
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    seen, axes = _seen(attrs, x, lowest)
    result: Array = seen.max(axes)
    return result


def _mean(attrs: AnyAttrs, x: Array) -> Array:
    # What is beyond the edges does not count.
    sums, counts = (
        seen.sum(axes)
        for seen, axes in (_seen(attrs, each, 0) for each in (wide(x), np.ones_like(wide(x))))
    )
    result: Array = sums / counts
    return result


_3D = dtypes("bfloat16 float32")
_MAX_POOL = op(
    "MaxPool(input: T) -> output: T",
    shape=_pooled,
    kernel=_largest,
    types=REALS - dtypes("uint32 uint64"),
    explicit_paddings=[],
    data_format=NHWC,
)
_AVG_POOL = op(
    "AvgPool(value: T) -> output: T",
    shape=_pooled,
    kernel=_mean,
    types=FLOATS,
    data_format=NHWC,
)
_MAX_POOL_3D, _AVG_POOL_3D = (
    op(
        f"{name}(input: T) -> output: T",
        shape=_pooled,
        kernel=kernel,
        types=_3D,
        data_format=NDHWC,
    )
    for name, kernel in (("MaxPool3D", _largest), ("AvgPool3D", _mean))
)


def max_pool1d(x: Any, size: int, *, strides: int | None = None, padding: str = "VALID") -> Any:
    """The largest element of each window; `strides` are the window's size if not given."""
    return _pool1d(max_pool2d, "dsave.ops.max_pool1d", x, size, strides, padding)


def max_pool2d(
    x: Any, size: Spatial, *, strides: Spatial | None = None, padding: str = "VALID"
) -> Any:
    """The largest element of each window; `strides` are the window's size if not given."""
    return _pool(_MAX_POOL, 2, "dsave.ops.max_pool2d", x, size, strides, padding)


def max_pool3d(
    x: Any, size: Spatial, *, strides: Spatial | None = None, padding: str = "VALID"
) -> Any:
    """The largest element of each window; `strides` are the window's size if not given."""
    return _pool(_MAX_POOL_3D, 3, "dsave.ops.max_pool3d", x, size, strides, padding)


def avg_pool1d(x: Any, size: int, *, strides: int | None = None, padding: str = "VALID") -> Any:
    """The mean of each window; `strides` are the window's size if not given."""
    return _pool1d(avg_pool2d, "dsave.ops.avg_pool1d", x, size, strides, padding)


def avg_pool2d(
    x: Any, size: Spatial, *, strides: Spatial | None = None, padding: str = "VALID"
) -> Any:
    """The mean of each window; `strides` are the window's size if not given."""
    return _pool(_AVG_POOL, 2, "dsave.ops.avg_pool2d", x, size, strides, padding)


def avg_pool3d(
    x: Any, size: Spatial, *, strides: Spatial | None = None, padding: str = "VALID"
) -> Any:
    """The mean of each window; `strides` are the window's size if not given."""
    return _pool(_AVG_POOL_3D, 3, "dsave.ops.avg_pool3d", x, size, strides, padding)


def _pool(
    op: Op, axes: int, name: str, x: Any, size: Spatial, strides: Spatial | None, padding: str
) -> Any:
    sizes = windows.spatial(size, axes, name)
    steps = windows.spatial(size if strides is None else strides, axes, name)
    x = windows.image(x, axes, name)
    if axes == 3:
        x = windows.trimmed(x, sizes[1:-1], steps, padding)
    dtype = x.dtype
    # TensorFlow adds up half floats in their dtype.
    x = windows.summed(x) if op in {_AVG_POOL, _AVG_POOL_3D} else x
    found = apply(op, x, ksize=sizes, strides=steps, **windows.padding(str(padding), name))
    return cast(found, dtype)


def _pool1d(
    pool2d: Callable[..., Any], name: str, x: Any, size: int, strides: int | None, padding: str
) -> Any:
    flat = np.expand_dims(windows.image(x, 1, name), 1)
    step = size if strides is None else strides
    return np.squeeze(pool2d(flat, (1, size), strides=(1, step), padding=padding), 1)


OPS: tuple[Op, ...] = (_MAX_POOL, _AVG_POOL, _MAX_POOL_3D, _AVG_POOL_3D)

FACES: dict[Callable[..., Any], Face] = {}
