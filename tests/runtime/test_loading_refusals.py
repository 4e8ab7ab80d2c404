"""A load is whole or does not happen, and says why.

- a device that does not exist is replaced by the nearest, with a warning and a note; or it is
  an error that names variable and device
- an io device reads for all, and reads what only it sees
- hosts that see different saves, or none, or lack a data file, are errors that name it, once
  they have looked again; if none, what they see instead, and whether each has a path of its own
- what hosts have seen is what they read, though it is replaced
- bytes that are not what was written are found, in parts of a table too; nothing changes then
- a host that dies or falls silent is named; the others keep their old values
- values go into a given model by names: shapes, dtypes and both sets of variables must agree
"""

import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import dsave
from dsave.runtime.load_hosts import LoadHosts
from dsave.runtime.source import read_whole

pytestmark = pytest.mark.ray

FIRST, SECOND = (f"/job:worker/replica:0/task:{task}" for task in (0, 1))
PARTIAL = dsave.LoadOptions(allow_partial_checkpoint=True)


def small(cluster, scale=1.0, devices=None):
    """A mirrored variable and a table over both hosts."""
    devices = devices or [f"{host}/device:CPU:0" for host in (FIRST, SECOND)]
    model = dsave.Module()
    model.w = cluster.mirrored_variable(np.arange(4.0) * scale, "w", devices=devices)
    table = np.arange(30, dtype=np.float32).reshape(10, 3) * scale
    model.table = cluster.sharded_variable(table, "table", devices=devices)
    return model


def values(cluster, model):
    return cluster.read(model.w).tolist(), cluster.read(model.table).tolist()


def expanded(cluster, model, directory):
    options = dsave.SaveOptions(experimental_variable_policy="expand_distributed_variables")
    return dsave.save(model, directory, options=options, cluster=cluster)


def data_files(directory):
    return sorted(Path(directory).glob("variables/*.data-*"))


def test_a_device_that_is_gone_is_replaced_and_that_is_said(pair, start, tmp_path, caplog):
    model = dsave.Module()
    with pair.device(f"{SECOND}/device:GPU:1"):
        model.v = pair.variable(1.0, "weights")
    expanded(pair, model, tmp_path / "export")
    with start(tasks=1) as cluster, caplog.at_level(logging.WARNING, "dsave"):
        loaded = dsave.load(tmp_path / "export", cluster)
        assert loaded.v.device == f"{FIRST}/device:CPU:0"
        assert cluster.read(loaded.v) == 1.0
        (note,) = loaded.load_notes
        assert caplog.messages == [note]
        assert "'weights'" in note
        assert f"{SECOND}/device:GPU:1" in note
        hard = dsave.LoadOptions(soft_device_placement=False)
        with pytest.raises(dsave.DeviceError, match="'weights'") as raised:
            dsave.load(tmp_path / "export", cluster, hard)
        assert raised.value.device == f"{SECOND}/device:GPU:1"


def test_devices_that_are_there_are_no_matter_of_placement(pair, tmp_path):
    expanded(pair, small(pair), tmp_path / "export")
    hard = dsave.LoadOptions(soft_device_placement=False)
    loaded = dsave.load(tmp_path / "export", pair, hard)
    assert values(pair, loaded) == values(pair, small(pair))
    assert loaded.load_notes == ()


