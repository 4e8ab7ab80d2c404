"""Carry out a save: send the commands of plan/commit.py, and turn what comes back into events.

What comes back is answers, errors, deaths and silence; each becomes a value here.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from dsave.errors import DsaveError, HostLostError, SaveError, StalledError
from dsave.plan.commit import (
    Answered,
    Command,
    CommitLog,
    Event,
    Failed,
    GivenUp,
    Lost,
    Phase,
)
from dsave.plan.save_plan import SavePlan
from dsave.runtime.host_save import HostProgress, Receipt
from dsave.runtime.stream import Endpoint

_POLL_S = 0.1
_VERBS = {
    Phase.OPENING: "open",
    Phase.WRITING: "write",
    Phase.SEALING: "seal",
    Phase.MOVING: "move",
    Phase.CLEANING: "clean",
    Phase.MOVING_BACK: "move_back",
    Phase.DISCARDING: "discard",
}
_logger = logging.getLogger(__name__)


class Submit(Protocol):
    """Call a verb of one host's `HostSave`."""

    def __call__(self, host: str, phase: str, verb: str, *args: Any) -> "Future[Any]":
        """The call's future; `phase` says what for, should the host die meanwhile."""


@dataclass(slots=True)
class _Pulse:
    """The last that was heard of a host: the open question, and since when nothing moved."""

    moved_at: float
    answered_at: float
    question: "Future[HostProgress] | None" = None
    last: HostProgress = field(default_factory=lambda: HostProgress(0, 0))


class Coordinator:
    """One save. `run` does all of it; `receipts` and `progress` say what came of it."""

    def __init__(
        self,
        plan: SavePlan,
        submit: Submit,
        endpoints: Mapping[str, Endpoint],
        seal: Callable[[Mapping[int, Receipt]], Mapping[str, bytes]],
        stall_timeout_s: float,
    ) -> None:
        """`seal` makes the metadata files, in order, from the receipts of all data files."""
        self.receipts: dict[int, Receipt] = {}
        self._plan = plan
        self._submit = submit
        self._endpoints = endpoints
        self._seal = seal
        self._stall_timeout_s = stall_timeout_s
        self._metadata: Mapping[str, bytes] = {}
        self._files = (*(shard.file for shard in plan.shards), plan.object_graph_file)
        self._pending: dict[Future[Any], Command] = {}
        self._interrupted: BaseException | None = None
        now = time.monotonic()
        hosts = [host for disk in plan.disks for host in disk.hosts]
        hosts += [host for shard in plan.shards for host in shard.source_hosts]
        self._pulses = {host: _Pulse(now, now) for host in dict.fromkeys(hosts)}

    def progress(self) -> dict[str, HostProgress]:
        """How far each host is, as last heard."""
        return {host: pulse.last for host, pulse in self._pulses.items()}

    def run(self) -> Iterator[None]:
        """Carry out the save; yields from time to time, for the caller to look at `progress`.

        Raises:
            DsaveError: the save failed, and nothing of it is visible.
            KeyboardInterrupt: likewise, because the user wished so.
        """
        log, due = CommitLog.begin(self._plan)
        commands = deque(due)
        cancelled = False
        while not log.ended:
            try:
                while commands:
                    self._send(commands[0])
                    commands.popleft()  # only now: an interrupt may send twice, never lose one
                if log.failing and not cancelled:
                    cancelled = True
                    self._cancel()
                events = self._events(log)
                yield
            except KeyboardInterrupt as interrupt:
                if self._interrupted is not None:
                    raise
                self._interrupted = interrupt
                events = [GivenUp(SaveError("the caller", log.phase.value, "interrupted"))]
            for event in events:
                log, due = log.advance(event)
                commands.extend(due)
        for host in log.lost:
            self._pulses.pop(host, None)
        if log.phase is Phase.COMMITTED:
            return
        if self._interrupted is not None:
            raise self._interrupted
        assert log.error is not None
        raise log.error

    def _send(self, command: Command) -> None:
        match command.phase:
            case Phase.WRITING:
                shard = self._plan.shards[command.number]
                remote = {
                    h: self._endpoints[h] for h in shard.source_hosts if h != shard.writer
                }
                args: tuple[Any, ...] = (shard, remote)
            case Phase.SEALING:
                self._metadata = self._metadata or self._seal(self.receipts)
                args = (self._metadata,)
            case Phase.CLEANING:
                args = ((*self._files, *self._metadata),)
            case Phase.DISCARDING:
                args = ((*self._files, *self._metadata),)
            case _:
                args = ()
        now = time.monotonic()
        self._pulses[command.host].moved_at = now
        verb = _VERBS[command.phase]
        self._pending[self._submit(command.host, command.phase.value, verb, *args)] = command

    def _cancel(self) -> None:
        for host in {c.host for c in self._pending.values() if c.phase is Phase.WRITING}:
            self._submit(host, "giving up", "cancel")

    def _events(self, log: CommitLog) -> list[Event]:
        """Wait a little; what has happened."""
        done, _ = wait(self._pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        events: list[Event] = [
            self._outcome(self._pending.pop(future), future) for future in done
        ]
        events += self._listen(log)
        for event in events:
            if isinstance(event, Lost):
                self._pending = {f: c for f, c in self._pending.items() if c.host != event.host}
        return events

    def _outcome(self, command: Command, future: "Future[Any]") -> Event:
        error = future.exception()
        if error is None:
            if isinstance(future.result(), Receipt):
                self.receipts[command.number] = future.result()
            return Answered(command)
        if isinstance(error, HostLostError) and error.host == command.host:
            return Lost(command.host, error)
        if not isinstance(error, DsaveError):
            problem = f"{type(error).__name__}: {error}"
            error = SaveError(command.host, command.phase.value, problem)
        if command.phase is Phase.CLEANING:
            _logger.warning("the save is committed; what it replaced stays: %s", error)
        return Failed(command, error)

    def _listen(self, log: CommitLog) -> list[Event]:
        """Ask the hosts how far they are; those that died or fell silent are lost."""
        now = time.monotonic()
        busy = {command.host for command in self._pending.values()}
        events: list[Event] = []
        for host, pulse in self._pulses.items():
            if host in log.lost:
                continue
            if pulse.question is not None and pulse.question.done():
                error = pulse.question.exception()
                if isinstance(error, HostLostError):
                    events.append(Lost(host, error))
                    continue
                if error is None:
                    heard = pulse.question.result()
                    if heard.nbytes != pulse.last.nbytes or host not in busy:
                        pulse.moved_at = now
                    pulse.last = heard
                pulse.answered_at, pulse.question = now, None
            quiet_s = now - (pulse.moved_at if pulse.question is None else pulse.answered_at)
            if quiet_s > self._stall_timeout_s:
                problem = f"no progress for {quiet_s:.0f} s; stall_timeout_s sets the deadline"
                events.append(Lost(host, StalledError(host, log.phase.value, problem)))
            elif pulse.question is None and now - pulse.answered_at >= _POLL_S:
                pulse.answered_at = now
                pulse.question = self._submit(host, log.phase.value, "progress")
        return events
