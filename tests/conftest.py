"""What every test may ask for."""

import ctypes
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

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
