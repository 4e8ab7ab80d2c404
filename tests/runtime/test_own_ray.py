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


@pytest.mark.usefixtures("_ray")
def test_hosts_that_are_to_be_spread_over_too_few_nodes_are_refused():
    config = {"placement": "spread", "hosts": [{"job": "worker", "tasks": 2}]}
    with pytest.raises(dsave.ClusterError, match="each of 2 hosts, and 1 are alive"):
        dsave.Cluster.start(config)


@pytest.mark.usefixtures("_ray")
def test_another_ray_than_the_one_in_use_is_refused():
    config = {"hosts": [{"job": "worker"}], "ray": {"address": "10.1.2.3:6379"}}
    with pytest.raises(dsave.ClusterError, match=r"another Ray than '10\.1\.2\.3:6379'"):
        dsave.Cluster.start(config)


@pytest.mark.usefixtures("_ray")
def test_the_address_of_the_ray_in_use_is_that_ray():
    import ray

    address = ray.get_runtime_context().gcs_address
    with dsave.Cluster.start({"hosts": [{"job": "worker"}], "ray": {"address": address}}) as c:
        assert c.run(lambda _: 7) == {c.hosts[0]: 7}


@pytest.mark.usefixtures("_ray")
def test_paths_that_cannot_be_made_are_refused():
    config = {
        "hosts": [{"job": "worker"}],
        "local_paths": ["/tmp"],
        "local_root": "/proc/dsave",
    }
    with pytest.raises(dsave.ClusterError, match="setting: local_root"):
        dsave.Cluster.start(config)


GONE = """
import dsave, ray
config = {"hosts": [{"job": "worker"}]}
first = dsave.Cluster.start(config)
ray.shutdown()
second = dsave.Cluster.start(config)
first.close()
print(second.run(lambda _: 7))
"""


def test_a_cluster_whose_ray_was_shut_down_can_be_closed():
    done = subprocess.run(
        [sys.executable, "-c", GONE], capture_output=True, text=True, check=False, timeout=100
    )
    assert "7" in done.stdout, done.stderr


def test_an_address_where_nobody_listens_is_refused_soon(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    started = time.monotonic()
    with pytest.raises(dsave.ClusterError, match=r"no Ray at '127\.0\.0\.1:1'"):
        dsave.Cluster.start({"ray": {"address": "127.0.0.1:1"}, "hosts": [{"job": "worker"}]})
    assert time.monotonic() - started < 20
