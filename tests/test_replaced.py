"""What is read is of one save, whole, though another one takes its place meanwhile.

- at whatever moment that happens, for every reader: a load, `open`, `verify`, `show`
- what was not read before is that of the directory that was opened
- in an object store too, at every step of the save that replaces; or there is nothing to load
- a directory that is replaced whenever it is read is an error that says so
"""

import itertools
import shutil

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import dsave
from dsave.format import naming
from dsave.model import new_variable
from dsave.model.dtype import dtype_of
from dsave.model.trackable import Module
from dsave.runtime import local_files
from dsave.runtime.directories import put_in_place
from dsave.show import read_contents
from dsave.verify import verify

CPU = "/job:worker/replica:0/task:0/device:CPU:0"
KEY = "v/.ATTRIBUTES/VARIABLE_VALUE"
URL = "memory://replaced/export"
ROOT = "/replaced/export"


def save(models, directory, number):
    """A save that is told by the name, the shape and the values of its variable."""
    model, new_key = Module(), itertools.count().__next__
    model.v = new_variable.plain(
        f"v{number}",
        dtype_of("float32"),
        (number,),
        CPU,
        lambda: str(new_key()),
        trainable=True,
    )
    return models.write(directory, model, [("v", number % 2, None)], value=number)


def loaded(path):
    """The number of the save that is loaded."""
    v = dsave.load(path).v
    (number,) = v.shape
    assert v.name == f"v{number}"
    if "://" not in path:  # an object store holds nothing for those who read later
        assert v.numpy().tolist() == [number] * number
    return number


def opened(path):
    """The number of the save that is opened and checked."""
    stored = dsave.open(path, verify=True)[KEY]
    (number,) = stored.shape
    if "://" not in path:
        assert stored[...].tolist() == [number] * number
    return number


def verified(path):
    """The number of the save that is verified."""
    report = verify(path)
    assert report.findings == ()
    return report.nbytes // 4


def shown(path):
    """The number of the save that is shown."""
    contents = read_contents(path)
    (variable,) = contents.summary.variables
    (number,) = contents.tensors[KEY].shape
    assert (variable.name, variable.shape) == (f"v{number}", (number,))
    (data_file,) = {piece.file for piece in contents.tensors[KEY].pieces}
    sizes = {file.file: file.nbytes for file in contents.data_files}
    assert sizes[data_file] == 4 * number
    return number


READERS = pytest.mark.parametrize("read", [loaded, opened, verified, shown])


class Moments:
    """Counts the moments at which a reader turns to the disk, and acts at some of them."""

    def __init__(self, monkeypatch):
        self.acts = {}
        self.passed = 0
        for owner, name in (
            (local_files.LocalFiles, "_name"),
            (local_files, "_open_directory"),
        ):
            monkeypatch.setattr(owner, name, self._passing(getattr(owner, name)))

    def start(self, acts):
        """Act at the moments of these numbers."""
        self.acts, self.passed = acts, 0

    def _passing(self, call):
        def passed(*args):
            self.acts.pop(self.passed, lambda: None)()
            self.passed += 1
            return call(*args)

        return passed


def replace(new, directory):
    """What a save does last: it takes the directory's place, and removes what it replaced."""
    put_in_place(new, directory)
    if new.exists():
        shutil.rmtree(new)


@READERS
def test_a_replacement_at_any_moment_leaves_one_save_whole(models, tmp_path, monkeypatch, read):
    """An old bug: variables of one save came with functions of another."""
    directory, moments, numbers = tmp_path / "export", Moments(monkeypatch), []
    while not moments.acts:
        save(models, directory, 1)
        new = save(models, tmp_path / "new", 2)
        moments.start({len(numbers): lambda new=new: replace(new, directory)})
        numbers.append(read(str(directory)))
        shutil.rmtree(directory)
        shutil.rmtree(new, ignore_errors=True)
    assert set(numbers) == {1, 2}
    assert len(numbers) > 5


