"""A sorted table of keys and values: LevelDB's format, as TensorFlow writes it.

    table   = data block ... , metaindex block (empty), index block, footer
    block   = entry ... , restart offset as fixed32 ... , number of restarts as fixed32
              then, not in its size: compression byte, fixed32 masked crc32c of block and byte
    entry   = varint shared, varint unshared, varint value length, unshared key bytes, value
              key = the first `shared` bytes of the key before, then the unshared ones;
              nothing is shared at a restart
    index   = for each data block: a key from its last up to the next one's first -> handle
    handle  = varint offset, varint size
    footer  = handle of the metaindex, handle of the index, zeros to byte 40, magic as fixed64

Sources: leveldb/doc/table_format.md; tensorflow/core/lib/io/table_builder.cc.
TensorFlow compresses nothing, but reads blocks that snappy compressed (byte 1).
"""

import numpy as np

from dsave.errors import CorruptionError
from dsave.format.coding import Buffer, fixed32, read_varint, varint
from dsave.format.crc32c import crc32c, mask
from dsave.format.snappy import decode_snappy

_BLOCK_BYTES = 262_144
_RESTART_INTERVAL = 16
_MAX_SHARING = 256  # times the size of a block that its keys may have
_TRAILER_BYTES = 5
_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_UNCOMPRESSED, _SNAPPY = 0, 1


class TableBuilder:
    """Encodes entries into a table, in the order they are added."""

    def __init__(self) -> None:
        self._file = bytearray()
        self._block = _BlockBuilder(_RESTART_INTERVAL)
        self._index = _BlockBuilder(1)
        self._last_key = b""
        self._pending: bytes | None = None  # handle of a closed block, not in the index yet

    def add(self, key: bytes, value: bytes) -> None:
        """Append one entry. Requires: `key` is above every key added before."""
        if self._block.count and len(key) + len(value) >= 2 * _BLOCK_BYTES:
            self._close_block()
        if self._pending is not None:
            self._index.add(_separator(self._last_key, key), self._pending)
            self._pending = None
        self._block.add(key, value)
        self._last_key = key
        if self._block.nbytes >= _BLOCK_BYTES:
            self._close_block()

    def finish(self) -> bytes:
        """The whole table."""
        if self._block.count:
            self._close_block()
        metaindex = self._append(_BlockBuilder(_RESTART_INTERVAL).finish())
        if self._pending is not None:
            self._index.add(_successor(self._last_key), self._pending)
        handles = metaindex + self._append(self._index.finish())
        self._file += handles.ljust(_FOOTER_BYTES - len(_MAGIC), b"\x00") + _MAGIC
        return bytes(self._file)

    def _close_block(self) -> None:
        self._pending = self._append(self._block.finish())
        self._block = _BlockBuilder(_RESTART_INTERVAL)

    def _append(self, block: bytes) -> bytes:
        """Append a block and its trailer; the handle."""
        handle = varint(len(self._file)) + varint(len(block))
        typed = block + bytes((_UNCOMPRESSED,))
        self._file += typed + fixed32(mask(crc32c(typed)))
        return handle


class _BlockBuilder:
    def __init__(self, restart_interval: int) -> None:
        self._interval = restart_interval
        self._entries = bytearray()
        self._restarts = [0]
        self._key = b""
        self.count = 0

    @property
    def nbytes(self) -> int:
        """Size of the block if it were finished now."""
        return len(self._entries) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count % self._interval:
            shared = _shared(self._key, key)
        elif self.count:
            self._restarts.append(len(self._entries))
        unshared = len(key) - shared
        if shared < 0x80 and unshared < 0x80 and len(value) < 0x80:
            self._entries += bytes((shared, unshared, len(value)))
        else:
            self._entries += varint(shared) + varint(unshared) + varint(len(value))
        self._entries += key[shared:]
        self._entries += value
        self._key = key
        self.count += 1

    def finish(self) -> bytes:
        restarts = np.array([*self._restarts, len(self._restarts)], "<u4")
        return bytes(self._entries) + restarts.tobytes()


