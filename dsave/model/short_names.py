"""How devices are written for people. JSON and errors have whole names."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

_NAME = re.compile(r"(?:/job:(\w+)/replica:0/task:(\d+))?(?:/device:(\w+:\d+))?", re.ASCII)


def short_name(device: str) -> str:
    """`worker:1 GPU:0` for a whole device name, `worker:1` for a host's, others as they are."""
    found = _NAME.fullmatch(device)
    if found is None:
        return device
    job, task, kind = found.groups()
    return " ".join(part for part in (job and f"{job}:{task}", kind) if part)


def short_hosts(hosts: Iterable[str]) -> str:
    """Hosts by their short names, those in a row as `worker:0-3`."""
    return _in_runs([short_name(host) for host in hosts])


def short_devices(devices: Iterable[str]) -> list[str]:
    """Devices by their short names, those of equal hosts as one text: `worker:0-3 GPU:0-7`."""
    held: dict[str, list[str]] = {}
    for device in devices:
        host, _, kind = device.rpartition("/device:")
        held.setdefault(short_name(host), []).append(kind)
    return [
        f"{_in_runs(list(hosts))} {_in_runs(kinds)}".strip()
        for kinds, hosts in groupby(held, held.__getitem__)
    ]


def _in_runs(names: Sequence[str]) -> str:
    def place(at: tuple[int, tuple[str, str, str]]) -> tuple[str, int]:
        index, (stem, colon, number) = at
        # Neighbours with numbers that go up by one are alike in what is left.
        return (stem, int(number) - index) if number.isdecimal() else (stem + colon, index)

    texts = []
    for _, run in groupby(enumerate(name.rpartition(":") for name in names), place):
        parts = [name for _, name in run]
        last = f"-{parts[-1][2]}" if len(parts) > 1 else ""
        texts.append("".join(parts[0]) + last)
    return ", ".join(texts)
