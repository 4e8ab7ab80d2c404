"""Bars of bytes: on a terminal, and only there; nothing depends on them.

- each writer has a bar, which ends full though the last that was heard is older
- a terminal that goes away is no error of the save
- what is no terminal is not written to, nor where no bars are wanted
"""

import io

import pytest

from dsave.model.dtype import dtype_of
from dsave.plan.items import Item, Part, Source
from dsave.plan.save_plan import Disk, SavePlan, Shard
from dsave.runtime.progress import ProgressBars
from dsave.runtime.save_messages import HostProgress

A, B = (f"/job:w/replica:0/task:{task}" for task in range(2))


class Terminal(io.StringIO):
    """A terminal, until it is gone."""

    gone = False

    def isatty(self):
        """What bars ask."""
        return True

    def write(self, text):
        """Fail as a terminal does that was closed."""
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.fixture
def shown_on(monkeypatch):
    """Has stderr be what it is given; in the test itself, since pytest sets it before."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    def show(stream):
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return show


def plan():
    """Host A writes 1 KiB in two files, host B 3 KiB."""
    shards = []
    for number, (host, nbytes) in enumerate([(A, 512), (A, 512), (B, 3072)]):
        part = Part((Source(host, "k"),), (nbytes,), nbytes)
        item = Item(f"k{number}", dtype_of("uint8"), (nbytes,), None, (part,))
        shards.append(Shard(number, f"file{number}", host, (item,)))
    return SavePlan("/d", tuple(shards), (Disk((A, B), None),))


def test_each_writer_has_a_bar_that_ends_full(shown_on):
    terminal = shown_on(Terminal())
    with ProgressBars(plan(), show=True) as bars:
        bars.update({A: HostProgress(256, 0), B: HostProgress(0, 0)})
    last = terminal.getvalue().rsplit(A, 1)[1]
    assert "1.0/1.0 KiB" in last
    assert "3.0/3.0 KiB" in last


def failing(bars):
    with bars:
        bars.update({A: HostProgress(256, 0), B: HostProgress(0, 0)})
        raise RuntimeError


def test_bars_of_what_failed_stay_where_they_were(shown_on):
    terminal = shown_on(Terminal())
    with pytest.raises(RuntimeError):
        failing(ProgressBars(plan(), show=True))
    last = terminal.getvalue().rsplit(A, 1)[1]
    assert "0.2/1.0 KiB" in last


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_terminal_that_goes_away_is_no_error(shown_on, when):
    terminal = shown_on(Terminal())
    bars = ProgressBars(plan(), show=True)
    terminal.gone = when == "before"
    with bars:
        terminal.gone = True
        bars.update({A: HostProgress(64, 0)})


def test_nothing_is_written_where_nobody_looks(shown_on):
    terminal = shown_on(Terminal())
    with ProgressBars(plan(), show=False) as bars:
        bars.update({A: HostProgress(256, 0)})
    assert terminal.getvalue() == ""
    pipe = shown_on(io.StringIO())
    with ProgressBars(plan(), show=True) as bars:
        bars.update({A: HostProgress(256, 0)})
    assert pipe.getvalue() == ""
