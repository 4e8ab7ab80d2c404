"""The places that a save can go to, each with a way to look at it from outside."""

import uuid
from pathlib import Path

import fsspec
import pytest

from dsave.errors import SaveError
from dsave.runtime.file_storage import FileStorage
from dsave.runtime.object_storage import ObjectStorage


class Place:
    """Where a save goes, and whether it may change what is there: `given_up` says not."""

    given_up = False

    def may_change(self):
        """What a storage asks before it changes what others see."""
        if self.given_up:
            raise SaveError("host", "changing the directory", "it was given up")


class Filesystem(Place):
    """A directory that is not there yet, in an empty one."""

    def __init__(self, tmp_path):
        self.root = tmp_path / "place"
        self.root.mkdir()
        self.path = str(self.root / "export")

    def storage(self, epoch="1-a", host="host"):
        """A storage of one save on one host."""
        return FileStorage(self.path, epoch, host, self.may_change, durable=True)

    def files(self):
        """All files in the place, by their names in the directory; `..` for those beside it."""
        found = {}
        for file in self.root.rglob("*"):
            if file.is_file():
                inside = file.is_relative_to(self.path)
                name = file.relative_to(self.path) if inside else file.relative_to(self.root)
                found[str(name) if inside else f"../{name}"] = file.read_bytes()
        return found

    def write(self, name, data):
        """Put a file in the directory, as somebody else would."""
        file = Path(self.path, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


class ObjectStore(Place):
    """A prefix of an object store, in memory."""

    def __init__(self):
        self.path = f"memory://bucket-{uuid.uuid4().hex}/export"
        self.fs = fsspec.filesystem("memory")

    def storage(self, epoch="1-a", host="host"):
        """A storage of one save on one host."""
        return ObjectStorage(self.path, epoch, host, self.may_change)

    def files(self):
        """All files in the place, by their names in the directory."""
        root = self.path.removeprefix("memory:/")
        return {name[len(root) + 1 :]: self.fs.cat_file(name) for name in self.fs.find(root)}

    def write(self, name, data):
        """Put a file in the directory, as somebody else would."""
        self.fs.pipe_file(f"{self.path}/{name}", data)


@pytest.fixture(params=["filesystem", "object store"])
def place(request, tmp_path):
    """Where a save goes."""
    if request.param == "filesystem":
        yield Filesystem(tmp_path)
        return
    store = ObjectStore()
    yield store
    if store.fs.exists(store.path):
        store.fs.rm(store.path, recursive=True)
