"""Functions, signatures and components saved from hosts, with TensorFlow as the judge.

- what functions gave before a save they give after it, under every policy, by every route, also
  where tensors are cut in files: 10 and 20 stay 30, integers too
- components of every dtype get their bytes; only replicas that differ are stored beside the
  variable
- host-local directories gathered in one are right too
- sessions restore every replica
- what cannot be saved is refused before anything is written
- debug info points at the user's lines, the call of the save among them
- saving again gives the same bytes, but for the fingerprint's uuid
- a function reads a variable once in a call, however often it uses it
"""

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

import dsave
from dsave.format.bundle_reader import read_index
from dsave.model.dtype import DTYPES
from dsave.runtime.values import Values

pytestmark = [pytest.mark.ray, pytest.mark.tf]

EXPAND = dsave.VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES
ADDED = {
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
}
"""The dtypes that TensorFlow can add."""

ROUTES = {
    "own": None,
    "worker": "/job:worker/task:1/device:CPU:0",
    "caller": "/job:localhost",
}


class Model(dsave.Module):
    """Each kind of variable on four GPUs of two hosts, and functions that read them."""

    def __init__(self, cluster, gpus):
        self.w = cluster.mirrored_variable(np.eye(2, dtype="float32"), "w")
        with cluster.device(gpus[3]):
            self.b = cluster.variable([1.0, 2.0], "b")
        self.n = cluster.sync_on_read_variable(0, "n", aggregation="sum", devices=gpus[1:3])
        self.mean = cluster.sync_on_read_variable([0.0], "mean", aggregation="mean")
        self.half = cluster.sharded_variable(
            np.arange(10, dtype="float16").reshape(5, 2), "half", devices=gpus
        )
        self.e = cluster.sharded_variable(np.arange(6.0).reshape(3, 2), "e", devices=gpus[:2])
        self.s = cluster.sharded_variable(np.array([b"a", b"bb", b""], object), "s")
        for value, component in zip((10, 20), self.n.components, strict=True):
            cluster.assign(self.n, value, device=component.device)
        for value, component in enumerate(self.mean.components):
            cluster.assign(self.mean, [float(value)], device=component.device)

    @dsave.function(input_signature=[dsave.TensorSpec([None, 2], name="x")])
    def serve(self, x):
        """A dense layer."""
        return {"y": np.tanh(np.matmul(x, self.w) + self.b)}

    @dsave.function(input_signature=[])
    def wholes(self):
        """What each variable is worth."""
        names = ("w", "b", "n", "mean", "half", "e")
        return {name: getattr(self, name) + 0 for name in names} | {"s": self.s[:]}

    @dsave.function(input_signature=[])
    def parts(self):
        """What components are worth together."""
        first, second = self.n.components
        return {
            "sum": first + second,
            "n": second + 0,
            "mean": self.mean.components[3] + 0,
            "w": self.w.components[2] + 0,
            "half": np.concatenate([part * 1 for part in self.half.components]),
            "rows": self.e.components[1] * 1,
            "s": self.s.components[0][:],
        }


@pytest.fixture(scope="module")
def model(pair, gpus):
    return Model(pair, gpus)


def save(cluster, model, directory, signatures=None, **options):
    return dsave.save(
        model,
        directory,
        signatures,
        dsave.SaveOptions(**options),
        cluster=cluster,
        progress=False,
    )


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        array = found[name].numpy()
        assert array.dtype == np.asarray(value).dtype, name
        np.testing.assert_array_equal(array, value, err_msg=name)


