"""JAX code as a function: what it returns, and the one op that it becomes.

- called with arrays it runs through JAX and returns arrays of numpy, of any pytree
- traced it is one op, whose inputs are the tensors and the variables that the code uses, in
  JAX's order, and whose outputs have the shapes that JAX found
- unknown first extents are one and the same; others are not, unless they have one name
- it is exported as it is now, the same bytes whoever exports it
- it can be part of a numpy function, and Python values are part of the code
- traced it runs too, through JAX: for any extents that were left unknown, for the platform that
  is here, with dtypes of 64 bits whether JAX has them or not; what JAX does not run is an error
  that names function and node
- what JAX has no arrays of, platforms that there are not, several devices, and results that are
  objects are refused, by name
"""

import sys
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

import dsave
from dsave.functions import jax_function
from dsave.functions.graph import Output, TensorSpec
from dsave.model.dtype import dtype_of
from dsave.model.readable import reading
from dsave.model.slices import Box
from dsave.model.variable import Component, Variable

FLOAT32 = dtype_of("float32")


@pytest.fixture(scope="module")
def jax():
    return pytest.importorskip("jax", reason="JAX is not installed here (see dsave[jax])")


@pytest.fixture(scope="module")
def jnp(jax):
    return jax.numpy


def variable(name, shape, dtype="float32"):
    kind = dtype_of(dtype)
    part = Component(name, "/job:w/replica:0/task:0/device:CPU:0", name, Box.whole(shape), kind)
    return Variable(name, kind, shape, (part,))


def op(function, *specs):
    """(the op of a traced function, its inputs' nodes, its outputs' shapes)."""
    graph = function.get_concrete_function(*specs).graph
    (node,) = (node for node in graph.nodes if node.op == "XlaCallModule")
    sources = [graph.nodes[output.node] for output in node.inputs]
    return node, sources, [spec.shape for spec in node.outputs]


def test_called_with_arrays_it_runs_through_jax(jax, jnp):
    function = dsave.jax_function(
        lambda x: jnp.where(x > 0, jax.lax.rsqrt(x), 0.0), [TensorSpec([None])]
    )
    result = function(np.array([4.0, -1.0], np.float32))
    assert isinstance(result, np.ndarray)
    assert (result.tolist(), result.dtype) == ([0.5, 0.0], np.float32)


def test_the_values_of_variables_are_its_first_argument(jnp):
    del jnp
    w, b = variable("w", (2,)), variable("b", ())
    function = dsave.jax_function(
        lambda p, x: p["w"] * x + p["b"], [TensorSpec([2])], variables={"w": w, "b": b}
    )
    values = {w: np.array([2, 3], np.float32), b: np.float32(1)}
    with reading(values.get):
        assert function(np.array([10, 100], np.float32)).tolist() == [21, 301]
    assert list(function.signature.parameters) == ["x"]


def test_pytrees_go_in_and_come_out_in_jaxs_order(jnp):
    function = dsave.jax_function(
        lambda x, y: {"b": x["q"] - x["p"], "a": [y, None, (jnp.sum(y),)]},
        [{"q": TensorSpec([2]), "p": TensorSpec([2])}, TensorSpec([None])],
    )
    given = {"q": np.array([5, 7], np.float32), "p": np.array([1, 2], np.float32)}
    result = function(given, np.array([1, 2, 3], np.float32))
    assert result["b"].tolist() == [4, 5]
    assert (result["a"][0].tolist(), result["a"][1:]) == ([1, 2, 3], [None, (6,)])

    concrete = function.get_concrete_function()
    names = [spec.name for spec in concrete.graph.arguments]
    assert names == ["x_p", "x_q", "y"]
    node, sources, shapes = op(function)
    assert [source.name for source in sources] == names
    assert shapes == [(None,), (), (2,)]
    assert concrete.structured_outputs == {
        "b": TensorSpec([2]),
        "a": [TensorSpec([None]), None, (TensorSpec([]),)],
    }
    assert node.output_args == (("output", 3),)


def test_unused_variables_and_arguments_are_no_inputs(jnp):
    used, unused = variable("used", (3,)), variable("unused", (9,))
    function = dsave.jax_function(
        lambda p, x, y: jnp.dot(p[1], y),  # noqa: ARG005
        [TensorSpec([]), TensorSpec([3])],
        variables=[unused, used],
    )
    node, sources, shapes = op(function)
    assert [source.op for source in sources] == ["ReadVariableOp", "Placeholder"]
    assert function.get_concrete_function().graph.captures == (used,)
    assert (node.attrs["Tin"], shapes) == ([FLOAT32, FLOAT32], [()])


