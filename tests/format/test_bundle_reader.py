"""Reading a bundle's index and its tensors.

- each changed byte of an index is an error, or changes nothing
- an index with good checksums that lies about versions, dtypes, shapes, sizes, places or slices
  is refused with the entry's name; what TensorFlow tolerates is read
- resource handles and variants are named, not refused
- a tensor is a read-only view of its bytes, and its checksum is checked
"""

import numpy as np
import pytest

from dsave.errors import CorruptionError
from dsave.format.bundle import Entry, build_index, slice_key
from dsave.format.bundle_reader import decode_tensor, read_index
from dsave.format.crc32c import crc32c, mask
from dsave.format.strings import encode_strings
from dsave.format.table import TableBuilder
from dsave.model.dtype import DTYPES, STRING, dtype_of
from dsave.model.slices import Box
from dsave.proto.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

FLOAT = dtype_of("float32")
HEADER = BundleHeaderProto(num_shards=2)


def entry_proto(*shape, dtype=1, size=None, slices=(), **fields):
    size = int(np.prod(shape, dtype=object)) * 4 if size is None else size
    proto = BundleEntryProto(dtype=dtype, size=size, **fields)
    for length in shape:
        proto.shape.dim.add(size=length)
    for extents in slices:
        added = proto.slices.add()
        for start, length in extents:
            extent = added.extent.add(start=start)
            if length >= 0:
                extent.length = length
    return proto


def index_of(entries, header=HEADER):
    builder = TableBuilder()
    everything = {b"": header, **entries}
    for key in sorted(everything):
        value = everything[key]
        builder.add(key, value if isinstance(value, bytes) else value.SerializeToString())
    return builder.finish()


def sliced(*pieces, shape=(4,), slices=None, **fields):
    """A tensor `x` and its pieces, each (extents, proto)."""
    extents = [extents for extents, _ in pieces] if slices is None else slices
    entries = {b"x": entry_proto(*shape, size=0, slices=extents, **fields)}
    for extents, proto in pieces:
        entries[slice_key(b"x", extents)] = proto
    return entries


