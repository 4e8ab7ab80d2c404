"""Ops that the table does not have, by those that it has, and by numpy.

Most are arithmetic on arrays as on tensors, where what they are made of is recorded. The shape
of some depends on values: those are computed on arrays only.
"""

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from dsave.functions.call import call
from dsave.functions.graph import TensorSpec
from dsave.functions.table.gathering import take
from dsave.functions.table.layers import elu, leaky_relu
from dsave.functions.table.shapes import shape
from dsave.model.dtype import dtype_of

Attrs = Mapping[str, Any]

_LEAK = float(np.float32(0.2))  # as attributes are
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _like(x: Any, number: float) -> Any:
    """A number in the dtype of x: with some, numpy would not let Python's adapt to it."""
    return np.asarray(number, x.dtype)


def _add_all(_: Attrs, *values: Any) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _biased(attrs: Attrs, value: Any, bias: Any) -> Any:
    if attrs.get("data_format") == b"NCHW":
        bias = bias.reshape(-1, *[1] * (value.ndim - 2))
    return value + bias


def _sliced(_: Attrs, value: Any, begin: Any, size: Any) -> Any:
    return value[
        tuple(
            slice(start, None if length < 0 else start + length)
            for start, length in zip(begin.tolist(), size.tolist(), strict=True)
        )
    ]


def _truncated(_: Attrs, x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return x / y
    is_above = np.logical_and(x % y != 0, (x < 0) != (y < 0))
    return x // y + is_above.astype(x.dtype)


def _without_nan(_: Attrs, x: Any, y: Any) -> Any:
    return np.where(y == 0, _like(x, 0), x / np.where(y == 0, _like(y, 1), y))


def _selected(_: Attrs, condition: Any, x: Any, y: Any) -> Any:
    if condition.ndim == 1 and x.ndim > 1:  # it chooses rows
        condition = condition.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(condition, x, y)


def _multiplied(attrs: Attrs, x: Any, y: Any) -> Any:
    adjoint = {key: attrs[key] for key in ("adj_x", "adj_y") if key in attrs}
    return call("BatchMatMulV2", [x, y], adjoint)


def _size(attrs: Attrs, x: Any) -> Any:
    return np.prod(shape(x)).astype(dtype_of(attrs.get("out_type", "int32")).numpy)


def _cut(_: Attrs, x: Any, sizes: Any, axis: Any) -> list[Any]:
    known, place = sizes.tolist(), int(axis)
    rest = x.shape[place] - sum(size for size in known if size >= 0)
    ends = itertools.accumulate(rest if size < 0 else size for size in known)
    return list(np.split(x, list(ends)[:-1], place))


def _ensured(attrs: Attrs, x: Any) -> Any:
    wanted = attrs.get("shape")  # None: not even its rank is known
    if wanted is not None and None not in x.shape and not TensorSpec(wanted).accepts(x.shape):
        raise ValueError(f"the shape {list(wanted)} is wanted, got {list(x.shape)}")
    return x


def _counted(attrs: Attrs, x: Any, size: Any, weights: Any) -> Any:
    """How often each number below `size` is in x, or in each row of it."""
    rows = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(1, -1)
    counts = np.zeros((len(rows), int(size)), weights.dtype)
    inside = (rows >= 0) & (rows < size)
    places = np.nonzero(inside)[0], rows[inside]
    if attrs.get("binary_output"):
        counts[places] = 1
    else:
        np.add.at(counts, places, weights.reshape(rows.shape)[inside] if weights.size else 1)
    return counts if x.ndim > 1 else counts[0]


COMPOSED: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "Add": _add_all,
        "AddN": _add_all,
        "BatchMatMul": _multiplied,
        "BatchMatMulV3": _multiplied,
        "BiasAdd": _biased,
        "Bucketize": lambda attrs, x: np.searchsorted(
            np.array(attrs.get("boundaries", ()), np.float32), x, "right"
        ).astype(np.int32),
        "ClipByValue": lambda _, x, low, high: np.minimum(np.maximum(x, low), high),
        "DenseBincount": _counted,
        "Div": _truncated,
        "DivNoNan": _without_nan,
        "Elu": lambda _, x: elu(x),
        "EnsureShape": _ensured,
        "Erfc": lambda _, x: 1 - call("Erf", [x]),
        "Gather": lambda _, x, rows: take(x, rows, 0),
        "LeakyRelu": lambda attrs, x: leaky_relu(x, attrs.get("alpha", _LEAK)),
        "MulNoNan": lambda _, x, y: np.where(y == 0, _like(x, 0), x * y),
        "Pad": lambda _, x, pads: call("PadV2", [x, pads, _like(x, 0)]),
        "Rank": lambda _, x: np.array(x.ndim, np.int32),
        "Relu6": lambda _, x: np.minimum(np.maximum(x, 0), 6),
        "ResourceGather": lambda _, x, rows: take(x, rows, 0),
        "ResourceGatherNd": lambda _, x, places: call("GatherNd", [x, places]),
        "Rint": lambda _, x: np.rint(x),
        "Rsqrt": lambda _, x: np.reciprocal(np.sqrt(x)),
        "Select": _selected,
        "Selu": lambda _, x: elu(x, _SELU_ALPHA) * _like(x, _SELU_SCALE),
        "Size": _size,
        "Slice": _sliced,
        "Softsign": lambda _, x: x / (1 + np.abs(x)),
        "SplitV": _cut,
        "SquaredDifference": lambda _, x, y: np.square(x - y),
        "TruncateDiv": _truncated,
        "VariableShape": lambda attrs, x: np.array(
            x.shape, dtype_of(attrs.get("out_type", "int32")).numpy
        ),
    }
)
"""From attributes and inputs to the one output, or to the list of them."""