@pytest.mark.parametrize("host", [FIRST, SECOND])
def test_what_one_host_sees_is_loaded_onto_all(pair, private, host):
    model = small(pair)
    device = f"{host}/device:GPU:0"
    save_options = dsave.SaveOptions(experimental_io_device=device)
    dsave.save(model, private, options=save_options, cluster=pair)
    everywhere = {name: list(pair.devices) for name in ("w", "table")}
    for options in (dsave.LoadOptions(experimental_io_device=device), dsave.LoadOptions()):
        loaded = dsave.load(private, pair, options, placement=everywhere)
        assert values(pair, loaded) == values(pair, model)
        for device_name in pair.devices:
            assert pair.read(loaded.w, device_name).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_the_io_device_sees_what_it_sees(pair, private, tmp_path):
    options = dsave.SaveOptions(experimental_io_device=f"{SECOND}/device:CPU:0")
    dsave.save(small(pair), private, options=options, cluster=pair)
    first = dsave.LoadOptions(experimental_io_device=f"{FIRST}/device:CPU:0")
    with pytest.raises(dsave.NotCommittedError):
        dsave.load(private, pair, first)
    with pytest.raises(dsave.NotCommittedError):
        dsave.load(private, pair, dsave.LoadOptions(experimental_io_device="/job:localhost"))
    with pytest.raises(dsave.DeviceError):
        dsave.load(private, pair, dsave.LoadOptions(experimental_io_device="/job:ps"))


def test_a_host_local_directory_is_loaded_from_all_its_hosts(pair, private):
    model = small(pair)
    assert dsave.save(model, private, cluster=pair).layout == "host-local"
    placement = {"w": pair.devices, "table": list(pair.devices)[::-1]}
    loaded = dsave.load(private, pair, placement=placement)
    assert values(pair, loaded) == values(pair, model)


def test_a_data_file_that_no_host_has_is_named(pair, private):
    dsave.save(small(pair), private, cluster=pair)
    (own, _) = data_files(pair.real_path(private, host=SECOND))
    own.unlink()
    with pytest.raises(dsave.CorruptionError, match="no host") as raised:
        dsave.load(private, pair)
    assert raised.value.file == f"{private}/variables/{own.name}"


def test_a_data_file_is_taken_from_the_host_that_has_all_of_it(pair, private):
    model = small(pair)
    dsave.save(model, private, cluster=pair)
    own = data_files(pair.real_path(private, host=SECOND))[0]
    first = Path(pair.real_path(private, host=FIRST), "variables", own.name)
    shutil.copy(own, first)
    os.truncate(own, 1)
    assert values(pair, dsave.load(private, pair)) == values(pair, model)


def test_hosts_that_see_different_saves_are_told_apart(pair, private):
    dsave.save(small(pair), private, cluster=pair)
    options = dsave.SaveOptions(experimental_io_device=f"{FIRST}/device:CPU:0")
    dsave.save(small(pair), private, options=options, cluster=pair)
    with pytest.raises(dsave.DirectoryError, match="another save") as raised:
        dsave.load(private, pair)
    assert raised.value.host == SECOND
    only = dsave.LoadOptions(experimental_io_device=f"{FIRST}/device:CPU:0")
    assert values(pair, dsave.load(private, pair, only)) == values(pair, small(pair))


def test_hosts_look_again_while_a_save_comes_to_their_disks(pair, private, monkeypatch):
    dsave.save(small(pair), private, cluster=pair)
    options = dsave.SaveOptions(experimental_io_device=f"{FIRST}/device:CPU:0")
    dsave.save(small(pair), private, options=options, cluster=pair)
    look = LoadHosts.look

    def moved(self, readers):
        monkeypatch.undo()
        dsave.save(small(pair, scale=3.0), private, cluster=pair)
        return look(self, readers)

    monkeypatch.setattr(LoadHosts, "look", moved)
    assert values(pair, dsave.load(private, pair)) == values(pair, small(pair, scale=3.0))


def test_hosts_look_again_while_a_first_save_comes_to_their_disks(pair, private, monkeypatch):
    dsave.save(small(pair), private, cluster=pair)
    second = Path(pair.real_path(private, host=SECOND))
    second.rename(second.with_name("aside"))
    look = LoadHosts.look

    def moved(self, readers):
        monkeypatch.undo()
        second.with_name("aside").rename(second)
        return look(self, readers)

    monkeypatch.setattr(LoadHosts, "look", moved)
    assert values(pair, dsave.load(private, pair)) == values(pair, small(pair))


