"""Files of this machine, mapped or read. Each is of the directory that was there at first."""

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dsave.errors import CorruptionError

_HELD = 64
"""How many files are held by a descriptor each, of which a process has few."""

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""The last is what network filesystems say of what was removed elsewhere."""


class LocalFiles:
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
        """Whether there is something of that name."""
        try:
            with self._missing_noted(file):
                os.stat(self._name(file), dir_fd=self._descriptor)
        except FileNotFoundError:
            return False
        except CorruptionError:
            return True
        return True

    def names(self, directory: str) -> list[str] | None:
        """The names in a directory, as it is now."""
        try:
            return [entry.name for entry in Path(directory).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return None

    def torn(self) -> bool:
        """Whether a file was missing because the directory was replaced."""
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


class MappedFiles(LocalFiles):
    """Mapped, each when it is first wanted."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._maps: dict[str, memoryview] = {}

    def size(self, file: str) -> int:
        """Bytes in the file."""
        return len(self._map(file))

    def read(self, file: str, offset: int, nbytes: int) -> memoryview:
        """Bytes of the file."""
        # The slice keeps the map alive, and an array that is made of it keeps the slice.
        return self._map(file)[offset : offset + nbytes]

    def hold(self, file: str) -> None:
        """Keep the file, if it is there, though it be removed."""
        with contextlib.suppress(OSError, CorruptionError):  # whoever reads it is told
            self._map(file)

    def close(self) -> None:
        """Let go of the files."""
        self._maps.clear()

    def _map(self, file: str) -> memoryview:
        if file not in self._maps:
            descriptor = self._open(file)
            try:
                self._maps[file] = _mapped(descriptor)
            finally:
                os.close(descriptor)
        return self._maps[file]


class ReadFiles(LocalFiles):
    """Read into memory."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._held: dict[str, int] = {}

    def size(self, file: str) -> int:
        """Bytes in the file."""
        with self._opened(file) as descriptor:
            return os.fstat(descriptor).st_size

    def read(self, file: str, offset: int, nbytes: int) -> bytes:
        """Bytes of the file."""
        parts = []
        with self._opened(file) as descriptor:
            while nbytes and (part := os.pread(descriptor, nbytes, offset)):
                parts.append(part)
                offset, nbytes = offset + len(part), nbytes - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hold(self, file: str) -> None:
        """Keep the file, if it is there, though it be removed."""
        if file not in self._held and len(self._held) < _HELD:
            with contextlib.suppress(OSError, CorruptionError):  # whoever reads it is told
                self._held[file] = self._open(file)

    def close(self) -> None:
        """Let go of the files."""
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
