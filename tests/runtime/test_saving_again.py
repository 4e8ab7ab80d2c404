"""Saving over what is there, and saving while training goes on.

Claims: a save replaces the one before it, whoever wrote that, and no file of it stays; files
of the user's are kept, and nothing else is left beside the directory; with wait=False the
values are those at the call, steps run meanwhile, and what is wrong with the call is said by
the call. A checkpoint that is open keeps its values when it is replaced. A save sees all hosts
between the same two steps, whoever calls them. A cluster that is closed waits for its saves;
one that fails in the background is heard of.
"""

import copy
import sys
import threading
import time

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray


@pytest.fixture
def model(pair):
    model = dsave.Module()
    model.v = pair.mirrored_variable([1.0, 2.0])
    return model


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "beside").mkdir()
    return tmp_path / "beside" / "export"


def value(stored, directory):
    return np.frombuffer(
        stored(directory)["v/.ATTRIBUTES/VARIABLE_VALUE"][1], np.float32
    ).tolist()


@pytest.mark.tf
def test_a_save_replaces_the_one_before_it_and_leaves_nothing_beside(
    pair, model, directory, stored
):
    for step in range(3):
        pair.assign(model.v, [step, -step])
        dsave.save(model, directory, cluster=pair)
        assert value(stored, directory) == [step, -step]
        assert [path.name for path in directory.parent.iterdir()] == ["export"]


def test_data_files_of_the_save_before_do_not_stay(pair, model, directory, gpus):
    model.sharded = pair.sharded_variable(np.zeros(8), devices=gpus)
    dsave.save(model, directory, cluster=pair)
    del model.sharded
    dsave.save(model, directory, cluster=pair)
    assert {path.name for path in (directory / "variables").iterdir()} == {
        "variables.index",
        "variables.data-00000-of-00002",
        "variables.data-00001-of-00002",
    }


@pytest.mark.tf
def test_a_save_replaces_one_that_tensorflow_wrote(pair, model, directory, tf, stored):
    module = tf.Module()
    module.other = tf.Variable(tf.zeros([1000]))
    tf.saved_model.save(module, str(directory))
    dsave.save(model, directory, cluster=pair)
    assert value(stored, directory) == [1.0, 2.0]
    assert not (directory / "assets").exists()


@pytest.mark.parametrize("io_device", [None, "/job:localhost"])
def test_files_of_the_users_are_kept(pair, model, directory, io_device):
    options = dsave.SaveOptions(experimental_io_device=io_device)
    dsave.save(model, directory, options=options, cluster=pair)
    (directory / "notes.txt").write_text("mine")
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "tf_serving_warmup_requests").write_text("mine too")
    (directory / "variables" / "stray").write_text("not the user's place")
    for _ in range(2):
        dsave.save(model, directory, options=options, cluster=pair)
        assert (directory / "notes.txt").read_text() == "mine"
        assert (directory / "assets.extra/tf_serving_warmup_requests").read_text() == "mine too"
        assert [path.name for path in directory.parent.iterdir()] == ["export"]


@pytest.mark.parametrize("leftover", [".export.dsave-1a2b-00ff", ".export.dsave-1a2b-00ff/x"])
def test_what_a_dead_save_left_is_removed(pair, model, directory, leftover):
    path = directory.parent / leftover
    path.mkdir(parents=True)
    (path / "variables").mkdir()
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"half")
    dsave.save(model, directory, cluster=pair)
    assert [path.name for path in directory.parent.iterdir()] == ["export"]


def test_what_looks_like_a_leftover_of_another_directory_stays(pair, model, directory):
    other = directory.parent / ".other.dsave-1a2b-00ff"
    other.mkdir(parents=True)
    dsave.save(model, directory, cluster=pair)
    assert other.is_dir()


def test_missing_parents_are_made(pair, model, directory):
    dsave.save(model, directory / "a" / "b", cluster=pair)
    assert (directory / "a" / "b" / "saved_model.pb").is_file()


