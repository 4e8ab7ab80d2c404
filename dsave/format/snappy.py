"""Reading one snappy block, which is how another writer may have compressed an index.

    stream  = varint length of the output, then elements
    element = tag byte; its low two bits:
        00  literal: length - 1 in the upper six bits, or (60..63) in the 1..4 bytes that follow
        01  copy of 4..11 bytes (three bits) from 11 bits back: three in the tag, one byte
        10  copy of 1..64 bytes (upper six bits) from two bytes back
        11  copy of 1..64 bytes (upper six bits) from four bytes back

Source: snappy's format_description.txt.
"""

from dsave.format.coding import read_varint

_MAX_RATIO = 22  # the densest element makes 64 bytes from three


def decode_snappy(block: bytes) -> bytes:
    """The uncompressed bytes.

    Raises:
        ValueError: this is no snappy block, or not all of one.
    """
    length, position = read_varint(block, 0)
    if length > _MAX_RATIO * len(block):
        raise ValueError(f"{len(block)} compressed bytes cannot hold {length}")
    output = bytearray()
    while position < len(block):
        tag = block[position]
        position += 1
        if tag & 3 == 0:
            count = tag >> 2
            if count >= 60:
                width = count - 59
                count = int.from_bytes(block[position : position + width], "little")
                position += width
            count += 1
            if position + count > len(block) or len(output) + count > length:
                raise ValueError(f"a literal of {count} bytes at byte {position} does not fit")
            output += block[position : position + count]
            position += count
            continue
        if tag & 3 == 1:
            count, width, high = 4 + (tag >> 2 & 7), 1, tag >> 5 << 8
        else:
            count, width, high = 1 + (tag >> 2), 2 if tag & 3 == 2 else 4, 0
        offset = high + int.from_bytes(block[position : position + width], "little")
        position += width
        if (
            position > len(block)
            or not 0 < offset <= len(output)
            or len(output) + count > length
        ):
            raise ValueError(f"a copy of {count} bytes from {offset} back does not fit")
        start = len(output) - offset
        # A copy may run into the bytes that it makes: then it repeats them.
        run = output[start : start + count]
        output += (run * (count // offset + 1))[:count]
    if len(output) != length:
        raise ValueError(f"{len(output)} bytes came out of it, it promises {length}")
    return bytes(output)