def test_attributes_are_those_that_tensorflow_wants(jnp):
    function = dsave.jax_function(
        lambda x: (x.astype(jnp.bfloat16), x > 0),
        [TensorSpec([None, 3])],
        platforms=["CPU", "cuda", "tpu"],
    )
    node, _, _ = op(function)
    module = node.attrs["module"]
    assert module.startswith(b"ML\xefR")  # MLIR bytecode
    assert 9 <= node.attrs["version"] <= 10
    assert {k: v for k, v in node.attrs.items() if k not in {"module", "version"}} == {
        "platforms": [b"CPU", b"CUDA", b"TPU"],
        "Tin": [FLOAT32],
        "Tout": [dtype_of(ml_dtypes.bfloat16), dtype_of("bool")],
        "Sout": [(None, 3), (None, 3)],
    }


def test_unknown_first_extents_are_the_same(jnp):
    function = dsave.jax_function(
        lambda x, y: jnp.concatenate([x, y], 1), [TensorSpec([None, 2]), TensorSpec([None, 1])]
    )
    assert op(function)[2] == [(None, 3)]


def test_other_unknown_extents_are_not(jnp):
    function = dsave.jax_function(
        lambda x, y: x @ y.T, [TensorSpec([4, None]), TensorSpec([2, None])]
    )
    with pytest.raises(TypeError, match=r"d0_1.*d1_1"):
        function.get_concrete_function()
    outer = dsave.jax_function(jnp.outer, [TensorSpec([None]), TensorSpec([2])])
    assert op(outer)[2] == [(None, 2)]


def test_what_changed_in_python_since_a_trace_is_exported_as_it_is_now(jnp):
    scale = [2.0]
    function = dsave.jax_function(lambda x: jnp.abs(x) * scale[0], [TensorSpec([2])])
    before = op(function)[0].attrs["module"]
    scale[0] = 5.0
    (again,) = function.traced_again()
    assert again.graph.nodes[-1].attrs["module"] != before
    assert function(np.array([1, -2], np.float32)).tolist() == [5, 10]


def test_the_same_code_is_the_same_bytes_whoever_exports_it(jax, jnp):
    limit = jax.config.jax_traceback_in_locations_limit
    function = dsave.jax_function(lambda x: jnp.abs(x) + 1, [TensorSpec([None])])
    (one,) = function.traced_again()

    def deeper():
        return function.traced_again()

    (other,) = deeper()
    assert one.graph.nodes[-1].attrs == other.graph.nodes[-1].attrs
    assert jax.config.jax_traceback_in_locations_limit == limit


@pytest.fixture
def attended(jnp):
    """Of queries of one length and keys of another."""

    def attend(q, k, mask):
        return jnp.where(mask[:, None, :], jnp.einsum("bsd,btd->bst", q, k), 0)

    return dsave.jax_function(
        attend,
        [
            TensorSpec(["b", "s", 4]),
            TensorSpec(["b", "t", 4]),
            TensorSpec(["b", "t"], "bool"),
        ],
    )


def test_extents_of_one_name_are_the_same(attended):
    assert op(attended)[2] == [(None, None, None)]
    arguments = attended.get_concrete_function().graph.arguments
    assert [spec.shape for spec in arguments][1:] == [(None, None, 4), (None, None)]


@pytest.mark.tf
def test_tensorflow_takes_extents_of_one_name(attended, run_in_tensorflow):
    rng = np.random.default_rng(0)
    q, k = rng.random((2, 3, 4), np.float32), rng.random((2, 5, 4), np.float32)
    mask = rng.random((2, 5)) < 0.5
    (found,) = run_in_tensorflow(attended, [q, k, mask])
    np.testing.assert_allclose(found, attended(q, k, mask), rtol=1e-5)


def test_names_given_to_others_are_none_of_the_users(jnp):
    function = dsave.jax_function(jnp.outer, [TensorSpec([None]), TensorSpec(["b"])])
    assert b"b_" in op(function)[0].attrs["module"]
    assert op(function)[2] == [(None, None)]


def test_it_can_be_part_of_a_numpy_function(jnp):
    inner = dsave.jax_function(jnp.sort, [TensorSpec([None])])

    @dsave.function(input_signature=[TensorSpec([3])])
    def outer(x):
        return inner(x + 1) * 2

    assert outer(np.array([3, 1, 2], np.float32)).tolist() == [4, 6, 8]
    concrete = outer.get_concrete_function()
    assert [node.op for node in concrete.graph.nodes if node.op != "Const"] == [
        "Placeholder",
        "AddV2",
        "XlaCallModule",
        "Mul",
    ]
    assert concrete.structured_outputs == TensorSpec([3])


