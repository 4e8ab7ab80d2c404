"""Which hosts of a save are alive, and get on: those that die or fall silent are lost."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from dsave.errors import HostLostError, StalledError
from dsave.plan.commit import Lost, Phase
from dsave.runtime.save_messages import HostProgress

POLL_S = 0.1
_BLAME_S = 1.0
_PAUSE_S = 1.0


@dataclass(slots=True)
class _Pulse:
    """The last that was heard of a host: the open question, and since when nothing moved."""

    moved_at: float
    answered_at: float
    heard_s: float
    """When it was, by its own clock."""

    question: "Future[HostProgress] | None" = None
    last: HostProgress = field(default_factory=lambda: HostProgress(0, 0))


class Pulses:
    """What was heard of each host, and since when nothing was.

    `heard_s`: when a host was heard of last, by its own clock. `dependent` are hosts that may
    have to wait for others, and so get a little longer.
    """

    def __init__(
        self,
        hosts: Collection[str],
        heard_s: Mapping[str, float],
        dependent: Collection[str],
        ask: Callable[[str, Phase], "Future[HostProgress]"],
        stall_timeout_s: float,
    ) -> None:
        self._listened_at = now = time.monotonic()
        self._pulses = {
            host: _Pulse(now, now, heard_s.get(host, -math.inf))
            for host in dict.fromkeys(hosts)
        }
        self._dependent = dependent
        self._ask = ask
        self._stall_timeout_s = stall_timeout_s

    def progress(self) -> dict[str, HostProgress]:
        """How far each host is, as last heard."""
        return {host: pulse.last for host, pulse in self._pulses.items()}

    def heard_s(self, host: str) -> float:
        """When a host was heard of last, by its own clock."""
        return self._pulses[host].heard_s

    def hear(self, host: str, clock_s: float) -> None:
        """Take note that a host said something at this time of its clock."""
        pulse = self._pulses[host]
        pulse.heard_s = max(pulse.heard_s, clock_s)

    def start(self, host: str) -> None:
        """Expect a host to get on from now."""
        self._pulses[host].moved_at = time.monotonic()

    def listen(self, phase: Phase, busy: Collection[str], lost: Collection[str]) -> list[Lost]:
        """Ask all how far they are; those that died or fell silent.

        Those that are not `busy` need not get on, and nobody asks those that are `lost`.
        """
        now = time.monotonic()
        if now - self._listened_at > _PAUSE_S:  # it was this process that stood still
            for pulse in self._pulses.values():
                pulse.moved_at += now - self._listened_at
                pulse.answered_at += now - self._listened_at
        self._listened_at = now
        found: list[Lost] = []
        for host, pulse in self._pulses.items():
            if host in lost:
                continue
            if pulse.question is not None and pulse.question.done():
                error = pulse.question.exception()
                if isinstance(error, HostLostError):
                    found.append(Lost(host, error))
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
                found.append(Lost(host, StalledError(host, phase.value, problem)))
            elif pulse.question is None and now - pulse.answered_at >= POLL_S:
                pulse.answered_at = now
                pulse.question = self._ask(host, phase)
        return found
