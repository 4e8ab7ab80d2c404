"""What every storage does, in the order of a save's verbs.

- hosts that share the directory see each other's markers, and only those of their own save
- nothing is loadable before the move, all of it is after; what was written is what is there
- what a save replaces is gone once it is clean, but for files that no saver owns
- what is undone leaves no trace, and what was never begun to be replaced stays
- a verb that comes twice does no harm, and any host of the disk can undo what another did
- a save that was given up changes nothing of a later one, whatever it is still told to do
- a data file that is not as it was written is found before the commit
- errors name the directory and the host
"""

import contextlib

import pytest

from dsave.errors import DirectoryError, SaveError

DATA_0, DATA_1 = (f"variables/variables.data-0000{n}-of-00003" for n in range(2))
GRAPH = "variables/variables.data-00002-of-00003"
INDEX = "variables/variables.index"
METADATA = {
    GRAPH: b"the object graph",
    INDEX: b"the index",
    "fingerprint.pb": b"the fingerprint",
    "saved_model.pb": b"the graph",
}
DATA = {DATA_0: b"zero" * 1000, DATA_1: b"one"}
SAVED = {**DATA, **METADATA}


def write(storage, files):
    for name, data in files.items():
        sink = storage.create(name, len(data))
        sink.write(data)
        sink.close()


def sealed(storage, data=DATA, metadata=METADATA):
    storage.begin("host")
    storage.open()
    write(storage, data)
    storage.put(metadata)
    return storage


def save(storage, data=DATA, metadata=METADATA):
    sealed(storage, data, metadata)
    storage.move()
    storage.clean([*data, *metadata])
    storage.end()


OLD_DATA = {"variables/variables.data-00000-of-00002": b"old"}
OLD_METADATA = {
    "variables/variables.data-00001-of-00002": b"old graph",
    INDEX: b"old index",
    "assets/vocabulary.txt": b"old words",
    "debug/saved_model_debug_info.pb": b"old traces",
    "saved_model.pb": b"old",
}
OLD = {**OLD_DATA, **OLD_METADATA}
USERS = {"README": b"mine", "assets.extra/notes/first.txt": b"mine too"}


def test_hosts_that_share_the_directory_see_each_others_markers(place):
    one, other = place.storage(), place.storage()
    one.begin("one")
    other.begin("other")
    assert one.seen() == other.seen() == {"one", "other"}
    for storage in (one, other):
        storage.discard(())
        storage.end()


def test_another_saves_markers_are_not_seen(place):
    one, other = place.storage("1-a"), place.storage("2-b")
    one.begin("one")
    other.begin("other")
    assert (one.seen(), other.seen()) == ({"one"}, {"other"})
    for storage in (one, other):
        storage.discard(())
        storage.end()


def test_what_was_written_is_there_after_the_move_and_nothing_else(place):
    save(place.storage())
    assert place.files() == SAVED


def test_nothing_is_loadable_before_the_move(place):
    storage = sealed(place.storage())
    assert "saved_model.pb" not in place.files()
    storage.move()
    assert place.files()["saved_model.pb"] == b"the graph"
    storage.end()


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [0],
        [1, 1, 1],
        [(64 << 10) - 1, 64 << 10, 3],
        [100, 1 << 20, 100],
        [50_000] * 30,
        [3 << 20],
    ],
)
def test_writes_of_any_size_follow_each_other(place, sizes):
    pieces = [bytes([index]) * size for index, size in enumerate(sizes)]
    storage = place.storage()
    storage.begin("host")
    storage.open()
    sink = storage.create(DATA_0, 0)
    for piece in pieces:
        sink.write(memoryview(bytearray(piece)))
    sink.close()
    storage.put(METADATA)
    storage.move()
    storage.clean([DATA_0, *METADATA])
    storage.end()
    assert place.files()[DATA_0] == b"".join(pieces)


def test_what_is_written_may_be_changed_after_the_write(place):
    storage = place.storage()
    storage.begin("host")
    storage.open()
    sink = storage.create(DATA_0, 0)
    buffer = bytearray(b"first")
    sink.write(buffer)
    buffer[:] = b"other"
    sink.write(buffer)
    sink.close()
    storage.put(METADATA)
    storage.move()
    storage.end()
    assert place.files()[DATA_0] == b"firstother"


def test_what_is_replaced_goes_and_the_users_own_files_stay(place):
    save(place.storage("1-a"), OLD_DATA, OLD_METADATA)
    for name, data in USERS.items():
        place.write(name, data)
    save(place.storage("2-b"))
    assert place.files() == {**SAVED, **USERS}


def test_a_save_may_replace_one_with_the_same_file_names(place):
    save(place.storage("1-a"))
    save(place.storage("2-b"), {DATA_0: b"new"}, {**METADATA, "saved_model.pb": b"new"})
    assert place.files() == {
        **METADATA,
        DATA_0: b"new",
        "saved_model.pb": b"new",
    }


def test_a_save_that_only_began_leaves_no_trace(place):
    storage = place.storage()
    storage.begin("host")
    storage.discard(())
    storage.end()
    assert place.files() == {}


