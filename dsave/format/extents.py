"""Where the entries of a bundle lie in its data files: which meet, and how much they cover.

Nothing keeps two entries from having bytes in common, and components do (see
`savedmodel.components`). Between any other two it is a fault of the index.
"""

from collections.abc import Iterable, Iterator

from dsave.format.bundle import Entry


def meetings(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of entries that have bytes in common: each entry with one that begins before it."""
    before: Entry | None = None
    for entry in _in_order(entries):
        if before is None or before.shard != entry.shard or _end(before) <= entry.offset:
            before = entry
            continue
        yield before, entry
        if _end(entry) > _end(before):
            before = entry


def covered_nbytes(entries: Iterable[Entry]) -> dict[int, int]:
    """How many bytes of each data file, by shard, are of some entry."""
    covered: dict[int, int] = {}
    reached: dict[int, int] = {}
    for entry in _in_order(entries):
        start = max(entry.offset, reached.get(entry.shard, 0))
        fresh = max(0, _end(entry) - start)
        covered[entry.shard] = covered.get(entry.shard, 0) + fresh
        reached[entry.shard] = start + fresh
    return covered


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    with_bytes = (entry for entry in entries if entry.nbytes)
    return sorted(with_bytes, key=lambda entry: (entry.shard, entry.offset, entry.nbytes))


def _end(entry: Entry) -> int:
    return entry.offset + entry.nbytes
