"""What a save did: the value that `dsave.save` returns, and its face as a table."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from dsave.model.device import host_of
from dsave.model.short_names import short_hosts, short_name
from dsave.plan.save_plan import Layout
from dsave.runtime.terminal import count_text, plain_table, size_text, table_text

_WIDTH = 79
_RATE_FROM = 1 << 20
"""Bytes of a save that is worth a rate; a smaller one takes as long as its first byte."""


@dataclass(frozen=True, slots=True)
class ShardResult:
    """One data file: where it is, where its bytes came from, and how long it took."""

    file: str
    writer: str
    """The device whose host wrote it."""

    sources: tuple[str, ...]
    """The hosts that its bytes came from; none for the file that holds the object graph."""

    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class SaveResult:
    """What a save did.

    `nbytes` are those of all data files, each counted once. `peak_bytes` is, for each host,
    how far its private memory rose above where the save found it. `disks` are the hosts that
    share each directory: one tuple for layout "single", several for "host-local". `places`:
    where each of these is on this machine, which is elsewhere if it is private to hosts.
    """

    directory: str
    layout: Layout
    nbytes: int
    seconds: float
    shards: tuple[ShardResult, ...]
    peak_bytes: Mapping[str, int]
    disks: tuple[tuple[str, ...], ...]
    places: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<SaveResult {self._line()}, {count_text(len(self.shards), 'data file')}>"

    def _line(self) -> str:
        size = size_text(self.nbytes)
        return f"{self.directory}: {self.layout}, {size} in {self.seconds:.2f} s"

    def __str__(self) -> str:
        table = plain_table(
            *("file", "writer", "bytes from", "size", "seconds"),
            whole="file",
            numbers=("size", "seconds"),
        )
        for shard in self.shards:
            table.add_row(
                shard.file.rpartition("/")[2],
                short_name(host_of(shard.writer)),
                short_hosts(shard.sources),
                size_text(shard.nbytes),
                f"{shard.seconds:.3f}",
            )
        rate = ""
        if self.nbytes >= _RATE_FROM and self.seconds:
            rate = f" ({size_text(self.nbytes / self.seconds)}/s)"
        lines = [f"{self._line()}{rate}", table_text(table, _WIDTH)]
        if self.peak_bytes:
            host, peak = max(self.peak_bytes.items(), key=lambda item: item[1])
            lines.append(
                f"memory above the start: at most {size_text(peak)}, on {short_name(host)}"
            )
        lines += [
            f"On {short_hosts(hosts)} that is {place} here."
            for hosts, place in zip(self.disks, self.places, strict=False)
            if place != self.directory
        ]
        if self.layout == "host-local":
            directories = "; ".join(short_hosts(hosts) for hosts in self.disks)
            lines += textwrap.wrap(
                f"The hosts do not share this path. Each directory ({directories}) has its "
                "own data files and all metadata; for a whole one copy them over one another, "
                "or set experimental_io_device the next time.",
                _WIDTH,
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join(lines)
