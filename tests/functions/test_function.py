"""Functions: traced once for each kind of arguments, and run as they are.

- a decorator with and without arguments, a plain call, a method: each is a Function
- an instance has one Function of each method, and copies of it have their own
- lists, tuples, dicts and namedtuples go in and come out; Python values are traced as they are
- with an input_signature arguments are made to fit, and those that do not are refused
- called, the code runs as it is; called in a trace, it becomes part of that graph
- tracing costs the same for each function
"""

import copy
import time
from collections import namedtuple

import cloudpickle
import numpy as np
import pytest

import dsave
from dsave import Asset, Module, TensorSpec, function
from dsave.errors import ModelError, OptionTypeError, TraceError
from dsave.functions.function import Function, functions_of
from dsave.functions.run import run_graph
from dsave.model.dtype import dtype_of
from dsave.model.new_variable import plain
from dsave.model.readable import reading

HERE = "/job:worker/replica:0/task:0/device:CPU:0"
X = TensorSpec([None, 2], name="x")
ROWS = np.array([[1, 2], [3, 4]], np.float32)
WEIGHTS = np.array([[1, 0], [0, 10]], np.float32)

Pair = namedtuple("Pair", ["first", "second"])  # noqa: PYI024 - as users write it


class Model(Module):
    """One variable, and a method of each kind."""

    def __init__(self):
        self.w = plain("w", dtype_of("float32"), (2, 2), HERE, lambda: "w", trainable=True)

    @function(input_signature=[X])
    def serve(self, x):
        """Serve."""
        return {"y": x @ self.w}

    @function
    def scale(self, x, factor=2.0, *, shift=None):
        """Scale and shift."""
        y = x * factor
        return y if shift is None else y + shift


def read_weights(_):
    return WEIGHTS


def test_a_decorated_function_keeps_its_name_and_docstring():
    assert (Model.serve.name, Model.serve.__doc__) == ("serve", "Serve.")
    assert Model.serve.input_signature == (X,)
    assert Model.scale.input_signature is None
    assert function(lambda: 1, input_signature=[]).name == "<lambda>"


