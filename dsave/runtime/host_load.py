"""One load on one host: its view of the directory, what it reads, what it has made of it.

Nothing that the host holds changes before `staged` is adopted. The calling process takes part
with one of these too, without variables, when the io device is `/job:localhost`.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import numpy as np

from dsave.errors import CorruptionError, DirectoryError, DsaveError, SaveError
from dsave.format import naming
from dsave.format.coding import Buffer
from dsave.format.crc32c import crc32c
from dsave.format.strings import decode_strings, encode_strings
from dsave.model.slices import Box
from dsave.plan.load_plan import HostLoadPlan, Segment, Want
from dsave.plan.shares import shares
from dsave.runtime.arrays import Array, as_bytes, frozen
from dsave.runtime.checkpoint import Checkpoint
from dsave.runtime.source import Source, open_source
from dsave.runtime.stream import Endpoint, Reader, Server


@dataclass(frozen=True, slots=True)
class LoadTicket:
    """What every host is told of a load: which one, where from, and how patient."""

    epoch: str
    directory: str
    stall_timeout_s: float


@dataclass(frozen=True, slots=True)
class View:
    """What a host sees of the directory.

    `save` tells the saves apart that may lie under one path; None: there is none. `sizes` are
    those of the data files that are there, in bytes, by shard.
    """

    save: str | None
    sizes: dict[int, int]


@dataclass(frozen=True, slots=True)
class StoredMetadata:
    """What a load begins with: saved_model.pb, the index, and the checkpoint's object graph."""

    saved_model: bytes
    index: bytes
    object_graph: bytes | None


