"""Directories of a filesystem that change place, or are held and swept, as a whole."""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_ATTEMPTS = 3
_ASIDE = "-replaced"
_YOUNG_S = 3600.0


def put_in_place(source: Path, target: Path) -> None:
    """Make `source` be `target`; what was at `target` is at `source` then.

    Where a filesystem cannot exchange two directories, nothing is at `target` for a moment.
    """
    for attempt in range(_ATTEMPTS):
        try:
            if not os.path.lexists(target):
                source.rename(target)
            elif not _exchange(source, target):
                _swap(source, target)
        except OSError as error:
            # Another save may have come to this place, or left it, in between.
            raced = error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}
            if not raced or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; False: the system or filesystem cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
        return False
    problem = os.strerror(number)
    if number == errno.EXDEV:  # though they are beside each other
        problem += (
            " (an overlay filesystem moves no directory that a lower layer of it has, as what "
            "comes with a container's image: save to a new name)"
        )
    raise OSError(number, problem, str(other))


def _swap(source: Path, target: Path) -> None:
    aside = aside_of(source)
    target.rename(aside)
    try:
        source.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(source)


def aside_of(staging: Path) -> Path:
    """Where a replaced directory is for the moment in which nothing is in its place."""
    return staging.with_name(f"{staging.name}{_ASIDE}")


def is_aside(directory: Path) -> bool:
    """Whether it is one that a save was about to replace."""
    return directory.name.endswith(_ASIDE)


def same(directory: Path, descriptor: int) -> bool:
    """Whether this directory is there and is the one that was opened as `descriptor`."""
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def hold(path: Path) -> int:
    """Open a file or a directory and lock it, so that nobody can claim it; its descriptor.

    The lock lasts until the descriptor is closed, at the latest when this process ends.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with contextlib.suppress(OSError):  # where nothing can be locked, nothing can be claimed
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


@contextlib.contextmanager
def claimed(directory: Path, locks: str) -> Iterator[bool]:
    """Whether nobody holds a directory, or a file in it like the pattern `locks`.

    Network filesystems know of locks on files on every machine, of those on directories on
    this one only.
    """
    descriptors: list[int] = []
    try:
        try:
            descriptors.append(os.open(directory, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY))
            # Looked at before it is locked: its owner locks it before it puts files in it.
            empty = not any(directory.iterdir())
            files = directory.glob(locks)
            descriptors.extend(os.open(file, os.O_RDWR | os.O_NOFOLLOW) for file in files)
            for descriptor in descriptors:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # An empty one may be of somebody who is about to hold it.
            dead = not empty or _age_s(directory) > _YOUNG_S
        except OSError:
            dead = False
        yield dead
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def remove(directory: Path) -> None:
    """Remove a directory, though a late writer may still put files in it.

    Raises:
        OSError: something is mounted in it, which would be emptied first.
    """
    mounts = mounts_at_or_below(directory)
    if mounts:
        raise OSError(errno.EBUSY, "something is mounted there", str(mounts[0]))
    for _ in range(_ATTEMPTS):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.lexists(directory):
            return
    shutil.rmtree(directory)


def mounts_at_or_below(directory: Path) -> list[Path]:
    """Where something is mounted on this directory, or anywhere in it.

    From the kernel: what is bound there from the same filesystem looks like any directory.
    """
    mounts = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            # The fifth field, in which four characters are written in octal.
            name = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), line.split()[4])
            mount = Path(os.fsdecode(name))
            if mount.is_relative_to(directory):
                mounts.append(mount)
    return mounts


def give_mode(source: Path, target: Path) -> None:
    """Give `target` the permissions of `source`: what was private stays so."""
    with contextlib.suppress(OSError):
        target.chmod(stat.S_IMODE(source.stat().st_mode))


def is_in_use(directory: Path) -> bool:
    """Whether it is the current directory of this process, or above it."""
    with contextlib.suppress(OSError):  # that one was removed
        return Path.cwd().is_relative_to(directory)
    return False


def sync(path: Path) -> None:
    """Store the names in a directory, or what is in a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
