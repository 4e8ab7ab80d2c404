"""One load on one host: its view of the directory, what it reads, what it has made of it.

Nothing that the host holds changes before `staged` is adopted. The calling process takes part
with one of these too, without variables, when the io device is `/job:localhost`.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from dsave.errors import CorruptionError, DirectoryError, SaveError
from dsave.format import naming
from dsave.format.coding import Buffer
from dsave.format.strings import encode_strings
from dsave.model.slices import Box
from dsave.plan.load_plan import HostLoadPlan, Segment
from dsave.runtime.absence import absence
from dsave.runtime.arrays import Array, as_bytes
from dsave.runtime.checkpoint import Checkpoint
from dsave.runtime.source import Source, of_one_save, read_whole, readable
from dsave.runtime.staging import Arrays, Reading
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

    `save` tells the saves apart that may lie under one path; None: there is none, and `absence`
    says why. `sizes` are those of the data files that are there, in bytes, by shard.
    """

    save: str | None
    sizes: dict[int, int]
    absence: str = ""


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
        self._called = ticket.directory
        self._address = address
        self._timeout_s = ticket.stall_timeout_s
        self._source: Source | None = None
        self._checkpoint: Checkpoint | None = None
        self._server: Server | None = None
        self._cancelled = threading.Event()
        self._nbytes = 0
        self._failure: BaseException | None = None
        self._plan = HostLoadPlan((), (), ())
        self._reading: Reading | None = None
        self._staged: dict[str, Array] | None = None
        self.replaced: dict[str, tuple[Array, Array | None]] = {}
        """What was adopted and what had been there, by component key."""

    def look(self) -> View:
        """See what is there, as far as names and the index tell; all later reads are of it."""
        self._close()
        self._source, view = of_one_save(self._path, self._looked, host=self._host)
        return view

    def _looked(self, source: Source) -> tuple[Source, View]:
        saved_model = self._file(naming.SAVED_MODEL_FILE)
        if not source.exists(saved_model):
            return source, View(None, {}, absence(source, self._path, self._called))
        source.hold(saved_model)
        checkpoint = Checkpoint(self._path, source, self._file(naming.VARIABLES_PREFIX))
        sizes = {}
        for shard in {
            e.shard for entries in checkpoint.index.entries.values() for e in entries
        }:
            with contextlib.suppress(FileNotFoundError):
                sizes[shard] = source.size(checkpoint.data_file(shard))
        save = hashlib.sha256(read_whole(source, checkpoint.index_file))
        fingerprint = self._file(naming.FINGERPRINT_FILE)
        if source.exists(fingerprint):
            # Saves of equal values differ in their fingerprints alone.
            save.update(read_whole(source, fingerprint))
        self._checkpoint = checkpoint
        return source, View(save.hexdigest(), sizes)

    def metadata(self) -> StoredMetadata:
        """The metadata of the save that was there when this host looked.

        Raises:
            DirectoryError: another save has taken its place, where that one cannot be held.
        """
        with self._named():
            source, checkpoint = self._source, self._open()
            assert source is not None
            try:
                metadata = StoredMetadata(
                    read_whole(source, self._file(naming.SAVED_MODEL_FILE)),
                    read_whole(source, checkpoint.index_file),
                    checkpoint.object_graph,
                )
            except (CorruptionError, FileNotFoundError):
                if not source.torn():
                    raise
            else:
                if not source.torn():
                    return metadata
            raise DirectoryError(self._path, self._host, "another save has taken its place")

    def prepare(self, plan: HostLoadPlan) -> Endpoint | None:
        """Take the plan; if others get bytes from here, say where."""
        self._plan = plan
        if plan.reads:
            self._reading = Reading(self._open(), plan.reads)
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
        arrays = Arrays(self._plan.wants)
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
        """Bytes read, received and copied so far: it rises as long as anything moves."""
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
        self.replaced = {}
        self._reading = None
        self._close()

    def _copy(self, segments: Sequence[Segment], arrays: Arrays) -> None:
        for segment in segments:
            arrays.put(segment, self._rows(segment), self._moved)

    def _receive(
        self,
        source: str,
        segments: Sequence[Segment],
        endpoint: Endpoint,
        arrays: Arrays,
    ) -> None:
        pieces = [(str(segment.number), None) for segment in segments]
        reader = Reader(source, endpoint, pieces, self._timeout_s)
        try:
            for segment in segments:
                if self._cancelled.is_set():
                    return
                arrays.receive(segment, reader, self._moved)
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
        return self._reading.rows(segment, self._moved)

    def _moved(self, nbytes: int) -> None:
        self._nbytes += nbytes

    def _open(self) -> Checkpoint:
        assert self._checkpoint is not None  # nobody reads who sees no save
        return self._checkpoint

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source = self._checkpoint = None

    def _file(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _named(self) -> AbstractContextManager[None]:
        return readable(self._path, self._host)


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
