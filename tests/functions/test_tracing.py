"""What a trace records of numpy code, and what it refuses.

- dtypes are numpy's, Python numbers weak; shapes keep what is known
- each variable, component and constant is one node
- each node has the user's stack, without the frames of dsave and numpy
- what a graph cannot express is an error with the function's name, the file and the line
- ops are recorded by name, those of a namespace too
"""

import copy
import inspect
import math
import re
import sys
import time

import ml_dtypes
import numpy as np
import pytest
import scipy.special

from dsave import TensorSpec, TraceError, function, ops
from dsave.errors import DtypeError, ModelError, OptionError, OptionTypeError
from dsave.functions.graph import Frame
from dsave.functions.run import run_graph
from dsave.model.dtype import dtype_of
from dsave.model.new_variable import mirrored, plain

HERE = "/job:worker/replica:0/task:0/device:CPU:0"
THERE = "/job:worker/replica:0/task:1/device:CPU:0"
OPEN = TensorSpec([None, 4], name="x")


def graph_of(code, *specs):
    return function(code).get_concrete_function(*specs or [OPEN]).graph


def ops_of(code, *specs):
    return [node.op for node in graph_of(code, *specs).nodes]


def result_of(code, *specs):
    """Shape and dtype of what the code returns."""
    spec = graph_of(code, *specs).structured_outputs
    return spec.shape, spec.dtype.name


def weights(kind=plain, name="w"):
    if kind is plain:
        return plain(name, dtype_of("float32"), (4, 2), HERE, lambda: name, trainable=True)
    return mirrored(
        name,
        dtype_of("float32"),
        (4, 2),
        [HERE, THERE],
        iter("ab").__next__,
        trainable=True,
        aggregation="none",
    )


def test_the_graph_of_a_layer_is_the_one_expected():
    w = weights()
    graph = graph_of(lambda x: {"y": np.tanh(x @ w + 1)})
    assert [(node.name, node.op) for node in graph.nodes] == [
        ("x", "Placeholder"),
        ("ReadVariableOp", "ReadVariableOp"),
        ("MatMul", "MatMul"),
        ("Const", "Const"),
        ("AddV2", "AddV2"),
        ("Tanh", "Tanh"),
    ]
    product = graph.nodes[2]
    assert [(source.node, source.index) for source in product.inputs] == [(0, 0), (1, 0)]
    assert dict(product.attrs) == {"T": dtype_of("float32")}
    assert product.output_args == (("product", 1),)
    assert product.outputs == (TensorSpec([None, 2]),)
    assert graph.arguments == (OPEN,)
    assert graph.captures == (w,)
    assert graph.nodes[1].capture == 0
    assert [(source.node, source.index) for source in graph.outputs] == [(5, 0)]
    assert graph.structured_outputs == {"y": TensorSpec([None, 2])}


@pytest.mark.parametrize(
    ("dtype", "code", "result"),
    [
        ("float32", lambda x: x + 1, "float32"),
        ("float32", lambda x: x + 1.5, "float32"),
        ("float32", lambda x: x + np.float64(1), "float64"),
        ("float32", lambda x: x + np.arange(4), "float64"),
        ("float16", lambda x: x * np.float32(2), "float32"),
        ("int32", lambda x: x + 1.5, "float64"),
        ("int32", lambda x: x / 2, "float64"),
        ("int8", np.exp, "float16"),
        ("int8", lambda x: x.sum(), "int64"),
        ("uint8", lambda x: x.sum(), "uint64"),
        ("int16", lambda x: x.mean(), "float64"),
        ("bool", lambda x: x + 1, "int64"),
        ("bool", lambda x: x.sum(), "int64"),
        ("uint8", lambda x: x - 1, "uint8"),
        ("float32", lambda x: x > 1, "bool"),
        ("complex64", abs, "float32"),
        ("bfloat16", lambda x: x + x, "bfloat16"),
        ("bfloat16", lambda x: x + np.float32(1), "float32"),
        ("float32", lambda x: x.argmax(), "int64"),
        ("float32", lambda x: np.where(x > 0, x, 0), "float32"),
    ],
)
def test_dtypes_are_those_of_numpy(dtype, code, result):
    assert result_of(code, TensorSpec([2, 4], dtype))[1] == result
    array = np.ones((2, 4), dtype_of(dtype).numpy)
    assert dtype_of(np.asarray(code(array)).dtype).name == result


