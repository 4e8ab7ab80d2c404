"""Functions that TensorFlow saved, run by numpy: what TensorFlow computes, they compute.

- functions with variables, constants, calls of others, several traces, Python arguments,
  defaults, keywords, nested arguments and results; signatures, by name
- Keras's models
- what numpy cannot run is there, and says which op that is when it is called, as do the notes
- functions that contradict themselves are refused
"""

import shutil

import numpy as np
import pytest

import dsave
from dsave.proto.saved_model_pb2 import SavedModel

pytestmark = pytest.mark.tf


def test_a_module_with_a_call_is_called_once_it_is_loaded(tf, tmp_path):
    class Layer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None])])
        def __call__(self, x):
            return x * 2.0

    model = tf.Module()
    model.layer, model.other = Layer(), tf.Module()
    tf.saved_model.save(model, str(tmp_path))
    loaded = dsave.load(str(tmp_path))
    assert loaded.layer(np.ones(2, np.float32)).tolist() == [2, 2]
    assert not callable(loaded.other)


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    """(directory, the model) of functions of every form."""

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
            self.b = tf.Variable([0.5, -0.5], name="b")
            self.scale = tf.constant([2.0, 3.0])

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def dense(self, x):
            return {"y": tf.nn.relu(tf.nn.bias_add(x @ self.w, self.b)) * self.scale}

        @tf.function
        def polymorphic(self, x, power=2, *, negative=False):
            y = x**power
            return -y if negative else y

        @tf.function(
            input_signature=[
                (tf.TensorSpec([], tf.int32), {"k": tf.TensorSpec([3], tf.int32)}),
                tf.TensorSpec([3], tf.int32),
            ]
        )
        def nested(self, pair, last):
            first, more = pair
            return first + more["k"], [last - more["k"], (last, None)]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def calling(self, x):
            return self.helper(x) + self.helper(x * 2.0)

        @tf.function
        def helper(self, x):
            return tf.reduce_sum(x) + self.b[0]

        @tf.function(input_signature=[])
        def gathered(self):
            return tf.gather(self.w, [1, 0])

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def unknown(self, x):
            return tf.strings.upper(x)

        @tf.function
        def never(self, x):
            return x

        @tf.function(
            input_signature=[
                tf.TensorSpec([], tf.float32, name="b"),
                tf.TensorSpec([], tf.float32, name="a"),
            ]
        )
        def minus(self, b, a):
            return {"z": b - a, "a": a}

    model = Model()
    for x in (tf.constant([1.0, 2.0]), tf.constant(3), tf.constant([[1, 2]])):
        model.polymorphic(x)
    model.polymorphic(tf.constant(3), power=3)
    model.polymorphic(tf.constant(3), negative=True)
    directory = str(tmp_path_factory.mktemp("tf") / "functions")
    signatures = {"dense": model.dense, "minus": model.minus, "unknown": model.unknown}
    tf.saved_model.save(model, directory, signatures=signatures)
    return directory, model


@pytest.fixture(scope="module")
def loaded(saved):
    return dsave.load(saved[0])


def test_a_function_computes_with_variables_and_constants(saved, loaded):
    x = np.array([[1.0, -2.0], [0.0, 3.0], [5.0, 5.0]], np.float32)
    assert loaded.dense(x)["y"].tolist() == saved[1].dense(x)["y"].numpy().tolist()
    assert loaded.gathered().tolist() == [[3.0, 4.0], [1.0, 2.0]]


def test_a_signature_is_called_by_name_or_with_its_one_tensor(saved, loaded):
    x = np.array([[1.0, -2.0]], np.float32)
    expected = saved[1].dense(x)["y"].numpy().tolist()
    assert loaded.signatures["dense"](x=x)["y"].tolist() == expected
    assert loaded.signatures["dense"](x)["y"].tolist() == expected
    with pytest.raises(dsave.OptionTypeError):
        loaded.signatures["dense"](y=x)


def test_names_are_not_mixed_up(loaded):
    one, five = np.float32(1.0), np.float32(5.0)
    assert loaded.signatures["minus"](a=one, b=five) == {"z": 4.0, "a": 1.0}
    assert loaded.minus(five, one) == {"z": 4.0, "a": 1.0}
    assert loaded.minus(a=one, b=five) == {"z": 4.0, "a": 1.0}


def test_arguments_and_results_are_nested(saved, loaded):
    pair, last = (np.int32(1), {"k": np.array([1, 2, 3], np.int32)}), np.array([7, 8, 9], "i4")
    result = loaded.nested(pair, last)
    assert result[0].tolist() == [2, 3, 4]
    assert result[1][0].tolist() == [6, 6, 6]
    assert result[1][1][0].tolist() == [7, 8, 9]
    assert result[1][1][1] is None


def test_the_trace_that_takes_the_arguments_runs(loaded):
    assert loaded.polymorphic(np.array([1.0, 2.0], np.float32)).tolist() == [1.0, 4.0]
    assert loaded.polymorphic(np.array(3, np.int32)) == 9
    assert loaded.polymorphic(np.array(3, np.int32), 3) == 27
    assert loaded.polymorphic(np.array(3, np.int32), negative=True) == -9
    assert loaded.polymorphic(np.array([[3, 4]], np.int32)).tolist() == [[9, 16]]
    assert len(loaded.polymorphic.concrete_functions) == 5
    with pytest.raises(dsave.OptionTypeError, match="polymorphic"):
        loaded.polymorphic(np.array(3, np.int32), 4)
    with pytest.raises(dsave.OptionTypeError, match="float64"):
        loaded.polymorphic(np.zeros(2))


