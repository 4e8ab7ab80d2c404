"""Hand the value of a sync-on-read sum back to its replicas, so that nothing is lost or added.

Each replica gets the value divided by their number, as in TensorFlow
(tensorflow/python/distribute/values_util.py). Where such shares do not add up to the value
again, in the order and the dtype in which `aggregated` adds, the first replicas make up for it:
the remainder of an integer goes to them one each, and what a float lost by rounding to the
first one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsave.model.variable import Aggregation, aggregated

Array = NDArray[Any]

_ROUNDS = 3
"""How often a rounding error is made up for, before an element is left to the first replica."""


def shares(value: Array, count: int) -> list[Array]:
    """`count` arrays of the value's dtype and shape whose sum is the value."""
    if count == 1:
        return [value]
    flat = value.reshape(-1)
    if value.dtype.kind == "c":  # its parts are added on their own, so they are divided so
        parts = _floats(flat.view(flat.real.dtype), count)
    elif value.dtype.kind in "iu" or "int" in value.dtype.name:  # ml_dtypes' are of kind V
        parts = _integers(flat, count)
    else:
        parts = _floats(flat, count)
    return [part.view(value.dtype).reshape(value.shape) for part in parts]


def _integers(value: Array, count: int) -> list[Array]:
    wide = value if value.dtype.kind == "u" else value.astype(np.int64)
    wide = wide.astype(np.uint64) if wide.dtype.kind == "u" else wide
    divisor = wide.dtype.type(count)
    quotient, rest = np.divmod(wide, divisor)
    if wide.dtype.kind == "i":  # towards zero, as TensorFlow casts the quotient
        down = (wide < 0) & (rest != 0)
        quotient, rest = quotient + down, np.where(down, rest - divisor, rest)
    return [
        np.asarray(quotient + np.sign(rest) * (np.abs(rest) > index)).astype(value.dtype)
        for index in range(count)
    ]


def _floats(value: Array, count: int) -> list[Array]:
    with np.errstate(all="ignore"):
        each = np.asarray(value / value.dtype.type(count), value.dtype)
        first = each
        for _ in range(_ROUNDS):
            total = aggregated(Aggregation.SUM, [first, *[each] * (count - 1)])
            wrong = (total != value) & (value == value)  # noqa: PLR0124 - not a NaN
            if not wrong.any():
                break
            first = np.where(wrong, first + (value - total), first)
        total = aggregated(Aggregation.SUM, [first, *[each] * (count - 1)])
        wrong = (total != value) & (value == value)  # noqa: PLR0124
    none = np.zeros_like(value)
    return [np.where(wrong, value, first), *[np.where(wrong, none, each)] * (count - 1)]
