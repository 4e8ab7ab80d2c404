"""String tensors as bytes.

    for each element, in row-major order: varint64 length
    fixed32 masked crc32c of the lengths, each as uint32, or as uint64 if it needs more
    the bytes of all elements

The crc of the entry is not that of these bytes: it goes over the lengths as above, then the
four bytes of the masked crc, then the elements. In a big-endian bundle the lengths under the
crc and the four bytes are big-endian.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, WriteStringTensor.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsave.errors import CorruptionError, DtypeError
from dsave.format.coding import Buffer
from dsave.format.crc32c import crc32c, mask, unmask

_UINT32_MAX = 0xFFFFFFFF
_MAX_VARINT_BYTES = 9  # a length has 63 bits


@dataclass(frozen=True, slots=True)
class EncodedStrings:
    """A string tensor as it is stored, and its entry's (unmasked) crc."""

    payload: bytes
    crc32c: int


StringArray = NDArray[np.object_] | NDArray[np.str_] | NDArray[np.bytes_]


def encode_strings(array: StringArray) -> EncodedStrings:
    """Encode the elements, str as UTF-8.

    Raises:
        DtypeError: an element is neither bytes nor str, or a str that is no Unicode text.
    """
    elements = array.ravel().tolist()
    try:
        encoded = [e.encode() if isinstance(e, str) else e for e in elements]
        lengths = np.fromiter(map(len, encoded), np.uint64, len(encoded))
        joined = b"".join(encoded)
    except (TypeError, UnicodeEncodeError) as error:
        raise DtypeError("string", f"each element is a bytes or a str: {error}") from None
    if _exact_sum(lengths) != len(joined):
        raise DtypeError(
            "string", "each element is a bytes or a str, not a buffer of other items"
        )
    lengths_crc = _lengths_crc(lengths, "<")
    checksum = mask(lengths_crc).to_bytes(4, "little")
    crc = crc32c(joined, crc32c(checksum, lengths_crc))
    return EncodedStrings(b"".join((_varints(lengths), checksum, joined)), crc)


def decode_strings(
    payload: Buffer,
    shape: tuple[int, ...],
    file: str,
    key: str,
    *,
    big_endian: bool = False,
    crc: int | None = None,
) -> NDArray[np.object_]:
    """The tensor as a read-only array of `bytes`, its lengths checked by their own checksum.

    `crc`: the entry's (unmasked), to be checked too; None: not checked.

    Raises:
        CorruptionError: lengths that do not fit the payload, or a checksum that does not match.
    """
    data = np.frombuffer(payload, np.uint8)
    count = int(np.prod(shape, dtype=object))
    if data.size < count + 4:
        raise CorruptionError(
            file, key, f"{count} strings need at least {count + 4} bytes, it has {data.size}"
        )
    lengths, position = _read_varints(data, count, file, key)
    stored = data[position : position + 4].tobytes()
    text = data[position + 4 :].tobytes()
    if len(stored) < 4 or _exact_sum(lengths) != len(text):
        raise CorruptionError(
            file, key, f"its strings have {_exact_sum(lengths)} bytes, stored are {len(text)}"
        )
    lengths_crc = _lengths_crc(lengths, ">" if big_endian else "<")
    if lengths_crc != unmask(int.from_bytes(stored, "big" if big_endian else "little")):
        raise CorruptionError(file, key, "the checksum of its string lengths does not match")
    if crc is not None and crc != crc32c(text, crc32c(stored, lengths_crc)):
        raise CorruptionError(file, key, "its checksum does not match")
    stops = np.cumsum(lengths, dtype=np.int64).tolist()
    strings = np.empty(count, np.object_)
    strings[:] = [
        text[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=bool(count))
    ]
    strings.flags.writeable = False
    return strings.reshape(shape)


def _varints(lengths: NDArray[np.uint64]) -> bytes:
    if not lengths.size or lengths.max() < 0x80:
        return lengths.astype(np.uint8).tobytes()
    shifts = np.arange(0, 7 * _MAX_VARINT_BYTES, 7, dtype=np.uint64)
    width = int(lengths.max()).bit_length() // 7 + 1
    rest = lengths[:, np.newaxis] >> shifts[:width]
    used = rest > 0
    used[:, 0] = True
    groups = (rest & np.uint64(0x7F)).astype(np.uint8)
    groups[:, :-1] |= used[:, 1:].view(np.uint8) << 7
    return groups[used].tobytes()


def _read_varints(
    data: NDArray[np.uint8], count: int, file: str, key: str
) -> tuple[NDArray[np.uint64], int]:
    """The first `count` varints and the position after them."""
    if (data[:count] < 0x80).all():
        return data[:count].astype(np.uint64), count
    head = data[: count * _MAX_VARINT_BYTES]
    ends = np.flatnonzero(head < 0x80)[:count]
    if ends.size < count:
        raise CorruptionError(file, key, f"it ends after the lengths of {ends.size} strings")
    starts = np.concatenate(([0], ends[:-1] + 1))
    widths = ends - starts + 1
    if widths.max() > _MAX_VARINT_BYTES:
        raise CorruptionError(file, key, "the length of one of its strings is no varint")
    lengths = np.zeros(count, np.uint64)
    for index in range(int(widths.max())):
        has = widths > index
        group = (head[starts[has] + index] & 0x7F).astype(np.uint64)
        lengths[has] |= group << np.uint64(7 * index)
    return lengths, int(ends[-1]) + 1


def _exact_sum(lengths: NDArray[np.uint64]) -> int:
    # In two halves, so that lengths that lie cannot wrap around to a sum that fits.
    low = int((lengths & np.uint64(_UINT32_MAX)).sum())
    return (int((lengths >> np.uint64(32)).sum()) << 32) + low


def _lengths_crc(lengths: NDArray[np.uint64], order: str) -> int:
    if not lengths.size or lengths.max() <= _UINT32_MAX:
        return crc32c(lengths.astype(f"{order}u4").data)
    crc = 0
    for length in lengths.tolist():
        width = 4 if length <= _UINT32_MAX else 8
        crc = crc32c(length.to_bytes(width, "little" if order == "<" else "big"), crc)
    return crc
