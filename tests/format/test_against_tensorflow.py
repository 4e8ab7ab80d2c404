"""TensorFlow writes and merges what we write, and reads what we read.

- data files and index are TensorFlow's, byte for byte: every dtype, scalar, empty, strings
- so for thousands of keys, which take several blocks, and for keys larger than two blocks
- so for tensors in slices, in several shards, in any order of entries
- a slice that covers its tensor is a whole tensor
- what TensorFlow wrote reads back as the same entries, open extents too
- big-endian bundles, and snappy-compressed indexes, read as TensorFlow reads them
  (which cannot swap the dtypes numbered 24 and up, all of one byte)
"""

import random
from pathlib import Path

import numpy as np
import pytest

from dsave.format import naming
from dsave.format.bundle import Entry, ShardWriter, build_index
from dsave.format.bundle_reader import decode_tensor, read_index
from dsave.format.coding import fixed32, varint
from dsave.format.crc32c import crc32c, mask
from dsave.format.strings import encode_strings
from dsave.format.table import TableBuilder, read_table
from dsave.model.dtype import DTYPES, STRING, dtype_of
from dsave.model.slices import Box

pytestmark = pytest.mark.tf

FIXED = [dtype for dtype in DTYPES if not dtype.is_string]
NUMBERS = np.arange(-3, 3).reshape(2, 3)


def as_bytes(array):
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def objects(*strings):
    array = np.empty(len(strings), np.object_)
    array[:] = strings
    return array


class Bundle:
    """Our files, in memory."""

    def __init__(self, num_shards):
        self.files = [bytearray() for _ in range(num_shards)]
        self.writers = [ShardWriter(n, self.files[n].extend) for n in range(num_shards)]

    def add(self, shard, key, array, box=None, dtype=None):
        """Append an array, or its part in the box."""
        dtype = dtype or dtype_of(array.dtype)
        piece = array if box is None else array[box.index]
        if dtype.is_string:
            encoded = encode_strings(piece)
            chunks, crc = [encoded.payload], encoded.crc32c
        else:
            chunks, crc = [as_bytes(piece)], None
        self.writers[shard].add(key, dtype, array.shape, chunks, box, crc)

    @property
    def entries(self):
        """All entries, by shard."""
        return [entry for writer in self.writers for entry in writer.entries]

    def index(self):
        """Our index."""
        return build_index(self.entries, len(self.files))

    def is_at(self, prefix):
        """Whether the bundle at this prefix has our bytes."""
        assert Path(naming.index_file(prefix)).read_bytes() == self.index()
        for shard, data in enumerate(self.files):
            file = naming.data_file(shard, len(self.files), prefix)
            assert Path(file).read_bytes() == data
        return True

    def write(self, prefix, index):
        """Write our data files with this index."""
        Path(naming.index_file(prefix)).write_bytes(index)
        for shard, data in enumerate(self.files):
            Path(naming.data_file(shard, len(self.files), prefix)).write_bytes(data)


def test_every_dtype_scalar_and_empty_tensor_has_the_bytes_of_tensorflow(tf_save, tf_tensor):
    bundle, tensors = Bundle(1), []
    for dtype in FIXED:
        unsigned = (
            "uint" in dtype.name or dtype.name == "bool" or dtype.name.startswith("quint")
        )
        numbers = np.abs(NUMBERS) if unsigned else NUMBERS
        for name, array in {
            "matrix": numbers.astype(dtype.numpy),
            "scalar": np.asarray(numbers[0, 0].astype(dtype.numpy)),
            "empty": np.zeros((3, 0, 2), dtype.numpy),
        }.items():
            bundle.add(0, f"{dtype}/{name}", array, dtype=dtype)
            tensors.append((f"{dtype}/{name}", "", tf_tensor(array, dtype)))
    assert bundle.is_at(tf_save(tensors))


