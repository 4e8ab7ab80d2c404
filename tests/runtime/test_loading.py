"""What was saved is what is loaded, whatever the cluster.

- every dtype and kind of variable, under every policy and by every route, onto the same hosts,
  fewer, more and others, bit for bit; and without a cluster
- under EXPAND distributed variables come back distributed, on their devices; else as one, on
  the device that was saved, or that of the scope, or where `placement` says
- replicas that were expanded get their own values back; else sums are shared out so that
  nothing is lost, and means and firsts are on each replica
- what is loaded and saved again is the same model, byte for byte
- the tree comes back: shared objects, cycles, namedtuples, names that no graph may have
- TensorFlow's models too, slices in two dimensions included
"""

import collections
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import dsave
from dsave.model.dtype import DTYPES

pytestmark = pytest.mark.ray

HOSTS = [f"/job:worker/replica:0/task:{task}" for task in range(3)]
SHAPE = (5, 3)
NARROW = {"int2", "uint2", "int4", "uint4", "float4_e2m1fn"}
ROUTES = {
    "shared": None,
    "private": None,
    "worker": f"{HOSTS[1]}/device:CPU:0",
    "caller": "/job:localhost",
}
Pair = collections.namedtuple("Pair", ["left", "right"])  # noqa: PYI024


@pytest.fixture(scope="module")
def clusters(pair):
    """Clusters by name, whose hosts of one name share their private paths."""
    private = Path(pair.real_path("/dsave-private", host=HOSTS[0]))
    shared = {"local_paths": ["/dsave-private"], "local_root": str(private.parent.parent)}
    fewer = {"hosts": [{"job": "worker", "tasks": 1}], **shared}
    more = {"hosts": [{"job": "worker", "tasks": 3, "gpus": 1}], **shared}
    other = {"hosts": [{"job": "trainer", "tasks": 2}]}
    with (
        dsave.Cluster.start(fewer) as one,
        dsave.Cluster.start(more) as three,
        dsave.Cluster.start(other) as others,
    ):
        yield {"same": pair, "fewer": one, "more": three, "other": others}


def arbitrary(dtype, seed):
    """Any bits that an array of the dtype may have; any strings."""
    random = np.random.default_rng(seed)
    count = int(np.prod(SHAPE))
    if dtype.is_string:
        words = [random.bytes(int(n)) for n in random.integers(0, 200, count)]
        return np.array([*words[:-1], b"\0\0"], object).reshape(SHAPE)
    if dtype.name == "bool":
        return random.integers(0, 2, SHAPE).astype(bool)
    if dtype.name in NARROW:
        bits = random.integers(0, 2, SHAPE)
        if dtype.name == "float4_e2m1fn":
            return bits.astype(np.uint8).view(ml_dtypes.float4_e2m1fn)
        return bits.astype(dtype.numpy)
    return np.frombuffer(random.bytes(count * dtype.itemsize), dtype.numpy).reshape(SHAPE)


@pytest.fixture(scope="module")
def everything(pair, gpus):
    """(model, values by kind and name) of every dtype and kind of variable."""
    model, expected = dsave.Module(), {}

    def put(kind, name, variable, value):
        vars(model).setdefault(kind, {})[name] = variable
        expected[kind, name] = np.asarray(value, variable.dtype.numpy)

    for number, dtype in enumerate(DTYPES):
        name = dtype.name
        value = arbitrary(dtype, number)
        with pair.device(gpus[number % 4]):
            put("plain", name, pair.variable(value, name, dtype=name), value)
        value = arbitrary(dtype, number + 100)
        put("mirrored", name, pair.mirrored_variable(value, name, dtype=name), value)
        value = arbitrary(dtype, number + 200)
        parts = pair.sharded_variable(value, name, dtype=name, devices=gpus[: 2 + number % 3])
        put("sharded", name, parts, value)
        first = pair.sync_on_read_variable(
            value, name, aggregation="only_first_replica", dtype=name
        )
        put("first", name, first, value)
    for name in ("int32", "int8", "uint64", "float32", "bfloat16", "complex64"):
        total = pair.sync_on_read_variable(1, name, aggregation="sum", dtype=name)
        for index, device in enumerate(gpus):
            pair.assign(total, index + 3, device=device)
        put("sum", name, total, 18)
    mean = pair.sync_on_read_variable(1.5, "mean", aggregation="mean")
    put("mean", "float32", mean, 1.5)
    return model, expected


