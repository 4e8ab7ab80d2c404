"""Sources of files: what they hold, and what they refuse.

- what is there in place of a file and is none is an error at once, that names it
- a map costs no descriptor, and goes with the last array that is made of it
- files that are read and not mapped are held by a bounded number of descriptors
- an error of an object store is never taken for a file that is missing
- URLs of filesystems on top of others
"""

import errno
import gc
import os
import resource
import socket
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import dsave
from dsave.format import naming
from dsave.runtime import local_files
from dsave.runtime.source import of_one_save, open_source, read_whole
from dsave.verify import verify

KEY = "step/.ATTRIBUTES/VARIABLE_VALUE"


def put_pipe(path):
    os.mkfifo(path)


def put_directory(path):
    path.mkdir()


def put_device(path):
    path.symlink_to("/dev/zero")


def put_circle(path):
    path.symlink_to(path)


def put_socket(path):
    with tempfile.TemporaryDirectory() as short:  # their names may have 108 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{short}/s")
        Path(short, "s").rename(path)


@pytest.mark.parametrize(
    "file", [naming.SAVED_MODEL_FILE, naming.INDEX_FILE, naming.data_file(0, 3)]
)
@pytest.mark.parametrize("put", [put_pipe, put_directory, put_device, put_circle, put_socket])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_and_named(saved, file, put):
    (saved / file).unlink()
    put(saved / file)
    with pytest.raises(dsave.CorruptionError, match="it is no regular file") as raised:
        dsave.load(saved)
    assert raised.value.file == str(saved / file)
    found = [(finding.file, finding.problem) for finding in verify(str(saved)).findings]
    assert (str(saved / file), "it is no regular file") in found
    assert len(found) == 1


def test_a_fingerprint_that_is_no_file_is_found(saved):
    (saved / naming.FINGERPRINT_FILE).unlink()
    put_pipe(saved / naming.FINGERPRINT_FILE)
    (finding,) = verify(str(saved)).findings
    assert finding.file == str(saved / naming.FINGERPRINT_FILE)


def descriptors():
    """The descriptors that this process has open."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


@pytest.fixture
def few_descriptors():
    """No more than a hundred descriptors for this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_more_files_are_mapped_than_there_are_descriptors(tmp_path, few_descriptors):
    mapped = open_source(str(tmp_path))
    for number in range(200):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
        mapped.hold(f"{tmp_path}/{number}")
        (tmp_path / str(number)).unlink()
    assert [read_whole(mapped, f"{tmp_path}/{n}") for n in (0, 199)] == [b"0", b"199"]


def maps_of(path):
    return Path("/proc/self/maps").read_text().count(f" {path}")


def test_a_map_goes_with_the_last_array_made_of_it(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    mapped = open_source(str(tmp_path))
    array = np.frombuffer(mapped.read(str(file), 1, 2), np.uint8)
    mapped.close()
    gc.collect()
    assert (maps_of(file), array.tolist()) == (1, [98, 99])
    del array
    gc.collect()
    assert maps_of(file) == 0


def test_a_directory_is_let_go_of_with_its_source(tmp_path):
    before = len(descriptors())
    mapped = open_source(str(tmp_path))
    assert len(descriptors()) == before + 1
    del mapped
    gc.collect()
    assert len(descriptors()) == before


def test_files_that_are_read_are_held_by_few_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files, "_HELD", 2)
    for number in range(4):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    before = len(descriptors())
    read = open_source(str(tmp_path), mapped=False)
    for number in range(4):
        read.hold(f"{tmp_path}/{number}")
    assert len(descriptors()) == before + 1 + 2
    (tmp_path / "0").unlink()
    assert [read_whole(read, f"{tmp_path}/{n}") for n in range(4)] == [b"0", b"1", b"2", b"3"]
    read.close()
    assert len(descriptors()) == before + 1


@pytest.fixture
def url(saved):
    """The SavedModel in an object store."""
    files = fsspec.filesystem("memory")
    files.put(str(saved), "/sources/export", recursive=True)
    yield "memory://sources/export"
    files.rm("/sources", recursive=True)


@pytest.mark.parametrize("error", [TimeoutError("busy"), RuntimeError("busy")])
def test_a_busy_store_is_not_one_without_a_save(url, monkeypatch, error):
    def busy(*_, **__):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "info", busy)
    for read in (dsave.load, dsave.open, verify):
        with pytest.raises(dsave.DirectoryError, match="busy") as raised:
            read(url)
        assert raised.value.directory == url


def test_what_was_saved_through_a_cache_is_loaded_through_it(url):
    assert dsave.load(f"simplecache::{url}").step == 1
    assert dsave.open(f"simplecache::{url}", verify=True)[KEY][...] == 1
    with pytest.raises(dsave.OptionError, match="nosuch"):
        dsave.load("simplecache::nosuch://x")


def test_what_a_network_filesystem_calls_stale_is_missing(saved, monkeypatch):
    opened, stale = os.open, []

    def removed(name, flags, **kwargs):
        if name == naming.data_file(1, 3) and not stale:
            stale.append(name)
            saved.rename(saved.with_name("replaced"))
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(name, flags, **kwargs)

    monkeypatch.setattr(local_files.os, "open", removed)
    with pytest.raises(dsave.NotCommittedError):
        dsave.load(saved)
    assert stale


def test_a_file_that_cannot_be_opened_names_its_directory(saved, monkeypatch):
    def failing(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(local_files.os, "open", failing)
    with pytest.raises(dsave.DirectoryError, match="Too many open files") as raised:
        of_one_save(str(saved), lambda files: files)
    assert raised.value.directory == str(saved)