def test_strings_have_the_bytes_of_tensorflow(tf_save, tf_tensor):
    arrays = {
        "scalar": np.array(b"x\x00\xff", object),
        "none": np.empty((0, 2), object),
        "lengths": objects(b"", b"a" * 127, b"b" * 128, b"c" * 16384, "é".encode()),
        "matrix": objects(b"a", b"b", b"c", b"d").reshape(2, 2),
    }
    bundle = Bundle(1)
    for key, array in arrays.items():
        bundle.add(0, key, array)
    prefix = tf_save([(key, "", tf_tensor(array)) for key, array in arrays.items()])
    assert bundle.is_at(prefix)


def test_an_index_of_many_blocks_has_the_bytes_of_tensorflow(tf_save):
    rng = random.Random(7)
    alphabet = "ab/._é\U0001f600\x7f\x01"
    keys = {"".join(rng.choices(alphabet, k=rng.randrange(1, 60))) for _ in range(6000)}
    keys |= {"b" * 600_000, "b" * 600_001}
    scalar = np.float32(1)
    bundle = Bundle(1)
    for key in keys:
        bundle.add(0, key, np.asarray(scalar))
    assert len(bundle.index()) > 3 * 262_144
    assert bundle.is_at(tf_save([(key, "", scalar) for key in keys]))


@pytest.mark.parametrize("nbytes", range(262_143, 262_146))
def test_a_block_is_closed_at_the_byte_at_which_tensorflow_closes_it(tf_save, nbytes):
    scalar = np.float32(1)
    # With the header before and the restarts behind, 33 bytes are not the key's.
    keys = ["k" * (nbytes - 33), "l"]
    bundle = Bundle(1)
    for key in keys:
        bundle.add(0, key, np.asarray(scalar))
    assert bundle.is_at(tf_save([(key, "", scalar) for key in keys]))


def test_slices_in_several_shards_have_the_bytes_of_tensorflow(tf_save):
    numbers = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    rows = np.arange(20_000).astype(np.int8)
    cuts = [0, 64, 8191, 8192, 20_000]
    pieces = [
        (2, "rows", rows, Box((cuts[3],), (cuts[4] - cuts[3],))),
        (0, "whole", numbers, None),
        (1, "w", numbers, Box((0, 0, 0), (2, 1, 3))),
        (1, "w", numbers, Box((0, 1, 0), (1, 3, 3))),
        (2, "w", numbers, Box((1, 1, 0), (1, 3, 3))),
        (0, "rows", rows, Box((cuts[1],), (cuts[2] - cuts[1],))),
        (0, "rows", rows, Box((cuts[0],), (cuts[1] - cuts[0],))),
        (1, "rows", rows, Box((cuts[2],), (cuts[3] - cuts[2],))),
        (2, "\xff\x00name", numbers, Box((0, 0, 0), (2, 4, 2))),
        (2, "\xff\x00name", numbers, Box((0, 0, 2), (2, 4, 1))),
        (2, "covered", numbers, Box((0, 0, 0), (2, 4, 3))),
    ]
    bundle, shards = Bundle(3), [[], [], []]
    for shard, key, array, box in pieces:
        bundle.add(shard, key, array, box)
        spec = "" if box is None else box.spec(array.shape)
        shards[shard].append((key, spec, array if box is None else array[box.index]))
    assert bundle.is_at(tf_save(*shards))
    backwards = build_index(reversed(bundle.entries), 3)
    assert backwards == bundle.index()


def test_what_tensorflow_wrote_reads_back_as_our_entries(tf_save):
    numbers = np.arange(12, dtype=np.float32).reshape(4, 3)
    bundle = Bundle(2)
    bundle.add(0, "w", numbers, Box((0, 0), (4, 1)))
    bundle.add(1, "w", numbers, Box((0, 1), (4, 2)))
    bundle.add(1, "v", numbers)
    prefix = tf_save(
        [("w", "4 3 -:0,1", numbers[:, :1])],
        [("w", "4 3 -:1,2", numbers[:, 1:]), ("v", "4 3 -:-", numbers)],
    )
    index = read_index(Path(naming.index_file(prefix)).read_bytes(), "index")
    assert (index.num_shards, index.big_endian, index.unsupported) == (2, False, ())
    assert index.entries == {
        "w": tuple(entry for entry in bundle.entries if entry.key == "w"),
        "v": tuple(entry for entry in bundle.entries if entry.key == "v"),
    }


