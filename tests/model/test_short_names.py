"""Short names of devices and hosts.

- A whole device name loses what is the same for all; any other name stays as it is.
- Hosts in a row are shown by the first and the last, and so are the devices of equal hosts.
"""

import pytest

from dsave.model.short_names import short_devices, short_hosts, short_name


def host(task, job="worker"):
    return f"/job:{job}/replica:0/task:{task}"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("/job:worker/replica:0/task:12/device:GPU:3", "worker:12 GPU:3"),
        ("/job:ps/replica:0/task:0", "ps:0"),
        ("/device:CPU:0", "CPU:0"),
        ("", ""),
        ("/job:worker/replica:1/task:0/device:GPU:0",) * 2,
        ("/job:worker/task:0",) * 2,
        ("no device at all",) * 2,
    ],
)
def test_a_whole_device_name_is_shortened_and_any_other_stays(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ([], ""),
        ([host(3)], "worker:3"),
        ([host(0), host(1), host(2)], "worker:0-2"),
        ([host(9), host(10), host(0)], "worker:9-10, worker:0"),
        ([host(1), host(2, "ps"), host(3, "ps")], "worker:1, ps:2-3"),
        ([host(1), host(0), host(0)], "worker:1, worker:0, worker:0"),
        (["elsewhere", "elsewhere"], "elsewhere, elsewhere"),
    ],
)
def test_hosts_in_a_row_are_shown_by_the_first_and_the_last(hosts, text):
    assert short_hosts(hosts) == text


def devices(tasks, *kinds):
    return [f"{host(task)}/device:{kind}" for task in tasks for kind in kinds]


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        ([], []),
        ([""], [""]),
        (["/device:GPU:0"], ["GPU:0"]),
        (devices([1], "GPU:0"), ["worker:1 GPU:0"]),
        (devices(range(64), "GPU:0", "GPU:1", "GPU:2"), ["worker:0-63 GPU:0-2"]),
        (devices([0], "CPU:0", "GPU:1"), ["worker:0 CPU:0, GPU:1"]),
        (devices([0], "GPU:0") + devices([1], "GPU:1"), ["worker:0 GPU:0", "worker:1 GPU:1"]),
        (["odd", *devices([2], "GPU:0")], ["odd", "worker:2 GPU:0"]),
    ],
)
def test_devices_of_equal_hosts_are_one_text(names, texts):
    assert short_devices(names) == texts
