"""What a save did: the value that `dsave.save` returns, and its face as a table."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from dsave.plan.save_plan import Layout

_WIDTH = 130


@dataclass(frozen=True, slots=True)
class ShardResult:
    """One data file: where it is, where its bytes came from, and how long it took."""

    file: str
    writer: str
    """The device whose host wrote it."""

    sources: tuple[str, ...]
    """The hosts that its bytes came from."""

    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SaveResult:
    """What a save did.

    `nbytes` are those of all data files, each counted once. `peak_bytes` is, for each host,
    how far its private memory rose above where the save found it. `disks` are the hosts that
    share each directory: one tuple for layout "single", several for "host-local".
    """

    directory: str
    layout: Layout
    nbytes: int
    seconds: float
    shards: tuple[ShardResult, ...]
    peak_bytes: Mapping[str, int]
    disks: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        rate = self.nbytes / self.seconds / 1e9 if self.seconds else 0.0
        table = Table(
            title=f"{self.directory}: {self.layout}, {_size(self.nbytes)} "
            f"in {self.seconds:.2f} s ({rate:.2f} GB/s)",
            title_justify="left",
        )
        for name in ("file", "written by", "bytes from"):
            table.add_column(name, overflow="fold")
        for name in ("size", "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        for shard in self.shards:
            table.add_row(
                shard.file.rpartition("/")[2],
                shard.writer,
                "\n".join(shard.sources),
                _size(shard.nbytes),
                f"{shard.seconds:.3f}",
            )
        text = io.StringIO()
        Console(file=text, width=_WIDTH).print(table)
        peak = ", ".join(f"{host} {_size(n)}" for host, n in self.peak_bytes.items())
        lines = [f"memory at its peak above the start: {peak}"]
        if self.layout == "host-local":
            lines += [
                "host-local: the hosts do not share this path. Each directory holds its own",
                "data files, and the whole index and metadata:",
                *(f"  {', '.join(hosts)}" for hosts in self.disks),
                "For one whole directory copy these over one another, or set",
                "experimental_io_device to a device of one host the next time.",
            ]
        return text.getvalue() + "\n".join(lines)


def _size(nbytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1 << 10:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1 << 10
    return f"{nbytes:.2f} GiB"
