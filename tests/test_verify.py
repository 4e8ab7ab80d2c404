"""What `verify` finds in SavedModels and checkpoints, and that it finds nothing in good ones.

- nothing is found in what dsave or TensorFlow saved: any policy, slices, strings, assets
- a byte that changed anywhere in a tensor is found, also in strings and in the object graph
- a data file that is missing is one finding; one that is short, one for each entry beyond it
- entries that share bytes, values without an entry, variables of another dtype, graphs and
  indexes that the fingerprint does not know, and assets that are missing are found
- all findings are told, not the first alone; a disk that fails is one of them
- bytes of no tensor are counted, and are none
- files are read in parallel, each byte once, and in bounded memory
"""

import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dsave
from dsave.errors import NotCommittedError
from dsave.format import naming
from dsave.format.bundle import ShardWriter, build_index
from dsave.format.bundle_reader import read_index
from dsave.model.dtype import dtype_of
from dsave.options import VariablePolicy
from dsave.proto.saved_model_pb2 import FingerprintDef, SavedModel
from dsave.runtime import local_files
from dsave.savedmodel.fingerprint import build_fingerprint
from dsave.verify import verify

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
CHANGED = (
    naming.FINGERPRINT_FILE,
    "",
    "it is of another saved_model.pb, or was changed itself",
)
FILES = [naming.data_file(shard, 3) for shard in range(3)]
UNREADABLE = "it cannot be read: [Errno 5] Input/output error"


def findings(path):
    """(file below the path, entry, problem) of each finding."""
    found = verify(str(path)).findings
    return [(f.file.removeprefix(f"{path}/"), f.entry, f.problem) for f in found]


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


def rewrite_index(saved, change):
    """Put another index in place, made of the entries that `change` gives for each entry."""
    file = saved / naming.INDEX_FILE
    index = read_index(file.read_bytes(), str(file))
    pieces = [change(piece) for entries in index.entries.values() for piece in entries]
    data = build_index([piece for piece in pieces if piece is not None], index.num_shards)
    file.write_bytes(data)
    saved_model = (saved / naming.SAVED_MODEL_FILE).read_bytes()
    (saved / naming.FINGERPRINT_FILE).write_bytes(build_fingerprint(saved_model, data, 1))


def rewrite_graph(saved, change):
    """Put another saved_model.pb in place, as `change` leaves its graph."""
    proto = SavedModel.FromString((saved / naming.SAVED_MODEL_FILE).read_bytes())
    change(proto.meta_graphs[0])
    data = proto.SerializeToString(deterministic=True)
    (saved / naming.SAVED_MODEL_FILE).write_bytes(data)


@pytest.mark.parametrize("policy", VariablePolicy)
def test_nothing_is_found_in_a_good_model(models, tmp_path, policy):
    saved = models.write(tmp_path / "saved", *models.example(), policy)
    assert findings(saved) == []
    assert findings(saved / "variables" / "variables") == []


def test_nothing_is_found_at_a_url(saved):
    fsspec.filesystem("memory").put(str(saved), "/verified", recursive=True)
    assert verify("memory://verified").findings == ()


@pytest.fixture(scope="module")
def of_tensorflow(tf, tmp_path_factory):
    """A model of TensorFlow's: slices in many files, strings, an asset, a table, a function."""
    place = tmp_path_factory.mktemp("of_tensorflow")
    words = place / "words.txt"
    words.write_text("a\nb\n")
    model = tf.Module()
    model.w = tf.Variable(tf.random.normal((40, 3)))
    model.words = tf.Variable(["a", "", "bcd"])
    model.list = [tf.Variable(1), {"k": tf.Variable(2.0)}]
    of = tf.lookup.TextFileIndex
    rows = tf.lookup.TextFileInitializer(
        str(words), tf.string, of.WHOLE_LINE, tf.int64, of.LINE_NUMBER
    )
    model.table = tf.lookup.StaticHashTable(rows, -1)
    model.call = tf.function(
        lambda x: x @ model.w, input_signature=[tf.TensorSpec([None, 40], tf.float32)]
    )
    options = tf.saved_model.SaveOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(200)
    )
    tf.saved_model.save(model, str(place / "saved"), signatures=model.call, options=options)
    return place / "saved"


