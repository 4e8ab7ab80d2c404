"""The table: what is built reads back, and nothing else is believed.

- any sorted entries come back, over one block or many, compressed or not
- each changed byte is an error, or changes nothing (the padding of the footer)
- a table that was cut anywhere is an error
- blocks with good checksums that lie about entries, order, restarts or places are errors
- keys cannot be made to fill the memory by sharing
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.errors import CorruptionError
from dsave.format.coding import fixed32, varint
from dsave.format.crc32c import crc32c, mask
from dsave.format.table import TableBuilder, read_table

ENTRIES = st.dictionaries(st.binary(max_size=20), st.binary(max_size=20), max_size=40)
MAGIC = bytes.fromhex("57fb808b247547db")
EMPTY_BLOCK = fixed32(0) + fixed32(1)


def table_of(entries):
    builder = TableBuilder()
    for key, value in sorted(entries):
        builder.add(key, value)
    return builder.finish()


def entry(shared, unshared, value=b""):
    return varint(shared) + varint(len(unshared)) + varint(len(value)) + unshared + value


def raw_table(*blocks, index=None, compression=0):
    """A table of these blocks, each (content, index key), with good checksums."""
    file = bytearray()

    def append(block):
        handle = varint(len(file)) + varint(len(block))
        typed = block + bytes([compression])
        file.extend(typed + fixed32(mask(crc32c(typed))))
        return handle

    handles = [(key, append(block)) for block, key in blocks]
    if index is None:
        pairs = [entry(0, key, handle) for key, handle in handles]
        restarts = [sum(map(len, pairs[:number])) for number in range(len(pairs))] or [0]
        index = b"".join([*pairs, *map(fixed32, restarts), fixed32(len(restarts))])
    footer = append(EMPTY_BLOCK) + append(index)
    return bytes(file) + footer.ljust(40, b"\x00") + MAGIC


@given(ENTRIES)
def test_entries_come_back_in_order(entries):
    assert read_table(table_of(entries.items()), "index") == sorted(entries.items())


def test_entries_of_many_blocks_come_back_in_order():
    entries = [(b"%07d" % number, b"v" * (number % 300)) for number in range(5000)]
    table = table_of(entries)
    assert len(table) > 2 * 262_144
    assert read_table(table, "index") == entries


def test_an_entry_larger_than_two_blocks_has_one_of_its_own():
    entries = [(b"a", b"1"), (b"b" * 600_000, b"2"), (b"c", b"3")]
    assert read_table(table_of(entries), "index") == entries


def test_a_table_is_read_from_any_buffer():
    table = table_of([(b"a", b"1")])
    assert read_table(memoryview(b"xx" + table)[2:], "index") == [(b"a", b"1")]


@given(ENTRIES.filter(bool))
def test_each_changed_byte_is_an_error_or_changes_nothing(entries):
    table = table_of(entries.items())
    for position in range(len(table)):
        changed = bytearray(table)
        changed[position] ^= 1 + position % 255
        try:
            unchanged = read_table(changed, "index")
        except CorruptionError:
            continue
        assert unchanged == sorted(entries.items())
        assert len(table) - 48 <= position < len(table) - 8


def test_a_table_that_was_cut_anywhere_is_an_error():
    table = table_of([(b"%03d" % number, b"value") for number in range(20)])
    for stop in range(len(table)):
        with pytest.raises(CorruptionError):
            read_table(table[:stop], "index")


def test_raw_tables_with_nothing_wrong_are_read():
    block = entry(0, b"ab", b"1") + entry(1, b"c", b"2") + fixed32(0) + fixed32(1)
    more = entry(0, b"b", b"3") + fixed32(0) + fixed32(1)
    wanted = [(b"ab", b"1"), (b"ac", b"2"), (b"b", b"3")]
    assert read_table(raw_table((block, b"ad"), (more, b"b")), "index") == wanted


def test_snappy_blocks_are_read():
    def literal(block):
        return varint(len(block)) + bytes([len(block) - 1 << 2]) + block

    block = entry(0, b"ab", b"1") + fixed32(0) + fixed32(1)
    pair = entry(0, b"b", varint(0) + varint(len(literal(block))))
    file = bytearray()
    handles = b""
    for content in (block, EMPTY_BLOCK, pair + fixed32(0) + fixed32(1)):
        compressed = literal(content) + b"\x01"
        handles += varint(len(file)) + varint(len(compressed) - 1)
        file += compressed + fixed32(mask(crc32c(compressed)))
    footer = handles[2:].ljust(40, b"\x00") + MAGIC
    assert read_table(file + footer, "index") == [(b"ab", b"1")]


ONE = entry(0, b"a") + fixed32(0) + fixed32(1)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (raw_table((ONE, b"a"), compression=2), "unknown compression 2"),
        (
            raw_table((b"\xff" * 5, b"a"), compression=1),
            "the block at byte 10: a literal of 1 bytes at byte 2 does not fit",
        ),
        (raw_table((b"", b"a")), "a block of 0 bytes has 0 restarts"),
        (raw_table((fixed32(0), b"a")), "a block of 4 bytes has 0 restarts"),
        (raw_table((fixed32(0) + fixed32(9), b"a")), "a block of 8 bytes has 9 restarts"),
        (raw_table((EMPTY_BLOCK, b"a")), "the block at byte 0 is out of order"),
        (
            raw_table((entry(1, b"a") + fixed32(0) + fixed32(1), b"a")),
            "entry at byte 0 of a block",
        ),
        (
            raw_table((b"\x00\x7f\x00a" + fixed32(0) + fixed32(1), b"a")),
            "entry at byte 0 of a block",
        ),
        (
            raw_table((b"\x00\x01\x7fa" + fixed32(0) + fixed32(1), b"a")),
            "entry at byte 0 of a block",
        ),
        (
            raw_table((b"\x80" * 30 + fixed32(0) + fixed32(1), b"a")),
            "entry of a block is cut off",
        ),
        (
            raw_table((entry(0, b"b") + entry(0, b"a") + fixed32(0) + fixed32(1), b"c")),
            "its key is out of order",
        ),
        (
            raw_table((entry(0, b"a") + entry(0, b"a") + fixed32(0) + fixed32(1), b"c")),
            "its key is out of order",
        ),
        (
            raw_table((entry(0, b"b") + fixed32(0) + fixed32(1), b"a")),
            "the block at byte 0 is out",
        ),
        (
            raw_table((ONE, b"b"), (entry(0, b"b") + fixed32(0) + fixed32(1), b"c")),
            "the block at byte 17 is out of order",
        ),
        (
            raw_table((entry(0, b"a") + fixed32(1) + fixed32(1), b"a")),
            "the restarts of a block",
        ),
        (
            raw_table((entry(0, b"a") + fixed32(0) + fixed32(2) + fixed32(2), b"a")),
            "the restarts of a block",
        ),
        (
            raw_table((entry(0, b"a") + fixed32(0) + fixed32(0) + fixed32(2), b"a")),
            "the restarts of a block",
        ),
        (
            raw_table(
                (entry(0, b"aa") + entry(1, b"b") + fixed32(0) + fixed32(5) + fixed32(2), b"b")
            ),
            "the restarts of a block",
        ),
        (
            raw_table((ONE, b"a"), index=entry(0, b"a", b"\x80") + fixed32(0) + fixed32(1)),
            "the handle of a block is cut off",
        ),
        (
            raw_table((ONE, b"a"), index=entry(0, b"a", b"\x00\x7f") + fixed32(0) + fixed32(1)),
            "a block of 127 bytes at byte 0 is not in it",
        ),
        (
            raw_table(
                (ONE, b"a"),
                index=entry(0, b"a", bytes([0, len(ONE)]))
                + entry(0, b"b", bytes([0, len(ONE)]))
                + fixed32(0)
                + fixed32(1),
            ),
            "two blocks share byte 0",
        ),
        (bytes(47), "47 bytes are too short for a table"),
        (bytes(48), "bad magic number"),
        (b"\xff" * 40 + MAGIC, "the handle of a block is cut off"),
    ],
)
def test_tables_that_lie_are_refused(table, problem):
    with pytest.raises(CorruptionError, match=problem):
        read_table(table, "index")


def test_keys_cannot_fill_the_memory_by_sharing():
    long = entry(0, b"k" * 50_000)
    sharing = b"".join(entry(50_000 + number, b"k") for number in range(20_000))
    table = raw_table((long + sharing + fixed32(0) + fixed32(1), b"l"))
    with pytest.raises(CorruptionError, match="is cut off"):
        read_table(table, "index")
