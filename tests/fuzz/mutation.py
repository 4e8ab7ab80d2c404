"""Changes that make a hostile file of a good one, each decided by a `random.Random`.

A protobuf is changed field by field, so that it can still be parsed and more of what reads it
is reached. An index gets its checksums anew for the same reason.
"""

import contextlib

from google.protobuf.message import DecodeError

from dsave.format.coding import read_varint
from dsave.format.crc32c import crc32c, mask
from dsave.format.table import TableBuilder, read_table
from dsave.proto.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

_NUMBERS = (
    *(0, 1, -1, 2, 127, 128, 255, 1 << 16, 1 << 20, 1 << 24, 1 << 28, (1 << 31) - 1, 1 << 40),
    *(-(1 << 31), -(1 << 63)),
)
_TEXTS = ("", "..", "/", "../../etc/passwd", "a" * 300, "\0", "signatures", "_components", "0")
_FOOTER_NBYTES = 48


def changed_bytes(data, rng):
    """The bytes with some of them changed, removed, doubled or swapped."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(data))
        stop = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 300)))
        match rng.randrange(6):
            case 0:
                data[start:stop] = rng.randbytes(stop - start)
            case 1:
                del data[start:stop]
            case 2:
                data[start:start] = data[start:stop] * rng.choice((1, 2, 50))
            case 3:
                data[start:stop] = rng.choice(
                    (b"\xff" * 9 + b"\1", b"\0" * 8, b"\x80", b"\x7f")
                )
            case 4:
                del data[start:]
            case _ if start < len(data):
                data[start] ^= 1 << rng.randrange(8)
    return bytes(data)


def changed_message(message, rng):
    """Change some fields of a protobuf, at any depth."""
    for _ in range(rng.randint(1, 4)):
        _change_field(_some_message(message, rng), rng)


def _some_message(message, rng):
    while True:
        below = [
            (field, value)
            for field, value in message.ListFields()
            if field.message_type is not None
        ]
        if not below or rng.random() < 0.15:
            return message
        field, value = rng.choice(below)
        if _is_map(field):
            if field.message_type.fields_by_name["value"].message_type is None:
                return message
            message = value[rng.choice(sorted(value))]
        else:
            message = rng.choice(value) if field.is_repeated else value


def _is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _change_field(message, rng):
    if not message.DESCRIPTOR.fields:
        return
    field = rng.choice(message.DESCRIPTOR.fields)
    name = field.name
    if rng.random() < 0.2 or _is_map(field):
        message.ClearField(name)
        return
    if field.is_repeated:
        _change_repeated(getattr(message, name), field, rng)
    elif field.message_type is not None:
        getattr(message, name).SetInParent()
    else:
        setattr(message, name, _value(field, rng, getattr(message, name)))


def _change_repeated(values, field, rng):
    match rng.randrange(4):
        case 0 if len(values):
            del values[rng.randrange(len(values))]
        case 1 if len(values):
            kept = list(values)
            rng.shuffle(kept)
            del values[:]
            values.extend(kept)
        case 2 if len(values):
            values.extend(list(values) * rng.choice((1, 3)))
        case _ if field.message_type is not None:
            values.add()
        case _:
            values.append(_value(field, rng, None))


def _value(field, rng, present):
    kinds = field.CPPTYPE_STRING, field.CPPTYPE_BOOL, field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT
    if field.cpp_type == kinds[0]:
        text = rng.choice(_TEXTS)
        if field.type != field.TYPE_BYTES:
            return text
        return rng.choice((text.encode(), changed_bytes(present or b"", rng)))
    if field.cpp_type == kinds[1]:
        return rng.random() < 0.5
    if field.cpp_type in kinds[2:]:
        return rng.choice((0.0, -1.0, float("inf"), float("nan"), 1e300))
    number = rng.choice((*_NUMBERS, rng.randint(-5, 70)))
    bits = 32 if field.cpp_type not in {field.CPPTYPE_INT64, field.CPPTYPE_UINT64} else 64
    unsigned = field.cpp_type in {field.CPPTYPE_UINT32, field.CPPTYPE_UINT64}
    number &= (1 << bits) - 1
    return number if unsigned or number < 1 << (bits - 1) else number - (1 << bits)


def changed_index(index, rng):
    """An index whose table is right, and one or some of whose entries are not."""
    table = dict(read_table(index, "index"))
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(sorted(table))
        match rng.randrange(5):
            case 0:
                table[changed_bytes(key, rng)] = table[key]
            case 1:
                table[key] = changed_bytes(table[key], rng)
            case 2 if len(table) > 1:
                del table[key]
            case _:
                with contextlib.suppress(DecodeError):  # it was changed before
                    kind = BundleEntryProto if key else BundleHeaderProto
                    message = kind.FromString(table[key])
                    changed_message(message, rng)
                    table[key] = message.SerializeToString()
    builder = TableBuilder()
    for key in sorted(table):
        builder.add(key, table[key])
    return builder.finish()


def with_checksums(index):
    """An index, however damaged, whose blocks have the checksums that they should have."""
    data = bytearray(index)
    try:
        footer = bytes(data[-_FOOTER_NBYTES:])
        position, handles = 0, []
        for _ in range(2):
            offset, position = read_varint(footer, position)
            nbytes, position = read_varint(footer, position)
            handles.append((offset, nbytes))
        offset, nbytes = handles[1]
        handles += _handles(bytes(data[offset : offset + nbytes]))
        for offset, nbytes in handles:
            stop = offset + nbytes
            if stop + 5 <= len(data):
                crc = mask(crc32c(bytes(data[offset : stop + 1])))
                data[stop + 1 : stop + 5] = crc.to_bytes(4, "little")
    except (ValueError, IndexError):
        pass  # so damaged that it has no blocks
    return bytes(data)


def _handles(block):
    """The handles in an index block, in which no key is shared."""
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    position = 0
    while 0 <= position < end:
        _, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        nbytes, position = read_varint(block, position)
        value = block[position + unshared : position + unshared + nbytes]
        position += unshared + nbytes
        offset, after = read_varint(value, 0)
        yield offset, read_varint(value, after)[0]
