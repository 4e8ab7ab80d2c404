"""What cannot be saved is refused, by name, before anything is written.

Claims: each wrong option, model, variable or directory raises the error that says so, which
is also the ordinary Python error for it, and whose text names what is wrong; the directory,
a SavedModel that other saves left there, stays as it was, to the byte and the second, and
nothing comes to be beside it. Source: design, "Bad input".
"""

import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import dsave
from dsave.plan.save_plan import plan_shards

pytestmark = pytest.mark.ray

AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root mounts filesystems")


@pytest.fixture
def model(pair):
    model = dsave.Module()
    model.v = pair.mirrored_variable([1.0, 2.0], name="v")
    return model


@pytest.fixture
def directory(pair, model, tmp_path):
    dsave.save(model, tmp_path / "parent" / "export", cluster=pair)
    return tmp_path / "parent" / "export"


@pytest.fixture
def refused(pair, model, directory, see):
    """Saves to the directory, and expects an error that names something."""

    def save(what, target, cluster, stall_timeout_s=60.0, **options):
        options = dsave.SaveOptions(**options)  # which may be what is wrong
        dsave.save(
            what, target, options=options, cluster=cluster, stall_timeout_s=stall_timeout_s
        )

    def expect(error, base, named, *, target=directory, what=model, cluster=pair, **given):
        assert issubclass(error, base)
        with see.untouched(directory), pytest.raises(error) as raised:
            save(what, target, cluster, **given)
        assert named in str(raised.value)
        assert "\n" not in str(raised.value)

    return expect


@pytest.mark.parametrize(
    "device",
    [
        "/job:ps/replica:0/task:0/device:CPU:0",
        "/job:worker/task:2",
        "/job:worker/replica:1/task:0/device:CPU:0",
        "/job:worker/task:0/device:GPU:7",
        "/job:worker/task:0/device:TPU:0",
        "/device:CPU:0",
        "/job:worker",
        "",
        "/job:localhost/device:GPU:0",
        "/job:localhost/task:1",
        "/job:worker/banana:3",
        "/job:worker/task:x",
        "/job:worker/task:0/device:CPU",
        "/job:worker/task:0/CPU:0/GPU:0",
    ],
)
def test_io_devices_that_name_no_single_host(refused, device):
    refused(dsave.DeviceError, ValueError, repr(device), experimental_io_device=device)


@pytest.mark.parametrize("device", [5, ["/job:worker/task:0"], b"/job:worker/task:0"])
def test_io_devices_that_are_no_strings(refused, device):
    refused(dsave.OptionTypeError, TypeError, repr(device), experimental_io_device=device)


@pytest.mark.parametrize("policy", ["expand", 3, "SAVE VARIABLE DEVICES"])
def test_unknown_policies(refused, policy):
    refused(dsave.OptionError, ValueError, repr(policy), experimental_variable_policy=policy)


@pytest.mark.parametrize(
    ("namespaces", "error", "base"),
    [
        ([7], dsave.OptionError, ValueError),
        (["Test", None], dsave.OptionError, ValueError),
        ("Test", dsave.OptionTypeError, TypeError),
    ],
)
def test_namespaces_that_are_no_strings(refused, namespaces, error, base):
    refused(error, base, "namespace_whitelist", namespace_whitelist=namespaces)


def test_an_alias_for_something_that_is_no_function(refused):
    aliases = {"my_alias": 3}
    refused(dsave.OptionTypeError, TypeError, "my_alias", function_aliases=aliases)


def test_options_that_are_none_of_ours(pair, model, directory, see):
    with see.untouched(directory), pytest.raises(dsave.OptionTypeError, match="options"):
        dsave.save(model, directory, options={"experimental_io_device": None}, cluster=pair)


@pytest.mark.parametrize("deadline", [0, -1.0, math.nan, math.inf])
def test_deadlines_that_never_come_or_have_passed(refused, deadline):
    refused(dsave.OptionError, ValueError, "stall_timeout_s", stall_timeout_s=deadline)


@pytest.mark.parametrize("what", [[1, 2], {"v": 3}, 5.0, object()])
def test_models_that_are_no_modules(refused, what):
    refused(dsave.OptionTypeError, TypeError, type(what).__name__, what=what)


def test_variables_that_were_loaded_without_a_cluster(refused, directory):
    whole, part = dsave.load(directory), dsave.Module()
    part.encoders = [dsave.load(directory)]
    for what in (whole, part):
        refused(dsave.ModelError, ValueError, "dsave.load(directory, cluster)", what=what)


def test_a_model_with_an_attribute_named_signatures(refused, model):
    model.signatures = {}
    refused(dsave.ModelError, ValueError, "signatures")


def test_a_dict_with_a_key_that_is_no_string(refused, model):
    model.inner = {"deep": {4: model.v}}
    refused(dsave.ModelError, ValueError, "inner/deep")


