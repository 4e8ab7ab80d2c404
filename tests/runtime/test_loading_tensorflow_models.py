"""Real models that TensorFlow saved, on a cluster.

- they load with the values that were saved, on devices that there are; what moved is said
- distributed variables keep their kind, on as many devices as are asked for
- signatures compute what they computed in TensorFlow before they were saved
- saved again, under any policy, they are worth the same to TensorFlow
"""

import numpy as np
import pytest

import dsave

pytestmark = [pytest.mark.ray, pytest.mark.tf]

KERAS = ["attention", "cnn", "recurrent"]
POLICIES = ["none", "devices", "expanded"]
DISTRIBUTED = [
    f"{name}_{policy}" for name in ("mirrored", "parameter_server") for policy in POLICIES
]
OTHERS = ["adam_saved", "adam_v1_saved", "containers", "max_shard_size_saved"]
MODELS = [*KERAS, *DISTRIBUTED, *OTHERS]


@pytest.fixture(scope="module")
def loaded(pair, tensorflow_models):
    made = {}

    def load(name):
        if name not in made:
            made[name] = dsave.load(tensorflow_models[name].path, pair)
        return made[name]

    return load


def variables_in(value, path, found, seen):
    """The variables of a loaded model, each by the first path to it."""
    if id(value) in seen:
        return found
    seen.add(id(value))
    if isinstance(value, dsave.Variable):
        found[path] = value
    elif isinstance(value, dsave.Module | dict):
        for name, member in (value if isinstance(value, dict) else vars(value)).items():
            variables_in(member, (*path, name), found, seen)
    elif isinstance(value, list | tuple):
        for place, member in enumerate(value):
            variables_in(member, (*path, str(place)), found, seen)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_it_loads_with_the_values_that_were_saved(pair, loaded, tensorflow_models, see, name):
    here = dsave.load(tensorflow_models[name].path)
    values = tensorflow_models[name].values
    found = variables_in(loaded(name), (), {}, set())
    assert len(found) == len(values)
    for path, variable in found.items():
        twin = here
        for step in path:
            twin = (
                vars(twin)[step]
                if isinstance(twin, dsave.Module)
                else twin[step if isinstance(twin, dict) else int(step)]
            )
        value = values[twin.key]
        value = np.array(value, object) if isinstance(value, bytes) else value
        assert see.bits(pair.read(variable)) == see.bits(value), path


@pytest.mark.parametrize("name", [*KERAS, *DISTRIBUTED, "containers"])
def test_its_signatures_compute_what_they_computed_in_tensorflow(
    loaded, tensorflow_models, name
):
    check(loaded(name).signatures, tensorflow_models[name].calls)


@pytest.mark.parametrize("policy", POLICIES)
def test_distributed_variables_stay_what_they_are_on_devices_of_any_number(
    pair, gpus, tensorflow_models, policy
):
    names = ("w", "total", "counted", "mean", "first")
    devices = dict.fromkeys(names, gpus[:3])
    mirrored = tensorflow_models[f"mirrored_{policy}"]
    model = dsave.load(mirrored.path, pair, placement=devices)
    assert isinstance(model.w, dsave.MirroredVariable)
    assert isinstance(model.total, dsave.SyncOnReadVariable)
    assert [len(getattr(model, name).components) for name in names] == [3] * 5
    assert (pair.read(model.total), pair.read(model.counted)) == (31.5, 10)
    check(model.signatures, mirrored.calls)
    cut = tensorflow_models[f"parameter_server_{policy}"]
    model = dsave.load(cut.path, pair, placement={"table": gpus[:3]})
    assert isinstance(model.table, dsave.ShardedVariable)
    assert [part.box.lengths[0] for part in model.table.components] == [3, 2, 2]
    check(model.signatures, cut.calls)


@pytest.mark.parametrize("name", [n for n in DISTRIBUTED if not n.endswith("none")])
def test_devices_that_there_are_not_are_replaced_by_near_ones_and_that_is_said(
    pair, loaded, tensorflow_models, name
):
    model = loaded(name)
    notes = " ".join(model.load_notes)
    for variable in variables_in(model, (), {}, set()).values():
        assert {component.device for component in variable.components} <= set(pair.devices)
        assert variable.name in notes
    strict = dsave.LoadOptions(soft_device_placement=False)
    with pytest.raises(dsave.DeviceError, match="/job:"):
        dsave.load(tensorflow_models[name].path, pair, strict)


@pytest.mark.parametrize("policy", list(dsave.VariablePolicy))
@pytest.mark.parametrize("name", [*KERAS, "containers", "mirrored_expanded"])
def test_saved_again_it_is_worth_the_same_to_tensorflow(
    tf, pair, loaded, tensorflow_models, tmp_path, name, policy
):
    options = dsave.SaveOptions(experimental_variable_policy=policy)
    model = loaded(name)
    dsave.save(model, tmp_path / "again", model.signatures, options, cluster=pair)
    again = tf.saved_model.load(str(tmp_path / "again"))
    for signature, arrays, wanted in tensorflow_models[name].calls:
        tensors = {key: tf.constant(array) for key, array in arrays.items()}
        compare(again.signatures[signature](**tensors), wanted)
    check(dsave.load(tmp_path / "again").signatures, tensorflow_models[name].calls)


def check(signatures, calls):
    """Signatures, and no others, give these results."""
    assert signatures.keys() == {signature for signature, _, _ in calls}
    for signature, arrays, wanted in calls:
        compare(signatures[signature](**arrays), wanted)


def compare(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(np.asarray(found[key]), value, 1e-5, 1e-5)