def test_a_method_is_bound_to_its_instance():
    one, other = Model(), Model()
    assert one.serve is one.serve
    assert one.serve is not other.serve
    assert one.serve.instance is one
    assert one.serve.get_concrete_function().graph.captures == (one.w,)
    assert other.serve.get_concrete_function().graph.captures == (other.w,)
    assert list(one.scale.signature.parameters) == ["x", "factor", "shift"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_instance_has_functions_of_its_own(copied):
    model = Model()
    model.serve.get_concrete_function()
    twin = copied(model)
    twin.w = plain("v", dtype_of("float32"), (2, 2), HERE, lambda: "v", trainable=True)
    assert twin.serve is twin.serve
    assert twin.serve.get_concrete_function().graph.captures == (twin.w,)
    assert model.serve.get_concrete_function().graph.captures == (model.w,)


def test_a_module_that_was_traced_survives_a_pickle():
    model = Model()
    model.total = function(lambda: 3, input_signature=[])
    model.serve.get_concrete_function()
    twin = cloudpickle.loads(cloudpickle.dumps(model))
    assert twin.serve.instance is twin
    assert twin.serve is twin.serve
    assert twin.serve.concrete_functions == ()
    assert twin.serve.get_concrete_function().graph.captures == (twin.w,)
    assert twin.total() == 3
    bound = cloudpickle.loads(cloudpickle.dumps(model.serve))
    assert bound is bound.instance.serve


def test_the_functions_of_a_module_are_found():
    class Other(Model):
        scale = None

        @function
        def extra(self):
            return 1

    model = Other()
    model.total = function(lambda: 3, input_signature=[])
    assert functions_of(model) == {
        "serve": model.serve,
        "extra": model.extra,
        "total": model.total,
    }
    assert list(functions_of(Model())) == ["serve", "scale"]


def test_each_kind_of_arguments_is_traced_once():
    scale = Model().scale
    one = scale.get_concrete_function(TensorSpec([2]))
    assert scale.get_concrete_function(TensorSpec([2])) is one
    assert scale.get_concrete_function(x=TensorSpec([2])) is one
    assert scale.get_concrete_function(np.ones(2, np.float32)) is one
    others = [
        scale.get_concrete_function(TensorSpec([3])),
        scale.get_concrete_function(TensorSpec([None])),
        scale.get_concrete_function(TensorSpec([2, 1])),
        scale.get_concrete_function(TensorSpec([2], "float64")),
        scale.get_concrete_function(TensorSpec([2]), 3.0),
        scale.get_concrete_function(TensorSpec([2]), 3),
        scale.get_concrete_function(TensorSpec([2]), shift=1.0),
        scale.get_concrete_function(TensorSpec([2]), TensorSpec([2])),
    ]
    assert len({id(concrete) for concrete in [one, *others]}) == 9
    assert scale.concrete_functions == (one, *others)


def test_the_same_specs_in_another_structure_are_another_kind():
    add = function(lambda pair: pair[0] + pair[1])
    spec = TensorSpec([])
    in_list = add.get_concrete_function([spec, spec])
    assert add.get_concrete_function((spec, spec)) is not in_list
    assert add.get_concrete_function([spec, spec]) is in_list


def test_arguments_are_described_as_they_are_passed():
    concrete = Model().scale.get_concrete_function(TensorSpec([2]), shift=TensorSpec([]))
    named = TensorSpec([2], name="x"), TensorSpec([], name="shift")
    assert concrete.structured_input_signature == ((named[0], 2.0), {"shift": named[1]})
    assert concrete.graph.arguments == named
    assert concrete.structured_outputs == TensorSpec([2])
    assert concrete.name == "scale"


def test_nested_structures_go_in_and_come_out():
    def code(inputs, pair, *rest):
        return {
            "sum": inputs["b"] + inputs["a"][0],
            "pair": Pair(pair.second, pair.first),
            "rest": [*rest, None],
            "empty": (),
        }

    spec = TensorSpec([])
    concrete = function(code).get_concrete_function(
        {"b": spec, "a": [spec]}, Pair(spec, spec), spec, spec
    )
    # Dicts are flattened by sorted key.
    names = ["inputs_a_0", "inputs_b", "pair_first", "pair_second", "rest_0", "rest_1"]
    assert [argument.name for argument in concrete.graph.arguments] == names
    result = concrete(*np.arange(6, dtype=np.float32))
    assert result == {"sum": 1, "pair": Pair(3, 2), "rest": [4, 5, None], "empty": ()}
    assert isinstance(result["pair"], Pair)
    assert list(result) == ["sum", "pair", "rest", "empty"]
    # The flat outputs are in the order of the sorted keys.
    flat = run_graph(concrete.graph, [np.float32(n) for n in range(6)], None)
    assert flat == [3, 2, 4, 5, 1]


def test_arguments_of_one_name_get_several():
    add = function(lambda x, y: x + y, input_signature=[TensorSpec([], name="n")] * 2)
    concrete = add.get_concrete_function()
    assert [spec.name for spec in concrete.graph.arguments] == ["n", "n_1"]
    assert concrete(1, n_1=2) == 3


def test_constants_variables_and_arguments_may_be_results():
    model = Model()
    code = function(lambda x: [x, x, model.w, 3, np.arange(2)], input_signature=[X])
    concrete = code.get_concrete_function()
    with reading(read_weights):
        found = concrete(ROWS)
    assert [array.tolist() for array in found] == [
        *([ROWS.tolist()] * 2),
        WEIGHTS.tolist(),
        3,
        [0, 1],
    ]
    assert [array.dtype.name for array in found[3:]] == ["int64", "int64"]


def test_called_the_code_runs_and_its_graph_gives_the_same():
    model = Model()
    with reading(read_weights):
        ran = model.serve(ROWS)["y"]
        found = model.serve.get_concrete_function()(x=ROWS)["y"]
    assert ran.tolist() == found.tolist() == [[1, 20], [3, 40]]
    assert isinstance(ran, np.ndarray)
    assert model.serve.concrete_functions == (model.serve.get_concrete_function(),)


def test_called_a_function_returns_values_as_its_graph_does():
    model = Model()
    model.vocabulary = Asset("/tmp/words")
    code = function(
        lambda: [
            model.w,
            {"w": (model.w.components[0], None)},
            Pair(model.w, model.vocabulary),
        ],
        input_signature=[],
    )
    values = {model.w: WEIGHTS, model.w.components[0]: ROWS, model.vocabulary: b"words"}
    with reading(values.__getitem__):
        for found in (code(), code.get_concrete_function()()):
            assert found[0].tolist() == WEIGHTS.tolist()
            assert (found[1]["w"][0].tolist(), found[1]["w"][1]) == (ROWS.tolist(), None)
            assert isinstance(found[2], Pair)
            assert found[2].second == b"words"


def test_a_function_may_ask_what_variables_are_when_it_runs():
    model = Model()
    code = function(lambda x: x * 2 if model.w[0, 0] == 1 else x, input_signature=[X])
    with reading(read_weights):
        assert code(ROWS).tolist() == (ROWS * 2).tolist()
        found = function(lambda: (model.w == 10, len(model.w)), input_signature=[])()
    assert found[0].tolist() == (WEIGHTS == 10).tolist()
    assert found[1] == 2


def test_arrays_take_the_dtypes_of_variables():
    model = Model()
    code = function(
        lambda x: x.astype(model.w.dtype) + np.zeros(2, model.w.dtype),
        input_signature=[TensorSpec([2], "int32")],
    )
    found = code([1, 2]), code.get_concrete_function()([1, 2])
    assert [(each.dtype.name, each.tolist()) for each in found] == [("float32", [1, 2])] * 2
    assert model.w.dtype == np.dtype("float32")


def test_a_call_does_not_trace():
    scale = Model().scale
    assert scale(3.0) == 6.0
    assert scale.concrete_functions == ()


def test_without_a_cluster_a_function_that_reads_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("dsave.model.readable._eager", [])
    with pytest.raises(ModelError, match=r"^w: .*cluster\.read"):
        Model().serve(ROWS)


def test_lists_and_numbers_take_the_dtype_of_the_signature():
    half = function(lambda x, n: x / n, input_signature=[X, TensorSpec([], "int32")])
    found = half([[1, 2]], 2)
    assert (found.dtype, found.tolist()) == (np.float64, [[0.5, 1]])
    assert half.get_concrete_function()([[1, 2]], 2).tolist() == [[0.5, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([np.ones((2, 2))], r"serve: float32 \[None, 2\] is wanted, got float64 \[2, 2\]"),
        ([np.ones((2, 3), "f")], r"serve: float32 \[None, 2\] is wanted, got float32 \[2, 3\]"),
        ([np.ones(2, "f")], r"serve: float32 \[None, 2\] is wanted, got float32 \[2\]"),
        (["text"], r"serve: float32 \[None, 2\] is wanted"),
        ([], r"serve: missing a required argument: 'x'"),
        ([ROWS, ROWS], r"serve: too many positional arguments"),
    ],
)
def test_arguments_that_do_not_fit_the_signature_are_refused(arguments, message):
    with pytest.raises(OptionTypeError, match=message), reading(read_weights):
        Model().serve(*arguments)


def test_extents_of_one_name_that_differ_are_refused():
    spec = TensorSpec(["b", None])
    add = function(lambda pair, y: pair[0] + y, input_signature=[[spec, TensorSpec([])], spec])
    ones, more = np.ones((2, 1), "f"), np.ones((2, 3), "f")
    for each in (add, lambda pair, y: add.get_concrete_function()(*pair, y)):
        assert each([ones, 1], more).shape == (2, 3)
        with pytest.raises(OptionTypeError, match="'b' is 2 and 1"):
            each([ones, 1], more[:1])


def test_a_structure_that_does_not_fit_the_signature_is_refused():
    add = function(lambda d: d["a"] + d["b"][0], input_signature=[{"a": X, "b": [X]}])
    assert add({"b": [ROWS], "a": ROWS}).tolist() == (ROWS * 2).tolist()
    for wrong in (
        {"a": ROWS},
        [ROWS, ROWS],
        {"a": ROWS, "b": []},
        {"a": ROWS, "b": ROWS[0, 0]},
    ):
        with pytest.raises(OptionTypeError):
            add(wrong)


def test_a_concrete_function_may_be_asked_for_with_what_fits_the_signature():
    serve = Model().serve
    assert serve.get_concrete_function(ROWS) is serve.get_concrete_function()
    assert serve.get_concrete_function(TensorSpec([7, 2])) is serve.get_concrete_function()
    with pytest.raises(OptionTypeError, match=r"float32 \[None, 2\] is wanted"):
        serve.get_concrete_function(TensorSpec([7, 3]))


@pytest.mark.parametrize("signature", [X, "float32", [np.float32], [[X, 3]]])
def test_what_is_no_signature_is_refused(signature):
    with pytest.raises(OptionTypeError, match="input_signature"):
        function(lambda x: x, input_signature=signature)


@pytest.mark.parametrize("argument", [object(), Module(), Model().w, lambda: 1])
def test_what_is_neither_a_tensor_nor_a_value_is_refused_as_an_argument(argument):
    with pytest.raises(OptionTypeError, match="an argument: a TensorSpec"):
        Model().scale.get_concrete_function(argument)


@pytest.mark.parametrize(
    ("given", "names"), [((), {}), ((ROWS, ROWS), {}), ((ROWS,), {"y": 1})]
)
def test_a_concrete_function_takes_its_arguments(given, names):
    concrete = Model().serve.get_concrete_function()
    with pytest.raises(OptionTypeError, match="serve: the arguments are x"):
        concrete(*given, **names)


def test_a_function_in_a_function_becomes_part_of_its_graph():
    model = Model()
    twice = function(lambda x: model.serve(x)["y"] + model.serve(x)["y"], input_signature=[X])
    graph = twice.get_concrete_function().graph
    assert [node.op for node in graph.nodes] == [
        *("Placeholder", "ReadVariableOp", "MatMul", "MatMul", "AddV2")
    ]
    with pytest.raises(OptionTypeError, match=r"\[None, 2\] is wanted, got float32 \[\]"):
        function(lambda x: model.serve(x[0, 0])).get_concrete_function(X)


def test_a_concrete_function_in_a_function_becomes_part_of_its_graph():
    model = Model()

    def code(x, times=2):
        found, rest = dsave.ops.call("Split", [np.int32(1), x @ model.w], {"num_split": 2})
        return {"first": found * times, "rest": [rest + np.arange(2), None, x]}

    concrete = function(code).get_concrete_function(X, 3)
    model.w = plain("new", dtype_of("float32"), (2, 2), HERE, lambda: "w", trainable=True)
    outer = function(lambda x: (concrete(x), concrete(x=ROWS)), input_signature=[X])
    graph = outer.get_concrete_function().graph
    assert [node.op for node in graph.nodes].count("MatMul") == 2
    assert graph.captures == concrete.graph.captures
    with reading(read_weights):
        found, wanted = outer.get_concrete_function()(ROWS), concrete(ROWS)
    for each in found:
        assert each["first"].tolist() == wanted["first"].tolist()
        assert each["rest"][0].tolist() == wanted["rest"][0].tolist()
        assert (each["rest"][1], each["rest"][2].tolist()) == (None, ROWS.tolist())
    with pytest.raises(OptionTypeError, match=r"float32 \[None, 2\] is wanted"):
        function(lambda x: concrete(x[0])).get_concrete_function(X)


def test_a_trace_within_a_trace_is_of_its_own():
    model = Model()

    def code(x):
        inner = model.serve.get_concrete_function().graph
        return x @ model.w + len(inner.captures)

    graph = function(code, input_signature=[X]).get_concrete_function().graph
    assert graph.captures == (model.w,)
    assert [node.op for node in graph.nodes].count("MatMul") == 1


def test_a_failed_trace_leaves_nothing_behind():
    broken = function(np.unique, input_signature=[X])
    with pytest.raises(TraceError):
        broken.get_concrete_function()
    assert broken.concrete_functions == ()
    with pytest.raises(ModelError, match="cluster"):
        Model().w + 1


def test_default_values_are_traced_and_may_be_left_to_the_signature():
    scaled = function(lambda x, n=3: x * n, input_signature=[X])
    concrete = scaled.get_concrete_function()
    assert concrete.structured_input_signature == ((X, 3), {})
    assert concrete(ROWS).tolist() == (ROWS * 3).tolist()


def test_numpys_own_functions_and_partial_ones_are_traced():
    assert function(np.tanh).get_concrete_function(X).graph.nodes[-1].op == "Tanh"
    assert function(np.sum).get_concrete_function(X).graph.nodes[-1].op == "Sum"


def test_a_function_shows_what_it_is():
    model = Model()
    assert repr(model.serve) == "<Function serve(x)>"
    assert repr(model.serve.get_concrete_function()) == (
        "<ConcreteFunction serve(x: float32 [None, 2])>"
    )
    assert isinstance(model.serve, Function)


def test_tracing_costs_the_same_for_each_function():
    model = Model()

    def made():
        def code(x):
            y = np.tanh(x @ model.w + 1)
            return np.maximum(y * 2, 0.5).sum(axis=1) - np.exp(y).mean()

        return function(code, input_signature=[X])

    def seconds(count):
        functions = [made() for _ in range(count)]
        start = time.process_time()
        for each in functions:
            each.get_concrete_function()
        return time.process_time() - start

    seconds(20)
    few, many = min(seconds(50) for _ in range(3)), seconds(400)
    assert many < 8 * few * 3 + 0.1
