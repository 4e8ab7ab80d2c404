"""Carry out a save: send the commands of plan/commit.py, and turn what comes back into events.

What comes back is answers, errors, deaths and silence; each becomes a value here.
"""

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

from dsave.errors import DsaveError, HostLostError, SaveError
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
from dsave.runtime import pulses, turns
from dsave.runtime.save_messages import HostProgress, Incoming, Receipt
from dsave.runtime.stream import Endpoint

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
        turn: turns.Turn,
    ) -> None:
        """`seal` makes the other files, in order, from the receipts of all data files.

        `heard_s`: when each writer was heard of last, by its own clock. Nothing begins before
        the save's `turn`, which ends with it.
        """
        self.receipts: dict[int, Receipt] = {}
        self.lost: frozenset[str] = frozenset()
        self._plan = plan
        self._submit = submit
        self._endpoints = endpoints
        self._seal = seal
        self._metadata: Mapping[str, bytes | Incoming] = {}
        self._files = (*(shard.file for shard in plan.shards), plan.object_graph_file)
        self._turn = turn
        self._waiting: dict[str, deque[Command]] = defaultdict(deque)
        """What is due and not sent yet, by host."""
        self._writing: Counter[str] = Counter()
        self._pending: dict[Future[Any], Command] = {}
        self._interruption: BaseException | None = None
        self._failure: BaseException | None = None
        # Not the thread's own end: a join that is interrupted takes a thread for dead
        # (https://github.com/python/cpython/issues/90882, Python up to 3.12).
        self._over = threading.Event()
        self._begun = threading.Lock()
        hosts = [host for disk in plan.disks for host in disk.hosts]
        hosts += [host for shard in plan.shards for host in shard.source_hosts]
        dependent = {
            shard.writer for shard in plan.shards if {shard.writer} != {*shard.source_hosts}
        }
        self._pulses = pulses.Pulses(hosts, heard_s, dependent, self._ask, stall_timeout_s)

    def progress(self) -> dict[str, HostProgress]:
        """How far each host is, as last heard."""
        return {h: last for h, last in self._pulses.progress().items() if h not in self.lost}

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
                over = self._over.wait(pulses.POLL_S)
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
            for future in tuple(self._pending):
                self._take(future)
            self._turn.end()
            self._over.set()

    def _ended_log(self) -> CommitLog:
        log, due = CommitLog.begin(self._plan)
        self._enqueue(due)
        cancelled = interrupted = False
        while not log.ended:
            for queue in self._waiting.values():
                while queue and self._may_send(queue[0], log):
                    self._send(queue.popleft())
            if log.failing and not cancelled:
                cancelled = True
                for host in {c.host for c in log.open if c.phase is Phase.WRITING}:
                    self._pulses.start(host)  # it may have waited for one that is lost
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
                self._enqueue(due)
            if not all(isinstance(event, Answered) for event in events):
                still_due = [c for queue in self._waiting.values() for c in queue]
                self._waiting.clear()
                self._enqueue(command for command in still_due if command in log.open)
        return log

    def _enqueue(self, commands: Iterable[Command]) -> None:
        for command in commands:
            self._waiting[command.host].append(command)

    def _may_send(self, command: Command, log: CommitLog) -> bool:
        """Whether it is a command's turn. If the save can only be undone, none begins."""
        match command.phase:
            case Phase.OPENING:
                return not log.failing and self._turn.has_come
            case Phase.WRITING:
                host = command.host
                return not log.failing and turns.may_write(host, self._writing[host])
            case _:
                return True

    def _take(self, future: "Future[Any]") -> Command:
        """A command that was sent, and whose answer is there or no longer waited for."""
        command = self._pending.pop(future)
        if command.phase is Phase.WRITING:
            self._writing[command.host] -= 1
            turns.has_written(command.host)
        return command

    def _send(self, command: Command) -> None:
        if command.phase is Phase.WRITING:
            self._writing[command.host] += 1
        self._pulses.start(command.host)
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
        heard_s = self._pulses.heard_s(command.host)
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

    def _ask(self, host: str, phase: Phase) -> "Future[HostProgress]":
        return self._call(host, phase.value, "progress")

    def _events(self, log: CommitLog) -> list[Event]:
        """Wait a little; what has happened."""
        if not self._pending:  # it is not this save's turn
            time.sleep(pulses.POLL_S)
        done, _ = wait(self._pending, timeout=pulses.POLL_S, return_when=FIRST_COMPLETED)
        events: list[Event] = [self._outcome(self._take(future), future) for future in done]
        busy = {command.host for command in self._pending.values()}
        events += self._pulses.listen(log.phase, busy, log.lost)
        gone = {event.host for event in events if isinstance(event, Lost)}
        for future in [f for f, c in self._pending.items() if c.host in gone]:
            self._take(future)
        if log.error is not None:  # what is not sent by now will not be
            queues = self._waiting.values()
            events += [Failed(command, log.error) for queue in queues for command in queue]
        return events

    def _outcome(self, command: Command, future: "Future[Any]") -> Event:
        error = future.exception()
        if error is None:
            if command.phase is Phase.WRITING:
                self.receipts[command.number] = future.result()
            elif command.phase is Phase.SEALING:
                self._pulses.hear(command.host, future.result())
            return Answered(command)
        if isinstance(error, HostLostError) and error.host == command.host:
            return Lost(command.host, error)
        if not isinstance(error, DsaveError):
            problem = f"{type(error).__name__}: {error}"
            failure = SaveError(command.host, command.phase.value, problem)
            failure.__cause__ = error
            return Failed(command, failure)
        return Failed(command, error)


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
