"""Functions that were saved from a cluster compute the same wherever they are loaded.

- functions of every kind of variable, of replicas and of parts: under every policy, without a
  cluster, on the same cluster and on another one, which has another number of replicas
- saved again under any policy, they are worth the same to TensorFlow, and so they are after
  turns of both
- signatures, methods, functions in containers and concrete functions come back
"""

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray

HOSTS = [f"/job:worker/replica:0/task:{task}" for task in range(2)]
POLICIES = list(dsave.VariablePolicy)


class Net(dsave.Module):
    """A method that reads two variables and takes one tensor."""

    @dsave.function(input_signature=[dsave.TensorSpec([None, 3], "float32", name="x")])
    def serve(self, x):
        """Exact in float32."""
        return {"y": np.maximum(np.matmul(x, self.w), 0.5) + self.b, "a": x}


@pytest.fixture(scope="module")
def model(pair, gpus):
    """Functions of every kind of variable."""
    model = Net()
    model.w = pair.variable(np.arange(6.0, dtype=np.float32).reshape(3, 2), "w")
    model.b = pair.mirrored_variable(np.array([1.0, -1.0], np.float32), "b")
    model.n = pair.sync_on_read_variable(0, "n", aggregation="sum")
    model.mean = pair.sync_on_read_variable(0.0, "mean", aggregation="mean")
    model.first = pair.sync_on_read_variable(0.0, "first", aggregation="only_first_replica")
    for index, device in enumerate(gpus):
        pair.assign(model.n, 10 * (index + 1), device=device)
        pair.assign(model.mean, index, device=device)
        pair.assign(model.first, index + 5, device=device)
    table = np.arange(14, dtype=np.float32).reshape(7, 2)
    model.e = pair.sharded_variable(table, "e", devices=gpus[:3])
    for name, code in {
        "total": lambda: {"n": model.n + 0},
        "others": lambda: [model.mean * 2, model.first + 0],
        "replicas": lambda: [model.b.components[2] * 1, model.mean.components[1] + 0],
        "rows": lambda: np.concatenate([model.e[5:], model.e.components[1][:1]]),
    }.items():
        setattr(model, name, dsave.function(code, input_signature=[]))
    model.kept = [dsave.function(lambda x: x + 1), {"f": model.total}]
    model.kept[0].get_concrete_function(dsave.TensorSpec([], "int32"))
    model.kept[0].get_concrete_function(dsave.TensorSpec([None], "float32"))
    return model


