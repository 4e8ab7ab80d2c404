"""What the caller of a save and its hosts tell each other."""

from dataclasses import dataclass

from dsave.format.bundle import Entry
from dsave.plan.items import StringNbytes
from dsave.runtime.stream import Endpoint


@dataclass(frozen=True, slots=True)
class Ticket:
    """What every host is told of a save: where to, which one, and how careful."""

    epoch: str
    directory: str
    durable: bool
    stall_timeout_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a host says before anything is planned.

    `free_nbytes` is None where there is no limit, or where the host is not to write. `clock_s`
    as in `HostProgress`.
    """

    string_nbytes: dict[str, StringNbytes]
    free_nbytes: int | None
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a host says of a data file that it has stored."""

    shard: int
    entries: tuple[Entry, ...]
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class HostProgress:
    """Bytes written so far, and the growth of the host's private memory at its highest.

    `clock_s` is when the host said so, by its own clock: shown back to it, it tells how long
    ago the caller heard of it.
    """

    nbytes: int
    peak_bytes: int
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that another process gives out: which, and at whose endpoint by which key."""

    host: str
    endpoint: Endpoint
    key: str
    nbytes: int
