"""Options are checked once, when they are made.

- a policy comes from itself, None, its value string in any case, or "none"; nothing else
- the value of a policy is its name in lower case; every policy but NONE saves devices
- a whitelist is None or a list of str, and is copied; extra tags are one str or several
- options are frozen, and unknown ones are refused; so are switches that are no booleans
- options can be copied and sent to other processes
- their help explains every one of them, with the strings that name a policy
- for what TensorFlow's SaveOptions refuses, ours raise an error of the same kind
"""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from dsave.errors import OptionError, OptionTypeError
from dsave.options import LoadOptions, SaveOptions, VariablePolicy

NONE = VariablePolicy.NONE
DEVICES = VariablePolicy.SAVE_VARIABLE_DEVICES
EXPAND = VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        (None, NONE),
        (NONE, NONE),
        (DEVICES, DEVICES),
        (EXPAND, EXPAND),
        ("save_variable_devices", DEVICES),
        ("SaVe_VaRiAbLe_DeViCeS", DEVICES),
        ("expand_distributed_variables", EXPAND),
        ("eXpAnD_dIsTrIbUtEd_VaRiAbLeS", EXPAND),
        ("EXPAND_DISTRIBUTED_VARIABLES", EXPAND),
    ],
)
def test_a_policy_is_named_as_in_tensorflow(given, policy):
    assert VariablePolicy.from_obj(given) is policy


@pytest.mark.parametrize("given", ["none", "NONE", "None"])
def test_the_string_none_is_a_policy_here(given):
    assert VariablePolicy.from_obj(given) is NONE


@pytest.mark.parametrize(
    "given",
    ["not_a_valid_value", "", "VariablePolicy.NONE", False, 3, 2.0, [], b"none", ("none",)],
)
def test_what_names_no_policy_is_refused(given):
    with pytest.raises(
        OptionError, match=r"^experimental_variable_policy: .*is not a variable"
    ):
        VariablePolicy.from_obj(given)


def test_the_error_lists_the_policies():
    with pytest.raises(
        OptionError, match=r"'none', 'save_variable_devices', 'expand_distributed_variables'$"
    ):
        VariablePolicy.from_obj("expand")


def test_a_policys_value_is_its_name_in_lower_case():
    assert {policy.name: policy.value for policy in VariablePolicy} == {
        "NONE": None,
        "SAVE_VARIABLE_DEVICES": "save_variable_devices",
        "EXPAND_DISTRIBUTED_VARIABLES": "expand_distributed_variables",
    }


@pytest.mark.parametrize(
    ("policy", "saves_devices", "expands"),
    [(NONE, False, False), (DEVICES, True, False), (EXPAND, True, True)],
)
def test_expanding_saves_devices_too(policy, saves_devices, expands):
    assert (policy.saves_devices, policy.expands) == (saves_devices, expands)


def test_the_defaults_are_tensorflows():
    options = SaveOptions()
    assert options.namespace_whitelist is None
    assert options.save_debug_info is False
    assert options.function_aliases == {}
    assert options.experimental_io_device is None
    assert options.experimental_variable_policy is NONE


@pytest.mark.parametrize("given", [None, "none", NONE])
def test_a_save_without_policy_has_the_policy_none(given):
    assert SaveOptions(experimental_variable_policy=given).variable_policy is NONE


def test_a_policy_string_is_stored_as_a_policy():
    options = SaveOptions(experimental_variable_policy="Expand_Distributed_Variables")
    assert options.experimental_variable_policy is EXPAND
    assert options.variable_policy is EXPAND


def test_an_unknown_policy_is_refused_when_the_options_are_made():
    with pytest.raises(OptionError):
        SaveOptions(experimental_variable_policy="not_a_valid_value")


@pytest.mark.parametrize("given", [None, [], ["Test"], ["Test", ""]])
def test_a_whitelist_is_none_or_a_list_of_str(given):
    assert SaveOptions(namespace_whitelist=given).namespace_whitelist == given


def test_the_whitelist_is_a_copy():
    given = ["Test"]
    options = SaveOptions(namespace_whitelist=given)
    given.append("Late")
    assert options.namespace_whitelist == ["Test"]


@pytest.mark.parametrize("given", ["Test", ("Test",), {"Test"}, 1, False])
def test_a_whitelist_of_another_type_is_a_type_error(given):
    with pytest.raises(OptionTypeError, match=r"^namespace_whitelist: a list of str or None"):
        SaveOptions(namespace_whitelist=given)


@pytest.mark.parametrize("given", [[1], ["Test", None], [b"Test"], [["Test"]]])
def test_a_namespace_that_is_no_str_is_a_value_error(given):
    with pytest.raises(OptionError, match=r"^namespace_whitelist: each"):
        SaveOptions(namespace_whitelist=given)


