"""Models with assets, saved by real hosts.

Claims: the file of an asset is copied into the directory of each host, or into that of the io
device, whatever its size, in little memory; TensorFlow's Python, its sessions, its command line
and its C++ find it, wherever the directory was moved, as objects and in functions; a file that
is missing or that changes leaves nothing behind; a save removes assets of the one it replaces;
dsave loads assets, those that TensorFlow saved too, and saves them again.
"""

import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

import dsave

pytestmark = [pytest.mark.ray, pytest.mark.tf]

CPUS = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in range(2)]
WORDS, OTHERS = b"red\ngreen\nblue\n", b"one\ntwo\n"


@pytest.fixture
def model(pair, tmp_path):
    """A model with three assets, of which two have one name, and functions that read them."""
    for folder, content in {"a": WORDS, "b": OTHERS, "c": WORDS}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words.txt").write_bytes(content)
    model = dsave.Module()
    model.v = pair.variable(np.float32(7), "v")
    model.words = dsave.Asset(tmp_path / "a" / "words.txt")
    model.more = [dsave.Asset(tmp_path / folder / "words.txt") for folder in "bc"]

    def read(path):
        spec = dsave.TensorSpec([], "string", name="contents")
        content = dsave.ops.call("ReadFile", [path], outputs=spec)
        spec = dsave.TensorSpec([None], "uint8")
        return dsave.ops.call("DecodeRaw", [content], {"out_type": np.uint8}, spec)

    def contents(n):
        return {"words": read(model.words), "others": read(model.more[0]), "n": n + model.v}

    model.contents = dsave.function(contents, input_signature=[dsave.TensorSpec([])])
    model.path = dsave.function(lambda: np.expand_dims(model.words, 0), input_signature=[])
    return model


def files(directory):
    """{name: content} of the assets in a directory."""
    return {path.name: path.read_bytes() for path in (Path(directory) / "assets").iterdir()}


def save(cluster, model, directory, **options):
    signatures = {"serving_default": model.contents}
    options = dsave.SaveOptions(**options)
    return dsave.save(model, directory, signatures, options, cluster=cluster)


@pytest.mark.parametrize("reader", ["python", "session", "command line", "c++"])
def test_every_reader_finds_the_files_wherever_the_directory_is(
    pair, model, tmp_path, readers, reader
):
    save(pair, model, tmp_path / "e")
    for folder in "abc":
        (tmp_path / folder / "words.txt").unlink()
    moved = (tmp_path / "e").rename(tmp_path / "moved")
    results = readers[reader](moved, "serving_default", {"n": np.float32(1)})
    assert results["words"].tobytes() == WORDS
    assert results["others"].tobytes() == OTHERS
    assert float(results["n"]) == 8


def test_files_of_one_content_are_shared_and_others_are_numbered(pair, model, tmp_path, tf):
    save(pair, model, tmp_path / "e")
    assert files(tmp_path / "e") == {"words.txt": WORDS, "words.txt_1": OTHERS}
    loaded = tf.saved_model.load(str(tmp_path / "e"))
    paths = [asset.asset_path.numpy() for asset in (loaded.words, *loaded.more)]
    assert [os.path.relpath(path.decode(), tmp_path) for path in paths] == [
        "e/assets/words.txt",
        "e/assets/words.txt_1",
        "e/assets/words.txt",
    ]
    assert loaded.path().numpy().tolist() == [paths[0]]
    assert loaded.contents(tf.constant(2.0))["n"].numpy() == 9


def test_a_function_that_runs_here_sees_the_file_that_is_here(model, tmp_path):
    path = str(tmp_path / "a" / "words.txt").encode()
    assert model.path().tolist() == [path]
    assert model.path.get_concrete_function()().tolist() == [path]


@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_policies_say_nothing_of_assets(pair, model, tmp_path, readers, policy):
    model.v = pair.mirrored_variable(np.float32(7), "v")
    save(pair, model, tmp_path / "e", experimental_variable_policy=policy)
    results = readers["python"](tmp_path / "e", "serving_default", {"n": np.float32(1)})
    assert results["words"].tobytes() == WORDS


def test_each_host_with_a_directory_of_its_own_has_the_files(pair, model, private):
    model.e = pair.sharded_variable(np.zeros(4, np.float32), "e")
    result = save(pair, model, private)
    assert result.layout == "host-local"
    for host in pair.hosts:
        directory = pair.real_path(private, host)
        assert files(directory) == {"words.txt": WORDS, "words.txt_1": OTHERS}


@pytest.mark.parametrize("device", [CPUS[1], "/job:localhost"])
def test_the_io_device_writes_the_files(pair, model, private, tmp_path, device):
    directory = str(tmp_path / "e") if device == "/job:localhost" else private
    save(pair, model, directory, experimental_io_device=device)
    if device != "/job:localhost":
        directory = pair.real_path(private, pair.hosts[1])
    assert files(directory) == {"words.txt": WORDS, "words.txt_1": OTHERS}


