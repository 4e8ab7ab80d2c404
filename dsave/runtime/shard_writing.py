"""Write one data file: bytes of this host straight from its arrays, others' through a buffer.

What is buffered is bounded, whatever the size of a part: one chunk of other hosts' bytes; one
where a part is a box of an array that does not lie in one run of memory; one step of replicas
that are added up. Strings are the exception: their stored form is made in memory, as a whole
tensor.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from dsave.format.bundle import Entry, ShardWriter
from dsave.format.coding import Buffer
from dsave.format.crc32c import crc32c
from dsave.format.strings import EncodedStrings, decode_strings, encode_strings
from dsave.model.slices import Box, blocks
from dsave.model.variable import aggregated
from dsave.plan.items import Item, Part, StringNbytes
from dsave.plan.save_plan import Shard
from dsave.runtime.arrays import Array, as_bytes
from dsave.runtime.stream import CHUNK_NBYTES, Endpoint, Piece, Reader

_STEP_NBYTES = 4 << 20  # of all replicas that are aggregated, together


class Snapshot:
    """The arrays of one host at one moment, by component key. None of them ever changes."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._strings = {
            key: encode_strings(array)
            for key, array in arrays.items()
            if array.dtype == np.object_
        }

    def string_nbytes(self) -> dict[str, StringNbytes]:
        """The size of each string array."""
        return {
            key: StringNbytes(len(strings.payload), sum(map(len, self._arrays[key].flat)))
            for key, strings in self._strings.items()
        }

    def strings(self, key: str) -> EncodedStrings:
        """A string array in its stored form."""
        return self._strings[key]

    def array(self, key: str, box: Box | None) -> Array:
        """An array, or a box of it; of strings, the bytes of their stored form."""
        if key in self._strings:
            return np.frombuffer(self._strings[key].payload, np.uint8)
        array = self._arrays[key]
        # An empty index makes a scalar of an array without axes.
        return array[box.index] if box is not None and box.lengths else array

    def chunks(self, key: str, box: Box | None) -> Iterable[memoryview]:
        """The bytes of an array or of a box of it, for a stream."""
        return _chunks(self.array(key, box), CHUNK_NBYTES)


def write_shard(
    shard: Shard,
    host: str,
    snapshot: Snapshot,
    endpoints: Mapping[str, Endpoint],
    write: Callable[[Buffer], object],
    timeout_s: float,
    opened: Callable[[Reader], object] = lambda _: None,
) -> list[Entry]:
    """Write a data file on `host` through `write`; other hosts' bytes come from `endpoints`.

    `opened` is told of every connection, to break it off when the save is given up.

    Raises:
        HostLostError: a source went away.
    """
    readers: dict[str, Reader] = {}
    try:
        for source in shard.source_hosts:
            if source != host:
                pieces = [p for item in shard.items for p in _pieces(item, source)]
                readers[source] = Reader(source, endpoints[source], pieces, timeout_s)
                opened(readers[source])
        writer = ShardWriter(shard.index, write)
        adds_up = any(len(part.sources) > 1 for item in shard.items for part in item.parts)
        buffer = bytearray(_STEP_NBYTES if adds_up else CHUNK_NBYTES) if readers else b""
        sources = _Sources(host, snapshot, readers, memoryview(buffer))
        for item in shard.items:
            if item.dtype.is_string:
                strings = sources.strings(item)
                writer.add(
                    item.key, item.dtype, item.shape, (strings.payload,), crc32c=strings.crc32c
                )
            elif item.part_keys:
                _write_parts(item, sources, writer)
            else:
                writer.add(item.key, item.dtype, item.shape, sources.chunks(item), item.box)
        return writer.entries
    finally:
        for reader in readers.values():
            reader.close()


