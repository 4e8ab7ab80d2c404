"""A save's files under a prefix of an object store: what tests/conformance cannot say of all.

- the commit of what is replaced is taken back before anything is written over
- `saved_model.pb` is the last object that is put
- a prefix that is no SavedModel and has others' files under a save's names is refused
- what goes is what was there when the save was opened, and belonged to a SavedModel
- markers are proof of the right to write, and go with the save
- files with names of others, and objects beside the prefix, stay
- a file that is given up is not stored when it is collected
- whatever the store raises names the URL and the host
- what only one process reads is refused, by its URL
"""

import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from dsave.errors import DirectoryError, OptionError
from dsave.runtime.object_storage import ObjectStorage, check_hosts_share

HOST = "/job:w/replica:0/task:3"
DATA = "variables/variables.data-00000-of-00001"
METADATA = {DATA: b"graph", "variables/variables.index": b"index", "saved_model.pb": b"new"}


@pytest.fixture
def url():
    """A prefix of its own for each test."""
    root = f"memory://bucket-{uuid.uuid4().hex}"
    yield f"{root}/export"
    fs = fsspec.filesystem("memory")
    if fs.exists(root):
        fs.rm(root, recursive=True)


@pytest.fixture
def puts(monkeypatch):
    """The names of all objects, in the order in which they are put or removed (-)."""
    log = []
    pipe, remove = MemoryFileSystem.pipe_file, MemoryFileSystem.rm_file

    def note_put(self, path, value, **kwargs):
        log.append(path.rpartition("/export/")[2])
        return pipe(self, path, value, **kwargs)

    def note_removal(self, path):
        remove(self, path)
        log.append("-" + path.rpartition("/export/")[2])

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", note_put)
    monkeypatch.setattr(MemoryFileSystem, "rm_file", note_removal)
    return log


def storage(url, epoch="1-a"):
    return ObjectStorage(url, epoch, HOST, lambda: None)


def stored(url):
    fs, root = fsspec.url_to_fs(url)
    return {name[len(root) + 1 :]: fs.cat_file(name) for name in fs.find(root)}


def save(of):
    of.begin("host")
    of.open()
    of.put(METADATA)
    of.move()
    of.clean(list(METADATA))
    of.end()


def test_the_commit_is_the_last_object_that_is_put(url, puts):
    save(storage(url))
    assert puts == [
        ".dsave-1-a/.seen-by-host",
        DATA,
        "variables/variables.index",
        "saved_model.pb",
        "-.dsave-1-a/.seen-by-host",
    ]


def test_the_commit_of_what_is_replaced_is_taken_back_before_anything_is_written(url, puts):
    save(storage(url))
    puts.clear()
    save(storage(url, "2-b"))
    assert puts[:4] == [
        ".dsave-2-b/.seen-by-host",
        ".dsave-2-b/replaced",
        "-saved_model.pb",
        DATA,
    ]


def test_nothing_is_replaced_before_the_save_is_opened(url):
    save(storage(url))
    storage(url, "2-b").begin("host")
    assert METADATA.items() <= stored(url).items()


def test_the_marker_goes_with_the_save(url):
    save(storage(url))
    assert stored(url) == METADATA


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("variables/variables.data-00004-of-00009", False),
        ("assets/words.txt", False),
        ("debug/saved_model_debug_info.pb", False),
        ("saved_model.pbtxt", False),
        ("fingerprint.pb", False),
        ("assets.extra/notes", True),
        ("saved_model.pb.bak", True),
        ("variables.txt", True),
        ("README", True),
    ],
)
def test_what_is_left_of_the_replaced_goes_and_what_is_others_stays(url, name, stays):
    save(storage(url))
    fsspec.filesystem("memory").pipe_file(f"{url}/{name}", b"there before")
    save(storage(url, "2-b"))
    assert (name in stored(url)) == stays


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_every_kind_of_commit_is_taken_back(url, name):
    put(url, {name: b"old", "assets/words.txt": b"old"})
    of = storage(url)
    of.begin("host")
    of.open()
    assert name not in stored(url)
    of.put(METADATA)
    of.move()
    of.clean(list(METADATA))
    of.end()
    assert stored(url) == METADATA


