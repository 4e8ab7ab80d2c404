"""Who takes part in one load: hosts of the cluster, and the calling process if it reads.

look         what each sees of the directory, which all it reads is of
metadata     of one that sees it
stage        all read and receive; nobody's values change
adopt        all take over what they have staged; before it, all say that they can, and if one
             fails after all, the others take back what they had
end          in any case
"""

import contextlib
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

from dsave.errors import CorruptionError, DsaveError, HostLostError, StalledError
from dsave.format.crc32c import joined
from dsave.model.device import LOCALHOST
from dsave.plan.load_plan import LoadPlan, Segment
from dsave.runtime.answers import all_answers
from dsave.runtime.host_load import HostLoad, LoadTicket, StoredMetadata, View
from dsave.runtime.hosts import Hosts
from dsave.runtime.object_storage import check_hosts_share
from dsave.runtime.stream import Endpoint

_GROUPS = {"progress": "control", "failure": "control", "end": "control"}
_LOOKING = "looking at the directory"
_LOCAL_THREADS = 4
_POLL_S = 1.0
_LOOKS = 10
"""How often hosts are asked before their deadline, at least."""

_FAREWELL_S = 10.0


class LoadHosts:
    """The hosts of one load, by name.

    Raises:
        DsaveError: from every method, what a host raised; HostLostError if it is dead, and
            StalledError if it makes no progress before the deadline.
    """

    def __init__(self, hosts: Hosts, directory: str, stall_timeout_s: float) -> None:
        self._hosts = hosts
        self._ticket = LoadTicket(secrets.token_hex(8), directory, stall_timeout_s)
        self._begun: list[str] = []
        self._local: HostLoad | None = None
        self._pool = ThreadPoolExecutor(_LOCAL_THREADS, "dsave-local")

    def begin(self, hosts: Iterable[str], readers: Collection[str]) -> dict[str, View]:
        """Begin the load on hosts; what each reader sees of the directory.

        Raises:
            OptionError: readers cannot see what any other process wrote there.
        """
        if set(readers) != {LOCALHOST}:
            check_hosts_share(self._ticket.directory)
        phase = _LOOKING
        calls: dict[str, Future[Any]] = {}
        for host in dict.fromkeys([*hosts, *readers]):
            self._begun.append(host)
            if host == LOCALHOST:
                self._local = HostLoad(
                    LOCALHOST, self._ticket.directory, self._hosts.own_address, self._ticket
                )
                calls[host] = self._pool.submit(self._local.look)
            else:
                calls[host] = self._hosts.submit(
                    host,
                    phase,
                    "begin_load",
                    self._ticket,
                    looks=host in readers,
                    group="io",
                )
        found = self._results(phase, calls)
        return {host: found[host] for host in readers}

    def look(self, readers: Iterable[str]) -> dict[str, View]:
        """Look again: what each reader sees of the directory now."""
        return self._ask(_LOOKING, "look", readers)

    def metadata(self, host: str) -> StoredMetadata:
        """The metadata that a host sees."""
        metadata: StoredMetadata = self._ask("reading the metadata", "metadata", [host])[host]
        return metadata

    def stage(self, plan: LoadPlan, file: str) -> None:
        """Have all hosts read and receive what they are to have, and check it.

        `file` names the checkpoint in errors.
        """
        hosts = [host for host in plan.hosts if host in self._begun]
        phase = "preparing to read"
        prepared = self._results(
            phase, {h: self._submit(h, phase, "prepare", plan.of(h)) for h in hosts}
        )
        endpoints = {host: where for host, where in prepared.items() if where is not None}
        self._stage(hosts, endpoints)
        cut = {s.reader for s in plan.segments if not s.is_whole}
        crcs: dict[int, int] = {}
        for found in self._ask("checking", "checksums", sorted(cut)).values():
            crcs |= found
        _check(plan.segments, crcs, file)

    def adopt(self, plan: LoadPlan, *, replaces: bool) -> None:
        """Have all hosts take over what they have staged, between two steps of the user's.

        `replaces`: in place of values that they have, and not as new ones.
        """
        hosts = list(dict.fromkeys(want.host for want in plan.wants))
        epoch = self._ticket.epoch
        phase = "waiting for a step to end"
        calls = {
            h: self._hosts.submit(h, phase, "can_adopt", epoch, replaces=replaces)
            for h in hosts
        }
        self._results(phase, calls)
        phase = "taking over what was loaded"
        try:
            with self._hosts.together:
                calls = {h: self._hosts.submit(h, phase, "adopt", epoch) for h in hosts}
            self._results(phase, calls)
        except BaseException:
            self._take_back(hosts)
            raise

    def _take_back(self, hosts: Iterable[str]) -> None:
        phase, calls = "taking back what there was", []
        with self._hosts.together:
            for host in hosts:
                with contextlib.suppress(DsaveError):
                    calls.append(
                        self._hosts.submit(host, phase, "take_back", self._ticket.epoch)
                    )
        wait(calls, self._ticket.stall_timeout_s)

    def end(self) -> None:
        """Let go of everything that is not adopted, as far as the hosts still answer."""
        calls = []
        for host in self._begun:
            with contextlib.suppress(DsaveError):
                calls.append(self._submit(host, "ending the load", "end"))
        wait(calls, min(self._ticket.stall_timeout_s, _FAREWELL_S))
        self._pool.shutdown(wait=False)

    def _stage(self, hosts: list[str], endpoints: Mapping[str, Endpoint]) -> None:
        calls = {h: self._submit(h, "reading", "stage", endpoints) for h in hosts}
        moved = dict.fromkeys(hosts, (0, time.monotonic()))
        asked: dict[str, Future[Any]] = {}
        poll_s = min(_POLL_S, self._ticket.stall_timeout_s / _LOOKS)
        while True:
            done, waiting = wait(calls.values(), poll_s, return_when=FIRST_EXCEPTION)
            if any(call.exception() for call in done):
                raise self._reason([e for call in done if (e := call.exception())])
            if not waiting:
                return
            self._watch({h for h in hosts if calls[h] in waiting}, moved, asked)

    def _watch(
        self,
        hosts: Iterable[str],
        moved: dict[str, tuple[int, float]],
        asked: dict[str, "Future[Any]"],
    ) -> None:
        """Ask how far hosts are; who neither moves nor answers for too long has stalled."""
        now = time.monotonic()
        for host in hosts:
            question = asked.get(host)
            if question is not None and question.done() and not question.exception():
                nbytes = question.result()
                if nbytes != moved[host][0]:
                    moved[host] = (nbytes, now)
            if question is None or question.done():
                asked[host] = self._submit(host, "reading", "progress")
            if now - moved[host][1] > self._ticket.stall_timeout_s:
                raise StalledError(
                    host,
                    "reading",
                    f"no byte in {self._ticket.stall_timeout_s:g} s; "
                    "stall_timeout_s sets the deadline",
                )

    def _reason(self, errors: list[BaseException]) -> BaseException:
        """Why staging failed: a host that did not get its bytes does not know why."""
        own = [error for error in errors if not isinstance(error, HostLostError)]
        if own:
            return own[0]
        calls = {}
        for host in self._begun:
            with contextlib.suppress(DsaveError):
                calls[host] = self._submit(host, "failing", "failure")
        wait(calls.values(), _FAREWELL_S)
        told = [c.result() for c in calls.values() if c.done() and not c.exception()]
        causes = [e for e in told if e is not None and not isinstance(e, HostLostError)]
        return (causes or errors)[0]

    def _submit(self, host: str, phase: str, verb: str, *args: Any) -> "Future[Any]":
        if host == LOCALHOST:
            return self._pool.submit(getattr(self._local, verb), *args)
        return self._hosts.submit(
            host,
            phase,
            "in_load",
            self._ticket.epoch,
            verb,
            *args,
            group=_GROUPS.get(verb, "io"),
        )

    def _ask(self, phase: str, verb: str, hosts: Iterable[str]) -> dict[str, Any]:
        return self._results(phase, {h: self._submit(h, phase, verb) for h in hosts})

    def _results(self, phase: str, calls: Mapping[str, "Future[Any]"]) -> dict[str, Any]:
        return all_answers(phase, calls, self._ticket.stall_timeout_s, "stall_timeout_s")


def _check(segments: Iterable[Segment], crcs: Mapping[int, int], file: str) -> None:
    """See that the parts in which a piece was read have the checksum of the whole.

    Raises:
        CorruptionError: they have not.
    """
    parts: dict[tuple[int, int, str], list[Segment]] = {}
    for segment in segments:
        if segment.number in crcs:
            entry = segment.entry
            parts.setdefault((entry.shard, entry.offset, entry.key), []).append(segment)
    for piece in parts.values():
        entry, crc, row = piece[0].entry, 0, 0
        for segment in sorted(piece, key=lambda segment: segment.start):
            if segment.start != row:
                break  # not all of it was wanted, so that nothing can be said
            crc = joined(crc, crcs[segment.number], segment.nbytes)
            row = segment.stop
        if row == (entry.stored_shape or (1,))[0] and crc != entry.crc32c:
            raise CorruptionError(file, entry.key, "its checksum does not match")