@pytest.fixture(scope="module")
def other(pair):
    """A cluster of one host and three devices."""
    with dsave.Cluster.start({"hosts": [{"job": "worker", "tasks": 1, "gpus": 2}]}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def saved(pair, model, tmp_path_factory):
    made = {}

    def save(policy):
        if policy not in made:
            made[policy] = str(tmp_path_factory.mktemp("functions") / "export")
            options = dsave.SaveOptions(experimental_variable_policy=policy)
            signatures = {"s": model.serve, "total": model.total}
            dsave.save(model, made[policy], signatures, options, cluster=pair)
        return made[policy]

    return save


def results(model, as_array):
    """What the functions of a model return."""
    x = np.array([[1.0, 0.5, -1.0]], np.float32)

    def listed(value):
        if isinstance(value, dict):
            return {key: listed(value[key]) for key in sorted(value)}
        if isinstance(value, list | tuple):
            return [listed(each) for each in value]
        return as_array(value).tolist()

    return {
        "serve": listed(model.serve(x)),
        "total": listed(model.total()),
        "others": listed(model.others()),
        "rows": listed(model.rows()),
        "first trace": listed(model.kept[0](np.array(1, np.int32))),
        "second trace": listed(model.kept[0](np.array([0.5], np.float32))),
        "in a dict": listed(model.kept[1]["f"]()),
    }


def expected(model):
    return results(model, np.asarray)


@pytest.mark.parametrize("policy", POLICIES)
def test_functions_compute_the_same_without_a_cluster(pair, model, saved, policy):
    loaded = dsave.load(saved(policy))
    assert loaded.load_notes == ()
    assert results(loaded, np.asarray) == expected_on(pair, model)
    assert loaded.total()["n"] == 100


def expected_on(pair, model):
    with active(pair):
        return expected(model)


class active:
    """Make a cluster the active one for a while."""

    def __init__(self, cluster):
        self._cluster = cluster

    def __enter__(self):
        from dsave.runtime import cluster

        cluster._active.append(self._cluster)

    def __exit__(self, *_):
        from dsave.runtime import cluster

        cluster._active.pop()


@pytest.mark.parametrize("where", ["same", "other"])
@pytest.mark.parametrize("policy", POLICIES)
def test_functions_compute_the_same_on_a_cluster(pair, other, model, saved, policy, where):
    cluster = pair if where == "same" else other
    loaded = dsave.load(saved(policy), cluster)
    with active(cluster):
        assert results(loaded, np.asarray) == expected_on(pair, model)
        assert loaded.replicas()[0].tolist() == [1.0, -1.0]
        cluster.assign(loaded.w, np.zeros((3, 2), np.float32))
        x = np.ones((1, 3), np.float32)
        assert loaded.serve(x)["y"].tolist() == [[1.5, -0.5]]
        assert loaded.signatures["s"](x)["y"].tolist() == [[1.5, -0.5]]


@pytest.mark.parametrize("policy", POLICIES)
def test_signatures_come_back(pair, other, saved, policy):
    for cluster in (None, other):
        loaded = dsave.load(saved(policy), cluster)
        with active(cluster or pair):
            assert sorted(loaded.signatures) == ["s", "total"]
            assert loaded.signatures["total"]() == {"n": 100}
            result = loaded.signatures["s"](x=np.zeros((2, 3), np.float32))
            assert result["y"].tolist() == [[1.5, -0.5]] * 2


@pytest.mark.tf
@pytest.mark.parametrize("then", POLICIES)
@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_saved_again_is_worth_the_same_to_tensorflow(
    pair, other, model, saved, tmp_path, tf, policy, then
):
    loaded = dsave.load(saved(policy), other)
    options = dsave.SaveOptions(experimental_variable_policy=then)
    again = str(tmp_path / "again")
    dsave.save(loaded, again, loaded.signatures, options, cluster=other)
    theirs = tf.saved_model.load(again)
    wanted = expected_on(pair, model)
    assert results(theirs, lambda value: value.numpy()) == wanted
    assert results(dsave.load(again), np.asarray) == wanted
    assert theirs.signatures["total"]()["n"].numpy() == 100


@pytest.mark.tf
@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_drifts_while_dsave_and_tensorflow_save_it_in_turns(
    pair, model, saved, tmp_path, tf, policy
):
    options = dsave.SaveOptions(experimental_variable_policy=policy)
    loaded = dsave.load(saved(policy), pair)
    wanted, total = expected_on(pair, model), pair.read(model.n)
    for turn in range(2):
        ours, theirs = str(tmp_path / f"ours{turn}"), str(tmp_path / f"theirs{turn}")
        dsave.save(loaded, ours, loaded.signatures, options, cluster=pair)
        read = tf.saved_model.load(ours)
        assert results(read, lambda value: value.numpy()) == wanted
        tf.saved_model.save(read, theirs, read.signatures)
        loaded = dsave.load(theirs, pair)
        assert results(dsave.load(theirs), np.asarray) == wanted
        assert loaded.signatures.keys() == {"s", "total"}
        assert loaded.signatures["total"]() == {"n": 100}
        assert pair.read(loaded.n) == total


def test_a_function_without_a_trace_comes_back_without_one(pair, tmp_path):
    model = dsave.Module()
    model.f = dsave.function(lambda x: x)
    dsave.save(model, tmp_path / "export", cluster=pair)
    loaded = dsave.load(tmp_path / "export", pair)
    with pytest.raises(dsave.OptionTypeError, match="traced"):
        loaded.f(np.float32(1))
    dsave.save(loaded, tmp_path / "again", cluster=pair)
    first, again = ((tmp_path / d / "saved_model.pb").read_bytes() for d in ("export", "again"))
    assert first == again


def test_a_concrete_function_of_the_tree_comes_back(pair, tmp_path):
    model = dsave.Module()
    model.f = dsave.function(lambda x: x * 2).get_concrete_function(
        dsave.TensorSpec([], "int32")
    )
    dsave.save(model, tmp_path / "export", cluster=pair)
    for cluster in (None, pair):
        loaded = dsave.load(tmp_path / "export", cluster)
        assert isinstance(loaded.f, dsave.ConcreteFunction)
        assert loaded.f(np.array(4, np.int32)) == 8


def test_an_op_that_only_tensorflow_has_is_named_at_the_call(pair, tmp_path, caplog):
    model = dsave.Module()
    spec = dsave.TensorSpec([], "string")
    model.f = dsave.function(
        lambda x: dsave.ops.call("StringUpper", [x], outputs=spec), input_signature=[spec]
    )
    model.v = pair.variable(1.0, "v")
    dsave.save(model, tmp_path / "export", cluster=pair)
    loaded = dsave.load(tmp_path / "export", pair)
    with pytest.raises(dsave.ModelError, match="numpy cannot run StringUpper"):
        loaded.f(b"x")
    assert pair.read(loaded.v) == 1.0
    assert all("StringUpper" in note for note in loaded.load_notes)
    assert any("StringUpper" in message for message in caplog.messages)
