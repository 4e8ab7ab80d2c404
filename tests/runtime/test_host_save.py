"""One save on one host, verb by verb.

- a data file is written whole, and its receipt says what is in it
- progress is what was written so far; the peak is what memory grew by
- a save that is given up stops at the next chunk, while it waits for a source, or where it has
  only begun
- a write that fails closes its file; a save that ends lets go of all it holds
- the metadata is written only where the data files are as they were written
- a URL is an object store, anything else a directory
"""

import contextlib
import math
import os
import threading
import time
from pathlib import Path

import fsspec
import google_crc32c
import numpy as np
import pytest

from dsave.errors import DirectoryError, HostLostError, SaveError
from dsave.model.device import LOCALHOST
from dsave.model.dtype import dtype_of
from dsave.plan.items import Item, Part, Source
from dsave.plan.save_plan import Shard
from dsave.runtime.file_storage import FileStorage
from dsave.runtime.host_save import HostSave, marker_of
from dsave.runtime.object_storage import ObjectStorage
from dsave.runtime.save_messages import HostProgress, Ticket
from dsave.runtime.stream import Reader, Server

HOST = "/job:worker/replica:0/task:1"
FILE = "variables/variables.data-00000-of-00002"
METADATA = {"variables/variables.index": b"index", "saved_model.pb": b"graph"}
VALUE = np.arange(1 << 20, dtype=np.float32)


