"""crc32c (Castagnoli), as TensorFlow computes, extends and masks it.

Computed by google-crc32c: Apache-2.0, 15 GB/s, and it drops the GIL. The crc32c wheel is a bit
faster (17 GB/s) but LGPL.

Masking: tensorflow/core/lib/hash/crc32c.h. A crc is stored masked, since it may lie among bytes
that get a crc of their own.
"""

import google_crc32c
import numpy as np

from dsave.format.coding import Buffer

_MASK_DELTA = 0xA282EAD8


def crc32c(buffer: Buffer, crc: int = 0) -> int:
    """The crc of the bytes that gave `crc` followed by `buffer`."""
    # google-crc32c takes bytes and arrays but no memoryview; this wraps one without a copy.
    extended: int = google_crc32c.extend(crc, np.frombuffer(buffer, np.uint8))
    return extended


def mask(crc: int) -> int:
    """The form in which a crc is stored."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The crc that is stored as `masked`."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