@pytest.mark.parametrize("moved", [False, True])
def test_a_save_that_is_undone_leaves_no_trace(place, moved):
    storage = sealed(place.storage())
    if moved:
        storage.move()
    storage.move_back()
    assert "saved_model.pb" not in place.files()
    storage.discard(list(SAVED))
    storage.end()
    assert place.files() == {}


def test_a_file_that_was_given_up_leaves_no_trace(place):
    storage = place.storage()
    storage.begin("host")
    storage.open()
    sink = storage.create(DATA_0, 0)
    sink.write(b"x" * (1 << 20))
    sink.abort()
    storage.discard([DATA_0, DATA_1])
    storage.end()
    assert place.files() == {}


def test_a_save_that_was_never_opened_does_not_harm_the_one_that_is_there(place):
    save(place.storage("1-a"))
    for name, data in USERS.items():
        place.write(name, data)
    storage = place.storage("2-b")
    storage.begin("host")
    storage.discard(list(SAVED))
    storage.end()
    assert place.files() == {**SAVED, **USERS}


def test_the_users_own_files_survive_a_save_that_is_undone(place):
    save(place.storage("1-a"), OLD_DATA, OLD_METADATA)
    for name, data in USERS.items():
        place.write(name, data)
    storage = sealed(place.storage("2-b"))
    storage.move()
    storage.move_back()
    storage.discard(list(SAVED))
    storage.end()
    assert USERS.items() <= place.files().items()


def test_verbs_that_come_twice_do_no_harm(place):
    storage = place.storage()
    storage.begin("host")
    storage.open()
    storage.open()
    write(storage, DATA)
    storage.put(METADATA)
    storage.move()
    storage.move()
    assert place.files()["saved_model.pb"] == b"the graph"
    storage.clean(list(SAVED))
    storage.clean(list(SAVED))
    assert place.files() == SAVED
    storage.end()
    storage.end()


def test_undoing_twice_does_no_harm(place):
    storage = sealed(place.storage())
    storage.move()
    for _ in range(2):
        storage.move_back()
    for _ in range(2):
        storage.discard(list(SAVED))
    storage.end()
    assert place.files() == {}


def test_another_host_can_clean_what_one_moved(place):
    save(place.storage("1-a"), OLD_DATA, OLD_METADATA)
    one, other = place.storage("2-b"), place.storage("2-b")
    other.begin("other")
    sealed(one).move()
    one.end()
    other.clean(list(SAVED))
    other.end()
    assert place.files() == SAVED


def test_another_host_can_undo_what_one_moved(place):
    one, other = place.storage(), place.storage()
    other.begin("other")
    sealed(one).move()
    one.end()
    other.move_back()
    assert "saved_model.pb" not in place.files()
    other.discard(list(SAVED))
    other.end()
    assert place.files() == {}


def test_files_that_are_as_they_were_written_pass(place):
    storage = sealed(place.storage())
    storage.check({name: len(data) for name, data in DATA.items()})
    storage.discard(list(SAVED))
    storage.end()


@pytest.mark.parametrize(
    ("name", "nbytes", "problem"),
    [
        (DATA_0, 4001, f"{DATA_0} has 4,000 bytes, 4,001 were written"),
        (DATA_0, 3999, f"{DATA_0} has 4,000 bytes, 3,999 were written"),
        ("variables/variables.data-00000-of-00009", 3, "variables.data-00000-of-00009"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_found(place, name, nbytes, problem):
    storage = sealed(place.storage(host="/job:w/replica:0/task:7"))
    with pytest.raises(DirectoryError, match="is not as it was written") as caught:
        storage.check({DATA_1: 3, name: nbytes})
    assert problem in str(caught.value)
    assert (caught.value.directory, caught.value.host) == (
        place.path,
        "/job:w/replica:0/task:7",
    )
    storage.discard(list(SAVED))
    storage.end()


@pytest.mark.parametrize("verb", ["move", "move_back", "clean", "discard"])
def test_a_save_that_was_given_up_does_not_touch_a_later_one(place, verb):
    late = sealed(
        place.storage("1-a"), {DATA_0: b"late"}, METADATA | {"saved_model.pb": b"late"}
    )
    if verb != "move":
        late.move()
    save(place.storage("2-b"), {DATA_1: b"later"})
    later = place.files()
    place.given_up = True
    arguments = [[*OLD, *SAVED]] if verb in {"clean", "discard"} else []
    with contextlib.suppress(SaveError):
        getattr(late, verb)(*arguments)
    late.end()
    found = place.files()
    for name in {*found, *later}:  # but for what was staged beside it, and markers
        assert name.startswith(("..", ".dsave-")) or found.get(name) == later.get(name), name
    assert found["saved_model.pb"] == METADATA["saved_model.pb"]


def test_a_save_that_was_given_up_opens_nothing(place):
    save(place.storage("1-a"))
    before = place.files()
    late = place.storage("2-b")
    late.begin("host")
    place.given_up = True
    with contextlib.suppress(SaveError):
        late.open()
    late.discard(())
    late.end()
    assert place.files() == before
