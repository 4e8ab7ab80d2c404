"""Opening a checkpoint: a lazy mapping over a SavedModel or a bundle.

- what TensorFlow wrote is read: every dtype, strings, slices, the object graph apart
- any numpy index gives what it gives on the whole array
- of rows only their bytes are read; whole pieces are checked against their checksums
- arrays of local files are read-only views of one mapping, and outlive the checkpoint
- files that are missing, short or changed are named when they are read, or at once by `verify`
- the same through an fsspec URL
- without saved_model.pb, and without an index, nothing is opened
"""

import gc

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.errors import CorruptionError, MissingKeyError, NotCommittedError
from dsave.format import naming
from dsave.format.bundle import Entry, ShardWriter, build_index
from dsave.format.strings import encode_strings
from dsave.load import open as open_dsave
from dsave.model.dtype import DTYPES, dtype_of
from dsave.model.slices import Box
from dsave.runtime.checkpoint import Checkpoint
from dsave.runtime.source import open_source

W = np.arange(60, dtype=np.float32).reshape(10, 6)
S = np.array([[b"a", b""], [b"\x00bc", b"d" * 200]], object)
GRAPH = b"\x0a\x00graph"


def files_of(*shards):
    """The files of a bundle by the ends of their names; a shard lists (key, array, box)."""
    files, entries = {}, []
    for shard, tensors in enumerate(shards):
        data = bytearray()
        writer = ShardWriter(shard, data.extend)
        for key, array, box in tensors:
            part = array if box is None else array[box.index]
            dtype = dtype_of(array.dtype)
            if dtype.is_string:
                encoded = encode_strings(part)
                writer.add(key, dtype, array.shape, [encoded.payload], box, encoded.crc32c)
            else:
                raw = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
                writer.add(key, dtype, array.shape, [raw], box)
        files[naming.data_file(shard, len(shards), "")] = bytes(data)
        entries += writer.entries
    files[naming.index_file("")] = build_index(entries, len(shards))
    return files


SHARDS = (
    [
        ("whole", W, None),
        ("rows", W, Box((0, 0), (4, 6))),
        ("grid", W, Box((0, 0), (10, 2))),
        ("strings", S, None),
        ("scalar", np.float32(7).reshape(()), None),
    ],
    [
        ("rows", W, Box((4, 0), (6, 6))),
        ("grid", W, Box((0, 2), (5, 4))),
        ("grid", W, Box((5, 2), (5, 4))),
        ("empty", np.zeros((0, 3), np.int64), None),
        ("halves", S, Box((0, 0), (1, 2))),
        ("halves", S, Box((1, 0), (1, 2))),
        (naming.OBJECT_GRAPH_KEY, np.array(GRAPH, object), None),
    ],
)


@pytest.fixture
def prefix(tmp_path):
    for name, data in files_of(*SHARDS).items():
        (tmp_path / f"ckpt{name}").write_bytes(data)
    return str(tmp_path / "ckpt")


@pytest.fixture
def saved_model(tmp_path):
    (tmp_path / "export" / "variables").mkdir(parents=True)
    (tmp_path / "export" / naming.SAVED_MODEL_FILE).write_bytes(b"")
    for name, data in files_of(*SHARDS).items():
        (tmp_path / "export" / f"{naming.VARIABLES_PREFIX}{name}").write_bytes(data)
    return tmp_path / "export"


class Spy:
    """A source that remembers which ranges were read."""

    def __init__(self, source):
        self._source = source
        self.reads = []

    def size(self, file):
        """As the source."""
        return self._source.size(file)

    def read(self, file, offset, nbytes):
        """As the source, remembered."""
        self.reads.append((file.rpartition(".")[2], offset, nbytes))
        return self._source.read(file, offset, nbytes)

    def hold(self, file):
        """As the source."""
        self._source.hold(file)


@pytest.fixture
def spied(prefix):
    spy = Spy(open_source(prefix))
    checkpoint = Checkpoint(prefix, spy, prefix)
    spy.reads.clear()
    return checkpoint, spy.reads


def test_a_saved_model_directory_is_a_mapping_of_its_tensors(saved_model):
    with open_dsave(saved_model) as checkpoint:
        assert list(checkpoint) == [
            "empty",
            "grid",
            "halves",
            "rows",
            "scalar",
            "strings",
            "whole",
        ]
        assert len(checkpoint) == 7
        assert checkpoint.num_shards == 2
        assert "whole" in checkpoint
        stored = checkpoint["whole"]
        assert (stored.key, stored.shape, stored.dtype, stored.nbytes, len(stored)) == (
            "whole", (10, 6), np.dtype("float32"), 240, 10,
        )  # fmt: skip
        assert checkpoint["strings"].dtype == object