@pytest.mark.tf
def test_nothing_is_found_in_what_tensorflow_saved(of_tensorflow):
    assert findings(of_tensorflow) == []
    assert verify(str(of_tensorflow)).data_files > 2


@pytest.mark.tf
def test_nothing_is_found_in_a_checkpoint_with_slots(tf, tmp_path):
    variable, optimizer = tf.Variable([1.0, 2.0]), tf.keras.optimizers.Adam()
    optimizer.build([variable])
    prefix = tf.train.Checkpoint(v=variable, optimizer=optimizer).save(str(tmp_path / "c"))
    assert findings(prefix) == []


@pytest.mark.tf
def test_nothing_is_found_in_graphs_of_tensorflow_1(tf, tmp_path):
    v1 = tf.compat.v1
    for name, with_variable in {"with": True, "without": False}.items():
        with v1.Session(graph=tf.Graph()) as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            y = x * v1.get_variable("v", initializer=2.0) if with_variable else x * 2
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(tmp_path / name), {"x": x}, {"y": y})
        assert findings(tmp_path / name) == []
    assert not list((tmp_path / "without" / "variables").glob("*"))


@pytest.mark.tf
def test_an_asset_that_is_missing_is_found(of_tensorflow, tmp_path):
    copy = shutil.copytree(of_tensorflow, tmp_path / "copy")
    (copy / "assets" / "words.txt").unlink()
    problem = "the model reads this file, which is not there"
    assert findings(copy) == [("assets/words.txt", "", problem)]


@pytest.mark.tf
def test_a_string_that_changed_is_found(of_tensorflow, tmp_path):
    copy = shutil.copytree(of_tensorflow, tmp_path / "copy")
    (entry,) = dsave.open(copy)[f"words{SUFFIX}"].entries
    file = naming.data_file(entry.shard, dsave.open(copy).num_shards)
    flip(copy / file, entry.offset + entry.nbytes - 1)
    assert findings(copy) == [(file, f"words{SUFFIX}", "its checksum does not match")]


def test_a_directory_without_a_save_is_refused(tmp_path):
    with pytest.raises(NotCommittedError):
        verify(str(tmp_path))


@given(data=st.data())
def test_a_byte_that_changed_in_a_tensor_is_found(models, tmp_path_factory, data):
    saved = models.write(tmp_path_factory.mktemp("flipped") / "saved", *models.example())
    file = data.draw(st.sampled_from(FILES))
    size = (saved / file).stat().st_size
    flip(saved / file, data.draw(st.integers(0, size - 1)))
    found = findings(saved)
    assert found
    assert {where for where, _, _ in found} == {file}


@given(data=st.data())
def test_a_byte_that_changed_in_the_index_is_found(models, tmp_path_factory, data):
    saved = models.write(tmp_path_factory.mktemp("flipped") / "saved", *models.example())
    file = saved / naming.INDEX_FILE
    flip(file, data.draw(st.integers(0, file.stat().st_size - 1)))
    # Padding alone may change without a reader's noticing, but for the fingerprint.
    assert {where for where, _, _ in findings(saved)} <= {
        naming.INDEX_FILE,
        naming.FINGERPRINT_FILE,
    }
    assert findings(saved)


def test_the_object_graph_is_checked_once(saved):
    flip(saved / FILES[2], 20)
    problem = "its checksum does not match"
    assert findings(saved) == [(FILES[2], naming.OBJECT_GRAPH_KEY, problem)]


def test_a_missing_data_file_is_one_finding(models, tmp_path):
    saved = models.write(tmp_path / "saved", *models.example())
    (saved / FILES[0]).unlink()
    problem = "the data file is not here; a host-local directory has only its own host's"
    assert findings(saved) == [(FILES[0], "", problem)]


def test_each_entry_beyond_the_end_of_its_file_is_found(models, tmp_path):
    saved = models.write(tmp_path / "saved", *models.example())
    os.truncate(saved / FILES[0], 6)
    assert findings(saved) == [
        (FILES[0], f"seen{SUFFIX}", "it ends at byte 8, the file at 6"),
        (FILES[0], f"table{SUFFIX}", "it ends at byte 24, the file at 6"),
    ]


