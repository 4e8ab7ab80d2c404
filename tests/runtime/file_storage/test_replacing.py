"""A save's directory takes the place of another: whole, and with all that is not a saver's.

- nothing is under the final name before the move, which is one rename or one exchange
- while a save is written, and after it is undone, what it would replace is there byte for byte
- the user's files, the permissions and the links of the directory stay
- a durable save syncs files before names, and names before the move
- a save that ends holds nothing open
"""

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from dsave.runtime.file_storage import FileStorage

DATA = "variables/variables.data-00000-of-00001"


def test_a_save_is_staged_beside_the_directory_under_its_epoch(disk):
    of = disk.sealed(disk.storage("18c2-7f"))
    assert disk.names() == [".export.dsave-18c2-7f"]
    of.move()
    assert disk.names() == ["export"]
    assert disk.files() == disk.NEW
    of.end()


def test_what_a_save_will_replace_is_loadable_until_the_move(disk):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    assert disk.files() == disk.OLD
    disk.undo(of)
    assert disk.files() == disk.OLD
    assert disk.names() == ["export"]


def test_what_a_save_replaced_is_back_byte_for_byte_once_it_is_undone(disk):
    disk.make(disk.OLD)
    inode = disk.export.stat().st_ino
    of = disk.sealed(disk.storage())
    of.move()
    assert disk.files()["saved_model.pb"] == b"new"
    disk.undo(of)
    assert (disk.files(), disk.export.stat().st_ino) == (disk.OLD, inode)
    assert disk.names() == ["export"]


def test_a_discard_without_a_move_back_does_not_remove_what_was_replaced(disk):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    of.move()
    of.discard(list(disk.NEW))
    of.end()
    assert disk.files() == disk.OLD


def test_a_replacement_is_one_exchange(disk, monkeypatch):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    monkeypatch.setattr(Path, "rename", None)
    of.move()
    assert disk.files()["saved_model.pb"] == b"new"
    monkeypatch.undo()
    disk.undo(of)


def test_at_no_moment_of_many_replacements_is_there_nothing_to_load(disk):
    disk.save(disk.storage())
    gaps, over = [], threading.Event()

    def watch():
        while not over.is_set():
            try:
                assert (disk.export / "saved_model.pb").read_bytes() == b"new"
                (disk.export / "README").read_bytes()
            except OSError as error:
                gaps.append(error)

    (disk.export / "README").write_bytes(b"mine")
    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(30):
        disk.save(disk.storage(f"2-{number}"))
    over.set()
    watcher.join()
    assert gaps == []


def test_the_users_own_files_are_in_the_new_directory_as_soon_as_it_is(disk):
    disk.make(disk.OLD)
    inode = (disk.export / "README").stat().st_ino
    of = disk.sealed(disk.storage())
    of.move()
    assert disk.files() == disk.KEPT
    assert (disk.export / "README").stat().st_ino == inode
    of.clean(list(disk.NEW))
    of.end()
    assert (disk.export / "README").stat().st_nlink == 1


@pytest.mark.parametrize("name", ["latest", "assets.extra/latest"])
@pytest.mark.parametrize("to", ["nowhere", "README", "..", "assets.extra"])
def test_links_of_the_user_stay_links(disk, name, to):
    disk.make(disk.OLD)
    (disk.export / name).symlink_to(to)
    disk.save(disk.storage())
    assert (disk.export / name).readlink() == Path(to)


def test_files_that_cannot_be_linked_are_copied(disk, monkeypatch):
    disk.make(disk.OLD)

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EPERM, "not on this filesystem")

    monkeypatch.setattr(os, "link", refuse)
    disk.save(disk.storage())
    assert disk.files() == disk.KEPT


def test_a_file_that_comes_while_the_directories_change_places_is_kept(disk):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    of.move()
    (disk.place / ".export.dsave-1-a" / "late").write_bytes(b"mine")
    of.clean(list(disk.NEW))
    of.end()
    assert disk.files()["late"] == b"mine"


def test_what_was_not_moved_is_not_cleaned_away(disk):
    of = disk.sealed(disk.storage())
    of.clean(list(disk.NEW))
    of.move()
    assert disk.files() == disk.NEW
    of.end()


def test_the_permissions_of_the_directory_stay(disk):
    disk.make(disk.OLD)
    disk.export.chmod(0o2750)
    disk.save(disk.storage())
    assert stat.S_IMODE(disk.export.stat().st_mode) == 0o2750


def test_what_replaces_a_private_directory_is_private_before_anything_is_in_it(disk):
    disk.make(disk.OLD)
    disk.export.chmod(0o700)
    of = disk.storage()
    of.begin("host")
    assert stat.S_IMODE((disk.place / ".export.dsave-1-a").stat().st_mode) == 0o700
    disk.undo(of)


def test_a_link_to_a_directory_stays_and_what_it_points_to_is_replaced(disk, tmp_path):
    real = tmp_path / "real"
    disk.make(disk.OLD, at=real)
    disk.export.symlink_to(real)
    disk.save(disk.storage())
    assert disk.export.is_symlink()
    assert disk.files(real)["saved_model.pb"] == b"new"
    assert disk.names(tmp_path) == ["place", "real"]


def test_an_empty_directory_is_replaced_and_comes_back(disk):
    disk.export.mkdir(mode=0o700)
    inode = disk.export.stat().st_ino
    of = disk.sealed(disk.storage())
    of.move()
    disk.undo(of)
    assert (disk.names(disk.export), disk.export.stat().st_ino) == ([], inode)
    disk.save(disk.storage("2-b"))
    assert disk.files() == disk.NEW


def test_a_save_that_is_not_durable_syncs_nothing(disk, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    disk.save(FileStorage(str(disk.export), "1-a", "host", lambda: None, durable=False))
    assert disk.files() == disk.NEW


def test_a_durable_save_syncs_each_file_before_the_directories_and_the_move(disk, monkeypatch):
    steps = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor):
        steps.append(
            str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(f"{disk.place}/")
        )
        fsync(descriptor)

    def note_rename(self, target):
        steps.append("the move")
        return rename(self, target)

    of = disk.storage()
    of.begin("host")
    of.open()
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    of.put(disk.NEW)
    of.move()
    of.end()
    staging = ".export.dsave-1-a"
    assert steps[:2] == [f"{staging}/{DATA}", f"{staging}/saved_model.pb"]
    assert set(steps[2:4]) == {staging, f"{staging}/variables"}
    assert steps[4:] == [staging, "the move", str(disk.place)]


def test_a_save_that_ends_holds_nothing_open(disk):
    def open_files():
        names = set()
        for file in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                names.add(str(file.readlink()))
        return names

    disk.save(disk.storage("1-a"))
    hosts = [disk.storage("2-b", host) for host in "ab"]
    for of in hosts:
        of.begin(of._host)
    hosts[0].open()
    hosts[0].put(disk.NEW)
    hosts[0].move()
    assert any(str(disk.export) in name for name in open_files())
    hosts[0].clean(list(disk.NEW))
    for of in hosts:
        of.end()
    assert not any(str(disk.place) in name for name in open_files())