@pytest.mark.parametrize("verb", ["metadata", "stage", "adopt"])
def test_a_save_that_takes_the_directory_meanwhile_changes_nothing(
    pair, private, monkeypatch, verb
):
    """An old bug: variables of one save came with functions of another."""
    dsave.save(small(pair), private, cluster=pair)
    original = getattr(LoadHosts, verb)

    def replaced(*args, **kwargs):
        monkeypatch.undo()
        dsave.save(small(pair, scale=3.0), private, cluster=pair)
        return original(*args, **kwargs)

    monkeypatch.setattr(LoadHosts, verb, replaced)
    assert values(pair, dsave.load(private, pair)) == values(pair, small(pair))


def test_in_an_object_store_functions_and_values_are_of_one_save(pair, monkeypatch):
    url = "memory://looks/export"
    options = dsave.SaveOptions(experimental_io_device="/job:localhost")
    model, other = small(pair), small(pair, scale=3.0)
    model.f = dsave.function(lambda: np.float32(1.0), input_signature=[])
    other.f = dsave.function(lambda: np.float32(3.0), input_signature=[])
    dsave.save(model, url, options=options, cluster=pair)

    def replaced(source, file):
        data = read_whole(source, file)
        if file.endswith("/saved_model.pb"):
            monkeypatch.undo()
            dsave.save(other, url, options=options, cluster=pair)
        return data

    monkeypatch.setattr("dsave.runtime.host_load.read_whole", replaced)
    loaded = dsave.load(url, pair, dsave.LoadOptions(experimental_io_device="/job:localhost"))
    assert values(pair, loaded) == values(pair, other)
    assert loaded.f() == 3.0


def test_what_is_no_file_does_not_keep_hosts_waiting(pair, tmp_path):
    """An old bug: a pipe in a directory kept a thread of each host for ever."""
    dsave.save(small(pair), tmp_path / "export", cluster=pair)
    index = tmp_path / "export" / "variables" / "variables.index"
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(dsave.CorruptionError, match="it is no regular file") as raised:
        dsave.load(tmp_path / "export", pair, stall_timeout_s=20.0)
    assert raised.value.file == str(index)


def test_a_directory_without_a_save_is_refused(pair, tmp_path, private):
    for directory in (str(tmp_path / "none"), private, str(tmp_path)):
        with pytest.raises(dsave.NotCommittedError) as raised:
            dsave.load(directory, pair)
        assert raised.value.directory == directory


def test_what_hosts_see_instead_is_said(pair, tmp_path):
    dsave.save(small(pair), tmp_path / "export", cluster=pair)
    with pytest.raises(dsave.NotCommittedError) as raised:
        dsave.load(tmp_path / "export" / "variables", pair)
    assert raised.value.problem == (
        f"it is a part of a SavedModel; its directory is {tmp_path}/export"
    )


def test_of_a_path_that_each_host_has_to_itself_that_is_said(pair, private, tmp_path):
    with pytest.raises(dsave.NotCommittedError) as raised:
        dsave.load(private, pair)
    root = Path(pair.real_path("/dsave-private", FIRST)).parents[1]
    assert raised.value.problem.startswith(
        "it does not exist; each host has its own /dsave-private (local_paths in the cluster's "
        f"config), below {root}; "
    )
    assert "local_root" in raised.value.problem
    assert "experimental_io_device='/job:localhost'" in raised.value.problem
    for path, options in ((tmp_path, None), (private, "/job:localhost")):
        with pytest.raises(dsave.NotCommittedError) as raised:
            dsave.load(path, pair, dsave.LoadOptions(experimental_io_device=options))
        assert "local_paths" not in raised.value.problem


