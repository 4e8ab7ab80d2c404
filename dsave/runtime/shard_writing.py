"""Write one data file: bytes of this host straight from its arrays, others' through a buffer.

What is buffered is bounded: one chunk for each source of a part, whatever its size. Strings are
the exception: their stored form is made in memory, as a whole tensor.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dsave.format.bundle import Entry, ShardWriter
from dsave.format.coding import Buffer
from dsave.format.strings import EncodedStrings, decode_strings, encode_strings
from dsave.model.variable import aggregated
from dsave.plan.save_plan import Item, Part, Shard
from dsave.runtime.arrays import Array, as_bytes
from dsave.runtime.stream import CHUNK_NBYTES, Endpoint, Range, Reader

_LOCAL_CHUNK_NBYTES = 1 << 20


class Snapshot:
    """The arrays of one host at one moment, by component key. None of them ever changes."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._strings = {
            key: encode_strings(array)
            for key, array in arrays.items()
            if array.dtype == np.object_
        }

    def string_nbytes(self) -> dict[str, int]:
        """The stored size of each string array."""
        return {key: len(strings.payload) for key, strings in self._strings.items()}

    def strings(self, key: str) -> EncodedStrings:
        """A string array in its stored form."""
        return self._strings[key]

    def memory(self, key: str) -> memoryview:
        """The bytes of an array, or of the stored form of strings."""
        if key in self._strings:
            return memoryview(self._strings[key].payload)
        return as_bytes(self._arrays[key])


def write_shard(
    shard: Shard,
    host: str,
    snapshot: Snapshot,
    endpoints: Mapping[str, Endpoint],
    write: Callable[[Buffer], object],
    timeout_s: float,
) -> list[Entry]:
    """Write a data file on `host` through `write`; other hosts' bytes come from `endpoints`.

    Raises:
        HostLostError: a source went away.
    """
    readers: dict[str, Reader] = {}
    try:
        for source in shard.source_hosts:
            if source != host:
                ranges = [r for item in shard.items for r in _ranges(item, source)]
                readers[source] = Reader(source, endpoints[source], ranges, timeout_s)
        writer = ShardWriter(shard.index, write)
        sources = _Sources(host, snapshot, readers)
        for item in shard.items:
            if item.dtype.is_string:
                strings = sources.strings(item)
                writer.add(
                    item.key, item.dtype, item.shape, (strings.payload,), crc32c=strings.crc32c
                )
            else:
                writer.add(item.key, item.dtype, item.shape, sources.chunks(item), item.box)
        return writer.entries
    finally:
        for reader in readers.values():
            reader.close()


def _steps(item: Item, part: Part) -> Iterator[tuple[int, int]]:
    """(offset, nbytes) of the pieces in which a part is read: the order both ends agree on."""
    if len(part.sources) == 1:
        yield 0, part.nbytes
        return
    step = CHUNK_NBYTES // len(part.sources) // item.dtype.itemsize * item.dtype.itemsize
    step = max(step, item.dtype.itemsize)
    for offset in range(0, part.nbytes, step):
        yield offset, min(step, part.nbytes - offset)


def _ranges(item: Item, host: str) -> Iterator[Range]:
    for part in item.parts:
        for offset, nbytes in _steps(item, part):
            for source in part.sources:
                if source.host == host:
                    yield source.key, offset, nbytes


class _Sources:
    """Where the bytes of items come from, read strictly in the order of `_ranges`."""

    def __init__(self, host: str, snapshot: Snapshot, readers: Mapping[str, Reader]) -> None:
        self._host = host
        self._snapshot = snapshot
        self._readers = readers
        self._buffer = memoryview(bytearray(CHUNK_NBYTES if readers else 0))

    def chunks(self, item: Item) -> Iterator[Buffer]:
        """The bytes of a tensor of fixed-size elements; a chunk is valid until the next."""
        for part in item.parts:
            if len(part.sources) > 1:
                yield from self._aggregated(item, part)
            elif part.sources[0].host == self._host:
                memory = self._snapshot.memory(part.sources[0].key)
                for offset in range(0, part.nbytes, _LOCAL_CHUNK_NBYTES):
                    yield memory[offset : offset + _LOCAL_CHUNK_NBYTES]
            else:
                reader = self._readers[part.sources[0].host]
                for offset in range(0, part.nbytes, CHUNK_NBYTES):
                    chunk = self._buffer[: part.nbytes - offset]
                    reader.receive_into(chunk)
                    yield chunk

    def _aggregated(self, item: Item, part: Part) -> Iterator[Buffer]:
        for offset, nbytes in _steps(item, part):
            pieces = []
            for index, source in enumerate(part.sources):
                if source.host == self._host:
                    memory = self._snapshot.memory(source.key)[offset : offset + nbytes]
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
                payload = self._snapshot.memory(source.key)
            else:
                payload = memoryview(bytearray(part.nbytes))
                self._readers[source.host].receive_into(payload)
            arrays.append(decode_strings(payload, part.shape, source.host, item.key))
        return encode_strings(
            np.concatenate(arrays).reshape(item.shape) if len(arrays) > 1 else arrays[0]
        )
