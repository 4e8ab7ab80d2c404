"""SavedModels from our metadata load in all that reads SavedModels.

- Python: the tree of objects with its values, the kinds of variables, under every policy
- Python, with LoadOptions of a policy: variables are put on the devices that were saved
- a TF1 session and the C++ loader: each component has its value; so has the whole
- a session on a cluster: each component on its own worker
- what a session saves again is what it restored, or the aggregate of what has become of it
- saved_model_cli shows them
- a model without variables, names of every kind and every dtype that TensorFlow can hold in a
  variable load too; variables of the others keep their place and their value
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dsave
from dsave.model.dtype import DTYPES, dtype_of
from dsave.model.trackable import Module
from dsave.options import VariablePolicy

pytestmark = pytest.mark.tf

EXPAND = VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES
LOCAL = "/job:localhost/replica:0/task:0/device:CPU"

REFUSED = {dtype.name for dtype in DTYPES if not dtype.variable}
"""The dtypes of which TensorFlow 2.21 has tensors and checkpoints, but no variables."""


def key(path):
    return f"{path}/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(params=VariablePolicy, ids=lambda policy: policy.name)
def policy(request):
    return request.param


@pytest.fixture
def every_kind(make):
    """A model with each kind of variable, and what its checkpoint holds."""
    graph = make.model(
        p=make.plain("p", dtype="string"),
        v=make.mirrored("v", (2,)),
        total=make.on_read("total", "sum", dtype="int32"),
        mean=make.on_read("mean", "mean"),
        first=make.on_read("first", "only_first_replica"),
        raw=make.on_read("raw", "none"),
        e=make.sharded("emb", (3, 2)),
        h=make.sharded("half", (3,), "float16"),
    )
    values = {
        key("p"): b"text",
        key("v"): [1.0, 2.0],
        key("total"): 7,
        key("mean"): 1.5,
        key("first"): 2.5,
        key("raw"): 3.5,
        key("e"): [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        key("h"): [1.0, 2.0, 3.0],
    }
    return graph, values


RESOURCES = {
    "p": b"text",
    "v": [1.0, 2.0],
    "total": 7,
    "mean": 1.5,
    "first": 2.5,
    "raw": 3.5,
    "emb": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    "half": [1.0, 2.0, 3.0],
}
EXPANDED = RESOURCES | {
    "v/replica_1": [1.0, 2.0],
    "total": 3,
    "total/replica_1": 4,
    "mean": 0.5,
    "mean/replica_1": 2.5,
    "first/replica_1": 8.5,
    "raw/replica_1": 9.5,
    "emb/part_0": [[1.0, 2.0], [3.0, 4.0]],
    "emb/part_1": [[5.0, 6.0]],
    "half/part_0": [1.0, 2.0],
    "half/part_1": [3.0],
}


REPLICAS = {
    key("total"): [3, 4],
    key("mean"): [0.5, 2.5],
    key("first"): [2.5, 8.5],
    key("raw"): [3.5, 9.5],
}


def resources(policy):
    return EXPANDED if policy.expands else RESOURCES


def session(tf):
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
    return tf.compat.v1.Session(graph=tf.Graph(), config=config)


def values_in_session(tf, directory):
    """{handle: value} of every handle in a session that loaded this model."""
    with session(tf) as running, running.graph.as_default():
        tf.compat.v1.saved_model.load(running, ["serve"], directory)
        reads = [op for op in running.graph.get_operations() if op.type == "ReadVariableOp"]
        read = running.run([op.outputs[0] for op in reads])
        return {
            op.inputs[0].op.name: np.asarray(value).tolist()
            for op, value in zip(reads, read, strict=True)
        }


def test_python_loads_the_tree(tf, export, every_kind, policy):
    loaded = tf.saved_model.load(
        export(every_kind[0], policy, every_kind[1], replicas=REPLICAS)
    )
    assert loaded.p.numpy() == b"text"
    assert loaded.v.numpy().tolist() == [1.0, 2.0]
    assert loaded.total.numpy() == 7
    assert loaded.e.numpy().tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert loaded.h.numpy().tolist() == [1.0, 2.0, 3.0]
    assert [loaded.v.trainable, loaded.total.trainable] == [True, False]
    assert loaded.total.aggregation == tf.VariableAggregation.SUM
    assert loaded.total.synchronization == tf.VariableSynchronization.ON_READ
    assert loaded.e.name == "emb:0"
    assert dict(loaded.signatures) == {}
    assert loaded.tensorflow_version == "2.21.0"


def test_python_loads_containers_and_shared_objects(tf, export, make):
    branch, shared = Module(), make.plain("shared")
    branch.b = make.plain("b", (2,))
    graph = make.model(
        branch=branch, many=[shared, {"a/b.c": make.plain("c")}], pair=(shared, make.plain("d"))
    )
    values = {
        key("many/0"): 1,
        key("many/1/a.Sb..c"): 2,
        key("pair/1"): 3,
        key("branch/b"): [4, 5],
    }
    loaded = tf.saved_model.load(export(graph, VariablePolicy.NONE, values))
    assert loaded.many[0].numpy() == 1.0
    assert loaded.pair[0] is loaded.many[0]
    assert loaded.many[1]["a/b.c"].numpy() == 2.0
    assert loaded.pair[1].numpy() == 3.0
    assert loaded.branch.b.numpy().tolist() == [4.0, 5.0]


def test_python_puts_variables_on_saved_devices(tf, export, make):
    graph = make.model(v=make.plain("v", device=f"{LOCAL}:0"))
    directory = export(graph, VariablePolicy.SAVE_VARIABLE_DEVICES, {key("v"): 1})
    options = tf.saved_model.LoadOptions(experimental_variable_policy="save_variable_devices")
    assert tf.saved_model.load(directory, options=options).v.device == f"{LOCAL}:0"


def test_a_session_restores_every_component(tf, export, every_kind, policy):
    directory = export(every_kind[0], policy, every_kind[1], replicas=REPLICAS)
    assert values_in_session(tf, directory) == resources(policy)


ON_A_CLUSTER = """
import socket, sys
import tensorflow as tf

