"""crc32c and its mask.

- the check value is Castagnoli's
- it takes every kind of buffer, and continues over the pieces of one, empty ones too
- crcs of parts, computed apart, join to that of the whole
- the mask is TensorFlow's, and undone by unmask
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.format.crc32c import crc32c, joined, mask, unmask

CHECK = 0xE3069283


@pytest.mark.parametrize(
    "buffer",
    [
        b"123456789",
        bytearray(b"123456789"),
        memoryview(b"0123456789")[1:],
        np.frombuffer(b"123456789", np.uint8),
        np.frombuffer(b"123456789", np.int8).reshape(3, 3).data,
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "matrix"],
)
def test_the_check_value_is_castagnolis_for_every_buffer(buffer):
    assert crc32c(buffer) == CHECK


@given(st.binary(max_size=40), st.integers(0, 40))
def test_it_continues_over_pieces(data, cut):
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


@pytest.mark.parametrize(
    "empty", [b"", bytearray(), memoryview(b""), np.empty(0, np.uint8).data]
)
def test_an_empty_buffer_changes_nothing(empty):
    assert crc32c(empty) == 0
    assert crc32c(empty, CHECK) == CHECK


def test_the_mask_of_nothing_is_the_constant():
    assert mask(0) == 0xA282EAD8


def test_the_mask_rotates_by_15_bits_and_adds_the_constant():
    assert mask(0x00008001) == 0xA284EAD9


@given(st.integers(0, 2**32 - 1))
def test_unmask_undoes_mask(crc):
    assert 0 <= mask(crc) < 2**32
    assert unmask(mask(crc)) == crc


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_crcs_of_parts_join_to_that_of_the_whole(parts):
    crc = 0
    for part in parts:
        crc = joined(crc, crc32c(part), len(part))
    assert crc == crc32c(b"".join(parts))


def test_crcs_of_large_parts_join():
    first, second = np.ones(1000, np.uint8), np.full((1 << 24) + 3, 7, np.uint8)
    joint = joined(crc32c(first), crc32c(second), second.nbytes)
    assert joint == crc32c(second, crc32c(first))
