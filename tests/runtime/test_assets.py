"""The files of assets, in the process that calls save.

- files of one name and one content are one file; others of that name get a number, as in
  TensorFlow
- what is no readable file is an error that names it
- a file is given out in chunks of bounded size, and not if it has changed
"""

import os
from pathlib import Path

import pytest

from dsave.errors import HostLostError, ModelError
from dsave.model.asset import Asset
from dsave.runtime.assets import ServedAssets, find_assets
from dsave.runtime.stream import CHUNK_NBYTES, Reader


@pytest.fixture
def file(tmp_path):
    """Writes a file: `file("a/words.txt", b"x")` returns the asset of it."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return Asset(path)

    return write


def test_files_of_one_name_and_one_content_are_one(file):
    one, same = file("a/words.txt", b"x"), file("b/words.txt", b"x")
    found = find_assets([one, same])
    assert dict(found.names) == {one: "words.txt", same: "words.txt"}
    assert dict(found.files) == {"words.txt": (one.path, 1)}


def test_files_of_one_name_and_other_contents_are_numbered(file):
    contents = {"a": b"x", "b": b"y", "c": b"longer", "d": b"y"}
    assets = [file(f"{folder}/words.txt", content) for folder, content in contents.items()]
    other = file("a/words.txt_1", b"z")
    found = find_assets([*assets, other])
    names = ["words.txt", "words.txt_1", "words.txt_2", "words.txt_1", "words.txt_1_1"]
    assert list(found.names.values()) == names
    assert found.nbytes == len(b"xy") + len(b"longer") + 1


def test_a_path_is_one_of_this_process(file, monkeypatch, tmp_path):
    file("words.txt", b"x")
    monkeypatch.chdir(tmp_path)
    found = find_assets([Asset("words.txt")])
    assert dict(found.files) == {"words.txt": (str(tmp_path / "words.txt"), 1)}


@pytest.mark.parametrize("name", ["missing.txt", "folder", "pipe"])
def test_what_is_no_file_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match=f"/{name}: .*file"):
        find_assets([Asset(tmp_path / name)])


@pytest.fixture
def receive():
    """Receives a file, by its name in a SavedModel, from whoever gives it out."""

    def received(assets, name):
        served = ServedAssets(assets, "127.0.0.1", 5.0)
        incoming = served.files[name]
        try:
            reader = Reader(incoming.host, incoming.endpoint, [(incoming.key, None)], 5.0)
            try:
                buffer = bytearray(incoming.nbytes)
                reader.receive_into(memoryview(buffer))
                return bytes(buffer)
            finally:
                reader.close()
        finally:
            served.close()

    return received


@pytest.mark.parametrize("nbytes", [0, 5, 2 * CHUNK_NBYTES + 1])
def test_a_file_is_given_out_whole_in_chunks(file, receive, nbytes):
    content = os.urandom(nbytes)
    found = find_assets([file("words.txt", content)])
    chunks = [len(chunk) for chunk in found.chunks("words.txt", None)]
    assert sum(chunks) == nbytes
    assert max(chunks, default=0) <= CHUNK_NBYTES
    assert receive(found, "assets/words.txt") == content


def test_a_file_that_has_changed_is_not_given_out(file, receive):
    asset = file("words.txt", b"words")
    found = find_assets([asset])
    Path(asset.path).write_bytes(b"longer words")
    with pytest.raises(HostLostError, match="had 5 bytes when the save began, and has 12"):
        receive(found, "assets/words.txt")
    Path(asset.path).unlink()
    with pytest.raises(HostLostError, match="No such file"):
        receive(found, "assets/words.txt")


def test_without_assets_nothing_is_given_out():
    served = ServedAssets(find_assets([]), "no address", 5.0)
    assert served.files == {}
    served.close()
