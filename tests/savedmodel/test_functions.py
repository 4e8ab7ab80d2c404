"""Functions in SavedModels compute the same in all that reads SavedModels.

- signatures in Python, in sessions, on the command line and in C++, whatever the order of names
- each kind of variable, its components and their sum, under every policy: what is expanded is
  worth what it was worth, integers too, and stays so when TensorFlow saves it again
- embeddings with a transformer's encoder block, and a small convolutional network, to 1e-5
- functions are called with positions, names, defaults, literals and structures, as in Python
- defaults that are arrays are tensors, in all that reads functions
- one that was never traced is loaded, and says so when it is called
- concrete functions are attributes too; aliases come back for each kind of function
- ops with effects run, in order, though nobody needs what they return
"""

import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest

import dsave
from dsave import TensorSpec
from dsave.model.trackable import Module
from dsave.options import VariablePolicy

pytestmark = pytest.mark.tf

NONE, DEVICES, EXPAND = VariablePolicy
CPU = ["/job:localhost/replica:0/task:0/device:CPU:0"] * 2

Pair = namedtuple("Pair", ["second", "first"])  # noqa: PYI024 - untyped, as users write them


def key(path):
    return f"{path}/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(params=VariablePolicy, ids=lambda policy: policy.name)
def policy(request):
    return request.param


def agree(readers, directory, signature, inputs, expected, tolerance=0):
    for name, reader in readers.items():
        found = reader(directory, signature, inputs)
        assert found.keys() == expected.keys(), name
        for output, value in expected.items():
            np.testing.assert_allclose(
                np.reshape(found[output], np.shape(value)),
                value,
                tolerance,
                tolerance,
                err_msg=name,
            )


def test_inputs_and_outputs_keep_their_names_in_any_order(readers, export, make):
    @dsave.function(
        input_signature=[TensorSpec([2], name=name) for name in ("x", "a", "X1", "b-c")]
    )
    def permuted(p, q, r, s):
        return {"z": p, "b": q * 10, "A": r * 100, "m": s * 1000}

    directory = export(make.model(f=permuted), NONE, {}, {"any:key": permuted})
    inputs = {
        n: np.array([i, i + 0.5], "float32") for i, n in enumerate(("x", "a", "X1", "b-c"))
    }
    expected = {"z": [0, 0.5], "b": [10, 15], "A": [200, 250], "m": [3000, 3500]}
    agree(readers, directory, "any:key", inputs, expected)


