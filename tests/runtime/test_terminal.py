"""What people read: sizes, tables that fold.

- A size has the largest unit that it reaches; GiB is the last.
- No line of a table is wider than asked; a name that must stay whole is not folded.
- Brackets and colons in a cell are text, no markup and no emoji.
"""

import pytest

from dsave.runtime.terminal import plain_table, size_text, table_text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 10, "1.5 MiB"),
        (5 << 30, "5.00 GiB"),
        (3 << 40, "3072.00 GiB"),
    ],
)
def test_a_size_has_the_largest_unit_that_it_reaches(nbytes, text):
    assert size_text(nbytes) == text


def test_no_line_is_wider_than_asked_and_whole_names_do_not_fold():
    table = plain_table("file", "from", "size", whole="file", numbers=["size"])
    table.add_row("a-name-that-stays", " ".join(["worker:1"] * 9), "12 B")
    lines = table_text(table, 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[2].split()[0] == "a-name-that-stays"
    assert sum(line.count("worker:1") for line in lines) == 9


def test_cells_are_neither_markup_nor_emoji():
    table = plain_table("name")
    table.add_row("[bold]w[/bold] :smile:")
    assert table_text(table, 80).splitlines()[2] == "[bold]w[/bold] :smile:"
