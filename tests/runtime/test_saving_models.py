"""Models of unusual shape, size and naming, saved by real hosts and read by TensorFlow.

Claims: models without variables, scalars and tensors without elements load; so do thousands
of variables, and a tensor whose size no 32-bit number holds; names of any letters and
containers of any depth are found again under the same names; a variable with two names is one
variable, and two variables of one name are two.
"""

import numpy as np
import pytest

import dsave
from dsave.model.dtype import dtype_of
from dsave.model.new_variable import mirrored

pytestmark = [pytest.mark.ray, pytest.mark.tf]

ROUTES = [None, "/job:worker/task:1", "/job:localhost"]


@pytest.fixture
def export(pair, tmp_path):
    """Saves a model by a route, and says where."""

    def saved(model, io_device=None):
        options = dsave.SaveOptions(experimental_io_device=io_device)
        dsave.save(model, tmp_path / "export", options=options, cluster=pair)
        return str(tmp_path / "export")

    return saved


@pytest.mark.parametrize("route", ROUTES)
def test_a_model_without_variables_loads(export, tf, stored, route):
    model = dsave.Module()
    model.inner = dsave.Module()
    directory = export(model, route)
    assert stored(directory) == {}
    assert tf.saved_model.load(directory).signatures == {}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 4)])
def test_scalars_and_tensors_without_elements_load_in_every_kind(
    pair, gpus, export, tf, stored, route, shape
):
    value = np.full(shape, 2.5, np.float32)
    words = np.full(shape, b"word", object)
    model = dsave.Module()
    for name, array in {"numbers": value, "words": words}.items():
        kinds = {"plain": pair.variable(array), "mirrored": pair.mirrored_variable(array)}
        for how in ("sum", "mean", "only_first_replica")[0 if name == "numbers" else 2 :]:
            kinds[how] = pair.sync_on_read_variable(array, aggregation=how)
        if shape:
            kinds["sharded"] = pair.sharded_variable(array, devices=gpus)
        vars(model)[name] = kinds
    directory = export(model, route)
    loaded = tf.saved_model.load(directory)
    assert len(stored(directory)) == (10 if shape else 8)
    for kind in model.numbers:
        times = 4 if kind == "sum" else 1
        assert np.array_equal(loaded.numbers[kind].numpy(), times * value)
        assert loaded.numbers[kind].shape == shape
    for kind in model.words:
        assert np.array_equal(loaded.words[kind].numpy(), words)
        assert loaded.words[kind].shape == shape


def test_fewer_rows_than_devices_load_as_one_tensor(pair, gpus, export, tf):
    model = dsave.Module()
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    model.sharded = pair.sharded_variable(value, devices=gpus)
    assert np.array_equal(tf.saved_model.load(export(model)).sharded.numpy(), value)


@pytest.fixture(scope="module")
def many(pair, gpus):
    """Mirrored variables, made at once: to make them one by one takes longer than all else."""
    variables = [
        mirrored(
            "v",
            dtype_of("float32"),
            (2,),
            gpus,
            pair.inner.new_key,
            trainable=True,
            aggregation="none",
        )
        for _ in range(5000)
    ]

    def fill(host):
        for i, variable in enumerate(variables):
            own = [part for part in variable.components if part.host == host.name]
            slots = {part.key: ("v", part.dtype, part.box) for part in own}
            host.store(slots, np.float32([i, -i]))

    pair.run(fill)
    model = dsave.Module()
    model.many = variables
    return model


@pytest.mark.parametrize("route", [None, "/job:worker/task:1"])
def test_five_thousand_variables_are_stored_each_with_its_value(many, export, stored, route):
    assert stored(export(many, route)) == {
        f"many/{i}/.ATTRIBUTES/VARIABLE_VALUE": ((2,), np.float32([i, -i]).tobytes())
        for i in range(5000)
    }


def test_five_thousand_variables_load(many, export, tf):
    loaded = tf.saved_model.load(export(many))
    assert [v.numpy().tolist() for v in loaded.many] == [[i, -i] for i in range(5000)]


def test_names_of_any_letters_are_found_again(pair, export, tf, stored, see):
    names = ["\u5c42/\u03ba x:0", "a/b", "a.b", "_under", "x" * 300, "sp ace", "NoOp", "%s\n"]
    model = dsave.Module()
    model.by_name = {}
    for number, name in enumerate(names):
        model.by_name[name] = pair.variable(float(number), name=name)
    vars(model)["na\u00efve"] = pair.mirrored_variable([1.0, 2.0], name="na\u00efve/\u00e9")
    directory = export(model)
    loaded = tf.saved_model.load(directory)
    assert {name: loaded.by_name[name].numpy() for name in names} == {
        name: float(number) for number, name in enumerate(names)
    }
    assert vars(loaded)["na\u00efve"].numpy().tolist() == [1.0, 2.0]
    keys = stored(directory)
    assert keys["by_name/a.Sb/.ATTRIBUTES/VARIABLE_VALUE"] == see.bits(np.float32(1))
    assert keys["by_name/a..b/.ATTRIBUTES/VARIABLE_VALUE"] == see.bits(np.float32(2))


def test_containers_are_found_again_as_what_they_are(pair, export, tf):
    model = dsave.Module()
    model.layers = [dsave.Module(), {"deep": [(pair.variable(7), 3, pair.variable(8))]}, "text"]
    model.layers[0].w = pair.variable([1.0, 2.0])
    model.rate = 0.5
    loaded = tf.saved_model.load(export(model))
    assert loaded.layers[0].w.numpy().tolist() == [1.0, 2.0]
    found = loaded.layers[1]["deep"][0]
    assert (found[0].numpy(), found[2].numpy()) == (7, 8)
    assert not hasattr(loaded, "rate")


def test_a_variable_with_two_names_is_stored_once_and_loaded_as_one(pair, export, tf, stored):
    model = dsave.Module()
    model.first = model.second = pair.mirrored_variable(3.0)
    model.third = [model.first]
    directory = export(model)
    loaded = tf.saved_model.load(directory)
    assert loaded.first is loaded.second
    assert loaded.first is loaded.third[0]
    assert list(stored(directory)) == ["first/.ATTRIBUTES/VARIABLE_VALUE"]


def test_two_variables_of_one_name_keep_their_own_values(pair, gpus, export, tf):
    model = dsave.Module()
    model.a = pair.variable(1.0, name="same")
    with pair.device(gpus[3]):
        model.b = pair.variable(2.0, name="same")
    model.c = pair.mirrored_variable(3.0, name="same")
    directory = export(model)
    loaded = tf.saved_model.load(directory)
    assert [loaded.a.numpy(), loaded.b.numpy(), loaded.c.numpy()] == [1.0, 2.0, 3.0]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], directory)
        names = ["same", "same_1", "same_2"]
        reads = [f"{name}/Read/ReadVariableOp:0" for name in names]
        assert session.run(reads) == [1.0, 2.0, 3.0]
