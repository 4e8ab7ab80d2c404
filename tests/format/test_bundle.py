"""Writing a bundle: shards and the index.

- a shard writer passes every chunk on as it came, and its entries say where the bytes are
- chunks that do not add up to the tensor are refused; a covering slice is a whole tensor
- the hand-made entries are what protobuf makes of the same fields
- the index does not depend on the order of entries, and reads back as the same entries
- keys twice, keys that no tensor can have, and slices that do not tile their tensor are refused
- entries are light: thousands pickle in little time and room
"""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.errors import ModelError
from dsave.format.bundle import Entry, ShardWriter, build_index
from dsave.format.bundle_reader import read_index
from dsave.format.crc32c import crc32c, mask
from dsave.format.table import read_table
from dsave.model.dtype import DTYPES, STRING, dtype_of
from dsave.model.slices import Box
from dsave.proto.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

FLOAT = dtype_of("float32")
NAT = st.integers(0, 2**40)


@st.composite
def whole_entries(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 1000), max_size=4)))
    size = Box.whole(shape).size
    nbytes = size + 4 + draw(NAT) if dtype.is_string else size * dtype.itemsize
    key = draw(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda k: k[0] != "\0"))
    crc = draw(st.integers(0, 2**32 - 1))
    return Entry(key, dtype, shape, draw(st.integers(0, 9)), draw(NAT), nbytes, crc)


