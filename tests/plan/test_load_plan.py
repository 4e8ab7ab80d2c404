"""A load's plan: boxes wanted x boxes stored.

- for any tiling of a tensor, any boxes wanted by any hosts, and any hosts that have the data
  files: each array is put together from bytes of the files, element by element
- no byte is read twice, none that nobody wants; whoever reads has the file, and wants it if
  one who wants it has it
- a part of a table is read by its host alone, and only its rows
- what several hosts want is cut, and they share in reading it; strings are not cut
- a data file that no host has is an error that names it
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.errors import CorruptionError
from dsave.format.bundle import Entry
from dsave.model.dtype import STRING, dtype_of
from dsave.model.slices import Box
from dsave.plan.load_plan import DataFile, Want, plan_load

HOSTS = ("a", "b", "c")
INT32 = dtype_of("int32")


def entry(shape, box=None, shard=0, offset=0, dtype=INT32, nbytes=None):
    size = Box.whole(shape).size if box is None else box.size
    return Entry("t", dtype, shape, shard, offset, nbytes or 4 * size, 0, box)


def want(host, box, dtype=INT32):
    return Want(host, "t", dtype, box, ((f"{host}-{box.starts}", 0),))


@st.composite
def tilings(draw, box):
    """Boxes that tile a box: it is cut along some axis, and each half again."""
    axes = [axis for axis, length in enumerate(box.lengths) if length > 1]
    if not axes or not draw(st.booleans()):
        return [box]
    axis = draw(st.sampled_from(axes))
    first = draw(st.integers(1, box.lengths[axis] - 1))
    halves = []
    for start, length in ((0, first), (first, box.lengths[axis] - first)):
        starts, lengths = list(box.starts), list(box.lengths)
        starts[axis] += start
        lengths[axis] = length
        halves += draw(tilings(Box(tuple(starts), tuple(lengths))))
    return halves


@st.composite
def loads(draw):
    """(shape, entries, wants, files, segment_nbytes)."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=3)))
    whole = Box.whole(shape)
    boxes = draw(tilings(whole)) if whole.size else [whole]
    entries, ends = [], {}
    for box in boxes:
        shard = draw(st.integers(0, 2))
        made = entry(shape, None if len(boxes) == 1 else box, shard, ends.get(shard, 0))
        ends[shard] = made.offset + made.nbytes
        entries.append(made)
    wants = []
    for _ in range(draw(st.integers(1, 5))):
        starts = tuple(draw(st.integers(0, size)) for size in shape)
        lengths = tuple(draw(st.integers(0, n - s)) for s, n in zip(starts, shape, strict=True))
        wants.append(want(draw(st.sampled_from(HOSTS)), Box(starts, lengths)))
    files = {
        shard: DataFile(
            f"file-{shard}",
            tuple(draw(st.lists(st.sampled_from(HOSTS), min_size=1, unique=True))),
        )
        for shard in range(3)
    }
    return shape, entries, wants, files, draw(st.sampled_from([None, 1, 16, 1 << 20]))


def data_files(tensor, entries):
    """The bytes of each shard."""
    files = {}
    for each in entries:
        box = each.box or Box.whole(tensor.shape)
        files.setdefault(each.shard, bytearray()).extend(tensor[box.index].tobytes())
    return files


@given(loads())
def test_every_array_is_put_together_from_the_bytes_of_the_files(load):
    shape, entries, wants, files, segment_nbytes = load
    plan = plan_load(wants, {"t": entries}, files, segment_nbytes)
    tensor = np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
    stored = data_files(tensor, entries)
    for wanted in wants:
        part = plan.of(wanted.host)
        array = np.full(wanted.box.lengths, -1)
        times = np.zeros(wanted.box.lengths, int)
        for segment in (*part.reads, *part.receives):
            raw = stored[segment.entry.shard][segment.offset : segment.offset + segment.nbytes]
            rows = np.frombuffer(raw, np.int32).reshape(segment.box.lengths)
            overlap = segment.box.overlap(wanted.box)
            if overlap is not None:
                array[overlap.within(wanted.box).index] = rows[
                    overlap.within(segment.box).index
                ]
                times[overlap.within(wanted.box).index] += 1
        assert array.tolist() == tensor[wanted.box.index].tolist()
        assert (times == 1).all()


@given(loads())
def test_bytes_are_read_once_and_by_whom_they_are_near(load):
    _, entries, wants, files, segment_nbytes = load
    plan = plan_load(wants, {"t": entries}, files, segment_nbytes)
    read = [
        (s.entry.shard, byte)
        for s in plan.segments
        for byte in range(s.offset, s.offset + s.nbytes)
    ]
    assert len(read) == len(set(read))
    for segment in plan.segments:
        holders = files[segment.entry.shard].hosts
        assert segment.reader in holders
        near = set(segment.wanted_by) & set(holders)
        assert segment.reader in near or not near
        for host in segment.wanted_by:
            assert any(w.host == host and w.box.overlap(segment.box) for w in wants)


