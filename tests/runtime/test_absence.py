"""What is said where a SavedModel was looked for and is not.

- what is there is named, on filesystems and in object stores, and what reads it
- of a SavedModel's parts its directory is named as the caller calls it
- what cannot be read is no absence: the directory and the host are named
"""

import fsspec
import pytest

import dsave
from dsave.runtime import local_files
from dsave.runtime.absence import absence
from dsave.runtime.source import open_source

FILES = [
    "model/saved_model.pb",
    "model/variables/variables.index",
    "model/assets/words.txt",
    "model/mine/notes.txt",
    "checkpoints/checkpoint",
    "checkpoints/ck-9.index",
    "checkpoints/ck-10.index",
    "checkpoints/ck-10.data-00000-of-00001",
    "checkpoints/other.txt",
    "begun/variables/variables.data-00000-of-00001",
]
NO_COMMIT = "no saved_model.pb, so no save was committed here"
A_FILE = "it is a file, not a SavedModel's directory"
OPENS = "not a SavedModel; dsave.open({root}/checkpoints/ck-10) reads"
PART = "it is a part of a SavedModel; its directory is {root}/model"


@pytest.fixture(params=["files", "objects"])
def root(request, tmp_path):
    root = str(tmp_path) if request.param == "files" else f"memory:/{tmp_path}"
    store, place = fsspec.url_to_fs(root)
    for file in FILES:
        store.makedirs(f"{place}/{file}".rpartition("/")[0], exist_ok=True)
        store.touch(f"{place}/{file}")
    yield root
    store.rm(place, recursive=True)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none", "it does not exist"),
        ("model/none", "it does not exist"),
        ("begun", NO_COMMIT),
        ("model/mine", NO_COMMIT),
        ("model/saved_model.pb", PART),
        ("model/variables", PART),
        ("model/variables/variables", PART),
        ("model/variables/variables.index", PART),
        ("model/assets/words.txt", PART),
        ("model/mine/notes.txt", A_FILE),
        ("checkpoints", f"it holds checkpoints, {OPENS} one"),
        ("checkpoints/ck-10", f"it is a checkpoint, {OPENS} it"),
        ("checkpoints/ck-10.index", f"it is a file of a checkpoint, {OPENS} it"),
        (
            "checkpoints/ck-10.data-00000-of-00001",
            f"it is a file of a checkpoint, {OPENS} it",
        ),
        ("checkpoints/checkpoint", f"it is a file of a checkpoint, {OPENS} it"),
        ("checkpoints/other.txt", A_FILE),
    ],
)
def test_what_is_there_is_said(root, path, said):
    path = f"{root}/{path}"
    assert absence(open_source(path), path, path) == said.format(root=root)


def test_a_part_of_a_saved_model_is_named_as_the_caller_calls_it(root):
    path = f"{root}/model/variables/variables.index"
    said = absence(open_source(path), path, "/tmp/model/variables/variables.index")
    assert said == "it is a part of a SavedModel; its directory is /tmp/model"


@pytest.mark.parametrize("read", [dsave.load, dsave.open])
def test_it_is_what_the_error_says(root, read):
    with pytest.raises(dsave.NotCommittedError) as raised:
        read(f"{root}/checkpoints")
    opens = f"dsave.open({root}/checkpoints/ck-10) reads one"
    assert str(raised.value) == (
        f"{root}/checkpoints: it holds checkpoints, not a SavedModel; {opens}"
    )


@pytest.mark.parametrize("read", [dsave.load, dsave.open])
def test_a_directory_that_may_not_be_read_is_named(tmp_path, read, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local_files.os, "open", refuse)  # whoever is root may read everything
    with pytest.raises(
        dsave.DirectoryError, match=r"cannot be read.*Permission denied"
    ) as raised:
        read(tmp_path)
    assert raised.value.directory == str(tmp_path)
    assert raised.value.host == "/job:localhost/replica:0/task:0"
