"""`dsave.load` without a cluster: what TensorFlow saved, as local values.

- modules, lists, tuples, namedtuples and dicts come back, shared objects once, cycles closed;
  what lists held beside objects is None; what is neither is left out
- Keras's exports, checkpoints with optimizer slots, and every dtype, bit for bit
- values are read when they are wanted, read-only, and stay what they were when another save
  takes the directory; numpy computes with them
- a variable without a value is an error, or a note if partial checkpoints are allowed
- directories without a commit, files that lie and options that cannot be are refused, by name
"""

import collections
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import dsave
from dsave.model.dtype import DTYPES
from dsave.proto.object_graph_pb2 import TrackableObjectGraph
from dsave.proto.saved_model_pb2 import SavedModel

pytestmark = pytest.mark.tf

Point = collections.namedtuple("Point", ["y", "x"])  # noqa: PYI024


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    """The directory of a tree of every kind of object that TensorFlow makes of one."""

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def serve(self, x):
            return {"y": x + self.w[0]}

    root = Model()
    root.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="weights", trainable=False)
    root.counts = [1, tf.Variable(2, name="count"), {"a/b.c": tf.Variable(3)}]
    root.pair = (root.w, tf.Module())
    root.pair[1].v = tf.Variable(5, dtype=tf.int64)
    root.point = Point(tf.Variable(6.0), tf.Variable(7.0))
    root.nested = ((tf.Variable(8.0),), [(root.w,)])
    root.itself = root
    root.pair[1].parent = root
    root.empty = []
    root.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), 0)
    root.constant = 3
    directory = str(tmp_path_factory.mktemp("tf") / "tree")
    tf.saved_model.save(root, directory)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    """A copy of that directory, to be damaged: its path, and a way to edit saved_model.pb."""
    directory = tmp_path / "copy"
    shutil.copytree(saved, directory)

    def edit(change):
        file = directory / "saved_model.pb"
        proto = SavedModel.FromString(file.read_bytes())
        change(proto.meta_graphs[0].object_graph_def.nodes)
        file.write_bytes(proto.SerializeToString())
        return str(directory)

    edit.directory = directory
    return edit


def child(nodes, name, of=0):
    """The object that is the child of this name."""
    return nodes[next(c.node_id for c in nodes[of].children if c.local_name == name)]


def test_a_tree_comes_back_with_its_values(saved):
    loaded = dsave.load(saved)
    assert loaded.w.numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert loaded.counts[0] is None
    assert loaded.counts[1].numpy() == 2
    assert list(loaded.counts[2]) == ["a/b.c"]
    assert loaded.counts[2]["a/b.c"].numpy() == 3
    assert loaded.pair[1].v.numpy() == 5
    assert (loaded.nested[0][0] == 8).all()
    assert loaded.empty == []
    assert [type(loaded.pair), type(loaded.counts[2]), type(loaded.pair[1])] == [
        tuple,
        dict,
        dsave.Module,
    ]


def test_members_of_a_namedtuple_have_their_names(saved):
    point = dsave.load(saved).point
    assert isinstance(point, tuple)
    assert (point.y.numpy(), point.x.numpy()) == (6.0, 7.0)
    assert point[0] is point.y


def test_shared_objects_are_shared_and_cycles_closed(saved):
    loaded = dsave.load(saved)
    assert loaded.pair[0] is loaded.w
    assert loaded.nested[1][0][0] is loaded.w
    assert loaded.itself is loaded
    assert loaded.pair[1].parent is loaded


def test_what_is_no_object_of_ours_is_left_out(saved):
    loaded = dsave.load(saved)
    assert not {"table", "constant", "signatures"} & vars(loaded).keys()
    with pytest.raises(AttributeError, match="table"):
        _ = loaded.table


