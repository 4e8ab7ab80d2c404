"""One host, as a plain object: what it holds, where its paths lie, and its part in a save.

- a replica is read and replaced by its device; what is not here is named with where it is
- arrays are never changed in place: neither by who gave them nor by who got them
- a value of another shape or dtype is refused, and changes nothing
- a path is looked up in the host's own copies of the filesystem, `..` and slashes included
- a save takes a snapshot; a save that ended before it began here is refused
"""

import math
import pickle

import numpy as np
import pytest

from dsave.errors import DeviceError, ModelError, SaveError
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.variable import Component, MirroredVariable, ShardedVariable, Variable
from dsave.runtime.host import Host
from dsave.runtime.save_messages import Ticket

A, B = (f"/job:worker/replica:0/task:{task}" for task in range(2))
FLOAT32 = dtype_of("float32")


def gpu(host, index):
    return f"{host}/device:GPU:{index}"


def component(name, device, box, dtype):
    return Component(name, device, f"{name}@{device}", box, dtype)


def plain(host=A, shape=(2,), dtype="float32"):
    kind = dtype_of(dtype)
    return Variable("x", kind, shape, (component("x", gpu(host, 0), Box.whole(shape), kind),))


def mirrored(*devices):
    return MirroredVariable(
        "m", FLOAT32, (2,), tuple(component("m", d, Box.whole((2,)), FLOAT32) for d in devices)
    )


def sharded():
    boxes = [Box((0, 0), (2, 3)), Box((2, 0), (1, 3))]
    parts = tuple(
        component(f"e{index}", gpu(A, index), box, FLOAT32) for index, box in enumerate(boxes)
    )
    return ShardedVariable("e", FLOAT32, (3, 3), parts)


@pytest.fixture
def host(tmp_path):
    """Host A, whose /tmp and /var/data are its own; it holds what is of it in the variables."""
    mounts = {"/tmp": str(tmp_path / "tmp"), "/var/data": str(tmp_path / "data")}
    host = Host(A, (gpu(A, 0), gpu(A, 1)), mounts, "127.0.0.1")
    for variable in (plain(), mirrored(gpu(A, 0), gpu(A, 1)), sharded()):
        for part in variable.components:
            zeros = np.zeros(part.box.lengths)
            host.store({part.key: (variable.name, FLOAT32, part.box)}, zeros)
    return host


def test_what_was_assigned_is_the_value(host):
    host.assign(plain(), [1, 2])
    assert host.value(plain()).tolist() == [1.0, 2.0]
    assert host.value(plain()).dtype == np.float32


def test_replicas_of_a_host_are_assigned_together_and_share_one_array(host):
    variable = mirrored(gpu(A, 0), gpu(A, 1), gpu(B, 0))
    host.assign(variable, [1, 2])
    assert host.value(variable, gpu(A, 0)) is host.value(variable, gpu(A, 1))


@pytest.mark.parametrize("name", [gpu(A, 1), "/device:GPU:1", "GPU:1", "/gpu:1"])
def test_a_replica_is_found_by_any_name_of_its_device(host, name):
    variable = mirrored(gpu(A, 0), gpu(A, 1))
    host.assign(variable, [1, 2])
    host.assign(variable, [3, 4], device=name)
    assert host.value(variable, name).tolist() == [3, 4]
    assert host.value(variable, gpu(A, 0)).tolist() == [1, 2]
    assert host.value(variable).tolist() == [1, 2]


@pytest.mark.parametrize("device", [gpu(A, 1), gpu(B, 0), "/cpu:0"])
def test_a_device_without_the_variable_is_named_with_those_that_have_it(host, device):
    variable = mirrored(gpu(A, 0), gpu(B, 1))
    host.assign(variable, [1, 2])
    for use in (host.value, lambda v, d: host.assign(v, [0, 0], d)):
        with pytest.raises(DeviceError, match=f"^device '{device}'") as caught:
            use(variable, device)
        assert f"variable 'm' is on {gpu(A, 0)}, {gpu(B, 1)}" in str(caught.value)
    assert host.value(variable).tolist() == [1, 2]


