"""One data file, from arrays of this host and of others.

- entries follow each other without a gap, each with the crc of its bytes
- whoever writes the file, its bytes and entries are the same: local and designated route
- sums and means are those of the whole arrays, taken by chunks
- pieces of a dtype that cannot be put together, and of strings, become one tensor
- parts that have entries of their own share the bytes of the whole
- what is buffered is bounded, whatever the size of the arrays
- a source that goes away, and a disk that is full, end the writing and leave no connection
"""

import contextlib
import gc
import tracemalloc
from types import SimpleNamespace

import google_crc32c
import ml_dtypes
import numpy as np
import pytest

from dsave.errors import DirectoryError, HostLostError
from dsave.format.strings import encode_strings
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
)
from dsave.plan.items import Item, Part, Source, StringNbytes
from dsave.plan.save_plan import Shard, plan_shards
from dsave.plan.sharding import MaxShardSizePolicy
from dsave.runtime import shard_writing
from dsave.runtime.shard_writing import Snapshot, write_shard
from dsave.runtime.stream import CHUNK_NBYTES, Server

A, B, C = HOSTS = tuple(f"/job:worker/replica:0/task:{task}" for task in range(3))
SUM, MEAN = Aggregation.SUM, Aggregation.MEAN
rng = np.random.default_rng(0)


class Job:
    """Arrays on three hosts, and the variables that they belong to."""

    def __init__(self):
        self.arrays = {host: {} for host in HOSTS}
        self.variables = []

    def hold(self, name, host, array, box=None):
        """A component of a variable."""
        held = np.asarray(array)
        self.arrays[host][name] = held
        dtype = dtype_of(held.dtype)
        return Component(
            name, f"{host}/device:GPU:0", name, box or Box.whole(held.shape), dtype
        )

    def add(self, kind, name, arrays, aggregation=Aggregation.NONE):
        """A variable whose replicas are these arrays, by host."""
        held = [self.hold(f"{name}@{h}", h, array) for h, array in arrays.items()]
        shape = held[0].box.lengths
        self.variables.append(
            (name, kind(name, held[0].dtype, shape, tuple(held), aggregation=aggregation))
        )

    def add_sharded(self, name, whole, runs):
        """A variable whose rows are on several hosts, as (host, rows)."""
        whole, held, start = np.asarray(whole), [], 0
        for index, (host, rows) in enumerate(runs):
            corner = (0,) * (whole.ndim - 1)
            box = Box((start, *corner), (rows, *whole.shape[1:]))
            held.append(self.hold(f"{name}_{index}", host, whole[start : start + rows], box))
            start += rows
        variable = ShardedVariable(name, held[0].dtype, whole.shape, tuple(held))
        self.variables.append((name, variable))

    def written(self, io_host=None, sharding=None):
        """(bytes, entries) of each data file, by its number."""
        snapshots = {host: Snapshot(arrays) for host, arrays in self.arrays.items()}
        sizes = {k: n for s in snapshots.values() for k, n in s.string_nbytes().items()}
        with contextlib.ExitStack() as stack:
            endpoints = {}
            for host, snapshot in snapshots.items():
                server = Server("127.0.0.1", snapshot.chunks, 5.0)
                stack.callback(server.close)
                endpoints[host] = server.endpoint
            files = {}
            for shard in plan_shards(self.variables, HOSTS, io_host, sizes, sharding):
                nothing = Snapshot({})
                local = snapshots.get(shard.writer, nothing)
                others = {h: e for h, e in endpoints.items() if h != shard.writer}
                data = bytearray()
                entries = write_shard(shard, shard.writer, local, others, data.extend, 5.0)
                # Pieces of strings have a checksum each, the whole has one.
                several = any(i.dtype.is_string and len(i.parts) > 1 for i in shard.items)
                assert len(data) < shard.nbytes if several else len(data) == shard.nbytes
                files[shard.index] = bytes(data), entries
            return files


@pytest.fixture
def job():
    """A job without variables."""
    return Job()


