"""What cannot be saved to is refused before anything is written, and why is said.

- a SavedModel, what is left of one, and an empty directory are replaced; nothing else is
- names that would be swept, or are too long; the current directory
- mount points, what is mounted below, files, directories that may not be written, disks
  without room
- parents are made, and go again with the save
"""

import os
import subprocess
from pathlib import Path

import pytest

from dsave.errors import DirectoryError, NoSpaceError

DATA = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    "there",
    [
        {"saved_model.pb": b"", "notes": b""},
        {"saved_model.pbtxt": b"", "notes": b""},
        {DATA: b"", "variables/variables.index": b""},
        {DATA: b"", "fingerprint.pb": b"", "assets/a": b""},
    ],
)
def test_a_savedmodel_or_what_one_left_is_replaced(disk, there):
    disk.make(there)
    disk.save(disk.storage())
    assert disk.NEW.items() <= disk.files().items()


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ({"thesis.tex": b""}, "thesis.tex"),
        ({DATA: b"", "thesis.tex": b""}, "thesis.tex"),
        ({"assets/photo.jpg": b""}, "assets"),
        ({"debug/core": b"", "fingerprint.pb": b""}, "debug, fingerprint.pb"),
        ({"variables/mine.txt": b""}, "variables/mine.txt"),
        ({DATA: b"", "variables/notes": b""}, "variables/notes"),
    ],
)
def test_a_directory_of_something_else_is_refused_and_left(disk, there, named):
    disk.make(there)
    of = disk.storage(host="/job:w/replica:0/task:3")
    with pytest.raises(DirectoryError, match="it is no SavedModel") as caught:
        of.begin("host")
    of.discard(())
    of.end()
    assert f"({named})" in str(caught.value)
    assert (caught.value.directory, caught.value.host) == (
        str(disk.export),
        "/job:w/replica:0/task:3",
    )
    assert disk.files() == there
    assert disk.names() == ["export"]


def refused(disk, match, at=None):
    of = disk.storage(at=at)
    with pytest.raises(DirectoryError, match=match):
        of.begin("host")
    of.discard(())
    of.end()


def test_a_file_in_the_place_of_the_directory_is_refused(disk):
    disk.export.write_bytes(b"mine")
    refused(disk, "it exists and is no directory")
    assert disk.export.read_bytes() == b"mine"


def test_a_link_to_itself_is_refused(disk):
    disk.export.symlink_to(disk.export)
    refused(disk, "it exists and is no directory")


def test_a_link_to_nothing_is_followed(disk, tmp_path):
    disk.export.symlink_to(tmp_path / "real")
    disk.save(disk.storage())
    assert disk.files(tmp_path / "real") == disk.NEW


def test_a_file_in_the_place_of_a_parent_is_refused(disk):
    disk.export.write_bytes(b"mine")
    below = disk.export / "below" / "it"
    refused(disk, "cannot be written: .*Not a directory", at=below)


def test_a_filesystem_that_cannot_be_written_is_refused(disk):
    refused(disk, "cannot be written", at=Path("/proc/dsave/export"))


def test_a_directory_that_may_not_be_written_is_refused(disk, monkeypatch):
    disk.make(disk.OLD)
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    refused(disk, "it may not be written")


@pytest.mark.parametrize("name", [".a.dsave-123", ".a.dsave-1-b-replaced", ".a.dsave-1/below"])
def test_a_name_that_a_save_of_its_neighbour_would_sweep_is_refused(disk, name):
    refused(disk, "a name like this is of what a save leaves", at=disk.place / name)
    assert disk.names() == []


def test_a_name_may_have_227_bytes_with_the_epoch_of_a_save(disk):
    epoch = "0123456789a-01234567"
    fits, too_long = disk.place / ("ä" * 113 + "a"), disk.place / ("ä" * 114)
    disk.save(disk.storage(epoch, at=fits))
    assert disk.files(fits) == disk.NEW
    of = disk.storage(epoch, at=too_long)
    with pytest.raises(DirectoryError, match=r"its name is too long .* may have 227 bytes"):
        of.begin("host")


@pytest.mark.parametrize("below", [".", "assets.extra"])
def test_the_current_directory_is_refused(disk, monkeypatch, below):
    disk.make(disk.OLD)
    monkeypatch.chdir(disk.export / below)
    refused(disk, "it is the current directory of the process that writes, or above it")
    disk.save(disk.storage(at=disk.export / "assets.extra" / "below"))


