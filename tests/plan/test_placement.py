"""Where a variable goes that was saved on devices.

- a device that exists is honoured, wholly named or not
- one that does not exist is replaced by the nearest: same host, same job, first host; same
  type, then CPU:0; and the replacement is told
- two devices that become one are one
- without soft placement it is an error that names the variable and the device
"""

import pytest

from dsave.errors import DeviceError
from dsave.model.device import DeviceSpec
from dsave.plan.placement import nearest_device, place


def host(job, task, gpus):
    name = f"/job:{job}/replica:0/task:{task}/device:"
    return [f"{name}CPU:0", *(f"{name}GPU:{index}" for index in range(gpus))]


def whole(text):
    spec = DeviceSpec.from_string(text)
    return spec.replace(replica=0) if spec.job and spec.replica is None else spec


DEVICES = [*host("chief", 0, 1), *host("worker", 0, 2), *host("worker", 1, 0)]


def test_devices_that_exist_are_kept_in_order():
    saved = [DEVICES[4], DEVICES[0], DEVICES[2]]
    found = place("v", saved, DEVICES, soft=False)
    assert found.devices == tuple(saved)
    assert found.moved == ()


def test_a_name_that_leaves_parts_open_is_the_first_device_that_agrees():
    found = place("v", ["/device:GPU:1"], DEVICES, soft=False)
    assert found.devices == ("/job:worker/replica:0/task:0/device:GPU:1",)
    assert found.moved == ()


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        ("/job:worker/task:0/GPU:7", "/job:worker/task:0/GPU:1"),
        ("/job:worker/task:1/GPU:0", "/job:worker/task:1/CPU:0"),
        ("/job:worker/task:0/TPU:1", "/job:worker/task:0/CPU:0"),
        ("/job:worker/task:9/CPU:0", "/job:worker/task:1/CPU:0"),
        ("/job:worker/task:9/GPU:1", "/job:worker/task:1/CPU:0"),
        ("/job:worker/replica:3/task:0/device:GPU:1", "/job:worker/task:0/GPU:1"),
        ("/job:localhost/task:0/CPU:0", "/job:chief/task:0/CPU:0"),
        ("/job:ps/task:1/GPU:0", "/job:chief/task:0/GPU:0"),
        ("/job:ps/task:1/GPU:3", "/job:chief/task:0/GPU:0"),
        ("/device:GPU:5", "/job:chief/task:0/GPU:0"),
        ("/task:7", "/job:worker/task:1/CPU:0"),
    ],
)
def test_the_nearest_device_is_on_the_same_host_then_job_then_the_first(wanted, nearest):
    found = nearest_device(whole(wanted), DEVICES)
    assert DeviceSpec.from_string(found) == whole(nearest)


def test_a_replacement_is_told():
    missing = "/job:worker/replica:0/task:1/device:GPU:3"
    found = place("v", [DEVICES[0], missing], DEVICES, soft=True)
    given = "/job:worker/replica:0/task:1/device:CPU:0"
    assert found.devices == (DEVICES[0], given)
    (moved,) = found.moved
    assert (moved.variable, moved.saved, moved.device) == ("v", missing, given)
    assert all(text in str(moved) for text in ("'v'", missing, given))


def test_devices_that_become_one_are_one():
    saved = [f"/job:worker/replica:0/task:1/device:GPU:{index}" for index in range(4)]
    found = place("v", saved, DEVICES, soft=True)
    assert found.devices == ("/job:worker/replica:0/task:1/device:CPU:0",)
    assert [moved.saved for moved in found.moved] == saved


def test_without_soft_placement_variable_and_device_are_named():
    missing = "/job:ps/replica:0/task:0/device:CPU:0"
    with pytest.raises(DeviceError, match="'embedding'") as raised:
        place("embedding", [missing], DEVICES, soft=False)
    assert raised.value.device == missing
    assert "soft_device_placement" in str(raised.value)
