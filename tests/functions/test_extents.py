"""Shapes of traced tensors: an extent that is unknown is a number that can be computed with.

- it is weak, as Python's numbers are, and an int64 where it is made an array
- it is a size of what numpy makes, and a bound of a slice, whose extent is unknown then
- known extents are ints, and nothing of them is in the graph
- where Python has to know it, the error names the line
"""

import math
import re

import numpy as np
import pytest

from dsave import TensorSpec, function, ops
from dsave.functions.tensor import Tensor

X = TensorSpec([None, 4], name="x")
BATCH = TensorSpec([None, None, 6], name="batch")
ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)
TABLE = np.arange(20, dtype=np.float32).reshape(20, 1)

CASES = {
    "in arithmetic": lambda x: [x.sum(0) / x.shape[0], x * (1 / x.shape[0]), x + x.shape[0]],
    "arithmetic of its own": lambda x: [
        (x.shape[0] + 1) * 2 - 3 // x.shape[0] + 7 % x.shape[0],
        x.shape[0] / 2,
        -(x.shape[0] ** 2),
        x.shape[0] ** -1,
        2 ** x.shape[0],
        abs(1 - x.shape[0]),
        x.shape[0] << 2 | 1,
        divmod(x.shape[0], 2),
    ],
    "compared": lambda x: [x.shape[0] == 3, x.shape[0] > 3, np.where(x.shape[0] < 9, x, 0)],
    "rounded": lambda x: [
        math.floor(x.shape[0] / 2),
        math.ceil(x.shape[0] / 2),
        round(x.shape[0] * 0.4),
        math.trunc(x.shape[0]),
        x * round(x.shape[0] * 0.41, 1),
    ],
    "in functions": lambda x: [
        x / np.sqrt(x.shape[0]),
        x * np.maximum(x.shape[0], 1),
        np.full(2, x.shape[0], like=x),
        np.stack([x.shape[0], 4]),
        np.array(x.shape, like=x),
        np.array([[x.shape[0], 1], [2, x.shape[1]]], like=x),
        np.asarray(x.shape[0], like=x),
    ],
    "counted up": lambda x: [x.size, np.size(x), math.prod(x.shape), x.ndim],
    "the shape itself": lambda x: [np.shape(x), x.shape, x.shape[-1], ops.shape(x)],
    "shapes in arrays": lambda x: [
        np.zeros_like(x, shape=(x.shape[0], 2)),
        np.zeros_like(x, shape=x.shape),
        np.zeros_like(x, "int8", shape=x.shape[0]),
        np.ones(x.shape[0] * 2, bool, like=x),
        np.full((x.shape[0], 2), 7, like=x),
        np.full((2, x.shape[0]), x.mean(), like=x),
        np.full(x.shape, -np.inf, "float32", like=x),
        np.empty_like(x, shape=(0, x.shape[0])),
    ],
    "ranges": lambda x: [
        np.arange(x.shape[0], like=x),
        np.arange(1, x.shape[0], like=x),
        np.arange(x.shape[0], 0, -1, like=x),
        np.arange(x.shape[0], dtype="float32", like=x),
        np.arange(x.shape[0], dtype="uint8", like=x),
        np.arange(x.shape[0], like=x) * 0.5,
        np.arange(0, x.shape[0], 2.0, like=x),
    ],
    "a causal mask": lambda x: [
        np.tril(np.ones((x.shape[0], x.shape[0]), bool, like=x)),
        np.arange(x.shape[0], like=x)[:, None] >= np.arange(x.shape[0], like=x),
    ],
    "broadcast": lambda x: [
        np.broadcast_to(np.arange(4, like=x), (x.shape[0], 4)),
        np.broadcast_to(x[:1], x.shape),
        np.broadcast_to(np.asarray(2.5, like=x), x.shape[0]),
    ],
    "reshaped": lambda x: [
        x.reshape(x.shape[0], -1),
        x.reshape(x.shape[0], 2, -1),
        x.reshape(x.shape[0], 2, 2),
        x.reshape(x.shape[0] * 2, 2),
        x.reshape(x.shape[0] * x.shape[1]),
        x.reshape((-1, x.shape[0])),
        np.reshape(np.arange(1, like=x), (x.shape[0] // x.shape[0], -1)),
        x.reshape(1, *x.shape, 1),
    ],
    "repeated": lambda x: [
        np.tile(x, (x.shape[0], 1)),
        np.tile(np.arange(2), x.shape[0]),
        np.tile(np.arange(2, like=x), (x.shape[0], 1)),
        np.repeat(x, x.shape[0], 0),
        np.repeat(np.arange(2, like=x), x.shape[0]),
        x.repeat(x.shape[0] - 1, axis=1),
    ],
    "padded": lambda x: [
        np.pad(x, ((0, -x.shape[0] % 8), (1, 0))),
        np.pad(np.arange(2, like=x), (x.shape[0], 0)),
    ],
    "bounds": lambda x: [
        x[: x.shape[0]],
        x[: x.shape[0] - 1],
        x[1 : x.shape[0] : 2],
        x[x.shape[0] // 2 :],
        x[-(x.shape[0] // 2) :, 1:3],
        x[x.shape[0] - 1],
        x[:, x.shape[0] // 2],
        x[x.shape[0] - 1, None, 2:],
        np.asarray(TABLE, like=x)[: x.shape[0]],
    ],
    "gathered": lambda x: [
        np.take(np.asarray(TABLE, like=x), np.arange(x.shape[0], like=x), axis=0),
        x[np.arange(x.shape[0], like=x) // 2],
    ],
    "encoded": lambda x: ops.one_hot(np.arange(4), x.shape[0]),
    "changed": lambda x: [grown(x.shape[0]), x.mean()],
}


def grown(n):
    n += 1
    n *= 2
    return n


@pytest.mark.tf
@pytest.mark.parametrize("name", CASES)
def test_an_unknown_extent_is_worth_what_it_is_in_numpy(agree, name):
    agree(CASES[name], [X], ARRAY, within=1e-6)


@pytest.mark.tf
def test_several_unknown_extents_take_a_batch_apart_and_put_it_together(agree):
    def heads(x):
        b, t, d = x.shape
        split = x.reshape(b, t, 2, d // 2).transpose(0, 2, 1, 3)
        rows = x.reshape(b * t, d) @ np.ones((6, 3), "float32")
        return split, rows.reshape(b, t, -1), split.transpose(0, 2, 1, 3).reshape(b, -1, d)

    batch = np.random.default_rng(0).random((2, 5, 6), np.float32)
    agree(heads, [BATCH], batch, within=1e-5)


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        (lambda x: x.reshape(x.shape[0], -1), (None, 4)),
        (lambda x: x.reshape(x.shape[0], 2, -1), (None, 2, 2)),
        (lambda x: x.reshape(x.shape[0], 2, 2), (None, 2, 2)),
        (lambda x: x.reshape(x.shape[0] * 2, 2), (None, 2)),
        (lambda x: x.reshape(2, -1, x.shape[0]), (2, 2, None)),
        (lambda x: np.ones((x.shape[0], 3), like=x), (None, 3)),
        (lambda x: np.broadcast_to(x[0], x.shape), (None, 4)),
        (lambda x: np.tile(x, (1, 2)), (None, 8)),
        (lambda x: np.tile(x, (x.shape[0], 2)), (None, 8)),
        (lambda x: x[: x.shape[0], 1:3], (None, 2)),
        (lambda x: x[:, : x.shape[0]], (None, None)),
        (lambda x: x[:, x.shape[0] :], (None, None)),
        (lambda x: x[:, x.shape[0] - 1], (None,)),
        (lambda x: np.asarray(TABLE, like=x)[: x.shape[0]], (None, 1)),
        (lambda x: np.asarray(TABLE, like=x)[: x.shape[1]], (4, 1)),
        (lambda x: np.asarray(TABLE, like=x)[: ops.shape(x)[1]], (4, 1)),
        (lambda x: np.asarray(TABLE, like=x)[x.sum().astype(int) :], (None, 1)),
        (lambda x: np.asarray(TABLE, like=x)[2 : x.sum().astype(int), 0], (None,)),
        (lambda x: np.arange(x.shape[0], like=x), (None,)),
    ],
)
def test_what_is_known_of_a_result_is_known(look, code, shape):
    assert look.result(code, X)[0] == shape


def test_all_that_is_unknown_being_in_a_shape_what_remains_is_known(look):
    def code(x):
        return x.reshape(*x.shape[:-1], 2, -1)

    assert look.result(code, BATCH)[0] == (None, None, 2, 3)
    assert look.result(lambda x: x.reshape(x.shape[0], -1), BATCH)[0] == (None, None)


def test_a_slice_by_a_tensor_can_be_computed_with_by_its_extent(look):
    graph = look.graph(lambda x: np.asarray(TABLE, like=x)[: x.shape[0]].shape[0] + 0, X)
    from dsave.functions.run import run_graph

    assert run_graph(graph, [ARRAY], None) == [3]


def test_known_extents_are_ints_and_leave_no_trace(look):
    def code(x):
        b, d = x.shape
        assert (type(d), type(x.shape[1]), type(ops.shape(x)[1])) == (int, int, int)
        assert (d == 4, x.shape[1:] == (4,), None in x.shape) == (True, True, False)
        del b
        return x * d

    assert look.ops(code, X) == ["Placeholder", "Const", "Mul"]
    known = TensorSpec([3, 4])
    assert look.ops(lambda x: x.reshape(x.shape) * x.size / len(x), known).count("Shape") == 0


def test_a_shape_is_recorded_once_for_a_tensor(look):
    found = look.ops(lambda x: x.reshape(x.shape[1], x.shape[0], x.shape[1], 6), BATCH)
    assert (found.count("Shape"), found.count("StridedSlice")) == (1, 2)


def test_extents_in_shapes_are_int32_which_no_accelerator_waits_for(look):
    graph = look.graph(lambda x: np.ones((x.shape[0], x.shape[1], 2), like=x), BATCH)
    assert {node.op for node in graph.nodes} == {
        *("Placeholder", "Shape", "StridedSlice", "Const", "Pack", "Fill")
    }


def test_reshaping_by_the_batch_is_a_constant(look):
    assert look.ops(lambda x: x.reshape(x.shape[0], -1), X) == [
        *("Placeholder", "Const", "Reshape")
    ]


def test_an_extent_is_an_int_and_a_tensor_an_array_to_who_asks(look):
    def code(x):
        assert isinstance(x, np.ndarray)
        assert isinstance(x.shape[0], int)
        assert isinstance(x.shape[0] / 2, float)
        assert not isinstance(x.shape[0], np.ndarray)
        assert np.iterable(x)
        assert not np.iterable(x.sum())
        assert isinstance(x, Tensor)
        return x

    look.graph(code, X)


def test_an_unknown_extent_has_no_elements_in_a_spec():
    def code(x):
        return ops.call("Test>Same", [x], {"shape": x.shape}, TensorSpec(x.shape))

    node = function(code).get_concrete_function(X).graph.nodes[-1]
    assert (node.outputs[0].shape, node.attrs["shape"]) == ((None, 4), (None, 4))


def test_a_function_in_a_function_takes_an_extent_as_the_number_that_it_is(look):
    half = function(lambda x, n: x / n, input_signature=[X, TensorSpec([], "float32")])
    assert look.result(lambda x: half(x, x.shape[0]), X) == ((None, 4), "float32")
    twice = function(lambda n: n * 2)
    assert look.result(lambda x: twice(x.shape[0]), X) == ((), "int64")


def asks_whether_it_is(x):
    return x if x.shape[0] == 2 else x + 1


def asks_whether_there_are_any(x):
    return x if x.shape[0] else x + 1


def compares_shapes(x):
    return x if x.shape == np.zeros((3, 4)).shape else x + 1


def looks_for_it(x):
    return x if x.shape[0] in (1, 2) else x + 1


def makes_it_a_key(x):
    return {x.shape[0]: x}


def looks_it_up(x):
    return x if x.shape[0] in {1, 2} else x + 1


def loops_so_often(x):
    return [x for _ in range(x.shape[0])]


def makes_it_an_int(x):
    return int(x.shape[0])


def makes_it_a_float(x):
    return math.sqrt(x.shape[0])


def takes_the_smaller(x):
    return min(x.shape[0], 4)


def indexes_a_list_by_it(x):
    return [1, 2, 3][x.shape[0]]


def makes_an_array_of_the_size(x):
    return np.zeros(x.shape[0])


def makes_an_array_of_the_shape(x):
    return np.zeros((x.shape[0], 4))


def makes_it_an_array(x):
    return np.full(2, x.shape[0])


def slices_an_array_by_it(x):
    return TABLE[: x.shape[0]]


def reshapes_an_array_by_it(x):
    return ARRAY.reshape(x.shape[0], -1)


def reduces_along_it(x):
    return x.sum(axis=x.shape[0])


def counts_the_rows(x):
    return len(x)


def loops_over_rows(x):
    return [row for row in x]  # noqa: C416 - as a user might


def fits_in_no_batch(x):
    return x.reshape(x.shape[0], 3, -1)


def fits_in_another_batch_only(x):
    return x.reshape(x.shape[0], 8)


def is_no_integer(x):
    return np.ones((x.shape[0] / 2, 4), like=x)


def has_no_size(x):
    return np.broadcast_to(x, (None, x.shape[0], 4))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (asks_whether_it_is, r"condition on a tensor.*numpy\.where"),
        (asks_whether_there_are_any, r"condition on an unknown extent.*numpy\.where"),
        (compares_shapes, r"condition on a tensor"),
        (looks_for_it, r"condition on a tensor"),
        (makes_it_a_key, r"unknown extent as a key"),
        (looks_it_up, r"unknown extent as a key"),
        (loops_so_often, r"unknown extent as a size or an index"),
        (makes_it_an_int, r"int of an unknown extent.*math\.floor"),
        (makes_it_a_float, r"float of an unknown extent"),
        (takes_the_smaller, r"condition on a tensor"),
        (indexes_a_list_by_it, r"unknown extent as a size or an index"),
        (makes_an_array_of_the_size, r"unknown extent as a size.*like=x"),
        (makes_an_array_of_the_shape, r"unknown extent as a size.*like=x"),
        (makes_it_an_array, r"an array of an unknown extent.*like=x"),
        (slices_an_array_by_it, r"numpy\.asarray\(array, like=x\)"),
        (reshapes_an_array_by_it, r"numpy\.asarray\(array, like=x\)"),
        (reduces_along_it, r"an axis is an int"),
        (counts_the_rows, r"length of a tensor.*extent 0 of float32 \[None, 4\]"),
        (loops_over_rows, r"loop over a tensor.*extent 0 of float32 \[None, 4\]"),
        (fits_in_no_batch, r"numpy\.reshape.*\(None, 4\)"),
        (fits_in_another_batch_only, r"numpy\.reshape.*\(None, 4\)"),
        (is_no_integer, r"an extent is an integer, got float64"),
        (has_no_size, r"an extent is an integer, got None"),
    ],
)
def test_where_python_would_have_to_know_it_the_error_names_the_line(refused, code, message):
    assert re.search(message, refused(code, X))


def test_the_same_extent_is_equal_to_itself(look):
    look.graph(lambda x: x if x.shape == x.shape else 1, X)