def test_what_is_in_the_memory_of_one_process_is_read_by_that_alone(pair, tmp_path):
    url = f"memory://{tmp_path.name}/export"
    model, local = small(pair), "/job:localhost"
    options = dsave.SaveOptions(experimental_io_device=local)
    dsave.save(model, url, options=options, cluster=pair)
    with pytest.raises(dsave.OptionError, match="directory: 'memory://"):
        dsave.load(url, pair)
    loaded = dsave.load(url, pair, dsave.LoadOptions(experimental_io_device=local))
    assert values(pair, loaded) == values(pair, model)


def flip(directory, value):
    """Change one bit of these stored bytes."""
    for file in data_files(directory):
        content = bytearray(file.read_bytes())
        if value in content:
            content[content.index(value)] ^= 1
            file.write_bytes(content)
            return str(file)
    raise AssertionError("no data file has these bytes")


@pytest.mark.parametrize("io", [None, f"{SECOND}/device:CPU:0", "/job:localhost"])
@pytest.mark.parametrize("variable", ["w", "table"])
def test_a_bit_that_changed_is_found_and_nothing_is_loaded(pair, tmp_path, variable, io):
    dsave.save(small(pair), tmp_path / "export", cluster=pair)
    into = small(pair, scale=-1.0)
    before = values(pair, into)
    damaged = {"w": np.float64(3.0).tobytes(), "table": np.float32(16.0).tobytes()}[variable]
    flip(tmp_path / "export", damaged)
    options = dsave.LoadOptions(experimental_io_device=io)
    with pytest.raises(dsave.CorruptionError, match="checksum") as raised:
        dsave.load(tmp_path / "export", pair, options, into=into)
    assert raised.value.entry == f"{variable}/.ATTRIBUTES/VARIABLE_VALUE"
    assert values(pair, into) == before


@pytest.mark.parametrize("parts", [1, 3, 4, 6])
def test_a_bit_that_changed_is_found_though_each_host_reads_a_part(pair, tmp_path, parts):
    dsave.save(small(pair), tmp_path / "export", cluster=pair)
    flip(tmp_path / "export", np.float32(16.0).tobytes())
    with pytest.raises(dsave.CorruptionError, match="checksum"):
        dsave.load(tmp_path / "export", pair, placement={"table": pair.devices[:parts]})


def test_a_host_that_dies_is_named_and_the_others_keep_their_values(
    doomed, tmp_path, monkeypatch
):
    cluster = doomed.cluster
    dsave.save(small(cluster), tmp_path / "export", cluster=cluster)
    into = small(cluster, scale=-1.0)
    stage = LoadHosts.stage

    def killing(self, *args):
        os.kill(doomed.pids[SECOND], signal.SIGKILL)
        stage(self, *args)

    monkeypatch.setattr(LoadHosts, "stage", killing)
    with pytest.raises(dsave.HostLostError) as raised:
        dsave.load(tmp_path / "export", cluster, into=into)
    assert raised.value.host == SECOND
    kept = cluster.read(into.w, device=f"{FIRST}/device:CPU:0")
    assert kept.tolist() == [0.0, -1.0, -2.0, -3.0]


def test_a_host_that_dies_last_of_all_leaves_the_others_what_they_had(
    doomed, tmp_path, monkeypatch
):
    cluster = doomed.cluster
    dsave.save(small(cluster), tmp_path / "export", cluster=cluster)
    into = small(cluster, scale=-1.0)
    submit, seen = cluster.inner.submit, []

    def killing(host, phase, method, *args, **kwargs):
        if (host, method) == (SECOND, "adopt"):
            os.kill(doomed.pids[SECOND], signal.SIGKILL)
            there = submit(FIRST, phase, "fetch", into.w.components[0].key).result(30)
            seen.append(there.tolist())
        return submit(host, phase, method, *args, **kwargs)

    monkeypatch.setattr(cluster.inner, "submit", killing)
    with pytest.raises(dsave.HostLostError, match=SECOND):
        dsave.load(tmp_path / "export", cluster, into=into)
    assert seen == [[0.0, 1.0, 2.0, 3.0]]
    kept = cluster.read(into.w, device=f"{FIRST}/device:CPU:0")
    assert kept.tolist() == [0.0, -1.0, -2.0, -3.0]