def test_a_variable_is_described_as_it_was_saved(saved):
    loaded = dsave.load(saved)
    assert isinstance(loaded, dsave.LoadedModel)
    assert isinstance(loaded.w, dsave.LoadedVariable)
    assert (loaded.w.name, loaded.w.key) == ("weights", "w/.ATTRIBUTES/VARIABLE_VALUE")
    assert (loaded.w.dtype.name, loaded.w.shape, loaded.w.ndim) == ("float32", (2, 2), 2)
    assert [loaded.w.trainable, loaded.pair[1].v.trainable] == [False, True]
    assert loaded.w.device == ""
    assert "weights" in repr(loaded.w)
    assert loaded.load_notes == ()


def test_devices_come_back_where_they_were_saved(tf, tmp_path):
    root = tf.Module()
    root.v = tf.Variable(1.0)
    policy = tf.saved_model.experimental.VariablePolicy.SAVE_VARIABLE_DEVICES
    options = tf.saved_model.SaveOptions(experimental_variable_policy=policy)
    tf.saved_model.save(root, str(tmp_path), options=options)
    device = "/job:localhost/replica:0/task:0/device:CPU:0"
    assert dsave.load(tmp_path).v.device == device


def test_numpy_computes_with_variables(saved):
    loaded = dsave.load(saved)
    w, count = loaded.w, loaded.counts[1]
    assert (w + 1).tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert (1 - w).tolist() == [[0.0, -1.0], [-2.0, -3.0]]
    assert (w @ w).tolist() == [[7.0, 10.0], [15.0, 22.0]]
    assert np.exp(w).tolist() == np.exp(w.numpy()).tolist()
    assert np.concatenate([w, w]).shape == (4, 2)
    assert np.sum(w) == 10.0
    assert np.asarray(w, np.float64).dtype == np.float64
    assert w[1].tolist() == w[1, :].tolist() == [3.0, 4.0]
    assert (w == w).all()  # noqa: PLR0124
    assert [int(count), float(count), bool(count), len(w)] == [2, 2.0, True, 2]
    assert w in {w: "it can be a key"}


def test_nothing_writes_to_a_loaded_variable(saved):
    w = dsave.load(saved).w
    with pytest.raises(ValueError, match="read-only"):
        w.numpy()[0] = 1
    with pytest.raises(dsave.ModelError, match="weights"):
        np.add(1.0, 1.0, out=w)


def test_values_are_read_when_they_are_wanted(copy):
    (data,) = copy.directory.glob("variables/*.data-*")
    content = bytearray(data.read_bytes())
    content[content.index(np.float32(6.0).tobytes() + np.float32(7.0).tobytes())] ^= 1
    data.write_bytes(content)
    loaded = dsave.load(copy.directory)
    assert loaded.w.numpy().shape == (2, 2)
    with pytest.raises(dsave.CorruptionError, match="checksum") as raised:
        loaded.point.y.numpy()
    assert raised.value.file == str(data)
    assert raised.value.entry == "point/y/.ATTRIBUTES/VARIABLE_VALUE"


def test_a_save_that_takes_the_directory_does_not_change_what_was_loaded(copy, tf, tmp_path):
    loaded = dsave.load(copy.directory)
    other = tf.Module()
    other.w = tf.Variable([[9.0, 9.0], [9.0, 9.0]])
    tf.saved_model.save(other, str(tmp_path / "other"))
    copy.directory.rename(tmp_path / "old")
    (tmp_path / "other").rename(copy.directory)
    shutil.rmtree(tmp_path / "old")
    assert loaded.w.numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert dsave.load(copy.directory).w.numpy().tolist() == [[9.0, 9.0], [9.0, 9.0]]


def test_every_dtype_of_variables_comes_back_bit_for_bit(tf, tmp_path):
    root, expected = tf.Module(), {}
    for dtype in DTYPES:
        if dtype.variable and not dtype.name.startswith(("q", "float4")):
            expected[dtype.name] = _arbitrary(dtype)
            setattr(root, dtype.name, tf.Variable(tf.constant(expected[dtype.name])))
    tf.saved_model.save(root, str(tmp_path))
    loaded = dsave.load(tmp_path)
    assert len(expected) > 20
    for name, value in expected.items():
        variable = getattr(loaded, name)
        assert variable.dtype.name == name
        assert variable.shape == value.shape
        assert _bits(variable.numpy()) == _bits(value)


