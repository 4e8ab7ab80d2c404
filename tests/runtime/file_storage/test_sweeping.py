"""What dead saves left is swept by the next one; what the living still need is not.

- locks tell the living from the dead: of the directory, and of the markers in it
- what a living save has replaced is not swept either
- nothing else with a similar name is touched
- a crash between two renames is healed
"""

import errno
import fcntl
import os
import subprocess
import sys
import textwrap

import pytest

from dsave.runtime import directories

DATA = "variables/variables.data-00000-of-00001"


def leave(disk, epoch, code="os.kill(os.getpid(), signal.SIGKILL)"):
    """Begin a save in another process, which then runs `code`."""
    program = f"""
        import os, signal, sys
        from dsave.runtime.file_storage import FileStorage
        of = FileStorage({str(disk.export)!r}, {epoch!r}, "host", print, durable=False)
        of.begin("host"); of.open()
        sink = of.create("{DATA}", 0); sink.write(b"x" * 100_000); sink.close()
        print("begun", flush=True)
        {code}
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_leftovers_of_dead_saves_are_swept_and_those_of_the_living_are_not(disk):
    with leave(disk, "2-live", "sys.stdin.read()") as live:
        assert live.stdout.readline() == "begun\n"
        with leave(disk, "1-dead"):
            pass
        assert disk.names() == [".export.dsave-1-dead", ".export.dsave-2-live"]
        disk.save(disk.storage("3-c"))
        assert disk.names() == [".export.dsave-2-live", "export"]
        live.communicate()
    disk.save(disk.storage("4-d"))
    assert disk.names() == ["export"]


def test_the_directory_and_the_marker_are_locked_until_the_save_ends(disk):
    of = disk.storage()
    of.begin("one")
    of.open()
    staging = disk.place / ".export.dsave-1-a"
    for path in (staging, staging / ".seen-by-one"):
        descriptor = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    of.end()
    disk.undo(disk.sealed(disk.storage("2-b")))
    assert disk.names() == []


def test_a_save_of_the_same_process_is_not_swept(disk):
    one = disk.sealed(disk.storage("1-a"))
    disk.save(disk.storage("2-b"))
    one.move()
    one.clean(list(disk.NEW))
    one.end()
    assert disk.files() == disk.NEW
    assert disk.names() == ["export"]


def test_what_a_living_save_has_replaced_is_not_swept(disk):
    disk.make(disk.OLD)
    one = disk.sealed(disk.storage("1-a"))
    one.move()
    other = disk.sealed(disk.storage("2-b"))
    one.move_back()
    assert disk.files() == disk.OLD
    disk.undo(one)
    disk.undo(other)


def test_a_staging_directory_that_is_just_being_made_is_not_swept(disk):
    young, old = (disk.place / f".export.dsave-{n}-x" for n in (1, 2))
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    disk.undo(disk.sealed(disk.storage("3-c")))
    assert disk.names() == [young.name]


def test_a_save_that_only_locks_its_marker_is_not_swept(disk):
    # As another machine sees it on a network filesystem.
    staging = disk.place / ".export.dsave-1-x"
    disk.make({".seen-by-host": b"", DATA: b""}, at=staging)
    descriptor = directories.hold(staging / ".seen-by-host")
    disk.undo(disk.sealed(disk.storage("2-b")))
    assert disk.names() == [staging.name]
    os.close(descriptor)
    disk.undo(disk.sealed(disk.storage("3-c")))
    assert disk.names() == []


def test_nothing_is_swept_where_nothing_can_be_locked(disk, monkeypatch):
    disk.make({DATA: b""}, at=disk.place / ".export.dsave-1-x")

    def refuse(*_args):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    disk.save(disk.storage("2-b"))
    assert disk.names() == [".export.dsave-1-x", "export"]


def test_neighbours_with_other_names_are_not_swept(disk):
    neighbours = [
        ".exports.dsave-1-x",
        "export.dsave-1-x",
        ".export.dsave",
        ".other.dsave-1-x",
    ]
    for name in neighbours:
        disk.make({DATA: b""}, at=disk.place / name)
    disk.save(disk.storage())
    assert disk.names() == sorted([*neighbours, "export"])


def test_a_link_like_a_leftover_is_not_followed(disk, tmp_path):
    disk.make({"thesis.tex": b"mine"}, at=tmp_path / "precious")
    (disk.place / ".export.dsave-1-x").symlink_to(tmp_path / "precious")
    disk.save(disk.storage("2-b"))
    assert disk.files(tmp_path / "precious") == {"thesis.tex": b"mine"}


def test_a_leftover_that_cannot_be_removed_fails_nothing(disk, monkeypatch):
    disk.make({DATA: b""}, at=disk.place / ".export.dsave-1-x")

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EPERM, "somebody else's")

    monkeypatch.setattr(directories, "remove", refuse)
    of = disk.sealed(disk.storage("2-b"))
    of.move()
    assert disk.files() == disk.NEW
    of.end()


def test_a_crash_between_two_renames_is_healed_by_the_next_save(disk):
    disk.make(disk.OLD, at=disk.place / ".export.dsave-1-a-replaced")
    disk.make(disk.NEW, at=disk.place / ".export.dsave-1-a")
    of = disk.sealed(disk.storage("2-b"))
    assert disk.files() == disk.OLD
    disk.undo(of)
    assert disk.names() == ["export"]


def test_what_a_finished_save_had_put_aside_is_swept(disk):
    disk.make(disk.NEW)
    disk.make(disk.OLD, at=disk.place / ".export.dsave-1-a-replaced")
    disk.undo(disk.sealed(disk.storage("2-b")))
    assert disk.files() == disk.NEW
    assert disk.names() == ["export"]
