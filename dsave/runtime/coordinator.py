"""Carry out a save: send the commands of plan/commit.py, and turn what comes back into events.

What comes back is answers, errors, deaths and silence; each becomes a value here.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
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
from dsave.runtime.host_save import HostProgress, Incoming, Receipt
from dsave.runtime.stream import Endpoint

_POLL_S = 0.1
_BLAME_S = 1.0
_PAUSE_S = 1.0
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
    heard_s: float
    """When it was, by its own clock."""

    question: "Future[HostProgress] | None" = None
    last: HostProgress = field(default_factory=lambda: HostProgress(0, 0))


class Coordinator:
    """One save. `run` does all of it; `receipts`, `progress` and `lost` say what came of it."""

    def __init__(
        self,
        plan: SavePlan,
        submit: Submit,
        endpoints: Mapping[str, Endpoint],
        seal: Callable[[Mapping[int, Receipt]], Mapping[str, bytes | Incoming]],
        heard_s: Mapping[str, float],
        stall_timeout_s: float,
    ) -> None:
        """`seal` makes the other files, in order, from the receipts of all data files.

        `heard_s`: when each writer was heard of last, by its own clock.
        """
        self.receipts: dict[int, Receipt] = {}
        self.lost: frozenset[str] = frozenset()
        self._plan = plan
        self._submit = submit
        self._endpoints = endpoints
        self._seal = seal
        self._stall_timeout_s = stall_timeout_s
        self._metadata: Mapping[str, bytes | Incoming] = {}
        self._files = (*(shard.file for shard in plan.shards), plan.object_graph_file)
        self._pending: dict[Future[Any], Command] = {}
        self._interruption: BaseException | None = None
        self._failure: BaseException | None = None
        # Not the thread's own end: a join that is interrupted takes a thread for dead
        # (https://github.com/python/cpython/issues/90882, Python up to 3.12).
        self._over = threading.Event()
        self._begun = threading.Lock()
        self._listened_at = now = time.monotonic()
        hosts = [host for disk in plan.disks for host in disk.hosts]
        hosts += [host for shard in plan.shards for host in shard.source_hosts]
        self._pulses = {
            host: _Pulse(now, now, heard_s.get(host, -math.inf))
            for host in dict.fromkeys(hosts)
        }
        self._dependent = {
            shard.writer for shard in plan.shards if {shard.writer} != {*shard.source_hosts}
        }

    def progress(self) -> dict[str, HostProgress]:
        """How far each host is, as last heard."""
        return {h: pulse.last for h, pulse in self._pulses.items() if h not in self.lost}

    def run(self, tick: Callable[[], object]) -> None:
        """Carry out the save; calls `tick` from time to time, to look at `progress`.

        Raises:
            DsaveError: the save failed, and nothing of it is visible.
            KeyboardInterrupt, or what `tick` raised: likewise, unless it came after the commit.
                The second one does not wait for what was written to be removed.
        """
        # In a thread of its own: an interrupt must not come between a command and the log.
        worker = threading.Thread(target=self._carry_out, name="dsave-coordinate", daemon=True)
        try:
            worker.start()
        except BaseException as interruption:
            self._interruption = interruption
            self._carry_out()  # here, unless the thread has begun to
        over = False
        while not over:
            try:
                over = self._over.wait(_POLL_S)
                if self._interruption is None:
                    tick()
            except BaseException as interruption:
                if self._interruption is not None:
                    raise
                self._interruption = interruption
        if self._interruption is not None:
            raise self._interruption
        if self._failure is not None:
            raise self._failure

    @property
    def begun(self) -> bool:
        """Whether `run` cleans up after itself; before that, the caller must."""
        return self._begun.locked()

    def _carry_out(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            log = self._ended_log()
            self.lost = log.lost
            self._failure = log.error
        except BaseException as error:  # a fault of ours, for the caller to see
            self._failure = error
        finally:
            self._over.set()

    def _ended_log(self) -> CommitLog:
        log, due = CommitLog.begin(self._plan)
        commands = deque(due)
        cancelled = interrupted = False
        while not log.ended:
            while commands:
                self._send(commands.popleft())
            if log.failing and not cancelled:
                cancelled = True
                for host in {c.host for c in log.open if c.phase is Phase.WRITING}:
                    self._call(host, "giving up", "cancel")
            events = self._events(log)
            if self._interruption is not None and not interrupted:
                interrupted = True
                problem = f"interrupted by {type(self._interruption).__name__}"
                events.append(GivenUp(SaveError("the caller", log.phase.value, problem)))
            for event in events:
                _warn(log, event)
                if isinstance(event, Lost):  # if it lives after all, it writes no more
                    self._call(event.host, "giving up", "cancel")
                log, due = log.advance(event)
                commands.extend(due)
        return log

    def _send(self, command: Command) -> None:
        self._pulses[command.host].moved_at = time.monotonic()
        try:
            args = self._arguments(command)
        except Exception as error:
            future: Future[Any] = Future()
            future.set_exception(error)
        else:
            verb = _VERBS[command.phase]
            future = self._call(command.host, command.phase.value, verb, *args)
        self._pending[future] = command

    def _arguments(self, command: Command) -> tuple[Any, ...]:
        heard_s = self._pulses[command.host].heard_s
        match command.phase:
            case Phase.WRITING:
                shard = self._plan.shards[command.number]
                remote = {
                    h: self._endpoints[h] for h in shard.source_hosts if h != shard.writer
                }
                return (shard, remote)
            case Phase.SEALING:
                self._metadata = self._metadata or self._seal(self.receipts)
                hosts = self._plan.disks[command.number].hosts
                stored = {
                    shard.file: self.receipts[shard.index].nbytes
                    for shard in self._plan.shards
                    if shard.writer in hosts
                }
                return (self._metadata, stored)
            case Phase.CLEANING | Phase.DISCARDING:
                return (heard_s, (*self._files, *self._metadata))
            case _:
                return (heard_s,)

    def _call(self, host: str, phase: str, verb: str, *args: Any) -> "Future[Any]":
        try:
            return self._submit(host, phase, verb, *args)
        except Exception as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

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
            if command.phase is Phase.WRITING:
                self.receipts[command.number] = future.result()
            elif command.phase is Phase.SEALING:
                pulse = self._pulses[command.host]
                pulse.heard_s = max(pulse.heard_s, future.result())
            return Answered(command)
        if isinstance(error, HostLostError) and error.host == command.host:
            return Lost(command.host, error)
        if not isinstance(error, DsaveError):
            problem = f"{type(error).__name__}: {error}"
            failure = SaveError(command.host, command.phase.value, problem)
            failure.__cause__ = error
            return Failed(command, failure)
        return Failed(command, error)

    def _listen(self, log: CommitLog) -> list[Event]:
        """Ask the hosts how far they are; those that died or fell silent are lost."""
        now = time.monotonic()
        if now - self._listened_at > _PAUSE_S:  # it was this process that stood still
            for pulse in self._pulses.values():
                pulse.moved_at += now - self._listened_at
                pulse.answered_at += now - self._listened_at
        self._listened_at = now
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
                    pulse.heard_s = max(pulse.heard_s, heard.clock_s)
                pulse.answered_at, pulse.question = now, None
            if pulse.question is not None:
                quiet_s, deadline_s = now - pulse.answered_at, self._stall_timeout_s
            else:
                quiet_s, deadline_s = now - pulse.moved_at, self._stall_timeout_s
                if host in self._dependent:  # it may wait for another, whose fault it is then
                    deadline_s += _BLAME_S
            if quiet_s > deadline_s:
                problem = f"no progress for {quiet_s:.0f} s; stall_timeout_s sets the deadline"
                events.append(Lost(host, StalledError(host, log.phase.value, problem)))
            elif pulse.question is None and now - pulse.answered_at >= _POLL_S:
                pulse.answered_at = now
                pulse.question = self._call(host, log.phase.value, "progress")
        return events


def _warn(log: CommitLog, event: Event) -> None:
    """Say what stays behind, since the save itself no longer fails for it."""
    match event:
        case Failed(command, error) if command in log.open:
            pass
        case Lost(host, error) if any(command.host == host for command in log.open):
            pass
        case _:
            return
    if log.phase is Phase.CLEANING:
        _logger.warning("the save is committed; what it replaced stays: %s", error)
    elif log.phase in {Phase.MOVING_BACK, Phase.DISCARDING}:
        _logger.warning("the save failed; what it wrote stays: %s", error)