def _bits(array):
    return array.tolist() if array.dtype == object else array.tobytes()


def _arbitrary(dtype):
    if dtype.is_string:
        return np.array([[b"", b"\0", b"\xff" * 300], [b"a", b"b\0", b"c"]], object)
    numbers = np.arange(6).reshape(2, 3) % 2
    return numbers.astype(dtype.numpy)


def test_a_checkpoint_with_optimizer_slots_loads(tf, tmp_path):
    variable = tf.Variable([1.0, 2.0], name="v")
    optimizer = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    optimizer.minimize(lambda: tf.reduce_sum(variable * variable), var_list=[variable])
    model = tf.train.Checkpoint(net=tf.train.Checkpoint(v=variable), optimizer=optimizer)
    tf.saved_model.save(model, str(tmp_path))
    loaded = dsave.load(tmp_path)
    slot = loaded.optimizer.slots["momentum"]["net/v"]
    assert slot.numpy().tolist() == optimizer.get_slot(variable, "momentum").numpy().tolist()
    assert slot.key == "net/v/.OPTIMIZER_SLOT/optimizer/momentum/.ATTRIBUTES/VARIABLE_VALUE"
    assert loaded.net.v.numpy().tolist() == variable.numpy().tolist()
    assert loaded.save_counter.numpy() == 0


@pytest.mark.filterwarnings("default")
def test_keras_models_load(tf, tmp_path):
    del tf
    import keras

    inputs = keras.Input((3,))
    outputs = keras.layers.BatchNormalization()(keras.layers.Dense(2)(inputs))
    model = keras.Model(inputs, outputs)
    model.export(str(tmp_path / "export"), verbose=False)
    loaded = dsave.load(tmp_path / "export")
    assert len(loaded.variables) == 6
    for ours, theirs in zip(loaded.variables, model.variables, strict=True):
        assert ours.numpy().tolist() == theirs.numpy().tolist()
        assert ours.name == theirs.path
    assert [v.name for v in loaded.non_trainable_variables] == [
        v.path for v in model.non_trainable_variables
    ]


def test_a_variable_without_a_value_is_named_or_noted(tf, tmp_path):
    root = tf.Module()
    root.there = tf.Variable(1.0)
    root.gone = [tf.Variable(1.0), tf.Variable(2.0)]
    tf.saved_model.save(root, str(tmp_path))
    # As TensorFlow writes it for a variable that was never initialized: a key, and no tensor.
    _copy_without(tmp_path, ["gone/0/.ATTRIBUTES/VARIABLE_VALUE"])
    with pytest.raises(dsave.MissingKeyError) as raised:
        dsave.load(tmp_path)
    assert raised.value.key == "gone/0"
    loaded = dsave.load(tmp_path, options=dsave.LoadOptions(allow_partial_checkpoint=True))
    assert loaded.there.numpy() == 1.0
    assert [loaded.gone[0], loaded.gone[1].numpy()] == [None, 2.0]
    assert len(loaded.load_notes) == 1
    assert "'gone/0'" in loaded.load_notes[0]


def _copy_without(directory, keys):
    """Write the checkpoint again, without these keys."""
    from dsave.format.bundle import build_index
    from dsave.format.bundle_reader import read_index

    file = Path(directory, "variables", "variables.index")
    index = read_index(file.read_bytes(), str(file))
    entries = [e for key, pieces in index.entries.items() if key not in keys for e in pieces]
    file.write_bytes(build_index(entries, index.num_shards))


def test_a_directory_without_a_commit_is_refused(copy, tmp_path):
    (copy.directory / "saved_model.pb").unlink()
    for path in (copy.directory, tmp_path / "none", copy.directory / "variables" / "variables"):
        with pytest.raises(dsave.NotCommittedError) as raised:
            dsave.load(path)
        assert raised.value.directory == str(path)


