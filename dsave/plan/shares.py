"""Hand the value of a sync-on-read variable back to its replicas: nothing is lost or added.

Of a sum each replica gets the value divided by their number, of a mean the value, as in
TensorFlow (tensorflow/python/distribute/values_util.py). Where such shares are not worth the
value again, in the order and the dtype in which `aggregated` adds, some make up for it: the
remainder of an integer goes to the first ones, one each, what a float lost by rounding to the
last one.

A mean that the same number of replicas had is always had again. Of another number's some have
no shares: a third of the total of 3 floats is one float in four only if that has four times the
spacing. Then the mean is a neighbour of the value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsave.model.variable import Aggregation, aggregated

Array = NDArray[Any]


def shares(aggregation: Aggregation, value: Array, count: int) -> list[Array]:
    """`count` arrays of the value's dtype and shape that together are worth the value."""
    if count == 1 or aggregation not in {Aggregation.SUM, Aggregation.MEAN}:
        return [value] * count
    flat = value.reshape(-1)
    if value.dtype.kind in "iu" or "int" in value.dtype.name:  # ml_dtypes' are of kind V
        parts = _integers(flat, count)
    elif aggregation is Aggregation.SUM:
        parts = _floats(flat, None, count)
    else:
        parts = _of_mean(flat, count)
    return [part.reshape(value.shape) for part in parts]


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


def _of_mean(value: Array, count: int) -> list[Array]:
    with np.errstate(all="ignore"):
        equal = aggregated(Aggregation.MEAN, [value] * count) == value
        total = _total(value, count)
        equal |= ~np.isfinite(total)  # or too large: each has the value, and that is all
    return [np.where(equal, value, part) for part in _floats(total, value, count)]


def _total(value: Array, count: int) -> Array:
    """What divided by the count is the value, or as near to that as there is."""
    wanted = _real(value)
    total = np.asarray(wanted * wanted.dtype.type(count))

    def is_right(total: Array) -> Array:
        mean = aggregated(Aggregation.MEAN, [total.view(value.dtype), *zeros])
        return np.asarray(_real(mean) == wanted)

    zeros = [np.zeros_like(value)] * (count - 1)
    for way in (np.inf, -np.inf):
        near = np.nextafter(total, wanted.dtype.type(way))
        total = np.where(is_right(total) | ~is_right(near), total, near)
    return np.asarray(total).view(value.dtype)


def _real(value: Array) -> Array:
    """The parts of complex numbers, which are added on their own; others as they are."""
    return value.view(value.real.dtype) if value.dtype.kind == "c" else value


def _floats(value: Array, each: Array | None, count: int) -> list[Array]:
    """What adds up to the value; `each` is what the replicas are to have, if they can."""
    dtype, value = value.dtype, _real(value)
    with np.errstate(all="ignore"):
        if each is None:
            each = np.asarray(value / value.dtype.type(count), value.dtype)
        each = _real(each)
        others = aggregated(Aggregation.SUM, [each] * (count - 1))
        # The difference is exact: the others are worth more than half of the value, and less.
        last = np.where(others + each == value, each, value - others)
        wrong = (others + last != value) & (value == value)  # noqa: PLR0124 - not a NaN
    # Where a dtype is too coarse for so many replicas, the first has all of it.
    none = np.zeros_like(value)
    parts = [np.where(wrong, value, each), *[np.where(wrong, none, each)] * (count - 2)]
    return [part.view(dtype) for part in (*parts, np.where(wrong, none, last))]
