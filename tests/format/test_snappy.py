"""Reading snappy blocks.

- literals of every width, and copies of every kind, also into what they make
- blocks that are cut, that lie about their length or copy from before the beginning are refused
- nothing is made beyond the length that the block declares, and that length is bounded
"""

import pytest

from dsave.format.coding import varint
from dsave.format.snappy import decode_snappy


@pytest.mark.parametrize(
    ("block", "output"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x3d\xf0\x3c" + b"x" * 61, b"x" * 61),
        (varint(300) + b"\xf4" + (299).to_bytes(2, "little") + b"x" * 300, b"x" * 300),
        (varint(300) + b"\xf8" + (299).to_bytes(3, "little") + b"x" * 300, b"x" * 300),
        (varint(300) + b"\xfc" + (299).to_bytes(4, "little") + b"x" * 300, b"x" * 300),
        (b"\x07\x08abc\x01\x03", b"abcabca"),
        (b"\x06\x08abc\x0a\x03\x00", b"abcabc"),
        (b"\x06\x08abc\x0b\x03\x00\x00\x00", b"abcabc"),
        (b"\x41\x00a\xfe\x01\x00", b"a" * 65),
        (varint(304) + b"\xf4\x2b\x01" + bytes(300) + b"\x21\x2c", bytes(304)),
    ],
    ids=[
        "empty", "literal", "literal 1", "literal 2", "literal 3", "literal 4",
        "copy 1", "copy 2", "copy 4", "run", "copy 1 from afar",
    ],
)  # fmt: skip
def test_blocks_have_known_outputs(block, output):
    assert decode_snappy(block) == output


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (b"", "no varint"),
        (b"\xff\xff\xff\xff\x7f", "5 compressed bytes cannot hold"),
        (b"\x04\x08abc", "3 bytes came out of it, it promises 4"),
        (b"\x02\x08abc", "a literal of 3 bytes at byte 2 does not fit"),
        (b"\x03\x08ab", "a literal of 3 bytes at byte 2 does not fit"),
        (b"\x03\xf0", "does not fit"),
        (b"\x06\x08abc\x0a\x04\x00", "a copy of 3 bytes from 4 back does not fit"),
        (b"\x06\x08abc\x0a\x00\x00", "a copy of 3 bytes from 0 back does not fit"),
        (b"\x05\x08abc\x0a\x03\x00", "a copy of 3 bytes from 3 back does not fit"),
        (b"\x06\x08abc\x0a\x03", "a copy of 3 bytes from 3 back does not fit"),
    ],
)
def test_blocks_that_lie_are_refused(block, problem):
    with pytest.raises(ValueError, match=problem):
        decode_snappy(block)
