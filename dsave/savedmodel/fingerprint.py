"""The fingerprint of a SavedModel: hashes of what it does, not of how it was numbered.

    graph_def_program_hash    the main graph, without uids, configs, string constants, library
    signature_def_hash        each signature, by key
    saved_object_graph_hash   each concrete function, by uid
    checkpoint_hash           the checkpoint's index
    dsave_checksum            saved_model.pb, all of it, and the fingerprint without this

Source: tensorflow/cc/saved_model/fingerprinting.cc, core/graph/regularization. No loader needs
a fingerprint. `saved_model_checksum` is left out: TensorFlow alone knows of what it is.
"""

import re

from farmhash import Fingerprint64
from google.protobuf.message import DecodeError

from dsave.model.dtype import STRING
from dsave.proto.graph_pb2 import GraphDef
from dsave.proto.saved_model_pb2 import FingerprintDef, MetaGraphDef, SavedModel

_VERSION = 4
"""The version of the fingerprint's rules, as written by TensorFlow 2.21."""

_UID = re.compile(r"(?<=_)\d+$", re.ASCII)
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def build_fingerprint(saved_model: bytes, index: bytes, uuid: int) -> bytes:
    """The serialized FingerprintDef of a model, given its saved_model.pb and variables.index.

    `uuid` is a random number of 128 bits that tells saves of one model apart. Requires: the
    name of each concrete function ends in `_` and an integer, as names of functions here do.
    """
    meta_graph = SavedModel.FromString(saved_model).meta_graphs[0]
    proto = FingerprintDef(
        signature_def_hash=_signature_hash(meta_graph),
        saved_object_graph_hash=_object_graph_hash(meta_graph),
        checkpoint_hash=_hash(index),
        graph_def_program_hash=_graph_hash(meta_graph.graph_def),
        uuid=str(uuid),
    )
    proto.version.producer = _VERSION
    proto.dsave_checksum = _checksum(saved_model, proto)
    return proto.SerializeToString(deterministic=True)


def fingerprint_problems(fingerprint: bytes, saved_model: bytes, index: bytes) -> list[str]:
    """What of a model is not as a fingerprint says: of a valid saved_model.pb, of its index.

    All of a saved_model.pb is checked if dsave wrote it. By the rules of other versions than
    this one's only the index can be checked.
    """
    try:
        stored = FingerprintDef.FromString(fingerprint)
    except DecodeError:
        return ["it cannot be parsed"]
    if not stored.saved_model_checksum and not stored.dsave_checksum:
        return ["it has no checksum of saved_model.pb"]
    meta_graph = SavedModel.FromString(saved_model).meta_graphs[0]
    names = meta_graph.object_graph_def.concrete_functions
    checks = {"index": (stored.checkpoint_hash, _hash(index))}
    if stored.version.producer == _VERSION and all(map(_UID.search, names)):
        checks["signatures"] = stored.signature_def_hash, _signature_hash(meta_graph)
        checks["functions"] = stored.saved_object_graph_hash, _object_graph_hash(meta_graph)
        checks["graph"] = stored.graph_def_program_hash, _graph_hash(meta_graph.graph_def)
    found = [
        f"it is of a model with {'another' if what in {'index', 'graph'} else 'other'} {what}"
        for what, (said, computed) in checks.items()
        if said != computed
    ]
    if not found and stored.dsave_checksum not in {0, _checksum(saved_model, stored)}:
        found = ["it is of another saved_model.pb, or was changed itself"]
    return found


def _checksum(saved_model: bytes, fingerprint: FingerprintDef) -> int:
    """The hash of the bytes of a saved_model.pb, and of what a fingerprint says beside it."""
    said = FingerprintDef()
    said.CopyFrom(fingerprint)
    said.ClearField("dsave_checksum")
    return _hash(saved_model + said.SerializeToString(deterministic=True))


def _signature_hash(meta_graph: MetaGraphDef) -> int:
    combined = 0
    for key in sorted(meta_graph.signature_def):
        signature = meta_graph.signature_def[key]
        combined = _concatenated(combined, _hash(key.encode()))
        combined = _concatenated(
            combined, _hash(signature.SerializeToString(deterministic=True))
        )
    return combined


def _object_graph_hash(meta_graph: MetaGraphDef) -> int:
    functions = meta_graph.object_graph_def.concrete_functions
    combined = 0
    for uid, name in sorted((int(_UID.findall(name)[0]), name) for name in functions):
        stem = name.removesuffix(str(uid))
        combined = _concatenated(combined, _hash(stem.encode()))
        combined = _concatenated(
            combined, _hash(functions[name].SerializeToString(deterministic=True))
        )
    return combined


def _graph_hash(graph: GraphDef) -> int:
    """The hash of a graph, which is changed on the way."""
    for node in graph.node:
        if node.op in _CALLS:
            function = node.attr["f"].func
            function.name = _UID.sub("", function.name)
            if "config_proto" in node.attr:
                node.attr["config_proto"].s = b""
        elif node.op == "Const" and node.attr["dtype"].type == STRING.number:
            node.attr["value"].Clear()
    graph.library.Clear()
    graph.versions.Clear()
    return _hash(graph.SerializeToString(deterministic=True))


def _concatenated(first: int, second: int) -> int:
    """`FingerprintCat64` of two hashes, tensorflow/core/platform/fingerprint.h."""
    multiplier, modulus = 0xC6A4A7935BD1E995, 1 << 64
    mixed = first ^ multiplier
    mixed ^= _shift_mixed(second * multiplier % modulus) * multiplier % modulus
    mixed = mixed * multiplier % modulus
    mixed = _shift_mixed(mixed) * multiplier % modulus
    return _shift_mixed(mixed)


def _hash(data: bytes) -> int:
    fingerprint: int = Fingerprint64(data)
    return fingerprint


def _shift_mixed(value: int) -> int:
    return value ^ (value >> 47)