def test_no_cast_is_recorded_where_none_is_needed():
    assert ops_of(lambda x: x * 2 + 1.0) == ["Placeholder", "Const", "Mul", "Const", "AddV2"]


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        (lambda x: x.T, (4, None)),
        (lambda x: x[0], (4,)),
        (lambda x: x[1:], (None, 4)),
        (lambda x: x[:, 1:3], (None, 2)),
        (lambda x: x[..., None], (None, 4, 1)),
        (lambda x: x.reshape(-1), (None,)),
        (lambda x: x.reshape(-1, 2), (None, 2)),
        (lambda x: x.reshape(x.shape[0], 2, 2), (None, 2, 2)),
        (lambda x: x.sum(1), (None,)),
        (lambda x: x.sum(), ()),
        (lambda x: x + np.ones((3, 1)), (3, 4)),
        (lambda x: x + np.ones((5, 1, 1)), (5, None, 4)),
        (lambda x: np.concatenate([x, x]), (None, 4)),
        (lambda x: np.concatenate([x, np.ones((2, 4))], 1), (2, 8)),
        (lambda x: np.stack([x, np.ones((2, 4))]), (2, 2, 4)),
        (lambda x: np.ones((5, 1, 4)) @ x.T, (5, 1, None)),
        (lambda x: x.reshape((ops.shape(x)[0], 4)), (None, 4)),
        (lambda x: x[x > 0], (None,)),
        (lambda x: x[:, [True, False, True, True]], (None, 3)),
        (lambda x: x[[0, 1, 2], :, None], (3, 4, 1)),
        (lambda x: x[[[0], [1]], [0, 1, 2]], (2, 3)),
    ],
)
def test_shapes_keep_what_is_known(code, shape):
    assert result_of(code)[0] == shape


def test_tensors_in_lists_are_put_together():
    graph = graph_of(
        lambda x: np.multiply(
            np.array([[x[0], x[1]], [x[1], np.zeros(4)]], like=x), [x[0], x[1]]
        )
    )
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    (found,) = run_graph(graph, [rows], None)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.array([rows, [rows[1], np.zeros(4)]]) * rows)


def test_rows_of_which_the_number_is_known_can_be_looped_over():
    assert len(graph_of(list, TensorSpec([3, 4])).outputs) == 3


def test_a_variable_is_read_once_and_a_component_is_not_its_variable():
    w = weights(mirrored)
    graph = graph_of(lambda x: x @ w + x @ w.components[1] + x @ w + w.components[1][0])
    assert graph.captures == (w, w.components[1])
    assert [node.capture for node in graph.nodes if node.op == "ReadVariableOp"] == [0, 1]
    assert ops_of(lambda x: x @ ops.read(w)).count("ReadVariableOp") == 1


def test_comparisons_and_methods_of_variables_are_those_of_their_values():
    w = weights()
    graph = graph_of(
        lambda x: [
            np.where(w == 3, x[0, 0], 0),
            np.where(w.components[0] != 3, x[0, 0], 0),
            w.flatten().dot(np.ones(8, np.float32)),
            w.std(),
            w.squeeze().clip(1, 2).mT,
            x.astype(w.dtype) + np.zeros(4, w.dtype),
        ]
    )
    value = np.array([[3, 1], [0, 3], [1, 1], [2, 3]], np.float32)
    found = run_graph(graph, [np.full((1, 4), 5, np.float32)], lambda _: value)
    assert found[0].tolist() == np.where(value == 3, 5, 0).tolist()
    assert found[1].tolist() == np.where(value != 3, 5, 0).tolist()
    assert found[2] == value.sum()
    np.testing.assert_allclose(found[3], value.std(), rtol=1e-6)
    assert found[4].tolist() == value.clip(1, 2).T.tolist()
    assert found[5].dtype == np.float32