def _cycle(nodes):
    pair = child(nodes, "nested")
    pair.children[0].node_id = next(
        c.node_id for c in nodes[0].children if c.local_name == "nested"
    )


def _rename_item(nodes, name):
    pair = child(nodes, "nested")
    items = nodes[next(c.node_id for c in pair.children if c.local_name == "1")]
    items.children[0].local_name = name


LIES = {
    "an object that there is not": (
        lambda nodes: nodes[0].children.add(node_id=10**6, local_name="x"),
        "1000000",
    ),
    "a negative object": (
        lambda nodes: nodes[0].children.add(node_id=-1, local_name="x"),
        "-1",
    ),
    "another dtype": (lambda nodes: setattr(child(nodes, "w").variable, "dtype", 3), "'w'"),
    "another shape": (
        lambda nodes: child(nodes, "w").variable.shape.dim.add(size=1),
        "'w'",
    ),
    "another extent": (
        lambda nodes: setattr(child(nodes, "w").variable.shape.dim[0], "size", 3),
        "'w'",
    ),
    "no device": (lambda nodes: setattr(child(nodes, "w").variable, "device", "x:y"), "'x'"),
    "no synchronization": (
        lambda nodes: setattr(child(nodes, "w").variable, "synchronization", 9),
        "9",
    ),
    "no aggregation": (
        lambda nodes: setattr(child(nodes, "w").variable, "aggregation", -1),
        "-1",
    ),
    "a tuple in itself": (_cycle, "own member"),
    "a long list": (lambda nodes: _rename_item(nodes, "999999999"), "1000000000"),
    "a variable that the checkpoint does not know": (
        lambda nodes: setattr(nodes[0].children[0], "local_name", "unknown"),
        "'unknown'",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_object_graph_that_lies_is_refused(copy, lie):
    change, named = LIES[lie]
    with pytest.raises(dsave.CorruptionError, match=named) as raised:
        dsave.load(copy(change))
    assert raised.value.file == str(copy.directory / "saved_model.pb")


def test_extents_that_are_not_known_are_no_lie(copy):
    directory = copy(lambda nodes: setattr(child(nodes, "w").variable.shape.dim[0], "size", -1))
    assert dsave.load(directory).w.shape == (2, 2)


def test_a_name_that_is_no_number_is_no_item_of_a_list(copy):
    assert len(dsave.load(copy.directory).nested[1]) == 1
    assert dsave.load(copy(lambda nodes: _rename_item(nodes, "9" * 5000))).nested[1] == []


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"text"])
def test_what_is_no_saved_model_is_refused(copy, content):
    (copy.directory / "saved_model.pb").write_bytes(content)
    with pytest.raises(dsave.CorruptionError, match=r"saved_model\.pb"):
        dsave.load(copy.directory)


def test_a_model_without_objects_is_refused(copy):
    with pytest.raises(dsave.ModelError, match=r"dsave\.open"):
        dsave.load(copy(lambda nodes: nodes.__delitem__(slice(None))))


def test_a_missing_file_is_named(copy):
    (data,) = copy.directory.glob("variables/*.data-*")
    data.rename(copy.directory / "aside")
    with pytest.raises(dsave.CorruptionError) as raised:
        dsave.load(copy.directory)
    assert raised.value.file == str(data)
    (copy.directory / "aside").rename(data)
    (copy.directory / "variables" / "variables.index").unlink()
    with pytest.raises(dsave.CorruptionError, match=r"variables\.index"):
        dsave.load(copy.directory)


def test_a_data_file_that_is_too_short_is_named(copy):
    (data,) = copy.directory.glob("variables/*.data-*")
    os.truncate(data, data.stat().st_size - 1)
    with pytest.raises(dsave.CorruptionError) as raised:
        dsave.load(copy.directory)
    assert raised.value.file == str(data)


