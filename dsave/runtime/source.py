"""Reading files by range: local ones are mapped or read, those at fsspec URLs are fetched.

Another save may take a directory's place at any moment, and its files are removed then. A local
source holds the directory that was there when it was opened, and every file is opened in it; an
object store holds nothing. `of_one_save` begins again where that took files away or mixed them.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import fsspec

from dsave.errors import DirectoryError, DsaveError, OptionError
from dsave.format import naming
from dsave.format.coding import Buffer
from dsave.model.device import LOCALHOST
from dsave.runtime.local_files import MappedFiles, ReadFiles

_LOOKS = 20
_T = TypeVar("_T")


class Source(Protocol):
    """Files, by whole names. What needs a file raises FileNotFoundError if it is missing.

    What there is in place of a file and is none, as a pipe, is a CorruptionError.
    """

    def exists(self, file: str) -> bool:
        """Whether there is something of that name."""

    def names(self, directory: str) -> list[str] | None:
        """The names in a directory; None if there is no such directory."""

    def size(self, file: str) -> int:
        """Bytes in the file."""

    def read(self, file: str, offset: int, nbytes: int) -> Buffer:
        """Bytes of the file. Requires: they lie inside it."""

    def hold(self, file: str) -> None:
        """Have what is read of a file later be what it is now, where that can be had."""

    def torn(self) -> bool:
        """Whether another save took this one's place before all of it was read or held."""

    def close(self) -> None:
        """Let go of the files; what `read` returned stays valid."""


def of_one_save(
    path: str, read: Callable[[Source], _T], *, mapped: bool = True, host: str = LOCALHOST
) -> _T:
    """What `read` makes of the files of one save, though others take its place meanwhile.

    `path` and `mapped` as in `open_source`. `read` is called again where files are of another
    save, and may raise any error for that.

    Raises:
        OptionError: fsspec knows no such URL, or lacks the package for it.
        DirectoryError: it cannot be read, or is replaced whenever it is read.
    """
    with readable(path, host):
        for _ in range(_LOOKS):
            source = open_source(path, mapped=mapped)
            try:
                found = read(source)
            except (DsaveError, FileNotFoundError):
                if not source.torn():
                    raise
            else:
                if not source.torn():
                    return found
            source.close()
    raise DirectoryError(path, host, "other saves take its place whenever it is read")


def open_source(path: str, *, mapped: bool = True) -> Source:
    """The source for files of this directory, of the bundle with this prefix, or of a URL.

    Not `mapped`: local files are read into memory. A disk that fails, or a file that somebody
    cuts short, is an OSError then, and not a signal that ends the process.

    Raises:
        OptionError: fsspec knows no such URL, or lacks the package for it.
    """
    if "://" not in path:
        return MappedFiles(path) if mapped else ReadFiles(path)
    try:
        with _os_errors(ImportError, ValueError):
            fsspec.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise OptionError("directory", f"{path!r}: {error}") from None
    return _FetchedFiles(path)


@contextlib.contextmanager
def readable(directory: str, host: str) -> Iterator[None]:
    """Name the directory and the host, if what is inside fails to read there.

    Raises:
        DirectoryError: it failed, as the system says.
    """
    try:
        yield
    except DsaveError:
        raise
    except OSError as error:
        raise DirectoryError(directory, host, f"it cannot be read: {error}") from None


def read_whole(source: Source, file: str) -> bytes:
    """All of a file."""
    return bytes(source.read(file, 0, source.size(file)))


class _FetchedFiles:
    def __init__(self, url: str) -> None:
        self._url = url
        self._first = self._save()

    def exists(self, file: str) -> bool:
        # Not by `exists`, for which every error of a store means no.
        try:
            self.size(file)
        except FileNotFoundError:
            return False
        return True

    def names(self, directory: str) -> list[str] | None:
        with contextlib.suppress(Exception):  # not every store lists, nor for everyone
            files, path = fsspec.url_to_fs(directory)
            if files.isdir(path):
                names = files.ls(path, detail=False)
                return [name.rstrip("/").rpartition("/")[2] for name in names]
        return None

    def size(self, file: str) -> int:
        with _os_errors():
            files, path = fsspec.url_to_fs(file)
            return int(files.info(path)["size"])

    def read(self, file: str, offset: int, nbytes: int) -> bytes:
        if not nbytes:
            return b""  # some stores refuse an empty range
        with _os_errors():
            files, path = fsspec.url_to_fs(file)
            fetched: bytes = files.cat_file(path, offset, offset + nbytes)
            return fetched

    def hold(self, file: str) -> None:
        pass

    def torn(self) -> bool:
        return self._save() != self._first

    def close(self) -> None:
        pass

    def _save(self) -> tuple[bool, bytes | None]:
        """What tells this save from others: its fingerprint, in which is a random number.

        A save removes the other's `saved_model.pb`, puts its fingerprint, then its own. So
        what was read between two looks is of one save if both find the same, in this order.
        """
        with _os_errors():
            fsspec.url_to_fs(self._url)[0].invalidate_cache()
        is_committed = self.exists(f"{self._url}/{naming.SAVED_MODEL_FILE}")
        try:
            return is_committed, read_whole(self, f"{self._url}/{naming.FINGERPRINT_FILE}")
        except FileNotFoundError:
            return is_committed, None


@contextlib.contextmanager
def _os_errors(*others: type[Exception]) -> Iterator[None]:
    """Whatever a store raises becomes an OSError, but for some others."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (OSError, *others)):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error
