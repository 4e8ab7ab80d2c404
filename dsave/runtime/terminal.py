"""How sizes, devices and tables are written for people. JSON and errors have whole names."""

import io
import re
from collections.abc import Iterable
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

_NAME = re.compile(r"(?:/job:(\w+)/replica:0/task:(\d+))?(?:/device:(\w+:\d+))?", re.ASCII)


def size_text(nbytes: float) -> str:
    """`12 B`, `3.5 KiB`, `1.25 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1 << 10:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1 << 10
    return f"{nbytes:.2f} GiB"


def short_name(device: str) -> str:
    """`worker:1 GPU:0` for a whole device name, `worker:1` for a host's, others as they are."""
    found = _NAME.fullmatch(device)
    if found is None:
        return device
    job, task, kind = found.groups()
    return " ".join(part for part in (job and f"{job}:{task}", kind) if part)


def short_hosts(hosts: Iterable[str]) -> str:
    """Hosts by their short names; of three and more in a row the first and the last."""
    numbered = enumerate(short_name(host).rpartition(":") for host in hosts)
    texts: list[str] = []
    for (job, _), run in groupby(numbered, lambda at: (at[1][0], int(at[1][2]) - at[0])):
        tasks = [task for _, (_, _, task) in run]
        shown = [f"{tasks[0]}-{tasks[-1]}"] if len(tasks) > 2 else tasks
        texts += [f"{job}:{task}" for task in shown]
    return ", ".join(texts)


def plain_table(*columns: str, whole: str = "", numbers: Iterable[str] = ()) -> Table:
    """A table without a frame. Cells fold, but not those of `whole` and of `numbers`."""
    numbers = frozenset(numbers)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name in numbers or name == whole,
            overflow="fold",
        )
    return table


def table_text(table: Table, width: int) -> str:
    """A table as lines of at most `width` columns; what is longer is folded in its cell."""
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False, highlight=False, emoji=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