def _shared(a: bytes, b: bytes) -> int:
    """Length of the longest prefix of both."""
    length = min(len(a), len(b))
    # As integers: the top bit of a ^ b says where they part, without a loop over bytes.
    difference = int.from_bytes(a[:length], "big") ^ int.from_bytes(b[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def _separator(a: bytes, b: bytes) -> bytes:
    """A short key k with a <= k < b, for a < b."""
    parting = _shared(a, b)
    if parting < min(len(a), len(b)) and a[parting] + 1 < b[parting]:
        return a[:parting] + bytes((a[parting] + 1,))
    return a


def _successor(a: bytes) -> bytes:
    """A short key k with a <= k."""
    for position, byte in enumerate(a):
        if byte != 0xFF:
            return a[:position] + bytes((byte + 1,))
    return a


def read_table(data: Buffer, file: str) -> list[tuple[bytes, bytes]]:
    """All entries in order; `file` names the table in errors.

    Raises:
        CorruptionError: anything about it is not as the format says.
    """
    view = memoryview(data)
    if len(view) < _FOOTER_BYTES:
        raise CorruptionError(file, "", f"{len(view)} bytes are too short for a table")
    footer = bytes(view[-_FOOTER_BYTES:])
    if not footer.endswith(_MAGIC):
        raise CorruptionError(file, "", "it does not end as a table does (bad magic number)")
    blocks = view[:-_FOOTER_BYTES]
    metaindex, position = _handle(footer, 0, file)
    index, _ = _handle(footer, position, file)
    _entries(_block(blocks, metaindex, file), file)
    entries: list[tuple[bytes, bytes]] = []
    end, bound = 0, b""
    for separator, value in _entries(_block(blocks, index, file), file):
        handle, _ = _handle(value, 0, file)
        # In file order and apart: no block is read twice, however often it is named.
        if handle[0] < end:
            raise CorruptionError(file, "", f"two blocks share byte {handle[0]}")
        end = sum(handle)
        block = _entries(_block(blocks, handle, file), file)
        if not block or (entries and block[0][0] <= bound) or block[-1][0] > separator:
            raise CorruptionError(file, "", f"the block at byte {handle[0]} is out of order")
        bound = separator
        entries += block
    return entries


def _handle(data: bytes, position: int, file: str) -> tuple[tuple[int, int], int]:
    """The handle (offset, size) at `position`, and the position after it."""
    try:
        offset, position = read_varint(data, position)
        size, position = read_varint(data, position)
    except ValueError:
        raise CorruptionError(file, "", "the handle of a block is cut off") from None
    return (offset, size), position


def _block(blocks: memoryview, handle: tuple[int, int], file: str) -> bytes:
    offset, size = handle
    stop = offset + size
    if stop + _TRAILER_BYTES > len(blocks):
        raise CorruptionError(
            file, "", f"a block of {size} bytes at byte {offset} is not in it"
        )
    stored = int.from_bytes(blocks[stop + 1 : stop + _TRAILER_BYTES], "little")
    if mask(crc32c(blocks[offset : stop + 1])) != stored:
        raise CorruptionError(file, "", f"block checksum mismatch at byte {offset}")
    block, compression = bytes(blocks[offset:stop]), blocks[stop]
    if compression == _SNAPPY:
        try:
            return decode_snappy(block)
        except ValueError as error:
            raise CorruptionError(file, "", f"the block at byte {offset}: {error}") from None
    if compression != _UNCOMPRESSED:
        raise CorruptionError(file, "", f"unknown compression {compression} at byte {offset}")
    return block


def _entries(block: bytes, file: str) -> list[tuple[bytes, bytes]]:
    """The entries of a block, which must be in order and reachable from its restarts."""
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * count
    if count == 0 or end < 0:
        raise CorruptionError(file, "", f"a block of {len(block)} bytes has {count} restarts")
    entries: list[tuple[bytes, bytes]] = []
    heads = [0] if end == 0 else []
    key, position, unpacked = b"", 0, 0
    while position < end:
        start = position
        # The restarts lie behind: three bytes are always there.
        shared, unshared, nbytes = block[start], block[start + 1], block[start + 2]
        position = start + 3
        if shared | unshared | nbytes >= 0x80:
            (shared, unshared, nbytes), position = _lengths(block, start, file)
        middle = position + unshared
        # Keys that share all of a long one could fill any memory.
        unpacked += shared + unshared
        if shared > len(key) or middle + nbytes > end or unpacked > _MAX_SHARING * len(block):
            raise CorruptionError(file, "", f"the entry at byte {start} of a block is cut off")
        following = key[:shared] + block[position:middle]
        if following <= key and entries:
            raise CorruptionError(file, repr(following), "its key is out of order")
        if not shared:
            heads.append(start)
        key, position = following, middle + nbytes
        entries.append((key, block[middle:position]))
    restarts = np.frombuffer(block, "<u4", count, end)
    if (
        restarts[0]
        or (np.diff(restarts.astype(np.int64)) <= 0).any()
        or not (np.isin(restarts, heads).all())
    ):
        raise CorruptionError(file, "", "the restarts of a block are not those of its entries")
    return entries


def _lengths(block: bytes, position: int, file: str) -> tuple[list[int], int]:
    """The three varints that begin an entry, and the position after them."""
    lengths = []
    try:
        for _ in range(3):
            length, position = read_varint(block, position)
            lengths.append(length)
    except ValueError:
        raise CorruptionError(file, "", "an entry of a block is cut off") from None
    return lengths, position