@st.composite
def sliced_entries(draw):
    """The pieces of one tensor, cut by a grid, or cut again in one of its cells."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    boxes = [Box.whole(shape)]
    for _ in range(draw(st.integers(1, 5))):
        box = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        axis = draw(st.integers(0, len(shape) - 1))
        cut = draw(st.integers(0, box.lengths[axis]))
        for start, stop in ((0, cut), (cut, box.lengths[axis])):
            if start < stop:
                starts, lengths = list(box.starts), list(box.lengths)
                starts[axis] += start
                lengths[axis] = stop - start
                boxes.append(Box(tuple(starts), tuple(lengths)))
    entries, offsets = [], [0, 0]
    for number, box in enumerate(boxes):
        shard, nbytes = draw(st.integers(0, 1)), box.size * 4
        whole = None if box.covers(shape) else box
        entries.append(
            Entry("sliced", FLOAT, shape, shard, offsets[shard], nbytes, number, whole)
        )
        offsets[shard] += nbytes
    return entries


def test_chunks_pass_through_and_entries_say_where_they_are():
    written = []
    writer = ShardWriter(3, written.append)
    chunks = [b"abcd", bytearray(b"efgh"), memoryview(b"ijklmnop")]
    first = writer.add("x", FLOAT, [2, 2], chunks)
    second = writer.add("s", STRING, (), [b"payload"], crc32c=77)
    empty = writer.add("e", FLOAT, (0,), [])
    assert all(a is b for a, b in zip(written, chunks, strict=False))
    assert first == Entry("x", FLOAT, (2, 2), 3, 0, 16, crc32c(b"abcdefghijklmnop"))
    assert second == Entry("s", STRING, (), 3, 16, 7, 77)
    assert empty == Entry("e", FLOAT, (0,), 3, 23, 0, 0)
    assert (writer.entries, writer.nbytes) == ([first, second, empty], 23)


def test_a_chunk_is_counted_in_bytes_whatever_its_items():
    writer = ShardWriter(0, lambda _: None)
    assert writer.add("x", FLOAT, (2, 2), [np.zeros((2, 2), np.float32).data]).nbytes == 16


@pytest.mark.parametrize("chunks", [[], [b"abc"], [b"abcd", b"e"]])
def test_chunks_that_do_not_add_up_are_refused(chunks):
    with pytest.raises(ValueError, match=r"x: got \d bytes, its shape needs 4"):
        ShardWriter(0, lambda _: None).add("x", FLOAT, (4,), chunks, Box((1,), (1,)))


def test_a_slice_that_covers_its_tensor_is_the_tensor():
    writer = ShardWriter(0, lambda _: None)
    assert writer.add("x", FLOAT, (2,), [b"abcdefgh"], Box((0,), (2,))).box is None
    assert writer.add("y", FLOAT, (2,), [b"abcd"], Box((1,), (1,))).box == Box((1,), (1,))


@given(whole_entries())
def test_an_entry_is_what_protobuf_makes_of_its_fields(entry):
    table = dict(read_table(build_index([entry], 10), "index"))
    proto = BundleEntryProto(
        dtype=entry.dtype.number,
        shard_id=entry.shard,
        offset=entry.offset,
        size=entry.nbytes,
        crc32c=mask(entry.crc32c),
    )
    proto.shape.SetInParent()
    for size in entry.shape:
        proto.shape.dim.add(size=size)
    assert table[entry.key.encode()] == proto.SerializeToString(deterministic=True)


@given(sliced_entries())
def test_a_sliced_entry_is_what_protobuf_makes_of_its_fields(entries):
    table = dict(read_table(build_index(entries, 2), "index"))
    if entries[0].box is None:
        return
    entries.sort(key=lambda entry: (entry.shard, entry.offset))
    proto = BundleEntryProto(dtype=FLOAT.number, shard_id=entries[0].shard)
    for size in entries[0].shape:
        proto.shape.dim.add(size=size)
    for entry in entries:
        extents = proto.slices.add().extent
        for start, length in zip(entry.box.starts, entry.box.lengths, strict=True):
            extents.add(start=start, length=length)
    assert table[b"sliced"] == proto.SerializeToString(deterministic=True)


def test_the_header_is_what_protobuf_makes_of_its_fields():
    header = BundleHeaderProto(num_shards=300)
    header.version.producer = 1
    assert read_table(build_index([], 300), "index") == [(b"", header.SerializeToString())]


@given(
    st.lists(whole_entries(), unique_by=lambda entry: entry.key), sliced_entries(), st.randoms()
)
def test_an_index_reads_back_whatever_the_order_of_entries(whole, pieces, rng):
    entries = [entry for entry in whole if entry.key != "sliced"] + pieces
    built = build_index(entries, 10)
    shuffled = list(entries)
    rng.shuffle(shuffled)
    assert build_index(shuffled, 10) == built
    index = read_index(built, "index")
    assert sorted(index.entries, key=str.encode) == list(index.entries)
    found = [entry for stored in index.entries.values() for entry in stored]
    assert sorted(found, key=repr) == sorted(entries, key=repr)
    assert (index.num_shards, index.big_endian, index.unsupported) == (10, False, ())


def piece(start, length, *, key="x", size=4, dtype=FLOAT, offset=0):
    return Entry(
        key, dtype, (size,), 0, offset, length * dtype.itemsize, 0, Box((start,), (length,))
    )


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([Entry("x", FLOAT, (), 0, 0, 4, 0)] * 2, "x: two tensors have this checkpoint key"),
        (
            [Entry("x", FLOAT, (4,), 0, 0, 16, 0), piece(0, 2)],
            "x: two tensors have this checkpoint key",
        ),
        ([piece(0, 2), piece(1, 3)], "x: its slices 4 0,2 and 4 1,3 overlap"),
        ([piece(0, 2), piece(0, 2)], "x: its slices 4 0,2 and 4 0,2 overlap"),
        ([piece(0, 2), piece(3, 1)], "x: its slices hold 3 of its 4 elements"),
        ([piece(0, 2)], "x: its slices hold 2 of its 4 elements"),
        ([piece(0, 2), piece(2, 3)], "x: the slice 4 2,3 is empty or leaves its tensor"),
        ([piece(0, 4), piece(4, 0)], "x: the slice 4 4,0 is empty or leaves its tensor"),
        (
            [piece(0, 2), piece(2, 2, size=5)],
            r"x: slices of different tensors: float32 \(4,\) and",
        ),
        (
            [piece(0, 2), piece(2, 2, dtype=dtype_of("int32"))],
            "x: slices of different tensors: float32 .* and int32",
        ),
        ([Entry("", FLOAT, (), 0, 0, 4, 0)], "'': a key is not empty"),
        ([Entry("\0x", FLOAT, (), 0, 0, 4, 0)], r"does not begin with NUL"),
    ],
)
def test_entries_that_make_no_bundle_are_refused(entries, problem):
    with pytest.raises(ModelError, match=problem):
        build_index(entries, 1)


def test_entries_are_light():
    entries = [Entry(f"layer/{n}/kernel", FLOAT, (n, 2), 1, n, n, n) for n in range(4000)]
    pickled = pickle.dumps(entries)
    assert len(pickled) < 4000 * 100
    assert pickle.loads(pickled) == entries
