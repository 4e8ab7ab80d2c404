"""Reading files by range: local ones are mapped, those of other fsspec URLs are fetched."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import fsspec

from dsave.errors import DirectoryError, DsaveError, OptionError
from dsave.format.coding import Buffer


class Source(Protocol):
    """Files, by whole names. What needs a file raises FileNotFoundError if it is missing."""

    def exists(self, file: str) -> bool:
        """Whether there is such a file."""

    def names(self, directory: str) -> list[str] | None:
        """The names in a directory; None if there is no such directory."""

    def size(self, file: str) -> int:
        """Bytes in the file."""

    def read(self, file: str, offset: int, nbytes: int) -> Buffer:
        """Bytes of the file. Requires: they lie inside it."""

    def hold(self, file: str) -> None:
        """Have what is read of a file later be what it is now, where that can be had."""

    def close(self) -> None:
        """Let go of the files; what `read` returned stays valid."""


def open_source(path: str, *, mapped: bool = True) -> Source:
    """The source for files below this path on this machine, or below this fsspec URL.

    Not `mapped`: local files are read into memory. A disk that fails, or a file that somebody
    cuts short, is an OSError then, and not a signal that ends the process.

    Raises:
        OptionError: fsspec knows no such URL, or lacks the package for it.
    """
    if "://" not in path:
        return _MappedFiles() if mapped else _ReadFiles()
    try:
        fsspec.get_filesystem_class(path.partition("://")[0])
    except (ImportError, ValueError) as error:
        raise OptionError("directory", f"{path!r}: {error}") from None
    return _FetchedFiles()


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


def _local_names(directory: str) -> list[str] | None:
    try:
        return [entry.name for entry in Path(directory).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return None


class _MappedFiles:
    def __init__(self) -> None:
        self._maps: dict[str, memoryview] = {}

    def exists(self, file: str) -> bool:
        return Path(file).is_file()

    def names(self, directory: str) -> list[str] | None:
        return _local_names(directory)

    def size(self, file: str) -> int:
        return len(self._map(file))

    def read(self, file: str, offset: int, nbytes: int) -> memoryview:
        # The slice keeps the map alive, and an array that is made of it keeps the slice.
        return self._map(file)[offset : offset + nbytes]

    def hold(self, file: str) -> None:
        if self.exists(file):
            self._map(file)

    def close(self) -> None:
        self._maps.clear()

    def _map(self, name: str) -> memoryview:
        if name not in self._maps:
            with Path(name).open("rb") as file:
                if os.fstat(file.fileno()).st_size:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    self._maps[name] = memoryview(mapped)
                else:
                    self._maps[name] = memoryview(b"")  # an empty file cannot be mapped
        return self._maps[name]


class _ReadFiles:
    def exists(self, file: str) -> bool:
        return Path(file).is_file()

    def names(self, directory: str) -> list[str] | None:
        return _local_names(directory)

    def size(self, file: str) -> int:
        return Path(file).stat().st_size

    def read(self, file: str, offset: int, nbytes: int) -> bytes:
        with Path(file).open("rb") as opened:
            opened.seek(offset)
            return opened.read(nbytes)

    def hold(self, file: str) -> None:
        pass

    def close(self) -> None:
        pass


class _FetchedFiles:
    def exists(self, file: str) -> bool:
        files, path = fsspec.core.url_to_fs(file)
        return bool(files.exists(path))

    def names(self, directory: str) -> list[str] | None:
        files, path = fsspec.core.url_to_fs(directory)
        with contextlib.suppress(Exception):  # not every store lists, nor for everyone
            if files.isdir(path):
                names = files.ls(path, detail=False)
                return [name.rstrip("/").rpartition("/")[2] for name in names]
        return None

    def size(self, file: str) -> int:
        files, path = fsspec.core.url_to_fs(file)
        return int(files.size(path))

    def read(self, file: str, offset: int, nbytes: int) -> bytes:
        if not nbytes:
            return b""  # some stores refuse an empty range
        files, path = fsspec.core.url_to_fs(file)
        fetched: bytes = files.cat_file(path, offset, offset + nbytes)
        return fetched

    def hold(self, file: str) -> None:
        pass

    def close(self) -> None:
        pass
