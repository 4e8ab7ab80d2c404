"""Data files as a sharding callback wants them, written by real hosts.

Claims: what TensorFlow's MaxShardSizePolicy makes of equal tensors is made here, file by file
and byte by byte, also through an io device; slices of any axis are read back as one variable,
of distributed variables too; the callback is called once for each host that gives bytes; a
callback that does what it may not, or raises, leaves nothing behind; no save needs memory for
what it cuts.
"""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import dsave
from dsave.format.bundle_reader import read_index

pytestmark = [pytest.mark.ray, pytest.mark.tf]

CPUS = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in range(2)]
KEY = ".ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
RANDOM = np.random.default_rng(5)

VALUES = {
    "x": RANDOM.standard_normal((10, 10), np.float32),
    "s": np.array([b"a", b"bb"], object),
    "z": np.array(3, np.float32),
    "k": RANDOM.integers(0, 99, (3, 4, 6), np.int16),
    "b": RANDOM.standard_normal((7, 5)).astype(ml_dtypes.bfloat16),
    "text": np.array(b"word", object),
    "c": RANDOM.standard_normal(11) + 1j,
}


def save(cluster, model, directory, policy, io_device=None):
    options = dsave.SaveOptions(
        experimental_sharding_callback=policy, experimental_io_device=io_device
    )
    return dsave.save(model, directory, options=options, cluster=cluster)


def files(prefix):
    """(entries, bytes) of each data file that does not hold the object graph alone."""
    index = read_index(Path(f"{prefix}.index").read_bytes(), prefix)
    found = []
    for number in range(index.num_shards):
        held = sorted(
            (entry.offset, entry.key, entry.box, entry.dtype.name, entry.shape)
            for pieces in index.entries.values()
            for entry in pieces
            if entry.shard == number and entry.key != GRAPH
        )
        (graph,) = index.entries[GRAPH]
        file = Path(f"{prefix}.data-{number:05d}-of-{index.num_shards:05d}").read_bytes()
        if held:
            found.append((held, file[: graph.offset] if graph.shard == number else file))
    return found


@pytest.fixture(scope="module")
def model(pair):
    """All values on the first host."""
    model = dsave.Module()
    with pair.device(CPUS[0]):
        for name, value in VALUES.items():
            setattr(model, name, pair.variable(value, name))
    return model


@pytest.mark.parametrize("io_device", [None, CPUS[1], "/job:localhost"])
@pytest.mark.parametrize("limit", [64, 100, 200, 1000])
def test_files_are_those_of_tensorflow_byte_by_byte(
    pair, model, tmp_path, tf, limit, io_device
):
    result = save(pair, model, tmp_path / "ours", dsave.MaxShardSizePolicy(limit), io_device)
    theirs = tf.Module()
    for name, value in VALUES.items():
        setattr(theirs, name, tf.Variable(value))
    options = tf.train.CheckpointOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(limit)
    )
    tf.train.Checkpoint(theirs).write(str(tmp_path / "theirs"), options)
    stored = files(tmp_path / "ours" / "variables" / "variables")
    assert stored == files(tmp_path / "theirs")
    assert len(result.shards) == len(stored) + 1
    assert {shard.writer for shard in result.shards} == {
        {None: CPUS[0], "/job:localhost": "/job:localhost/replica:0/task:0/device:CPU:0"}.get(
            io_device, io_device
        )
    }
    loaded = tf.saved_model.load(str(tmp_path / "ours"))
    for name, value in VALUES.items():
        np.testing.assert_array_equal(getattr(loaded, name).numpy(), value)


@pytest.fixture(scope="module")
def distributed(pair, gpus):
    """Variables of every kind, and what they are worth."""
    model, expected = dsave.Module(), {}
    wide = RANDOM.standard_normal((6, 40), np.float32)
    half = RANDOM.standard_normal((6, 40)).astype(np.float16)
    model.m = pair.mirrored_variable(wide, "m")
    model.e = pair.sharded_variable(wide, "e", devices=gpus)
    model.h = pair.sharded_variable(half, "h", devices=gpus)
    model.n = pair.sync_on_read_variable(wide, "n", aggregation="sum")
    for name, value in {"m": wide, "e": wide, "h": half}.items():
        expected[name] = value
    expected["n"] = ((wide + wide) + wide) + wide
    return model, expected


