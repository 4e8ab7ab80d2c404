"""`dsave demo` trains, saves in six ways, checks what it saved, and leaves nothing behind.

- It ends with exit code 0 after it printed each of its checks, in less than a minute.
- Its cluster is that of cluster_configs/local.yaml.
- Without scikit-learn it says what to install.
- A check that fails ends it, and says which.
- Values are the same if their dtypes, shapes and bits are.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsave import demo
from dsave.runtime.cluster import load_spec

CONFIGS = Path(__file__).parents[1] / "cluster_configs"


@pytest.mark.ray
def test_the_demo_checks_all_that_it_saved_and_leaves_nothing_behind():
    pytest.importorskip("sklearn", reason="the demo's digits come with scikit-learn")
    before = set(Path("/tmp").glob("dsave-demo-*"))
    done = subprocess.run(
        [sys.executable, "-m", "dsave", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout
    assert "checked: the GPUs counted 7,185 digits in all" in output
    assert re.search(r"checked: of 360 other digits 9\d\.\d% are told", output)
    assert output.count(": host-local, ") == output.count(": single, ") == 3
    for policy in ("NONE", "SAVE_VARIABLE_DEVICES", "EXPAND_DISTRIBUTED_VARIABLES"):
        assert output.count(f"checked: its policy is {policy}\n") == 2
    assert output.count("checked: dsave.open reads what the devices hold, bit for bit") == 6
    by_tensorflow = re.findall("checked: TensorFlow .* loads the same, bit for bit", output)
    assert len(by_tensorflow) + output.count("unchecked: TensorFlow") == 6
    assert output.rstrip().endswith(
        "every check passed; all that the hosts wrote is removed again"
    )
    assert not set(Path("/tmp").glob("dsave-demo-*")) - before


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
