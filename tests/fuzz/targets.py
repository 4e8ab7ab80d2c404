"""What is fuzzed: each target reads one kind of file, and lets only the right errors out.

A target takes the bytes of the file; the files beside it are those of a SavedModel in `seeds`.
`good_files` are what to begin with, and `changed` makes others of them.
"""

import contextlib
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from mutation import changed_bytes, changed_index, changed_message, with_checksums

from dsave.errors import CorruptionError, MissingKeyError, ModelError, NotCommittedError
from dsave.format import naming
from dsave.format.snappy import decode_snappy
from dsave.format.strings import decode_strings
from dsave.model.trackable import Module
from dsave.proto.object_graph_pb2 import TrackableObjectGraph
from dsave.proto.saved_model_pb2 import FingerprintDef, SavedModel
from dsave.runtime.checkpoint import Checkpoint
from dsave.savedmodel.assets import read_assets
from dsave.savedmodel.fingerprint import fingerprint_problems
from dsave.savedmodel.read_functions import read_functions
from dsave.savedmodel.read_tree import parse_saved_model, read_tree, tree_problems
from dsave.savedmodel.revive import revive
from dsave.savedmodel.summary import read_summary

SEEDS = Path(__file__).parent / "seeds"
ALLOWED = (CorruptionError, MissingKeyError, ModelError, NotCommittedError)
"""ModelError: a graph without objects, as TensorFlow 1 saved, is no model to load."""


class Seed:
    """A SavedModel in memory, of which a target replaces a file. A `Source` of its files."""

    def __init__(self, name):
        place = SEEDS / name
        self._files = {
            str(file.relative_to(place)): file.read_bytes()
            for file in place.rglob("*")
            if file.is_file()
        }
        self.saved_model = self.file(naming.SAVED_MODEL_FILE)
        self.index = self.file(naming.INDEX_FILE)
        checkpoint = self.checkpoint({})
        self.object_graph = checkpoint.object_graph
        self.entries = checkpoint.index.entries
        self.data_files = sorted(file for file in self._files if ".data-" in file)

    def file(self, name):
        """A file as it was saved."""
        return self._files[name]

    def checkpoint(self, replaced):
        """The checkpoint, with some files replaced."""
        return Checkpoint("seed", _Files(self._files | replaced), naming.VARIABLES_PREFIX)


class _Files:
    def __init__(self, files):
        self._files = files

    def exists(self, file):
        return file in self._files

    def size(self, file):
        if file not in self._files:
            raise FileNotFoundError(file)
        return len(self._files[file])

    def read(self, file, offset, nbytes):
        return memoryview(self._files[file])[offset : offset + nbytes]

    def hold(self, file):
        pass

    def close(self):
        pass


_SEEDS = [Seed(place.name) for place in sorted(SEEDS.iterdir())]


def index(data):
    """variables.index, as it is and with the checksums that it should have."""
    for each in {data, with_checksums(data)}:
        for seed in _SEEDS:
            with _allowed():
                _read_all(seed.checkpoint({naming.INDEX_FILE: each}))


def data_file(data):
    """The first data file, or the one that holds the object graph."""
    for seed in _SEEDS:
        for file in (seed.data_files[0], seed.data_files[-1]):
            with _allowed():
                _read_all(seed.checkpoint({file: data}))


def strings(data):
    """A tensor of as many strings as its first byte says, of either byte order."""
    for big_endian in (False, True):
        with _allowed():
            shape = (data[0] if data else 0,)
            decode_strings(data[1:], shape, "file", "key", big_endian=big_endian)


def snappy(data):
    """A compressed block."""
    with contextlib.suppress(ValueError):
        decode_snappy(data)


def saved_model(data):
    """saved_model.pb, with either checkpoint."""
    with _allowed():
        read_summary(data, "file")
    for seed in _SEEDS:
        with _allowed():
            _load(data, seed.object_graph, seed)


def object_graph(data):
    """The object graph in a checkpoint."""
    for seed in _SEEDS:
        with _allowed():
            _load(seed.saved_model, data, seed)


def fingerprint(data):
    """fingerprint.pb."""
    for seed in _SEEDS:
        assert all(map(str, fingerprint_problems(data, seed.saved_model, seed.index)))


TARGETS = (index, data_file, strings, snappy, saved_model, object_graph, fingerprint)

_MESSAGES = {
    saved_model: SavedModel,
    object_graph: TrackableObjectGraph,
    fingerprint: FingerprintDef,
}


def good_files(target):
    """Good files for a target."""
    if target is strings:
        return [b"\3\1\0\2" + bytes(4) + b"abc"]
    if target is snappy:
        return [b"\x0a\x24abcdefghij", b"\x0e\x04ab\x16\x02\x00"]
    if target is data_file:
        return [seed.file(name) for seed in _SEEDS for name in seed.data_files]
    if target is fingerprint:
        return [seed.file(naming.FINGERPRINT_FILE) for seed in _SEEDS]
    return [getattr(seed, target.__name__) for seed in _SEEDS]


def changed(target, data, rng):
    """Another file for a target: of a protobuf mostly one that can be parsed."""
    if target is index and rng.random() < 0.7:
        with contextlib.suppress(CorruptionError):
            return changed_index(data, rng)
    message = _MESSAGES.get(target)
    if message is not None and rng.random() < 0.9:
        with contextlib.suppress(DecodeError):
            parsed = message.FromString(data)
            changed_message(parsed, rng)
            return parsed.SerializeToString()
    return changed_bytes(data, rng)


class _allowed:
    """Passes over the errors that a reader of hostile files may raise."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, CorruptionError):
            assert error.file
        return isinstance(error, ALLOWED)


def _read_all(checkpoint):
    for key in checkpoint:
        with _allowed():
            np.asarray(checkpoint[key])


def _load(data, graph, seed):
    meta_graph = parse_saved_model(data, "file")
    problems = tree_problems(meta_graph, graph, seed.entries, "file")
    tree = read_tree(meta_graph, graph, seed.entries, "file")
    assert not problems
    variables = dict.fromkeys((*tree.variables(), *tree.components), str)
    assets = read_assets(meta_graph, tree, "directory", "file")
    functions = read_functions(meta_graph, tree, variables, assets, "file")
    leaves = {**dict.fromkeys(tree.variables(), 0), **assets, **functions.by_node}
    revive(tree, Module(), leaves, "file")