@pytest.mark.parametrize("cut", [None, 24], ids=["whole", "cut"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_what_functions_gave_they_give_again(pair, model, tmp_path, tf, policy, route, cut):
    callback = None if cut is None else dsave.MaxShardSizePolicy(cut)
    save(
        pair,
        model,
        tmp_path,
        experimental_variable_policy=policy,
        experimental_io_device=ROUTES[route],
        experimental_sharding_callback=callback,
    )
    loaded = tf.saved_model.load(str(tmp_path))
    x = np.array([[1, -2]], "float32")
    same(loaded.serve(x), model.serve(x))
    same(loaded.wholes(), model.wholes())
    expected = model.parts()
    assert expected["sum"] == 30
    if policy is not EXPAND:
        # Each replica is the variable.
        expected |= {"sum": np.int32(60), "n": np.int32(30), "mean": np.float32([1.5])}
    same(loaded.parts(), expected)
    assert dsave.open(tmp_path, verify=True)["n/.ATTRIBUTES/VARIABLE_VALUE"][...] == 30


def test_host_local_directories_gathered_in_one_are_right(pair, model, private, tf, tmp_path):
    result = save(pair, model, private, experimental_variable_policy=EXPAND)
    assert result.layout == "host-local"
    for host in pair.hosts:
        shutil.copytree(pair.real_path(private, host), tmp_path / "all", dirs_exist_ok=True)
    loaded = tf.saved_model.load(str(tmp_path / "all"))
    same(loaded.parts(), model.parts())


@pytest.fixture(scope="module")
def every_dtype(pair, gpus):
    """(model, array by kind and dtype) of distributed variables; sums begin with zeros."""
    model, expected = dsave.Module(), {}
    for dtype in DTYPES:
        if dtype.is_string or not dtype.variable:
            continue
        value = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0]]).astype(dtype.numpy)
        made = {
            "mirrored": pair.mirrored_variable(value, dtype.name, dtype=dtype.name),
            "sharded": pair.sharded_variable(
                value, dtype.name, dtype=dtype.name, devices=gpus[:3]
            ),
            "first": pair.sync_on_read_variable(
                value, dtype.name, dtype=dtype.name, aggregation="only_first_replica"
            ),
        }
        if dtype.name != "bool":
            made["sum"] = pair.sync_on_read_variable(
                np.zeros((5, 2), dtype.numpy), dtype.name, dtype=dtype.name, aggregation="sum"
            )
            pair.assign(made["sum"], value, device=gpus[2])
        for kind, variable in made.items():
            vars(model).setdefault(kind, {})[dtype.name] = variable
            expected[kind, dtype.name] = value
    return model, expected


@pytest.mark.parametrize("route", ROUTES)
def test_components_of_every_dtype_get_their_bytes(pair, every_dtype, tmp_path, tf, see, route):
    model, expected = every_dtype
    save(
        pair,
        model,
        tmp_path,
        experimental_variable_policy=EXPAND,
        experimental_io_device=ROUTES[route],
    )
    loaded = tf.saved_model.load(str(tmp_path))
    components = list(vars(loaded._components).items())
    for (kind, name), value in expected.items():
        variable = getattr(loaded, kind)[name]
        assert see.bits(variable.numpy()) == see.bits(value), (kind, name)
    # Each name is that of a dtype, so the order tells the kinds apart.
    found = {}
    for name, variable in components:
        if name[0] != "_":
            found.setdefault(name.split("/")[0], []).append(variable.numpy())
    for name, arrays in found.items():
        value = expected["mirrored", name]
        rows = [value[:2], value[2:4], value[4:]]
        zeros = np.zeros_like(value)
        # A mirrored variable, a sharded one, one that is read by first; and a sum, if there is.
        wanted = [*[value] * 3, *rows, *[value] * 3]
        if name in ADDED:
            wanted += [zeros, zeros, value, zeros]
        assert [see.bits(array) for array in arrays] == [see.bits(array) for array in wanted]


def test_only_replicas_that_differ_are_stored_beside_the_variable(pair, every_dtype, tmp_path):
    model, expected = every_dtype
    sizes = []
    for policy in (dsave.VariablePolicy.NONE, EXPAND):
        directory = tmp_path / policy.name
        save(pair, model, directory, experimental_variable_policy=policy)
        prefix = directory / "variables" / "variables"
        index = read_index(Path(f"{prefix}.index").read_bytes(), str(prefix))
        (graph,) = index.entries["_CHECKPOINTABLE_OBJECT_GRAPH"]
        files = sorted((directory / "variables").glob("*.data-*"))
        assert len(files) == 3
        sizes.append([path.stat().st_size for path in files])
        sizes[-1][graph.shard] -= graph.nbytes
    replicas = sum(4 * expected["sum", name].nbytes for name in ADDED)
    firsts = sum(3 * value.nbytes for (kind, _), value in expected.items() if kind == "first")
    assert sum(sizes[1]) - sum(sizes[0]) == replicas + firsts


def test_sessions_restore_every_replica(pair, model, tmp_path, tf):
    save(pair, model, tmp_path, experimental_variable_policy=EXPAND)
    with tf.Graph().as_default() as graph:
        from tensorflow.core.protobuf import saved_model_pb2

        proto = saved_model_pb2.SavedModel.FromString(
            (tmp_path / "saved_model.pb").read_bytes()
        )
        graph_def = proto.meta_graphs[0].graph_def
        for node in graph_def.node:
            node.device = ""  # these hosts are no TensorFlow servers
        tf.import_graph_def(graph_def, name="")
        saver = proto.meta_graphs[0].saver_def
        with tf.compat.v1.Session(graph=graph) as session:
            prefix = f"{tmp_path}/variables/variables"
            session.run(saver.restore_op_name, {saver.filename_tensor_name: prefix})
            found = session.run(
                [f"{n}/Read/ReadVariableOp:0" for n in ("n", "n/replica_1", "w/replica_3")]
            )
    assert [value.tolist() for value in found] == [10, 20, [[1, 0], [0, 1]]]