class HostLoad:
    """The verbs of a load, in the order of `runtime/load_hosts.py`."""

    def __init__(self, host: str, path: str, address: str, ticket: LoadTicket) -> None:
        self._host = host
        self._path = path.rstrip("/")
        self._address = address
        self._timeout_s = ticket.stall_timeout_s
        self._source: Source = open_source(self._path)
        self._checkpoint: Checkpoint | None = None
        self._server: Server | None = None
        self._cancelled = threading.Event()
        self._nbytes = 0
        self._failure: BaseException | None = None
        self._plan = HostLoadPlan((), (), ())
        self._reading: _Reading | None = None
        self._staged: dict[str, Array] | None = None

    def look(self) -> View:
        """See what is there, as far as names and the index tell."""
        with self._named():
            if not self._source.exists(self._file(naming.SAVED_MODEL_FILE)):
                return View(None, {})
            checkpoint = self._open()
            shards = {entry.shard for tensor in checkpoint.values() for entry in tensor.entries}
            sizes = {}
            for shard in shards:
                file = self._file(naming.data_file(shard, checkpoint.num_shards))
                with contextlib.suppress(FileNotFoundError):
                    sizes[shard] = self._source.size(file)
            save = hashlib.sha256(self._read_file(naming.INDEX_FILE))
            if self._source.exists(self._file(naming.FINGERPRINT_FILE)):
                # Saves of equal values differ in their fingerprints alone.
                save.update(self._read_file(naming.FINGERPRINT_FILE))
            return View(save.hexdigest(), sizes)

    def metadata(self) -> StoredMetadata:
        """The metadata that is there."""
        with self._named():
            return StoredMetadata(
                self._read_file(naming.SAVED_MODEL_FILE),
                self._read_file(naming.INDEX_FILE),
                self._open().object_graph,
            )

    def prepare(self, plan: HostLoadPlan) -> Endpoint | None:
        """Take the plan; if others get bytes from here, say where."""
        self._plan = plan
        if plan.reads:
            self._reading = _Reading(self._open(), plan.reads)
        if any(set(segment.wanted_by) - {self._host} for segment in plan.reads):
            self._server = Server(self._address, self._find, self._timeout_s)
            return self._server.endpoint
        return None

    def stage(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Make all arrays that this host is to have, beside those that it has.

        Raises:
            CorruptionError: a data file is not what was written.
            HostLostError: another host stopped sending.
        """
        arrays = _Arrays(self._plan.wants)
        own = [segment for segment in self._plan.reads if self._host in segment.wanted_by]
        # One thread for all that is read here: a second one only waits for the same pages.
        tasks: list[Callable[[], None]] = [partial(self._copy, own, arrays)]
        for source, segments in _by_reader(self._plan.receives).items():
            tasks.append(partial(self._receive, source, segments, endpoints[source], arrays))
        try:
            with self._named():
                _run_all(tasks, self._cancelled)
        except BaseException as error:
            self._failure = self._failure or error
            raise
        self._staged = arrays.finished()

    def checksums(self) -> dict[int, int]:
        """The crcs of segments that are not whole pieces, by number."""
        return {} if self._reading is None else self._reading.checksums

    def staged(self) -> dict[str, Array]:
        """The arrays, by component key.

        Raises:
            SaveError: staging did not end well.
        """
        if self._staged is None:
            raise SaveError(self._host, "taking over what was loaded", "it was not staged")
        return self._staged

    def progress(self) -> int:
        """Bytes read and received so far."""
        return self._nbytes

    def failure(self) -> BaseException | None:
        """Why this host failed, or others did because of it."""
        return self._failure

    def end(self) -> None:
        """Let go of everything; what is under way ends at its next segment."""
        self._cancelled.set()
        if self._server is not None:
            self._server.close()
        self._staged = None
        self._reading = None
        self._source.close()

    def _copy(self, segments: Sequence[Segment], arrays: "_Arrays") -> None:
        for segment in segments:
            arrays.put(segment, self._rows(segment))
            self._nbytes += segment.nbytes

    def _receive(
        self,
        source: str,
        segments: Sequence[Segment],
        endpoint: Endpoint,
        arrays: "_Arrays",
    ) -> None:
        pieces = [(str(segment.number), None) for segment in segments]
        reader = Reader(source, endpoint, pieces, self._timeout_s)
        try:
            for segment in segments:
                if self._cancelled.is_set():
                    return
                arrays.receive(segment, reader)
                self._nbytes += segment.nbytes
        finally:
            reader.close()

    def _find(self, key: str, box: Box | None) -> Iterator[Buffer]:
        """The bytes of a segment, read when its turn comes."""
        assert self._reading is not None
        assert box is None
        return self._sent(self._reading.segments[int(key)])

    def _sent(self, segment: Segment) -> Iterator[Buffer]:
        try:
            with self._named():
                yield self._encoded(segment, self._rows(segment))
        except Exception as error:
            # Who asks only sees the connection break; the caller asks for the reason.
            self._failure = self._failure or error
            raise ConnectionAbortedError from error
        self._nbytes += segment.nbytes

    def _encoded(self, segment: Segment, array: Array) -> Buffer:
        if not segment.entry.dtype.is_string:
            return as_bytes(array)
        payload = encode_strings(array).payload
        if len(payload) != segment.nbytes:
            raise CorruptionError(
                self._path, segment.entry.key, "the lengths of its strings have idle bytes"
            )
        return payload

    def _rows(self, segment: Segment) -> Array:
        if self._cancelled.is_set():
            raise SaveError(self._host, "loading", "the load was given up")
        assert self._reading is not None
        return self._reading.rows(segment)

    def _open(self) -> Checkpoint:
        if self._checkpoint is None:
            prefix = self._file(naming.VARIABLES_PREFIX)
            self._checkpoint = Checkpoint(self._path, self._source, prefix)
        return self._checkpoint

    def _file(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _read_file(self, name: str) -> bytes:
        file = self._file(name)
        return bytes(self._source.read(file, 0, self._source.size(file)))

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except DsaveError:
            raise
        except OSError as error:
            raise DirectoryError(
                self._path, self._host, f"it cannot be read: {error}"
            ) from None


class _Reading:
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

    def rows(self, segment: Segment) -> Array:
        """The rows of a segment. Of all of a piece the checksum has been checked."""
        number = segment.number
        with self._locks[number]:
            array = self._kept.pop(number, None)
            if array is None:
                array = self._checkpoint.read_rows(segment.entry, segment.start, segment.stop)
                if not segment.is_whole:
                    self.checksums[number] = crc32c(as_bytes(array))
            self._waiting[number] -= 1
            if self._waiting[number] > 0:
                self._kept[number] = array
        return array


class _Arrays:
    """The arrays that a host makes, filled segment by segment, from several threads at once."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self._wants: dict[str, list[tuple[Want, Array]]] = {}
        for want in wants:
            array = np.empty(want.box.lengths, want.dtype.numpy)
            self._wants.setdefault(want.key, []).append((want, array))

    def put(self, segment: Segment, rows: Array) -> None:
        """Copy the rows of a segment wherever they are wanted."""
        for want, array, part in self._places(segment):
            array[part.within(want.box).index] = rows[part.within(segment.box).index]

    def receive(self, segment: Segment, reader: Reader) -> None:
        """Take the rows of a segment from a reader, in place if they lie in one run there."""
        dtype, shape = segment.entry.dtype, segment.box.lengths
        if dtype.is_string:
            payload = bytearray(segment.nbytes)
            reader.receive_into(memoryview(payload))
            self.put(segment, decode_strings(payload, shape, "", segment.entry.key))
            return
        want, array, part = next(iter(self._places(segment)))
        if part == segment.box and part.lengths[1:] == want.box.lengths[1:]:
            first = part.starts[0] - want.box.starts[0] if part.starts else 0
            rows = array[first : first + segment.rows] if array.ndim else array
        else:
            rows = np.empty(shape, dtype.numpy)
        reader.receive_into(as_bytes(rows))
        for other_want, other, other_part in self._places(segment):
            if other is not array or rows.base is not array:
                index = other_part.within(other_want.box).index
                other[index] = rows[other_part.within(segment.box).index]

    def finished(self) -> dict[str, Array]:
        """All arrays, by component key, never to be changed again."""
        made: dict[str, Array] = {}
        for want, array in (pair for pairs in self._wants.values() for pair in pairs):
            array.flags.writeable = False
            parts = [array] * want.shared_by
            if want.shared_by > 1:
                parts = [frozen(part) for part in shares(array, want.shared_by)]
            for key, replica in want.slots:
                made[key] = parts[replica if want.shared_by > 1 else 0]
        return made

    def _places(self, segment: Segment) -> Iterator[tuple[Want, Array, Box]]:
        for want, array in self._wants.get(segment.entry.key, ()):
            part = want.box.overlap(segment.box)
            if part is not None:
                yield want, array, part


def _by_reader(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    by_reader: dict[str, list[Segment]] = {}
    for segment in segments:
        by_reader.setdefault(segment.reader, []).append(segment)
    return by_reader


def _run_all(tasks: Sequence[Callable[[], None]], cancelled: threading.Event) -> None:
    """Run the tasks, a thread for each; the first error ends it."""
    if len(tasks) <= 1:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(len(tasks), "dsave-load") as pool:
        running: list[Future[None]] = [pool.submit(task) for task in tasks]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        failed = next((future for future in done if future.exception()), None)
        if failed is not None:
            cancelled.set()
            failed.result()
