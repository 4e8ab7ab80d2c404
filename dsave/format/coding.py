"""Integers and keys as bytes: varints, fixed32, and the ordered code of slice keys.

Varints are LEB128, low group first. The ordered code sorts as bytes the way its values sort
(tensorflow/core/lib/strings/ordered_code.cc):

    num     one byte n, then n big-endian bytes without leading zeros
    string  00 -> 00 ff, ff -> ff 00, other bytes as they are, then the end 00 01
    signed  n bytes for |x| < 2**(7n - 1): a header of n ones laid over the sign-extended value
"""

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes. An array is passed as the `data` of its `view(numpy.uint8)`."""

_MAX_VARINT_BYTES = 10

_SIGNED_HEADERS = (
    (2, 0xC000), (3, 0xE000), (4, 0xF000), (5, 0xF800), (6, 0xFC00),
    (7, 0xFE00), (8, 0xFF00), (9, 0xFF80), (10, 0xFFC0),
)  # fmt: skip
_SIGNED_HEADER = dict(_SIGNED_HEADERS)


def varint(value: int) -> bytes:
    """An unsigned integer as a varint."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position`, and the position after it.

    Raises:
        ValueError: `data` ends inside it, or it is longer than 64 bits.
    """
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + index + 1
    raise ValueError(f"no varint of at most 64 bits at byte {position}")


def fixed32(value: int) -> bytes:
    """An unsigned integer below 2**32 as four bytes, the low one first."""
    return value.to_bytes(4, "little")


def ordered_num(value: int) -> bytes:
    """An unsigned integer in the ordered code."""
    nbytes = (value.bit_length() + 7) // 8
    return bytes((nbytes,)) + value.to_bytes(nbytes, "big")


def ordered_string(value: bytes) -> bytes:
    """A byte string in the ordered code, end mark included."""
    parts = [part.replace(b"\xff", b"\xff\x00") for part in value.split(b"\x00")]
    return b"\x00\xff".join(parts) + b"\x00\x01"


def ordered_signed(value: int) -> bytes:
    """A signed 64-bit integer in the ordered code."""
    magnitude = value if value >= 0 else ~value
    nbytes = magnitude.bit_length() // 7 + 1
    if nbytes == 1:
        return bytes((0x80 ^ value & 0xFF,))
    encoded = value.to_bytes(nbytes, "big", signed=True)
    header = _SIGNED_HEADER[nbytes] ^ int.from_bytes(encoded[:2], "big")
    return header.to_bytes(2, "big") + encoded[2:]