def test_equal_constants_are_one_node():
    table = np.arange(4, dtype=np.float32)
    assert ops_of(lambda x: (x + table) * table + table.copy()).count("Const") == 1
    assert ops_of(lambda x: (x + 0.0) * -0.0).count("Const") == 2


def test_a_constant_is_what_the_array_was_when_it_was_used():
    def code(x):
        table = np.zeros(4, np.float32)
        y = x + table
        table[:] = 7
        return y + table

    (found,) = run_graph(graph_of(code), [np.ones((1, 4))], None)
    assert found.tolist() == [[8, 8, 8, 8]]


@pytest.mark.parametrize("writeable", [True, False])
def test_a_large_constant_is_used_often_in_little_time(writeable):
    table = np.random.default_rng(0).random((1024, 1024))
    table.flags.writeable = writeable

    def code(x):
        for _ in range(200):
            x = x + table
        return x

    start = time.process_time()
    graph = graph_of(code, TensorSpec([None, 1024], "float64"))
    assert time.process_time() - start < 2  # 0.2 where nothing else runs
    assert [node.op for node in graph.nodes].count("Const") == 1


@pytest.mark.parametrize("columns", [slice(None), slice(None, None, 2)])
@pytest.mark.parametrize("writeable", [True, False])
def test_a_large_constant_is_what_the_array_was_when_it_was_used(columns, writeable):
    table = np.zeros((3, 2048))
    view = table[:, columns]
    view.flags.writeable = writeable

    def code(x):
        y = [x + view, x + view]
        table[1] = np.nan
        return [*y, x + view, x + view]

    graph = graph_of(code, TensorSpec([], "float64"))
    assert [node.op for node in graph.nodes].count("Const") == 2
    found = run_graph(graph, [np.float64(1)], None)
    for before, after in zip(found[:2], found[2:], strict=True):
        assert (before == 1).all()
        assert np.isnan(after[1]).all()
        assert (after[::2] == 1).all()


def test_arrays_of_other_byte_orders_and_of_text_are_constants():
    graph = graph_of(
        lambda x: [
            x + np.arange(4, dtype=">f4"),
            np.array(["é", "b"]),
            np.array(["é", b"b"], object),
            "é",
        ]
    )
    numbers, *texts = run_graph(graph, [np.zeros((1, 4))], None)
    assert numbers.tolist() == [[0, 1, 2, 3]]
    assert [text.tolist() for text in texts] == [
        *([["é".encode(), b"b"]] * 2),
        "é".encode(),
    ]


def test_names_are_unique_without_regard_to_case():
    specs = [TensorSpec([], name=name) for name in ("addv2", "Const", "a/b")]
    graph = graph_of(lambda x, y, z: (x + y + 1) * (z + 2), *specs)
    names = [node.name for node in graph.nodes]
    assert names[:3] == ["addv2", "Const", "a_b"]
    assert len({name.lower() for name in names}) == len(names)
    assert [spec.name for spec in graph.arguments] == ["addv2", "Const", "a/b"]


# The lines of what follows are looked up, not counted.
def line_of(code, text):
    lines, first = inspect.getsourcelines(code)
    return first + next(place for place, line in enumerate(lines) if text in line)


def inner(x):
    return np.linalg.norm(x) + 1


def outer(x):
    y = inner(x)
    return y * 2


def test_each_node_has_the_users_stack():
    concrete = function(outer).get_concrete_function(OPEN)
    here = Frame(__file__, sys._getframe().f_lineno - 1, sys._getframe().f_code.co_qualname)
    stacks = {node.op: node.stack for node in concrete.graph.nodes}
    of_outer = Frame(__file__, line_of(outer, "inner(x)"), "outer")
    of_inner = Frame(__file__, line_of(inner, "linalg"), "inner")
    assert stacks["AddV2"][-3:] == (here, of_outer, of_inner)
    assert stacks["Sqrt"] == stacks["AddV2"]
    assert stacks["Mul"][-2:] == (here, Frame(__file__, line_of(outer, "y * 2"), "outer"))
    assert stacks["Placeholder"][-1] == here
    of_dsave = re.compile(r"/dsave/(functions|model)/|/numpy/|<frozen")
    assert not any(of_dsave.search(f.file) for stack in stacks.values() for f in stack)