def test_functions_that_call_others_run(saved, loaded):
    x = np.array([1.0, 2.0, 4.0], np.float32)
    assert loaded.calling(x) == saved[1].calling(x).numpy()


def test_a_model_with_a_call_can_be_called(tf, loaded, tmp_path):
    class Callable(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def __call__(self, x):
            return x + 1.0

    tf.saved_model.save(Callable(), str(tmp_path))
    assert dsave.load(tmp_path)(np.float32(1.0)) == 2.0
    with pytest.raises(TypeError, match="__call__"):
        loaded(1)


def test_a_function_that_was_never_traced_says_so(loaded):
    assert isinstance(loaded.never, dsave.Function)
    with pytest.raises(dsave.OptionTypeError, match="traced"):
        loaded.never(np.float32(1))


def test_what_numpy_cannot_run_says_so_when_it_is_called(loaded):
    cannot = r"^function unknown: numpy cannot run StringUpper"
    with pytest.raises(dsave.ModelError, match=cannot):
        loaded.unknown(b"x")
    with pytest.raises(dsave.ModelError, match=cannot):
        loaded.signatures["unknown"](x=b"x")
    calling = dsave.function(lambda x: [loaded.unknown(x)])
    with pytest.raises(dsave.ModelError, match=cannot):
        calling.get_concrete_function(dsave.TensorSpec([], "string"))


def test_what_numpy_cannot_run_is_described_and_noted(loaded):
    assert set(loaded.signatures) == {"dense", "minus", "unknown"}
    (spec,) = loaded.signatures["unknown"].arguments
    assert (spec.name, str(spec)) == ("x", "string []")
    assert len(loaded.load_notes) == 2
    assert all("StringUpper" in note for note in loaded.load_notes)
    assert loaded.load_notes[1].startswith("signature 'unknown', function unknown: ")


def test_a_signature_that_is_not_there_is_an_error_that_names_those_that_are(loaded):
    there = r"no entry 'serving_default'; its signatures are 'dense', 'minus', 'unknown'"
    with pytest.raises(dsave.MissingKeyError, match=there):
        loaded.signatures["serving_default"]
    assert loaded.signatures.get("serving_default") is None


def test_arguments_that_numpy_has_not_are_named_when_the_function_is_called(tf, tmp_path):
    model = tf.Module()
    spec = tf.RaggedTensorSpec([None, None], tf.float32)
    model.ragged = tf.function(lambda x: x.flat_values * 2.0, input_signature=[spec])
    tf.saved_model.save(model, str(tmp_path))
    loaded = dsave.load(tmp_path)
    with pytest.raises(
        dsave.ModelError, match=r"^function .*lambda.*: it takes or returns a type_"
    ):
        loaded.ragged([[1.0], [2.0, 3.0]])
    assert len(loaded.load_notes) == 1


@pytest.mark.filterwarnings("default")
def test_keras_models_compute_what_keras_computes(tf, tmp_path):
    del tf
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", padding="same")(inputs)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.LayerNormalization()(keras.layers.Dense(5, activation="gelu")(x))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.export(str(tmp_path), verbose=False)
    loaded = dsave.load(tmp_path)
    batch = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    expected = model.predict(batch, verbose=0)
    assert loaded.load_notes == ()
    np.testing.assert_allclose(loaded.serve(batch), expected, rtol=1e-5, atol=1e-6)
    result = loaded.signatures["serving_default"](batch)
    np.testing.assert_allclose(result["output_0"], expected, rtol=1e-5, atol=1e-6)


def _library(proto, name):
    return next(
        f
        for f in proto.meta_graphs[0].graph_def.library.function
        if f.signature.name.startswith(f"__inference_{name}_")
    )


def _rewire(proto):
    node = next(n for n in _library(proto, "dense").node_def if n.op == "Relu")
    node.input[0] = "nowhere:0"


def _circle(proto):
    node = next(n for n in _library(proto, "dense").node_def if n.op == "Relu")
    node.input[0] = f"{node.name}:activations:0"


def _recurse(proto):
    function = _library(proto, "calling")
    for node in function.node_def:
        if node.op.endswith("PartitionedCall"):
            node.attr["f"].func.name = function.signature.name


def _unbind(proto):
    name = _library(proto, "dense").signature.name
    saved = proto.meta_graphs[0].object_graph_def.concrete_functions[name]
    saved.bound_inputs.pop()


def _rename(proto):
    function = _library(proto, "gathered")
    function.signature.name += "9"


def test_a_constant_that_no_array_holds_is_named_at_the_call(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "copy")
    file = tmp_path / "copy" / "saved_model.pb"
    proto = SavedModel.FromString(file.read_bytes())
    for node in _library(proto, "gathered").node_def:
        if node.op == "Const":
            node.attr["value"].tensor.dtype = 21  # a variant
    file.write_bytes(proto.SerializeToString())
    loaded = dsave.load(tmp_path / "copy")
    with pytest.raises(dsave.ModelError, match="numpy cannot run Const of dtype number 21"):
        loaded.gathered()


LIES = {
    "a node that there is not": (_rewire, "nowhere"),
    "a node that needs itself": (_circle, "itself"),
    "a function that calls itself": (_recurse, "itself"),
    "a capture too few": (_unbind, "other things"),
    "a function that there is not": (_rename, "no such function"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_function_that_contradicts_itself_is_refused(saved, tmp_path, lie):
    shutil.copytree(saved[0], tmp_path / "copy")
    file = tmp_path / "copy" / "saved_model.pb"
    proto = SavedModel.FromString(file.read_bytes())
    change, named = LIES[lie]
    change(proto)
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(dsave.CorruptionError, match=named) as raised:
        dsave.load(tmp_path / "copy")
    assert raised.value.file == str(file)
