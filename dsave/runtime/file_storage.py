"""A save's files in a directory of a filesystem.

They are written under their final names into a sibling of the directory, `.NAME.dsave-EPOCH`.
The commit is one rename, or where something is there already one exchange.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from dsave.errors import DirectoryError, NoSpaceError
from dsave.format import naming
from dsave.runtime import directories
from dsave.runtime.file_sink import FileSink
from dsave.runtime.storage import MARKER, why_not_ours
from dsave.runtime.users_files import UsersFiles

_NAME_NBYTES = 255  # the most that filesystems have


class FileStorage:
    """A directory of a filesystem.

    Several hosts may share it. What was done is read from the directory itself, so that any of
    them can go on where another was lost, and a verb that comes twice does no harm.
    """

    def __init__(
        self,
        path: str,
        epoch: str,
        host: str,
        may_change: Callable[[], object],
        *,
        durable: bool,
    ) -> None:
        # The directory itself may be a link; what it points to is what is replaced.
        self._target = Path(os.path.realpath(path))
        self._staging = self._target.parent / naming.staging_name(self._target.name, epoch)
        self._host = host
        self._may_change = may_change
        self._durable = durable
        self._users_files = UsersFiles(durable=durable)
        self._made: list[Path] = []
        self._own: int | None = None
        """The staging directory, which stays the same one wherever it is moved."""
        self._held: list[int] = []
        """Other directories and files that nobody may sweep."""

    def begin(self, marker: str) -> int | None:
        """Look at the directory, make the staging one, leave a marker in it."""
        with self._named("cannot be written"):
            self._check_name()
            self._check_target()
            self._make_parents()
            self._staging.mkdir(exist_ok=True)
            directories.give_mode(self._target, self._staging)
            self._own = directories.hold(self._staging)
            seen = self._staging / f"{MARKER}{marker}"
            seen.touch()
            self._held.append(directories.hold(seen))
            disk = os.statvfs(self._staging)
            # Some network filesystems count no blocks at all.
            return disk.f_bavail * disk.f_frsize if disk.f_blocks else None

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
                    self._sweep(entry)
            (self._staging / naming.VARIABLES_DIRECTORY).mkdir(exist_ok=True)

    def create(self, file: str, nbytes: int) -> FileSink:
        """Start a file."""
        with self._named("cannot be written"):
            path = self._staging / file
            path.parent.mkdir(exist_ok=True)
            return FileSink(path, nbytes, self._named, durable=self._durable)

    def check(self, files: Mapping[str, int]) -> None:
        """See that files of these sizes are there."""
        with self._named("is not as it was written"):
            for file, nbytes in files.items():
                # Opened, not looked up: a network filesystem then asks its server.
                with (self._staging / file).open("rb") as stored:
                    found = os.fstat(stored.fileno()).st_size
                if found != nbytes:
                    raise OSError(f"{file} has {found:,} bytes, {nbytes:,} were written")

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write small files in this order, each whole."""
        for file, data in files.items():
            sink = self.create(file, len(data))
            try:
                sink.write(data)
                sink.close()
            except BaseException:
                sink.abort()
                raise
        with self._named("cannot be written"):
            if self._durable:
                below = (entry for entry in self._staging.iterdir() if entry.is_dir())
                for directory in (self._staging, *below):
                    directories.sync(directory)

    def move(self) -> None:
        """Make the save visible; keep what it replaces."""
        with self._named("cannot be moved into place"):
            if self._moved:
                return
            self._let_go()  # an open file that is removed leaves a trace on NFS
            for marker in self._staging.glob(f"{MARKER}*"):
                marker.unlink()
            if self._target.is_dir():
                self._held.append(directories.hold(self._target))
                directories.give_mode(self._target, self._staging)
                self._users_files.link(self._target, self._staging)
            if self._durable:
                directories.sync(self._staging)
            self._may_change()
            directories.put_in_place(self._staging, self._target)
            if self._durable:
                directories.sync(self._target.parent)

    def clean(self, files: Collection[str]) -> None:
        """Remove what the save replaced, but for files that no saver owns."""
        del files
        with self._named("cannot be cleaned"):
            if not self._staging.is_dir() or self._is_own(self._staging):
                return
            self._users_files.bring(self._staging, self._target)
            directories.remove(self._staging)

    def move_back(self) -> None:
        """Undo `move`, if it happened."""
        with self._named("cannot be moved back"):
            if not self._moved:
                return
            directories.put_in_place(self._target, self._staging)
            if self._durable:
                directories.sync(self._target.parent)
            self._users_files.bring(self._staging, self._target)

    def discard(self, files: Collection[str]) -> None:
        """Remove every trace of the save."""
        del files
        self.move_back()  # or the staging directory may hold what was replaced
        with self._named("cannot be removed"):
            directories.remove(self._staging)

    def end(self) -> None:
        """Let go of the staging directory: if it is still there, the next save may sweep it."""
        self._let_go()
        if self._own is not None:
            os.close(self._own)
            self._own = None
        for parent in reversed(self._made):
            with contextlib.suppress(OSError):  # there is something in it
                parent.rmdir()

    @property
    def _moved(self) -> bool:
        return self._is_own(self._target)

    def _is_own(self, directory: Path) -> bool:
        return self._own is not None and directories.same(directory, self._own)

    def _check_name(self) -> None:
        if any(map(naming.parse_staging_name, self._target.parts)):
            raise self._error("a name like this is of what a save leaves, and the next removes")
        longer = len(os.fsencode(self._staging.name)) - len(os.fsencode(self._target.name))
        if len(os.fsencode(self._staging.name)) > _NAME_NBYTES:
            raise self._error(
                "its name is too long for that of the directory beside it in which it is "
                f"written; it may have {_NAME_NBYTES - longer} bytes"
            )

    def _check_target(self) -> None:
        if not os.path.lexists(self._target):
            return
        if not self._target.is_dir():
            raise self._error("it exists and is no directory")
        mounts = directories.mounts_at_or_below(self._target)
        if self._target in mounts:
            raise self._error("it is a mount point, which cannot be moved; add a name to it")
        if mounts:  # it would be moved with the directory, and emptied with it
            raise self._error(f"something is mounted at {mounts[0]}; unmount it first")
        if directories.is_in_use(self._target):
            raise self._error(
                "it is the current directory of the process that writes, or above it, and is "
                "replaced as a whole; add a name to it"
            )
        if not os.access(self._target, os.W_OK):
            raise self._error("it may not be written")
        names = {entry.name for entry in self._target.iterdir()}
        variables = self._target / naming.VARIABLES_DIRECTORY
        in_variables = {e.name for e in variables.iterdir()} if variables.is_dir() else set()
        problem = why_not_ours(names, in_variables)
        if problem is not None:
            raise self._error(problem)

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
                if self._durable:
                    directories.sync(directory.parent)

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _sweep(self, leftover: Path) -> None:
        with directories.claimed(leftover, f"{MARKER}*") as dead, contextlib.suppress(OSError):
            if not dead:
                return
            if directories.is_aside(leftover) and not os.path.lexists(self._target):
                leftover.rename(self._target)  # that save died between two renames
            else:
                directories.remove(leftover)

    def _error(self, problem: str) -> DirectoryError:
        return DirectoryError(str(self._target), self._host, problem)

    @contextlib.contextmanager
    def _named(self, problem: str) -> Iterator[None]:
        try:
            yield
        except DirectoryError:
            raise
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoSpaceError(
                    str(self._target), self._host, f"no room is left on its disk: {error}"
                ) from None
            raise self._error(f"{problem}: {error}") from None
