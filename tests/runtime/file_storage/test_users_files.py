"""Files of the user's in the directory survive a save, also what happens to them meanwhile.

- what comes, or is replaced, in the old directory after the linking is in the new one
- what is changed or removed in the new directory stays so
- an undone save brings back what came to its own directory
- copies, where nothing can be linked, are as good as links, and synced before the move
"""

import errno
import os
from pathlib import Path

import pytest

from dsave.runtime import directories

STAGING = ".export.dsave-1-a"


@pytest.fixture(params=["linked", "copied"])
def kind(request, monkeypatch):
    """Whether files can be linked."""
    if request.param == "copied":

        def refuse(*_args, **_kwargs):
            raise PermissionError(errno.EPERM, "not on this filesystem")

        monkeypatch.setattr(os, "link", refuse)
    return request.param


@pytest.fixture
def moved(disk, kind):
    """A save that has moved, over files of the user's; where the old directory is now."""
    disk.make(disk.OLD | {"logs/run/1": b"one", "note": b"first"})
    of = disk.sealed(disk.storage())
    of.move()
    yield of
    of.end()


def replaced(path, data):
    """Replace a file as editors do: by another one."""
    new = path.with_name("new")
    new.write_bytes(data)
    new.replace(path)


def test_a_file_that_came_to_a_directory_of_the_users_is_kept(disk, moved):
    (disk.place / STAGING / "logs/run/2").write_bytes(b"two")
    moved.clean(list(disk.NEW))
    assert disk.files() == {
        **disk.KEPT,
        "note": b"first",
        "logs/run/1": b"one",
        "logs/run/2": b"two",
    }


@pytest.mark.parametrize("name", ["note", "logs/run/1"])
def test_a_file_that_was_replaced_after_it_was_linked_is_kept(disk, moved, name):
    replaced(disk.place / STAGING / name, b"second")
    moved.clean(list(disk.NEW))
    assert disk.files()[name] == b"second"
    assert "new" not in disk.names(disk.export)


@pytest.mark.parametrize("name", ["note", "logs/run/1"])
def test_a_file_that_was_written_on_in_place_is_kept(disk, moved, name):
    with (disk.place / STAGING / name).open("ab") as file:
        file.write(b", and more")
    moved.clean(list(disk.NEW))
    assert disk.files()[name].endswith(b", and more")


def test_a_file_that_was_replaced_in_the_new_directory_stays(disk, moved):
    replaced(disk.export / "note", b"newer")
    moved.clean(list(disk.NEW))
    assert disk.files()["note"] == b"newer"


def test_of_two_replacements_that_in_the_new_directory_stays(disk, moved):
    replaced(disk.place / STAGING / "note", b"second")
    replaced(disk.export / "note", b"third")
    moved.clean(list(disk.NEW))
    assert disk.files()["note"] == b"third"


def test_what_was_removed_from_the_new_directory_stays_away(disk, moved):
    (disk.export / "note").unlink()
    (disk.export / "logs/run/1").unlink()
    moved.clean(list(disk.NEW))
    assert disk.files() == disk.KEPT


def test_a_directory_that_came_is_kept_with_what_is_in_it(disk, moved):
    (disk.place / STAGING / "logs/next/empty").mkdir(parents=True)
    moved.clean(list(disk.NEW))
    assert (disk.export / "logs/next/empty").is_dir()


def test_what_came_to_a_directory_that_was_removed_meanwhile_is_kept(disk, moved):
    (disk.export / "logs/run/1").unlink()
    (disk.export / "logs/run").rmdir()
    (disk.place / STAGING / "logs/run/2").write_bytes(b"two")
    moved.clean(list(disk.NEW))
    assert disk.files()["logs/run/2"] == b"two"
    assert "logs/run/1" not in disk.files()


def test_what_came_is_stored_before_the_old_directory_goes(disk, moved, monkeypatch):
    (disk.place / STAGING / "logs/run/2").write_bytes(b"two")
    steps = []
    remove = directories.remove
    monkeypatch.setattr(directories, "sync", lambda path: steps.append(path.name))
    monkeypatch.setattr(
        directories, "remove", lambda path: (steps.append("removal"), remove(path))
    )
    moved.clean(list(disk.NEW))
    assert steps == ["run", "removal"]