def test_an_index_that_cannot_be_read_is_the_only_finding(saved):
    flip(saved / naming.INDEX_FILE, 3)
    ((file, _, problem),) = [f for f in findings(saved) if f[0] != naming.FINGERPRINT_FILE]
    assert (file, problem) == (naming.INDEX_FILE, "block checksum mismatch at byte 0")


def test_tensors_that_share_bytes_are_found(saved):
    first = next(iter(dsave.open(saved)[f"step{SUFFIX}"].entries))
    rewrite_index(
        saved,
        lambda e: (
            e._replace(offset=first.offset, crc32c=first.crc32c)
            if e.key == f"seen{SUFFIX}"
            else e
        ),
    )
    problem = f"it shares byte 0 with 'seen{SUFFIX}'"
    assert findings(saved) == [(FILES[0], f"step{SUFFIX}", problem)]


def test_a_value_without_an_entry_is_found(models, tmp_path):
    saved = models.write(tmp_path / "saved", *models.example())
    rewrite_index(saved, lambda e: None if e.key == f"step{SUFFIX}" else e)
    problem = "the object graph has it, the index has not"
    assert findings(saved) == [(naming.INDEX_FILE, f"step{SUFFIX}", problem)]


def test_every_variable_of_another_dtype_or_shape_is_found(models, tmp_path):
    saved = models.write(tmp_path / "saved", *models.example())

    def change(meta_graph):
        variables = {n.variable.name: n.variable for n in meta_graph.object_graph_def.nodes}
        variables["step"].dtype = dtype_of("int64").number
        variables["w"].shape.dim[1].size = 4

    rewrite_graph(saved, change)
    of_w = "it is a variable of dtype number 1 and shape (2, 4), "
    assert findings(saved) == [
        CHANGED,
        (
            naming.SAVED_MODEL_FILE,
            "step",
            "it is a variable of dtype number 9 and shape (), in the checkpoint it is int32 ()",
        ),
        (
            naming.SAVED_MODEL_FILE,
            "w",
            f"{of_w}in the checkpoint it is float32 (2, 3)",
        ),
    ]


def test_a_saved_model_that_cannot_be_parsed_is_found_and_the_rest_is_checked(saved):
    (saved / naming.SAVED_MODEL_FILE).write_bytes(b"\xff")
    flip(saved / FILES[2], 20)
    assert [where for where, _, _ in findings(saved)] == [naming.SAVED_MODEL_FILE, FILES[2]]


def test_an_index_of_another_save_is_found(models, saved, tmp_path):
    other = models.write(tmp_path / "other", *models.example())
    shutil.copy(saved / naming.FINGERPRINT_FILE, other)
    problem = "it is of a model with another index"
    assert findings(other)[0] == (naming.FINGERPRINT_FILE, "", problem)


def test_a_graph_that_is_not_that_of_the_fingerprint_is_found(saved):
    rewrite_graph(saved, lambda m: m.graph_def.node[0].ClearField("attr"))
    problem = "it is of a model with another graph"
    assert findings(saved) == [(naming.FINGERPRINT_FILE, "", problem)]


def test_signatures_that_are_not_those_of_the_fingerprint_are_found(saved):
    rewrite_graph(saved, lambda m: m.signature_def["more"].SetInParent())
    problem = "it is of a model with other signatures"
    assert findings(saved) == [(naming.FINGERPRINT_FILE, "", problem)]


def test_of_a_fingerprint_of_other_rules_the_index_is_checked_alone(saved):
    file = saved / naming.FINGERPRINT_FILE
    rewrite_graph(saved, lambda m: m.graph_def.node[0].ClearField("attr"))
    fingerprint = FingerprintDef.FromString(file.read_bytes())
    fingerprint.ClearField("dsave_checksum")
    fingerprint.saved_model_checksum = 1  # whatever that is of
    fingerprint.version.producer = 9
    file.write_bytes(fingerprint.SerializeToString())
    assert findings(saved) == []
    fingerprint.checkpoint_hash += 1
    file.write_bytes(fingerprint.SerializeToString())
    problem = "it is of a model with another index"
    assert findings(saved) == [(naming.FINGERPRINT_FILE, "", problem)]


def test_a_constant_that_changed_is_found(saved):
    rewrite_graph(saved, lambda m: m.graph_def.library.function.add())
    assert findings(saved) == [CHANGED]