def test_the_command_line_tool_runs_a_signature(export, make, tmp_path):
    function = dsave.function(
        lambda x, a: {"y": x - a}, input_signature=[TensorSpec([2], name=n) for n in "xa"]
    )
    directory = export(make.model(f=function), NONE, {})
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
    inputs = ["--input_exprs", "x=[5.0,6.0];a=[1.0,3.0]"]
    place = ["--dir", directory, "--tag_set", "serve", "--signature_def", "serving_default"]
    done = subprocess.run(
        [*tool, *place, *inputs, "--outdir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "y.npy").tolist() == [4, 3]


def test_results_without_names_are_numbered_also_beyond_ten(readers, export, make):
    @dsave.function(input_signature=[TensorSpec([], "int32", name="x")])
    def many(x):
        return [x + i for i in range(12)]

    directory = export(make.model(), NONE, {}, {"many": many})
    expected = {f"output_{i}": 5 + i for i in range(12)}
    agree(readers, directory, "many", {"x": np.array(5, "int32")}, expected)


def test_a_namedtuple_of_results_gives_their_names(readers, export, make):
    function = dsave.function(
        lambda x: Pair(x, x * 2), input_signature=[TensorSpec([], name="x")]
    )
    directory = export(make.model(f=function), NONE, {})
    agree(
        readers,
        directory,
        "serving_default",
        {"x": np.array(3, "float32")},
        {"second": 3, "first": 6},
    )


@pytest.fixture
def kinds(make):
    """A module with each kind of variable, read by functions; and its checkpoint's values."""
    m = Module()
    m.p = make.plain("p", (2,))
    m.v = make.mirrored("v", (2,), devices=CPU)
    m.n = make.on_read("n", "sum", (), "int32", devices=CPU)
    m.x = make.on_read("x", "sum", (2,), devices=CPU)
    m.mean = make.on_read("mean", "mean", (2,), devices=CPU)
    m.first = make.on_read("first", "only_first_replica", devices=CPU)
    m.e = make.sharded("e", (3, 2), devices=CPU)
    m.h = make.sharded("h", (3, 2), "float16", devices=CPU)
    m.f8 = make.on_read("f8", "sum", (2,), "float8_e5m2", devices=CPU)
    values = {
        key("p"): [1, 2],
        key("v"): [3, 4],
        key("n"): 31,
        key("x"): [30, 7],
        key("mean"): [1.5, 2.5],
        key("first"): 10,
        key("e"): [[1, 2], [3, 4], [5, 6]],
        key("h"): [[1, 2], [3, 4], [5, 6]],
        key("f8"): [1, 2],
    }
    m.wholes = dsave.function(
        lambda: (
            {
                name: getattr(m, name) + 0
                for name in ("p", "v", "n", "x", "mean", "first", "e", "h")
            }
            | {"f8": m.f8.astype("float32")}
        ),
        input_signature=[],
    )
    m.parts = dsave.function(
        lambda: {
            "v": m.v.components[1] + 0,
            "n": m.n.components[0] + m.n.components[1],
            "x": m.x.components[0] + m.x.components[1],
            "n1": m.n.components[1] + 0,
            "x0": m.x.components[0] + 0,
            "mean": m.mean.components[1] + 0,
            "first": m.first.components[1] + 0,
            "e": np.concatenate([part * 1 for part in m.e.components]),
            "h": np.concatenate([part * 1 for part in m.h.components]),
            "e1": m.e.components[1] + 0,
        },
        input_signature=[],
    )
    return m, values


def test_variables_are_worth_the_same_under_every_policy(readers, export, make, kinds, policy):
    m, values = kinds
    signatures = {"wholes": m.wholes}
    directory = export(make.tree(m), policy, values, signatures, replicas=REPLICAS)
    expected = {k.partition("/")[0]: value for k, value in values.items()}
    agree(readers, directory, "wholes", {}, expected)


REPLICAS = {
    key("n"): [10, 21],
    key("x"): [[29.5, 3], [0.5, 4]],
    key("mean"): [[0.5, 2], [2.5, 3]],
    key("first"): [10, 77],
}


def test_expanded_components_are_what_they_were(readers, export, make, kinds):
    m, values = kinds
    signatures = {"parts": m.parts}
    directory = export(make.tree(m), EXPAND, values, signatures, replicas=REPLICAS)
    expected = {
        "v": [3, 4],
        "n": 31,
        "x": [30, 7],
        "n1": 21,
        "x0": [29.5, 3],
        "mean": [2.5, 3],
        "first": 77,
        "e": values[key("e")],
        "h": values[key("h")],
        "e1": [[5, 6]],
    }
    agree(readers, directory, "parts", {}, expected)


@pytest.mark.parametrize("policy", [NONE, DEVICES])
def test_unexpanded_each_replica_is_the_variable_and_parts_are_its_rows(
    readers, export, make, kinds, policy
):
    m, values = kinds
    directory = export(make.tree(m), policy, values, {"parts": m.parts})
    expected = {
        "v": [3, 4],
        "n": 62,
        "x": [60, 14],
        "n1": 31,
        "x0": [30, 7],
        "mean": [1.5, 2.5],
        "first": 10,
        "e": values[key("e")],
        "h": values[key("h")],
        "e1": [[5, 6]],
    }
    agree(readers, directory, "parts", {}, expected)


def test_what_was_expanded_stays_right_when_tensorflow_saves_it_again(
    tf, readers, export, make, kinds, tmp_path
):
    m, values = kinds
    loaded = tf.saved_model.load(export(make.tree(m), EXPAND, values, replicas=REPLICAS))
    again = str(tmp_path / "again")
    tf.saved_model.save(loaded, again, signatures={"parts": loaded.parts, "all": loaded.wholes})
    for name, reader in readers.items():
        assert reader(again, "parts", {})["n"] == 31, name
        assert reader(again, "all", {})["x"].tolist() == [30, 7], name
    assert tf.train.load_checkpoint(f"{again}/variables/variables").get_tensor(key("n")) == 31


def test_rows_of_strings_are_read_from_the_whole(tf, export, make, policy):
    m = Module()
    m.s = make.sharded("s", (3,), "string", devices=CPU)
    m.parts = dsave.function(lambda: [p[:] for p in m.s.components], input_signature=[])
    directory = export(make.tree(m), policy, {key("s"): [b"a", b"bb", b""]})
    loaded = tf.saved_model.load(directory)
    assert [part.numpy().tolist() for part in loaded.parts()] == [[b"a", b"bb"], [b""]]


def test_a_checkpoint_of_an_expanded_model_restores_by_the_variables_own_key(
    tf, export, make, kinds
):
    m, values = kinds
    directory = export(make.tree(m), EXPAND, values)
    ours = tf.Module()
    ours.n, ours.e = tf.Variable(0), tf.Variable(tf.zeros([3, 2]))
    tf.train.Checkpoint(ours).read(f"{directory}/variables/variables").expect_partial()
    assert (ours.n.numpy(), ours.e.numpy().tolist()) == (31, values[key("e")])


class Encoder(Module):
    """Embeddings of words and their places, and a transformer's encoder block, with a mask."""

    def __init__(self, make, heads=2, width=8):
        self.heads = heads
        self.words = make.sharded("words", (50, width), devices=CPU)
        self.places = make.plain("places", (16, width))
        for name in ("query", "key", "value", "output"):
            setattr(self, name, make.mirrored(name, (width, width), devices=CPU))
        self.up, self.up_bias = make.plain("up", (width, 16)), make.plain("up_bias", (16,))
        self.down = make.sharded("down", (16, width), devices=CPU)
        self.scale = make.plain("scale", (width,))

    @dsave.function(
        input_signature=[
            TensorSpec([None, None], "int32", name="ids"),
            TensorSpec([None, None], "bool", name="mask"),
        ]
    )
    def encode(self, ids, mask):
        """Mix words with those that the mask leaves in."""
        tokens = self.words[ids] + self.places[: ids.shape[1]]
        batch, length, width = tokens.shape

        def heads(x):
            split = x.reshape(batch, length, self.heads, width // self.heads)
            return split.transpose(0, 2, 1, 3)

        query, keys, values = (
            heads(tokens @ weights) for weights in (self.query, self.key, self.value)
        )
        scores = query @ keys.mT * (width // self.heads) ** -0.5
        scores = np.where(mask[:, None, None, :], scores, -1e9)
        mixed = (dsave.ops.softmax(scores) @ values).transpose(0, 2, 1, 3)
        x = self.normal(tokens + mixed.reshape(batch, length, width) @ self.output)
        wide = dsave.ops.gelu(x @ self.up + self.up_bias)
        return {
            "encoded": self.normal(x + wide @ self.down),
            "pooled": x.mean(axis=1),
        }

    def normal(self, x):
        """Each token with mean 0 and deviation 1, scaled."""
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        return centred / spread * self.scale


class Network(Module):
    """A small convolutional network."""

    def __init__(self, make):
        self.filters = [
            make.plain("f1", (3, 3, 1, 4)),
            make.mirrored("f2", (3, 3, 4, 8), devices=CPU),
        ]
        self.dense = make.plain("dense", (72, 10))

    @dsave.function(input_signature=[TensorSpec([None, 12, 12, 1], name="images")])
    def classify(self, images):
        """Probabilities of ten labels."""
        x = images
        for weights in self.filters:
            x = dsave.ops.max_pool2d(
                dsave.ops.relu(dsave.ops.conv2d(x, weights, padding="SAME")), 2
            )
        logits = np.matmul(np.reshape(x, (-1, 72)), self.dense)
        return {"probabilities": dsave.ops.softmax(logits), "label": np.argmax(logits, axis=-1)}


def filled(graph, rng):
    """Values for every variable of a graph."""
    return {
        k: rng.normal(size=v.shape, scale=0.5).astype("float32")
        for _, k, v in graph.variables()
    }


def computed(function, graph, values, inputs):
    """What numpy computes with these values."""
    from dsave.model.readable import reading

    by_variable = {variable: values[k] for _, k, variable in graph.variables()}
    with reading(by_variable.__getitem__):
        return function(**inputs)


@pytest.mark.parametrize("policy", [NONE, EXPAND], ids=lambda policy: policy.name)
def test_a_transformer_block_computes_what_numpy_computed(readers, export, make, policy):
    rng = np.random.default_rng(0)
    model = Encoder(make)
    graph = make.tree(model)
    values = filled(graph, rng)
    inputs = {
        "ids": rng.integers(0, 50, (3, 5)).astype("int32"),
        "mask": rng.integers(0, 2, (3, 5)).astype(bool) | (np.arange(5) == 0),
    }
    expected = computed(model.encode, graph, values, inputs)
    directory = export(graph, policy, values)
    agree(readers, directory, "serving_default", inputs, expected, 1e-5)


def test_a_convolutional_network_computes_what_numpy_computed(readers, export, make):
    rng = np.random.default_rng(1)
    model = Network(make)
    graph = make.tree(model)
    values = filled(graph, rng)
    inputs = {"images": rng.normal(size=(4, 12, 12, 1)).astype("float32")}
    expected = computed(model.classify, graph, values, inputs)
    directory = export(graph, NONE, values)
    agree(readers, directory, "serving_default", inputs, expected, 1e-5)


def test_gradients_flow_to_the_variables_that_were_read(tf, export, make):
    m = Module()
    m.w = make.mirrored("w", (2,), devices=CPU)
    m.f = dsave.function(lambda x: np.sum(x * m.w * m.w), input_signature=[TensorSpec([2])])
    loaded = tf.saved_model.load(export(make.tree(m), EXPAND, {key("w"): [2, 3]}))
    with tf.GradientTape() as tape:
        result = loaded.f(tf.constant([1.0, 10.0]))
    assert tape.gradient(result, loaded.w).numpy().tolist() == [4, 60]


def test_functions_are_called_as_in_python(tf, export, make):
    @dsave.function
    def f(x, flag=True, *rest, scale=2.0, pair=None):
        if pair is not None:
            return {"a": pair["a"], "b": [pair["b"][0], None]}
        return x * scale if flag else (x, *rest)

    spec = TensorSpec([None])
    f.get_concrete_function(spec)
    f.get_concrete_function(spec, False, TensorSpec([], "int32"))
    f.get_concrete_function(spec, scale=TensorSpec([], name="by"))
    f.get_concrete_function(spec, pair={"b": (spec,), "a": spec})
    loaded = tf.saved_model.load(export(make.model(f=f), NONE, {}))
    x, y = tf.constant([1.0, 2.0]), tf.constant([3.0])
    assert loaded.f(x).numpy().tolist() == [2, 4]
    assert loaded.f(x=x).numpy().tolist() == [2, 4]
    first, second = loaded.f(x, False, 7)
    assert (first.numpy().tolist(), second.numpy()) == ([1, 2], 7)
    assert loaded.f(x, scale=tf.constant(10.0)).numpy().tolist() == [10, 20]
    nested = loaded.f(x, pair={"a": x, "b": (y,)})
    assert nested["a"].numpy().tolist() == [1, 2]
    assert nested["b"][0].numpy().tolist() == [3]
    assert nested["b"][1] is None
    with pytest.raises(ValueError, match="Could not find matching concrete function"):
        loaded.f(x, "neither true nor false")


def test_arrays_that_are_defaults_are_tensors(tf, export, make):
    def code(x, shift=np.array([1, 2], "float32"), times=10):  # noqa: B008
        return (x + shift) * times

    def other(x, shift=np.array([1, 2], "float32"), *, times=np.float32(10)):  # noqa: B008
        return (x + shift) * times

    spec = TensorSpec([2], name="x")
    signed = dsave.function(code, input_signature=[spec])
    plain = dsave.function(other)
    plain.get_concrete_function(spec)
    directory = export(make.model(signed=signed, plain=plain), NONE, {})
    loaded, ours = tf.saved_model.load(directory), dsave.load(directory)
    x, shift = np.array([1, 1], "float32"), np.array([0, 1], "float32")
    for function in (signed, plain, loaded.signed, loaded.plain, ours.signed, ours.plain):
        assert np.asarray(function(x)).tolist() == [20, 30]
        assert np.asarray(function(x, shift)).tolist() == [10, 20]
    signature = loaded.signatures["serving_default"]
    assert signature.structured_input_signature[1].keys() == {"x", "shift"}


def test_a_method_takes_what_follows_self(tf, export, make):
    model = Encoder(make)
    graph = make.tree(model)
    values = filled(graph, np.random.default_rng(0))
    loaded = tf.saved_model.load(export(graph, NONE, values))
    assert loaded.encode.function_spec.fullargspec.args == ["ids", "mask"]
    result = loaded.encode(tf.zeros([1, 2], tf.int32), tf.ones([1, 2], bool))
    assert result["pooled"].shape == (1, 8)


def test_shapes_of_results_are_known_before_anything_runs(tf, export, make):
    function = dsave.function(
        lambda x: {"y": np.matmul(x, np.ones((2, 3), "float32"))},
        input_signature=[TensorSpec([None, 2], name="x")],
    )
    loaded = tf.saved_model.load(export(make.model(f=function), NONE, {}))
    signature = loaded.signatures["serving_default"]
    assert signature.structured_outputs["y"] == tf.TensorSpec([None, 3], tf.float32, "y")
    outer = tf.function(lambda x: signature(x=x)["y"], input_signature=[tf.TensorSpec([4, 2])])
    assert outer.get_concrete_function().output_shapes[1] == 3


def test_a_function_that_was_never_traced_says_so_when_it_is_called(tf, export, make):
    loaded = tf.saved_model.load(export(make.model(f=dsave.function(lambda x: x)), NONE, {}))
    with pytest.raises(ValueError, match="zero restored functions"):
        loaded.f(1.0)


def test_concrete_functions_are_attributes_too(tf, export, make):
    double = dsave.function(lambda x, times=2: x * times)
    concrete = double.get_concrete_function(TensorSpec([], name="x"), 3)
    loaded = tf.saved_model.load(export(make.model(f=concrete, many=[concrete]), NONE, {}))
    assert loaded.f(tf.constant(2.0)).numpy() == 6
    assert loaded.f(x=tf.constant(2.0)).numpy() == 6
    assert loaded.many[0] is loaded.f


def test_a_signature_of_one_input_takes_it_by_position_others_do_not(tf, export, make):
    one = dsave.function(lambda x: x, input_signature=[TensorSpec([], name="x")])
    two = dsave.function(
        lambda x, y: x - y, input_signature=[TensorSpec([], name=n) for n in "xy"]
    )
    directory = export(make.model(), NONE, {}, {"one": one, "two": two})
    signatures = tf.saved_model.load(directory).signatures
    assert signatures["one"](tf.constant(1.0))["output_0"] == 1
    with pytest.raises(TypeError):
        signatures["two"](tf.constant(1.0), tf.constant(2.0))


def test_aliases_come_back_for_each_kind_of_function(tf, export, make):
    polymorphic = dsave.function(lambda x: x)
    for size in (1, 2):
        polymorphic.get_concrete_function(TensorSpec([size]))
    serve = dsave.function(lambda x: x + 1, input_signature=[TensorSpec([])])
    other = dsave.function(lambda x: x + 2).get_concrete_function(TensorSpec([]))
    loose = dsave.function(lambda x: x + 3).get_concrete_function(TensorSpec([]))
    directory = export(
        make.model(polymorphic=polymorphic, serve=serve, other=other),
        NONE,
        {},
        function_aliases={"p": polymorphic, "s": serve, "o": other, "list": (loose,)},
    )
    options = tf.saved_model.LoadOptions(experimental_load_function_aliases=True)
    loaded = tf.saved_model.load(directory, options=options)
    aliases = loaded.function_aliases
    assert aliases.keys() == {"p", "s", "o", "list"}
    assert aliases["s"](tf.constant(1.0)).numpy() == 2
    assert aliases["p"](tf.constant([1.0, 2.0])).numpy().tolist() == [1, 2]
    assert len(aliases["p"].concrete_functions) == 2
    assert [f(tf.constant(1.0)).numpy() for f in (*aliases["o"], *aliases["list"])] == [3, 4]


@pytest.fixture
def asserting():
    """A function that refuses what is not above 0 and not a number."""

    @dsave.function(input_signature=[TensorSpec([1], name="x")])
    def f(x):
        condition = (x > 0)[0]
        dsave.ops.call("Assert", [condition, x], {"T": [np.dtype("float32")]})
        return dsave.ops.call(
            "CheckNumerics",
            [x],
            {"T": np.dtype("float32"), "message": "no number"},
            TensorSpec([1]),
        )

    return f


def test_ops_with_effects_run_though_nobody_needs_their_results(tf, export, make, asserting):
    directory = export(make.model(f=asserting), NONE, {})
    loaded = tf.saved_model.load(directory)
    for call in (loaded.f, lambda x: loaded.signatures["serving_default"](x=x)["output_0"]):
        assert call(tf.constant([1.0])).numpy().tolist() == [1]
        with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed"):
            call(tf.constant([-1.0]))
        with pytest.raises(tf.errors.InvalidArgumentError, match="no number"):
            call(tf.constant([np.inf]))


def test_ops_with_effects_run_in_the_order_of_their_calls(tf, export, make, capfd):
    @dsave.function(input_signature=[])
    def prints():
        for word in (b"one", b"two", b"three", b"four", b"five"):
            text = np.array(word, object)
            dsave.ops.call("PrintV2", [text], {"output_stream": "stderr"})
        return np.array(1)

    loaded = tf.saved_model.load(export(make.model(f=prints), NONE, {}))
    capfd.readouterr()
    loaded.f()
    assert capfd.readouterr().err.split() == ["one", "two", "three", "four", "five"]


def test_stripped_functions_check_nothing(readers, export, make, asserting):
    directory = export(make.model(f=asserting), NONE, {}, experimental_debug_stripper=True)
    inputs = {"x": np.array([-np.inf], "float32")}
    agree(readers, directory, "serving_default", inputs, {"output_0": [-np.inf]})


def test_without_a_saver_only_python_can_load(tf, readers, export, make):
    m = Module()
    m.v = make.plain("v")
    m.f = dsave.function(lambda: m.v + 1, input_signature=[])
    directory = export(make.tree(m), NONE, {key("v"): 1}, experimental_skip_saver=True)
    assert readers["python"](directory, "serving_default", {})["output_0"] == 2
    with pytest.raises(tf.errors.FailedPreconditionError):
        readers["session"](directory, "serving_default", {})


def test_extra_tags_are_all_needed_to_load(tf, export, make):
    directory = export(make.model(), NONE, {}, extra_tags=["gpu", "serve", "gpu"])
    assert tf.saved_model.load(directory, tags=["serve", "gpu"]).signatures == {}
    with pytest.raises(ValueError, match="tags"):
        tf.saved_model.load(directory, tags=["serve"])
