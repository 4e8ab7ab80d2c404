"""Ops that the table does not have compute what TensorFlow computes.

- every one of them, for the dtypes that models have
- what can be recorded is, and computes the same then; of the others the shape depends on values
"""

from functools import partial

import numpy as np
import pytest

import dsave
from dsave.functions.structure import flatten
from dsave.model.dtype import dtype_of
from dsave.savedmodel.composed import COMPOSED

pytestmark = pytest.mark.tf

FLOAT = ["float16", "bfloat16", "float32", "float64"]
INT = ["int32", "int64"]
F, M = ["float32"], ["float32", "int32"]
A = (3, 4)

# The op, the dtypes, and what it is given: shapes of tensors, which have the dtype, and arrays.
CASES = {
    "Add": (lambda raw, _, x, y: raw.Add(x=x, y=y), FLOAT + INT, A, (4,)),
    "AddN": (lambda raw, _, *x: raw.AddN(inputs=x), F, A, A, A),
    "BatchMatMul": (lambda raw, _, x, y: raw.BatchMatMul(x=x, y=y), F, (2, 3, 4), (2, 4, 5)),
    "BatchMatMulV3": (
        lambda raw, _, x, y: raw.BatchMatMulV3(x=x, y=y, adj_x=True, Tout=x.dtype),
        F,
        (2, 4, 3),
        (2, 4, 5),
    ),
    "BiasAdd": (lambda raw, _, x, b: raw.BiasAdd(value=x, bias=b), FLOAT, (2, 3, 4), (4,)),
    "Bucketize": (
        lambda raw, _, x: raw.Bucketize(input=x, boundaries=[-1.0, 0.5, 1.0]),
        ["float32", "float64", *INT],
        A,
    ),
    "ClipByValue": (
        lambda raw, _, x: raw.ClipByValue(t=x, clip_value_min=x[0, 0], clip_value_max=x[1, 1]),
        M,
        A,
    ),
    "DenseBincount": (
        lambda raw, _, x, w: [
            raw.DenseBincount(input=x, size=4, weights=w[:0], binary_output=False),
            raw.DenseBincount(input=x, size=4, weights=w[:0], binary_output=True),
            raw.DenseBincount(input=x[0], size=4, weights=w, binary_output=False),
        ],
        F,
        np.array([[0, 3, 3, 7], [1, 1, 2, 1]]),
        (4,),
    ),
    "Div": (lambda raw, _, x, y: raw.Div(x=x, y=y * y + 1), [*FLOAT, *INT, "int8"], A, A),
    "DivNoNan": (lambda raw, _, x, y: raw.DivNoNan(x=x, y=y), ["float32", "float64"], A, A),
    "Elu": (lambda raw, _, x: raw.Elu(features=x), FLOAT, A),
    "EnsureShape": (lambda raw, _, x: raw.EnsureShape(input=x, shape=[None, 4]), F, A),
    "Erfc": (lambda raw, _, x: raw.Erfc(x=x), ["float32", "float64"], A),
    "Gather": (
        lambda raw, _, x, i: raw.Gather(params=x, indices=i),
        M,
        A,
        np.array([[2, 0]]),
    ),
    "LeakyRelu": (
        lambda raw, _, x: [raw.LeakyRelu(features=x), raw.LeakyRelu(features=x, alpha=0.3)],
        FLOAT,
        A,
    ),
    "MulNoNan": (lambda raw, _, x, y: raw.MulNoNan(x=x, y=y), ["float32", "float64"], A, A),
    "Pad": (lambda raw, _, x: raw.Pad(input=x, paddings=[[1, 0], [2, 1]]), M, A),
    "Rank": (lambda raw, _, x: raw.Rank(input=x), F, A),
    "Relu6": (lambda raw, _, x: raw.Relu6(features=x), FLOAT + INT, A),
    "ResourceGather": (
        lambda raw, v, i: raw.ResourceGather(resource=v.handle, indices=i, dtype=v.dtype),
        F,
        np.array([[2, 0]]),
    ),
    "ResourceGatherNd": (
        lambda raw, v, i: raw.ResourceGatherNd(resource=v.handle, indices=i, dtype=v.dtype),
        F,
        np.array([[2, 0], [1, 3]]),
    ),
    "Rint": (lambda raw, _, x: raw.Rint(x=x), ["float32", "float64"], A),
    "Rsqrt": (lambda raw, _, x: raw.Rsqrt(x=x * x + 1), FLOAT, A),
    "Select": (
        lambda raw, _, x, y: [
            raw.Select(condition=x > y, x=x, y=y),
            raw.Select(condition=x[:, 0] > y[:, 0], x=x, y=y),
        ],
        M,
        A,
        A,
    ),
    "Selu": (lambda raw, _, x: raw.Selu(features=x), FLOAT, A),
    "Size": (lambda raw, _, x: [raw.Size(input=x), raw.Size(input=x, out_type="int64")], F, A),
    "Slice": (lambda raw, _, x: raw.Slice(input=x, begin=[1, 0], size=[2, -1]), M, A),
    "Softsign": (lambda raw, _, x: raw.Softsign(features=x), FLOAT, A),
    "SplitV": (
        lambda raw, _, x: raw.SplitV(value=x, size_splits=[1, -1, 2], axis=1, num_split=3),
        M,
        A,
    ),
    "SquaredDifference": (
        lambda raw, _, x, y: raw.SquaredDifference(x=x, y=y),
        FLOAT + INT,
        A,
        (4,),
    ),
    "TruncateDiv": (lambda raw, _, x, y: raw.TruncateDiv(x=x, y=y * y + 1), INT, A, A),
    "VariableShape": (lambda raw, v, x: raw.VariableShape(input=v.handle) + x, ["int32"], ()),
}