@given(loads())
def test_nothing_is_read_that_nobody_wants_and_no_segment_is_too_long(load):
    _, entries, wants, files, segment_nbytes = load
    plan = plan_load(wants, {"t": entries}, files, segment_nbytes)
    for segment in plan.segments:
        if segment_nbytes is None:
            assert segment.is_whole
            continue
        assert segment.nbytes <= max(segment_nbytes, segment.nbytes // segment.rows)
        for row in range(segment.rows):
            starts, lengths = segment.box.starts, segment.box.lengths
            if starts:
                box = Box((starts[0] + row, *starts[1:]), (1, *lengths[1:]))
                assert any(w.box.overlap(box) for w in wants)


@given(loads())
def test_who_receives_wants_it_and_did_not_read_it(load):
    _, entries, wants, files, segment_nbytes = load
    plan = plan_load(wants, {"t": entries}, files, segment_nbytes)
    for host in HOSTS:
        part = plan.of(host)
        assert {s.number for s in part.reads}.isdisjoint(s.number for s in part.receives)
        assert all(host in s.wanted_by for s in part.receives)
        assert {w.host for w in part.wants} <= {host}
    assert sum(len(plan.of(host).reads) for host in HOSTS) == len(plan.segments)
    assert set(plan.hosts) == {w.host for w in wants} | {s.reader for s in plan.segments}


def test_each_host_reads_only_its_rows_of_a_table():
    stored = [entry((10, 2), Box((0, 0), (5, 2))), entry((10, 2), Box((5, 0), (5, 2)), 1)]
    rows = {"a": (0, 4), "b": (4, 3), "c": (7, 3)}
    wants = [want(host, Box((start, 0), (n, 2))) for host, (start, n) in rows.items()]
    files = {shard: DataFile("f", HOSTS) for shard in (0, 1)}
    plan = plan_load(wants, {"t": stored}, files)
    assert [(s.entry.shard, s.start, s.stop, s.reader, s.wanted_by) for s in plan.segments] == [
        (0, 0, 4, "a", ("a",)),
        (0, 4, 5, "b", ("b",)),
        (1, 0, 2, "b", ("b",)),
        (1, 2, 5, "c", ("c",)),
    ]
    assert [(s.offset, s.nbytes) for s in plan.segments] == [
        (0, 32),
        (32, 8),
        (0, 16),
        (16, 24),
    ]


def test_hosts_that_want_the_same_share_in_reading_it():
    wants = [want(host, Box((0,), (8,))) for host in ("a", "b")]
    plan = plan_load(wants, {"t": [entry((8,))]}, {0: DataFile("f", HOSTS)}, 8)
    assert sorted((s.reader, s.start, s.stop) for s in plan.segments) == [
        ("a", 0, 2),
        ("a", 4, 6),
        ("b", 2, 4),
        ("b", 6, 8),
    ]
    assert {s.wanted_by for s in plan.segments} == {("a", "b")}


def test_who_has_the_file_reads_for_whoever_wants_it():
    wants = [want(host, Box((), ())) for host in ("a", "b")]
    plan = plan_load(wants, {"t": [entry(())]}, {0: DataFile("f", ("c",))})
    (segment,) = plan.segments
    assert (segment.reader, segment.wanted_by, segment.is_whole) == ("c", ("a", "b"), True)
    assert plan.of("c").reads == plan.of("a").receives == plan.of("b").receives == (segment,)
    assert plan.of("c").wants == ()


def test_strings_are_read_as_whole_pieces():
    stored = [entry((4,), dtype=STRING, nbytes=33)]
    wants = [want(h, Box((s,), (2,)), STRING) for h, s in (("a", 0), ("b", 2))]
    plan = plan_load(wants, {"t": stored}, {0: DataFile("f", HOSTS)}, 1)
    assert [(s.nbytes, s.is_whole, s.wanted_by) for s in plan.segments] == [
        (33, True, ("a", "b"))
    ]


def test_a_data_file_on_no_host_is_named():
    with pytest.raises(CorruptionError) as raised:
        plan_load([want("a", Box((), ()))], {"t": [entry(())]}, {0: DataFile("the/file", ())})
    assert (raised.value.file, raised.value.entry) == ("the/file", "t")


def test_what_has_no_elements_is_not_read():
    plan = plan_load([want("a", Box((0,), (0,)))], {"t": [entry((0,), nbytes=0)]}, {})
    assert plan.segments == ()
    assert plan.hosts == ("a",)