def swapped(array):
    width = array.itemsize // 2 if array.dtype.kind == "c" else array.itemsize
    return np.frombuffer(as_bytes(array), np.uint8).reshape(-1, width)[:, ::-1].tobytes()


def big_endian(index):
    builder = TableBuilder()
    for key, value in read_table(index, "index"):
        builder.add(key, value + b"\x10\x01" if key == b"" else value)
    return builder.finish()


@pytest.mark.parametrize("dtype", [dtype for dtype in FIXED if dtype.number < 24], ids=str)
def test_big_endian_numbers_read_as_tensorflow_reads_them(tf_read, tmp_path, dtype):
    array = np.abs(NUMBERS).astype(dtype.numpy)
    bundle = Bundle(1)
    entry = bundle.writers[0].add("x", dtype, array.shape, [swapped(array)])
    prefix = str(tmp_path / "big")
    bundle.write(prefix, big_endian(bundle.index()))
    theirs = tf_read(prefix, "x", dtype)
    ours = decode_tensor(entry, bytes(bundle.files[0]), True, "data")
    assert as_bytes(theirs) == as_bytes(ours) == as_bytes(array)


def test_big_endian_strings_read_as_tensorflow_reads_them(tf_read, tmp_path):
    lengths_crc = crc32c((2).to_bytes(4, "big") + (130).to_bytes(4, "big"))
    checksum = mask(lengths_crc).to_bytes(4, "big")
    text = b"ab" + b"c" * 130
    payload = b"\x02" + varint(130) + checksum + text
    crc = crc32c(text, crc32c(checksum, lengths_crc))
    entry = Entry("x", STRING, (2,), 0, 0, len(payload), crc)
    bundle = Bundle(1)
    bundle.files[0] += payload
    prefix = str(tmp_path / "big")
    bundle.write(prefix, big_endian(build_index([entry], 1)))
    assert tf_read(prefix, "x", STRING).tolist() == [b"ab", b"c" * 130]
    assert decode_tensor(entry, payload, True, "data").tolist() == [b"ab", b"c" * 130]


def compressed(block):
    """The block in snappy's form: runs that repeat the 32 bytes before as copies."""
    output = bytearray(varint(len(block)))
    for start in range(0, len(block), 32):
        run = block[start : start + 32]
        if start and run == block[start - 32 : start - 32 + len(run)]:
            output += bytes([(len(run) - 1) << 2 | 2, 32, 0])
        else:
            output += bytes([(len(run) - 1) << 2]) + run
    return bytes(output)


def test_a_compressed_index_reads_as_tensorflow_reads_it(tf_read, tmp_path):
    bundle = Bundle(1)
    bundle.add(0, "a" * 200, np.float32(3))
    plain = bundle.index()
    entries = read_table(plain, "index")
    one_restart = fixed32(0) + fixed32(1)
    table = bytearray()

    def append(content):
        typed = compressed(content) + b"\x01"
        handle = varint(len(table)) + varint(len(typed) - 1)
        table.extend(typed + fixed32(mask(crc32c(typed))))
        return handle

    block = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value
        for key, value in entries
    )
    assert len(compressed(block + one_restart)) < len(block)
    data = append(block + one_restart)
    footer = append(one_restart)
    footer += append(b"\x00\x01" + varint(len(data)) + b"b" + data + one_restart)
    table += footer.ljust(40, b"\x00") + plain[-8:]
    prefix = str(tmp_path / "snappy")
    bundle.write(prefix, bytes(table))
    assert tf_read(prefix, "a" * 200, dtype_of("float32")) == 3
    assert read_table(bytes(table), "index") == entries
