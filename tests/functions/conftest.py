"""What code gives as numpy, traced, and in TensorFlow, which have to agree."""

from types import SimpleNamespace

import numpy as np
import pytest

import dsave
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function, functions_of
from dsave.functions.structure import flatten
from dsave.model.trackable import Module, trace
from dsave.options import SaveOptions
from dsave.proto.saved_model_pb2 import SavedModel
from dsave.savedmodel.meta_graph import build_saved_model


def arrays_of(results):
    return [np.asarray(leaf) for leaf in flatten(results)]


def as_function(code, specs):
    """The code as a function of these specs, with its results in one list."""
    return dsave.function(lambda *given: list(flatten(code(*given))), input_signature=specs)


def as_graph(function):
    """(the GraphDef of a function's SavedModel, its signature)."""
    root = Module()
    root.f = function
    graph = trace(root, functions_of, (Function, ConcreteFunction))
    saved = build_saved_model(graph, SaveOptions(), function).saved_model
    meta_graph = SavedModel.FromString(saved).meta_graphs[0]
    return meta_graph.graph_def, meta_graph.signature_def["serving_default"]


def same(found, wanted, within, where):
    kinds = [(array.dtype, array.shape) for array in wanted]
    assert [(array.dtype, array.shape) for array in found] == kinds, where
    for one, other in zip(found, wanted, strict=True):
        if one.dtype == object or one.dtype.kind in "iub" or not within:
            np.testing.assert_array_equal(one, other, err_msg=where)
        else:
            wide = np.complex128 if one.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(
                one.astype(wide), other.astype(wide), within, within, err_msg=where
            )


@pytest.fixture(scope="session")
def run_in_tensorflow(tf):
    """`run_in_tensorflow(function, arrays)` gives the arrays of its results."""

    def run(function, arrays):
        ours, signature = as_graph(function)
        graph_def = tf.compat.v1.GraphDef.FromString(ours.SerializeToString())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
            names = [
                str(spec.name) for spec in function.get_concrete_function().graph.arguments
            ]
            feeds = {
                signature.inputs[name].name: array
                for name, array in zip(names, arrays, strict=True)
            }
            outputs = [f"output_{number}" for number in range(len(signature.outputs))]
            with tf.compat.v1.Session(graph=graph) as session:
                return session.run([signature.outputs[name].name for name in outputs], feeds)

    return run


@pytest.fixture
def agree(request):
    """`agree(code, specs, *arrays)`: numpy, the traced graph and TensorFlow give the same.

    The dtypes and shapes of all results, and their elements, or nearly so: `within`.
    """

    def check(code, specs, *arrays, within=0.0):
        with np.errstate(all="ignore"):
            wanted = arrays_of(code(*arrays))
        function = as_function(code, specs)
        same(arrays_of(function.get_concrete_function()(*arrays)), wanted, within, "traced")
        run = request.getfixturevalue("run_in_tensorflow")
        same([np.asarray(each) for each in run(function, arrays)], wanted, within, "TensorFlow")
        return wanted

    return check


@pytest.fixture(scope="session")
def refused():
    """`refused(code, *specs)` is the error of the last line of `code`, which names the line."""
    import inspect

    def check(code, *specs):
        with pytest.raises(dsave.TraceError) as caught:
            dsave.function(code).get_concrete_function(*specs)
        lines, first = inspect.getsourcelines(code)
        wanted = (inspect.getsourcefile(code), first + len(lines) - 1)
        assert (caught.value.file, caught.value.line) == wanted
        return str(caught.value)

    return check


@pytest.fixture(scope="session")
def look():
    """At what was traced: the ops, and the shape and dtype of a single result."""

    def graph(code, *specs):
        return dsave.function(code).get_concrete_function(*specs).graph

    def result(code, *specs):
        spec = graph(code, *specs).structured_outputs
        return spec.shape, spec.dtype.name

    return SimpleNamespace(
        graph=graph,
        result=result,
        ops=lambda code, *specs: [node.op for node in graph(code, *specs).nodes],
    )