def _write_parts(item: Item, sources: "_Sources", writer: ShardWriter) -> None:
    """Write a tensor whose parts have entries of their own, of the same bytes."""
    crcs: list[int] = []

    def chunks() -> Iterator[Buffer]:
        for part in item.parts:
            crc = 0
            for chunk in sources.part(item, part):
                crc = crc32c(chunk, crc)
                yield chunk
            crcs.append(crc)

    whole = writer.add(item.key, item.dtype, item.shape, chunks(), item.box)
    offset = whole.offset
    for key, part, crc in zip(item.part_keys, item.parts, crcs, strict=True):
        nbytes = part.nbytes
        entry = Entry(key, item.dtype, part.shape, whole.shard, offset, nbytes, crc)
        writer.entries.append(entry)
        offset += nbytes


def _chunks(array: Array, nbytes: int) -> Iterator[memoryview]:
    """The bytes of an array, row by row; what does not lie in one run is copied by chunks."""
    if array.flags.c_contiguous:
        memory = as_bytes(array)
        for offset in range(0, len(memory), nbytes):
            yield memory[offset : offset + nbytes]
        return
    for block in blocks(Box.whole(array.shape), nbytes // array.itemsize):
        yield as_bytes(np.ascontiguousarray(array[block.index]))


def _steps(item: Item, part: Part) -> Iterator[Box | None]:
    """The boxes in which a part is read: the order both ends agree on."""
    if len(part.sources) == 1:
        yield part.box
    else:
        box = part.box or Box.whole(part.shape)
        yield from blocks(box, _STEP_NBYTES // len(part.sources) // item.dtype.itemsize)


def _pieces(item: Item, host: str) -> Iterator[Piece]:
    for part in item.parts:
        for box in _steps(item, part):
            for source in part.sources:
                if source.host == host:
                    yield source.key, box


class _Sources:
    """Where the bytes of items come from, read strictly in the order of `_pieces`."""

    def __init__(
        self,
        host: str,
        snapshot: Snapshot,
        readers: Mapping[str, Reader],
        buffer: memoryview,
    ) -> None:
        self._host = host
        self._snapshot = snapshot
        self._readers = readers
        self._buffer = buffer

    def chunks(self, item: Item) -> Iterator[Buffer]:
        """The bytes of a tensor of fixed-size elements; a chunk is valid until the next."""
        for part in item.parts:
            yield from self.part(item, part)

    def part(self, item: Item, part: Part) -> Iterator[Buffer]:
        """The bytes of one part of a tensor, in its turn."""
        if len(part.sources) > 1:
            yield from self._aggregated(item, part)
        elif part.sources[0].host == self._host:
            array = self._snapshot.array(part.sources[0].key, part.box)
            yield from _chunks(array, CHUNK_NBYTES)
        else:
            reader = self._readers[part.sources[0].host]
            for offset in range(0, part.nbytes, CHUNK_NBYTES):
                chunk = self._buffer[: min(CHUNK_NBYTES, part.nbytes - offset)]
                reader.receive_into(chunk)
                yield chunk

    def _aggregated(self, item: Item, part: Part) -> Iterator[Buffer]:
        for box in _steps(item, part):
            assert box is not None
            nbytes = box.size * item.dtype.itemsize
            pieces = []
            for index, source in enumerate(part.sources):
                if source.host == self._host:
                    pieces.append(self._snapshot.array(source.key, box).reshape(-1))
                else:
                    memory = self._buffer[index * nbytes : (index + 1) * nbytes]
                    self._readers[source.host].receive_into(memory)
                    pieces.append(np.frombuffer(memory, item.dtype.numpy))
            yield as_bytes(aggregated(item.aggregation, pieces))

    def strings(self, item: Item) -> EncodedStrings:
        """The stored form of a string tensor."""
        first = item.parts[0].sources[0]
        if len(item.parts) == 1 and first.host == self._host:
            return self._snapshot.strings(first.key)
        arrays = []
        for part in item.parts:
            source = part.sources[0]
            if source.host == self._host:
                payload = as_bytes(self._snapshot.array(source.key, None))
            else:
                payload = memoryview(bytearray(part.nbytes))
                self._readers[source.host].receive_into(payload)
            arrays.append(decode_strings(payload, part.shape, source.host, item.key))
        return encode_strings(
            np.concatenate(arrays).reshape(item.shape) if len(arrays) > 1 else arrays[0]
        )
