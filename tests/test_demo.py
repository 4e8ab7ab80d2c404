"""`dsave demo` trains, saves in six ways, checks what it saved, and leaves a classifier.

- It ends with exit code 0 after it printed each of its checks.
- All that it leaves is one directory, and the line that it prints serves what is there.
- Its cluster is that of cluster_configs/local.yaml.
- Without scikit-learn it says what to install.
- A check that fails ends it, and says which.
- Values are the same if their dtypes, shapes and bits are.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsave import demo
from dsave.runtime.config import load_spec

CONFIGS = Path(__file__).parents[1] / "cluster_configs"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the demo printed, the temporary directory that it had, and what it left in /tmp."""
    pytest.importorskip("sklearn", reason="the demo's digits come with scikit-learn")
    place = tmp_path_factory.mktemp("demo")
    demo = subprocess.Popen(
        [sys.executable, "-m", "dsave", "demo"],
        env={**os.environ, "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = demo.communicate(timeout=240)
    finally:
        demo.kill()
    assert demo.returncode == 0, output + errors
    return output, place, list(Path("/tmp").glob(f"dsave-demo-{demo.pid}-*"))


@pytest.mark.ray
def test_the_demo_checks_all_that_it_saved(ran):
    output = ran[0]
    assert "checked: the GPUs counted 7,185 digits in all" in output
    assert re.search(r"checked: of 360 other digits 9\d\.\d% are told", output)
    assert "checked: model.classify says the same of them" in output
    assert output.count(": host-local, ") == 3
    assert output.count(": single, ") == 4
    for policy, times in (
        ("NONE", 3),
        ("SAVE_VARIABLE_DEVICES", 2),
        ("EXPAND_DISTRIBUTED_VARIABLES", 2),
    ):
        assert output.count(f"checked: its policy is {policy}\n") == times
    for claim in (
        "dsave.open reads what the devices hold, bit for bit",
        "dsave.load loads the same, bit for bit",
    ):
        assert output.count(f"checked: {claim}\n") == 7
    by_tensorflow = re.findall("checked: TensorFlow .* loads the same, bit for bit", output)
    times = 7 if importlib.util.find_spec("tensorflow") else 0
    assert len(by_tensorflow) == times
    assert output.count("unchecked: TensorFlow") == 7 - times
    classified = output.count("checked: what it loaded classifies alike, to 1e-05\n")
    assert classified == 7 + times
    assert "every check passed; all that the hosts wrote is removed again" in output


@pytest.mark.ray
def test_all_that_the_demo_leaves_is_one_directory(ran):
    output, place, left = ran
    assert not left
    (export,) = place.glob("dsave-demo-export-*")
    assert {file.name for file in export.iterdir()} == {"digits", "pixels.npy"}
    assert f"The classifier is left in {export}/digits.\n" in output


@pytest.mark.ray
@pytest.mark.tf
def test_the_line_that_the_demo_prints_serves_the_classifier(ran):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("saved_model_cli comes with TensorFlow")
    program, *arguments = shlex.split(ran[0].splitlines()[-1])
    served = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert served.returncode == 0, served.stderr
    told = re.search(r"Result for output key digit:\n\[([\d ]+)\]", served.stdout)[1]
    right = np.array(told.split(), int) == np.arange(10)
    assert right.sum() >= 8


def test_without_scikit_learn_the_demo_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match=r"pip install 'dsave\[demo\]'"):
        demo.run()


def test_the_cluster_of_the_demo_is_that_of_the_local_config():
    assert load_spec(demo.CLUSTER) == load_spec(CONFIGS / "local.yaml")


def test_a_check_that_fails_ends_the_process_and_names_the_claim():
    with pytest.raises(SystemExit, match="one is two") as ended:
        demo.check("one is two", holds=False)
    assert ended.value.code not in {0, None}


@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 1), ([1.0], [[1.0]]), (0.0, -0.0), ([1, 2], [1, 3])]
)
def test_values_of_other_bits_are_not_the_same(a, b):
    assert not demo.same(a, b)
    assert demo.same(a, a)


def test_equal_nans_are_the_same():
    assert demo.same(float("nan"), float("nan"))
