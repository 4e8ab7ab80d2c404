"""A directory to save to, not there yet, in an empty one; and a save's verbs, done by hand."""

import contextlib
import subprocess

import pytest

from dsave.runtime.file_storage import FileStorage

DATA = "variables/variables.data-00000-of-00001"


class Disk:
    """`export` is the directory of the saves, `place` the one that it is in."""

    OLD = {  # noqa: RUF012 - nobody changes it
        "saved_model.pb": b"old",
        DATA: b"old data",
        "assets/words.txt": b"old words",
        "README": b"mine",
        "assets.extra/a/b": b"mine too",
    }
    NEW = {DATA: b"new data", "saved_model.pb": b"new"}  # noqa: RUF012 - likewise
    KEPT = {**NEW, "README": b"mine", "assets.extra/a/b": b"mine too"}  # noqa: RUF012 - likewise

    def __init__(self, tmp_path):
        self.place = tmp_path / "place"
        self.place.mkdir()
        self.export = self.place / "export"

    def make(self, files, at=None):
        """Put files in the directory."""
        for name, data in files.items():
            file = (at or self.export) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def files(self, at=None):
        """What is in the directory."""
        directory = at or self.export
        return {
            str(file.relative_to(directory)): file.read_bytes()
            for file in directory.rglob("*")
            if file.is_file()
        }

    def names(self, at=None):
        """What is beside the directory, or in another one."""
        return sorted(entry.name for entry in (at or self.place).iterdir())

    def storage(self, epoch="1-a", host="host", *, at=None):
        """The storage of one save on one host."""
        return FileStorage(str(at or self.export), epoch, host, lambda: None, durable=True)

    def sealed(self, of):
        """A save that is ready to move."""
        of.begin("host")
        of.open()
        of.put(self.NEW)
        return of

    def save(self, of):
        """A save, whole."""
        self.sealed(of).move()
        of.clean(list(self.NEW))
        of.end()

    def undo(self, of):
        """Undo a save."""
        of.move_back()
        of.discard(list(self.NEW))
        of.end()


@pytest.fixture
def disk(tmp_path):
    """A directory that is not there yet, in an empty one."""
    return Disk(tmp_path)


@pytest.fixture(scope="session")
def mounted():
    """Mounts something for a while, if this process may."""

    @contextlib.contextmanager
    def mount(directory, options, kind="tmpfs"):
        directory.mkdir(exist_ok=True)
        command = ["mount", "-t", kind, "-o", options, kind, str(directory)]
        tried = subprocess.run(command, check=False, capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"nothing can be mounted here: {tried.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)

    return mount