@pytest.fixture(scope="module")
def saved(pair, everything, tmp_path_factory):
    """Saves everything once for each policy and route; returns the directory."""
    made = {}

    def save(policy, route):
        if (policy, route) not in made:
            root = tmp_path_factory.mktemp("saved")
            directory = f"/dsave-private/{root.name}" if route == "private" else str(root)
            options = dsave.SaveOptions(
                experimental_variable_policy=policy, experimental_io_device=ROUTES[route]
            )
            with warnings.catch_warnings():
                result = dsave.save(
                    everything[0], f"{directory}/export", options=options, cluster=pair
                )
            assert result.layout == ("host-local" if route == "private" else "single")
            made[policy, route] = f"{directory}/export"
        return made[policy, route]

    return save


def reads(cluster, model):
    return {
        (kind, name): cluster.read(variable)
        for kind, variables in vars(model).items()
        for name, variable in variables.items()
    }


@pytest.mark.parametrize("shape", ["same", "fewer", "more", "other"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_what_was_saved_is_loaded(clusters, everything, saved, see, policy, route, shape):
    if route == "private" and shape in {"fewer", "other"}:
        pytest.skip("those hosts do not see what the others wrote")
    cluster = clusters[shape]
    loaded = dsave.load(saved(policy, route), cluster)
    found = reads(cluster, loaded)
    assert {k: see.bits(v) for k, v in found.items()} == {
        k: see.bits(v) for k, v in everything[1].items()
    }
    assert all(v.dtype.name == name for (_, name), v in _variables(loaded).items() if name)


def _variables(model):
    return {
        (kind, name if kind != "mean" else ""): variable
        for kind, variables in vars(model).items()
        for name, variable in variables.items()
    }


@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_what_was_saved_is_loaded_without_a_cluster(everything, saved, see, policy):
    loaded = dsave.load(saved(policy, "shared"))
    for (kind, name), value in everything[1].items():
        assert see.bits(getattr(loaded, kind)[name].numpy()) == see.bits(value)


def test_distributed_variables_come_back_on_their_devices(pair, everything, saved):
    loaded = dsave.load(
        saved(dsave.VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES, "shared"), pair
    )
    for key, before in _variables(everything[0]).items():
        if not before.dtype.variable or (key[0] == "sharded" and before.dtype.is_string):
            continue  # no graph has those variables, or those parts
        after = _variables(loaded)[key]
        assert type(after) is type(before)
        assert [c.device for c in after.components] == [c.device for c in before.components]
        assert [c.box for c in after.components] == [c.box for c in before.components]
        assert [c.name for c in after.components] == [c.name for c in before.components]
        assert (after.trainable, after.aggregation) == (before.trainable, before.aggregation)
    assert loaded.load_notes == ()


def test_with_devices_only_a_variable_comes_back_on_its_device(pair, everything, saved):
    policy = dsave.VariablePolicy.SAVE_VARIABLE_DEVICES
    loaded = dsave.load(saved(policy, "shared"), pair)
    for key, before in _variables(everything[0]).items():
        if before.dtype.variable:
            after = _variables(loaded)[key]
            assert [c.device for c in after.components] == [before.device]


def test_without_devices_variables_go_where_the_scope_says(pair, saved, gpus):
    directory = saved(dsave.VariablePolicy.NONE, "shared")
    with pair.device(gpus[3]):
        loaded = dsave.load(directory, pair)
    assert {v.device for v in _variables(loaded).values()} == {gpus[3]}
    loaded = dsave.load(directory, pair)
    assert {v.device for v in _variables(loaded).values()} == {f"{HOSTS[0]}/device:CPU:0"}


def test_placement_says_where_by_path_and_by_name(pair, gpus, tmp_path, see):
    model = dsave.Module()
    model.sub = dsave.Module()
    table = np.arange(10).reshape(5, 2)
    model.sub.table = pair.sharded_variable(table, "emb", devices=gpus[:2])
    model.weights = pair.variable([1.0, 2.0], "w")
    model.total = pair.sync_on_read_variable(0, "n", aggregation="sum", devices=gpus[:2])
    pair.assign(model.total, 33, device=gpus[0])
    model.moved = pair.mirrored_variable([3.0], "m", devices=gpus[:2])
    dsave.save(model, tmp_path / "export", cluster=pair)
    loaded = dsave.load(
        tmp_path / "export",
        pair,
        placement={
            "sub/table": [gpus[3], gpus[0], gpus[1]],
            "w": gpus,
            "n": gpus[1:],
            "moved": "/task:1/device:GPU:0",
        },
    )
    assert [(c.device, c.box.lengths) for c in loaded.sub.table.components] == [
        (gpus[3], (2, 2)),
        (gpus[0], (2, 2)),
        (gpus[1], (1, 2)),
    ]
    assert pair.read(loaded.sub.table).tolist() == table.tolist()
    assert isinstance(loaded.weights, dsave.MirroredVariable)
    assert [pair.read(loaded.weights, gpu).tolist() for gpu in gpus] == [[1.0, 2.0]] * 4
    assert [pair.read(loaded.total, gpu).item() for gpu in gpus[1:]] == [11, 11, 11]
    assert [c.device for c in loaded.moved.components] == [gpus[2]]


def test_the_placement_by_path_comes_before_that_by_name(pair, gpus, tmp_path):
    model = dsave.Module()
    model.b, model.a = pair.variable(1.0, "a"), pair.variable(2.0, "b")
    dsave.save(model, tmp_path / "export", cluster=pair)
    placement = {"a": gpus[0], "b": gpus[1]}
    loaded = dsave.load(tmp_path / "export", pair, placement=placement)
    assert (loaded.a.device, loaded.b.device) == (gpus[0], gpus[1])


@pytest.mark.parametrize(
    ("placement", "error", "named"),
    [
        ({"nothing": "/CPU:0"}, dsave.OptionError, "nothing"),
        ({"w": "/GPU:7"}, dsave.DeviceError, "GPU:7"),
        ({"w": []}, dsave.DeviceError, "at least one"),
        ({"w": ["/task:1", "/task:1"]}, dsave.DeviceError, "twice"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(pair, tmp_path, placement, error, named):
    model = dsave.Module()
    model.w = pair.variable(1.0, "w")
    dsave.save(model, tmp_path / "export", cluster=pair)
    with pytest.raises(error, match=named):
        dsave.load(tmp_path / "export", pair, placement=placement)


@pytest.mark.parametrize(
    ("dtype", "total", "parts"),
    [("int32", 33, [11, 11, 11]), ("int8", 8, [3, 3, 2]), ("float32", 33, [11.0, 11.0, 11.0])],
)
def test_a_sum_is_shared_out_to_its_replicas(pair, gpus, tmp_path, dtype, total, parts):
    model = dsave.Module()
    model.n = pair.sync_on_read_variable(0, "n", aggregation="sum", dtype=dtype)
    pair.assign(model.n, total, device=gpus[0])
    for device in gpus[1:]:
        pair.assign(model.n, 0, device=device)
    dsave.save(model, tmp_path / "export", cluster=pair)
    loaded = dsave.load(tmp_path / "export", pair, placement={"n": gpus[:3]})
    assert [pair.read(loaded.n, device).item() for device in gpus[:3]] == parts
    assert pair.read(loaded.n).item() == total


def replicas_that_differ(cluster, devices, aggregation):
    model = dsave.Module()
    model.n = cluster.sync_on_read_variable(
        np.zeros(2, np.float32), "n", aggregation=aggregation, devices=devices
    )
    values = [[0.1 + place, 10.0] for place in range(len(devices))]
    for device, value in zip(devices, values, strict=True):
        cluster.assign(model.n, value, device=device)
    return model, np.array(values, np.float32)


@pytest.mark.parametrize("aggregation", ["sum", "mean", "only_first_replica"])
def test_replicas_that_were_expanded_get_their_own_values_back(
    pair, gpus, tmp_path, aggregation
):
    model, values = replicas_that_differ(pair, gpus[:3], aggregation)
    options = dsave.SaveOptions(experimental_variable_policy="expand_distributed_variables")
    dsave.save(model, tmp_path / "export", options=options, cluster=pair)
    other = [gpus[3], gpus[1], gpus[2]]
    for placement, devices in ((None, gpus[:3]), ({"n": other}, other)):
        loaded = dsave.load(tmp_path / "export", pair, placement=placement)
        found = [pair.read(loaded.n, device) for device in devices]
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(pair.read(loaded.n), pair.read(model.n))


def test_of_another_number_each_gets_a_share_though_they_were_expanded(pair, gpus, tmp_path):
    model, _ = replicas_that_differ(pair, gpus[:3], "sum")
    options = dsave.SaveOptions(experimental_variable_policy="expand_distributed_variables")
    dsave.save(model, tmp_path / "export", options=options, cluster=pair)
    loaded = dsave.load(tmp_path / "export", pair, placement={"n": gpus[:2]})
    total = pair.read(model.n)
    np.testing.assert_allclose([pair.read(loaded.n, d) for d in gpus[:2]], [total / 2] * 2)
    np.testing.assert_array_equal(pair.read(loaded.n), total)


def test_a_mean_is_what_was_saved_and_saved_again(pair, gpus, tmp_path):
    """An old bug: it drifted with each load, by what the replicas lost by rounding."""
    devices = [*gpus[:3], f"{pair.hosts[0]}/device:CPU:0", f"{pair.hosts[1]}/device:CPU:0"]
    model, rng = dsave.Module(), np.random.default_rng(0)
    model.n = pair.sync_on_read_variable(
        np.zeros(1000, np.float32), "n", aggregation="mean", devices=devices
    )
    for device in devices:
        pair.assign(model.n, rng.standard_normal(1000).astype(np.float32), device=device)
    mean = pair.read(model.n)
    for _ in range(2):
        dsave.save(model, tmp_path / "export", cluster=pair)
        dsave.load(tmp_path / "export", pair, into=model)
        np.testing.assert_array_equal(pair.read(model.n), mean, strict=True)
    assert (dsave.load(tmp_path / "export").n == mean).all()


@pytest.mark.parametrize("aggregation", ["mean", "only_first_replica"])
def test_other_aggregates_are_on_each_replica(pair, gpus, tmp_path, aggregation):
    model = dsave.Module()
    model.n = pair.sync_on_read_variable(2.5, "n", aggregation=aggregation)
    dsave.save(model, tmp_path / "export", cluster=pair)
    loaded = dsave.load(tmp_path / "export", pair, placement={"n": gpus})
    assert [pair.read(loaded.n, device).item() for device in gpus] == [2.5] * 4


@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_what_is_loaded_and_saved_again_is_the_same(pair, everything, tmp_path, policy):
    model = everything[0]
    options = dsave.SaveOptions(experimental_variable_policy=policy)
    if policy.expands:
        model = dsave.Module()
        for (kind, name), variable in _variables(everything[0]).items():
            # No graph has those variables, or those parts, so it does not say where they are.
            if variable.dtype.variable and not (kind == "sharded" and name == "string"):
                vars(model).setdefault(kind, {})[name] = variable
    directories = [tmp_path / name for name in ("first", "second", "third")]
    for directory in directories:
        dsave.save(model, directory, options=options, cluster=pair)
        model = dsave.load(directory, pair)
    first, *others = [(d / "saved_model.pb").read_bytes() for d in directories]
    for again in others:
        assert again == first
    if policy.expands:
        for name in ("variables/variables.index", "variables/variables.data-00000-of-00003"):
            assert len({(directory / name).read_bytes() for directory in directories}) == 1


@pytest.mark.tf
def test_what_is_saved_again_is_worth_the_same_to_tensorflow(
    pair, everything, saved, tmp_path, stored, see
):
    loaded = dsave.load(saved(dsave.VariablePolicy.NONE, "shared"), pair)
    dsave.save(loaded, tmp_path / "again", cluster=pair)
    assert stored(tmp_path / "again") == {
        f"{kind}/{name}/.ATTRIBUTES/VARIABLE_VALUE": see.bits(value)
        for (kind, name), value in everything[1].items()
    }


def test_the_tree_comes_back(pair, clusters, tmp_path):
    model = dsave.Module()
    model.w = pair.variable(1.0, "a name/that no node:may have")
    model.pair = Pair(model.w, pair.variable(2.0, "w"))
    model.many = [3, model.w, {"a/b.c": pair.variable(4.0, "w")}, (model.pair,)]
    model.child = dsave.Module()
    model.child.parent = model
    dsave.save(model, tmp_path / "export", cluster=pair)
    other = clusters["other"]
    for read, loaded in (
        (other.read, dsave.load(tmp_path / "export", other)),
        (np.asarray, dsave.load(tmp_path / "export")),
    ):
        assert loaded.w.name == "a name/that no node:may have"
        assert loaded.pair.left is loaded.w
        assert read(loaded.pair.right) == 2.0
        assert loaded.many[0] is None
        assert loaded.many[1] is loaded.w
        assert read(loaded.many[2]["a/b.c"]) == 4.0
        assert loaded.many[3][0] is loaded.pair
        assert loaded.child.parent is loaded


def test_a_model_without_variables_loads(pair, tmp_path):
    dsave.save(dsave.Module(), tmp_path / "export", cluster=pair)
    assert vars(dsave.load(tmp_path / "export", pair)) == {}
    assert vars(dsave.load(tmp_path / "export")) == {}


def test_variables_without_elements_load(pair, gpus, tmp_path):
    model = dsave.Module()
    model.plain = pair.variable(np.zeros((0, 3), np.float32), "plain")
    model.sharded = pair.sharded_variable(np.zeros((0,), np.int32), "sharded", devices=gpus)
    model.strings = pair.variable(np.zeros((2, 0), object), "strings", dtype="string")
    dsave.save(model, tmp_path / "export", cluster=pair)
    loaded = dsave.load(tmp_path / "export", pair, placement={"plain": gpus[:2]})
    assert pair.read(loaded.plain).shape == (0, 3)
    assert pair.read(loaded.sharded).shape == (0,)
    assert pair.read(loaded.strings).shape == (2, 0)


def test_an_address_of_any_filesystem_loads(pair, tmp_path):
    model = dsave.Module()
    model.w = pair.mirrored_variable(np.arange(1000.0), "w")
    model.s = pair.mirrored_variable(np.array([b"a", b"b"], object), "s")
    dsave.save(model, tmp_path / "export", cluster=pair)
    url = f"local://{tmp_path}/export"
    loaded = dsave.load(url, pair, placement={"w": list(pair.devices), "s": list(pair.devices)})
    assert pair.read(loaded.w, HOSTS[1]).tolist() == np.arange(1000.0).tolist()
    assert pair.read(loaded.s, HOSTS[1]).tolist() == [b"a", b"b"]
    assert dsave.load(url).w.numpy().tolist() == np.arange(1000.0).tolist()


@pytest.mark.tf
@pytest.mark.parametrize("limit", [40, 64, 1000])
def test_tensorflows_slices_load(pair, gpus, tf, tmp_path, limit):
    value = np.arange(100, dtype=np.float32).reshape(10, 10)
    root = tf.Module()
    root.v, root.s = tf.Variable(value), tf.Variable(["a", "bb"])
    options = tf.saved_model.SaveOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(limit)
    )
    tf.saved_model.save(root, str(tmp_path / "export"), options=options)
    file = dsave.open(tmp_path / "export")
    key = "v/.ATTRIBUTES/VARIABLE_VALUE"
    assert (len(file[key].entries) > 1) == (limit < 1000)
    loaded = dsave.load(tmp_path / "export", pair, placement={"v": gpus, "s": gpus})
    for gpu in gpus:
        assert pair.read(loaded.v, gpu).tolist() == value.tolist()
        assert pair.read(loaded.s, gpu).tolist() == [b"a", b"bb"]


@pytest.mark.tf
def test_tensorflows_sharded_variables_come_back_in_parts(pair, gpus, tf, tmp_path):
    from tensorflow.python.distribute import sharded_variable

    root = tf.Module()
    root.e = sharded_variable.ShardedVariable(
        [tf.Variable([[1.0], [2.0]], name="e/part_0"), tf.Variable([[3.0]], name="e/part_1")],
        name="e",
    )
    tf.saved_model.save(root, str(tmp_path / "export"))
    loaded = dsave.load(tmp_path / "export", pair, placement={"e": gpus[1:]})
    assert isinstance(loaded.e, dsave.ShardedVariable)
    assert [pair.read(loaded.e, gpu).tolist() for gpu in gpus[1:]] == [
        [[1.0]],
        [[2.0]],
        [[3.0]],
    ]
