"""Who takes part in one save: hosts of the cluster, and the calling process if it writes."""

import contextlib
import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from dsave.errors import DsaveError
from dsave.model.device import LOCALHOST
from dsave.runtime.answers import all_answers
from dsave.runtime.host_save import HostSave
from dsave.runtime.hosts import Hosts
from dsave.runtime.object_storage import check_hosts_share
from dsave.runtime.save_messages import Found, HostProgress, Ticket
from dsave.runtime.stream import Endpoint
from dsave.runtime.turns import Turn

_GROUPS = {"write": "write", "progress": "control", "cancel": "control", "end": "control"}
_FAREWELL_S = 10.0


class Participants:
    """The hosts of one save, by name.

    Raises:
        DsaveError: from every method, what a host raised; HostLostError if it is dead, and
            StalledError if it does not answer in time.
    """

    def __init__(self, hosts: Hosts, ticket: Ticket) -> None:
        self._hosts = hosts
        self._ticket = ticket
        self._begun: list[str] = []
        self._silent: set[str] = set()
        """Hosts that are still told what to do, but not waited for."""
        self.heard_s: Mapping[str, float] = {}
        """When each host began, by its own clock."""
        self.turn = Turn(ticket.directory)
        """Taken with the snapshots. Who carries out the save ends it; else `discard` does."""
        self._local: HostSave | None = None

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
        with self._hosts.together:
            self.turn.take()
            for host in dict.fromkeys([*snapshots, *sorted(writers)]):
                self._begun.append(host)
                stores = host in writers
                if host == LOCALHOST:
                    self._local = HostSave(
                        LOCALHOST, self._ticket.directory, "127.0.0.1", self._ticket, {}
                    )
                    calls[host] = _in_thread(self._local.begin, stores=stores)
                else:
                    calls[host] = self._hosts.submit(
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
            return _in_thread(getattr(self._local, verb), *args)
        return self._hosts.submit(
            host,
            phase,
            "in_save",
            self._ticket.epoch,
            verb,
            *args,
            group=_GROUPS.get(verb, "save"),
        )

    def discard(self) -> None:
        """Remove what `begin` left in the directories, as far as the hosts still answer."""
        try:
            # Nobody has moved anything: there is nothing of others to be careful with.
            self._try("removing what was written", "discard", math.inf, ())
        finally:
            self.turn.end()

    def end(self, lost: Collection[str] = ()) -> dict[str, HostProgress]:
        """Drop all snapshots; how far each host came that is not lost and still answers."""
        self._silent.update(lost)
        return self._try("ending the save", "end")

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


def _in_thread(verb: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
    """Call a verb in a thread of its own.

    A pool takes no more calls once the interpreter has begun to end, and waits for them then: a
    save in the background goes on at that time, and one that was given up may never return.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(verb(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    try:
        threading.Thread(target=run, name="dsave-local", daemon=True).start()
    except RuntimeError as error:  # the process may have no more of them
        future.set_exception(error)
    return future