@pytest.mark.tf
def test_without_waiting_the_values_are_those_at_the_call(pair, model, directory, stored):
    with pair.device("/job:worker/task:1/GPU:0"):
        model.large = pair.variable(
            lambda _: np.ones(1 << 27, np.float32), shape=(1 << 27,), dtype="float32"
        )
    handle = dsave.save(model, directory, cluster=pair, wait=False)
    pair.assign(model.v, [7.0, 8.0])
    seen = pair.run(lambda host, v: host.value(v).tolist(), model.v)
    went_on = not handle.done
    result = handle.result(60)
    assert went_on
    assert handle.done
    assert result.nbytes > 1 << 29
    assert set(map(tuple, seen.values())) == {(7.0, 8.0)}
    assert value(stored, directory) == [1.0, 2.0]
    assert handle.result() is result


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_comes_later(
    pair, model, directory
):
    with pair.device("/job:worker/task:1/GPU:0"):
        model.large = pair.variable(
            lambda _: np.ones(1 << 26, np.float32), shape=(1 << 26,), dtype="float32"
        )
    handle = dsave.save(model, directory, cluster=pair, wait=False)
    with pytest.raises(TimeoutError):
        handle.result(timeout_s=0.001)
    assert handle.result(60).layout == "single"


def test_without_waiting_a_wrong_call_is_refused_at_once(pair, model, directory, see):
    with see.untouched(directory), pytest.raises(dsave.DeviceError):
        dsave.save(
            model,
            directory,
            options=dsave.SaveOptions(experimental_io_device="/job:ps"),
            cluster=pair,
            wait=False,
        )


def test_an_open_checkpoint_keeps_its_values_when_it_is_replaced(pair, directory):
    model = dsave.Module()
    model.a, model.b = pair.variable(np.ones(100)), pair.variable(np.full(100, 2.0))
    dsave.save(model, directory, cluster=pair)
    checkpoint = dsave.open(directory)
    model.a, model.b = model.b, model.a
    dsave.save(model, directory, cluster=pair)
    assert checkpoint["a/.ATTRIBUTES/VARIABLE_VALUE"][10:12].tolist() == [1.0, 1.0]


def test_a_save_sees_all_hosts_between_the_same_two_steps(pair, directory):
    cpus = [f"{host}/device:CPU:0" for host in pair.hosts]
    model = dsave.Module()
    model.count = pair.sharded_variable(np.zeros(len(cpus)), devices=cpus)
    count, over = model.count, threading.Event()

    def train():
        while not over.is_set():
            pair.run(lambda host, v: host.assign(v, host.value(v) + 1), count)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(30):
            dsave.save(model, directory, cluster=pair, durable=False)
            stored = dsave.open(directory)["count/.ATTRIBUTES/VARIABLE_VALUE"][...]
            assert len(set(stored.tolist())) == 1
    finally:
        over.set()
        trainer.join()


def test_a_cluster_that_is_closed_waits_for_its_saves(start, directory):
    with start() as cluster:
        model = dsave.Module()
        model.v = cluster.variable(
            lambda _: np.zeros(64 << 18), shape=(64 << 18,), dtype="float64"
        )
        handle = dsave.save(model, directory, cluster=cluster, wait=False)
    assert handle.done
    assert (directory / "saved_model.pb").is_file()


def test_a_save_that_fails_in_the_background_is_heard_of(
    pair, model, directory, caplog, monkeypatch
):
    # By its module: `dsave.save` is the function.
    monkeypatch.setattr(sys.modules["dsave.save"], "build_index", lambda *_: 1 / 0)
    handle = dsave.save(model, directory, cluster=pair, wait=False)
    with pytest.raises(dsave.SaveError, match="division by zero"):
        handle.result(60)
    assert "a save in the background failed" in caplog.text


def test_a_copy_of_a_model_has_the_same_variables(pair, model):
    copied = copy.deepcopy(model)
    assert copied.v is model.v


def test_a_cluster_cannot_be_sent_to_its_hosts(pair):
    with pytest.raises(dsave.ClusterError, match="stays in its process"):
        pair.run(lambda _host, cluster: cluster.hosts, pair)


def test_a_step_that_exits_does_not_end_its_host(pair, model):
    with pytest.raises(RuntimeError, match=r"sys.exit\(3\)"):
        pair.run(lambda _host: sys.exit(3))
    assert pair.read(model.v).tolist() == [1.0, 2.0]


def test_a_host_that_does_not_end_its_step_in_time_is_named(pair):
    host = pair.hosts[0]
    with pytest.raises(dsave.StalledError, match=rf"{host}.*timeout_s sets the deadline"):
        pair.run(lambda _host: time.sleep(1.5), hosts=[host], timeout_s=0.2)
