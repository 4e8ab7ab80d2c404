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
"""

import enum
from dataclasses import dataclass, field, replace

from dsave.errors import DsaveError
from dsave.plan.save_plan import Disk, SavePlan


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
_UNDOING = frozenset({Phase.MOVING_BACK, Phase.DISCARDING})


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
        return self.error is not None and self.phase is not Phase.CLEANING

    def advance(self, event: Event) -> "tuple[CommitLog, tuple[Command, ...]]":
        """The log after an event, and the commands that it makes due."""
        if self.ended:
            return self, ()
        lost = self.lost
        error: DsaveError | None = None
        match event:
            case Answered(command):
                closed = self.open & {command}
            case Failed(command):
                closed, error = self.open & {command}, event.error
            case Lost(host):
                lost, error = lost | {host}, event.error
                closed = frozenset(command for command in self.open if command.host == host)
            case GivenUp():
                closed, error = frozenset(), event.error
        # A host that dies idle takes along what others still have to read from it.
        deprived = (
            isinstance(event, Lost)
            and self.phase in {Phase.OPENING, Phase.WRITING}
            and any(event.host in shard.source_hosts for shard in self.plan.shards)
        )
        if not closed and not deprived and not isinstance(event, GivenUp):
            return replace(self, lost=lost), ()
        if self.phase is Phase.CLEANING:
            error = None
        log = replace(self, lost=lost, open=self.open - closed, error=self.error or error)
        if log.open:
            return log, ()
        return log._enter(log._next())

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
        hosts = ((n, self._tender(disk)) for n, disk in enumerate(self.plan.disks))
        return tuple(Command(self.phase, n, host) for n, host in hosts if host is not None)

    def _tender(self, disk: Disk) -> str | None:
        """Who tends a disk: its owner, or to undo things whoever of its hosts is left."""
        if self.phase in _UNDOING:
            return next((host for host in disk.hosts if host not in self.lost), None)
        return disk.owner
