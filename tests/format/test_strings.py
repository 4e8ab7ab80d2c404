"""String tensors as bytes.

- what is encoded decodes to the same bytes, str as UTF-8, whatever the lengths
- an empty tensor is its checksum alone
- what is neither bytes nor str is refused
- no payload that was cut, grown or changed decodes, and none allocates what it only promises
"""

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.errors import CorruptionError, DtypeError
from dsave.format.crc32c import crc32c, mask
from dsave.format.strings import _lengths_crc, decode_strings, encode_strings

LENGTHS = st.one_of(st.integers(0, 3), st.sampled_from([127, 128, 300, 16383, 16384]))


def objects(strings):
    array = np.empty(len(strings), np.object_)
    array[:] = strings
    return array


def decoded(encoded, shape, payload=None):
    payload = encoded.payload if payload is None else payload
    return decode_strings(payload, shape, "file", "key", crc=encoded.crc32c)


@given(st.lists(LENGTHS, max_size=5), st.binary(min_size=1, max_size=2))
def test_strings_of_any_length_come_back(lengths, pattern):
    strings = [(pattern * length)[:length] for length in lengths]
    array = decoded(encode_strings(objects(strings)), (len(strings),))
    assert array.tolist() == strings
    assert not array.flags.writeable


def test_the_bytes_are_lengths_their_checksum_and_the_strings():
    lengths_crc = crc32c(bytes([2, 0, 0, 0, 0, 0, 0, 0]))
    stored = mask(lengths_crc).to_bytes(4, "little")
    encoded = encode_strings(objects([b"ab", b""]))
    assert encoded.payload == b"\x02\x00" + stored + b"ab"
    assert encoded.crc32c == crc32c(b"ab", crc32c(stored, lengths_crc))


def test_lengths_beyond_32_bits_count_with_all_their_bytes():
    lengths = np.array([1, 1 << 32, (1 << 32) - 1], np.uint64)
    counted = b"\1\0\0\0" + b"\0\0\0\0\1\0\0\0" + b"\xff\xff\xff\xff"
    assert _lengths_crc(lengths, "<") == google_crc32c.value(counted)
    counted = b"\0\0\0\1" + b"\0\0\0\1\0\0\0\0" + b"\xff\xff\xff\xff"
    assert _lengths_crc(lengths, ">") == google_crc32c.value(counted)


def test_an_empty_tensor_is_its_checksum_alone():
    encoded = encode_strings(np.empty((0, 3), np.object_))
    assert encoded.payload == 0xA282EAD8.to_bytes(4, "little")
    assert decoded(encoded, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    "array",
    [
        objects(["é", b"\x00b\x00"]),
        np.array(["é", "xyz"]),
        np.array([b"ab", b"c"]),
        np.array([["é"], ["y"]]).T,
        np.array("é"),
    ],
    ids=["object", "U", "S", "transposed", "scalar"],
)
def test_every_kind_of_string_array_is_taken_in_row_major_order(array):
    wanted = [e.encode() if isinstance(e, str) else e for e in array.ravel().tolist()]
    back = decoded(encode_strings(array), array.shape)
    assert back.shape == array.shape
    assert back.ravel().tolist() == wanted


@pytest.mark.parametrize("element", [None, 3, [b"a"], "\ud800", memoryview(np.zeros(2))])
def test_what_is_neither_bytes_nor_text_is_refused(element):
    with pytest.raises(DtypeError, match="each element is a bytes or a str"):
        encode_strings(objects([b"a", element]))


@pytest.mark.parametrize(
    "strings", [[b"ab", b"", b"c"], [b"x" * 200, b"y"]], ids=["short", "long"]
)
def test_no_changed_byte_goes_unnoticed(strings):
    encoded = encode_strings(objects(strings))
    for position in range(len(encoded.payload)):
        for flip in (0x01, 0x80, 0xFF):
            payload = bytearray(encoded.payload)
            payload[position] ^= flip
            with pytest.raises(CorruptionError, match=r"^file, entry 'key': "):
                decoded(encoded, (len(strings),), payload)


@pytest.mark.parametrize(
    "strings", [[b"ab", b"", b"c"], [b"x" * 200, b"y"]], ids=["short", "long"]
)
def test_no_payload_that_is_cut_or_grown_decodes(strings):
    encoded = encode_strings(objects(strings))
    for stop in range(len(encoded.payload)):
        with pytest.raises(CorruptionError):
            decoded(encoded, (len(strings),), encoded.payload[:stop])
    with pytest.raises(CorruptionError):
        decoded(encoded, (len(strings),), encoded.payload + b"\x00")


@pytest.mark.parametrize(
    ("payload", "count", "problem"),
    [
        (bytes(8), 2**40, "1099511627776 strings need at least 1099511627780 bytes, it has 8"),
        (b"\xff" * 20, 1, "it ends after the lengths of 0 strings"),
        (b"\xff" * 9 + b"\x01" + bytes(4), 1, "it ends after the lengths of 0 strings"),
        (b"\x80" * 9 + bytes(20), 2, "the length of one of its strings is no varint"),
        (b"\xff" * 8 + b"\x7f" + bytes(4), 1, "its strings have 9223372036854775807 bytes"),
        (
            b"\xff" * 8 + b"\x7f" + b"\xff" * 8 + b"\x7f\x02" + bytes(4),
            3,
            "bytes, stored are 0",
        ),
    ],
    ids=["count", "endless", "ten bytes", "ten bytes of zero", "huge", "sum that wraps"],
)
def test_lengths_that_lie_are_refused_before_anything_is_allocated(payload, count, problem):
    with pytest.raises(CorruptionError, match=problem):
        decode_strings(payload, (count,), "file", "key")


def test_without_a_crc_only_the_lengths_are_checked():
    payload = encode_strings(objects([b"ab"])).payload[:-1] + b"X"
    assert decode_strings(payload, (1,), "file", "key").tolist() == [b"aX"]