def test_each_changed_byte_is_an_error_or_changes_nothing():
    entries = [
        Entry("a", FLOAT, (2, 3), 1, 40, 24, 7),
        Entry("b", FLOAT, (4,), 0, 0, 8, 8, Box((0,), (2,))),
        Entry("b", FLOAT, (4,), 1, 0, 8, 9, Box((2,), (2,))),
    ]
    built = build_index(entries, 2)
    whole = read_index(built, "index")
    for position in range(len(built)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(built)
            changed[position] ^= flip
            try:
                unchanged = read_index(changed, "index")
            except CorruptionError:
                continue
            assert unchanged == whole
            assert len(built) - 48 <= position < len(built) - 8


def test_an_index_that_was_cut_anywhere_is_an_error():
    built = build_index([Entry("a", FLOAT, (2, 3), 0, 0, 24, 7)], 1)
    for stop in range(len(built)):
        with pytest.raises(CorruptionError):
            read_index(built[:stop], "index")


def header(**fields):
    proto = BundleHeaderProto(num_shards=fields.pop("num_shards", 1))
    proto.endianness = fields.pop("endianness", 0)
    for name, value in fields.items():
        if isinstance(value, list):
            proto.version.bad_consumers.extend(value)
        else:
            setattr(proto.version, name, value)
    return proto


@pytest.mark.parametrize(
    "tolerated",
    [header(), header(producer=9), header(min_consumer=1), header(bad_consumers=[2])],
)
def test_versions_that_tensorflow_tolerates_are_read(tolerated):
    assert read_index(index_of({}, tolerated), "index").num_shards == 1


@pytest.mark.parametrize(
    ("lying", "problem"),
    [
        (header(min_consumer=2), "readers of version 1 of the format may not read it"),
        (header(bad_consumers=[3, 1]), "readers of version 1 of the format may not read it"),
        (header(num_shards=-1), "it claims -1 data files"),
        (header(endianness=2), "unknown endianness 2"),
        (b"\xff", "its header is no BundleHeaderProto"),
    ],
)
def test_headers_that_lie_or_come_later_are_refused(lying, problem):
    with pytest.raises(CorruptionError, match=f"^index: {problem}"):
        read_index(index_of({}, lying), "index")


def test_an_index_without_header_is_refused():
    builder = TableBuilder()
    builder.add(b"a", entry_proto(1).SerializeToString())
    for table in (builder.finish(), TableBuilder().finish()):
        with pytest.raises(CorruptionError, match="it has no header entry"):
            read_index(table, "index")


@pytest.mark.parametrize(
    ("proto", "problem"),
    [
        (b"\xff", "it is no BundleEntryProto"),
        (entry_proto(1, dtype=0), "no tensor can have the dtype number 0"),
        (entry_proto(1, dtype=34), "no tensor can have the dtype number 34"),
        (entry_proto(1, dtype=101), "no tensor can have the dtype number 101"),
        (entry_proto(-1, -1), r"no stored tensor has the shape \(-1, -1\)"),
        (entry_proto(*[1] * 65), "no stored tensor has the shape"),
        (entry_proto(2**31, 2**31, size=0), "a float32 tensor of shape .* is too large"),
        (entry_proto(2**62, 2**62, size=0), "a float32 tensor of shape .* is too large"),
        (entry_proto(0, 2**62, 2**62, size=0), "a float32 tensor of shape .* is too large"),
        (entry_proto(2, size=9), "it has 9 bytes, its shape needs 8"),
        (entry_proto(2, size=0), "it has 0 bytes, its shape needs 8"),
        (entry_proto(2, dtype=7, size=5), "2 strings cannot lie in 5 bytes"),
        (entry_proto(1, offset=-1), "4 bytes at byte -1 are in no file"),
        (
            entry_proto(1, offset=2**63 - 2),
            "4 bytes at byte 9223372036854775806 are in no file",
        ),
        (entry_proto(1, size=-4), "-4 bytes at byte 0 are in no file"),
        (entry_proto(1, shard_id=2), "it is in shard 2 of 2"),
        (entry_proto(1, shard_id=-1), "it is in shard -1 of 2"),
    ],
)
def test_entries_that_lie_are_refused_by_name(proto, problem):
    with pytest.raises(CorruptionError, match=f"^index, entry 'x': {problem}"):
        read_index(index_of({b"x": proto}), "index")


def test_an_unknown_rank_is_refused():
    proto = entry_proto(size=4)
    proto.shape.unknown_rank = True
    with pytest.raises(CorruptionError, match="no stored tensor has the shape"):
        read_index(index_of({b"x": proto}), "index")


def test_a_key_that_is_not_utf8_is_refused():
    with pytest.raises(CorruptionError, match="its key is not UTF-8"):
        read_index(index_of({b"\xff": entry_proto(1)}), "index")


def test_resources_and_variants_are_named_and_not_refused():
    entries = {
        b"a": entry_proto(1, dtype=20, size=99),
        b"b": entry_proto(1, dtype=21, size=99),
        b"c": entry_proto(1),
    }
    index = read_index(index_of(entries), "index")
    assert index.unsupported == ("a", "b")
    assert list(index.entries) == ["c"]


def test_open_and_whole_extents_are_read():
    halves = sliced(
        (((0, -1), (0, 1)), entry_proto(4, 1)),
        (((0, 4), (1, 1)), entry_proto(4, 1, offset=16)),
        shape=(4, 2),
    )
    boxes = [entry.box for entry in read_index(index_of(halves), "index").entries["x"]]
    assert boxes == [Box((0, 0), (4, 1)), Box((0, 1), (4, 1))]


def test_one_slice_that_is_open_everywhere_is_the_tensor():
    whole = sliced((((0, -1),), entry_proto(4, offset=8)))
    (entry,) = read_index(index_of(whole), "index").entries["x"]
    assert entry == Entry("x", FLOAT, (4,), 0, 8, 16, entry.crc32c)


LEFT = (((0, 2),), entry_proto(2))
RIGHT = (((2, 2),), entry_proto(2, offset=8))


def test_slices_with_nothing_wrong_are_read():
    assert len(read_index(index_of(sliced(LEFT, RIGHT)), "index").entries["x"]) == 2


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (sliced(LEFT), "its slices hold 2 of its 4 elements"),
        (
            sliced(LEFT, (((1, 3),), entry_proto(3, offset=8))),
            "its slices 4 0,2 and 4 1,3 overlap",
        ),
        (sliced(LEFT, RIGHT, slices=[[(0, 2)], [(2, 2)], [(2, 2)]]), "missing or not its own"),
        (sliced(LEFT, slices=[[(0, 2)], [(2, 2)]]), "missing or not its own"),
        (sliced(LEFT, (((2, 3),), entry_proto(3))), "missing or not its own"),
        (sliced(LEFT, (((-2, 2),), entry_proto(2))), "missing or not its own"),
        (sliced(LEFT, (((4, 0),), entry_proto(0))), "missing or not its own"),
        (sliced(LEFT, (((2, -1),), entry_proto(2))), "missing or not its own"),
        (sliced(LEFT, (((2, 2), (0, 1)), entry_proto(2, 1))), "missing or not its own"),
        (sliced(LEFT, (((2**62, 2**62),), entry_proto(2))), "missing or not its own"),
        (sliced(LEFT, (((2, 2),), entry_proto(3, offset=8))), "its slice 4 2,2 is of another"),
        (sliced(LEFT, (((2, 2),), entry_proto(2, dtype=3))), "its slice 4 2,2 is of another"),
        (
            sliced(LEFT, (((2, 2),), entry_proto(2, slices=[[(0, 2)]]))),
            "its slice 4 2,2 is of another",
        ),
        (sliced(LEFT, (((2, 2),), entry_proto(2, offset=4))), "two of its slices share byte 4"),
        (sliced(LEFT, (((2, 2),), entry_proto(2, shard_id=2))), "it is in shard 2 of 2"),
    ],
)
def test_slices_that_lie_are_refused_by_name(entries, problem):
    with pytest.raises(CorruptionError, match=f"^index, entry 'x': .*{problem}"):
        read_index(index_of(entries), "index")


