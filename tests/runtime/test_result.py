"""The face of a SaveResult.

- It fits in 79 columns, with short device names, and says what went where.
- A host-local result names the hosts of each directory, and the setting that changes it.
- A private directory is shown with its place on this machine.
- Only a save of at least a mebibyte has a rate.
- Where a value is shown it is one line.
"""

from dsave.runtime.result import SaveResult, ShardResult

W0, W1 = "/job:worker/replica:0/task:0", "/job:worker/replica:0/task:1"


def shard(number, writer, sources, nbytes):
    file = f"variables/variables.data-{number:05d}-of-00003"
    return ShardResult(file, f"{writer}/device:CPU:0", sources, nbytes, 0.25)


def test_a_single_directory_is_a_table():
    result = SaveResult(
        "/tmp/export",
        "single",
        3 << 20,
        0.5,
        (shard(0, W1, (W0, W1), 1 << 20), shard(1, W1, (W1,), 2 << 20)),
        {W0: 1 << 10, W1: 1 << 20},
        ((W1,),),
        ("/tmp/export",),
    )
    assert str(result).splitlines() == [
        "/tmp/export: single, 3.0 MiB in 0.50 s (6.0 MiB/s)",
        "file                           writer    bytes from     size  seconds",
        "─" * 70,
        "variables.data-00000-of-00003  worker:1  worker:0-1  1.0 MiB    0.250",
        "variables.data-00001-of-00003  worker:1  worker:1    2.0 MiB    0.250",
        "memory above the start: at most 1.0 MiB, on worker:1",
    ]


def test_host_local_directories_are_named_with_the_setting_that_avoids_them():
    result = SaveResult(
        "/tmp/export",
        "host-local",
        12,
        0.5,
        (shard(0, W0, (W0,), 4), shard(1, W1, (W1,), 8)),
        {},
        ((W0,), (W1,)),
        ("/hosts/0/export", "/hosts/1/export"),
    )
    text = str(result)
    assert "\nOn worker:0 that is /hosts/0/export here.\n" in text
    assert "\nOn worker:1 that is /hosts/1/export here.\n" in text
    assert text.startswith("/tmp/export: host-local, 12 B in 0.50 s\n")
    assert "(worker:0; worker:1)" in text
    assert "experimental_io_device" in text
    assert "memory" not in text
    assert max(map(len, text.splitlines())) <= 79


def test_where_a_value_is_shown_it_is_one_line():
    result = SaveResult(
        "/tmp/export", "single", 3 << 20, 0.5, (shard(0, W0, (W0,), 3 << 20),), {}, ((W0,),)
    )
    assert repr(result) == "<SaveResult /tmp/export: single, 3.0 MiB in 0.50 s, 1 data file>"
