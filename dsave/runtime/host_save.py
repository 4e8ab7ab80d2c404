"""One save on one host: its snapshot, its view of the directory, what it has written so far.

The calling process takes part with one of these too, without variables, when the io device is
`/job:localhost`.
"""

import contextlib
import math
import threading
import time
from collections.abc import Collection, Mapping

from dsave.errors import HostLostError, SaveError
from dsave.format.coding import Buffer
from dsave.plan.save_plan import Shard
from dsave.runtime.arrays import Array
from dsave.runtime.file_storage import FileStorage
from dsave.runtime.memory import private_nbytes
from dsave.runtime.object_storage import ObjectStorage
from dsave.runtime.save_messages import Found, HostProgress, Incoming, Receipt, Ticket
from dsave.runtime.shard_writing import Snapshot, write_shard
from dsave.runtime.storage import Storage
from dsave.runtime.stream import CHUNK_NBYTES, Endpoint, Reader, Server

_SAMPLE_NBYTES = 16 << 20


class HostSave:
    """The verbs of a save, called by the coordinator in the order of plan/commit.py."""

    def __init__(
        self, host: str, path: str, address: str, ticket: Ticket, arrays: Mapping[str, Array]
    ) -> None:
        self._host = host
        self._path = path
        self._address = address
        self._ticket = ticket
        self._memory_before = private_nbytes()
        self._peak = 0
        self._nbytes = 0
        self._heard_s = -math.inf
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._beginning = threading.Lock()
        self._readers: list[Reader] = []
        self._server: Server | None = None
        self._storage: Storage | None = None
        self._snapshot = Snapshot(arrays)

    def begin(self, *, stores: bool) -> Found:
        """Tell what the plan needs; with `stores`, see that the directory can be written."""
        free = None
        with self._beginning:
            if stores and not self._cancelled.is_set():
                self._storage = self._open_storage()
                free = self._storage.begin(marker_of(self._host))
            if self._cancelled.is_set():  # it came so late that nobody waits for it any more
                if self._storage is not None:
                    self._heard_s = math.inf  # only this host's own things are there yet
                    self._storage.discard(())
                    self._storage.end()
                raise SaveError(self._host, "taking a snapshot", "the save was given up")
        return Found(self._snapshot.string_nbytes(), free, _clock_s())

    def seen(self) -> frozenset[str]:
        """Markers of all hosts that share the directory."""
        return self._files.seen()

    def serve(self) -> Endpoint:
        """Start to give out this host's bytes to writers on other hosts."""
        self._server = Server(
            self._address, self._snapshot.chunks, self._ticket.stall_timeout_s
        )
        return self._server.endpoint

    def open(self, heard_s: float) -> None:
        """Make the disk ready.

        `heard_s`, here and below: when, by this host's clock, the caller last heard of it. A
        host that stood still for longer than the deadline was given up, though nobody could
        tell it so, and another save may be in place by now: it changes nothing any more.
        """
        self._heard_s = heard_s
        self._files.open()

    def write(self, shard: Shard, endpoints: Mapping[str, Endpoint]) -> Receipt:
        """Write a data file and make it last."""
        started = time.perf_counter()
        sink = self._files.create(shard.file, shard.nbytes)

        def write(data: Buffer) -> None:
            self._go_on(shard.file)
            sink.write(data)
            self._count(memoryview(data).nbytes)

        try:
            entries = write_shard(
                shard,
                self._host,
                self._snapshot,
                endpoints,
                write,
                self._ticket.stall_timeout_s,
                self._opened,
            )
            self._go_on(shard.file)  # an object store shows a file from here on
            sink.close()
        except BaseException:
            sink.abort()
            self._go_on(shard.file)  # or else this is why
            raise
        # Parts have entries of the same bytes as the whole.
        nbytes = max((entry.offset + entry.nbytes for entry in entries), default=0)
        return Receipt(shard.index, tuple(entries), nbytes, time.perf_counter() - started)

    def seal(self, files: Mapping[str, bytes | Incoming], stored: Mapping[str, int]) -> float:
        """See that the data files (with their sizes) are there; write the metadata in order.

        What comes from another process is written first. Returns this host's clock.
        """
        self._files.check(stored)
        for file, data in files.items():
            if isinstance(data, Incoming):
                self._receive(file, data)
        self._files.put({f: data for f, data in files.items() if isinstance(data, bytes)})
        return _clock_s()

    def move(self, heard_s: float) -> None:
        """Make the save visible."""
        self._heard_s = heard_s
        self._files.move()

    def clean(self, heard_s: float, files: Collection[str]) -> None:
        """Remove what was replaced."""
        self._heard_s = heard_s
        self._files.clean(files)

    def move_back(self, heard_s: float) -> None:
        """Undo `move`."""
        self._heard_s = heard_s
        self._files.move_back()

    def discard(self, heard_s: float, files: Collection[str]) -> None:
        """Remove what was written."""
        self._heard_s = heard_s
        self.cancel()
        with self._beginning:  # or what is being made now would stay
            if self._storage is not None:
                self._storage.discard(files)

    def cancel(self) -> None:
        """Make writes that are under way fail, also those that wait for others."""
        self._cancelled.set()
        with self._lock:
            readers = tuple(self._readers)
        for reader in readers:
            reader.break_off()

    def progress(self) -> HostProgress:
        """How far this host is."""
        self._sample()
        return HostProgress(self._nbytes, self._peak, _clock_s())

    def end(self) -> HostProgress:
        """Drop the snapshot; a write that is still under way ends at its next chunk."""
        self.cancel()
        if self._server is not None:
            self._server.close()
        with self._beginning:  # what is begun, or removed, at this moment uses the storage
            if self._storage is not None:
                self._storage.end()
        return self.progress()

    def _receive(self, file: str, incoming: Incoming) -> None:
        sink = self._files.create(file, incoming.nbytes)
        buffer = memoryview(bytearray(min(incoming.nbytes, CHUNK_NBYTES)))
        pieces = [(incoming.key, None)]
        timeout_s = self._ticket.stall_timeout_s
        try:
            with contextlib.closing(
                Reader(incoming.host, incoming.endpoint, pieces, timeout_s)
            ) as reader:
                self._opened(reader)
                for offset in range(0, incoming.nbytes, CHUNK_NBYTES):
                    self._go_on(file)
                    chunk = buffer[: incoming.nbytes - offset]
                    reader.receive_into(chunk)
                    sink.write(chunk)
                    self._count(len(chunk))
            sink.close()
        except HostLostError as error:
            sink.abort()
            raise SaveError(self._host, f"copying {file}", error.problem) from None
        except BaseException:
            sink.abort()
            raise

    def _opened(self, reader: Reader) -> None:
        with self._lock:
            self._readers.append(reader)
        if self._cancelled.is_set():
            reader.break_off()

    def _go_on(self, file: str) -> None:
        if self._cancelled.is_set():
            raise SaveError(self._host, f"writing {file}", "the save was given up")

    def _may_change(self) -> None:
        silent_s = _clock_s() - self._heard_s
        if silent_s > self._ticket.stall_timeout_s:
            problem = (
                f"nobody heard of it for {silent_s:.0f} s; stall_timeout_s sets the deadline"
            )
            raise SaveError(self._host, "changing the directory", problem)

    def _open_storage(self) -> Storage:
        epoch = self._ticket.epoch
        if "://" in self._path:
            return ObjectStorage(self._path, epoch, self._host, self._may_change)
        return FileStorage(
            self._path, epoch, self._host, self._may_change, durable=self._ticket.durable
        )

    @property
    def _files(self) -> Storage:
        assert self._storage is not None, "begin(stores=True) comes first"
        return self._storage

    def _count(self, nbytes: int) -> None:
        with self._lock:
            before = self._nbytes
            self._nbytes += nbytes
        if before // _SAMPLE_NBYTES != self._nbytes // _SAMPLE_NBYTES:
            self._sample()

    def _sample(self) -> None:
        self._peak = max(self._peak, private_nbytes() - self._memory_before)


def _clock_s() -> float:
    """A clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def marker_of(host: str) -> str:
    """A host's name as a part of a file's name."""
    return host.strip("/").replace("/", "-").replace(":", "-")