def test_a_variable_of_other_hosts_cannot_be_used_here(host):
    with pytest.raises(DeviceError, match=A):
        host.assign(plain(B), [1, 2])
    with pytest.raises(DeviceError, match=A):
        host.value(plain(B))


@pytest.mark.parametrize("value", [[1, 2, 3], 1.0, [[1, 2]], ["a", "b"], [1 + 2j, 0]])
def test_a_value_that_does_not_fit_is_refused_and_changes_nothing(host, value):
    host.assign(plain(), [1, 2])
    with pytest.raises(ModelError, match=r"^x: "):
        host.assign(plain(), value)
    assert host.value(plain()).tolist() == [1, 2]


def test_a_value_that_fits_only_one_of_two_parts_changes_neither(host):
    variable = sharded()
    host.assign(variable, np.zeros((2, 3)), gpu(A, 0))
    host.assign(variable, np.zeros((1, 3)), gpu(A, 1))
    with pytest.raises(ModelError, match="shape"):
        host.assign(variable, np.ones((2, 3)))
    assert not host.value(variable, gpu(A, 0)).any()


def test_a_later_change_of_what_was_given_changes_nothing(host):
    given = np.zeros(2, np.float32)
    host.assign(plain(), given)
    given += 1
    assert host.value(plain()).tolist() == [0, 0]


def test_what_is_read_cannot_be_written(host):
    host.assign(plain(), [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        host.value(plain())[0] = 5


def test_an_old_value_stays_what_it_was_when_a_new_one_is_assigned(host):
    host.assign(plain(), [1, 2])
    old = host.value(plain())
    host.assign(plain(), [3, 4])
    assert old.tolist() == [1, 2]


def test_each_part_begins_as_what_the_function_makes_of_its_rows(host):
    asked = []

    def make(index):
        asked.append(index)
        return np.arange(9.0).reshape(3, 3)[index]

    variable = sharded()
    keys = {c.key: (variable.name, variable.dtype, c.box) for c in variable.components}
    host.initialize(keys, make)
    assert asked == [(slice(0, 2), slice(0, 3)), (slice(2, 3), slice(0, 3))]
    assert host.value(variable, gpu(A, 1)).tolist() == [[6, 7, 8]]


def test_replicas_begin_as_one_array_that_is_made_once(host):
    calls = []
    variable = mirrored(gpu(A, 0), gpu(A, 1))
    keys = {c.key: ("m", FLOAT32, c.box) for c in variable.components}
    host.initialize(keys, lambda index: calls.append(index) or np.ones(2))
    assert len(calls) == 1
    assert host.value(variable, gpu(A, 0)) is host.value(variable, gpu(A, 1))


@pytest.mark.parametrize(
    ("dtype", "values", "other"),
    [
        ("float32", [1.0, 2.0], [1.0, 2.5]),
        ("string", ["a", "bc"], ["ab", "c"]),
        ("bfloat16", [1.0, 2.0], [2.0, 1.0]),
    ],
)
def test_equal_beginnings_have_equal_checksums(host, dtype, values, other):
    keys = {"key": ("x", dtype_of(dtype), Box.whole((2,)))}
    first = host.initialize(keys, lambda _: values)
    assert host.initialize(keys, lambda _: values) == first
    assert host.initialize(keys, lambda _: other) != first


def test_a_beginning_that_does_not_fit_is_refused(host):
    keys = {"key": ("x", FLOAT32, Box.whole((2,)))}
    with pytest.raises(ModelError, match=r"^x: an array of shape \(2,\) is wanted, got \(3,\)"):
        host.initialize(keys, lambda _: np.ones(3))


def test_what_is_forgotten_is_gone_and_may_be_forgotten_again(host):
    host.assign(plain(), [1, 2])
    key = plain().components[0].key
    host.forget([key, "never there"])
    host.forget([key])
    with pytest.raises(KeyError):
        host.fetch(key)


def test_a_step_gets_the_host_and_its_arguments(host):
    assert host.call(lambda h, a, b: (h.name, h.devices, a + b), (1, 2)) == (
        A,
        (gpu(A, 0), gpu(A, 1)),
        3,
    )


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/tmp/export", "tmp/export"),
        ("/tmp", "tmp"),
        ("/tmp/", "tmp"),
        ("//tmp/export", "tmp/export"),
        ("/tmp//a/./b", "tmp/a/b"),
        ("/tmp/a/../b", "tmp/b"),
        ("/var/../tmp/b", "tmp/b"),
        ("/tmp/../tmp/b", "tmp/b"),
        ("/var/data/x", "data/x"),
    ],
)
def test_a_path_of_the_hosts_own_lies_in_its_copy(host, tmp_path, path, below):
    assert host.real_path(path) == str(tmp_path / below)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tmpx/export",
        "/var/export",
        "/tmp/../etc",
        "/var/data/../other",
        "s3://tmp/export",
        "memory:///tmp/x",
        "tmp/x",
    ],
)
def test_any_other_path_is_what_it_is(host, path):
    assert host.real_path(path) == path


