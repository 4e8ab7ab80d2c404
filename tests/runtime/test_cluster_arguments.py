"""What a cluster takes as a device, a shape, a host, a path or a value, and what it refuses.

- a DeviceSpec is as good as its name; a path of pathlib as good as a str
- a shape, a name, a host, a variable that cannot be is refused by name
- a step runs on all hosts or on none; hosts may be named in part
- a step that only begins when it is called is refused
- where a host's path lies is known of a closed cluster too
- an array of Python's own keeps its dtype
- a host that does not answer in time is named, with the setting to change
"""

import array
import functools
import threading
from pathlib import Path

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray

FIRST, SECOND = (f"/job:worker/replica:0/task:{task}" for task in (0, 1))


def test_a_device_spec_is_as_good_as_its_name(pair, gpus):
    spec = dsave.DeviceSpec.from_string(gpus[1])
    with pair.device(spec):
        assert pair.variable(1.0).device == gpus[1]
    variable = pair.mirrored_variable(1.0, devices=[spec, gpus[2]])
    assert [c.device for c in variable.components] == gpus[1:3]
    assert pair.read(variable, spec) == 1.0


@pytest.mark.parametrize("device", [3, b"GPU:0", None])
def test_what_is_no_device_is_refused(pair, device):
    with pytest.raises(dsave.DeviceError):
        pair.mirrored_variable(1.0, devices=[device, device])


def test_a_shape_that_is_none_is_refused(pair):
    with pytest.raises(
        dsave.ModelError, match="w: its shape is a list or tuple of ints, got 3"
    ):
        pair.variable(np.zeros, "w", shape=3, dtype="float32")


def test_a_name_that_no_file_can_hold_is_refused(pair):
    with pytest.raises(dsave.ModelError, match="UTF-8"):
        pair.variable(1.0, "\ud800")


def test_a_step_runs_on_all_hosts_that_were_named_or_on_none(pair):
    ran = pair.sync_on_read_variable(0, aggregation="sum")
    step = lambda host: host.assign(ran, 1)  # noqa: E731
    with pytest.raises(dsave.DeviceError, match="task:7"):
        pair.run(step, hosts=[FIRST, "/job:worker/replica:0/task:7"])
    with pytest.raises(dsave.DeviceError, match="a list of hosts"):
        pair.run(step, hosts=FIRST)
    assert pair.read(ran) == 0


@pytest.mark.parametrize("given", ["w", 1.0, dsave.Module()])
def test_what_is_no_variable_is_refused(pair, given):
    for use in (
        pair.read,
        lambda it: pair.assign(it, 1.0),
        lambda it: pair.run(lambda host: host.value(it)),
        lambda it: pair.run(lambda host: host.assign(it, 1.0)),
    ):
        with pytest.raises(dsave.OptionTypeError, match="a variable is wanted, got"):
            use(given)


def test_a_part_of_a_variable_is_read_and_not_assigned(pair):
    part = pair.variable(1.0).components[0]
    assert pair.read(part) == 1.0
    with pytest.raises(dsave.OptionTypeError, match="got <Component"):
        pair.assign(part, 2.0)


def test_hosts_may_be_named_in_part(pair, private):
    named = pair.run(lambda host: host.name, hosts=["/job:worker/task:1", "/task:1"])
    assert named == {SECOND: SECOND}
    assert pair.real_path(private, "/task:1") == pair.real_path(private, SECOND)


def generates(_host):
    yield 1


async def awaits(_host):
    pass


async def both(_host):
    yield 1


@pytest.mark.parametrize(
    "step", [generates, awaits, both, functools.partial(generates), "step"]
)
def test_a_step_that_only_begins_when_it_is_called_is_refused(pair, step):
    with pytest.raises(dsave.OptionTypeError, match="step: a plain function is wanted"):
        pair.run(step)


def test_where_a_path_lies_is_known_of_a_closed_cluster_too(start, private):
    with start() as cluster:
        asked = cluster.run(lambda host: host.real_path(private))
    assert {host: cluster.real_path(private, host) for host in cluster.hosts} == asked
    assert asked[FIRST] != asked[SECOND]
    assert cluster.real_path("/elsewhere", FIRST) == "/elsewhere"


def test_a_path_of_pathlib_is_as_good_as_a_str(pair, private):
    assert pair.real_path(Path(private), FIRST) == pair.real_path(private, FIRST)


@pytest.mark.parametrize("code", ["d", "f", "q", "B"])
def test_an_array_of_pythons_own_keeps_its_dtype(pair, code):
    values = array.array(code, [1, 2, 3])
    variable = pair.variable(values)
    assert variable.dtype.numpy == np.asarray(values).dtype
    assert pair.read(variable).tolist() == [1, 2, 3]


def test_rows_of_a_table_do_not_go_into_the_object_store_as_a_whole_too(pair, monkeypatch):
    shared = []
    monkeypatch.setattr(
        pair.inner.values, "_shared", lambda value: shared.append(value) or value
    )
    table = np.arange(6.0).reshape(3, 2)
    assert pair.read(pair.sharded_variable(table)).tolist() == table.tolist()
    assert not shared
    pair.mirrored_variable(table)
    assert len(shared) == 1


def reads_again_and_again(cluster, variable):
    while True:
        cluster.read(variable)


@pytest.mark.usefixtures("_ray")
def test_a_host_that_does_not_answer_in_time_is_named_with_the_setting(tmp_path):
    config = {"hosts": [{"job": "worker"}], "timeout_s": 0.3}
    release = tmp_path / "release"
    with dsave.Cluster.start(config) as cluster:
        variable = cluster.variable(1.0)

        def wait(_host, path):
            import os
            import time

            while not os.path.exists(path):  # noqa: PTH110
                time.sleep(0.01)

        stepping = threading.Thread(target=cluster.run, args=(wait, str(release)))
        stepping.start()
        with pytest.raises(dsave.StalledError) as raised:  # once the step has begun
            reads_again_and_again(cluster, variable)
        release.touch()
        stepping.join()
    assert raised.value.host == FIRST
    assert str(raised.value).endswith(
        "no answer in 0.3 s; a step that it runs comes first, and timeout_s in the cluster's "
        "config sets the deadline"
    )
