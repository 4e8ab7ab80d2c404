"""The benchmark runs, small, and says what it promises.

Claims: it prints a rate for each route, and each host's peak memory; --small prints seconds;
its JSON has every save; it leaves nothing in the directory that it was given.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

PROGRAM = Path(__file__).parents[1] / "benchmarks/throughput.py"
NUMBER = r"\d+\.\d+"


def run(directory, *options):
    return subprocess.run(
        [sys.executable, PROGRAM, "--no-tensorflow", "--directory", directory, *options],
        capture_output=True,
        text=True,
        timeout=120,
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


def test_many_small_variables_are_timed_in_seconds(tmp_path):
    printed = run(tmp_path, "--small", "--repeats", "1", "--route", "local")
    assert "1,024,000 bytes in 4000 variables" in printed
    assert printed.splitlines()[5].endswith("seconds")
    assert re.search(rf"^local +dsave +{NUMBER} +{NUMBER}$", printed, re.MULTILINE)
    assert "designated" not in printed
