"""What a load reads on a host, segment by segment, and the arrays that it puts together."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dsave.format.crc32c import CHUNK_NBYTES, crc32c_told
from dsave.format.strings import decode_strings
from dsave.model.slices import Box
from dsave.plan.load_plan import Segment, Want
from dsave.plan.shares import shares
from dsave.runtime.arrays import Array, as_bytes, frozen
from dsave.runtime.checkpoint import Checkpoint
from dsave.runtime.stream import Reader

Told = Callable[[int], object]
"""Hears of bytes as they are read, received or copied: who moves none has stalled."""


class Reading:
    """The segments that this host reads, each once, and kept until all have had it.

    Those of a local file are views of it, which take no memory.
    """

    def __init__(self, checkpoint: Checkpoint, segments: Sequence[Segment]) -> None:
        self.segments = {segment.number: segment for segment in segments}
        self.checksums: dict[int, int] = {}
        self._checkpoint = checkpoint
        self._locks = {number: threading.Lock() for number in self.segments}
        self._waiting = {s.number: len(s.wanted_by) for s in segments}
        self._kept: dict[int, Array] = {}

    def rows(self, segment: Segment, told: Told) -> Array:
        """The rows of a segment. Of all of a piece the checksum has been checked."""
        number = segment.number
        with self._locks[number]:
            array = self._kept.pop(number, None)
            if array is None:
                array = self._checkpoint.read_rows(
                    segment.entry, segment.start, segment.stop, told
                )
                if not segment.is_whole:
                    self.checksums[number] = crc32c_told(as_bytes(array), told)
            self._waiting[number] -= 1
            if self._waiting[number] > 0:
                self._kept[number] = array
        return array


class Arrays:
    """The arrays that a host makes, filled segment by segment, from several threads at once."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self._wants: dict[str, list[tuple[Want, Array]]] = {}
        for want in wants:
            array = np.empty(want.box.lengths, want.dtype.numpy)
            self._wants.setdefault(want.key, []).append((want, array))

    def put(self, segment: Segment, rows: Array, told: Told) -> None:
        """Copy the rows of a segment wherever they are wanted."""
        for want, array, part in self._places(segment):
            _copy(array, part.within(want.box), rows, part.within(segment.box), told)

    def receive(self, segment: Segment, reader: Reader, told: Told) -> None:
        """Take the rows of a segment from a reader, in place if they lie in one run there."""
        dtype, shape = segment.entry.dtype, segment.box.lengths
        if dtype.is_string:
            payload = bytearray(segment.nbytes)
            reader.receive_into(memoryview(payload), told)
            self.put(segment, decode_strings(payload, shape, "", segment.entry.key), told)
            return
        want, array, part = next(iter(self._places(segment)))
        if part == segment.box and part.lengths[1:] == want.box.lengths[1:]:
            first = part.starts[0] - want.box.starts[0] if part.starts else 0
            rows = array[first : first + segment.rows] if array.ndim else array
        else:
            rows = np.empty(shape, dtype.numpy)
        reader.receive_into(as_bytes(rows), told)
        for other_want, other, other_part in self._places(segment):
            if other is not array or rows.base is not array:
                _copy(
                    other,
                    other_part.within(other_want.box),
                    rows,
                    other_part.within(segment.box),
                    told,
                )

    def finished(self) -> dict[str, Array]:
        """All arrays, by component key, never to be changed again."""
        made: dict[str, Array] = {}
        for want, array in (pair for pairs in self._wants.values() for pair in pairs):
            array.flags.writeable = False
            parts = [array] * want.shared_by
            if want.shared_by > 1:
                given = shares(want.aggregation, array, want.shared_by)
                parts = [frozen(part) for part in given]
            for key, replica in want.slots:
                made[key] = parts[replica if want.shared_by > 1 else 0]
        return made

    def _places(self, segment: Segment) -> Iterator[tuple[Want, Array, Box]]:
        for want, array in self._wants.get(segment.entry.key, ()):
            part = want.box.overlap(segment.box)
            if part is not None:
                yield want, array, part


def _copy(target: Array, place: Box, source: Array, origin: Box, told: Told) -> None:
    """Copy a box of one array to a box of another, piece by piece."""
    # With the dots they are views of arrays without axes too.
    there: tuple[Any, ...] = (*place.index, ...)
    here: tuple[Any, ...] = (*origin.index, ...)
    into, out_of = target[there], source[here]
    if into.flags.c_contiguous and out_of.flags.c_contiguous:  # as is a table of one row
        into, out_of = into.reshape(-1), out_of.reshape(-1)
    step = max(1, CHUNK_NBYTES // max(1, into[:1].nbytes))
    for start in range(0, len(into), step):
        piece = out_of[start : start + step]
        into[start : start + step] = piece
        told(piece.nbytes)
