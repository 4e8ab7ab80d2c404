"""Every cluster config that is shipped.

- each begins with a comment that says what it is for, and parses to a ClusterSpec
- each has the hosts and devices that its comment promises
- every key is in the one to start with
"""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from dsave.model.cluster_spec import ClusterSpec, RaySpec

FOLDER = Path(__file__).parent.parent / "cluster_configs"
WORKER = "/job:worker/replica:0/task:"


def read(name: str) -> ClusterSpec:
    return ClusterSpec.from_mapping(yaml.safe_load((FOLDER / name).read_text("utf-8")))


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_config_says_what_it_is_for_and_parses(path):
    assert path.suffix == ".yaml"
    assert path.read_text("utf-8").startswith("# ")
    assert len(read(path.name).devices) > 0


def test_local_is_two_hosts_with_two_gpus_and_a_tmp_of_their_own():
    spec = read("local.yaml")
    assert spec.devices == (
        "/job:worker/replica:0/task:0/device:CPU:0",
        "/job:worker/replica:0/task:0/device:GPU:0",
        "/job:worker/replica:0/task:0/device:GPU:1",
        "/job:worker/replica:0/task:1/device:CPU:0",
        "/job:worker/replica:0/task:1/device:GPU:0",
        "/job:worker/replica:0/task:1/device:GPU:1",
    )
    assert (spec.placement, spec.local_paths, spec.local_root) == ("pack", ("/tmp",), None)
    assert spec.ray == RaySpec(address=None, num_cpus=None, object_store_gib=None)


def test_local_has_every_key():
    given = yaml.safe_load((FOLDER / "local.yaml").read_text("utf-8"))
    assert set(given) == {field.name for field in fields(ClusterSpec)}
    assert read("local.yaml").timeout_s == 600.0


def test_one_host_shares_the_filesystem_of_this_machine():
    spec = read("one_host.yaml")
    assert spec.devices == tuple(f"{WORKER}0/device:{d}" for d in ("CPU:0", "GPU:0", "GPU:1"))
    assert (spec.placement, spec.local_paths) == ("pack", ())


def test_four_hosts_have_a_gpu_and_a_tmp_each():
    spec = read("four_hosts.yaml")
    assert spec.host_names == tuple(f"{WORKER}{task}" for task in range(4))
    assert spec.devices_of(f"{WORKER}3") == (
        f"{WORKER}3/device:CPU:0",
        f"{WORKER}3/device:GPU:0",
    )
    assert spec.local_paths == ("/tmp",)


def test_parameter_server_has_a_chief_two_workers_and_two_servers():
    spec = read("parameter_server.yaml")
    assert spec.devices == (
        "/job:chief/replica:0/task:0/device:CPU:0",
        "/job:worker/replica:0/task:0/device:CPU:0",
        "/job:worker/replica:0/task:0/device:GPU:0",
        "/job:worker/replica:0/task:1/device:CPU:0",
        "/job:worker/replica:0/task:1/device:GPU:0",
        "/job:ps/replica:0/task:0/device:CPU:0",
        "/job:ps/replica:0/task:1/device:CPU:0",
    )
    assert spec.local_paths == ()


def test_ray_cluster_joins_a_running_ray_with_a_host_on_each_of_three_nodes():
    spec = read("ray_cluster.yaml")
    assert spec.devices == tuple(f"{WORKER}{task}/device:CPU:0" for task in range(3))
    assert (spec.placement, spec.ray) == ("spread", RaySpec(address="auto"))
