"""Check every checksum of a checkpoint: its data files in parallel, in bounded memory.

What lies close together is read at once, what is large in chunks whose crcs are joined, and
bytes that several entries have are read once. Only a tensor of strings is read as a whole: its
checksum is not that of its bytes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from dsave.errors import CorruptionError
from dsave.format.bundle import Entry
from dsave.format.crc32c import crc32c, joined
from dsave.runtime.checkpoint import Checkpoint

_CHUNK_NBYTES = 4 << 20
_MAX_THREADS = 16


@dataclass(slots=True)
class _Run:
    """Bytes of a data file, the entries that have them, and what is known of them so far."""

    shard: int
    offset: int
    nbytes: int
    entries: list[Entry] = field(default_factory=list)
    crc: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What is read at once: a part of one run, or several whole ones."""

    offset: int
    nbytes: int
    runs: tuple[_Run, ...]


def check(checkpoint: Checkpoint) -> None:
    """Read everything, and see that it is what was written.

    Raises:
        CorruptionError: a data file is missing, too short, or not what was written.
    """
    entries = [piece for pieces in checkpoint.index.entries.values() for piece in pieces]
    for entry in entries:
        checkpoint.check_place(entry)
    problems = corrupt_entries(checkpoint, entries)
    if problems:
        raise problems[0]


def corrupt_entries(
    checkpoint: Checkpoint,
    entries: Iterable[Entry],
    progress: Callable[[int], object] = lambda _: None,
) -> list[CorruptionError]:
    """Read the bytes of entries, and say which are not what was written, in order of keys.

    `progress` is told how many bytes were read, again and again. Requires: the entries lie
    inside their data files.
    """
    runs: dict[tuple[int, int, int], _Run] = {}
    strings = []
    for entry in entries:
        if entry.dtype.is_string:
            strings.append(entry)
        else:
            place = entry.shard, entry.offset, entry.nbytes
            runs.setdefault(place, _Run(*place)).entries.append(entry)
    chunks = list(_chunks([runs[place] for place in sorted(runs)]))
    problems: list[CorruptionError] = []
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_THREADS), "dsave-check")
    try:
        found = pool.map(partial(_read, checkpoint), chunks)
        for chunk, parts in zip(chunks, found, strict=True):
            for run, (crc, nbytes, problem) in zip(chunk.runs, parts, strict=True):
                run.crc = joined(run.crc, crc, nbytes) if run.crc else crc
                run.problem = run.problem or problem
                progress(nbytes)
        checked = pool.map(partial(_read_strings, checkpoint), strings)
        for entry, error in zip(strings, checked, strict=True):
            problems += [error] if error else []
            progress(entry.nbytes)
    finally:
        pool.shutdown(cancel_futures=True)
    for run in runs.values():
        for entry in run.entries:
            matches = run.crc == entry.crc32c
            problem = run.problem or ("" if matches else "its checksum does not match")
            if problem:
                file = checkpoint.data_file(run.shard)
                problems.append(CorruptionError(file, entry.key, problem))
    return sorted(problems, key=lambda problem: (problem.entry, problem.file))


def _chunks(runs: Iterable[_Run]) -> Iterator[_Chunk]:
    """Chunks of runs that are in the order of their bytes."""
    near: list[_Run] = []
    for run in runs:
        apart = near and (
            run.shard != near[0].shard
            or run.offset + run.nbytes - near[0].offset > _CHUNK_NBYTES
        )
        if apart:
            yield _spanning(near)
            near = []
        if run.nbytes <= _CHUNK_NBYTES:
            near.append(run)
            continue
        for start in range(0, run.nbytes, _CHUNK_NBYTES):
            nbytes = min(_CHUNK_NBYTES, run.nbytes - start)
            yield _Chunk(run.offset + start, nbytes, (run,))
    if near:
        yield _spanning(near)


def _spanning(runs: list[_Run]) -> _Chunk:
    start = runs[0].offset
    return _Chunk(start, max(run.offset + run.nbytes for run in runs) - start, tuple(runs))


def _read(checkpoint: Checkpoint, chunk: _Chunk) -> list[tuple[int, int, str]]:
    """The crc of what the chunk has of each run, its number of bytes, and what is wrong."""
    try:
        data = memoryview(
            checkpoint.read_bytes(chunk.runs[0].shard, chunk.offset, chunk.nbytes)
        )
    except OSError as error:
        return [(0, run.nbytes, f"it cannot be read: {error}") for run in chunk.runs]
    parts = []
    for run in chunk.runs:
        start = max(0, run.offset - chunk.offset)
        part = data[start : run.offset + run.nbytes - chunk.offset]
        parts.append((crc32c(part), len(part), ""))
    return parts


def _read_strings(checkpoint: Checkpoint, entry: Entry) -> CorruptionError | None:
    try:
        checkpoint.read_piece(entry)
    except CorruptionError as error:
        return error
    except OSError as error:
        file = checkpoint.data_file(entry.shard)
        return CorruptionError(file, entry.key, f"it cannot be read: {error}")
    return None