def test_only_markers_are_seen(url):
    save(storage(url))
    of = storage(url, "2-b")
    of.begin("host")
    of.open()
    assert of.seen() == {"host"}
    of.discard(())


def test_an_object_for_the_folder_itself_is_no_file_of_others(url, monkeypatch):
    ls = MemoryFileSystem.ls

    def with_itself(self, path, **options):
        return [f"{path}/", *ls(self, path, **options)]

    put(url, {DATA: b"old"})
    monkeypatch.setattr(MemoryFileSystem, "ls", with_itself)
    of = storage(url)
    of.begin("host")
    of.discard(())


SITE = {"index.html": b"hi", "assets/logo.png": b"logo", "debug/notes.txt": b"notes"}


def put(url, files):
    for name, data in files.items():
        fsspec.filesystem("memory").pipe_file(f"{url}/{name}", data)


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (SITE, "assets, debug"),
        ({"variables/my.csv": b"1,2"}, "variables/my.csv"),
        ({"variables/my.csv": b"1,2", DATA: b"old"}, "variables/my.csv"),
        ({"fingerprint.pb": b"x"}, "fingerprint.pb"),
    ],
)
def test_files_of_others_under_the_names_of_a_save_are_refused_and_left(url, there, named):
    put(url, there)
    of = storage(url)
    with pytest.raises(
        DirectoryError, match=r"it is no SavedModel and holds others' files"
    ) as e:
        of.begin("host")
    assert f"({named})" in str(e.value)
    of.discard(())
    of.end()
    assert stored(url) == there


def test_what_a_dead_save_left_is_replaced_and_what_is_others_stays(url):
    left = {DATA: b"old", "variables/variables.data-00001-of-00002": b"old", "assets/w": b"w"}
    put(url, left | {"README": b"mine"})
    save(storage(url))
    assert stored(url) == {**METADATA, "assets/w": b"w", "README": b"mine"}


def test_a_save_after_one_that_failed_is_not_refused_for_what_that_one_replaced(url):
    save(storage(url))
    put(url, {"assets/words.txt": b"old", "README": b"mine"})
    failed = storage(url, "2-b")
    failed.begin("host")
    failed.open()
    failed.put(METADATA)
    failed.discard(list(METADATA))
    failed.end()
    assert stored(url) == {"README": b"mine"}
    save(storage(url, "3-c"))
    assert stored(url) == {**METADATA, "README": b"mine"}


def test_what_came_to_other_names_since_the_opening_stays(url):
    save(storage(url))
    of = storage(url, "2-b")
    of.begin("host")
    of.open()
    put(url, {"assets/new.txt": b"new"})
    of.put(METADATA)
    of.move()
    of.clean(list(METADATA))
    of.end()
    assert stored(url) == {**METADATA, "assets/new.txt": b"new"}


@pytest.mark.parametrize("verb", ["begin", "open", "discard"])
def test_a_store_that_is_busy_is_not_one_where_nothing_is(url, monkeypatch, verb):
    # fsspec's `exists` is False then; another save's saved_model.pb stayed over new data.
    save(storage(url))
    of = storage(url, "2-b")
    if verb != "begin":
        of.begin("host")

    def busy(*_args, **_kwargs):
        raise TimeoutError("the server is busy, try again")

    monkeypatch.setattr(MemoryFileSystem, "info", busy)
    with pytest.raises(DirectoryError, match="the server is busy"):
        getattr(of, verb)(*{"begin": ("host",), "open": (), "discard": ([DATA],)}[verb])
    monkeypatch.undo()
    assert METADATA.items() <= stored(url).items()


def test_a_prefix_that_begins_alike_is_another_one(url):
    save(storage(f"{url}-2"))
    save(storage(url))
    of = storage(url, "2-b")
    of.begin("host")
    of.open()
    of.discard(list(METADATA))
    assert stored(f"{url}-2") == METADATA
    assert stored(url) == {}


def test_a_slash_at_the_end_of_the_url_says_nothing(url):
    save(storage(f"{url}/"))
    assert stored(url) == METADATA


