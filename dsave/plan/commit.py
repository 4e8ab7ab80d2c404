"""The protocol of a save, as a log that takes events and gives commands. No clock, no I/O.

    phase      commands                         when all are answered   if one failed
    OPENING    Open each disk                   WRITING                 DISCARDING
    WRITING    Write each shard                 SEALING                 DISCARDING
    SEALING    Seal each disk                   MOVING                  DISCARDING
    MOVING     Move each disk                   CLEANING                MOVING_BACK
    CLEANING   Clean each disk                  COMMITTED               COMMITTED
    MOVING_BACK  MoveBack each disk             DISCARDING              DISCARDING
    DISCARDING Discard each disk                ABORTED                 ABORTED

Open makes a disk ready: leftovers of dead saves go. Seal writes all metadata, `saved_model.pb`
last, under staging names. Move puts the directory in its place and keeps what was there;
Clean removes that; MoveBack puts it back. So nothing is visible until every byte of every
host is stored, and what was there stays until every host has moved.

A phase ends only when all its commands are answered, by a result, an error or the loss of
the host: a disk is never swept while somebody still writes to it. Answers to commands that are
no longer open (late, doubled, or from a host given up for lost) change nothing.

The loss of a host is a failure if a command of its is open, or if something that is still to do
needs it: a shard of its that is not written, or a disk that nobody else sees. Any other loss is
only remembered: what its disk needs is then done by another host that sees it. The last three
phases cannot fail, so in them another host also takes over what was open.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from dsave.errors import DsaveError
from dsave.plan.save_plan import SavePlan


class Phase(enum.Enum):
    """Where a save stands. The value is what an error says was being done."""

    OPENING = "opening the directory"
    WRITING = "writing data files"
    SEALING = "writing the index and the metadata"
    MOVING = "moving the directory into place"
    CLEANING = "removing what was replaced"
    MOVING_BACK = "moving back the directory that was there"
    DISCARDING = "removing what was written"
    COMMITTED = "committed"
    ABORTED = "aborted"


_NEXT = {
    Phase.OPENING: (Phase.WRITING, Phase.DISCARDING),
    Phase.WRITING: (Phase.SEALING, Phase.DISCARDING),
    Phase.SEALING: (Phase.MOVING, Phase.DISCARDING),
    Phase.MOVING: (Phase.CLEANING, Phase.MOVING_BACK),
    Phase.CLEANING: (Phase.COMMITTED, Phase.COMMITTED),
    Phase.MOVING_BACK: (Phase.DISCARDING, Phase.DISCARDING),
    Phase.DISCARDING: (Phase.ABORTED, Phase.ABORTED),
}
_BEFORE_MOVING = frozenset({Phase.OPENING, Phase.WRITING, Phase.SEALING})
_LAST = frozenset({Phase.CLEANING, Phase.MOVING_BACK, Phase.DISCARDING})


@dataclass(frozen=True, slots=True)
class Command:
    """One thing for one host to do: the phase says what; `number` which shard or disk."""

    phase: Phase
    number: int
    host: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A command was carried out."""

    command: Command


@dataclass(frozen=True, slots=True)
class Failed:
    """A command was tried, ended, and did not succeed."""

    command: Command
    error: DsaveError


@dataclass(frozen=True, slots=True)
class Lost:
    """A host is dead, or given up for dead; it answers nothing any more."""

    host: str
    error: DsaveError


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The caller wants no more of this save."""

    error: DsaveError


Event = Answered | Failed | Lost | GivenUp


@dataclass(frozen=True, slots=True)
class CommitLog:
    """What one save has done so far.

    `error` is the first failure; every later one is a consequence or comes too late.
    """

    plan: SavePlan
    phase: Phase
    open: frozenset[Command]
    lost: frozenset[str] = field(default=frozenset())
    error: DsaveError | None = None

    @classmethod
    def begin(cls, plan: SavePlan) -> "tuple[CommitLog, tuple[Command, ...]]":
        """The log of a save that is about to start, and the first commands."""
        return cls(plan, Phase.ABORTED, frozenset())._enter(Phase.OPENING)

    @property
    def ended(self) -> bool:
        """Whether the save is over."""
        return self.phase in {Phase.COMMITTED, Phase.ABORTED}

    @property
    def failing(self) -> bool:
        """Whether the save can only be undone now, so that open commands may stop early."""
        return self.error is not None

    def advance(self, event: Event) -> "tuple[CommitLog, tuple[Command, ...]]":
        """The log after an event, and the commands that it makes due."""
        if self.ended:
            return self, ()
        lost = self.lost
        closed: frozenset[Command] = frozenset()
        error: DsaveError | None = None
        match event:
            case Answered(command):
                closed = self.open & {command}
            case Failed(command):
                closed = self.open & {command}
                error = event.error if closed else None
            case Lost(host):
                lost |= {host}
                closed = frozenset(command for command in self.open if command.host == host)
                error = event.error if closed or self._needs(host, lost) else None
            case GivenUp():
                error = event.error
        if self.phase is Phase.CLEANING:
            error = None  # it is committed: too late to fail
        log = replace(self, lost=lost, open=self.open - closed, error=self.error or error)
        again: tuple[Command, ...] = ()
        if isinstance(event, Lost) and log.phase in _LAST:
            again = log._tended(command.number for command in closed)
            log = replace(log, open=log.open.union(again))
        if log.open:
            return log, again
        return log._enter(log._next())

    def _needs(self, host: str, lost: frozenset[str]) -> bool:
        """Whether something that is still to do cannot be done without this host."""
        if self.phase not in _BEFORE_MOVING:
            return False
        unwritten = self.plan.shards
        if self.phase is not Phase.OPENING:
            writing = {c.number for c in self.open if c.phase is Phase.WRITING}
            unwritten = tuple(shard for shard in unwritten if shard.index in writing)
        return any(
            host == shard.writer or host in shard.source_hosts for shard in unwritten
        ) or any(host in disk.hosts and lost.issuperset(disk.hosts) for disk in self.plan.disks)

    def _next(self) -> Phase:
        succeeded, failed = _NEXT[self.phase]
        return succeeded if self.error is None else failed

    def _enter(self, phase: Phase) -> "tuple[CommitLog, tuple[Command, ...]]":
        """The log in a phase, past those that have nothing to do."""
        log = replace(self, phase=phase, open=frozenset())
        if log.ended:
            return log, ()
        commands = log._due()
        if not commands:
            return log._enter(log._next())
        return replace(log, open=frozenset(commands)), commands

    def _due(self) -> tuple[Command, ...]:
        if self.phase is Phase.WRITING:
            return tuple(
                Command(self.phase, shard.index, shard.writer) for shard in self.plan.shards
            )
        return self._tended(range(len(self.plan.disks)))

    def _tended(self, disks: Iterable[int]) -> tuple[Command, ...]:
        """This phase's command for each of these disks, to the first of its hosts that lives.

        A disk without one gets none: the last phases can do nothing for it, and the others
        are not entered then.
        """
        commands = []
        for number in sorted(disks):
            hosts = self.plan.disks[number].hosts
            tender = next((host for host in hosts if host not in self.lost), None)
            if tender is not None:
                commands.append(Command(self.phase, number, tender))
        return tuple(commands)