def test_a_process_whose_current_directory_was_removed_may_save(disk, monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    disk.make(disk.OLD)
    disk.save(disk.storage())
    assert disk.files() == disk.KEPT


def test_a_mount_point_is_refused_and_a_directory_in_it_is_not(disk, mounted):
    with mounted(disk.export, "size=1m"):
        refused(disk, "it is a mount point, which cannot be moved; add a name to it")
        assert disk.names() == ["export"]
        disk.save(disk.storage(at=disk.export / "1"))
        assert disk.files(disk.export / "1") == disk.NEW


def bound(directory, source):
    """Bind a directory of the same filesystem; `mounted` has shown that it can be done."""
    directory.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(source), str(directory)], check=True)


def test_what_is_mounted_in_a_directory_is_not_emptied_with_it(disk, mounted, tmp_path):
    disk.make(disk.OLD)
    volume = tmp_path / "a volume"
    volume.mkdir()
    with mounted(tmp_path / "any", "size=1m"):  # or the test is skipped
        pass
    (volume / "thesis.tex").write_bytes(b"mine")
    place = disk.export / "a volume" / "below"
    bound(place, volume)
    try:
        refused(disk, f"something is mounted at {place}; unmount it first")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert (volume / "thesis.tex").read_bytes() == b"mine"


def test_what_was_mounted_while_the_save_went_on_is_not_emptied_either(disk, mounted, tmp_path):
    disk.make(disk.OLD)
    with mounted(tmp_path / "any", "size=1m"):  # or the test is skipped
        pass
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "thesis.tex").write_bytes(b"mine")
    of = disk.sealed(disk.storage())
    of.move()
    (staged,) = (p for p in disk.place.iterdir() if p != disk.export)
    bound(staged / "variables" / "late", volume)
    try:
        with pytest.raises(DirectoryError, match=r"cannot be cleaned: .* mounted"):
            of.clean(())
    finally:
        subprocess.run(["umount", str(staged / "variables" / "late")], check=True)
        of.end()
    assert (volume / "thesis.tex").read_bytes() == b"mine"


def test_a_read_only_filesystem_is_refused(disk, mounted):
    with mounted(disk.export, "ro"):
        refused(disk, "cannot be written: .*Read-only", at=disk.export / "1")


def test_a_full_disk_is_told_as_that_and_nothing_is_left(disk, mounted):
    with mounted(disk.export, "size=1m"):
        of = disk.storage(at=disk.export / "1", host="/job:w/replica:0/task:3")
        assert 0 < of.begin("host") <= 1 << 20
        of.open()
        sink = of.create(DATA, 4 << 20)
        with pytest.raises(NoSpaceError, match="no room is left on its disk") as caught:
            sink.write(bytes(4 << 20))
        sink.abort()
        assert caught.value.directory == str(disk.export / "1")
        assert caught.value.host == "/job:w/replica:0/task:3"
        with pytest.raises(NoSpaceError):
            of.put({"variables/variables.index": bytes(100 << 10)})
        disk.undo(of)
        assert disk.names(disk.export) == []


def test_the_free_space_is_that_of_the_directory(disk):
    of = disk.storage()
    told = os.statvfs(disk.place)
    assert of.begin("host") == pytest.approx(told.f_bavail * told.f_frsize, rel=0.05)
    disk.undo(of)


def test_a_filesystem_that_counts_no_blocks_has_no_limit(disk, monkeypatch):
    nothing = os.statvfs_result([4096, 4096, *([0] * 8)])
    monkeypatch.setattr(os, "statvfs", lambda _: nothing)
    of = disk.storage()
    assert of.begin("host") is None
    disk.undo(of)


def test_parents_are_made_and_go_again_with_a_save_that_is_undone(disk):
    deep = disk.export / "a" / "b"
    disk.undo(disk.sealed(disk.storage(at=deep)))
    assert disk.names() == []
    disk.save(disk.storage(at=deep))
    assert disk.files(deep) == disk.NEW


def test_parents_that_somebody_else_uses_by_then_stay(disk):
    of = disk.sealed(disk.storage(at=disk.export / "a" / "b"))
    (disk.export / "notes").write_bytes(b"mine")
    disk.undo(of)
    assert disk.names(disk.export) == ["notes"]


def test_the_host_that_made_a_parent_removes_it_though_another_tends_the_disk(disk):
    deep = disk.export / "a"
    maker, tender = disk.storage(at=deep), disk.storage(at=deep)
    maker.begin("maker")
    disk.sealed(tender)
    disk.undo(tender)
    maker.end()
    assert disk.names() == []