@pytest.mark.parametrize(
    ("signatures", "options", "error"),
    [
        (7, {}, dsave.OptionTypeError),
        ({"__saved_model_init_op": "serve"}, {}, dsave.OptionError),
        ({"k": "untraced"}, {}, dsave.OptionError),
        (None, {"function_aliases": {"a": print}}, dsave.OptionTypeError),
        ({"k": "namespaced"}, {}, dsave.OptionError),
        ({"k": "namespaced"}, {"namespace_whitelist": ["Other"]}, dsave.OptionError),
        ({"k": "stray"}, {}, dsave.ModelError),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(
    pair, model, tmp_path, see, signatures, options, error
):
    stray = pair.variable(1.0, "stray")
    functions = {
        "serve": model.serve,
        "untraced": dsave.function(lambda x: x),
        "namespaced": dsave.function(
            lambda: dsave.ops.call("Test>Op", outputs=dsave.TensorSpec([])), input_signature=[]
        ),
        "stray": dsave.function(lambda: stray + 1, input_signature=[]),
    }
    if isinstance(signatures, dict):
        signatures = {key: functions[name] for key, name in signatures.items()}
    save(pair, model, tmp_path / "export")
    with see.untouched(tmp_path / "export"), pytest.raises(error):
        save(pair, model, tmp_path / "export", signatures, **options)


def test_debug_info_points_at_the_users_lines(pair, model, tmp_path, tf):
    save(pair, model, tmp_path, {"k": model.serve}, save_debug_info=True)
    info = tf.saved_model.load(str(tmp_path)).graph_debug_info
    first = inspect.getsourcelines(Model)[1]
    lines = range(first, first + len(inspect.getsourcelines(Model)[0]))
    (tanh,) = (trace for key, trace in info.traces.items() if key.startswith("Tanh@"))
    frame = tanh.file_line_cols[-1]
    assert (info.files[frame.file_index], frame.func) == (__file__, "Model.serve")
    assert frame.line in lines
    stacks = [
        [c.func for c in trace.file_line_cols if info.files[c.file_index] == __file__]
        for key, trace in info.traces.items()
        if key.startswith("StatefulPartitionedCall@")
    ]
    assert stacks
    assert all(stack[-1] == "save" for stack in stacks)


def test_there_is_no_debug_directory_unless_it_is_asked_for(pair, model, tmp_path):
    save(pair, model, tmp_path / "export", save_debug_info=True)
    assert (tmp_path / "export" / "debug" / "saved_model_debug_info.pb").exists()
    save(pair, model, tmp_path / "export")
    assert not (tmp_path / "export" / "debug").exists()


@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_saving_again_gives_the_same_bytes(pair, model, tmp_path, policy):
    def once(name):
        save(
            pair,
            model,
            tmp_path / name,
            {"serve": model.serve, "parts": model.parts},
            experimental_variable_policy=policy,
            function_aliases={"f": model.serve},
            save_debug_info=True,
        )
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        return {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in paths
            if path.name != "fingerprint.pb"
        }

    first, second = once("first"), once("second")
    assert "variables/variables.index" in first
    assert first == second


def test_a_variable_is_read_once_in_a_call(pair, model, monkeypatch):
    reads = []
    fetch = Values.fetch

    def counted(values, components):
        reads.append([component.name for component in components])
        return fetch(values, components)

    monkeypatch.setattr(Values, "fetch", counted)
    twice = dsave.function(lambda: model.b + model.b * model.b, input_signature=[])
    for call in (twice, twice.get_concrete_function()):
        reads.clear()
        assert call().tolist() == [2, 6]
        assert reads == [["b"]]


def test_the_debug_info_is_there_before_the_commit(pair, model, tmp_path, monkeypatch):
    from dsave.runtime.file_storage import FileStorage

    written = []
    put = FileStorage.put

    def recorded(storage, files):
        written.extend(files)
        put(storage, files)

    monkeypatch.setattr(FileStorage, "put", recorded)
    save(pair, model, tmp_path, save_debug_info=True, experimental_io_device="/job:localhost")
    assert written[-1] == "saved_model.pb"
    assert "debug/saved_model_debug_info.pb" in written
