"""What of a directory that a save replaces is the user's: files in no name of a SavedModel.

They are linked into the new directory before it is in place. The user goes on meanwhile, so
what came or was changed in the old one since then is moved over before that goes.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dsave.format import naming
from dsave.runtime import directories

_Look = Callable[[os.stat_result], tuple[int, ...]]


class UsersFiles:
    """The files of one directory, and how each was when it was linked."""

    def __init__(self, *, durable: bool) -> None:
        self._durable = durable
        self._linked: dict[Path, tuple[_Look, frozenset[tuple[int, ...]]]] = {}
        """By name: what tells whether it is still the same, and what that was, in both."""

    def link(self, old: Path, new: Path) -> None:
        """Have them in another directory as well, as links, or copies where there are none."""
        for entry in _of_user(old):
            self._link(entry, new / entry.name, Path(entry.name))

    def bring(self, old: Path, new: Path) -> None:
        """Move over what is in `old` alone by now; where both changed, that in `new` stays.

        On a host that did not link them, only what is not there at all.
        """
        for entry in _of_user(old):
            self._bring(entry, new / entry.name, Path(entry.name))

    def _link(self, old: Path, new: Path, name: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # it is gone again
            if _is_directory(old):
                new.mkdir(exist_ok=True)
                self._linked[name] = _identity, frozenset()
                for entry in old.iterdir():
                    self._link(entry, new / entry.name, name / entry.name)
                shutil.copystat(old, new)
                if self._durable:
                    directories.sync(new)
                return
            before = old.lstat()
            look = _identity
            try:
                os.link(old, new, follow_symlinks=False)
            except OSError:
                shutil.copy2(old, new, follow_symlinks=False)
                look = _state
                if self._durable and not new.is_symlink():
                    directories.sync(new)
            self._linked[name] = look, frozenset({look(before), look(new.lstat())})

    def _bring(self, old: Path, new: Path, name: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # as above
            there = new.lstat() if os.path.lexists(new) else None
            if _is_directory(old):
                if there is None and name not in self._linked:
                    self._move(old, new)
                    return
                for entry in old.iterdir():
                    self._bring(entry, new / entry.name, name / entry.name)
                return
            here = old.lstat()
            look, known = self._linked.get(name, (_identity, frozenset()))
            if look(here) in known:
                return  # where it is not there, the user has removed it since
            if there is None or look(there) in known:
                self._move(old, new)

    def _move(self, old: Path, new: Path) -> None:
        new.parent.mkdir(parents=True, exist_ok=True)
        old.replace(new)
        if self._durable:
            directories.sync(new.parent)


def _of_user(directory: Path) -> Iterator[Path]:
    return (e for e in directory.iterdir() if e.name not in naming.SAVED_MODEL_NAMES)


def _is_directory(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    """Of a link: the file itself, since what is written to it is in both directories."""
    return found.st_dev, found.st_ino


def _state(found: os.stat_result) -> tuple[int, ...]:
    """Of a copy: which file, and how it was when it was copied."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