def test_a_host_that_did_not_seal_cannot_commit(url):
    of, other = storage(url), storage(url)
    of.begin("host")
    other.begin("other")
    of.put(METADATA)
    with pytest.raises(DirectoryError, match=r"the host that has saved_model\.pb is lost"):
        other.move()
    assert "saved_model.pb" not in stored(url)


def test_a_discard_after_the_commit_of_another_save_leaves_that_one(url):
    of = storage(url)
    of.begin("host")
    of.open()
    save(storage(url, "2-b"))
    of.discard(list(METADATA))
    assert stored(url) == METADATA


def test_a_file_that_is_given_up_is_not_stored_when_it_is_collected(url, monkeypatch):
    uploads = []

    class upload(AbstractBufferedFile):
        def _upload_chunk(self, final=False):  # noqa: ARG002 - as fsspec calls it
            uploads.append(self.buffer.getvalue())

    monkeypatch.setattr(
        MemoryFileSystem, "_open", lambda self, path, **_: upload(self, path, "wb")
    )
    of = storage(url)
    sink = of.create(DATA, 4)
    sink.write(b"half")
    sink.abort()
    del sink
    assert uploads == []
    sink = of.create(DATA, 5)
    sink.write(b"whole")
    sink.close()
    assert uploads == [b"whole"]


@pytest.mark.parametrize(
    ("broken", "verb", "args", "problem"),
    [
        ("pipe_file", "begin", ("host",), "cannot be written"),
        ("ls", "seen", (), "cannot be read"),
        ("info", "begin", ("host",), "cannot be written"),
        ("info", "open", (), "cannot be written"),
        ("open", "create", (DATA, 1), "cannot be written"),
        ("size", "check", ({DATA: 1},), "is not as it was written"),
        ("pipe_file", "put", (METADATA,), "cannot be written"),
        ("find", "clean", ((),), "cannot be cleaned"),
        ("rm_file", "move_back", (), "cannot be moved back"),
        ("info", "discard", ((),), "cannot be removed"),
    ],
)
def test_whatever_the_store_raises_names_the_url_and_the_host(
    url, monkeypatch, broken, verb, args, problem
):
    def fail(*_args, **_kwargs):
        raise ValueError("403 Forbidden")

    of = storage(url)
    monkeypatch.setattr(MemoryFileSystem, broken, fail)
    with pytest.raises(DirectoryError, match=f"{problem}: 403 Forbidden") as caught:
        getattr(of, verb)(*args)
    assert (caught.value.directory, caught.value.host) == (url, HOST)


@pytest.mark.parametrize("verb", ["write", "close"])
def test_a_write_that_the_store_refuses_names_the_url_and_the_host(url, monkeypatch, verb):
    class refusing(AbstractBufferedFile):
        def write(self, _):
            """Refused."""
            raise ValueError("403 Forbidden")

        def close(self):
            """Refused, while it is open."""
            if not self.closed:
                raise ValueError("403 Forbidden")

    monkeypatch.setattr(
        MemoryFileSystem, "_open", lambda self, path, **_: refusing(self, path, "wb")
    )
    sink = storage(url).create(DATA, 1)
    with pytest.raises(DirectoryError, match="cannot be written: 403 Forbidden") as caught:
        getattr(sink, verb)(*[b"x"][: verb == "write"])
    assert caught.value.directory == url
    sink.abort()


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "s3://"])
def test_a_url_that_cannot_be_opened_names_itself_and_the_host(url):
    with pytest.raises(DirectoryError, match="cannot be opened") as caught:
        storage(url).begin("host")
    assert caught.value.host == HOST


@pytest.mark.parametrize("url", ["memory://bucket/x", "simplecache::memory://bucket/x"])
def test_what_only_one_process_reads_is_refused(url):
    with pytest.raises(OptionError, match=r"experimental_io_device='/job:localhost'") as raised:
        check_hosts_share(url)
    assert url in str(raised.value)


@pytest.mark.parametrize("path", ["s3://memory/x", "/memory/x", "memory"])
def test_what_others_read_is_not(path):
    check_hosts_share(path)
