"""What users' code says to a type checker that is strict.

- attributes of a module may be set and read, whatever they are
- steps say what they get
"""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import numpy as np

import dsave


class Model(dsave.Module):
    def __init__(self, cluster: dsave.Cluster) -> None:
        self.w = cluster.variable(1.0, "w")


def step(host: dsave.Host, model: dsave.Module) -> None:
    host.assign(model.w, host.value(model.w) + 1)


def train(cluster: dsave.Cluster) -> dsave.SaveResult:
    plain = dsave.Module()
    plain.w = cluster.mirrored_variable(np.zeros(4), name="w")
    plain.layers = [Model(cluster)]
    cluster.run(step, plain)
    device: str = Model(cluster).w.device
    return dsave.save(plain, f"/tmp/{device}")
"""


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("", "Success"),
        ("dsave.Module().w.x = dsave.nothing", 'Module has no attribute "nothing"'),
    ],
)
def test_attributes_of_modules_are_typed(tmp_path, added, said):
    pytest.importorskip("mypy")
    (tmp_path / "code.py").write_text(CODE + added)
    root = Path(__file__).parent.parent
    checked = subprocess.run(  # with the settings and the cache of `make types`
        [sys.executable, "-m", "mypy", str(tmp_path / "code.py")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in checked.stdout