def stored(files):
    """The bytes of each entry by (key, start of its box), its crc checked."""
    found = {}
    for data, entries in files.values():
        for entry in entries:
            payload = data[entry.offset : entry.offset + entry.nbytes]
            if not entry.dtype.is_string:
                assert entry.crc32c == google_crc32c.value(payload)
            found[entry.key, entry.box and entry.box.starts] = payload
    return found


def test_arrays_of_this_host_follow_each_other_without_a_gap(job):
    values = [rng.random((7, 3)), np.arange(5, dtype=np.int8), np.float32(2), np.zeros((0, 4))]
    for index, value in enumerate(values):
        job.add(Variable, f"v{index}", {A: value})
    ((data, entries),) = job.written().values()
    assert data == b"".join(np.asarray(value).tobytes() for value in values)
    assert [(e.key, e.shape, e.offset, e.nbytes) for e in entries] == [
        ("v0", (7, 3), 0, 168),
        ("v1", (5,), 168, 5),
        ("v2", (), 173, 4),
        ("v3", (0, 4), 177, 0),
    ]
    stored({0: (data, entries)})


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4", "complex128", "bool"])
def test_the_elements_are_those_of_memory_whatever_their_dtype(job, name):
    value = np.ones((3, 5), dtype_of(name).numpy)
    job.add(Variable, "v", {B: value})
    for files in (job.written(), job.written(io_host=A)):
        assert stored(files) == {("v", None): value.tobytes()}


def everything(job):
    large = rng.integers(0, 255, (3 << 20) + 17, np.uint8)
    job.add(Variable, "plain", {A: rng.random((100, 3))})
    job.add(Variable, "large", {B: np.concatenate([large, large])})
    job.add(MirroredVariable, "mirrored", dict.fromkeys(HOSTS, np.arange(1000)))
    job.add_sharded("slices", rng.random((7, 3)).astype(np.float32), [(A, 3), (B, 2), (C, 2)])
    job.add_sharded("pieces", rng.random((7, 3)).astype(np.float16), [(B, 3), (A, 2), (C, 2)])
    total = {host: rng.random(1 << 20).astype(np.float32) for host in HOSTS}
    job.add(SyncOnReadVariable, "sum", total, SUM)
    job.add(SyncOnReadVariable, "mean", {B: np.float64(1), A: np.float64(2)}, MEAN)
    job.add(SyncOnReadVariable, "first", {B: [1], A: [2]}, Aggregation.ONLY_FIRST_REPLICA)
    job.add(Variable, "empty", {C: np.zeros((0, 2), np.float32)})
    job.add(Variable, "text", {C: np.array([b"", b"words", b"\0" * 300], object)})
    words = np.array([[f"{n}".encode() * n] for n in range(200)], object)
    job.add_sharded("texts", words, [(C, 100), (A, 60), (B, 40)])


@pytest.mark.parametrize("io_host", [A, C, "/job:localhost/replica:0/task:0"])
def test_whoever_writes_it_a_file_has_the_same_bytes_and_entries(job, io_host):
    everything(job)
    assert job.written(io_host=io_host) == job.written()


def test_slices_are_entries_of_their_boxes(job):
    whole = rng.random((7, 3)).astype(np.float32)
    job.add_sharded("v", whole, [(A, 3), (B, 4)])
    found = stored(job.written())
    assert found == {
        ("v", (0, 0)): whole[:3].tobytes(),
        ("v", (3, 0)): whole[3:].tobytes(),
    }


def test_pieces_of_many_hosts_become_one_tensor_in_the_order_of_rows(job):
    whole = rng.random((9, 3)).astype(np.float16)
    job.add_sharded("v", whole, [(B, 2), (A, 3), (C, 3), (A, 1)])
    assert stored(job.written()) == {("v", None): whole.tobytes()}


@pytest.mark.parametrize("size", [1, 1000, 3_000_001])
@pytest.mark.parametrize("aggregation", [SUM, MEAN])
def test_an_aggregate_is_that_of_the_whole_arrays(job, aggregation, size):
    arrays = {host: rng.random(size).astype(np.float32) for host in (B, A, C)}
    job.add(SyncOnReadVariable, "v", arrays, aggregation)
    total = arrays[B] + arrays[A] + arrays[C]
    expected = total if aggregation is SUM else total / np.float32(3)
    assert stored(job.written()) == {("v", None): expected.tobytes()}