def refused(code, *specs):
    """The error of the last line of `code`."""
    with pytest.raises(TraceError) as caught:
        graph_of(code, *specs)
    lines, first = inspect.getsourcelines(code)
    if code.__name__ != "<lambda>":
        assert (caught.value.file, caught.value.line) == (__file__, first + len(lines) - 1)
    return caught.value


def reduces_along_a_tensor(x):
    ops.call("Sum", [x, x[0].astype("int32")])


def strides_by_a_tensor(x):
    ops.call("StridedSlice", [x, *[x[0].astype("int32")] * 3])


def joins_along_a_tensor(x):
    ops.call("ConcatV2", [x, x, x[0, 0].astype("int32")])


def permutes_by_a_tensor(x):
    ops.call("Transpose", [x, x[0].astype("int32")])


def sets_an_element(x):
    x[0] = 1


def adds_in_place(x):
    x += 1


def writes_out(x):
    np.add(x, 1, out=np.zeros(4))


def sums_out(x):
    np.sum(x, out=np.zeros(()))


def sets_an_array(x):
    np.zeros(4)[0] = x[0, 0]


def branches(x):
    return 1 if x.sum() > 0 else 2


def branches_on_a_variable(x):
    return x * 2 if weights() else x


def branches_on_an_equality(x):
    return x * 2 if weights() == 3 else x


def measures_a_scalar(x):
    return len(x.sum())


def rounds(x):
    round(x)


def truncates(x):
    math.trunc(x)


def rounds_down(x):
    math.floor(x)


def formats(x):
    return f"{x:.2f}"


def reshapes_by_columns(x):
    x.reshape(2, -1, order="F")


def flattens_by_columns(x):
    x.flatten("F")


def casts_safely(x):
    x.astype("int32", casting="safe")


def sets_the_shape(x):
    x.shape = (4, -1)


def adds_what_does_not_fit(x):
    x.astype("uint8") + 300


def clips_to_what_does_not_fit(x):
    np.clip(x.astype("uint8"), 300, 400)


def fills_with_what_does_not_fit(x):
    np.full_like(x, 1j)


def calls_scipy(x):
    scipy.special.erf(x)


def calls_another_ufunc(x):
    scipy.special.gamma(x)


def makes_a_graph_within(x):
    np.add(x, [None])


def loops(x):
    return list(x)


def counts(x):
    range(x.sum().astype("int32"))


def measures(x):
    len(x)


def leaves_numpy(x):
    math.sin(x.sum())


def makes_an_array(x):
    x.__array__()


def finds_unique(x):
    np.unique(x)


def decomposes(x):
    np.linalg.svd(x)


def accumulates(x):
    np.subtract.accumulate(x)


def adds_where(x):
    np.add(x, 1, where=np.ones(4, bool))


def has_no_ufunc(x):
    np.nextafter(x, 1)


def indexes_beyond(x):
    x[:, 4]


def indexes_too_much(x):
    x[0, 0, 0]


def indexes_by_floats(x):
    x[x]


def takes_beyond(x):
    x[:, [0, 4]]


def has_no_method(x):
    x.tobytes()


def fits_not(x):
    x @ np.ones((3, 2))


def broadcasts_not(x):
    x + np.ones(3)


def reshapes_not(x):
    x[0].reshape(3, 2)


def joins_not(x):
    np.concatenate([x, np.ones((2, 3))])


def names_no_axis(x):
    x.sum(2)


def names_an_axis_twice(x):
    x.sum((0, 0))


def adds_none(x):
    return x + None


def adds_an_object(x):
    return x + object()


def indexes_an_array(x):
    np.arange(4)[x[0].astype("int32")]