def test_object_stores_hold_them_too(pair, model, tmp_path):
    url = f"memory://{tmp_path.name}/e"
    save(pair, model, url, experimental_io_device="/job:localhost")
    store = fsspec.filesystem("memory")
    assert store.cat_file(f"/{tmp_path.name}/e/assets/words.txt_1") == OTHERS
    model.more.clear()
    model.contents = dsave.function(lambda: {"p": model.path()}, input_signature=[])
    save(pair, model, url, experimental_io_device="/job:localhost")
    names = store.ls(f"/{tmp_path.name}/e/assets", detail=False)
    assert [name.rsplit("/", 1)[-1] for name in names] == ["words.txt"]


def test_a_model_without_assets_replaces_one_with_some(pair, model, tmp_path):
    save(pair, model, tmp_path / "e")
    bare = dsave.Module()
    bare.v = model.v
    dsave.save(bare, tmp_path / "e", cluster=pair)
    assert not (tmp_path / "e" / "assets").exists()


def test_assets_need_no_variables(pair, model, tmp_path, tf):
    alone = dsave.Module()
    alone.words = model.words
    dsave.save(alone, tmp_path / "e", cluster=pair)
    path = tf.saved_model.load(str(tmp_path / "e")).words.asset_path.numpy()
    assert Path(path.decode()).read_bytes() == WORDS


def test_a_missing_file_is_named_before_anything_is_written(pair, model, tmp_path, see):
    (tmp_path / "b" / "words.txt").unlink()
    with (
        see.untouched(tmp_path / "e"),
        pytest.raises(dsave.ModelError, match=r"b/words.txt: .*No such file"),
    ):
        save(pair, model, tmp_path / "e")


def test_a_file_that_changes_meanwhile_fails_the_save(pair, model, tmp_path, see):
    def changing(tensors):
        (tmp_path / "b" / "words.txt").write_bytes(b"something longer")
        return [tensors]

    beside = sorted(tmp_path.iterdir())
    with pytest.raises(dsave.SaveError, match=r"copying assets/words.txt_1: .* had 8 bytes"):
        save(pair, model, tmp_path / "e", experimental_sharding_callback=changing)
    assert sorted(tmp_path.iterdir()) == beside


def test_an_asset_that_is_not_part_of_the_model_is_named(pair, model, tmp_path):
    stranger = model.more.pop(0)
    model.contents = dsave.function(lambda: np.expand_dims(stranger, 0), input_signature=[])
    with pytest.raises(dsave.ModelError, match=r"the asset '.*b/words.txt' is not part of"):
        dsave.save(model, tmp_path / "e", cluster=pair)


def test_a_large_file_needs_little_memory(pair, tmp_path):
    path = tmp_path / "large"
    size = 96 << 20
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    model = dsave.Module()
    model.large, model.v = dsave.Asset(path), pair.variable(1.0, "v")
    result = dsave.save(model, tmp_path / "e", cluster=pair)
    assert max(result.peak_bytes.values()) < 24 << 20
    with path.open("rb") as one, (tmp_path / "e" / "assets" / "large").open("rb") as other:
        assert all(one.read(1 << 20) == other.read(1 << 20) for _ in range(1 + (size >> 20)))


@pytest.mark.parametrize("onto", ["here", "cluster"])
def test_what_was_loaded_has_its_files_and_can_be_saved_again(pair, model, tmp_path, tf, onto):
    save(pair, model, tmp_path / "e")
    loaded = dsave.load(tmp_path / "e", pair if onto == "cluster" else None)
    copy = tmp_path / "e" / "assets" / "words.txt"
    assert [loaded.words.path, loaded.more[1].path] == [str(copy)] * 2
    assert loaded.path().tolist() == [str(copy).encode()]
    if onto == "cluster":
        dsave.save(loaded, tmp_path / "again", cluster=pair)
        assert files(tmp_path / "again") == {"words.txt": WORDS, "words.txt_1": OTHERS}
        found = tf.saved_model.load(str(tmp_path / "again")).path().numpy()
        assert found.tolist() == [str(tmp_path / "again" / "assets" / "words.txt").encode()]


def test_assets_that_tensorflow_saved_are_loaded(model, tmp_path, tf):
    theirs = tf.Module()
    theirs.words = tf.saved_model.Asset(str(tmp_path / "b" / "words.txt"))
    theirs.path = tf.function(lambda: theirs.words.asset_path, input_signature=[])
    tf.saved_model.save(theirs, str(tmp_path / "e"))
    loaded = dsave.load(tmp_path / "e")
    copy = str(tmp_path / "e" / "assets" / "words.txt")
    assert (loaded.words.path, loaded.path().tolist()) == (copy, copy.encode())


@pytest.mark.parametrize("name", ["", "..", "../words.txt", "/etc/hostname"])
def test_files_outside_of_the_directory_are_none_of_the_model(pair, model, tmp_path, name):
    from tensorflow.core.protobuf import saved_model_pb2

    save(pair, model, tmp_path / "e")
    path = tmp_path / "e" / "saved_model.pb"
    stored = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    stored.meta_graphs[0].asset_file_def[0].filename = name
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(dsave.CorruptionError, match="the file of an asset is in no directory"):
        dsave.load(tmp_path / "e")
    del stored.meta_graphs[0].asset_file_def[:]
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(dsave.CorruptionError, match="an asset without a file"):
        dsave.load(tmp_path / "e")