@pytest.fixture
def export(tmp_path):
    """The directory of the save, not there yet, in an empty one."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "export"


@pytest.fixture
def host(export):
    """A host that has begun a save of one array, 4 MiB."""
    save = started(export, {"x": VALUE})
    save.begin(stores=True)
    save.open(math.inf)
    yield save
    save.end()


def started(directory, arrays, timeout_s=5.0):
    ticket = Ticket("1-a", str(directory), durable=True, stall_timeout_s=timeout_s)
    return HostSave(HOST, str(directory), "127.0.0.1", ticket, arrays)


def shard(*sources):
    """A data file of these (host, key), 4 MiB each."""
    items = tuple(
        Item(f"k{n}", dtype_of("float32"), VALUE.shape, None, (part(host, key),))
        for n, (host, key) in enumerate(sources)
    )
    return Shard(0, FILE, HOST, items)


def part(host, key):
    return Part((Source(host, key),), VALUE.shape, VALUE.nbytes)


def test_a_data_file_is_written_and_its_receipt_says_what_is_in_it(host, export):
    receipt = host.write(shard((HOST, "x"), (HOST, "x")), {})
    host.seal(METADATA, {FILE: receipt.nbytes})
    host.move(math.inf)
    host.clean(math.inf, [FILE, *METADATA])
    assert (export / FILE).read_bytes() == VALUE.tobytes() * 2
    assert (receipt.shard, receipt.nbytes) == (0, 2 * VALUE.nbytes)
    crc = google_crc32c.value(VALUE.tobytes())
    assert [(e.key, e.offset, e.nbytes, e.crc32c) for e in receipt.entries] == [
        ("k0", 0, VALUE.nbytes, crc),
        ("k1", VALUE.nbytes, VALUE.nbytes, crc),
    ]
    assert receipt.seconds > 0


def test_progress_is_what_was_written_so_far(host):
    assert host.progress().nbytes == 0
    host.write(shard((HOST, "x")), {})
    assert host.progress().nbytes == VALUE.nbytes


def test_the_peak_is_what_memory_grew_by(host):
    before = host.progress().peak_bytes
    grown = np.ones(64 << 20, np.uint8)
    assert host.progress().peak_bytes >= before + (60 << 20)
    del grown
    assert host.end().peak_bytes >= before + (60 << 20)


def test_writes_at_once_are_counted_together(export):
    with_remote = started(export, {"x": VALUE})
    with_remote.begin(stores=True)
    with_remote.open(math.inf)
    shards = [
        Shard(n, f"variables/variables.data-0000{n}-of-00005", HOST, shard((HOST, "x")).items)
        for n in range(4)
    ]
    threads = [threading.Thread(target=with_remote.write, args=(s, {})) for s in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert with_remote.end().nbytes == 4 * VALUE.nbytes


class slow_source:
    """A host that sends a little and then waits."""

    def __init__(self):
        self.go_on = threading.Event()
        self.sent = threading.Event()
        self.server = Server("127.0.0.1", self.chunks, 5.0)

    def chunks(self, _key, _box):
        """The bytes, the second half when it is let."""
        yield VALUE[: VALUE.size // 2].tobytes()
        self.sent.set()
        self.go_on.wait()
        yield VALUE[VALUE.size // 2 :].tobytes()


@pytest.mark.parametrize("verb", ["cancel", "end"])
def test_a_save_that_is_given_up_stops_at_the_next_chunk(host, export, verb):
    source, errors = slow_source(), []

    def write():
        try:
            host.write(shard(("other", "x"), (HOST, "x")), {"other": source.server.endpoint})
        except SaveError as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert source.sent.wait(5)
    getattr(host, verb)()
    source.go_on.set()
    writer.join(5)
    source.server.close()
    assert [str(error) for error in errors] == [
        f"{HOST}, while writing {FILE}: the save was given up"
    ]
    assert open_files(export.parent) <= {".export.dsave-1-a", ".seen-by-" + marker_of(HOST)}


@pytest.mark.parametrize("verb", ["cancel", "end"])
def test_a_save_that_is_given_up_waits_for_no_source(export, verb):
    save, source, errors = started(export, {}, timeout_s=60.0), slow_source(), []
    save.begin(stores=True)
    save.open(math.inf)

    def write():
        try:
            save.write(shard(("other", "x")), {"other": source.server.endpoint})
        except SaveError as error:
            errors.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert source.sent.wait(5)
    getattr(save, verb)()
    writer.join(10)
    waits = writer.is_alive()
    source.go_on.set()
    source.server.close()
    save.end()
    assert not waits
    assert [error.problem for error in errors] == ["the save was given up"]


def open_files(below):
    """Names of the files below a directory that this process has open."""
    names = set()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names.add(file.readlink())
    return {name.name for name in names if name.is_relative_to(below)}


def test_a_save_that_was_given_up_while_it_began_leaves_nothing(export):
    save = started(export, {})
    save.cancel()
    with pytest.raises(SaveError, match="the save was given up"):
        save.begin(stores=True)
    assert list(export.parent.iterdir()) == []
    assert open_files(export.parent) == set()


def test_what_begins_and_ends_at_once_is_let_go_of_by_one_at_a_time(export, monkeypatch):
    # Both closed the same descriptor, and the second one raised: the host kept the snapshot.
    begin, end = FileStorage.begin, FileStorage.end
    begun, ending, alone = threading.Event(), threading.Event(), threading.Lock()
    met = []

    def slow_begin(storage, marker):
        free = begin(storage, marker)
        begun.set()
        assert ending.wait(5)
        return free

    def slow_end(storage):
        met.append(not alone.acquire(blocking=False))
        time.sleep(0.5)
        end(storage)
        alone.release()

    monkeypatch.setattr(FileStorage, "begin", slow_begin)
    monkeypatch.setattr(FileStorage, "end", slow_end)
    save = started(export, {})
    refused = []

    def late_begin():
        try:
            save.begin(stores=True)
        except SaveError as error:
            refused.append(error.problem)

    beginner = threading.Thread(target=late_begin)
    beginner.start()
    assert begun.wait(5)
    ender = threading.Thread(target=save.end)
    ender.start()
    time.sleep(0.1)  # it has said that the save is given up, and waits or ends by now
    ending.set()
    beginner.join()
    ender.join()
    assert refused == ["the save was given up"]
    assert met == [False, False]
    assert list(export.parent.iterdir()) == []
    assert open_files(export.parent) == set()


def test_a_source_that_is_lost_fails_the_write_and_closes_its_file(host, export):
    server = Server("127.0.0.1", lambda *_: [b"half"], 5.0)
    with pytest.raises(HostLostError) as caught:
        host.write(shard(("other", "x")), {"other": server.endpoint})
    server.close()
    assert caught.value.host == "other"
    assert Path(FILE).name not in open_files(export.parent)


def test_a_file_that_cannot_be_stored_is_an_error_and_closed(host, export, monkeypatch):
    def refuse(_descriptor):
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DirectoryError, match="the disk is broken") as caught:
        host.write(shard((HOST, "x")), {})
    assert (caught.value.directory, caught.value.host) == (str(export), HOST)
    assert Path(FILE).name not in open_files(export.parent)


def test_the_metadata_is_not_written_beside_a_file_that_is_not_whole(host, export):
    host.write(shard((HOST, "x")), {})
    with pytest.raises(DirectoryError, match="4,194,304 bytes, 4,194,305 were written"):
        host.seal(METADATA, {FILE: VALUE.nbytes + 1})
    assert not (export.parent / ".export.dsave-1-a" / "saved_model.pb").exists()


def test_an_undone_save_leaves_nothing(host, export):
    receipt = host.write(shard((HOST, "x")), {})
    host.seal(METADATA, {FILE: receipt.nbytes})
    host.move(math.inf)
    host.move_back(math.inf)
    host.discard(math.inf, [FILE, *METADATA])
    assert list(export.parent.iterdir()) == []


def test_a_save_that_ends_holds_nothing(export):
    save = started(export, {"x": VALUE})
    save.begin(stores=True)
    endpoint = save.serve()
    save.discard(math.inf, ())
    assert isinstance(save.end(), HostProgress)
    assert open_files(export.parent) == set()
    with pytest.raises(HostLostError):
        Reader(HOST, endpoint, [("x", None)], 1.0)


def test_a_host_that_does_not_write_may_be_told_to_discard(export):
    save = started(export, {"x": VALUE})
    assert save.begin(stores=False).free_nbytes is None
    save.discard(math.inf, [FILE])
    save.end()
    assert list(export.parent.iterdir()) == []


def test_hosts_see_each_other_by_markers(export):
    one, other = (
        HostSave(host, str(export), "", Ticket("1-a", str(export), True, 5.0), {})
        for host in (HOST, LOCALHOST)
    )
    for save in (one, other):
        save.begin(stores=True)
    assert one.seen() == {marker_of(HOST), marker_of(LOCALHOST)}
    one.discard(math.inf, ())
    for save in (one, other):
        save.end()


def test_a_marker_is_a_part_of_a_files_name():
    assert marker_of(HOST) == "job-worker-replica-0-task-1"


@pytest.mark.parametrize(
    ("path", "kind"), [("/tmp/x", FileStorage), ("memory://x/y", ObjectStorage)]
)
def test_a_url_is_an_object_store(path, kind):
    assert type(started(path, {})._open_storage()) is kind


def test_a_save_goes_to_an_object_store_too():
    save = started("memory://host-save/export", {"x": VALUE})
    assert save.begin(stores=True).free_nbytes is None
    save.open(math.inf)
    receipt = save.write(shard((HOST, "x")), {})
    save.seal(METADATA, {FILE: receipt.nbytes})
    save.move(math.inf)
    save.clean(math.inf, [FILE, *METADATA])
    save.end()
    store = fsspec.filesystem("memory")
    assert sorted(store.find("/host-save")) == sorted(
        f"/host-save/export/{name}" for name in [FILE, *METADATA]
    )
    store.rm("/host-save", recursive=True)