def makes_a_set(x):
    return {x}


def adds_quarter_floats(x):
    x.astype(ml_dtypes.float8_e5m2) + x.astype(ml_dtypes.float8_e5m2)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (reduces_along_a_tensor, r"^a reduction, .*depends on a tensor, int32 \[4\]"),
        (strides_by_a_tensor, r"^indexing, .*depends on a tensor"),
        (joins_along_a_tensor, r"^a shape, .*depends on a tensor, int32 \[\]"),
        (permutes_by_a_tensor, r"^transpose, .*depends on a tensor"),
        (sets_an_element, r"assignment to elements.*in place"),
        (adds_in_place, r"numpy\.add,.*in place \(out= and \+="),
        (writes_out, r"numpy\.add,.*in place \(out="),
        (sums_out, r"numpy\.sum,.*in place \(out="),
        (sets_an_array, r"float of a tensor|conversion to an array"),
        (branches, r"condition on a tensor.*numpy\.where"),
        (branches_on_a_variable, r"condition on a tensor.*numpy\.where"),
        (branches_on_an_equality, r"condition on a tensor.*numpy\.where"),
        (measures_a_scalar, r"length of a tensor.*a scalar has none"),
        (loops, r"loop over a tensor.*extent 0.*shape\[0\]"),
        (counts, r"an index or a size"),
        (measures, r"length of a tensor.*shape\[0\]"),
        (leaves_numpy, r"float of a tensor"),
        (makes_an_array, r"conversion to an array.*numpy\.stack"),
        (rounds, r"^round of a tensor.*numpy\.round"),
        (truncates, r"^math\.trunc of a tensor.*numpy\.trunc"),
        (rounds_down, r"^math\.floor of a tensor.*numpy\.floor"),
        (formats, r"^a format of a tensor"),
        (reshapes_by_columns, r"^numpy\.reshape.*order is 'C', got 'F'"),
        (flattens_by_columns, r"order is 'C', got 'F'"),
        (casts_safely, r"^numpy\.ndarray\.astype.*dtype and copy="),
        (sets_the_shape, r"^an assignment to shape.*in place.*reshape"),
        (adds_what_does_not_fit, r"^300, at .*out of bounds for uint8"),
        (clips_to_what_does_not_fit, r"^300, at .*out of bounds for uint8"),
        (fills_with_what_does_not_fit, r"^1j, at "),
        (calls_scipy, r"^erf, at .*dsave\.ops\.erf"),
        (calls_another_ufunc, r"^gamma, at .*dsave\.ops\.call"),
        (makes_a_graph_within, r"^an operand, at [^:]*:\d+: None is no tensor$"),
        (finds_unique, r"numpy\.unique.*dsave\.ops\.call"),
        (decomposes, r"numpy\.linalg\.svd.*dsave\.ops\.call"),
        (accumulates, r"numpy\.subtract\.accumulate.*dsave\.ops\.call"),
        (adds_where, r"numpy\.add.*where= leaves"),
        (has_no_ufunc, r"numpy\.nextafter.*dsave\.ops\.call"),
        (indexes_beyond, r"indexing.*index 4 of an axis with 4"),
        (indexes_too_much, r"indexing.*3 indices"),
        (indexes_by_floats, r"indexing.*integer, got float32"),
        (takes_beyond, r"numpy\.take.*index 4 of an axis with 4"),
        (has_no_method, r"numpy\.ndarray\.tobytes"),
        (fits_not, r"numpy\.matmul.*\(None, 4\) and \(3, 2\)"),
        (broadcasts_not, r"broadcasting.*\(None, 4\), \(3,\)"),
        (reshapes_not, r"numpy\.reshape.*4 elements"),
        (joins_not, r"numpy\.concatenate.*differ"),
        (names_no_axis, r"axis 2 of a tensor that has 2"),
        (names_an_axis_twice, r"named twice"),
        (adds_none, r"an operand.*None is no tensor"),
        (adds_an_object, r"an operand.*a object is no tensor"),
        (indexes_an_array, r"numpy\.asarray\(array, like=x\)"),
        (makes_a_set, r"a tensor as a key"),
        (adds_quarter_floats, r"AddV2.*not for float8_e5m2"),
    ],
)
def test_what_no_graph_expresses_is_refused_at_its_line(code, message):
    assert re.search(message, str(refused(code)))