def test_two_replicas_of_one_host_are_both_counted(job):
    one, other = (job.hold(f"s{n}", A, np.array([n, 10], np.int8)) for n in (100, 101))
    variable = SyncOnReadVariable("v", one.dtype, (2,), (one, other), aggregation=SUM)
    job.variables.append(("v", variable))
    assert stored(job.written()) == {("v", None): np.array([-55, 20], np.int8).tobytes()}


def test_an_aggregate_is_taken_in_the_dtype_of_the_variable(job):
    arrays = {host: np.array([256, 1], ml_dtypes.bfloat16) for host in HOSTS}
    job.add(SyncOnReadVariable, "v", arrays, SUM)
    expected = np.array([768, 3], ml_dtypes.bfloat16).tobytes()
    assert stored(job.written()) == {("v", None): expected}


@pytest.mark.parametrize("io_host", [None, B])
def test_strings_are_stored_as_one_tensor_with_the_crc_of_strings(job, io_host):
    words = np.array([[b"a"], [b""], [b"\xff" * 1000], [b"d"], [b"\0"]], object)
    job.add_sharded("v", words, [(A, 1), (B, 3), (C, 1)])
    job.add(Variable, "one", {C: words})
    whole = encode_strings(words)
    for data, entries in job.written(io_host=io_host).values():
        for entry in entries:
            assert data[entry.offset : entry.offset + entry.nbytes] == whole.payload
            assert (entry.crc32c, entry.shape) == (whole.crc32c, (5, 1))


@pytest.mark.parametrize("io_host", [None, B])
def test_a_tensor_that_is_cut_in_files_is_the_same_tensor(job, io_host):
    whole = rng.random((40, 70)).astype(np.float32)
    job.add(Variable, "v", {A: whole})
    files = job.written(io_host=io_host, sharding=MaxShardSizePolicy(1000))
    again = np.zeros_like(whole)
    assert len(files) > 10
    for data, entries in files.values():
        for entry in entries:
            payload = data[entry.offset : entry.offset + entry.nbytes]
            again[entry.box.index] = np.frombuffer(payload, np.float32).reshape(
                entry.box.lengths
            )
    assert (again == whole).all()
    stored(files)


def test_parts_that_have_entries_of_their_own_share_the_bytes_of_the_whole():
    arrays = {f"part{n}": rng.random((n + 1, 2)).astype(np.float16) for n in range(3)}
    parts = tuple(Part((Source(A, k),), a.shape, a.nbytes) for k, a in arrays.items())
    dtype, keys = dtype_of("float16"), ("a", "b", "c")
    item = Item("v", dtype, (6, 2), None, parts, part_keys=keys)
    after = Item("w", dtype, (1, 2), None, parts[:1])
    data = bytearray()
    shard = Shard(4, "file", A, (item, after))
    entries = write_shard(shard, A, Snapshot(arrays), {}, data.extend, 5.0)
    assert [(e.key, e.shape, e.offset, e.nbytes, e.shard) for e in entries] == [
        ("v", (6, 2), 0, 24, 4),
        ("a", (1, 2), 0, 4, 4),
        ("b", (2, 2), 4, 8, 4),
        ("c", (3, 2), 12, 12, 4),
        ("w", (1, 2), 24, 4, 4),
    ]
    stored({4: (bytes(data), entries)})
    assert len(data) == 28


def test_a_snapshot_tells_what_strings_take():
    words = np.array([b"ab", b"", b"c" * 200], object)
    snapshot = Snapshot({"v": words, "x": np.zeros(3)})
    assert snapshot.string_nbytes() == {"v": StringNbytes(1 + 1 + 2 + 4 + 202, 202)}