NOT_RECORDED = {"DenseBincount"}

WITHIN = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 1e-5}


def inputs(name, dtype):
    rng = np.random.default_rng(list(name.encode()))
    kind = dtype_of(dtype).numpy
    made = []
    for given in CASES[name][2:]:
        numbers = rng.integers(
            0 if kind.kind in "ub" else -4, 5, given if isinstance(given, tuple) else ()
        )
        drawn = np.asarray(numbers if kind.kind in "iub" else numbers / 2, kind)
        made.append(drawn if isinstance(given, tuple) else given)
    return made


@pytest.fixture(scope="module")
def both(tf, tmp_path_factory):
    """(the model of TensorFlow, what dsave loads of it): a function for each case and dtype."""
    model = tf.Module()
    model.v = tf.Variable(np.arange(12, dtype=np.float32).reshape(3, 4))
    model.functions = {}
    for name, (code, dtypes, *_) in CASES.items():
        for dtype in dtypes:
            specs = [tf.TensorSpec(each.shape, each.dtype) for each in inputs(name, dtype)]
            function = tf.function(partial(code, tf.raw_ops, model.v), autograph=False)
            model.functions[f"{name} {dtype}"] = function.get_concrete_function(*specs)
    directory = str(tmp_path_factory.mktemp("tf") / "composed")
    tf.saved_model.save(model, directory)
    return model.functions, dsave.load(directory).functions


def assert_same(found, wanted, dtype):
    found, wanted = (list(flatten(each)) for each in (found, wanted))
    for one, other in zip(found, (np.asarray(each) for each in wanted), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        within = WITHIN.get(dtype, 1e-10) if one.dtype.kind in "fV" else 0
        np.testing.assert_allclose(
            one.astype(np.float64), other.astype(np.float64), within, within, err_msg=dtype
        )


def test_every_op_is_tried():
    assert CASES.keys() == COMPOSED.keys()


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_tensorflow_computes(both, name):
    theirs, ours = both
    for dtype in CASES[name][1]:
        given = inputs(name, dtype)
        key = f"{name} {dtype}"
        wanted = theirs[key](*given)
        assert_same(ours[key](*given), wanted, dtype)


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_RECORDED))
def test_it_is_recorded_and_computes_the_same_then(both, name):
    theirs, ours = both
    for dtype in CASES[name][1]:
        given, key = inputs(name, dtype), f"{name} {dtype}"
        graph = ours[key].graph
        assert name not in [node.op for node in graph.nodes]
        assert_same(dsave.ConcreteFunction(graph)(*given), theirs[key](*given), dtype)


@pytest.mark.parametrize("name", sorted(NOT_RECORDED))
def test_what_depends_on_values_is_not_recorded(both, name):
    function = both[1][f"{name} {CASES[name][1][0]}"]
    with pytest.raises(dsave.TraceError):
        _ = function.graph
