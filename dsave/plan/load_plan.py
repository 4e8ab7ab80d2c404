"""Decide a whole load before its first byte moves: boxes wanted x boxes stored.

Every stored byte that is wanted is read once, by a host that has its data file, and best by
one that wants it; whoever else wants it gets it from there. What is read is cut in segments,
runs of rows of one stored piece: where the box of an array ends, and where a piece is long, so
that several hosts share in reading what all of them want. Strings are not cut: where one of
their rows begins is not known.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dsave.errors import CorruptionError
from dsave.format.bundle import Entry
from dsave.model.dtype import DType
from dsave.model.slices import Box
from dsave.model.variable import Aggregation
from dsave.plan.routing import Load, balance_bytes

SEGMENT_NBYTES = 64 << 20
"""Longer segments are cut, unless they are a single row."""


@dataclass(frozen=True, slots=True)
class Want:
    """An array that a host needs: a box of the tensor `key`.

    It is given to `slots`, (component key, number of the replica). With `shared_by` more than
    1 each slot gets its share of it: it is what so many replicas are worth by `aggregation`.
    """

    host: str
    key: str
    dtype: DType
    box: Box
    slots: tuple[tuple[str, int], ...]
    shared_by: int = 1
    aggregation: Aggregation = Aggregation.NONE


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file, and the hosts that have it, all of it."""

    name: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows `start` to `stop` of a stored piece, counted from its own first.

    A scalar is one row. `reader` reads them for itself and for all of `wanted_by`.
    """

    number: int
    entry: Entry
    start: int
    stop: int
    reader: str
    wanted_by: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the piece."""
        return self.rows == _rows(self.entry)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def nbytes(self) -> int:
        """Bytes in the data file."""
        return _nbytes(self.entry, self.rows)

    @property
    def offset(self) -> int:
        """Where it begins in the data file, in bytes."""
        return self.entry.offset + _nbytes(self.entry, self.start)

    @property
    def box(self) -> Box:
        """Where it lies in the whole tensor."""
        box = self.entry.box or Box.whole(self.entry.shape)
        if not box.starts:
            return box
        return Box((box.starts[0] + self.start, *box.starts[1:]), (self.rows, *box.lengths[1:]))


@dataclass(frozen=True, slots=True)
class HostLoadPlan:
    """What one host does: the segments that it reads, those that it gets, what they become."""

    reads: tuple[Segment, ...]
    receives: tuple[Segment, ...]
    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The frozen decision of a whole load."""

    segments: tuple[Segment, ...]
    wants: tuple[Want, ...]

    def of(self, host: str) -> HostLoadPlan:
        """One host's part."""
        return HostLoadPlan(
            tuple(s for s in self.segments if s.reader == host),
            tuple(s for s in self.segments if s.reader != host and host in s.wanted_by),
            tuple(want for want in self.wants if want.host == host),
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that have a part in it."""
        names = [s.reader for s in self.segments] + [want.host for want in self.wants]
        return tuple(dict.fromkeys(names))


def plan_load(
    wants: Sequence[Want],
    stored: Mapping[str, Sequence[Entry]],
    files: Mapping[int, DataFile],
    segment_nbytes: int | None = SEGMENT_NBYTES,
) -> LoadPlan:
    """Cut what is wanted in segments and choose who reads each.

    `stored`: the pieces of each tensor, which tile it. `files`: the data file of each shard
    that they are in. Segments of more than `segment_nbytes` are cut; None: pieces are not cut
    at all, as where their rows cannot be told apart.

    Raises:
        CorruptionError: no host has a data file.
    """
    by_key: dict[str, list[Want]] = {}
    for want in wants:
        by_key.setdefault(want.key, []).append(want)
    drafts: list[tuple[Entry, int, int, tuple[str, ...]]] = []
    for key, wanted in by_key.items():
        for entry in stored[key]:
            drafts += _cut(entry, wanted, segment_nbytes)
    loads = []
    for number, (entry, start, stop, wanted_by) in enumerate(drafts):
        holders = files[entry.shard].hosts
        if not holders:
            raise CorruptionError(
                files[entry.shard].name, entry.key, "no host has this data file, whole"
            )
        near = tuple(host for host in wanted_by if host in holders) or holders
        nbytes = _nbytes(entry, stop - start)
        loads.append(Load(f"{number:012}", nbytes, near))
    readers = balance_bytes(loads, [host for load in loads for host in load.holders])
    segments = tuple(
        Segment(number, entry, start, stop, readers[f"{number:012}"], wanted_by)
        for number, (entry, start, stop, wanted_by) in enumerate(drafts)
    )
    return LoadPlan(segments, tuple(wants))


def _cut(
    entry: Entry, wants: Iterable[Want], segment_nbytes: int | None
) -> Iterable[tuple[Entry, int, int, tuple[str, ...]]]:
    """(entry, first row, last row, hosts) of the segments of one piece."""
    box = entry.box or Box.whole(entry.shape)
    first = box.starts[0] if box.starts else 0
    spans = []
    for want in wants:
        part = want.box.overlap(box)
        if part is not None:
            start = part.starts[0] - first if part.starts else 0
            spans.append((start, start + (part.lengths[0] if part.lengths else 1), want.host))
    if not spans:
        return
    if entry.dtype.is_string or segment_nbytes is None:
        yield entry, 0, _rows(entry), tuple(dict.fromkeys(host for _, _, host in spans))
        return
    cuts = sorted({row for start, stop, _ in spans for row in (start, stop)})
    wanted_by: list[dict[str, None]] = [{} for _ in cuts]
    for start, stop, host in spans:
        for place in range(bisect_left(cuts, start), bisect_right(cuts, stop) - 1):
            wanted_by[place][host] = None
    longest = max(1, segment_nbytes // _nbytes(entry, 1))
    for place, hosts in enumerate(wanted_by):
        if hosts:
            stop = cuts[place + 1]
            for start in range(cuts[place], stop, longest):
                yield entry, start, min(start + longest, stop), tuple(hosts)


def _rows(entry: Entry) -> int:
    return entry.stored_shape[0] if entry.stored_shape else 1


def _nbytes(entry: Entry, rows: int) -> int:
    """Bytes of some rows; of strings only of all."""
    return entry.nbytes * rows // _rows(entry)
