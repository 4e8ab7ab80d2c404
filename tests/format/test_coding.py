"""Varints, fixed32 and the ordered code.

- a varint takes seven bits a byte, the low group first, and reads back
- a varint that is cut off or longer than 64 bits is refused
- the ordered code gives the bytes that TensorFlow gives, and sorts as its values do
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.format.coding import (
    fixed32,
    ordered_num,
    ordered_signed,
    ordered_string,
    read_varint,
    varint,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**64 - 1, "ffffffffffffffffff01")],
)
def test_varints_have_known_bytes(value, encoded):
    assert varint(value).hex() == encoded


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_varint_reads_back_from_the_middle_of_anything(value, before, after):
    data = before + varint(value) + after
    assert read_varint(data, len(before)) == (value, len(before) + len(varint(value)))


@pytest.mark.parametrize("encoded", ["", "80", "ffffffffffffffffff02", "80" * 10 + "01"])
def test_a_varint_that_is_cut_off_or_too_long_is_refused(encoded):
    with pytest.raises(ValueError, match="no varint of at most 64 bits at byte 0"):
        read_varint(bytes.fromhex(encoded), 0)


def test_fixed32_is_little_endian():
    assert fixed32(0x01020304).hex() == "04030201"


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "00"), (2, "0102"), (255, "01ff"), (256, "020100")]
)
def test_ordered_numbers_have_known_bytes(value, encoded):
    assert ordered_num(value).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(b"", "0001"), (b"w", "770001"), (b"\x00a\xff", "00ff61ff000001")],
)
def test_ordered_strings_have_known_bytes(value, encoded):
    assert ordered_string(value).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "80"),
        (2, "82"),
        (63, "bf"),
        (-1, "7f"),
        (-64, "40"),
        (64, "c040"),
        (-65, "3fbf"),
        (8191, "dfff"),
        (8192, "e02000"),
        (2**27, "f808000000"),
        (2**62 - 1, "ffbfffffffffffffff"),
        (2**62, "ffc04000000000000000"),
        (2**63 - 1, "ffc07fffffffffffffff"),
    ],
)
def test_ordered_signed_integers_have_known_bytes(value, encoded):
    assert ordered_signed(value).hex() == encoded


@given(st.lists(INT64, max_size=8))
def test_signed_integers_sort_as_their_codes(values):
    assert sorted(values, key=ordered_signed) == sorted(values)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8))
def test_numbers_sort_as_their_codes(values):
    assert sorted(values, key=ordered_num) == sorted(values)


@given(st.lists(st.binary(max_size=4), max_size=8))
def test_strings_sort_as_their_codes(values):
    assert sorted(values, key=ordered_string) == sorted(values)