def test_tensors_print_and_copy_as_they_are():
    def code(x):
        assert f"{x}" == str(x) == "<Tensor x: float32 [None, 4]>"
        assert copy.copy(x) is copy.deepcopy(x) is x.copy() is x
        return x

    graph_of(code)


def test_a_tensor_of_another_trace_is_refused():
    kept = []
    graph_of(lambda x: kept.append(x) or x)
    assert "belongs to another function" in str(refused(lambda x: x + kept[0]))
    assert "belongs to another function" in str(refused(lambda _: kept[0] + 1))
    with pytest.raises(TraceError, match="belongs to another function"):
        kept[0] + 1


def test_an_op_is_recorded_by_its_name():
    spec = TensorSpec([None], "int32", name="found")
    graph = graph_of(
        lambda x: ops.call(
            "Test>Find",
            [x, np.int32(3)],
            {
                "T": np.float32,
                "kinds": [np.dtype("int8"), bool],
                "size": 3,
                "rate": 0.5,
                "exact": True,
                "mode": "fast",
                "shape": (None, 2),
                "shapes": [(1,), ()],
                "table": np.ones(2),
            },
            [spec, spec, TensorSpec([], "string", name="text")],
        )
    )
    node = graph.nodes[-1]
    assert (node.name, node.op) == ("Test_Find", "Test>Find")
    assert node.output_args == (("found", 2), ("text", 1))
    assert node.outputs == (
        TensorSpec([None], "int32"),
        TensorSpec([None], "int32"),
        TensorSpec([], "string"),
    )
    table = node.attrs["table"]
    assert table.tolist() == [1, 1]
    assert {**node.attrs, "table": None} == {
        "T": dtype_of("float32"),
        "kinds": [dtype_of("int8"), dtype_of("bool")],
        "size": 3,
        "rate": 0.5,
        "exact": True,
        "mode": b"fast",
        "shape": (None, 2),
        "shapes": [(1,), ()],
        "table": None,
    }
    assert len(graph.outputs) == 3


def test_one_output_without_a_name_is_called_output():
    graph = graph_of(lambda x: ops.call("Test>Same", [x], {}, TensorSpec([None])) + 1)
    assert graph.nodes[1].output_args == (("output", 1),)
    assert graph.nodes[-1].op == "AddV2"


def test_an_op_without_tensors_among_its_inputs_is_recorded_too():
    graph = graph_of(lambda _: ops.call("Test>Now", [], {}, TensorSpec([], "int64")))
    assert [node.op for node in graph.nodes] == ["Placeholder", "Test>Now"]


def test_what_follows_from_the_inputs_of_a_known_op_may_be_left_out():
    graph = graph_of(lambda x: ops.call("Split", [np.int32(1), x], {"num_split": 2}))
    node = graph.nodes[-1]
    assert node.attrs == {"T": dtype_of("float32"), "num_split": 2}
    assert node.output_args == (("output", 2),)
    assert node.outputs == (TensorSpec([None, 2]), TensorSpec([None, 2]))


def test_the_outputs_of_a_known_op_may_be_described():
    spec = TensorSpec([7, 4])
    graph = graph_of(lambda x: ops.call("ConcatV2", [x, x, np.int32(0)], {}, spec))
    assert graph.nodes[-1].outputs == (spec,)
    assert graph.nodes[-1].attrs["N"] == 2


def test_an_unknown_op_runs_in_tensorflow_only():
    with pytest.raises(ModelError, match="Test>Same: numpy cannot run"):
        ops.call("Test>Same", [np.ones(3)], {}, TensorSpec([3]))
    graph = graph_of(lambda x: ops.call("Test>Same", [x], {}, TensorSpec([None])))
    with pytest.raises(ModelError, match="Test>Same"):
        run_graph(graph, [np.ones((1, 4))], None)


