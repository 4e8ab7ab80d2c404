"""What `dsave` offers is what it says it offers.

- `__all__` is sorted, without doubles, and is all that is there beside the modules themselves
- it has every name of the contract, and every error
- each name says what it is
- its version is a constant that the build reads
- importing it imports no engine and no framework
"""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dsave
from dsave import errors

CONTRACT = {
    *["Cluster", "ClusterSpec", "DeviceSpec", "LoadOptions", "Module", "SaveOptions"],
    *["TensorSpec", "VariablePolicy", "function", "load", "open", "ops", "save"],
}


def test_the_list_of_names_is_sorted_and_has_none_twice():
    assert dsave.__all__ == sorted(set(dsave.__all__))


def test_the_list_is_all_that_is_there():
    there = {
        name
        for name, value in vars(dsave).items()
        if not name.startswith("_")
        and not (inspect.ismodule(value) and value.__name__ == f"dsave.{name}")
    }
    assert there == set(dsave.__all__)


def test_the_contract_is_kept():
    assert set(dsave.__all__) >= CONTRACT


def test_every_error_can_be_caught_by_its_public_name():
    raised = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in dsave.__all__ if name.endswith("Error")} == raised


@pytest.mark.parametrize("name", dsave.__all__)
def test_a_name_says_what_it_is(name):
    text = vars(getattr(dsave, name)).get("__doc__") or getattr(dsave, name).__doc__
    # What dataclasses write for those who write nothing begins with the name.
    assert text
    assert not text.startswith(f"{name}(")


def test_the_version_is_said_once():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "dsave/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", dsave.__version__)


def test_importing_it_imports_no_engine_and_no_framework():
    program = "import sys, dsave; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"jax", "ray", "tensorflow", "torch", "sklearn"} & set(loaded)
