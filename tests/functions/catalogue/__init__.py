"""The catalogue of what can be traced: cases of every op, and of every function of numpy.

Each is traced with a batch whose extent is unknown, for all its dtypes; and for one of them
with all extents known, and with none.
"""

import warnings
from functools import cache

import numpy as np

from catalogue import (
    by_name,
    elements,
    images,
    matrices,
    networks,
    order,
    pieces,
    places,
    products,
    reductions,
    shapes,
)
from catalogue.case import BATCH, KNOWN, OPEN
from dsave import TensorSpec, function
from dsave.functions.structure import flatten
from dsave.model.dtype import dtype_of

_PARTS = (
    *(elements, reductions, products, matrices, shapes, pieces, places, order),
    *(networks, images, by_name),
)
CASES = {name: case for part in _PARTS for name, case in part.CASES.items()}
assert len(CASES) == sum(len(part.CASES) for part in _PARTS), "a name is taken twice"

WITHIN = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 2e-5, "complex64": 5e-5}
"""How far results may be apart, relative to 1 or to the larger of them; others are exact."""


def dtypes(name, how):
    """The dtypes that a case is traced for: all, but one where that makes no difference."""
    every = CASES[name].dtypes
    return every if how == BATCH else [*(d for d in every if d == "float32"), *every][:1]


def inputs(name, how, size=None):
    """The arrays of a case by dtype, with a batch of its own size or of another."""
    case = CASES[name]
    rng = np.random.default_rng([*name.encode(), size or 0])
    shapes = [
        (size, *shape[1:]) if size and is_batch(case, shape) else shape for shape in case.shapes
    ]
    return {
        dtype: [case.values(rng, shape, dtype_of(dtype).numpy) for shape in shapes]
        for dtype in dtypes(name, how)
    }


def is_batch(case, shape):
    return shape[:1] == case.shapes[0][:1] != ()


def tried(name):
    """Each way to trace a case, with the arrays to run it on."""
    for how in CASES[name].how:
        for size in [None, *([] if how == KNOWN else CASES[name].batches)]:
            yield how, inputs(name, how, size)


def code(name):
    """From arrays or tensors by dtype to the results by dtype."""
    return lambda given: {dtype: CASES[name].code(*given[dtype]) for dtype in given}


def specs(name, how):
    """What a case is traced for: TensorSpecs by dtype."""
    case = CASES[name]

    def extents(shape):
        if how == BATCH and is_batch(case, shape):
            return (None, *shape[1:])
        return [None] * len(shape) if how == OPEN else shape

    return {
        dtype: [TensorSpec(extents(shape), dtype) for shape in case.shapes]
        for dtype in dtypes(name, how)
    }


@cache
def function_of(name, how):
    """The function of a case, which is traced once."""
    return function(code(name), input_signature=[specs(name, how)])


def traced(name, how):
    return function_of(name, how).get_concrete_function()


def wanted(name, given):
    """What numpy computes: the flat results by dtype."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return by_dtype(code(name)(given))


def by_dtype(results):
    return {
        dtype: [np.asarray(leaf) for leaf in flatten(each)] for dtype, each in results.items()
    }


def assert_same(found, expected):
    """Equal dtypes and shapes, and numbers as near as those of this dtype can be."""
    for dtype, arrays in expected.items():
        assert [array.dtype for array in found[dtype]] == [a.dtype for a in arrays], dtype
        assert [array.shape for array in found[dtype]] == [a.shape for a in arrays], dtype
        for one, other in zip(found[dtype], arrays, strict=True):
            if not np.array_equal(one, other):
                assert_near(one, other, dtype)


def assert_near(one, other, dtype):
    if one.dtype.kind in "iubO":
        np.testing.assert_array_equal(one, other, dtype)
    within = max(WITHIN.get(name, 1e-10) for name in (dtype, str(one.dtype)))
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(
        one.astype(wide), other.astype(wide), within, within, err_msg=dtype
    )
