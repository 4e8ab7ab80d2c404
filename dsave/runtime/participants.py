"""Who takes part in one save: hosts of the cluster, and the calling process if it writes."""

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from dsave.errors import DsaveError
from dsave.model.device import LOCALHOST
from dsave.runtime.answers import all_answers
from dsave.runtime.cluster import Cluster
from dsave.runtime.host_save import HostSave
from dsave.runtime.object_storage import check_hosts_share
from dsave.runtime.save_messages import Found, HostProgress, Ticket
from dsave.runtime.stream import Endpoint

_GROUPS = {"progress": "control", "cancel": "control", "end": "control"}
_LOCAL_THREADS = 12
_FAREWELL_S = 10.0


class Participants:
    """The hosts of one save, by name.

    Raises:
        DsaveError: from every method, what a host raised; HostLostError if it is dead, and
            StalledError if it does not answer in time.
    """

    def __init__(self, cluster: Cluster, ticket: Ticket) -> None:
        self._cluster = cluster
        self._ticket = ticket
        self._begun: list[str] = []
        self._silent: set[str] = set()
        """Hosts that are still told what to do, but not waited for."""
        self.heard_s: Mapping[str, float] = {}
        """When each host began, by its own clock."""
        self._local: HostSave | None = None
        self._pool = ThreadPoolExecutor(_LOCAL_THREADS, "dsave-local")
        # Of its own: no question waits until a file is written.
        self._control = ThreadPoolExecutor(1, "dsave-local-control")

    def begin(
        self, snapshots: Mapping[str, Mapping[str, str]], writers: Iterable[str]
    ) -> dict[str, Found]:
        """Take all snapshots (component key to variable name, by host) at one moment.

        Hosts that are to write look at the directory as well.

        Raises:
            OptionError: nobody else could read what they are to write.
        """
        writers = set(writers)
        if writers != {LOCALHOST}:
            check_hosts_share(self._ticket.directory)
        phase = "taking a snapshot"
        calls: dict[str, Future[Any]] = {}
        with self._cluster.together:
            for host in dict.fromkeys([*snapshots, *sorted(writers)]):
                self._begun.append(host)
                stores = host in writers
                if host == LOCALHOST:
                    self._local = HostSave(
                        LOCALHOST, self._ticket.directory, "127.0.0.1", self._ticket, {}
                    )
                    calls[host] = self._pool.submit(self._local.begin, stores=stores)
                else:
                    calls[host] = self._cluster.submit(
                        host,
                        phase,
                        "begin_save",
                        self._ticket,
                        snapshots.get(host, {}),
                        stores=stores,
                    )
        found: dict[str, Found] = self._results(phase, calls)
        self.heard_s = {host: answer.clock_s for host, answer in found.items()}
        return found

    def seen(self, writers: Iterable[str]) -> dict[str, frozenset[str]]:
        """Whose markers each writer sees in its directory."""
        return self._ask("looking who shares the directory", "seen", writers)

    def serve(self, hosts: Iterable[str]) -> dict[str, Endpoint]:
        """Have hosts give out their bytes; where each does."""
        return self._ask("opening a port", "serve", hosts)

    def submit(self, host: str, phase: str, verb: str, *args: Any) -> "Future[Any]":
        """Call a verb of one host's `HostSave`."""
        if host == LOCALHOST:
            pool = self._control if verb in _GROUPS else self._pool
            return pool.submit(getattr(self._local, verb), *args)
        return self._cluster.submit(
            host,
            phase,
            "in_save",
            self._ticket.epoch,
            verb,
            *args,
            group=_GROUPS.get(verb, "io"),
        )

    def discard(self) -> None:
        """Remove what `begin` left in the directories, as far as the hosts still answer."""
        # Nobody has moved anything: there is nothing of others to be careful with.
        self._try("removing what was written", "discard", math.inf, ())

    def end(self, lost: Collection[str] = ()) -> dict[str, HostProgress]:
        """Drop all snapshots; how far each host came that is not lost and still answers."""
        self._silent.update(lost)
        answers = self._try("ending the save", "end")
        self._pool.shutdown(wait=False)
        self._control.shutdown(wait=False)
        return answers

    def _ask(self, phase: str, verb: str, hosts: Iterable[str]) -> dict[str, Any]:
        return self._results(phase, {h: self.submit(h, phase, verb) for h in hosts})

    def _try(self, phase: str, verb: str, *args: Any) -> dict[str, Any]:
        try:
            calls = self._tell(phase, verb, *args)
        except BaseException:  # an interrupt; those who hear it twice do nothing
            self._tell(phase, verb, *args)
            raise
        awaited = [call for host, call in calls.items() if host not in self._silent]
        wait(awaited, min(self._ticket.stall_timeout_s, _FAREWELL_S))
        # Who is gone, or never began, says nothing; the next save sweeps what it left.
        return {h: c.result() for h, c in calls.items() if c.done() and not c.exception()}

    def _tell(self, phase: str, verb: str, *args: Any) -> "dict[str, Future[Any]]":
        calls: dict[str, Future[Any]] = {}
        for host in self._begun:
            with contextlib.suppress(DsaveError):
                calls[host] = self.submit(host, phase, verb, *args)
        return calls

    def _results(self, phase: str, calls: Mapping[str, "Future[Any]"]) -> dict[str, Any]:
        # All of them, before the first error: nobody may begin when others already end.
        try:
            return all_answers(phase, calls, self._ticket.stall_timeout_s, "stall_timeout_s")
        except Exception:  # but no interrupt: who has had no time to answer is not silent
            self._silent.update(host for host, call in calls.items() if not call.done())
            raise
