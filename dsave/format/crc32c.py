"""crc32c (Castagnoli), as TensorFlow computes, extends and masks it.

Computed by google-crc32c: Apache-2.0, 15 GB/s, and it drops the GIL. The crc32c wheel is a bit
faster (17 GB/s) but LGPL.

Masking: tensorflow/core/lib/hash/crc32c.h. A crc is stored masked, since it may lie among bytes
that get a crc of their own.
"""

from collections.abc import Callable
from functools import lru_cache

import google_crc32c
import numpy as np

from dsave.format.coding import Buffer

CHUNK_NBYTES = 1 << 20
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, the coefficient of 1 in the highest bit


def crc32c(buffer: Buffer, crc: int = 0) -> int:
    """The crc of the bytes that gave `crc` followed by `buffer`."""
    # google-crc32c takes bytes and arrays but no memoryview; this wraps one without a copy.
    extended: int = google_crc32c.extend(crc, np.frombuffer(buffer, np.uint8))
    return extended


def crc32c_told(buffer: Buffer, told: Callable[[int], object]) -> int:
    """The crc of the bytes; `told` hears how many are done, again and again."""
    data, crc = np.frombuffer(buffer, np.uint8), 0
    for start in range(0, len(data), CHUNK_NBYTES):
        chunk = data[start : start + CHUNK_NBYTES]
        crc = google_crc32c.extend(crc, chunk)
        told(len(chunk))
    return crc


def mask(crc: int) -> int:
    """The form in which a crc is stored."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The crc that is stored as `masked`."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def joined(crc: int, following: int, nbytes: int) -> int:
    """The crc of bytes with `crc`, and after them `nbytes` bytes that alone have `following`.

    So what several hosts read in parts has the crc of the whole. A crc is the remainder of a
    polynomial over GF(2), and `nbytes` more bytes multiply the first one by x^(8 nbytes).
    """
    return _product(_power(8 * nbytes), crc) ^ following


@lru_cache(maxsize=1024)
def _power(exponent: int) -> int:
    """x^exponent modulo the polynomial. The highest bit is the coefficient of 1."""
    result, square = 1 << 31, 1 << 30
    while exponent:
        if exponent & 1:
            result = _product(result, square)
        square = _product(square, square)
        exponent >>= 1
    return result


def _product(first: int, second: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return product
