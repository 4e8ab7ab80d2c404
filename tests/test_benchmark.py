"""The benchmarks run, small, and say what they promise.

Claims: that of saves prints a rate for each route, and each host's peak memory, and what
TensorFlow makes of it; --small prints
seconds; its JSON has every save. That of reads prints a rate or a time for each kind of read.
Either leaves nothing in the directory that it was given.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NUMBER = r"\d+\.\d+"


def run(directory, *options, program="throughput.py", others="--no-tensorflow"):
    return subprocess.run(
        [sys.executable, BENCHMARKS / program, others, "--directory", directory, *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    ).stdout


def test_it_prints_rates_and_peak_memory_and_leaves_nothing(tmp_path):
    directory = tmp_path / "disk"
    directory.mkdir()
    result = tmp_path / "result.json"
    printed = run(directory, "--gib", "0.01", "--repeats", "2", "--json", result)
    assert "10,737,408 bytes in 16 variables on 2 hosts; not durable" in printed
    assert re.search(r"RAY_worker_niceness=0\b", printed)
    for route in ("local", "designated"):
        assert re.search(rf"^{route} +dsave +{NUMBER} +{NUMBER}$", printed, re.MULTILINE)
    for task in (0, 1):
        host = f"/job:worker/replica:0/task:{task}"
        assert re.search(
            rf"^peak private memory of {host}: {NUMBER} MiB$", printed, re.MULTILINE
        )
    assert list(directory.iterdir()) == []

    seconds = json.loads(result.read_text())["seconds"]
    assert seconds.keys() == {"local", "designated"}
    for by_side in seconds.values():
        assert len(by_side["dsave"]) == 2
        assert min(by_side["dsave"]) > 0


@pytest.mark.tf
@pytest.mark.usefixtures("tf")
def test_the_rates_are_set_beside_those_of_tensorflow(tmp_path):
    options = ("--gib", "0.01", "--repeats", "1")
    printed = run(tmp_path, *options, others="--tensorflow")
    for route in ("local", "designated"):
        for side in ("dsave", "TensorFlow", "ratio"):
            line = rf"^{route} +{side} +{NUMBER} +{NUMBER}$"
            assert re.search(line, printed, re.MULTILINE), (route, side)
    options = (*options, "--keys", "100")
    printed = run(tmp_path, *options, program="reading.py", others="--tensorflow")
    for side in ("tf.train.load_checkpoint", "tf.train.Checkpoint.read"):
        assert re.search(rf"^{side} +{NUMBER} +{NUMBER}$", printed, re.MULTILINE)
        line = rf"^dsave.open / {side} +{NUMBER} +{NUMBER}  ratio$"
        assert re.search(line, printed, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_many_small_variables_are_timed_in_seconds(tmp_path):
    printed = run(tmp_path, "--small", "--repeats", "1", "--route", "local")
    assert "1,024,000 bytes in 4000 variables" in printed
    assert printed.splitlines()[5].endswith("seconds")
    assert re.search(rf"^local +dsave +{NUMBER} +{NUMBER}$", printed, re.MULTILINE)
    assert "designated" not in printed


def test_reads_of_every_kind_are_timed(tmp_path):
    options = ("--gib", "0.01", "--keys", "100", "--repeats", "1")
    printed = run(tmp_path, *options, program="reading.py")
    for kind in (
        "dsave.open",
        "dsave.open, copied",
        "opening an index of 100 keys",
        "one row of 16,384 bytes of 10,737,418",
        "loading 10,737,418 bytes onto 1 host",
        "loading 10,737,418 bytes onto 2 hosts",
        "two hosts / one",
    ):
        line = rf"^{re.escape(kind)} +{NUMBER} +{NUMBER}(?:  seconds|  ratio)?$"
        assert re.search(line, printed, re.MULTILINE), kind
    assert list(tmp_path.iterdir()) == []