def test_a_slice_of_no_tensor_is_refused():
    entries = sliced(LEFT, RIGHT)
    entries[b"x"] = entry_proto(4)
    with pytest.raises(CorruptionError, match="it is a slice of no tensor"):
        read_index(index_of(entries), "index")


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if not dtype.is_string], ids=str)
def test_a_tensor_is_a_read_only_view_of_its_bytes(dtype):
    payload = bytearray(np.arange(6).astype(dtype.numpy).view(np.uint8))
    entry = Entry("x", dtype, (2, 3), 0, 0, len(payload), crc32c(payload))
    array = decode_tensor(entry, payload, False, "data")
    assert array.dtype == dtype.numpy
    np.testing.assert_array_equal(array, np.arange(6).astype(dtype.numpy).reshape(2, 3))
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(payload, np.uint8))


def test_a_piece_has_the_shape_of_its_slice():
    entry = Entry("x", FLOAT, (9, 2), 0, 0, 8, crc32c(bytes(8)), Box((4, 0), (1, 2)))
    assert decode_tensor(entry, bytes(8), False, "data").shape == (1, 2)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"abcdefgX", "its checksum does not match"),
        (b"abcdefg", "it has 8 bytes, 7 are there"),
        (b"abcdefghi", "it has 8 bytes, 9 are there"),
    ],
)
def test_bytes_that_are_not_the_tensors_are_refused(payload, problem):
    entry = Entry("x", FLOAT, (2,), 0, 0, 8, crc32c(b"abcdefgh"))
    with pytest.raises(CorruptionError, match=f"^data, entry 'x': {problem}"):
        decode_tensor(entry, payload, False, "data")


def test_the_checksum_is_left_alone_when_asked():
    entry = Entry("x", FLOAT, (2,), 0, 0, 8, mask(0))
    assert decode_tensor(entry, bytes(8), False, "data", check=False).tolist() == [0, 0]


def test_the_checksum_of_strings_is_checked():
    encoded = encode_strings(np.array(["ab", "c"]))
    entry = Entry("x", STRING, (2,), 0, 0, len(encoded.payload), encoded.crc32c)
    assert decode_tensor(entry, encoded.payload, False, "data").tolist() == [b"ab", b"c"]
    with pytest.raises(CorruptionError, match="its checksum does not match"):
        decode_tensor(entry, encoded.payload[:-1] + b"X", False, "data")
