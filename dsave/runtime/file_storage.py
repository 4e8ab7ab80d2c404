"""A save's files in a directory of a filesystem.

They are written under their final names into a sibling of the directory, `.NAME.dsave-EPOCH`.
The commit is one rename, or where something is there already one exchange.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

from dsave.errors import DirectoryError
from dsave.format import naming
from dsave.format.coding import Buffer
from dsave.runtime.storage import MARKER

_SMALL_NBYTES = 64 << 10
_COALESCE_NBYTES = 1 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class _FileSink:
    """Small writes are gathered, large ones go straight from the caller's memory."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._file: IO[bytes] = path.open("xb", buffering=0)
        self._durable = durable
        self._small = bytearray()

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        view = memoryview(data)
        if view.nbytes >= _SMALL_NBYTES:
            self._flush()
            self._write_out(view.cast("B"))
            return
        self._small += view
        if len(self._small) >= _COALESCE_NBYTES:
            self._flush()

    def close(self) -> None:
        """Store the file."""
        self._flush()
        if self._durable:
            os.fsync(self._file.fileno())
        self._file.close()

    def abort(self) -> None:
        """Give the file up."""
        self._file.close()

    def _flush(self) -> None:
        self._write_out(memoryview(bytes(self._small)))
        self._small.clear()

    def _write_out(self, view: memoryview) -> None:
        while len(view):
            view = view[self._file.write(view) :]


class FileStorage:
    """A directory of a filesystem."""

    def __init__(self, path: str, epoch: str, host: str, *, durable: bool) -> None:
        # The directory itself may be a link; what it points to is what is replaced.
        self._target = Path(os.path.realpath(path))
        self._staging = self._target.parent / naming.staging_name(self._target.name, epoch)
        self._host = host
        self._durable = durable
        self._made: list[Path] = []
        self._lock: int | None = None
        self._replaced = False
        self._moved = False

    def begin(self, marker: str) -> int:
        """Look at the directory, make the staging one, leave a marker in it."""
        with self._named("cannot be written"):
            if self._target.exists() and not self._target.is_dir():
                raise DirectoryError(str(self._target), self._host, "it exists and is a file")
            if self._target.is_dir():
                names = {entry.name for entry in self._target.iterdir()}
                if (
                    names
                    and naming.SAVED_MODEL_FILE not in names
                    and (foreign := sorted(names - naming.SAVED_MODEL_NAMES))
                ):
                    raise DirectoryError(
                        str(self._target),
                        self._host,
                        "it is no SavedModel and holds others' files "
                        f"({', '.join(foreign[:3])}); choose another directory, or empty it",
                    )
            self._make_parents()
            self._staging.mkdir(exist_ok=True)
            self._hold()
            (self._staging / f"{MARKER}{marker}").touch()
            if self._target.exists():
                _check_replaceable(self._target)
            disk = os.statvfs(self._staging)
            return disk.f_bavail * disk.f_frsize

    def seen(self) -> frozenset[str]:
        """The markers that are there."""
        with self._named("cannot be read"):
            return frozenset(
                entry.name.removeprefix(MARKER)
                for entry in self._staging.iterdir()
                if entry.name.startswith(MARKER)
            )

    def open(self) -> None:
        """Sweep what dead saves of this directory left."""
        with self._named("cannot be written"):
            for entry in self._target.parent.iterdir():
                parsed = naming.parse_staging_name(entry.name)
                if parsed and parsed[0] == self._target.name and entry != self._staging:
                    _remove_if_dead(entry)
            (self._staging / naming.VARIABLES_DIRECTORY).mkdir(exist_ok=True)

    def create(self, file: str, nbytes: int) -> _FileSink:
        """Start a file."""
        del nbytes  # room was checked for the whole save
        with self._named("cannot be written"):
            path = self._staging / file
            path.parent.mkdir(exist_ok=True)
            return _FileSink(path, durable=self._durable)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write small files in this order, each whole."""
        with self._named("cannot be written"):
            for marker in self._staging.glob(f"{MARKER}*"):
                marker.unlink()
            for file, data in files.items():
                sink = self.create(file, len(data))
                sink.write(data)
                sink.close()
            if self._durable:
                for directory in {self._staging, *(self._staging / f for f in files)}:
                    _sync(directory if directory.is_dir() else directory.parent)

    def move(self) -> None:
        """Make the save visible; keep what it replaces."""
        with self._named("cannot be moved into place"):
            self._replaced = _move(self._staging, self._target)
            self._moved = True
            if self._durable:
                _sync(self._target.parent)

    def clean(self, files: Collection[str]) -> None:
        """Remove what the save replaced, but for files that no saver owns."""
        del files
        with self._named("cannot be cleaned"):
            if self._replaced:
                for entry in self._staging.iterdir():
                    if entry.name not in naming.SAVED_MODEL_NAMES:  # the user's own: keep it
                        entry.rename(self._target / entry.name)
                shutil.rmtree(self._staging)
            self.end()

    def move_back(self) -> None:
        """Undo `move`, if it happened."""
        if self._moved:
            with self._named("cannot be moved back"):
                _move(self._target, self._staging)
                self._moved = False

    def discard(self, files: Collection[str]) -> None:
        """Remove every trace of the save."""
        del files
        with self._named("cannot be removed"):
            shutil.rmtree(self._staging, ignore_errors=True)
            for parent in reversed(self._made):
                with contextlib.suppress(OSError):
                    parent.rmdir()
            self.end()

    def end(self) -> None:
        """Let go of the staging directory: if it is still there, the next save may sweep it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_parents(self) -> None:
        missing = []
        parent = self._target.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
                self._made.append(directory)

    def _hold(self) -> None:
        """Keep a lock while this process lives: without one a staging directory is dead."""
        self._lock = os.open(self._staging, os.O_RDONLY)
        with contextlib.suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @contextlib.contextmanager
    def _named(self, problem: str) -> Iterator[None]:
        try:
            yield
        except DirectoryError:
            raise
        except OSError as error:
            raise DirectoryError(str(self._target), self._host, f"{problem}: {error}") from None


def _move(source: Path, target: Path) -> bool:
    """Put `source` in `target`'s place; say whether what was there is in `source` now."""
    if not target.is_dir() or not any(target.iterdir()):
        source.rename(target)
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(source), os.fsencode(target)
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in {errno.ENOSYS, errno.EINVAL}:
        raise OSError(number, os.strerror(number), str(target))
    # This filesystem cannot exchange: for a moment nothing is at the target.
    aside = source.with_name(f"{source.name}-replaced")
    target.rename(aside)
    source.rename(target)
    aside.rename(source)
    return True


def _check_replaceable(target: Path) -> None:
    if os.path.ismount(target):
        raise OSError(
            errno.EBUSY, "it is a mount point, which cannot be moved; add a name to it"
        )


def _remove_if_dead(staging: Path) -> None:
    """Remove a staging directory unless a living process holds it."""
    with contextlib.suppress(OSError):
        lock = os.open(staging, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(staging, ignore_errors=True)
        finally:
            os.close(lock)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