@given(data=st.data())
def test_a_byte_that_changed_in_the_graph_is_found(models, tmp_path_factory, data):
    saved = models.write(tmp_path_factory.mktemp("flipped") / "saved", *models.example())
    file = saved / naming.SAVED_MODEL_FILE
    flip(file, data.draw(st.integers(0, file.stat().st_size - 1)))
    assert {where for where, _, _ in findings(saved)} <= {
        naming.SAVED_MODEL_FILE,
        naming.FINGERPRINT_FILE,
    }
    assert findings(saved)


def test_a_number_that_changed_in_the_fingerprint_is_found(saved):
    file = saved / naming.FINGERPRINT_FILE
    data = file.read_bytes()
    for position in range(len(data)):
        flip(file, position)
        # The last byte of a number has bits that say nothing.
        assert findings(saved) or parsed(file.read_bytes()) == parsed(data), position


def parsed(fingerprint):
    return FingerprintDef.FromString(fingerprint)


def test_bytes_of_no_tensor_are_counted_and_no_finding(saved):
    with (saved / FILES[1]).open("ab") as file:
        file.write(b"more")
    report = verify(str(saved))
    assert (report.findings, report.idle_nbytes) == ((), 4)


def test_a_disk_that_fails_is_a_finding(saved, monkeypatch):
    read = local_files.ReadFiles.read

    def failing(self, file, offset, nbytes):
        if file.endswith(FILES[1]):
            raise OSError(5, "Input/output error")
        return read(self, file, offset, nbytes)

    monkeypatch.setattr(local_files.ReadFiles, "read", failing)
    assert findings(saved) == [
        (FILES[1], f"{key}{SUFFIX}", UNREADABLE)
        for key in ("_components/table.Spart_1", "_components/w.Sreplica_1", "table", "w")
    ]


def bundle(directory, values):
    """The prefix of a bundle of these arrays, a data file for each."""
    writers = []
    for shard, value in enumerate(values):
        data = bytearray()
        writers.append(ShardWriter(shard, data.extend))
        writers[-1].add(f"v{shard}", dtype_of(value.dtype), value.shape, [value.tobytes()])
        (directory / naming.data_file(shard, len(values), "b")).write_bytes(data)
    entries = [entry for writer in writers for entry in writer.entries]
    Path(naming.index_file(str(directory / "b"))).write_bytes(build_index(entries, len(values)))
    return str(directory / "b")


def test_each_byte_is_read_once_and_progress_says_so(saved, monkeypatch):
    rng, told, read = np.random.default_rng(0), [], []
    prefix = bundle(saved, [rng.integers(0, 9, (9 << 20) + 7), rng.random(5)])
    original = local_files.ReadFiles.read

    def noting(self, file, offset, nbytes):
        read.append((file, offset, nbytes))
        return original(self, file, offset, nbytes)

    monkeypatch.setattr(local_files.ReadFiles, "read", noting)
    report = verify(prefix, lambda *both: told.append(both))
    assert report.findings == ()
    assert told[-1] == (report.nbytes, report.nbytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert sum(nbytes for file, _, nbytes in read if ".data-" in file) == report.nbytes


def test_a_tensor_is_read_by_chunks(saved, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    prefix = bundle(saved, [np.ones(128 << 20, np.uint8)])
    tracemalloc.start()
    assert verify(prefix).findings == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


def test_a_change_in_any_chunk_is_found(saved):
    prefix = bundle(saved, [np.ones(13 << 20, np.uint8)])
    file = Path(naming.data_file(0, 1, prefix))
    for position in (0, (4 << 20) - 1, 4 << 20, (13 << 20) - 1):
        flip(file, position)
        assert [f.entry for f in verify(prefix).findings] == ["v0"]
        flip(file, position)
    assert verify(prefix).findings == ()


def test_files_are_read_in_parallel(saved, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    prefix = bundle(saved, [np.ones(10), np.zeros(10)])
    both, read = threading.Barrier(2, timeout=10), local_files.ReadFiles.read

    def met(self, file, offset, nbytes):
        if ".data-" in file:
            both.wait()  # or it breaks, if only one thread comes
        return read(self, file, offset, nbytes)

    monkeypatch.setattr(local_files.ReadFiles, "read", met)
    assert verify(prefix).findings == ()
