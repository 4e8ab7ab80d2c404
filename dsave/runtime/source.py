"""Reading files by range: local ones are mapped or read, those at fsspec URLs are fetched.

Another save may take a directory's place at any moment, and its files are removed then. A local
source holds the directory that was there when it was opened, and every file is opened in it; an
object store holds nothing. `of_one_save` begins again where that took files away or mixed them.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import fsspec
import numpy as np

from dsave.errors import CorruptionError, DirectoryError, DsaveError, OptionError
from dsave.format import naming
from dsave.format.coding import Buffer
from dsave.model.device import LOCALHOST

_LOOKS = 20
_HELD = 64
"""How many files are held by a descriptor each, of which a process has few."""

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""The last is what network filesystems say of what was removed elsewhere."""

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
        return _MappedFiles(path) if mapped else _ReadFiles(path)
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


class _LocalFiles:
    """Files of a directory, or of the one that a prefix is in, as it was opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = _open_directory(path)
        self._is_prefix = self._descriptor is None
        self._base = os.path.dirname(path) if self._is_prefix else path  # noqa: PTH120
        if self._is_prefix:
            self._descriptor = _open_directory(self._base)
        self._torn = False
        if self._descriptor is not None:
            # As long as it is open no other directory is taken for it, though it is removed.
            weakref.finalize(self, os.close, self._descriptor).atexit = False

    def exists(self, file: str) -> bool:
        try:
            with self._missing_noted(file):
                os.stat(self._name(file), dir_fd=self._descriptor)
        except FileNotFoundError:
            return False
        except CorruptionError:
            return True
        return True

    def names(self, directory: str) -> list[str] | None:
        try:
            return [entry.name for entry in Path(directory).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return None

    def torn(self) -> bool:
        return self._torn or (self._is_prefix and self._is_directory_now())

    def _open(self, file: str) -> int:
        with self._missing_noted(file):
            # A pipe that nobody writes to would be waited for.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._name(file), flags, dir_fd=self._descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise CorruptionError(file, "", "it is no regular file")
        return descriptor

    def _name(self, file: str) -> str:
        if self._descriptor is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
        return file.removeprefix(f"{self._base}/")

    @contextlib.contextmanager
    def _missing_noted(self, file: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _MISSING:
                # Files are removed once another save is in the place of theirs, not before.
                self._torn = self._torn or not self._is_in_place()
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file) from None
            if error.errno in {errno.ELOOP, errno.ENXIO}:  # links in a circle, a socket
                raise CorruptionError(file, "", "it is no regular file") from None
            raise

    def _is_in_place(self) -> bool:
        there = _stat(self._base)
        if self._descriptor is None:
            return there is None
        own = _stat(self._descriptor)
        return own is not None and there is not None and os.path.samestat(own, there)

    def _is_directory_now(self) -> bool:
        there = _stat(self._path)
        return there is not None and stat.S_ISDIR(there.st_mode)


class _MappedFiles(_LocalFiles):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._maps: dict[str, memoryview] = {}

    def size(self, file: str) -> int:
        return len(self._map(file))

    def read(self, file: str, offset: int, nbytes: int) -> memoryview:
        # The slice keeps the map alive, and an array that is made of it keeps the slice.
        return self._map(file)[offset : offset + nbytes]

    def hold(self, file: str) -> None:
        with contextlib.suppress(OSError, CorruptionError):  # whoever reads it is told
            self._map(file)

    def close(self) -> None:
        self._maps.clear()

    def _map(self, file: str) -> memoryview:
        if file not in self._maps:
            descriptor = self._open(file)
            try:
                self._maps[file] = _mapped(descriptor)
            finally:
                os.close(descriptor)
        return self._maps[file]


class _ReadFiles(_LocalFiles):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._held: dict[str, int] = {}

    def size(self, file: str) -> int:
        with self._opened(file) as descriptor:
            return os.fstat(descriptor).st_size

    def read(self, file: str, offset: int, nbytes: int) -> bytes:
        parts = []
        with self._opened(file) as descriptor:
            while nbytes and (part := os.pread(descriptor, nbytes, offset)):
                parts.append(part)
                offset, nbytes = offset + len(part), nbytes - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hold(self, file: str) -> None:
        if file not in self._held and len(self._held) < _HELD:
            with contextlib.suppress(OSError, CorruptionError):  # whoever reads it is told
                self._held[file] = self._open(file)

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    @contextlib.contextmanager
    def _opened(self, file: str) -> Iterator[int]:
        if file in self._held:
            yield self._held[file]
            return
        descriptor = self._open(file)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


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


class _Map:
    """A mapped file, as numpy takes arrays. Of `mmap` each would keep a descriptor open."""

    def __init__(self, descriptor: int, nbytes: int) -> None:
        address = _mmap(None, nbytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == _MAP_FAILED:
            number = ctypes.get_errno()
            raise OSError(number, f"a file cannot be mapped: {os.strerror(number)}")
        data = {"data": (address, True), "shape": (nbytes,), "typestr": "|u1", "version": 3}
        self.__array_interface__ = data
        weakref.finalize(self, _munmap, address, nbytes).atexit = False


_libc = ctypes.CDLL(None, use_errno=True)
_mmap, _munmap = _libc.mmap, _libc.munmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t),
)
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_MAP_FAILED = ctypes.c_void_p(-1).value


def _mapped(descriptor: int) -> memoryview:
    nbytes = os.fstat(descriptor).st_size
    if not nbytes:
        return memoryview(b"")  # an empty file cannot be mapped
    return memoryview(np.asarray(_Map(descriptor, nbytes)))


def _open_directory(path: str) -> int | None:
    # Those that may be searched and not listed too, where the system has a flag for that.
    flags = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
    try:
        return os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _stat(path: str | int) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - of a descriptor too
    except OSError:
        return None


@contextlib.contextmanager
def _os_errors(*others: type[Exception]) -> Iterator[None]:
    """Whatever a store raises becomes an OSError, but for some others."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (OSError, *others)):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error