@pytest.mark.parametrize("given", [0, b"/cpu:0", ["/cpu:0"]])
def test_an_io_device_is_a_str(given):
    with pytest.raises(OptionTypeError, match=r"^experimental_io_device: "):
        SaveOptions(experimental_io_device=given)


@pytest.mark.parametrize("given", [["f"], "f", 1])
def test_aliases_are_a_mapping(given):
    with pytest.raises(OptionTypeError, match=r"^function_aliases: "):
        SaveOptions(function_aliases=given)


def test_aliases_are_a_copy_that_nobody_changes():
    given = {"f": print}
    options = SaveOptions(function_aliases=given)
    given["g"] = print
    assert options.function_aliases == {"f": print}


@pytest.mark.parametrize(
    "option", ["save_debug_info", "experimental_debug_stripper", "experimental_skip_saver"]
)
def test_a_switch_is_true_or_false_and_no_text(option):
    for on in (True, 1, np.True_):
        assert getattr(SaveOptions(**{option: on}), option) is True
    assert getattr(SaveOptions(**{option: 0}), option) is False
    for given in ("no", "", None, 2):
        with pytest.raises(OptionTypeError, match=f"{option}: True or False is wanted"):
            SaveOptions(**{option: given})


def test_an_alias_is_a_str():
    with pytest.raises(OptionTypeError, match="function_aliases: an alias is a str, got 3"):
        SaveOptions(function_aliases={3: print})


@pytest.mark.parametrize("options", [SaveOptions(extra_tags="a"), LoadOptions()])
def test_options_can_be_sent_to_other_processes(options):
    assert pickle.loads(pickle.dumps(options)) == options
    assert copy.deepcopy(options) == options


def test_options_are_frozen():
    options = SaveOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.save_debug_info = True


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="namespace_white_list"):
        SaveOptions(namespace_white_list=[])


def test_a_load_is_whole_soft_and_by_every_host_unless_told_otherwise():
    assert dataclasses.asdict(LoadOptions()) == {
        "allow_partial_checkpoint": False,
        "soft_device_placement": True,
        "experimental_io_device": None,
    }


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("allow_partial_checkpoint", 2),
        ("soft_device_placement", "no"),
        ("experimental_io_device", 0),
    ],
)
def test_a_load_option_of_the_wrong_type_is_named(option, given):
    with pytest.raises(OptionTypeError, match=option) as raised:
        LoadOptions(**{option: given})
    assert raised.value.option == option


def test_load_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LoadOptions().allow_partial_checkpoint = True


@pytest.mark.parametrize(
    ("given", "tags"),
    [(None, ()), ("gpu", ("gpu",)), (["a", "b"], ("a", "b")), (("a",), ("a",)), ([], ())],
)
def test_extra_tags_are_one_str_or_several(given, tags):
    assert SaveOptions(extra_tags=given).extra_tags == tags


@pytest.mark.parametrize("given", [7, b"gpu", ["gpu", 7], {"gpu": 1}, [None]])
def test_extra_tags_of_another_type_are_refused(given):
    with pytest.raises(OptionTypeError, match="extra_tags: a str, or a list or tuple"):
        SaveOptions(extra_tags=given)


@pytest.mark.tf
@pytest.mark.parametrize(
    "given",
    [
        {"namespace_whitelist": "Test"},
        {"namespace_whitelist": ("Test",)},
        {"namespace_whitelist": [1]},
        {"namespace_whitelist": [b"Test"]},
        {"experimental_variable_policy": "not_a_valid_value"},
        {"experimental_variable_policy": ""},
        {"experimental_variable_policy": 3},
    ],
)
def test_what_tensorflow_refuses_is_refused_with_the_same_kind_of_error(tf, given):
    with pytest.raises((TypeError, ValueError)) as theirs:
        tf.saved_model.SaveOptions(**given)
    with pytest.raises((TypeError, ValueError)) as ours:
        SaveOptions(**given)
    assert isinstance(ours.value, theirs.type)


@pytest.mark.tf
@pytest.mark.parametrize(
    "given", [None, "SAVE_variable_devices", "expand_distributed_VARIABLES", "none", 0, True]
)
def test_a_policy_is_the_one_that_tensorflow_takes_it_for(tf, given):
    theirs = tf.saved_model.experimental.VariablePolicy
    try:
        name = theirs.from_obj(given).name
    except ValueError:
        name = (
            "NONE" if given == "none" else None
        )  # the one that we take and TensorFlow does not
    if name is None:
        with pytest.raises(OptionError):
            VariablePolicy.from_obj(given)
    else:
        assert VariablePolicy.from_obj(given).name == name


@pytest.mark.parametrize("kind", [SaveOptions, LoadOptions])
def test_help_explains_every_option(kind):
    for field in dataclasses.fields(kind):
        assert f"\n        {field.name}: " in kind.__doc__


def test_help_has_the_strings_that_name_a_policy():
    for policy in VariablePolicy:
        assert f'"{policy.name.lower()}"' in SaveOptions.__doc__
