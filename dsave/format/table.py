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

from dsave.format.coding import fixed32, varint
from dsave.format.crc32c import crc32c, mask

_BLOCK_BYTES = 262_144
_RESTART_INTERVAL = 16
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
