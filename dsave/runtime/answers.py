"""Wait for hosts, never without an end that has a name."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any

from dsave.errors import DsaveError, OptionError, OptionTypeError, StalledError


def checked_deadline(option: str, given: object) -> float:
    """A deadline in seconds that a caller gave.

    Raises:
        OptionTypeError: it is no number.
        OptionError: it is not above 0, or longer than Python can wait.
    """
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise OptionTypeError(option, f"a number of seconds is wanted, got {given!r}")
    if not 0 < given < threading.TIMEOUT_MAX:
        raise OptionError(option, f"seconds above 0 are wanted, got {given}")
    return float(given)


def answers(
    phase: str, calls: Mapping[str, "Future[Any]"], timeout_s: float | None, setting: str
) -> dict[str, Any]:
    """What each host answers; an error as soon as it is that host's turn.

    `setting` is what a caller changes to wait longer.

    Raises:
        StalledError: a host does not answer in `timeout_s` seconds.
        Exception: what a host raised.
    """
    results = {}
    for host, call in calls.items():
        try:
            results[host] = call.result(timeout_s)
        except TimeoutError as error:
            if isinstance(error, DsaveError) or call.done():
                raise
            raise _stalled(host, phase, timeout_s, setting) from None
    return results


def all_answers(
    phase: str, calls: Mapping[str, "Future[Any]"], timeout_s: float, setting: str
) -> dict[str, Any]:
    """What each host answers; no error before all have, or the time is over.

    Raises:
        StalledError: a host does not answer in `timeout_s` seconds, and none raised an error.
        Exception: what a host raised.
    """
    wait(calls.values(), timeout_s)
    results = {host: call.result() for host, call in calls.items() if call.done()}
    for host in calls:
        if host not in results:
            raise _stalled(host, phase, timeout_s, setting)
    return results


def _stalled(host: str, phase: str, timeout_s: float | None, setting: str) -> StalledError:
    problem = f"no answer in {timeout_s:g} s; {setting} sets the deadline"
    return StalledError(host, phase, problem)