def test_an_object_graph_that_is_gone_is_named(copy):
    _copy_without(copy.directory, ["_CHECKPOINTABLE_OBJECT_GRAPH"])
    with pytest.raises(dsave.CorruptionError, match="_CHECKPOINTABLE_OBJECT_GRAPH"):
        dsave.load(copy.directory)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"placement": {"w": "/CPU:0"}}, dsave.OptionError, "placement"),
        ({"placement": ["w"]}, dsave.OptionTypeError, "placement"),
        ({"options": {}}, dsave.OptionTypeError, "LoadOptions"),
        ({"into": object()}, dsave.OptionTypeError, "into"),
        ({"into": dsave.Module(), "placement": {}}, dsave.OptionError, "placement"),
        ({"into": dsave.Module()}, dsave.ClusterError, "no cluster"),
        ({"stall_timeout_s": 0}, dsave.OptionError, "stall_timeout_s"),
        (
            {"options": dsave.LoadOptions(experimental_io_device="/job:worker")},
            dsave.DeviceError,
            "worker",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(saved, arguments, error, named, monkeypatch):
    monkeypatch.setattr("dsave.runtime.cluster._active", [])  # other tests leave theirs open
    with pytest.raises(error, match=named):
        dsave.load(saved, **arguments)


def test_the_calling_process_is_an_io_device_of_its_own(saved):
    options = dsave.LoadOptions(experimental_io_device="/job:localhost/device:CPU:0")
    assert dsave.load(saved, options=options).w.shape == (2, 2)


def test_that_there_are_no_signatures_is_said(models, tmp_path):
    bare = models.write(tmp_path / "bare", *models.example())
    with pytest.raises(dsave.MissingKeyError, match="it has no signatures"):
        dsave.load(bare).signatures["serving_default"]


def test_an_empty_path_is_refused():
    with pytest.raises(dsave.OptionError, match="directory"):
        dsave.load("")


def test_a_model_whose_attributes_have_our_names_keeps_them(tf, tmp_path):
    root = tf.Module()
    root.load_notes = tf.Variable(1.0)
    root.note = [tf.Variable(2.0)]
    tf.saved_model.save(root, str(tmp_path))
    loaded = dsave.load(tmp_path)
    assert loaded.load_notes.numpy() == 1.0
    assert loaded.note[0].numpy() == 2.0


def test_the_checkpoints_numbering_of_objects_need_not_be_the_graphs(copy):
    """Both graphs are followed by names."""
    from dsave.format import bundle_reader, naming
    from dsave.format.bundle import ShardWriter, build_index
    from dsave.format.strings import encode_strings

    file = copy.directory / "variables" / "variables.index"
    index = bundle_reader.read_index(file.read_bytes(), "")
    with dsave.open(copy.directory) as checkpoint:
        tracked = TrackableObjectGraph.FromString(checkpoint.object_graph)
    count = len(tracked.nodes)
    tracked.nodes.add()  # and the last one of the old ones becomes the last but one
    tracked.nodes[count].CopyFrom(tracked.nodes[1])
    for node in tracked.nodes:
        for reference in node.children:
            if reference.node_id == 1:
                reference.node_id = count
    tracked.nodes[1].Clear()
    text = np.array(tracked.SerializeToString(), object)
    encoded = encode_strings(text)
    entries = [
        entry
        for key, pieces in index.entries.items()
        if key != naming.OBJECT_GRAPH_KEY
        for entry in pieces
    ]
    with (copy.directory / "variables" / "variables.data-00001-of-00002").open("wb") as data:
        writer = ShardWriter(1, data.write)
        entry = index.entries[naming.OBJECT_GRAPH_KEY][0]
        writer.add(entry.key, entry.dtype, (), [encoded.payload], crc32c=encoded.crc32c)
    old = copy.directory / "variables" / "variables.data-00000-of-00001"
    old.rename(copy.directory / "variables" / "variables.data-00000-of-00002")
    file.write_bytes(build_index([*entries, *writer.entries], 2))
    loaded = dsave.load(copy.directory)
    assert loaded.w.numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]