def test_two_variables_under_one_key(pair, model):
    other = pair.variable(3.0, name="other")
    twice = [("k/.ATTRIBUTES/VARIABLE_VALUE", variable) for variable in (model.v, other)]
    with pytest.raises(dsave.ModelError, match=r"k/.ATTRIBUTES/VARIABLE_VALUE.*'v'.*'other'"):
        plan_shards(twice, pair.hosts, None, {})


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("device", ["/job:worker/task:0/CPU:0", "/job:worker/task:1/CPU:0"])
def test_a_variable_of_another_cluster(refused, start, model, closed, device):
    with start() as other:
        with other.device(device):
            model.stranger = other.variable(1.0, name="stranger")
        if not closed:
            refused(dsave.ModelError, ValueError, "stranger")
    if closed:
        refused(dsave.ModelError, ValueError, "stranger")


def test_a_cluster_that_is_closed_or_has_fewer_hosts(refused, start, model):
    with start(tasks=1) as other:
        own = dsave.Module()
        own.v = other.variable(1.0)
        refused(dsave.ModelError, ValueError, "v: it is of another cluster", cluster=other)
    refused(dsave.ClusterError, RuntimeError, "closed", what=own, cluster=other)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((2, -1), "-1"),
        ((None, 2), "None"),
        ((math.nan,), "nan"),
        ((1 << 40, 1 << 40), "larger"),
    ],
)
def test_sizes_that_no_tensor_has(pair, shape, named):
    with pytest.raises(dsave.ModelError, match=rf"odd.*{named}") as raised:
        pair.variable(lambda _: np.zeros(1), name="odd", shape=shape, dtype="float32")
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    "dtype", ["datetime64[s]", "float128", [("a", "f4"), ("b", "f4")], "f3"]
)
def test_dtypes_that_no_tensor_has(pair, dtype):
    with pytest.raises(dsave.DtypeError) as raised:
        pair.variable(0, name="odd", dtype=dtype)
    assert isinstance(raised.value, TypeError)
    assert str(raised.value.dtype) in str(raised.value)


@pytest.mark.parametrize("io_device", [None, "/job:localhost", "/job:worker/task:1"])
def test_a_directory_that_is_a_file(refused, directory, io_device):
    file = directory / "saved_model.pb"
    refused(
        dsave.DirectoryError, OSError, str(file), target=file, experimental_io_device=io_device
    )
    below = file / "export"
    refused(
        dsave.DirectoryError,
        OSError,
        str(below),
        target=below,
        experimental_io_device=io_device,
    )


@pytest.mark.parametrize("io_device", [None, "/job:worker/task:1"])
def test_the_memory_of_a_hosts_process(refused, io_device):
    refused(
        dsave.OptionError,
        ValueError,
        "experimental_io_device='/job:localhost'",
        target="memory://bucket/export",
        experimental_io_device=io_device,
    )


def test_a_directory_of_other_things(refused, directory):
    other = directory / "variables"
    refused(dsave.DirectoryError, OSError, "variables.index", target=other)


def test_a_directory_without_a_name(refused):
    refused(dsave.OptionError, ValueError, "directory", target="")


@pytest.mark.parametrize("target", [None, b"/tmp/export", 3])
def test_a_directory_that_is_no_path(refused, target):
    refused(dsave.OptionTypeError, TypeError, "directory", target=target)


def test_a_cluster_that_is_none(refused):
    refused(dsave.OptionTypeError, TypeError, "cluster", cluster="local.yaml")


def test_a_deadline_that_is_no_number(refused):
    refused(dsave.OptionTypeError, TypeError, "stall_timeout_s", stall_timeout_s="1")


def test_a_flag_that_is_no_flag(pair, model, directory, see):
    with see.untouched(directory), pytest.raises(dsave.OptionTypeError, match="durable"):
        dsave.save(model, directory, cluster=pair, durable="no")


def test_a_directory_that_may_not_be_written(refused, tmp_path):
    if os.getuid() == 0:  # who may write everywhere else
        where = Path("/proc/sys")
    else:
        where = tmp_path / "locked"
        where.mkdir(mode=0o555)
    refused(dsave.DirectoryError, OSError, str(where), target=where / "export")


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of one mebibyte."""
    where = tmp_path / "small"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], check=True)
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)


@AS_ROOT
@pytest.mark.parametrize("io_device", [None, "/job:localhost", "/job:worker/task:1"])
def test_a_disk_with_too_little_room(refused, pair, model, small_disk, io_device):
    model.large = pair.mirrored_variable(np.zeros(1 << 18, np.float32))
    refused(
        dsave.NoSpaceError,
        OSError,
        "1,04",  # 1 MiB in bytes, to be written and free
        target=small_disk / "export",
        experimental_io_device=io_device,
    )
    assert list(small_disk.iterdir()) == []


@AS_ROOT
def test_a_disk_that_is_read_only(refused, pair, model, see, small_disk):
    dsave.save(model, small_disk / "export", cluster=pair)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for target in (small_disk / "export", small_disk / "other"):
        with see.untouched(small_disk / "export"):
            refused(dsave.DirectoryError, OSError, str(target), target=target)


@AS_ROOT
def test_a_directory_that_is_a_mount_point(refused, small_disk):
    refused(dsave.DirectoryError, OSError, "mount point", target=small_disk)
    assert list(small_disk.iterdir()) == []
