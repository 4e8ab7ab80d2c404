"""docs/functions.md names all that can be traced, and nothing else."""

import re
from pathlib import Path

import numpy as np

from dsave import ops
from dsave.functions.table import FACES

PAGE = (Path(__file__).parents[2] / "docs/functions.md").read_text("utf-8")
LISTS, OURS, _ = PAGE.split("\n## ")[1:]


def resolved(name):
    """A function by its name, or None where this numpy has none."""
    found = np
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found


def test_it_names_each_function_of_numpy():
    functions = {resolved(name) for name in re.findall(r"`(numpy[.\w]+)`", LISTS)} - {None}
    # Methods of ufuncs and of arrays are described, not listed.
    public = {face for face in FACES if resolved(f"numpy.{face.__name__}") is face} | {
        face for face in FACES if getattr(np.linalg, face.__name__, None) is face
    }
    assert functions == public


def test_it_names_each_op():
    assert set(re.findall(r"`(\w+)`", OURS)) == set(ops.__all__)
