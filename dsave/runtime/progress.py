"""Bars of bytes on a terminal, one for each host while it writes; nothing anywhere else."""

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from dsave.plan.save_plan import SavePlan
from dsave.runtime.save_messages import HostProgress


def bars(*, show: bool) -> Progress:
    """Bars of bytes on stderr, to be used as a context; none unless it is a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=console,
        redirect_stdout=False,  # what the caller prints goes where it sent it
        redirect_stderr=False,
        disable=not (show and console.is_terminal),
    )


class ProgressBars:
    """Bars for the hosts that a plan has write, while the context lasts.

    A terminal that goes away takes the bars with it, and nothing else.
    """

    def __init__(self, plan: SavePlan, *, show: bool) -> None:
        self._progress = bars(show=show)
        totals: dict[str, int] = {}
        for shard in plan.shards:
            totals[shard.writer] = totals.get(shard.writer, 0) + shard.nbytes
        self._totals = totals
        self._tasks: dict[str, TaskID] = {
            host: self._progress.add_task(host, total=nbytes) for host, nbytes in totals.items()
        }

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            if kind is None:  # the last that was heard is older than that
                self._move(self._totals)
            self._progress.stop()

    def update(self, hosts: Mapping[str, HostProgress]) -> None:
        """Move each bar to what its host has written."""
        with contextlib.suppress(OSError):
            self._move({host: heard.nbytes for host, heard in hosts.items()})

    def _move(self, nbytes: Mapping[str, int]) -> None:
        for host, task in self._tasks.items():
            if host in nbytes:
                self._progress.update(task, completed=nbytes[host])
