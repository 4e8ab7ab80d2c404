"""What a load reads, receives and copies is told of as it happens, however large a row is.

- bytes of one row, of a scalar, of strings, of the other byte order
- that are read, that are received, and that are copied
- a host says how far it is in the middle of a row
- what is put together is right whichever way it comes
"""

import itertools
import threading
import time

import numpy as np
import pytest

from dsave.format import naming
from dsave.format.bundle import Entry, ShardWriter, build_index
from dsave.format.crc32c import crc32c, crc32c_told
from dsave.format.strings import encode_strings
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.plan.load_plan import HostLoadPlan, Segment, Want
from dsave.runtime.arrays import as_bytes
from dsave.runtime.checkpoint import Checkpoint
from dsave.runtime.host_load import HostLoad, LoadTicket
from dsave.runtime.source import open_source
from dsave.runtime.staging import Arrays, Reading
from dsave.runtime.stream import Reader, Server

MIB = 1 << 20
HOST, OTHER = (f"/job:worker/replica:0/task:{task}" for task in (0, 1))
ROW = np.random.default_rng(0).integers(0, 255, (1, 3 * MIB), np.uint8)


def segment_of(array, start=0, stop=None, reader=HOST):
    """Rows of an array that is stored as the only one in its data file."""
    dtype = dtype_of(array.dtype)
    stored = encode_strings(array) if dtype.is_string else None
    nbytes = len(stored.payload) if stored else array.nbytes
    crc = stored.crc32c if stored else crc32c(as_bytes(np.ascontiguousarray(array)))
    entry = Entry("v", dtype, array.shape, 0, 0, nbytes, crc)
    stop = stop or (array.shape[0] if array.shape else 1)
    return Segment(0, entry, start, stop, reader, (HOST,))


def want_of(array, box=None):
    return Want(HOST, "v", dtype_of(array.dtype), box or Box.whole(array.shape), (("k", 0),))


@pytest.fixture
def stored(tmp_path):
    """Writes a SavedModel of one array: its directory."""

    def write(array):
        dtype, data = dtype_of(array.dtype), bytearray()
        writer = ShardWriter(0, data.extend)
        if dtype.is_string:
            encoded = encode_strings(array)
            writer.add("v", dtype, array.shape, [encoded.payload], crc32c=encoded.crc32c)
        else:
            writer.add("v", dtype, array.shape, [as_bytes(array)])
        (tmp_path / "variables").mkdir()
        (tmp_path / naming.data_file(0, 1)).write_bytes(data)
        (tmp_path / naming.INDEX_FILE).write_bytes(build_index(writer.entries, 1))
        (tmp_path / naming.SAVED_MODEL_FILE).write_bytes(b"")
        return str(tmp_path)

    return write


STRINGS = np.array([b"x" * 3 * MIB], object)


@pytest.mark.parametrize(
    ("array", "start", "stop"),
    [(ROW, 0, 1), (STRINGS, 0, 1), (np.ones((4, MIB), np.uint8), 1, 4)],
)
def test_reading_is_told_of_by_the_mebibyte(stored, array, start, stop):
    directory, told = stored(array), []
    prefix = f"{directory}/{naming.VARIABLES_PREFIX}"
    checkpoint = Checkpoint(directory, open_source(directory), prefix)
    segment = segment_of(array, start, stop)
    rows = Reading(checkpoint, [segment]).rows(segment, told.append)
    assert rows.tolist() == array[start:stop].tolist()
    assert told[:3] == [MIB, MIB, MIB]
    assert len(told) < 5


def test_the_checksum_by_chunks_is_that_of_the_whole():
    for data in (b"", b"abc", bytes(range(256)) * 5000):
        assert crc32c_told(data, lambda _: None) == crc32c(data)


@pytest.mark.parametrize(
    ("array", "box"),
    [
        (ROW, None),
        (ROW.T, None),
        (np.ones((6, MIB // 2), np.uint8), None),
        (ROW, Box((0, 5), (1, 3 * MIB - 9))),
        (np.ones((3, 2 * MIB), np.uint8), Box((0, 0), (3, MIB))),
    ],
)
def test_copying_is_told_of_by_the_mebibyte(array, box):
    box, told = box or Box.whole(array.shape), []
    arrays = Arrays([want_of(array, box)])
    arrays.put(segment_of(array), np.ascontiguousarray(array), told.append)
    assert np.array_equal(arrays.finished()["k"], array[box.index])
    assert sum(told) == box.size
    assert max(told) <= MIB


@pytest.mark.parametrize("array", [np.array(7, np.int64), np.zeros((0, 3)), np.zeros((3, 0))])
def test_scalars_and_empty_arrays_are_copied(array):
    arrays = Arrays([want_of(array)])
    arrays.put(segment_of(array), array, lambda _: None)
    np.testing.assert_array_equal(arrays.finished()["k"], array, strict=True)


class slow:
    """Sends the bytes of an array in four parts, and each when it is told to."""

    def __init__(self, array):
        text = encode_strings(array).payload if array.dtype == object else as_bytes(array)
        self._parts = [memoryview(text)[start : start + len(text) // 4 + 1] for start in
                       range(0, len(text), len(text) // 4 + 1)]  # fmt: skip
        self.go = threading.Semaphore(0)

    def find(self, key, box):
        """As a server asks."""
        del key, box
        for part in self._parts:
            self.go.acquire()
            yield part


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@pytest.mark.parametrize("array", [ROW, STRINGS, np.ones(3 * MIB, np.uint8)])
def test_a_host_says_how_far_it_is_in_the_middle_of_a_row(tmp_path, array):
    """An old bug: a row that took longer to come than the deadline failed the load."""
    source = slow(array)
    server = Server("127.0.0.1", source.find, 10.0)
    load = HostLoad(HOST, str(tmp_path), "127.0.0.1", LoadTicket("1-a", str(tmp_path), 2.0))
    segment = segment_of(array, reader=OTHER)
    load.prepare(HostLoadPlan((), (segment,), (want_of(array),)))
    thread = threading.Thread(target=load.stage, args=({OTHER: server.endpoint},))
    thread.start()
    try:
        heard = [load.progress()]
        for _ in range(4):
            source.go.release()
            wait_for(lambda: load.progress() > heard[-1])
            heard.append(load.progress())
        thread.join(10)
        assert load.staged()["k"].tolist() == array.tolist()
        assert [late > early for early, late in itertools.pairwise(heard)] == [True] * 4
    finally:
        server.close()
        load.end()


def test_what_is_received_for_several_arrays_is_in_all():
    array = np.arange(12.0).reshape(3, 4)
    parts = [Box((0, 0), (3, 4)), Box((1, 0), (2, 4)), Box((0, 1), (3, 2))]
    wants = [
        Want(HOST, "v", dtype_of("float64"), box, ((str(number), 0),))
        for number, box in enumerate(parts)
    ]
    server = Server("127.0.0.1", lambda *_: iter([as_bytes(array)]), 10.0)
    reader = Reader(OTHER, server.endpoint, [("0", None)], 10.0)
    try:
        arrays = Arrays(wants)
        arrays.receive(segment_of(array), reader, lambda _: None)
    finally:
        reader.close()
        server.close()
    for number, box in enumerate(parts):
        assert arrays.finished()[str(number)].tolist() == array[box.index].tolist()
