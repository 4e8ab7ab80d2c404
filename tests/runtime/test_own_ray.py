"""A Ray that dsave starts: it lasts as long as the last cluster on it, and no address hangs."""

import subprocess
import sys
import time

import pytest

import dsave

pytestmark = pytest.mark.ray

TWO_CLUSTERS = """
import dsave, ray
config = {"hosts": [{"job": "worker"}]}
first, second = dsave.Cluster.start(config), dsave.Cluster.start(config)
variable = second.variable(7)
first.close()
print(second.read(variable))
second.close()
print(ray.is_initialized())
"""


def test_a_cluster_lives_on_when_another_one_is_closed():
    done = subprocess.run(
        [sys.executable, "-c", TWO_CLUSTERS],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout.split() == ["7", "False"], done.stderr


def test_an_address_where_nobody_listens_is_refused_soon(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    started = time.monotonic()
    with pytest.raises(dsave.ClusterError, match=r"no Ray at '127\.0\.0\.1:1'"):
        dsave.Cluster.start({"ray": {"address": "127.0.0.1:1"}, "hosts": [{"job": "worker"}]})
    assert time.monotonic() - started < 20