def free():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"

config = tf.compat.v1.ConfigProto(share_cluster_devices_in_session=True)
spec = tf.train.ClusterSpec({"worker": [free(), free()]})
servers = [
    tf.distribute.Server(spec, job_name="worker", task_index=task, config=config)
    for task in (0, 1)
]
directory = sys.argv[1]
with tf.Graph().as_default(), tf.compat.v1.Session(servers[0].target, config=config) as session:
    saver = tf.compat.v1.saved_model.load(session, ["serve"], directory).saver_def
    for op in session.graph.get_operations():
        if op.type == "ReadVariableOp":
            print(op.device, op.name, session.run(op.outputs[0]))
    session.run(saver.save_tensor_name, {saver.filename_tensor_name: f"{directory}/again"})
"""


def test_a_session_on_a_cluster_restores_each_component_on_its_worker(tf, export, make):
    workers = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in (0, 1)]
    graph = make.model(
        v=make.mirrored("v", devices=workers), n=make.on_read("n", "sum", devices=workers)
    )
    values = {key("v"): 1, key("n"): 2}
    directory = export(graph, EXPAND, values, replicas={key("n"): [0.5, 1.5]})
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER, directory],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{workers[0]} v/Read/ReadVariableOp 1.0",
        f"{workers[1]} v/replica_1/Read/ReadVariableOp 1.0",
        f"{workers[0]} n/Read/ReadVariableOp 0.5",
        f"{workers[1]} n/replica_1/Read/ReadVariableOp 1.5",
    ]
    assert tf.train.load_checkpoint(f"{directory}/again").get_tensor(key("n")) == 2.0


def test_what_a_session_saves_is_what_was_restored(tf, export, every_kind, policy):
    graph, values = every_kind
    directory = export(graph, policy, values, replicas=REPLICAS)
    with session(tf) as running, running.graph.as_default():
        saver = tf.compat.v1.saved_model.load(running, ["serve"], directory).saver_def
        prefix = f"{directory}/again"
        feed = {saver.filename_tensor_name: prefix}
        assert running.run(saver.save_tensor_name, feed) == prefix.encode()
    before = tf.train.load_checkpoint(f"{directory}/variables/variables")
    after = tf.train.load_checkpoint(prefix)
    keys = before.get_variable_to_shape_map().keys()
    assert after.get_variable_to_shape_map().keys() == keys
    for name in keys:
        np.testing.assert_array_equal(after.get_tensor(name), before.get_tensor(name))
    assert not list(Path(directory).glob("*_temp"))


def test_a_session_saves_the_aggregate_of_components_that_changed(tf, export, make):
    graph = make.model(
        total=make.on_read("total", "sum", (2,)),
        mean=make.on_read("mean", "mean", dtype="bfloat16"),
        first=make.on_read("first", "only_first_replica", dtype="int32"),
        flags=make.on_read("flags", "sum", dtype="bool"),
    )
    values = {key("total"): [1, 2], key("mean"): 1, key("first"): 1, key("flags"): True}
    directory = export(graph, EXPAND, values)
    with session(tf) as running, running.graph.as_default():
        saver = tf.compat.v1.saved_model.load(running, ["serve"], directory).saver_def
        for name, dtype, value in [
            ("total/replica_1", tf.float32, [10, 20]),
            ("mean/replica_1", tf.bfloat16, 4),
            ("first/replica_1", tf.int32, 9),
        ]:
            handle = running.graph.get_tensor_by_name(f"{name}:0")
            assign = tf.raw_ops.AssignVariableOp(
                resource=handle, value=tf.constant(value, dtype)
            )
            running.run(assign)
        prefix = f"{directory}/again"
        running.run(saver.save_tensor_name, {saver.filename_tensor_name: prefix})
    saved = tf.train.load_checkpoint(prefix)
    assert saved.get_tensor(key("total")).tolist() == [11.0, 22.0]
    assert saved.get_tensor(key("mean")) == 2.5
    assert saved.get_tensor(key("first")) == 1
    assert saved.get_tensor(key("flags"))


def test_the_cpp_loader_restores_every_component(export, every_kind, policy, run_with_cpp):
    directory = export(every_kind[0], policy, every_kind[1], replicas=REPLICAS)
    wanted = {
        name: value for name, value in resources(policy).items() if not isinstance(value, bytes)
    }
    dtypes = {"total": np.int32, "half": np.float16}
    read = run_with_cpp(directory, [f"{name}/Read/ReadVariableOp" for name in wanted])
    for (name, value), stored in zip(wanted.items(), read, strict=True):
        dtype = dtypes.get(name.split("/")[0], np.float32)
        assert stored == np.array(value, dtype).tobytes(), name


def test_the_command_line_tool_shows_it(tf, export, every_kind):
    directory = export(every_kind[0], EXPAND, every_kind[1])
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    done = subprocess.run(
        [*tool, "show", "--dir", directory, "--all"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MetaGraphDef with tag-set: 'serve'" in done.stdout
    assert "signature_def['__saved_model_init_op']" in done.stdout
    assert "Concrete Functions:" in done.stdout


def test_a_model_without_variables_loads(tf, export, make, policy, run_with_cpp):
    directory = export(make.model(), policy, {})
    assert tf.saved_model.load(directory).signatures == {}
    assert values_in_session(tf, directory) == {}
    assert len(run_with_cpp(directory, ["Const"])) == 1


def test_names_that_no_graph_accepts_load_everywhere(tf, export, make):
    names = [
        "a b",
        "\u5c42",
        "_x",
        "x:0",
        "x",
        "X",
        "",
        "/y",
        "NoOp",
        "Const",
        "x/Read/ReadVariableOp",
    ]
    graph = make.model(many=[make.plain(name) for name in names])
    values = {key(f"many/{index}"): index for index in range(len(names))}
    directory = export(graph, VariablePolicy.NONE, values)
    loaded = tf.saved_model.load(directory)
    assert [v.numpy() for v in loaded.many] == list(range(len(names)))
    with tf.Graph().as_default():
        tf.saved_model.load(directory)
    assert list(values_in_session(tf, directory).values()) == list(range(len(names)))


def test_every_other_dtype_survives_restore_and_save(tf, export, make):
    rng = np.random.default_rng(0)
    held = [dtype.name for dtype in DTYPES if dtype.name not in REFUSED]
    graph = make.model(**{name: make.plain(name, (3,), name) for name in held})
    values = {key(name): some(rng, dtype_of(name)) for name in held}
    directory = export(graph, VariablePolicy.NONE, values)
    tf.saved_model.load(directory)
    with session(tf) as running, running.graph.as_default():
        saver = tf.compat.v1.saved_model.load(running, ["serve"], directory).saver_def
        prefix = f"{directory}/again"
        running.run(saver.save_tensor_name, {saver.filename_tensor_name: prefix})
    stored = Path(directory, "variables/variables.data-00000-of-00001").read_bytes()
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == stored


def everything_in(path):
    """{key: bytes} of a checkpoint."""
    with dsave.open(path) as checkpoint:
        return {name: np.asarray(checkpoint[name][...]).tobytes() for name in checkpoint}


def some(rng, dtype):
    if dtype.is_string:
        return np.array([b"a", b"", b"\0\xff"], object)
    return rng.integers(0, 2, 3).astype(dtype.numpy)


def test_sums_and_means_of_every_other_dtype_survive_restore_and_save(tf, export, make):
    held = [dtype for dtype in DTYPES if dtype.name not in REFUSED and not dtype.is_string]
    sums = {f"{d.name}_sum": make.on_read(f"{d.name}_sum", "sum", (), d.name) for d in held}
    means = {
        f"{d.name}_mean": make.on_read(f"{d.name}_mean", "mean", (), d.name)
        for d in held
        if d.is_float
    }
    values = {key(name): 1 for name in (*sums, *means)}
    directory = export(make.model(**sums, **means), EXPAND, values)
    tf.saved_model.load(directory)
    with session(tf) as running, running.graph.as_default():
        saver = tf.compat.v1.saved_model.load(running, ["serve"], directory).saver_def
        prefix = f"{directory}/again"
        running.run(saver.save_tensor_name, {saver.filename_tensor_name: prefix})
    before, after = everything_in(directory), everything_in(prefix)
    assert before == after
    # What TensorFlow can add has entries of its two replicas too.
    added = {
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
    dtypes = [path.partition("_sum")[0].partition("_mean")[0] for path in (*sums, *means)]
    assert len(before) == sum(3 if dtype in added else 1 for dtype in dtypes)


def test_dtypes_without_variables_keep_their_values_and_no_model_from_loading(
    tf, export, make, policy, run_with_cpp
):
    refused = {name: make.mirrored(name, (2,), name) for name in sorted(REFUSED)}
    graph = make.model(before=make.plain("before"), refused=refused, after=make.plain("after"))
    values = {key(f"refused/{name}"): np.ones(2, dtype_of(name).numpy) for name in refused}
    values |= {key("before"): 1, key("after"): 2}
    directory = export(graph, policy, values)
    loaded = tf.saved_model.load(directory)
    assert (loaded.before.numpy(), loaded.after.numpy()) == (1.0, 2.0)
    assert values_in_session(tf, directory) == {"before": 1.0, "after": 2.0}
    reads = ["before/Read/ReadVariableOp", "after/Read/ReadVariableOp"]
    assert run_with_cpp(directory, reads) == [
        np.float32(1).tobytes(),
        np.float32(2).tobytes(),
    ]
    stored = tf.train.load_checkpoint(f"{directory}/variables/variables")
    for name in REFUSED:
        assert stored.get_tensor(key(f"refused/{name}")).tolist() == [1, 1]
    tf.saved_model.save(loaded, f"{directory}/again")
    assert tf.saved_model.load(f"{directory}/again").after.numpy() == 2.0


SHARDED = [dtype for dtype in DTYPES if dtype.variable and not dtype.is_string]


@pytest.mark.parametrize("dtype", SHARDED, ids=str)
def test_parts_of_each_dtype_get_their_rows(tf, export, make, dtype):
    name = dtype.name
    value = np.array([1, 0, 1]).astype(dtype.numpy)
    directory = export(make.model(e=make.sharded("e", (3,), name)), EXPAND, {key("e"): value})
    with session(tf) as running, running.graph.as_default():
        tf.compat.v1.saved_model.load(running, ["serve"], directory)
        tensors = [f"e{part}/Read/ReadVariableOp:0" for part in ("", "/part_0", "/part_1")]
        whole, *parts = (np.atleast_1d(np.asarray(part)) for part in running.run(tensors))
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert [len(part) for part in parts] == [2, 1]
