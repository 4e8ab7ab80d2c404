"""What every test may ask for."""

import ctypes
import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

from dsave.format import naming
from dsave.format.bundle import ShardWriter, build_index
from dsave.format.strings import encode_strings
from dsave.model import new_variable
from dsave.model.dtype import STRING, dtype_of
from dsave.model.slices import Box
from dsave.model.trackable import Module, trace
from dsave.model.variable import SyncOnReadVariable
from dsave.options import SaveOptions, VariablePolicy
from dsave.savedmodel.components import component_entries, component_keys
from dsave.savedmodel.fingerprint import build_fingerprint
from dsave.savedmodel.meta_graph import build_saved_model

# The same examples in every run, and none is too slow: the machine may be busy.
settings.register_profile("dsave", derandomize=True, deadline=None, database=None)
settings.load_profile("dsave")


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, the oracle, kept quiet."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return pytest.importorskip(
        "tensorflow", reason="TensorFlow, the oracle, is not installed here (see dsave[test])"
    )


@pytest.fixture(scope="session")
def run_with_cpp(tf):
    """Runs a SavedModel by TensorFlow's C API, with two CPUs.

    `run_with_cpp(directory, fetches, feeds)` gives the bytes of the tensors `fetches`; `feeds`
    are arrays by tensor. A tensor is `operation` or `operation:output`.
    """
    library = ctypes.CDLL(
        str(
            Path(importlib.util.find_spec("tensorflow").origin).parent / "libtensorflow_cc.so.2"
        )
    )

    class Output(ctypes.Structure):
        _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))

    def call(name, *arguments, returns=ctypes.c_void_p):
        function = getattr(library, name)
        function.restype = returns
        return function(*arguments)

    def pointer(name, *arguments):
        return ctypes.c_void_p(call(name, *arguments))

    def run(directory, fetches, feeds=None):
        status, graph = pointer("TF_NewStatus"), pointer("TF_NewGraph")
        options = pointer("TF_NewSessionOptions")

        def check():
            message = call("TF_Message", status, returns=ctypes.c_char_p)
            assert call("TF_GetCode", status, returns=ctypes.c_int) == 0, message

        def outputs(tensors):
            named = [name.partition(":") for name in tensors]
            return (Output * len(named))(
                *(
                    Output(call("TF_GraphOperationByName", graph, op.encode()), int(place or 0))
                    for op, _, place in named
                )
            )

        def tensor(array):
            array = np.ascontiguousarray(array)
            dims = (ctypes.c_int64 * array.ndim)(*array.shape)
            number = tf.as_dtype(array.dtype).as_datatype_enum
            size = ctypes.c_size_t(array.nbytes)
            made = pointer("TF_AllocateTensor", number, dims, array.ndim, size)
            ctypes.memmove(call("TF_TensorData", made), array.tobytes(), array.nbytes)
            return made

        config = tf.compat.v1.ConfigProto(device_count={"CPU": 2}).SerializeToString()
        call("TF_SetConfig", options, config, ctypes.c_size_t(len(config)), status)
        check()
        tags = (ctypes.c_char_p * 1)(b"serve")
        loaded = pointer(
            "TF_LoadSessionFromSavedModel",
            options,
            None,
            str(directory).encode(),
            tags,
            1,
            graph,
            None,
            status,
        )
        check()
        feeds = feeds or {}
        given = (ctypes.c_void_p * len(feeds))(*(tensor(each).value for each in feeds.values()))
        results = (ctypes.c_void_p * len(fetches))()
        inputs = (outputs(feeds), given, len(feeds))
        wanted = (outputs(fetches), results, len(fetches))
        call("TF_SessionRun", loaded, None, *inputs, *wanted, None, 0, None, status)
        check()
        read = []
        for address in results:
            result = ctypes.c_void_p(address)
            size = call("TF_TensorByteSize", result, returns=ctypes.c_size_t)
            read.append(ctypes.string_at(call("TF_TensorData", result), size))
            call("TF_DeleteTensor", result)
        for address in given:
            call("TF_DeleteTensor", ctypes.c_void_p(address))
        call("TF_DeleteSession", loaded, status)
        call("TF_DeleteGraph", graph)
        call("TF_DeleteSessionOptions", options)
        call("TF_DeleteStatus", status)
        return read

    return run


