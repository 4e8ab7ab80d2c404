"""Fingerprints are TensorFlow's own numbers.

- of a model that TensorFlow saved, with functions and signatures, each hash is the one it wrote
- of our models, each hash is the one that TensorFlow computes
- TensorFlow reads the fingerprint; the uuid is in it, in decimal
"""

from pathlib import Path

import pytest

import dsave
from dsave.options import SaveOptions, VariablePolicy
from dsave.proto.saved_model_pb2 import FingerprintDef
from dsave.savedmodel.fingerprint import build_fingerprint
from dsave.savedmodel.meta_graph import build_saved_model

HASHES = (
    "graph_def_program_hash",
    "signature_def_hash",
    "saved_object_graph_hash",
    "checkpoint_hash",
)
UUID = 2**128 - 1


def ours(directory):
    saved_model = Path(directory, "saved_model.pb").read_bytes()
    index = Path(directory, "variables/variables.index").read_bytes()
    return build_fingerprint(saved_model, index, UUID)


def hashes(serialized):
    fingerprint = FingerprintDef.FromString(serialized)
    return {name: getattr(fingerprint, name) for name in HASHES}


@pytest.mark.tf
def test_the_hashes_of_tensorflows_own_model_are_those_it_wrote(tf, tmp_path):
    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.v = tf.Variable([1.0, 2.0], name="v")
            self.prefix = tf.constant("a")

        @tf.function(input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([], tf.string)])
        def serve(self, x, name):
            return {"y": x * self.v, "name": tf.strings.join([self.prefix, name])}

        @tf.function
        def double(self, x):
            return x + x

    model = Model()
    for value in (tf.constant(1), tf.constant(1.0)):
        model.double(value)
    signatures = {"serving_default": model.serve, "other:key": model.serve}
    tf.saved_model.save(model, str(tmp_path), signatures=signatures)
    wrote = (tmp_path / "fingerprint.pb").read_bytes()
    assert all(hashes(wrote).values())
    assert hashes(ours(tmp_path)) == hashes(wrote)


@pytest.mark.tf
@pytest.mark.parametrize("policy", VariablePolicy)
def test_the_hashes_of_our_models_are_those_that_tensorflow_computes(tf, export, make, policy):
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    v = make.mirrored("v")
    serve = dsave.function(lambda x: {"y": x + v}, input_signature=[dsave.TensorSpec([])])
    many = [
        dsave.function(lambda x: x + v * 0, input_signature=[spec])
        for spec in [dsave.TensorSpec([1])] * 12
    ]
    graph = make.model(v=v, n=make.on_read("n", "sum"), serve=serve, many=many)
    values = dict.fromkeys((f"{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in "vn"), 1)
    directory = export(graph, policy, values, {"serve": serve, "other:key": serve})
    assert hashes(ours(directory)) == hashes(fingerprinting.CreateFingerprintDef(directory))


def test_the_uuid_is_written_in_decimal(make):
    saved_model = build_saved_model(make.model(), SaveOptions()).saved_model
    fingerprint = FingerprintDef.FromString(build_fingerprint(saved_model, b"", UUID))
    assert fingerprint.uuid == "340282366920938463463374607431768211455"
    assert fingerprint.version.producer == 4


@pytest.mark.tf
def test_tensorflow_reads_the_fingerprint(tf, export, make):
    directory = export(make.model(), VariablePolicy.NONE, {})
    Path(directory, "fingerprint.pb").write_bytes(ours(directory))
    read = tf.saved_model.experimental.read_fingerprint(directory)
    assert {name: getattr(read, name) for name in HASHES} == hashes(ours(directory))
    assert read.singleprint() == "/".join(str(hashes(ours(directory))[name]) for name in HASHES)
