"""Saves by hosts that share no /tmp and no memory: `placement: spread` on three of them.

Claims: hosts are placed one on each machine; with an io device the SavedModel is whole on
that host, where TensorFlow loads it, and nowhere else; without one each host keeps its own
data files and says so; a path that all see gives one directory; variables larger than Ray's
object store are saved all the same.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.hosts, pytest.mark.ray]

HOSTS = [f"/job:worker/replica:0/task:{task}" for task in range(3)]
ELEMENTS = 30_000_000
"""Of each host's variable: 120 MB, and Ray's store of a host holds 100."""

SAVE = """
import json, socket, sys
import numpy as np
import dsave

workers = [{"job": "worker", "tasks": 3}]
spec = {"ray": {"address": "auto"}, "placement": "spread", "hosts": workers}
with dsave.Cluster.start(spec) as cluster:
    names = cluster.run(lambda _: socket.gethostname())
    model = dsave.Module()
    model.each = []
    for number, host in enumerate(cluster.hosts):
        with cluster.device(host):
            fill = lambda _, number=number: np.full(ELEMENTS, number, np.float32)
            model.each.append(cluster.variable(fill, shape=(ELEMENTS,), dtype="float32"))
    model.sharded = cluster.sharded_variable(np.arange(9, dtype=np.float32))
    model.total = cluster.sync_on_read_variable(1.0, aggregation="sum")
    results = {}
    for name, directory, io_device in json.loads(sys.argv[1]):
        options = dsave.SaveOptions(experimental_io_device=io_device)
        result = dsave.save(model, directory, options=options)
        writers = [shard.writer for shard in result.shards]
        results[name] = {"layout": result.layout, "disks": result.disks, "writers": writers}
    print(json.dumps([names, results]))
"""

LOAD = """
import json, sys
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
print(json.dumps([[v.numpy()[[0, -1]].tolist() for v in loaded.each], float(loaded.total)]))
"""


@pytest.fixture(scope="module")
def hosts(up):
    with up(3) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def shared():
    """A directory that all hosts see."""
    directory = tempfile.mkdtemp(dir="/var/tmp", prefix="dsave-shared-")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def saved(hosts, shared):
    """(host names, results by name) of three saves."""
    saves = [
        ("designated", "/tmp/designated/export", f"{HOSTS[1]}/device:CPU:0"),
        ("local", "/tmp/local/export", None),
        ("shared", f"{shared}/export", None),
    ]
    script = SAVE.replace("ELEMENTS", str(ELEMENTS))
    output = hosts.run("h0", [sys.executable, "-c", script, json.dumps(saves)])
    return json.loads(output.splitlines()[-1])


def files(directory):
    return {str(p.relative_to(directory)) for p in Path(directory).rglob("*") if p.is_file()}


METADATA = {"saved_model.pb", "fingerprint.pb", "variables/variables.index"}
DATA = [f"variables/variables.data-0000{shard}-of-00004" for shard in range(4)]


def check(loaded):
    for number, variable in enumerate(loaded.each):
        assert variable.shape == [ELEMENTS]
        assert (variable.numpy() == number).all()
    assert loaded.sharded.numpy().tolist() == list(range(9))
    assert loaded.total.numpy() == 3.0


def test_every_host_has_a_machine_of_its_own(saved):
    assert saved[0] == dict(zip(HOSTS, ["h0", "h1", "h2"], strict=True))


@pytest.mark.tf
def test_an_io_device_has_the_whole_model_on_its_disk_and_others_have_nothing(hosts, saved):
    there = "/tmp/designated/export"
    assert files(hosts.outside("h1", there)) == METADATA | {*DATA}
    for other in ("h0", "h2"):
        assert not hosts.outside(other, "/tmp/designated").exists()
    assert not Path("/tmp/designated").exists()
    output = hosts.run("h1", [sys.executable, "-c", LOAD, there])
    assert json.loads(output.splitlines()[-1]) == [[[0, 0], [1, 1], [2, 2]], 3]
    result = saved[1]["designated"]
    assert (result["layout"], result["disks"]) == ("single", [[HOSTS[1]]])
    assert set(result["writers"]) == {f"{HOSTS[1]}/device:CPU:0"}


@pytest.mark.tf
def test_without_one_every_host_has_its_own_files_which_together_load(
    hosts, saved, tmp_path, tf
):
    for number, name in enumerate(hosts.names):
        directory = hosts.outside(name, "/tmp/local/export")
        assert files(directory) == METADATA | {DATA[number], DATA[3]}
        shutil.copytree(directory, tmp_path / "union", dirs_exist_ok=True)
    result = saved[1]["local"]
    assert (result["layout"], result["disks"]) == ("host-local", [[host] for host in HOSTS])
    check(tf.saved_model.load(str(tmp_path / "union")))


@pytest.mark.tf
def test_a_directory_that_all_see_is_one_model(saved, shared, tf):
    assert files(f"{shared}/export") == METADATA | {*DATA}
    assert [path.name for path in Path(shared).iterdir()] == ["export"]
    result = saved[1]["shared"]
    assert (result["layout"], result["disks"]) == ("single", [HOSTS])
    assert result["writers"][:3] == [f"{host}/device:CPU:0" for host in HOSTS]
    check(tf.saved_model.load(f"{shared}/export"))