@pytest.fixture(scope="session")
def readers(tf, run_with_cpp, tmp_path_factory):
    """Everything that reads SavedModels: each calls a signature.

    By name, functions of (directory, signature's key, arrays by name) that give arrays by name.
    """

    def python(directory, key, inputs):
        function = tf.saved_model.load(str(directory)).signatures[key]
        results = function(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: result.numpy() for name, result in results.items()}

    def session(directory, key, inputs):
        config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
        with tf.compat.v1.Session(graph=tf.Graph(), config=config) as running:
            meta_graph = tf.compat.v1.saved_model.load(running, ["serve"], str(directory))
            signature = meta_graph.signature_def[key]
            feeds = {signature.inputs[name].name: array for name, array in inputs.items()}
            wanted = {name: info.name for name, info in signature.outputs.items()}
            return running.run(wanted, feeds)

    def command_line(directory, key, inputs):
        from tensorflow.python.tools import saved_model_cli

        place = tmp_path_factory.mktemp("cli")
        # What `saved_model_cli run` calls, once it has read the inputs.
        saved_model_cli.run_saved_model_with_feed_dict(
            str(directory), "serve", key, inputs, str(place), overwrite_flag=True
        )
        return {path.stem: np.load(path) for path in place.iterdir()}

    def cpp(directory, key, inputs):
        from tensorflow.core.protobuf import saved_model_pb2

        stored = (Path(directory) / "saved_model.pb").read_bytes()
        meta_graph = saved_model_pb2.SavedModel.FromString(stored).meta_graphs[0]
        signature = meta_graph.signature_def[key]
        feeds = {signature.inputs[name].name: array for name, array in inputs.items()}
        fetches = [info.name for info in signature.outputs.values()]
        arrays = {}
        for (name, info), data in zip(
            signature.outputs.items(), run_with_cpp(directory, fetches, feeds), strict=True
        ):
            dtype = tf.as_dtype(info.dtype).as_numpy_dtype
            shape = [dim.size for dim in info.tensor_shape.dim]
            known = shape.count(-1) <= 1
            arrays[name] = np.frombuffer(data, dtype).reshape(shape if known else -1)
        return arrays

    return {"python": python, "session": session, "command line": command_line, "c++": cpp}


@pytest.fixture(scope="session")
def tensorflow_models(tf, tmp_path_factory):
    """What TensorFlow saved and what that is worth, by name (see tensorflow_models.py)."""
    directory = tmp_path_factory.mktemp("models")
    script = Path(__file__).with_name("tensorflow_models.py")
    made = subprocess.run(
        [sys.executable, script, directory], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    expected = pickle.loads((directory / "expected.pickle").read_bytes())
    return {name: SimpleNamespace(**facts) for name, facts in expected.items()}


GPUS = [f"/job:worker/replica:0/task:{task}/device:GPU:0" for task in (0, 1)]
CPUS = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in (0, 1)]
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
FILES = [naming.data_file(shard, 3) for shard in range(3)]


@pytest.fixture(scope="session")
def models():
    """`example` makes a model, and `write` writes one in three data files, without Ray."""
    return SimpleNamespace(example=_example, write=_write)


@pytest.fixture
def saved(models, tmp_path):
    """An expanded SavedModel of the example."""
    policy = VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES
    return models.write(tmp_path / "saved", *models.example(), policy)


def _example():
    """A module with each kind of variable; and where their bytes are: (name, shard, box)."""
    new_key = map(str, itertools.count()).__next__
    float32, int32 = dtype_of("float32"), dtype_of("int32")
    model = Module()
    model.step = new_variable.plain("step", int32, (), CPUS[0], new_key, trainable=False)
    model.w = new_variable.mirrored(
        "w", float32, (2, 3), GPUS, new_key, trainable=True, aggregation="none"
    )
    model.seen = new_variable.sync_on_read("seen", int32, (), GPUS, new_key, aggregation="sum")
    model.table = new_variable.sharded("table", float32, (4, 2), CPUS, new_key, trainable=True)
    places = [
        ("step", 0, None),
        ("seen", 0, None),
        ("table", 0, Box((0, 0), (2, 2))),
        ("w", 1, None),
        ("table", 1, Box((2, 0), (2, 2))),
    ]
    return model, places


def _write(directory, model, places, policy=VariablePolicy.NONE, extra=(), value=1):
    """A SavedModel whose values are all the same; `extra` are keys of scalars in shard 0."""
    metadata = build_saved_model(trace(model), SaveOptions(experimental_variable_policy=policy))
    (directory / "variables").mkdir(parents=True)
    data = [bytearray() for _ in FILES]
    shards = [ShardWriter(shard, data[shard].extend) for shard in range(3)]
    for name, shard, box in places:
        variable = getattr(model, name)
        shape = variable.shape if box is None else box.lengths
        same = np.full(shape, value, variable.dtype.numpy)
        shards[shard].add(
            name + SUFFIX, variable.dtype, variable.shape, [same.tobytes()], box=box
        )
    for key in extra:
        shards[0].add(key, dtype_of("int32"), (), [b"\1\0\0\0"])
    graph = encode_strings(np.array(metadata.object_graph, dtype=np.object_))
    shards[2].add(naming.OBJECT_GRAPH_KEY, STRING, (), [graph.payload], crc32c=graph.crc32c)
    own = set(component_keys(metadata.components).values())
    for node in metadata.components:  # replicas of sums, which have bytes of their own
        if node.key in own and isinstance(node.variable, SyncOnReadVariable):
            zeros = np.zeros(node.variable.shape, node.variable.dtype.numpy)
            shards[2].add(node.key, node.variable.dtype, zeros.shape, [zeros.tobytes()])
    entries = [entry for shard in shards for entry in shard.entries]
    entries += component_entries(metadata.components, entries)
    for file, content in zip(FILES, data, strict=True):
        (directory / file).write_bytes(content)
    index = build_index(entries, len(FILES))
    (directory / naming.INDEX_FILE).write_bytes(index)
    fingerprint = build_fingerprint(metadata.saved_model, index, value)
    (directory / naming.FINGERPRINT_FILE).write_bytes(fingerprint)
    (directory / naming.SAVED_MODEL_FILE).write_bytes(metadata.saved_model)
    return directory