def test_a_bare_prefix_is_opened_too(prefix):
    assert open_dsave(prefix)["scalar"][()] == 7
    assert open_dsave(f"file://{prefix}")["scalar"][()] == 7


def test_the_object_graph_is_apart(saved_model):
    checkpoint = open_dsave(saved_model)
    assert checkpoint.object_graph == GRAPH
    assert naming.OBJECT_GRAPH_KEY not in checkpoint


def test_a_checkpoint_without_object_graph_says_so(tmp_path):
    for name, data in files_of([("x", W, None)]).items():
        (tmp_path / f"c{name}").write_bytes(data)
    assert open_dsave(tmp_path / "c").object_graph is None


def test_an_object_graph_that_is_no_scalar_string_is_refused(tmp_path):
    for name, data in files_of([(naming.OBJECT_GRAPH_KEY, W, None)]).items():
        (tmp_path / f"c{name}").write_bytes(data)
    with pytest.raises(CorruptionError, match="it is no scalar string"):
        _ = open_dsave(tmp_path / "c").object_graph


def test_an_unknown_key_is_named_with_its_checkpoint(prefix):
    with pytest.raises(MissingKeyError, match="no entry 'absent'"):
        open_dsave(prefix)["absent"]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("layer/kernel", "; did you mean 'layer/kernel/.ATTRIBUTES/VARIABLE_VALUE'?"),
        ("layer/kernal", "; did you mean 'layer/kernel/.ATTRIBUTES/VARIABLE_VALUE'?"),
        ("kernal/.ATTRIBUTES/VARIABLE_VALUE", "; did you mean 'kernel'?"),
        ("something else", ""),
        (7, ""),
    ],
)
def test_the_key_that_may_have_been_meant_is_named(tmp_path, wrong, hint):
    keys = ["kernel", "layer/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    for name, data in files_of([(key, W, None) for key in keys]).items():
        (tmp_path / f"c{name}").write_bytes(data)
    checkpoint = open_dsave(tmp_path / "c")
    with pytest.raises(MissingKeyError) as raised:
        checkpoint[wrong]
    assert str(raised.value) == f"checkpoint {tmp_path}/c: no entry {wrong!r}{hint}"
    assert wrong not in checkpoint
    assert keys[0] in checkpoint


INDEXES = [
    ..., (), slice(None), slice(2, 5), slice(3, 3), slice(8, 100), slice(-3, None),
    slice(1, 9, 3), slice(None, None, -1), slice(8, 1, -3), 0, 9, -1, np.int64(4), (4,), (4, 2),
    (slice(2, 7), 3), (slice(7, 2, -2), slice(1, 4)), (..., 2), (None, 3),
    (slice(1, 3), ..., None), [1, 8], np.array([0, 9]), np.arange(10) > 6,
    (slice(3, 6), [0, 5]), True,
]  # fmt: skip


@pytest.mark.parametrize("key", ["whole", "rows", "grid"])
@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_an_index_gives_what_it_gives_on_the_whole_array(prefix, key, index):
    found = open_dsave(prefix)[key][index]
    np.testing.assert_array_equal(found, W[index], strict=True)
    assert type(found) is type(W[index])


@given(st.slices(10), st.sampled_from(["whole", "rows", "grid"]))
def test_any_slice_of_rows_is_that_of_the_whole_array(tmp_path_factory, rows, key):
    prefix = tmp_path_factory.getbasetemp() / "sliced"
    if not (tmp_path_factory.getbasetemp() / "sliced.index").exists():
        for name, data in files_of(*SHARDS).items():
            prefix.with_name(f"sliced{name}").write_bytes(data)
    np.testing.assert_array_equal(open_dsave(prefix)[key][rows], W[rows], strict=True)


@pytest.mark.parametrize("key", ["strings", "halves"])
@pytest.mark.parametrize("index", [..., slice(1, 2), 1, (0, 1), (slice(None), 1)], ids=repr)
def test_strings_are_indexed_too(prefix, key, index):
    found = open_dsave(prefix)[key][index]
    assert np.asarray(found, object).tolist() == np.asarray(S[index], object).tolist()


@pytest.mark.parametrize("index", [10, -11, (0, 6), (0, 0, 0)])
def test_an_index_out_of_bounds_is_an_index_error(prefix, index):
    with pytest.raises(IndexError):
        open_dsave(prefix)["whole"][index]


def test_a_scalar_is_an_array_or_an_element_as_in_numpy(prefix):
    scalar = open_dsave(prefix)["scalar"]
    assert scalar[...].shape == ()
    assert type(scalar[()]) is np.float32
    with pytest.raises(TypeError, match="scalar is a scalar and has no length"):
        len(scalar)


def test_an_empty_tensor_is_read(prefix):
    empty = open_dsave(prefix)["empty"]
    assert (empty[...].shape, empty[0:0].shape, empty[...].dtype) == ((0, 3), (0, 3), np.int64)


def test_asarray_is_the_tensor_in_the_dtype_asked_for(prefix):
    stored = open_dsave(prefix)["grid"]
    np.testing.assert_array_equal(np.asarray(stored), W, strict=True)
    np.testing.assert_array_equal(np.asarray(stored, np.int32), W.astype(np.int32), strict=True)
    assert np.array(stored).flags.writeable


def test_of_rows_only_their_bytes_are_read(spied):
    checkpoint, reads = spied
    checkpoint["whole"][3:5]
    checkpoint["rows"][3:5]
    checkpoint["whole"][7]
    assert reads == [
        ("data-00000-of-00002", 3 * 24, 48),
        ("data-00000-of-00002", 240 + 3 * 24, 24),
        ("data-00001-of-00002", 0, 24),
        ("data-00000-of-00002", 7 * 24, 24),
    ]


def test_nothing_is_read_before_it_is_asked_for(spied):
    checkpoint, reads = spied
    assert [stored.nbytes for stored in checkpoint.values()]
    assert reads == []


def test_arrays_are_read_only_views_of_one_mapping(prefix):
    checkpoint = open_dsave(prefix)
    whole = checkpoint["whole"][...]
    assert np.shares_memory(whole, checkpoint["whole"][2:4])
    assert np.shares_memory(whole, np.asarray(checkpoint["whole"]))
    assert np.shares_memory(checkpoint["rows"][5:9], checkpoint["rows"][8])
    assert not whole.flags.writeable
    assert not checkpoint["grid"][...].flags.writeable


def test_arrays_outlive_their_checkpoint_which_opens_again(prefix):
    with open_dsave(prefix) as checkpoint:
        array = checkpoint["whole"][...]
    checkpoint.close()
    assert checkpoint["scalar"][()] == 7
    del checkpoint
    gc.collect()
    np.testing.assert_array_equal(array, W)


def test_a_missing_data_file_matters_only_to_its_own_entries(saved_model):
    (saved_model / naming.data_file(1, 2)).unlink()
    checkpoint = open_dsave(saved_model)
    np.testing.assert_array_equal(checkpoint["whole"][...], W)
    np.testing.assert_array_equal(checkpoint["rows"][:4], W[:4])
    for key in ("rows", "empty"):
        with pytest.raises(CorruptionError, match=r"data-00001-of-00002, .* is not here"):
            checkpoint[key][...]
    with pytest.raises(CorruptionError, match=r"data-00001-of-00002, .* is not here"):
        open_dsave(saved_model, verify=True)


def test_a_data_file_that_was_cut_is_found_when_it_is_first_read(saved_model):
    file = saved_model / naming.data_file(0, 2)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    checkpoint = open_dsave(saved_model)
    with pytest.raises(
        CorruptionError, match=f"'scalar': it ends at byte {len(data)}, the file"
    ):
        checkpoint["whole"][0]
    file.write_bytes(b"")
    with pytest.raises(CorruptionError, match="the file at 0"):
        open_dsave(saved_model)["whole"][0]


def test_nothing_is_allocated_for_slices_that_no_file_holds(tmp_path):
    half = 2**48
    pieces = [
        Entry("x", dtype_of("uint8"), (2 * half,), 0, start, half, 0, Box((start,), (half,)))
        for start in (0, half)
    ]
    (tmp_path / "c.index").write_bytes(build_index(pieces, 1))
    (tmp_path / "c.data-00000-of-00001").write_bytes(b"small")
    with pytest.raises(CorruptionError, match="the file at 5"):
        open_dsave(tmp_path / "c")["x"][...]


def test_a_changed_byte_is_found_by_whole_reads_and_by_verify(saved_model):
    file = saved_model / naming.data_file(0, 2)
    data = bytearray(file.read_bytes())
    data[24 * 9] ^= 1
    file.write_bytes(data)
    checkpoint = open_dsave(saved_model)
    np.testing.assert_array_equal(checkpoint["whole"][:9], W[:9])
    with pytest.raises(CorruptionError, match="'whole': its checksum does not match"):
        checkpoint["whole"][...]
    with pytest.raises(CorruptionError, match="'whole': its checksum does not match"):
        open_dsave(saved_model, verify=True)


def test_each_piece_read_whole_is_checked(saved_model):
    file = saved_model / naming.data_file(0, 2)
    data = bytearray(file.read_bytes())
    data[240] ^= 1
    file.write_bytes(data)
    checkpoint = open_dsave(saved_model)
    np.testing.assert_array_equal(checkpoint["rows"][1:], W[1:])
    with pytest.raises(CorruptionError, match="'rows': its checksum does not match"):
        checkpoint["rows"][:4]


def test_a_sound_checkpoint_verifies(saved_model):
    assert len(open_dsave(saved_model, verify=True)) == 7


def test_a_directory_without_saved_model_is_not_opened(saved_model):
    (saved_model / naming.SAVED_MODEL_FILE).unlink()
    for path in (saved_model, saved_model / "absent", saved_model.parent):
        with pytest.raises(NotCommittedError) as raised:
            open_dsave(path)
        assert raised.value.directory == str(path)
    assert len(open_dsave(saved_model / naming.VARIABLES_PREFIX)) == 7


def test_a_saved_model_without_index_is_corrupt(saved_model):
    (saved_model / naming.INDEX_FILE).unlink()
    with pytest.raises(CorruptionError, match=r"variables\.index: the index is missing"):
        open_dsave(saved_model)


@pytest.mark.parametrize("kind", ["prefix", "saved model"])
def test_the_same_is_read_through_a_url(kind):
    files = fsspec.filesystem("memory")
    root = "/dsave-test/export"
    within = f"/{naming.VARIABLES_PREFIX}" if kind == "saved model" else ""
    for name, data in files_of(*SHARDS).items():
        files.pipe_file(f"{root}{within}{name}", data)
    if kind == "saved model":
        files.pipe_file(f"{root}/{naming.SAVED_MODEL_FILE}", b"")
    try:
        checkpoint = open_dsave(f"memory:/{root}", verify=True)
        for key in ("whole", "rows", "grid"):
            np.testing.assert_array_equal(checkpoint[key][...], W, strict=True)
            np.testing.assert_array_equal(checkpoint[key][3:8:2], W[3:8:2], strict=True)
        assert checkpoint["strings"][...].tolist() == S.tolist()
        assert checkpoint["empty"][...].shape == (0, 3)
        files.rm_file(f"{root}{within}{naming.data_file(1, 2, '')}")
        with pytest.raises(CorruptionError, match=r"data-00001-of-00002, .* is not here"):
            open_dsave(f"memory:/{root}")["rows"][...]
    finally:
        files.rm("/dsave-test", recursive=True)


@pytest.mark.tf
def test_what_tensorflow_saved_is_read(tf, tmp_path):
    module = tf.Module()
    # The others cannot be variables on a CPU.
    kinds = ("int", "uint", "bool", "complex")
    fixed = [dtype for dtype in DTYPES if dtype.name.startswith(kinds)]
    fixed += map(dtype_of, ["float16", "bfloat16", "float32", "float64"])
    wanted = {}
    for dtype in fixed:
        wanted[dtype.name] = np.arange(6).astype(dtype.numpy).reshape(2, 3)
        setattr(module, dtype.name, tf.Variable(wanted[dtype.name]))
    module.text = tf.Variable([b"a\x00", b"", "é"])
    tf.saved_model.save(module, str(tmp_path / "export"))
    checkpoint = open_dsave(tmp_path / "export", verify=True)
    for name, array in wanted.items():
        found = checkpoint[f"{name}/.ATTRIBUTES/VARIABLE_VALUE"]
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found[...], array)
        np.testing.assert_array_equal(found[1], array[1])
    text = checkpoint["text/.ATTRIBUTES/VARIABLE_VALUE"][...]
    assert text.tolist() == [b"a\x00", b"", "é".encode()]
    assert len(checkpoint) == len(fixed) + 1
    reader = tf.train.load_checkpoint(str(tmp_path / "export" / naming.VARIABLES_PREFIX))
    assert checkpoint.object_graph == reader.get_tensor(naming.OBJECT_GRAPH_KEY)


@pytest.mark.tf
def test_slices_that_tensorflow_cannot_put_together_are(tf, tmp_path):
    half = np.arange(8, dtype=np.float16).reshape(4, 2)
    prefix = str(tmp_path / "half")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=["x", "x", "x"],
        shape_and_slices=["4 2 0,1:-", "4 2 1,3:0,1", "4 2 1,3:1,1"],
        tensors=[half[:1], half[1:, :1], half[1:, 1:]],
    )
    stored = open_dsave(prefix)["x"]
    np.testing.assert_array_equal(stored[...], half, strict=True)
    np.testing.assert_array_equal(stored[2:], half[2:], strict=True)