def ticket(directory, epoch="1-a"):
    return Ticket(epoch, str(directory), durable=True, stall_timeout_s=5.0)


def test_a_save_goes_to_the_hosts_own_copy_of_the_directory(host, tmp_path):
    host.assign(plain(), [1, 2])
    found = host.begin_save(
        ticket("/tmp/export"), {plain().components[0].key: "x"}, stores=True
    )
    assert found.free_nbytes > 0
    assert (tmp_path / "tmp" / ".export.dsave-1-a").is_dir()
    host.in_save("1-a", "discard", math.inf, ())
    host.in_save("1-a", "end")
    assert not (tmp_path / "tmp").exists()


def test_a_host_that_does_not_write_touches_no_disk(host, tmp_path):
    host.assign(plain(dtype="string"), ["a", "bc"])
    key = plain().components[0].key
    found = host.begin_save(ticket("/tmp/export"), {key: "x"}, stores=False)
    assert found.free_nbytes is None
    assert list(found.string_nbytes) == [key]
    assert not (tmp_path / "tmp").exists()
    host.in_save("1-a", "discard", math.inf, ())
    host.in_save("1-a", "end")


def test_a_variable_that_is_not_here_is_named(host):
    with pytest.raises(ModelError, match=f"^x: {A} does not hold it"):
        host.begin_save(ticket("/tmp/export"), {"missing": "x"}, stores=True)


def test_a_snapshot_keeps_what_was_there_when_it_was_taken(host, tmp_path):
    host.assign(plain(), [1, 2])
    key = plain().components[0].key
    host.begin_save(ticket("/tmp/export"), {key: "x"}, stores=False)
    endpoint = host.in_save("1-a", "serve")
    host.assign(plain(), [3, 4])
    host.forget([key])
    assert stream(endpoint, key, 8) == np.array([1, 2], "<f4").tobytes()
    host.in_save("1-a", "end")


def stream(endpoint, key, nbytes):
    from dsave.runtime.stream import Reader

    buffer = bytearray(nbytes)
    reader = Reader(A, endpoint, [(key, None)], 5.0)
    reader.receive_into(memoryview(buffer))
    reader.close()
    return bytes(buffer)


def test_a_save_that_ended_holds_nothing(host):
    host.begin_save(ticket("/tmp/export"), {}, stores=False)
    host.in_save("1-a", "end")
    with pytest.raises(SaveError, match="it has not begun here"):
        host.in_save("1-a", "progress")


def test_a_save_that_was_given_up_before_it_began_is_refused(host, tmp_path):
    with pytest.raises(SaveError, match="it has not begun here"):
        host.in_save("1-a", "end")
    with pytest.raises(SaveError, match="the save was given up"):
        host.begin_save(ticket("/tmp/export"), {}, stores=True)
    assert not (tmp_path / "tmp").exists()
    host.begin_save(ticket("/tmp/export", "2-b"), {}, stores=False)
    host.in_save("2-b", "end")


def test_what_a_host_answers_can_be_sent(host):
    host.begin_save(ticket("/tmp/export"), {}, stores=False)
    for answer in (host.in_save("1-a", "progress"), host.in_save("1-a", "end")):
        assert pickle.loads(pickle.dumps(answer)) == answer
