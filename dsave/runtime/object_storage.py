"""A save's files under a prefix of an object store, through fsspec.

There is no rename: each file is put in its place, `saved_model.pb` last. So a save that
replaces another removes that one's `saved_model.pb` first; what was there is gone from then on.

Nothing here asks a store whether something `exists`: in fsspec that is no whenever it fails.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import fsspec

from dsave.errors import DirectoryError, DsaveError, OptionError
from dsave.format import naming
from dsave.format.coding import Buffer
from dsave.runtime.storage import COMMITS, MARKER, why_not_ours

_REPLACED = "replaced"


def check_hosts_share(url: str) -> None:
    """See that what one process puts there can be read by others: not with `memory://`.

    Raises:
        OptionError: it cannot.
    """
    scheme, colon, _ = url.partition("://")
    if colon and scheme.rpartition("::")[2] == "memory":
        raise OptionError(
            "directory",
            f"{url!r} is in the memory of one process, and each host's is another; "
            "experimental_io_device='/job:localhost' takes that of the calling process",
        )


class _ObjectSink:
    """fsspec's own file: nothing is visible before it is closed."""

    def __init__(self, file: Any, named: Callable[[str], AbstractContextManager[None]]) -> None:
        self._file = file
        self._named = named

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        with self._named("cannot be written"):
            self._file.write(data)

    def close(self) -> None:
        """Store the file."""
        with self._named("cannot be written"):
            self._file.close()

    def abort(self) -> None:
        """Give the file up."""
        with contextlib.suppress(Exception):
            self._file.discard()
        with contextlib.suppress(Exception):
            self._file.closed = True  # or it is stored after all when it is collected


class ObjectStorage:
    """A prefix of an object store. What a save replaces is gone when writing starts."""

    def __init__(
        self, url: str, epoch: str, host: str, may_change: Callable[[], object]
    ) -> None:
        scheme, _, path = url.partition("://")
        self._url = f"{scheme}://{path.rstrip('/')}"
        self._host = host
        self._may_change = may_change
        with self._named("cannot be opened"):
            self._fs, self._root = fsspec.url_to_fs(self._url)
        self._markers = f"{self._root}/.dsave-{epoch}"
        self._saved_model = b""

    def begin(self, marker: str) -> None:
        """Look at what is there, and put a marker: that proves the right to write."""
        with self._named("cannot be written"):
            self._check_prefix()
            self._fs.pipe_file(f"{self._markers}/{MARKER}{marker}", b"")

    def seen(self) -> frozenset[str]:
        """The markers that are there."""
        with self._named("cannot be read"):
            self._fs.invalidate_cache()
            names = self._names(self._markers)
            return frozenset(n.removeprefix(MARKER) for n in names if n.startswith(MARKER))

    def open(self) -> None:
        """Take back the commit of what is there, and note what belongs to it."""
        with self._named("cannot be written"):
            self._fs.invalidate_cache()
            commits = [name for name in sorted(COMMITS) if self._is_there(name)]
            if commits:
                found = [n for each in naming.SAVED_MODEL_NAMES for n in self._below(each)]
                noted = json.dumps(sorted(found)).encode()
                self._fs.pipe_file(f"{self._markers}/{_REPLACED}", noted)
            for name in commits:
                self._remove(name)

    def create(self, file: str, nbytes: int) -> _ObjectSink:
        """Start a file."""
        del nbytes
        with self._named("cannot be written"):
            return _ObjectSink(self._fs.open(f"{self._root}/{file}", "wb"), self._named)

    def check(self, files: Mapping[str, int]) -> None:
        """See that files of these sizes are there."""
        with self._named("is not as it was written"):
            self._fs.invalidate_cache()
            for file, nbytes in files.items():
                found = self._fs.size(f"{self._root}/{file}")
                if found != nbytes:
                    raise OSError(f"{file} has {found:,} bytes, {nbytes:,} were written")

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write small files in this order, each whole."""
        with self._named("cannot be written"):
            for file, data in files.items():
                if file != naming.SAVED_MODEL_FILE:
                    self._fs.pipe_file(f"{self._root}/{file}", data)
            self._saved_model = files[naming.SAVED_MODEL_FILE]

    def move(self) -> None:
        """Make the save visible; keep what it replaces."""
        with self._named("cannot be written"):
            if not self._saved_model:
                raise OSError(f"the host that has {naming.SAVED_MODEL_FILE} is lost")
            self._may_change()
            self._fs.pipe_file(f"{self._root}/{naming.SAVED_MODEL_FILE}", self._saved_model)

    def clean(self, files: Collection[str]) -> None:
        """Remove the markers, and what is left of what was replaced."""
        with self._named("cannot be cleaned"):
            self._fs.invalidate_cache()
            left = [n for n in self._below(naming.VARIABLES_DIRECTORY) if _in_bundle(n)]
            for name in sorted({*left, *self._replaced()}.difference(files)):
                self._remove(name)
            self._remove_markers()

    def move_back(self) -> None:
        """Undo `move`, if it happened."""
        with self._named("cannot be moved back"):
            self._remove(naming.SAVED_MODEL_FILE)

    def discard(self, files: Collection[str]) -> None:
        """Remove every trace of the save."""
        with self._named("cannot be removed"):
            self._fs.invalidate_cache()
            # If one is there, it is that of a save that this one never began to replace.
            if not self._is_there(naming.SAVED_MODEL_FILE):
                for name in sorted({*files, *self._replaced()}):
                    self._remove(name)
            self._remove_markers()

    def end(self) -> None:
        """Nothing is held in an object store."""

    def _check_prefix(self) -> None:
        self._fs.invalidate_cache()
        if any(map(self._is_there, COMMITS)):
            return
        # What has other names stays where it is, whatever happens here.
        names = self._names(self._root) & naming.SAVED_MODEL_NAMES
        variables = self._names(f"{self._root}/{naming.VARIABLES_DIRECTORY}")
        problem = why_not_ours(names, variables)
        if problem is not None:
            raise DirectoryError(self._url, self._host, problem)

    def _names(self, directory: str) -> set[str]:
        try:
            found = [path.rstrip("/") for path in self._fs.ls(directory, detail=False)]
        except FileNotFoundError:
            return set()
        return {path.rsplit("/", 1)[-1] for path in found if path != directory}

    def _replaced(self) -> list[str]:
        """What the save that was there had; nothing, if there was none."""
        try:
            noted = json.loads(self._fs.cat_file(f"{self._markers}/{_REPLACED}"))
        except FileNotFoundError:
            return []
        return [str(name) for name in noted]

    def _below(self, name: str) -> list[str]:
        """The objects of this name, or with names that go on below it."""
        found = self._fs.find(f"{self._root}/{name}")
        return [path.removeprefix(f"{self._root}/") for path in found]

    def _is_there(self, name: str) -> bool:
        try:
            self._fs.info(f"{self._root}/{name}")
        except FileNotFoundError:
            return False
        return True

    def _remove(self, name: str) -> None:
        self._may_change()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    def _remove_markers(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._markers, recursive=True)

    @contextlib.contextmanager
    def _named(self, problem: str) -> Iterator[None]:
        try:
            yield
        except DsaveError:
            raise
        except Exception as error:
            raise DirectoryError(self._url, self._host, f"{problem}: {error}") from None


def _in_bundle(name: str) -> bool:
    return naming.is_bundle_file(name.removeprefix(f"{naming.VARIABLES_DIRECTORY}/"))
