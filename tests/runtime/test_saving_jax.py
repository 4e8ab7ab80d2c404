"""JAX functions in SavedModels.

Claims: a multilayer perceptron of JAX, saved by dsave, gives in TensorFlow what it gives when
JAX's own jax2tf and TensorFlow save it, bit for bit, for batches of any size; so it does in a
session, as a signature and as a function; it reads the variables as they are stored. Loaded by
dsave it computes that too, and so it does for TensorFlow when it is saved again.
"""

import numpy as np
import pytest

import dsave

pytestmark = [pytest.mark.ray, pytest.mark.tf]

RANDOM = np.random.default_rng(3)
WEIGHTS = {
    "hidden": {
        "w": RANDOM.standard_normal((5, 32), np.float32),
        "b": RANDOM.standard_normal(32, np.float32),
    },
    "out": {"w": RANDOM.standard_normal((32, 3), np.float32)},
}
BATCHES = {size: RANDOM.standard_normal((size, 5), np.float32) for size in (1, 7, 64)}


@pytest.fixture(scope="module")
def jax(tf):  # imported first, TensorFlow keeps quiet
    return pytest.importorskip("jax", reason="JAX is not installed here (see dsave[jax])")


@pytest.fixture(scope="module")
def mlp(jax):
    """The code: features and probabilities of a batch."""

    def mlp(weights, x):
        hidden = jax.nn.gelu(x @ weights["hidden"]["w"] + weights["hidden"]["b"])
        logits = hidden @ weights["out"]["w"]
        return {"probabilities": jax.nn.softmax(logits), "features": hidden}

    return mlp


@pytest.fixture(scope="module")
def ours(pair, jax, mlp, tmp_path_factory):
    """The directory that dsave saved it to; the weights are of every kind."""
    model = dsave.Module()
    model.weights = {
        "hidden": {
            "w": pair.mirrored_variable(WEIGHTS["hidden"]["w"], "hidden/w"),
            "b": pair.variable(WEIGHTS["hidden"]["b"], "hidden/b"),
        },
        "out": {"w": pair.sharded_variable(WEIGHTS["out"]["w"], "out/w")},
    }
    model.mlp = dsave.jax_function(
        mlp,
        [dsave.TensorSpec([None, 5], name="x")],
        variables=model.weights,
        platforms=("cpu", "cuda", "tpu"),
    )
    with_cluster = jax.tree.map(pair.read, model.weights)
    expected = jax.jit(mlp)(with_cluster, BATCHES[7])
    for name, value in model.mlp(BATCHES[7]).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)
    directory = tmp_path_factory.mktemp("jax") / "ours"
    dsave.save(model, directory, signatures=model.mlp, cluster=pair)
    return str(directory)


@pytest.fixture(scope="module")
def theirs(tf, jax, mlp, tmp_path_factory):
    """What JAX and TensorFlow made of it: results by batch size."""
    from jax.experimental import jax2tf

    converted = jax2tf.convert(mlp, polymorphic_shapes=[None, "(b, _)"])
    model = tf.Module()
    model.weights = jax.tree.map(tf.Variable, WEIGHTS)
    model.mlp = tf.function(
        lambda x: converted(model.weights, x),
        input_signature=[tf.TensorSpec([None, 5], tf.float32, name="x")],
        autograph=False,
    )
    directory = str(tmp_path_factory.mktemp("jax") / "theirs")
    tf.saved_model.save(model, directory, signatures=model.mlp)
    serve = tf.saved_model.load(directory).signatures["serving_default"]
    return {size: serve(x=tf.constant(x)) for size, x in BATCHES.items()}


@pytest.mark.parametrize("size", BATCHES)
def test_results_are_those_of_jax2tf_bit_for_bit(tf, ours, theirs, size):
    loaded = tf.saved_model.load(ours)
    x = tf.constant(BATCHES[size])
    for results in (loaded.signatures["serving_default"](x=x), loaded.mlp(x)):
        assert results.keys() == {"probabilities", "features"}
        for name, value in results.items():
            assert value.numpy().tobytes() == theirs[size][name].numpy().tobytes()


def test_a_session_serves_it(tf, ours, theirs):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], ours)
        signature = meta_graph.signature_def["serving_default"]
        names = {key: info.name for key, info in signature.outputs.items()}
        for size, x in BATCHES.items():
            for name, value in session.run(names, {signature.inputs["x"].name: x}).items():
                assert value.tobytes() == theirs[size][name].numpy().tobytes()


def test_it_computes_with_the_variables_of_the_model(tf, ours):
    loaded = tf.saved_model.load(ours)
    loaded.weights["out"]["w"].assign(np.zeros((32, 3), np.float32))
    result = loaded.mlp(tf.constant(BATCHES[1]))["probabilities"].numpy()
    np.testing.assert_allclose(result, np.full((1, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("onto", ["here", "cluster"])
def test_what_is_loaded_computes_the_same(pair, ours, theirs, onto):
    loaded = dsave.load(ours, pair if onto == "cluster" else None)
    for size, x in BATCHES.items():
        for results in (loaded.mlp(x), loaded.signatures["serving_default"](x=x)):
            assert results.keys() == {"probabilities", "features"}
            for name, value in results.items():
                np.testing.assert_allclose(value, theirs[size][name].numpy(), 1e-5, 1e-6)


def test_what_is_loaded_and_saved_again_is_the_same_code(tf, pair, ours, theirs, tmp_path):
    loaded = dsave.load(ours, pair)
    dsave.save(loaded, tmp_path / "again", loaded.signatures, cluster=pair)
    serve = tf.saved_model.load(str(tmp_path / "again")).signatures["serving_default"]
    for size, x in BATCHES.items():
        for name, value in serve(x=tf.constant(x)).items():
            assert value.numpy().tobytes() == theirs[size][name].numpy().tobytes()