def test_a_file_in_the_place_of_a_directory_stays(disk, moved):
    (disk.export / "logs/run/1").unlink()
    (disk.export / "logs/run").rmdir()
    (disk.export / "logs/run").write_bytes(b"no directory")
    moved.clean(list(disk.NEW))
    assert disk.files()["logs/run"] == b"no directory"


def test_the_permissions_of_a_directory_of_the_users_stay(disk, kind):
    disk.make(disk.OLD)
    (disk.export / "assets.extra").chmod(0o700)
    disk.save(disk.storage())
    assert (disk.export / "assets.extra").stat().st_mode & 0o777 == 0o700


def test_a_link_that_was_pointed_elsewhere_is_kept(disk, kind):
    disk.make(disk.OLD)
    (disk.export / "assets.extra/latest").symlink_to("1")
    of = disk.sealed(disk.storage())
    of.move()
    link = disk.place / STAGING / "assets.extra/latest"
    link.unlink()
    link.symlink_to("2")
    of.clean(list(disk.NEW))
    of.end()
    assert (disk.export / "assets.extra/latest").readlink() == Path("2")


def test_a_host_that_did_not_move_keeps_what_came(disk):
    disk.make(disk.OLD | {"logs/1": b"one"})
    of, other = disk.sealed(disk.storage()), disk.storage(host="other")
    other.begin("other")
    of.move()
    of.end()
    (disk.place / STAGING / "logs/2").write_bytes(b"two")
    (disk.place / STAGING / "late").write_bytes(b"mine")
    other.clean(list(disk.NEW))
    other.end()
    assert disk.files() == {
        **disk.KEPT,
        "logs/1": b"one",
        "logs/2": b"two",
        "late": b"mine",
    }


@pytest.mark.parametrize("name", ["note", "late", "logs/run/1", "logs/run/2"])
def test_a_save_that_is_undone_gives_back_what_came_to_it(disk, moved, name):
    replaced(disk.export / name, b"second")
    moved.move_back()
    moved.discard(list(disk.NEW))
    assert disk.files()[name] == b"second"
    assert disk.files()["saved_model.pb"] == b"old"


def test_a_file_that_goes_while_it_is_linked_fails_nothing(disk, kind, monkeypatch):
    disk.make(disk.OLD | {"logs/tmp": b"x"})
    link = os.link

    def vanish(source, target, **options):
        Path(source).unlink(missing_ok=True)
        link(source, target, **options)

    monkeypatch.setattr(os, "link", vanish)
    disk.save(disk.storage())
    assert disk.files() == disk.NEW


def test_a_file_that_goes_while_it_is_moved_over_keeps_no_other_back(disk, moved, monkeypatch):
    for name in "12":
        (disk.place / STAGING / name).write_bytes(b"late")
    replace = Path.replace

    def vanish(self, target):
        if not gone:
            gone.append(self.name)
            self.unlink()
        return replace(self, target)

    gone = []
    monkeypatch.setattr(Path, "replace", vanish)
    moved.clean(list(disk.NEW))
    assert {"1", "2"} - set(gone) == {"1", "2"} & set(disk.names(disk.export))


def test_what_was_copied_and_the_directories_made_for_it_are_synced_before_the_move(
    disk, kind, monkeypatch
):
    disk.make(disk.OLD)
    of = disk.sealed(disk.storage())
    steps = []
    fsync, put_in_place = os.fsync, directories.put_in_place

    def note_sync(descriptor):
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_move(*args):
        steps.append("the move")
        put_in_place(*args)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(directories, "put_in_place", note_move)
    of.move()
    of.clean(list(disk.NEW))
    of.end()
    before = steps[: steps.index("the move")]
    copied = {"README", "b"} if kind == "copied" else set()
    assert set(before) == {"a", "assets.extra", STAGING, *copied}
    assert before.index("a") < before.index("assets.extra") < before.index(STAGING)