def test_python_values_are_part_of_the_code(jnp):
    def power(x, exponent=2, *, negate=False):
        return -jnp.power(x, exponent) if negate else jnp.power(x, exponent)

    function = dsave.jax_function(power, [TensorSpec([2])])
    x = np.array([2, 3], np.float32)
    assert function(x).tolist() == [4, 9]
    assert function(x, 3).tolist() == [8, 27]
    assert function(x, negate=True).tolist() == [-4, -9]
    assert [source.op for source in op(function)[1]] == ["Placeholder"]


def test_a_function_without_arguments_is_traced_too(jnp):
    del jnp
    v = variable("v", (2,))
    function = dsave.jax_function(lambda v: v * 2, [], variables=v)
    node, sources, shapes = op(function)
    assert ([source.op for source in sources], shapes) == (["ReadVariableOp"], [(2,)])
    assert function.get_concrete_function().graph.outputs == (Output(1, 0),)
    assert node.name == "XlaCallModule"


def test_its_name_and_its_document_are_those_of_the_code(jnp):
    def serve(x):
        """Serve it."""
        return jnp.abs(x)

    function = dsave.jax_function(serve, [TensorSpec([])])
    assert (function.name, function.__doc__) == ("serve", "Serve it.")
    assert function.get_concrete_function().name == "serve"


def test_what_was_traced_runs_through_jax(jnp):
    w = variable("w", (3, 2))
    function = dsave.jax_function(
        lambda p, x: {"y": jnp.tanh(x @ p), "twice": jnp.concatenate([x, x])},
        [TensorSpec([None, 3])],
        variables=w,
        platforms=["tpu", "cpu", "cuda"],
    )
    values = {w: np.arange(6, dtype=np.float32).reshape(3, 2)}
    concrete = function.get_concrete_function()
    with reading(values.get):
        for rows in (1, 4, 1):
            x = np.linspace(-1, 1, rows * 3, dtype=np.float32).reshape(rows, 3)
            found, wanted = concrete(x), function(x)
            np.testing.assert_allclose(found["y"], wanted["y"], 1e-6)
            assert found["twice"].tolist() == wanted["twice"].tolist()


def test_shapes_that_the_code_does_not_take_are_refused_where_it_runs(jnp):
    function = dsave.jax_function(lambda x: x + 1, [TensorSpec([None])])
    message = r"^<lambda>, node XlaCallModule: XlaCallModule cannot be run: .*value >= 1"
    with pytest.raises(dsave.ModelError, match=message):
        function.get_concrete_function()(np.zeros(0, np.float32))
    del jnp


def test_code_for_other_platforms_is_not_run(jnp):
    function = dsave.jax_function(jnp.abs, [TensorSpec([2])], platforms=["tpu"])
    with pytest.raises(dsave.ModelError, match=r"^abs, .*is for tpu, and this JAX runs on"):
        function.get_concrete_function()(np.zeros(2, np.float32))


def called(module, result, version=9):
    """A function of one tensor that is an op of such code."""
    attrs = {"version": version, "module": module, "platforms": ["CPU"], "Tout": [result.dtype]}
    return dsave.function(
        lambda x: dsave.ops.call("XlaCallModule", [x], {**attrs, "Tin": [x.dtype]}, result)
    )


DOUBLED = """
func.func public @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = stablehlo.add %x, %x : tensor<2xf32>
  return %0 : tensor<2xf32>
}
"""

COUNTED = """
func.func public @main(%x: tensor<1xi32>) -> tensor<?xi32> {
  %0 = stablehlo.dynamic_iota %x, dim = 0 : (tensor<1xi32>) -> tensor<?xi32>
  return %0 : tensor<?xi32>
}
"""


def test_code_that_is_text_runs(jnp):
    del jnp
    concrete = called(DOUBLED, TensorSpec([2])).get_concrete_function(TensorSpec([2]))
    assert concrete(np.array([1, 2], np.float32)).tolist() == [2, 4]


def test_shapes_that_depend_on_values_are_refused(jnp):
    del jnp
    function = called(COUNTED, TensorSpec([None], "int32"))
    with pytest.raises(dsave.ModelError, match="do not follow from those of its arguments"):
        function.get_concrete_function(TensorSpec([1], "int32"))(np.array([3], np.int32))


