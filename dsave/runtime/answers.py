"""Wait for hosts, never without an end that has a name."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from dsave.errors import DsaveError, StalledError


def answers(
    phase: str, calls: Mapping[str, "Future[Any]"], timeout_s: float | None, setting: str
) -> dict[str, Any]:
    """What each host answers.

    `setting` is what a caller changes to wait longer, empty if there is none.

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
            hint = f"; {setting} sets the deadline" if setting else ""
            raise StalledError(host, phase, f"no answer in {timeout_s:.0f} s{hint}") from None
    return results
