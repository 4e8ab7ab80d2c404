"""Which host writes which file where.

Claims: with an io device all files are on that host, whole and loadable, and nowhere else;
without one each host writes its own variables, to one directory where hosts share it, else
each to its own with the whole index and metadata; the result names every file, its writer,
its sources and its size; replicas on one host, GPU or CPU, share its data file; a mirrored
variable is written once, and the hosts' bytes come out even.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray

FIRST, SECOND = (f"/job:worker/replica:0/task:{task}" for task in (0, 1))
CALLER = "/job:localhost/replica:0/task:0"
METADATA = {"saved_model.pb", "fingerprint.pb", "variables/variables.index"}
DATA = [f"variables/variables.data-0000{shard}-of-00003" for shard in range(3)]


@pytest.fixture(scope="module")
def model(pair):
    """Each host has 4 KiB on a GPU and on its CPU, and half of a sharded variable."""
    model = dsave.Module()
    for task, host in enumerate((FIRST, SECOND)):
        for device in ("GPU:1", "CPU:0"):
            with pair.device(f"{host}/device:{device}"):
                value = np.full(1024, task, np.float32)
                setattr(model, f"{device[:3].lower()}_{task}", pair.variable(value))
    sharded = np.arange(64, dtype=np.float32)
    devices = [f"{FIRST}/device:GPU:0", f"{SECOND}/device:CPU:0"]
    model.sharded = pair.sharded_variable(sharded, devices=devices)
    return model


def files(directory):
    return {
        str(path.relative_to(directory))
        for path in Path(directory).rglob("*")
        if path.is_file()
    }


def check(loaded):
    assert loaded.gpu_0.numpy().tolist() == loaded.cpu_0.numpy().tolist() == [0.0] * 1024
    assert loaded.gpu_1.numpy().tolist() == loaded.cpu_1.numpy().tolist() == [1.0] * 1024
    assert loaded.sharded.numpy().tolist() == list(range(64))


def save(pair, model, directory, io_device=None):
    options = dsave.SaveOptions(experimental_io_device=io_device)
    return dsave.save(model, directory, options=options, cluster=pair)


@pytest.mark.tf
@pytest.mark.parametrize("io", [f"{SECOND}/device:CPU:0", "/job:worker/task:1/GPU:0"])
def test_an_io_device_gets_all_files_and_no_other_host_any(pair, model, private, tf, io):
    result = save(pair, model, private, io)
    there, elsewhere = (pair.real_path(private, host=host) for host in (SECOND, FIRST))
    assert files(there) == METADATA | {*DATA}
    assert not Path(elsewhere).parent.exists()
    assert not Path(private).parent.exists()
    check(tf.saved_model.load(there))
    assert result.layout == "single"
    assert result.disks == ((SECOND,),)
    assert {shard.writer for shard in result.shards} == {f"{SECOND}/device:CPU:0"}
    assert [shard.sources for shard in result.shards[:2]] == [(FIRST,), (SECOND,)]


@pytest.mark.tf
def test_the_calling_process_is_an_io_device(pair, model, tmp_path, tf):
    result = save(pair, model, tmp_path / "export", "/job:localhost")
    check(tf.saved_model.load(str(tmp_path / "export")))
    assert {shard.writer for shard in result.shards} == {f"{CALLER}/device:CPU:0"}


@pytest.mark.tf
def test_hosts_with_a_directory_of_their_own_keep_their_own_data(
    pair, model, private, tf, tmp_path
):
    result = save(pair, model, private)
    real = {host: pair.real_path(private, host=host) for host in (FIRST, SECOND)}
    assert files(real[FIRST]) == METADATA | {DATA[0], DATA[2]}
    assert files(real[SECOND]) == METADATA | {DATA[1], DATA[2]}
    for name in (*METADATA, DATA[2]):
        assert len({Path(directory, name).read_bytes() for directory in real.values()}) == 1
    assert result.layout == "host-local"
    assert result.disks == ((FIRST,), (SECOND,))
    assert "host-local" in str(result)
    for directory in real.values():
        shutil.copytree(directory, tmp_path / "union", dirs_exist_ok=True)
    check(tf.saved_model.load(str(tmp_path / "union")))


def test_hosts_that_share_a_directory_write_one(pair, model, tmp_path):
    result = save(pair, model, tmp_path / "export")
    assert files(tmp_path / "export") == METADATA | {*DATA}
    assert result.layout == "single"
    assert [shard.writer for shard in result.shards[:2]] == [
        f"{FIRST}/device:CPU:0",
        f"{SECOND}/device:CPU:0",
    ]
    assert [shard.sources for shard in result.shards[:2]] == [(FIRST,), (SECOND,)]


@pytest.mark.parametrize("route", [None, SECOND, "/job:localhost"])
def test_the_result_tells_every_data_file_and_its_size(pair, model, tmp_path, route):
    result = save(pair, model, tmp_path / "export", route)
    stored = {name: (tmp_path / "export" / name).stat().st_size for name in DATA}
    assert {shard.file: shard.nbytes for shard in result.shards} == stored
    assert result.nbytes == sum(stored.values())
    assert result.directory == str(tmp_path / "export")
    assert sum(shard.seconds for shard in result.shards) > 0
    assert 0 < result.seconds < 30
    hosts = {FIRST, SECOND} | ({CALLER} if route == "/job:localhost" else set())
    assert set(result.peak_bytes) == hosts


def test_devices_of_one_host_share_its_data_file(pair, model, tmp_path):
    result = save(pair, model, tmp_path / "export")
    assert [shard.nbytes for shard in result.shards[:2]] == [4096 + 4096 + 128] * 2


def test_only_hosts_that_give_bytes_get_a_data_file(pair, model, tmp_path):
    one = dsave.Module()
    one.v = model.gpu_1
    save(pair, one, tmp_path / "export")
    assert {name for name in files(tmp_path / "export") if "data" in name} == {
        "variables/variables.data-00000-of-00002",
        "variables/variables.data-00001-of-00002",
    }


def test_mirrored_variables_are_written_once_and_evenly(pair, tmp_path):
    model = dsave.Module()
    model.all = [pair.mirrored_variable(np.full(256, i, np.float32)) for i in range(8)]
    model.large = pair.mirrored_variable(np.zeros(2048, np.float32))
    result = save(pair, model, tmp_path / "export")
    assert [shard.nbytes for shard in result.shards[:2]] == [8192, 8192]


def test_replicas_on_the_io_host_do_not_travel(pair, tmp_path):
    model = dsave.Module()
    model.all = [pair.mirrored_variable(np.full(256, i, np.float32)) for i in range(8)]
    result = save(pair, model, tmp_path / "export", SECOND)
    assert {source for shard in result.shards for source in shard.sources} == {SECOND}