def test_a_host_that_falls_silent_is_named(doomed, tmp_path, monkeypatch):
    cluster = doomed.cluster
    dsave.save(small(cluster), tmp_path / "export", cluster=cluster)
    into = small(cluster, scale=-1.0)
    before = values(cluster, into)
    stage = LoadHosts._stage

    def stopping(self, *args):
        os.kill(doomed.pids[SECOND], signal.SIGSTOP)
        stage(self, *args)

    monkeypatch.setattr(LoadHosts, "_stage", stopping)
    monkeypatch.setattr("dsave.runtime.load_hosts._FAREWELL_S", 0.2)
    try:
        with pytest.raises(dsave.StalledError) as raised:
            dsave.load(tmp_path / "export", cluster, into=into, stall_timeout_s=1.2)
    finally:
        os.kill(doomed.pids[SECOND], signal.SIGCONT)
    assert raised.value.host == SECOND
    assert raised.value.problem == "no byte in 1.2 s; stall_timeout_s sets the deadline"
    assert values(cluster, into) == before


def test_a_host_is_asked_often_before_a_short_deadline(doomed, tmp_path, monkeypatch):
    """An old bug: a deadline of less than a second was over before anybody was asked."""
    cluster, watched = doomed.cluster, []
    into = small(cluster, scale=-1.0)
    dsave.save(into, tmp_path / "export", cluster=cluster)
    stage, watch = LoadHosts._stage, LoadHosts._watch

    def stopping(self, *args):
        os.kill(doomed.pids[SECOND], signal.SIGSTOP)
        stage(self, *args)

    def watching(self, *args):
        watched.append(args)
        watch(self, *args)

    monkeypatch.setattr(LoadHosts, "_stage", stopping)
    monkeypatch.setattr(LoadHosts, "_watch", watching)
    monkeypatch.setattr("dsave.runtime.load_hosts._FAREWELL_S", 0.2)
    try:
        with pytest.raises(dsave.StalledError):
            dsave.load(tmp_path / "export", cluster, into=into, stall_timeout_s=0.8)
    finally:
        os.kill(doomed.pids[SECOND], signal.SIGCONT)
    assert len(watched) >= 5


def test_values_go_into_a_model_by_names(pair, gpus, tmp_path):
    model = small(pair)
    model.layers = [{"b": model.w}, pair.variable(b"text", "s")]
    model.n = pair.sync_on_read_variable(0, "n", aggregation="sum", devices=gpus[:2])
    pair.assign(model.n, 7, device=gpus[0])
    dsave.save(model, tmp_path / "export", cluster=pair)

    into = small(pair, scale=0.0, devices=gpus[1:])
    into.layers = [{"b": into.w}, pair.variable(b"", "another name")]
    into.n = pair.sync_on_read_variable(100, "n", aggregation="sum", devices=gpus[:3])
    into.text = "not a variable"
    assert dsave.load(tmp_path / "export", into=into, cluster=pair) is into
    assert values(pair, into) == values(pair, model)
    assert [pair.read(into.w, gpu).tolist() for gpu in gpus[1:]] == [[0.0, 1.0, 2.0, 3.0]] * 3
    assert pair.read(into.layers[1]) == b"text"
    assert [pair.read(into.n, gpu).item() for gpu in gpus[:3]] == [3, 2, 2]


def test_a_path_that_is_not_the_first_one_will_do(pair, tmp_path):
    model = dsave.Module()
    model.a = pair.variable(1.0, "v")
    model.b = [model.a]
    dsave.save(model, tmp_path / "export", cluster=pair)
    into = dsave.Module()
    into.b = [pair.variable(0.0, "v")]
    dsave.load(tmp_path / "export", pair, into=into)
    assert pair.read(into.b[0]) == 1.0