def measured(job, io_host=None, shard=None):
    """The most memory that is held while the file of a job is written, and the chunks."""
    chunks = []
    snapshots = {host: Snapshot(arrays) for host, arrays in job.arrays.items()}
    servers = {host: Server("127.0.0.1", s.chunks, 5.0) for host, s in snapshots.items()}
    (shard,) = [shard] if shard else plan_shards(job.variables, HOSTS, io_host, {})
    endpoints = {host: server.endpoint for host, server in servers.items()}
    gc.collect()
    tracemalloc.start()
    write_shard(
        shard,
        shard.writer,
        snapshots[shard.writer],
        endpoints,
        lambda chunk: chunks.append(memoryview(chunk).nbytes),
        5.0,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for server in servers.values():
        server.close()
    return SimpleNamespace(peak=peak, chunks=chunks)


def test_arrays_of_this_host_are_not_copied(job):
    job.add(Variable, "v", {A: np.zeros(32 << 20, np.uint8)})
    written = measured(job, A)
    assert written.peak < 1 << 20
    # Larger ones would leave the cache between the crc and the write.
    assert set(written.chunks) == {1 << 20}


@pytest.mark.parametrize("writer", [A, B])
def test_a_box_that_is_not_one_run_of_memory_is_copied_by_chunks(job, writer):
    box = Box((0, 1), (4096, 4094))
    job.arrays[A]["v"] = np.zeros((4096, 4096), np.float32)
    part = Part((Source(A, "v"),), (4096, 4096), box.size * 4, box)
    item = Item("v", dtype_of("float32"), (4096, 4096), box, (part,))
    written = measured(job, shard=Shard(0, "file", writer, (item,)))
    assert sum(written.chunks) == box.size * 4
    # The writer's chunk, and the one that the source sends while it makes the next.
    assert written.peak < 4 * CHUNK_NBYTES


def test_arrays_of_another_host_go_through_one_chunk(job):
    job.add(Variable, "v", {B: np.zeros(32 << 20, np.uint8)})
    written = measured(job, A)
    assert written.peak < CHUNK_NBYTES + (1 << 20)
    assert max(written.chunks) <= CHUNK_NBYTES


def test_aggregates_are_taken_by_chunks(job):
    arrays = {host: np.zeros(16 << 20, np.uint8) for host in HOSTS}
    job.add(SyncOnReadVariable, "v", arrays, SUM)
    for io_host in (None, C):
        # A step of all replicas, and its sum, made anew for each of them.
        assert measured(job, io_host).peak < 10 << 20


def test_pieces_of_other_hosts_go_through_one_chunk(job):
    job.add_sharded("v", np.zeros((32, 1 << 18), np.float16), [(B, 16), (C, 16)])
    assert measured(job, A).peak < CHUNK_NBYTES + (1 << 20)


def test_a_source_that_goes_away_is_named_and_no_connection_stays(job, monkeypatch):
    readers = []

    class noted(shard_writing.Reader):
        def __init__(self, *args):
            super().__init__(*args)
            readers.append(self)

    monkeypatch.setattr(shard_writing, "Reader", noted)
    job.add(Variable, "v", {B: np.zeros(64 << 20, np.uint8)})
    (shard,) = plan_shards(job.variables, HOSTS, A, {})
    server = Server("127.0.0.1", Snapshot(job.arrays[B]).chunks, 5.0)
    endpoints = {B: server.endpoint}
    with pytest.raises(HostLostError) as caught:
        write_shard(shard, A, Snapshot({}), endpoints, lambda _: server.close(), 5.0)
    assert (caught.value.host, caught.value.phase) == (B, "sending its variables")
    assert [reader._socket.fileno() for reader in readers] == [-1]


def test_a_file_that_cannot_be_written_ends_the_writing(job):
    def full(_data):
        raise DirectoryError("/d", A, "no room")

    job.add(Variable, "v", {B: np.zeros(8 << 20, np.uint8)})
    (shard,) = plan_shards(job.variables, HOSTS, A, {})
    server = Server("127.0.0.1", Snapshot(job.arrays[B]).chunks, 5.0)
    with pytest.raises(DirectoryError, match="no room"):
        write_shard(shard, A, Snapshot({}), {B: server.endpoint}, full, 5.0)
    server.close()
