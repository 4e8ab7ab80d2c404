"""JAX code in models that TensorFlow saved runs through JAX.

- what jax2tf converted computes what it computes in TensorFlow: for batches of any size, with
  variables, with and without gradients, and dtypes of 64 bits
- the rest of the function runs around it
- without JAX the model loads, and a call says what to install
"""

import sys

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.tf

RANDOM = np.random.default_rng(5)
WEIGHTS = {"w": RANDOM.standard_normal((5, 4), np.float32), "b": np.ones(4, np.float32)}


@pytest.fixture(scope="module")
def jax(tf):  # imported first, TensorFlow keeps quiet
    return pytest.importorskip("jax", reason="JAX is not installed here (see dsave[jax])")


@pytest.fixture(scope="module")
def both(tf, jax, tmp_path_factory):
    """(the model of TensorFlow, its directory)."""
    from jax import numpy as jnp
    from jax.experimental import jax2tf

    def layer(weights, x):
        y = jnp.tanh(x @ weights["w"] + weights["b"])
        return {"y": jax.nn.softmax(y), "twice": jnp.concatenate([x, x]), "i": jnp.argmax(y, 1)}

    model = tf.Module()
    model.weights = jax.tree.map(tf.Variable, WEIGHTS)

    def converted(rows, **how):
        code = jax2tf.convert(layer, **how)
        return tf.function(
            lambda x: {**code(model.weights, x * 2.0), "x": x},
            input_signature=[tf.TensorSpec([rows, 5], tf.float32, name="x")],
            autograph=False,
        )

    shapes = [None, "(b, _)"]
    model.functions = {
        "static": converted(3, with_gradient=False),
        "open": converted(None, with_gradient=False, polymorphic_shapes=shapes),
        "differentiable": converted(None, polymorphic_shapes=shapes),
    }
    directory = str(tmp_path_factory.mktemp("jax") / "export")
    tf.saved_model.save(model, directory, signatures=model.functions["open"])
    return model, directory


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype.as_numpy_dtype
        np.testing.assert_allclose(found[name], value.numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("static", 3), ("open", 1), ("open", 7), ("differentiable", 3), ("differentiable", 0)],
)
def test_it_computes_what_it_computes_in_tensorflow(both, name, rows):
    model, directory = both
    loaded = dsave.load(directory)
    assert loaded.load_notes == ()
    x = RANDOM.standard_normal((rows, 5), np.float32)
    if rows:
        assert_equal(loaded.functions[name](x), model.functions[name](x))
    else:
        with pytest.raises(dsave.ModelError, match="Expected value >= 1"):
            loaded.functions[name](x)


def test_a_signature_of_it_is_served(both):
    model, directory = both
    x = RANDOM.standard_normal((4, 5), np.float32)
    result = dsave.load(directory).signatures["serving_default"](x=x)
    assert_equal(result, model.functions["open"](x))


def test_dtypes_of_64_bits_stay_what_they_are(tf, jax, tmp_path):
    from jax.experimental import jax2tf

    model = tf.Module()
    specs = [tf.TensorSpec([None], tf.float64), tf.TensorSpec([None], tf.int64)]
    with jax.enable_x64(True):
        wide = jax2tf.convert(lambda x, n: (x * 2, n + 1), polymorphic_shapes=["(b,)", "(b,)"])
        model.wide = tf.function(wide, input_signature=specs, autograph=False)
        tf.saved_model.save(model, str(tmp_path))
    doubled, more = dsave.load(tmp_path).wide(np.array([0.1, 2.0]), np.array([1 << 40, -1]))
    assert (doubled.dtype, doubled.tolist()) == (np.float64, [0.2, 4.0])
    assert (more.dtype, more.tolist()) == (np.int64, [(1 << 40) + 1, 0])


def test_without_jax_a_call_says_what_to_install(both, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    loaded = dsave.load(both[1])
    assert loaded.weights["b"].numpy().tolist() == [1.0] * 4
    message = r"^function .*, node XlaCallModule: .*install dsave\[jax\]"
    with pytest.raises(dsave.ModelError, match=message):
        loaded.functions["open"](np.zeros((1, 5), np.float32))
