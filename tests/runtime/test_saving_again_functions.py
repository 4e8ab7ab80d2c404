"""Functions that were loaded and cannot be traced are saved again as they were.

- what loops by values, has effects, or has ops that numpy has no code for, is worth the same to
  TensorFlow after any number of loads and saves, under every policy, signatures too
- nothing is added to it each time
- what the model that is saved does not have is named
"""

import numpy as np
import pytest

import dsave
from dsave.proto.saved_model_pb2 import SavedModel

pytestmark = [pytest.mark.ray, pytest.mark.tf]

POLICIES = list(dsave.VariablePolicy)
X = np.array([[3.0, -2.0], [0.5, 1.0]], np.float32)


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    """The directory of a model of functions that a trace has one case of, or none."""

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
            self.count = tf.Variable(0, name="count", trainable=False)
            self.scale = tf.constant([2.0, 3.0])
            self.bounds = [tf.constant(9.0), tf.Variable(0.5, name="b")]

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def loop(self, x):
            while tf.reduce_max(tf.abs(x)) < self.bounds[0]:
                x = x @ self.w * self.scale + self.bounds[1]
            return {"y": x, "larger": tf.cond(x[0, 0] > 0.0, lambda: x, lambda: -x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def upper(self, text):
            return tf.strings.upper(text), tf.strings.length(text) + self.count

        @tf.function(input_signature=[])
        def counted(self):
            return self.count.assign_add(1)

    model = Model()
    directory = str(tmp_path_factory.mktemp("tf") / "again")
    tf.saved_model.save(model, directory, {"loop": model.loop, "upper": model.upper})
    return directory


def results(tf, directory):
    """What the functions of a SavedModel return to TensorFlow."""
    model = tf.saved_model.load(directory)
    text = tf.constant(["a", "bc"])
    loop = model.signatures["loop"](x=tf.constant(X))
    upper = model.signatures["upper"](text=text)
    found = [
        model.counted(),
        model.counted(),
        *model.upper(text),
        *model.loop(tf.constant(X)).values(),
    ]
    found += [loop["y"], loop["larger"], *(upper[key] for key in sorted(upper))]
    return [value.numpy().tolist() for value in found]


@pytest.mark.parametrize("policy", POLICIES)
def test_they_are_worth_the_same_to_tensorflow(tf, pair, saved, tmp_path, policy):
    options = dsave.SaveOptions(experimental_variable_policy=policy, save_debug_info=True)
    place = saved
    for again in ("once", "twice", "thrice"):
        loaded = dsave.load(place, pair)
        place = str(tmp_path / again)
        dsave.save(loaded, place, loaded.signatures, options, cluster=pair)
        assert results(tf, place) == results(tf, saved)


def test_they_are_copied_once_and_no_deeper_each_time(pair, saved, tmp_path):
    counts = []
    place = saved
    for again in ("once", "twice", "thrice"):
        loaded = dsave.load(place, pair)
        place = str(tmp_path / again)
        dsave.save(loaded, place, loaded.signatures, cluster=pair)
        proto = SavedModel.FromString((tmp_path / again / "saved_model.pb").read_bytes())
        counts.append(len(proto.meta_graphs[0].graph_def.library.function))
    assert counts[1] == counts[2]


def test_a_variable_that_the_model_does_not_have_is_named(pair, saved, tmp_path):
    model = dsave.Module()
    model.counted = dsave.load(saved, pair).counted
    with pytest.raises(
        dsave.ModelError, match=r"^function counted: the variable 'count' is not"
    ):
        dsave.save(model, tmp_path / "e", cluster=pair)


def test_variables_of_this_process_alone_cannot_be_saved(pair, saved, tmp_path):
    model = dsave.Module()
    model.counted = dsave.load(saved).counted
    with pytest.raises(dsave.ModelError, match=r"^function counted: .*loaded and not saved"):
        dsave.save(model, tmp_path / "e", cluster=pair)