@pytest.mark.parametrize(
    ("attrs", "outputs", "error"),
    [
        ({"f": object()}, TensorSpec([]), OptionTypeError),
        ({"T": "float32 "}, ["float32"], OptionTypeError),
        ({"s": (-1,)}, TensorSpec([]), OptionError),
    ],
)
def test_what_is_no_attribute_or_output_is_refused(attrs, outputs, error):
    with pytest.raises(error):
        graph_of(lambda x: ops.call("Test>Same", [x], attrs, outputs))


@pytest.mark.parametrize("attr", [lambda x: x, lambda x: x.shape[0]])
def test_a_tensor_is_no_attribute(attr):
    with pytest.raises(OptionTypeError, match="no attribute can be made of a tensor"):
        graph_of(lambda x: ops.call("A>B", [x], {"n": attr(x)}, TensorSpec([])))


def test_inputs_that_a_known_op_does_not_take_are_refused():
    with pytest.raises(OptionTypeError, match="MatMul: its inputs are a, b, got 1"):
        graph_of(lambda x: ops.call("MatMul", [x]))


def test_ops_run_on_arrays():
    np.testing.assert_allclose(ops.softmax([0.0, 0.0]), [0.5, 0.5])
    assert ops.one_hot(np.array([1]), 3).tolist() == [[0, 1, 0]]
    assert ops.gather(np.arange(5), [-1, 0]).tolist() == [4, 0]
    assert ops.cast(2.7, "int32").dtype == np.int32
    assert ops.shape(np.ones((2, 3))) == (2, 3)
    values, places = ops.top_k([3.0, 1.0, 3.0], 2)
    assert (values.tolist(), places.tolist()) == ([3, 3], [0, 2])
    assert ops.call("AddV2", [np.float32(1), np.float32(2)]) == 3


def test_erf_is_right_to_the_last_bits():
    points = np.concatenate([np.linspace(-7, 7, 1001), [1e-300, 0.5, 4.0]])
    exact = [math.erf(point) for point in points]
    np.testing.assert_allclose(ops.erf(points), exact, rtol=1e-15)
    assert ops.erf(np.array([np.inf, -np.inf])).tolist() == [1, -1]
    assert np.isnan(ops.erf(np.array([np.nan]))).all()
    assert ops.erf(np.array([1], ml_dtypes.bfloat16)).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ([-1], "float32", OptionError),
        ([2.5], "float32", OptionError),
        (["2 * b"], "float32", OptionError),
        ("bt", "float32", OptionTypeError),
        (None, "float32", OptionTypeError),
        (3, "float32", OptionTypeError),
        ([], "datetime64[s]", DtypeError),
    ],
)
def test_what_is_no_spec_is_refused(shape, dtype, error):
    with pytest.raises(error):
        TensorSpec(shape, dtype)


def test_an_extent_with_a_name_is_unknown():
    graph = graph_of(lambda x: x.sum(1), TensorSpec(["b", "t", 3]))
    assert graph.structured_outputs == TensorSpec([None, 3])
    assert graph.nodes[0].attrs["shape"] == (None, None, 3)


def test_a_spec_is_plain_to_write_and_to_read():
    spec = TensorSpec([None, 64], "float32", name="x")
    assert spec == TensorSpec((None, np.int64(64)), np.float32, "x")
    assert repr(spec) == "TensorSpec([None, 64], 'float32', name='x')"
    assert str(spec) == "float32 [None, 64]"
    assert hash(spec) == hash(TensorSpec((None, 64), name="x"))
    named = TensorSpec(["b", 64], name="x")
    assert (named.shape, named.dims) == ((None, 64), ("b", 64))
    assert (repr(named), str(named)) == (
        "TensorSpec(['b', 64], 'float32', name='x')",
        "float32 ['b', 64]",
    )
    assert named != spec
    assert named.accepts([3, 64])
    assert spec.accepts([3, 64])
    assert not spec.accepts([3, 65])
    assert not spec.accepts([64])
