"""Functions of neural networks that are made of other ops."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dsave.functions.op import Op
from dsave.functions.operands import Value
from dsave.functions.table.casts import cast
from dsave.functions.table.nn import erf, floating, sigmoid
from dsave.functions.table.rules import normal_axes
from dsave.functions.tensor import Face

_quiet = np.errstate(all="ignore")
"""On arrays too nothing is said of overflow, as kernels do not."""


@_quiet
def gelu(x: Any, *, approximate: bool = False) -> Any:
    """X times the normal distribution at x; approximate: by tanh."""
    x = floating(x)

    def number(value: float) -> Value:
        return cast(value, x.dtype)

    if approximate:
        cubic = x + number(0.044715) * x * x * x
        inner = np.tanh(number(math.sqrt(2 / math.pi)) * cubic)
    else:
        inner = erf(x * number(math.sqrt(0.5)))
    return number(0.5) * x * (number(1.0) + inner)


@_quiet
def silu(x: Any) -> Any:
    """X times its sigmoid; also called swish."""
    x = floating(x)
    return x * sigmoid(x)


@_quiet
def leaky_relu(x: Any, alpha: float = 0.2) -> Any:
    """X where it is positive, elsewhere alpha times x."""
    x = floating(x)
    return np.where(x > 0, x, cast(float(alpha), x.dtype) * x)


@_quiet
def elu(x: Any, alpha: float = 1.0) -> Any:
    """X where it is positive, elsewhere alpha times (exp(x) - 1)."""
    x = floating(x)
    below = np.expm1(np.minimum(x, cast(0.0, x.dtype)))
    return np.where(x > 0, x, cast(float(alpha), x.dtype) * below)


@_quiet
def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The logarithm of the sum of exp(x) along axes, or of all, computed without overflow."""
    x = floating(x)
    axes = normal_axes(axis, x.ndim, "dsave.ops.logsumexp")
    highest = np.max(x, axes, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, cast(0.0, x.dtype))
    total = np.log(np.sum(np.exp(x - highest), axes, keepdims=True)) + highest
    return total if keepdims else np.squeeze(total, axes)


@_quiet
def layer_norm(
    x: Any, scale: Any = None, offset: Any = None, *, axis: Any = -1, epsilon: float = 1e-5
) -> Any:
    """X less its mean, divided by its deviation; then times a scale, plus an offset.

    Of half floats mean and deviation are taken in float32.
    """
    x = floating(x)
    wide = cast(x, np.float32) if x.dtype.itemsize < 4 else x
    axes = normal_axes(axis, x.ndim, "dsave.ops.layer_norm")
    centred = wide - np.mean(wide, axes, keepdims=True)
    variance = np.mean(np.square(centred), axes, keepdims=True)
    result = cast(centred / np.sqrt(variance + cast(float(epsilon), wide.dtype)), x.dtype)
    result = result if scale is None else result * scale
    return result if offset is None else result + offset


OPS: tuple[Op, ...] = ()

FACES: dict[Callable[..., Any], Face] = {}
