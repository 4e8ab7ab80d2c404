"""Other saves come and go at any moment; directories cannot be exchanged, or half of it fails.

- the last of two saves to move is there, whole
- a directory may appear or vanish just before the move
- where directories cannot be exchanged two renames do it, or bring back what was there
- a late writer cannot undo a discard
"""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from dsave.errors import DirectoryError
from dsave.runtime import directories

DATA = "variables/variables.data-00000-of-00001"


def test_of_two_saves_at_once_the_last_to_move_is_there_whole(disk):
    one, other = disk.sealed(disk.storage("1-a")), disk.storage("2-b")
    other.begin("host")
    other.open()
    other.put({"saved_model.pb": b"other"})
    one.move()
    other.move()
    one.clean(list(disk.NEW))
    other.clean(["saved_model.pb"])
    for of in (one, other):
        of.end()
    assert disk.files() == {"saved_model.pb": b"other"}
    assert disk.names() == ["export"]


def test_undoing_a_save_that_another_replaced_meanwhile_leaves_that_one(disk):
    disk.make(disk.OLD)
    one, other = disk.sealed(disk.storage("1-a")), disk.storage("2-b")
    one.move()
    disk.save(other)
    disk.undo(one)
    assert disk.files()["saved_model.pb"] == b"new"
    assert disk.names() == ["export"]


@pytest.mark.parametrize("there_before", [False, True])
def test_a_directory_may_come_or_go_in_the_last_moment(disk, monkeypatch, there_before):
    if there_before:
        disk.make({"saved_model.pb": b"old"})
    of = disk.sealed(disk.storage())
    lexists, calls = os.path.lexists, []

    def change_behind_its_back(path):
        found = lexists(path)
        if Path(path) == disk.export and not calls:
            calls.append(path)
            if there_before:
                disk.export.rename(disk.place / "gone")
            else:
                disk.make({"saved_model.pb": b"theirs"})
        return found

    monkeypatch.setattr(os.path, "lexists", change_behind_its_back)
    of.move()
    assert calls
    assert disk.files()["saved_model.pb"] == b"new"
    of.clean(list(disk.NEW))
    of.end()


@pytest.fixture
def no_exchange(monkeypatch):
    """A filesystem that knows no RENAME_EXCHANGE."""

    class libc:
        def renameat2(self, *_args):
            """Refused, as NFS does."""
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_kwargs: libc())


def test_two_renames_replace_where_directories_cannot_be_exchanged(disk, no_exchange):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    of.move()
    assert disk.files()["saved_model.pb"] == b"new"
    disk.undo(of)
    assert disk.files() == disk.OLD
    disk.save(disk.storage("2-b"))
    assert disk.files() == disk.KEPT
    assert disk.names() == ["export"]


def test_a_system_without_renameat2_is_one_that_cannot_exchange(disk, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_kwargs: object())
    disk.make(disk.OLD)
    disk.save(disk.storage())
    assert disk.files()["saved_model.pb"] == b"new"


def test_a_second_rename_that_fails_brings_back_what_was_there(disk, no_exchange, monkeypatch):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    rename = Path.rename

    def refuse_the_second(self, target):
        if self.name == ".export.dsave-1-a" and Path(target) == disk.export:
            raise OSError(errno.EIO, "the disk is broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_second)
    with pytest.raises(DirectoryError, match="cannot be moved into place"):
        of.move()
    assert disk.files() == disk.OLD
    disk.undo(of)


def test_an_error_of_the_exchange_is_an_error_of_the_move(disk, monkeypatch):
    class libc:
        def renameat2(self, *_args):
            """Forbidden."""
            ctypes.set_errno(errno.EACCES)
            return -1

    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_kwargs: libc())
    with pytest.raises(
        DirectoryError, match=r"cannot be moved into place: .*Permission denied"
    ):
        of.move()
    monkeypatch.undo()
    disk.undo(of)
    assert disk.files() == disk.OLD


def test_a_directory_of_a_lower_layer_of_an_overlay_is_named_as_that(disk, mounted, tmp_path):
    lower, upper, work = (tmp_path / "layers" / name for name in ("lower", "upper", "work"))
    with mounted(tmp_path / "layers", "size=4m"):
        for layer in (lower, upper, work):
            layer.mkdir()
        disk.make(disk.OLD, at=lower / "export")
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        with mounted(disk.place, options, kind="overlay"):
            of = disk.sealed(disk.storage())
            with pytest.raises(DirectoryError, match=r"an overlay .*: save to a new name"):
                of.move()
            disk.undo(of)
            assert disk.files() == disk.OLD
            disk.save(disk.storage("2-b", at=disk.place / "new"))
            disk.save(disk.storage("3-c", at=disk.place / "new"))


def test_a_staging_directory_that_somebody_removed_fails_the_move(disk):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    directories.remove(disk.place / ".export.dsave-1-a")
    with pytest.raises(DirectoryError, match="cannot be moved into place"):
        of.move()
    disk.undo(of)
    assert disk.files() == disk.OLD


def test_what_cannot_be_put_in_place_after_some_attempts_is_an_error(disk):
    disk.make(disk.OLD)
    with pytest.raises(FileNotFoundError):
        directories.put_in_place(disk.place / "missing", disk.export)
    assert disk.files() == disk.OLD


def test_a_late_writer_cannot_write_into_what_was_discarded(disk):
    of = disk.sealed(disk.storage())
    late = of.create("variables/variables.data-00001-of-00002", 0)
    of.discard(())
    late.write(b"x" * 100_000)
    late.close()
    with pytest.raises(DirectoryError, match="cannot be written"):
        of.create("variables/variables.data-00002-of-00003", 0)
    of.end()
    assert disk.names() == []


def test_a_discard_wins_over_a_late_writer(disk, monkeypatch):
    of = disk.sealed(disk.storage())
    rmtree, calls = directories.shutil.rmtree, []

    def slow(directory, **kwargs):
        rmtree(directory, **kwargs)
        calls.append(directory)
        if len(calls) < 3:
            disk.make({"late": b"x"}, at=directory)

    monkeypatch.setattr(directories.shutil, "rmtree", slow)
    of.discard(())
    of.end()
    assert disk.names() == []


def test_what_cannot_be_discarded_is_said(disk, monkeypatch):
    of = disk.sealed(disk.storage())
    rmtree = directories.shutil.rmtree

    def refuse(_directory, *, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(errno.EPERM, "somebody else's")

    monkeypatch.setattr(directories.shutil, "rmtree", refuse)
    with pytest.raises(DirectoryError, match="cannot be removed: "):
        of.discard(())
    monkeypatch.setattr(directories.shutil, "rmtree", rmtree)
    disk.undo(of)


def test_the_first_error_of_a_file_is_told_and_not_that_of_its_end(disk):
    of = disk.sealed(disk.storage())
    sink = of.create("variables/variables.data-00001-of-00002", 0)
    os.close(sink._file.fileno())
    sink.abort()
    disk.undo(of)