@pytest.mark.parametrize(
    ("initial", "dtype", "named"),
    [([0.0, 0.0], "float32", r"\(2,\)"), (0.0, "float64", "float64"), (0, "int32", "int32")],
)
@pytest.mark.parametrize("options", [None, PARTIAL])
def test_another_shape_or_dtype_is_refused(pair, tmp_path, initial, dtype, named, options):
    model, into = dsave.Module(), dsave.Module()
    model.v, into.v = pair.variable(1.0, "v"), pair.variable(initial, "mine", dtype=dtype)
    dsave.save(model, tmp_path / "export", cluster=pair)
    with pytest.raises(dsave.ModelError, match=named) as raised:
        dsave.load(tmp_path / "export", pair, options, into=into)
    assert raised.value.name == "mine"
    assert pair.read(into.v).dtype == dtype


def test_variables_that_only_one_has_are_refused_or_left_alone(pair, tmp_path):
    model = dsave.Module()
    model.both, model.saved = pair.variable(1.0, "both"), [pair.variable(2.0, "s")]
    dsave.save(model, tmp_path / "export", cluster=pair)
    into = dsave.Module()
    into.both = pair.variable(0.0, "both")
    with pytest.raises(dsave.ModelError, match=r"'saved/0'.*allow_partial_checkpoint"):
        dsave.load(tmp_path / "export", pair, into=into)
    into.saved, into.mine = [pair.variable(0.0)], pair.variable(9.0)
    with pytest.raises(dsave.ModelError, match=r"'mine'.*allow_partial_checkpoint"):
        dsave.load(tmp_path / "export", pair, into=into)
    assert pair.read(into.both) == 0.0
    del into.saved
    dsave.load(tmp_path / "export", pair, PARTIAL, into=into)
    assert (pair.read(into.both), pair.read(into.mine)) == (1.0, 9.0)


def test_a_model_of_another_cluster_is_refused(pair, start, tmp_path):
    model = small(pair)
    dsave.save(model, tmp_path / "export", cluster=pair)
    with start(tasks=3) as other:
        into = small(other, scale=-1.0)
        before = values(other, into)
        with pytest.raises(dsave.ModelError, match="another cluster"):
            dsave.load(tmp_path / "export", pair, into=into)
        assert other.read(into.w).tolist() == before[0]
    assert values(pair, model) == values(pair, small(pair))


@pytest.mark.parametrize(
    ("shared", "named"), [("model", "saved is one"), ("into", "saved are two")]
)
def test_one_variable_cannot_be_two(pair, tmp_path, shared, named):
    model, into = dsave.Module(), dsave.Module()
    for module in (model, into):
        module.a = pair.variable(1.0, "a")
        module.b = pair.variable(2.0, "b")
    module = model if shared == "model" else into
    module.b = module.a
    dsave.save(model, tmp_path / "export", cluster=pair)
    with pytest.raises(dsave.ModelError, match=named):
        dsave.load(tmp_path / "export", pair, PARTIAL, into=into)


def test_the_active_cluster_takes_what_goes_into_a_model(doomed, tmp_path):
    model = small(doomed.cluster)
    dsave.save(model, tmp_path / "export")
    into = small(doomed.cluster, scale=-1.0)
    dsave.load(tmp_path / "export", into=into)
    assert values(doomed.cluster, into) == values(doomed.cluster, model)


def test_loads_leave_nothing_behind_on_hosts(pair, tmp_path):
    dsave.save(small(pair), tmp_path / "export", cluster=pair)
    flip(tmp_path / "export", np.float32(16.0).tobytes())
    with pytest.raises(dsave.CorruptionError):
        dsave.load(tmp_path / "export", pair)
    assert pair.run(lambda host: len(host._loads)) == {FIRST: 0, SECOND: 0}
