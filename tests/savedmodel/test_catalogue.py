"""The catalogue in a SavedModel: TensorFlow loads each case, and computes what numpy does.

- every op of the table is in a function that was saved, loaded and run
- the results have numpy's dtypes and shapes, and its numbers within what the dtype can hold,
  for each dtype and size, whatever was unknown while the code was traced
- the shapes that were inferred are those that TensorFlow infers
- dsave loads what it saved, and computes the same from it
"""

from pathlib import Path

import pytest
from catalogue import CASES, assert_same, by_dtype, function_of, traced, tried, wanted

import dsave
from dsave.functions.table import OPS
from dsave.model.trackable import Module


@pytest.fixture(scope="module")
def saved(export_once, make):
    """One SavedModel with a function for each way to trace each case: its directory."""
    model = Module()
    for name in CASES:
        for how in CASES[name].how:
            setattr(model, f"{how} {name}", function_of(name, how))
    return export_once(make.tree(model))


@pytest.fixture(scope="module")
def loaded(tf, saved):
    return tf.saved_model.load(saved)


@pytest.fixture(scope="module")
def revived(saved):
    return dsave.load(saved)


@pytest.mark.tf
def test_every_op_of_the_table_is_in_what_was_saved(tf, saved):
    from tensorflow.core.protobuf import saved_model_pb2

    stored = saved_model_pb2.SavedModel.FromString(
        (Path(saved) / "saved_model.pb").read_bytes()
    )
    library = stored.meta_graphs[0].graph_def.library
    assert set(OPS) <= {node.op for each in library.function for node in each.node_def}


@pytest.mark.tf
@pytest.mark.parametrize("name", CASES)
def test_what_was_saved_computes_what_numpy_does(tf, loaded, name):
    for how, given in tried(name):
        tensors = {dtype: list(map(tf.constant, arrays)) for dtype, arrays in given.items()}
        results = getattr(loaded, f"{how} {name}")(tensors)
        found = tf.nest.map_structure(lambda tensor: tensor.numpy(), results)
        assert_same(by_dtype(found), wanted(name, given))


@pytest.mark.tf
@pytest.mark.parametrize("name", CASES)
def test_shapes_are_inferred_as_tensorflow_infers_them(loaded, name):
    for how in CASES[name].how:
        (concrete,) = getattr(loaded, f"{how} {name}").concrete_functions
        for node in traced(name, how).graph.nodes:
            outputs = concrete.graph.get_operation_by_name(node.name).outputs
            for spec, theirs in zip(node.outputs, outputs, strict=True):
                assert theirs.shape.is_compatible_with(spec.shape), (node.name, how)
                # Where TensorFlow knows an extent, so does the graph.
                ours = spec.shape if theirs.shape.rank is not None else ()
                extents = zip(ours, theirs.shape if ours else (), strict=True)
                assert all(n is not None for n, m in extents if m is not None), node.name


@pytest.mark.parametrize("name", CASES)
def test_what_dsave_loads_computes_what_numpy_does(revived, name):
    for how, given in tried(name):
        assert_same(by_dtype(getattr(revived, f"{how} {name}")(given)), wanted(name, given))
