"""Real models that TensorFlow saved: Keras's, modules, checkpoints, distributed ones, old ones.

- every key is opened with the value that TensorFlow reads, bit for bit, and every byte verified
- models load with these values, in the containers that they were in
- signatures compute what they computed in TensorFlow before they were saved
- what only TensorFlow can do is named
"""

import numpy as np
import pytest
from click.testing import CliRunner

import dsave
from dsave.cli import main

pytestmark = pytest.mark.tf

KERAS = ["attention", "cnn", "recurrent"]
DISTRIBUTED = [
    f"{name}_{policy}"
    for name in ("mirrored", "parameter_server")
    for policy in ("none", "devices", "expanded")
]
CHECKPOINTS = ["adam", "adam_v1", "max_shard_size", "parameter_server"]
OTHERS = ["adam_saved", "adam_v1_saved", "containers", "max_shard_size_saved", "table"]
MODELS = [*KERAS, *DISTRIBUTED, *OTHERS]
OLD = "tensorflow_1"


def bits(value):
    """Equal only if every bit is."""
    array = np.asarray(value, object if isinstance(value, bytes) else None)
    content = array.tolist() if array.dtype == object else array.tobytes()
    return array.dtype, array.shape, content


def variables_in(value, found):
    """The variables of a loaded model, by key."""
    if isinstance(value, dsave.LoadedVariable):
        found[value.key] = value
    elif isinstance(value, dsave.Module | dict | list | tuple) and id(value) not in found:
        found[id(value)] = None
        members = value if isinstance(value, dict | list | tuple) else vars(value)
        for member in members.values() if isinstance(members, dict) else members:
            variables_in(member, found)
    return {key: variable for key, variable in found.items() if variable is not None}


def test_all_are_tested(tensorflow_models):
    assert sorted([*MODELS, *CHECKPOINTS, OLD]) == sorted(tensorflow_models)


@pytest.mark.parametrize("name", [*MODELS, *CHECKPOINTS, OLD])
def test_every_key_has_the_value_that_tensorflow_reads(tensorflow_models, name):
    model = tensorflow_models[name]
    with dsave.open(model.path, verify=True) as checkpoint:
        assert checkpoint.keys() == model.values.keys()
        for key, value in model.values.items():
            assert bits(np.asarray(checkpoint[key])) == bits(value), key


@pytest.mark.parametrize("name", [*MODELS, *CHECKPOINTS, OLD])
def test_it_is_shown_and_verified(tensorflow_models, name):
    model = tensorflow_models[name]
    shown = CliRunner().invoke(main, ["show", model.path])
    assert shown.exit_code == 0, shown.output
    for key in model.values:
        assert key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") in shown.output
    for signature, _, _ in model.calls:
        assert f"signature {signature}: " in shown.output
    verified = CliRunner().invoke(main, ["verify", model.path])
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("name", MODELS)
def test_it_loads_with_the_values_that_were_saved(tensorflow_models, name):
    model = tensorflow_models[name]
    found = variables_in(dsave.load(model.path), {})
    assert found.keys() == model.values.keys()
    for key, value in model.values.items():
        assert bits(found[key].numpy()) == bits(value), key


@pytest.mark.parametrize("name", [*KERAS, *DISTRIBUTED, "containers"])
def test_its_signatures_compute_what_they_computed_in_tensorflow(tensorflow_models, name):
    model = tensorflow_models[name]
    loaded = dsave.load(model.path)
    assert loaded.load_notes == ()
    assert model.calls
    assert loaded.signatures.keys() == {signature for signature, _, _ in model.calls}
    for signature, arrays, wanted in model.calls:
        found = loaded.signatures[signature](**arrays)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
            np.testing.assert_allclose(found[key], value, 1e-5, 1e-5)


@pytest.mark.parametrize("name", KERAS)
def test_the_functions_of_keras_are_methods_of_the_model(tensorflow_models, name):
    model = tensorflow_models[name]
    loaded = dsave.load(model.path)
    for _, arrays, wanted in model.calls:
        (batch,), (value,) = arrays.values(), wanted.values()
        np.testing.assert_allclose(loaded.serve(batch), value, 1e-5, 1e-5)


def test_containers_hold_what_they_held(tensorflow_models):
    loaded = dsave.load(tensorflow_models["containers"].path)
    inner = loaded.layers[1]["deep"][0]
    assert [type(each) for each in loaded.layers] == [dsave.Module, dict, list]
    assert loaded.layers[1]["deep"][1:] == []  # of what is no object, only the place is kept
    assert loaded.layers[1]["a/b.c"].numpy() == 4
    assert loaded.pair[0] is loaded.layers[0].w
    assert loaded.pair[1] is inner
    assert loaded.pair[2][0] is loaded.point
    assert inner.parent is loaded
    assert (inner.w.trainable, loaded.point.x.trainable) == (False, True)
    assert loaded.point.y.numpy().tolist() == [b"y", b""]


def test_slots_are_found_by_the_variables_that_they_are_for(tensorflow_models):
    old = dsave.load(tensorflow_models["adam_v1_saved"].path)
    assert old.optimizer.slots.keys() == {"m", "v"}
    assert old.optimizer.slots["m"].keys() == {"net/w", "net/more/0"}
    assert old.optimizer.slots["m"]["net/w"].shape == old.net.w.shape
    new = dsave.load(tensorflow_models["adam_saved"].path)
    assert [v.shape for v in new.optimizer._momentums] == [new.net.w.shape, ()]
    assert new.optimizer._momentums[0] is new.optimizer._variables[2]
    assert new.step.numpy() == 3


@pytest.mark.parametrize("policy", ["none", "devices", "expanded"])
def test_a_sum_is_the_sum_under_every_policy(tensorflow_models, policy):
    """To TensorFlow, which loads the expanded one, it is twice that."""
    model = tensorflow_models[f"mirrored_{policy}"]
    loaded = dsave.load(model.path)
    ((_, arrays, wanted),) = model.calls
    assert (wanted["total"], wanted["counted"]) == (31.5, 10)
    assert (loaded.total.numpy(), loaded.counted.numpy()) == (31.5, 10)
    assert loaded.serve(*arrays.values())["total"] == 31.5
    assert loaded.total.aggregation is dsave.Aggregation.SUM


@pytest.mark.parametrize("policy", ["none", "devices", "expanded"])
def test_a_sharded_variable_is_one(tensorflow_models, policy):
    loaded = dsave.load(tensorflow_models[f"parameter_server_{policy}"].path)
    assert loaded.table.shape == (7, 2)
    assert loaded.table.synchronization.name == "NONE"
    chief = "/job:chief/replica:0/task:0/device:CPU:0"  # where it is as a whole
    assert loaded.table.device == ("" if policy == "none" else chief)


def test_a_table_of_words_is_named_where_a_function_looks_into_it(tensorflow_models):
    loaded = dsave.load(tensorflow_models["table"].path)
    assert not hasattr(loaded, "table")
    for look in (loaded.look, loaded.signatures["look"]):
        with pytest.raises(dsave.ModelError, match="numpy cannot run LookupTableFindV2"):
            look(np.array([b"a"], object))
    assert [note for note in loaded.load_notes if "LookupTableFindV2" not in note] == []
    assert loaded.file()["path"].tolist() == loaded.words.path.encode()


def test_a_graph_of_tensorflow_1_is_opened_and_not_loaded(tensorflow_models):
    path = tensorflow_models[OLD].path
    with pytest.raises(dsave.ModelError, match=r"no objects; dsave\.open reads its tensors"):
        dsave.load(path)
    assert sorted(dsave.open(path)) == ["scope/old", "w"]