@READERS
def test_a_directory_that_was_not_there_is_of_one_save_too(models, tmp_path, monkeypatch, read):
    directory, moments, numbers = tmp_path / "export", Moments(monkeypatch), []
    while not moments.acts:
        news = [save(models, tmp_path / f"new{number}", number) for number in (1, 2)]
        acts = [lambda new=new: replace(new, directory) for new in news]
        moments.start(dict(zip((1, 2 + len(numbers)), acts, strict=True)))
        numbers.append(read(str(directory)))
        for left in (directory, *news):
            shutil.rmtree(left, ignore_errors=True)
    assert set(numbers) == {1, 2}


def test_a_prefix_in_a_directory_that_is_replaced_is_of_one_save_too(
    models, tmp_path, monkeypatch
):
    directory, moments = tmp_path / "export", Moments(monkeypatch)
    save(models, directory, 1)
    new = save(models, tmp_path / "new", 2)
    moments.start({2: lambda: replace(new, directory)})  # its parent is held by then
    assert opened(f"{directory}/{naming.VARIABLES_PREFIX}") == 2


def test_what_was_closed_is_never_read_from_another_save(models, tmp_path):
    directory = save(models, tmp_path / "export", 1)
    checkpoint = dsave.open(directory)
    checkpoint.close()
    put_in_place(save(models, tmp_path / "new", 2), directory)
    assert checkpoint[KEY][...].tolist() == [1.0]
    shutil.rmtree(tmp_path / "new")
    checkpoint.close()
    with pytest.raises(dsave.CorruptionError, match="not here"):
        checkpoint[KEY][...]


def test_a_directory_that_is_replaced_whenever_it_is_read_is_named(
    models, tmp_path, monkeypatch
):
    directory = save(models, tmp_path / "export", 1)
    monkeypatch.setattr(local_files.LocalFiles, "torn", lambda _: True)
    with pytest.raises(dsave.DirectoryError, match="whenever it is read") as raised:
        dsave.load(directory)
    assert raised.value.directory == str(directory)


@pytest.fixture
def store(models, tmp_path):
    """An object store that holds save 1, and the steps in which save 2 takes its place."""
    fs = fsspec.filesystem("memory")
    old, new = (save(models, tmp_path / str(number), number) for number in (1, 2))
    names = [str(file.relative_to(new)) for file in new.rglob("*") if file.is_file()]
    last = [naming.INDEX_FILE, naming.FINGERPRINT_FILE, naming.SAVED_MODEL_FILE]
    order = [*(name for name in names if name not in last), *last]

    def steps():
        for name in order:
            fs.pipe_file(f"{ROOT}/{name}", (old / name).read_bytes())
        yield
        fs.rm_file(f"{ROOT}/{naming.SAVED_MODEL_FILE}")
        for name in order:
            yield
            fs.pipe_file(f"{ROOT}/{name}", (new / name).read_bytes())

    yield steps
    fs.rm("/replaced", recursive=True)


@READERS
@pytest.mark.parametrize("pace", [1, 2, 9])
def test_in_an_object_store_it_is_one_save_too_or_none(store, monkeypatch, read, pace):
    state = {"steps": iter(()), "left": 0}

    def passing(call):
        def passed(*args, **kwargs):
            steps, state["steps"] = state["steps"], iter(())  # what a step reads is no moment
            state["left"] -= 1
            if state["left"] < 0:
                for _ in range(pace):
                    next(steps, None)
            state["steps"] = steps
            return call(*args, **kwargs)

        return passed

    for name in ("info", "cat_file"):
        monkeypatch.setattr(MemoryFileSystem, name, passing(getattr(MemoryFileSystem, name)))
    numbers = []
    for last in itertools.count():
        steps = store()
        next(steps)
        state.update(steps=steps, left=last)
        try:
            numbers.append(read(URL))
        except dsave.NotCommittedError:
            numbers.append(None)
        is_over = state["left"] >= 0
        for _ in steps:
            pass
        if is_over:
            break
    assert {1, 2} <= set(numbers) <= {1, 2, None}
