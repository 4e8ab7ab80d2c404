"""Whose turn it is: of saves to one place, and of files to write on one host.

Both are of this process, and nobody waits in here: who may not go on yet asks again.
"""

import threading
from collections import Counter

WRITERS = 16
"""Files that a host writes at once, at most."""

_SHARED = 8
_lock = threading.Lock()
_lines: dict[str, list["Turn"]] = {}
_writing: Counter[str] = Counter()


class Turn:
    """A save's place in the line of all saves to one directory, from `take` until `end`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def take(self) -> None:
        """Get in line, behind all that are there."""
        with _lock:
            _lines.setdefault(self._directory, []).append(self)

    @property
    def has_come(self) -> bool:
        """Whether all that were there before have ended."""
        with _lock:
            return _lines[self._directory][0] is self

    def end(self) -> None:
        """Let the next one go on; nothing, if it is over."""
        with _lock:
            line = _lines.get(self._directory, [])
            if self in line:
                line.remove(self)
            if not line:
                _lines.pop(self._directory, None)


def may_write(host: str, own: int) -> bool:
    """Whether a save may begin a file on a host, where it writes `own` others; if so, it does.

    The first one need not wait for the many files of another save, as long as the host has a
    thread for it.
    """
    with _lock:
        if _writing[host] >= (_SHARED if own else WRITERS):
            return False
        _writing[host] += 1
        return True


def has_written(host: str) -> None:
    """Take note that a file is written, or that nobody waits for it any more."""
    with _lock:
        _writing[host] -= 1
        if not _writing[host]:
            del _writing[host]