@pytest.mark.parametrize("io_device", [None, CPUS[1], "/job:localhost"])
def test_slices_of_distributed_variables_are_read_back_as_one(
    pair, distributed, tmp_path, tf, io_device
):
    # A row of 40 does not fit in 100 bytes, so that columns of several replicas are added up.
    model, expected = distributed
    result = save(pair, model, tmp_path / "e", dsave.MaxShardSizePolicy(100), io_device)
    sizes = {shard.nbytes for shard in result.shards[:-1]}
    assert {size for size in sizes if size > 100} == {480}  # float16, kept whole
    loaded = tf.saved_model.load(str(tmp_path / "e"))
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(loaded, name).numpy(), value)
    with dsave.open(tmp_path / "e", verify=True) as checkpoint:
        np.testing.assert_array_equal(checkpoint[f"n/{KEY}"][...], expected["n"])


def test_components_of_expanded_variables_are_read_from_the_slices(
    pair, distributed, tmp_path, tf
):
    model, expected = distributed
    options = dsave.SaveOptions(
        experimental_sharding_callback=dsave.MaxShardSizePolicy(100),
        experimental_variable_policy="expand_distributed_variables",
    )
    dsave.save(model, tmp_path / "e", options=options, cluster=pair)
    loaded = tf.saved_model.load(str(tmp_path / "e"))
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(loaded, name).numpy(), value)
    parts = [getattr(loaded._components, f"e/part_{n}").numpy() for n in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), expected["e"])
    replica = getattr(loaded._components, "m/replica_3").numpy()
    np.testing.assert_array_equal(replica, expected["m"])


def test_the_callback_is_called_once_for_each_host_with_what_it_gives(
    pair, distributed, tmp_path
):
    seen = []

    def one_each(tensors):
        seen.append(tensors)
        return [[tensor] for tensor in tensors]

    result = save(pair, distributed[0], tmp_path / "e", one_each)
    assert [{t.task for t in tensors} for tensors in seen] == [{CPUS[0]}, {CPUS[1]}]
    given = [
        (t.checkpoint_key, t.dtype.name, t.shape, t.nbytes) for tensors in seen for t in tensors
    ]
    assert sorted(given) == sorted(
        [
            *[(f"e/{KEY}", "float32", (6, 40), rows * 160) for rows in (2, 2, 1, 1)],
            (f"h/{KEY}", "float16", (6, 40), 480),
            (f"m/{KEY}", "float32", (6, 40), 960),
            (f"n/{KEY}", "float32", (6, 40), 960),
        ]
    )
    assert [shard.writer for shard in result.shards[:-1]] == [
        t.task for tensors in seen for t in tensors
    ]


@pytest.mark.parametrize("returned", [[], None, [[]]])
def test_a_callback_that_loses_tensors_leaves_nothing(pair, model, tmp_path, see, returned):
    with see.untouched(tmp_path / "e"), pytest.raises((ValueError, TypeError)) as failed:
        save(pair, model, tmp_path / "e", lambda _: returned)
    assert isinstance(failed.value, dsave.OptionError | dsave.OptionTypeError)


def test_what_a_callback_raises_reaches_the_caller_and_nothing_is_left(
    pair, model, tmp_path, see
):
    def fails(tensors):
        raise LookupError(tensors[0].checkpoint_key)

    with see.untouched(tmp_path / "e"), pytest.raises(LookupError, match=r"x/.ATTRIBUTES"):
        save(pair, model, tmp_path / "e", fails)


@pytest.mark.parametrize("io_device", [None, CPUS[1]])
def test_a_large_array_that_is_cut_by_columns_needs_little_memory(
    pair, tmp_path, tf, io_device
):
    model = dsave.Module()
    rows, columns = 1 << 20, 24
    with pair.device(CPUS[0]):
        model.large = pair.variable(
            lambda _: np.arange(rows * columns, dtype=np.float32).reshape(rows, columns),
            "large",
            shape=(rows, columns),
            dtype="float32",
        )

    def halves(tensors):
        return [[t.part(1, 0, 9)] for t in tensors] + [[t.part(1, 9, 15)] for t in tensors]

    result = save(pair, model, tmp_path / "e", halves, io_device)
    assert [shard.nbytes for shard in result.shards[:-1]] == [rows * 36, rows * 60]
    assert max(result.peak_bytes.values()) < 48 << 20
    value = tf.saved_model.load(str(tmp_path / "e")).large.numpy()
    assert (value.ravel() == np.arange(rows * columns, dtype=np.float32)).all()
