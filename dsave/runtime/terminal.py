"""How sizes and tables are written for people."""

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table


def size_text(nbytes: float) -> str:
    """`12 B`, `3.5 KiB`, `1.25 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1 << 10:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1 << 10
    return f"{nbytes:.2f} GiB"


def count_text(number: int, noun: str) -> str:
    """`1 tensor`, `2,000 tensors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