def test_an_old_calling_convention_is_not_run(jnp):
    del jnp
    concrete = called(DOUBLED, TensorSpec([2]), 4).get_concrete_function(TensorSpec([2]))
    with pytest.raises(dsave.ModelError, match="calling convention 4; this JAX runs 9 to"):
        concrete(np.zeros(2, np.float32))


def test_what_was_traced_needs_jax_where_it_runs(jnp, monkeypatch):
    concrete = dsave.jax_function(jnp.abs, [TensorSpec([])]).get_concrete_function()
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(dsave.ModelError, match=r"^abs, .*JAX code; install dsave\[jax\]"):
        concrete(np.float32(1))


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex128"])
def test_wide_dtypes_run_where_jax_would_narrow_them(jax, dtype):
    function = dsave.jax_function(lambda x: x + x, [TensorSpec([None], dtype)])
    with jax.enable_x64(True):
        concrete = function.get_concrete_function()
    large = np.array([2.0**40, 1.0]).astype(dtype)
    assert not jax.config.jax_enable_x64
    assert concrete(large).dtype == dtype
    assert concrete(large).tolist() == (large + large).tolist()


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex128"])
def test_wide_dtypes_are_refused_where_jax_would_narrow_them(jax, dtype):
    function = dsave.jax_function(lambda x: x + x, [TensorSpec([2], dtype)])
    with pytest.raises(dsave.DtypeError, match=f"^dtype {dtype}: .*jax_enable_x64"):
        function(np.zeros(2, dtype))
    with pytest.raises(dsave.DtypeError, match=f"^dtype {dtype}: .*jax_enable_x64"):
        function.get_concrete_function()
    with jax.enable_x64(True):
        assert function(np.ones(2, dtype)).dtype == dtype
        assert op(function)[0].attrs["Tout"] == [dtype_of(dtype)]


@pytest.mark.parametrize("dtype", ["string", "qint8", "quint16"])
def test_dtypes_that_jax_has_not_are_refused(jnp, dtype):
    del jnp
    function = dsave.jax_function(lambda x: x, [TensorSpec([2], dtype)])
    with pytest.raises(dsave.DtypeError, match=f"^dtype {dtype}: JAX has no arrays"):
        function.get_concrete_function()


def test_results_that_are_objects_are_refused(jax):
    @jax.tree_util.register_dataclass
    @dataclass
    class Result:
        x: object

    function = dsave.jax_function(Result, [TensorSpec([])])
    with pytest.raises(dsave.TraceError, match="lists, tuples and dicts"):
        function.get_concrete_function()


def test_code_for_several_devices_is_refused(jax):
    mesh = jax.sharding.AbstractMesh((2,), ("a",))
    halves = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    function = dsave.jax_function(
        jax.jit(lambda x: x + 1, in_shardings=halves), [TensorSpec([4])]
    )
    with pytest.raises(dsave.TraceError, match="code for 1 device, not 2"):
        function.get_concrete_function()


def test_a_calling_convention_that_tensorflow_does_not_know_is_refused(jnp, monkeypatch):
    monkeypatch.setattr(jax_function, "_MAX_VERSION", 8)
    function = dsave.jax_function(jnp.abs, [TensorSpec([])])
    with pytest.raises(dsave.OptionError, match=r"^jax_export_calling_convention_version: "):
        function.get_concrete_function()


@pytest.mark.parametrize(
    ("platforms", "error"),
    [
        (["cpu", "xpu"], r"^platforms: 'xpu' is none of cpu, cuda, rocm, tpu"),
        ("cpu", r"^platforms: a list of names"),
        ([], r"^platforms: a list of names"),
        ([None], r"^platforms: a list of names"),
    ],
)
def test_platforms_that_there_are_not_are_refused(jnp, platforms, error):
    with pytest.raises((dsave.OptionError, dsave.OptionTypeError), match=error):
        dsave.jax_function(jnp.abs, [TensorSpec([])], platforms=platforms)


def test_what_is_no_variable_is_refused(jnp):
    with pytest.raises(dsave.OptionTypeError, match=r"^variables: dsave variables are wanted"):
        dsave.jax_function(jnp.add, [TensorSpec([])], variables=[np.zeros(3)])


def test_what_is_no_spec_is_refused(jnp):
    with pytest.raises(dsave.OptionTypeError, match=r"^input_signature: got"):
        dsave.jax_function(jnp.abs, [np.zeros(3)])


def test_without_jax_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(dsave.OptionError, match=r"^jax_function: .*install dsave\[jax\]"):
        dsave.jax_function(abs, [TensorSpec([])])
