"""One file on a filesystem, written from front to back."""

import contextlib
import ctypes
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from dsave.format.coding import Buffer

_SMALL_NBYTES = 64 << 10
_COALESCE_NBYTES = 1 << 20
_FALLOC_FL_KEEP_SIZE = 1

Named = Callable[[str], AbstractContextManager[None]]
"""From what an operation could not do to a context that says so in its errors."""


class FileSink:
    """Small writes are gathered, large ones go straight from the caller's memory."""

    def __init__(self, path: Path, nbytes: int, named: Named, *, durable: bool) -> None:
        self._file: IO[bytes] = path.open("xb", buffering=0)
        self._named = named
        self._durable = durable
        self._small = bytearray()
        if nbytes >= _COALESCE_NBYTES:
            _reserve(self._file.fileno(), nbytes)

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
        with self._named("cannot be written"):
            if self._durable:
                os.fsync(self._file.fileno())
            self._file.close()

    def abort(self) -> None:
        """Give the file up."""
        with contextlib.suppress(OSError):  # why it is given up says more
            self._file.close()

    def _flush(self) -> None:
        self._write_out(memoryview(bytes(self._small)))
        self._small.clear()

    def _write_out(self, view: memoryview) -> None:
        with self._named("cannot be written"):
            while len(view):
                view = view[self._file.write(view) :]


def _reserve(descriptor: int, nbytes: int) -> None:
    """Take the room for a file at once; without, ext4 sees to some at every page.

    If there is none, or the filesystem cannot, the writes say so or do without. Unlike this
    call, os.posix_fallocate writes to every block of a filesystem that cannot.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "fallocate"):
        room = ctypes.c_int64(0), ctypes.c_int64(nbytes)
        libc.fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, *room)
