"""Wait for hosts, never without an end that has a name."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
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
    """What each host answers. `setting` is what a caller changes to wait longer.

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
            problem = f"no answer in {timeout_s:.0f} s; {setting} sets the deadline"
            raise StalledError(host, phase, problem) from None
    return results
