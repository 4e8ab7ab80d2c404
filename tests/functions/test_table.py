"""Every op of the table: the same numbers from numpy, from its kernel and from TensorFlow.

- code that is traced gives what the same code gives when it runs, dtype and shape included
- TensorFlow takes each node with the attributes it has, and computes the same from it
- the shapes that are inferred are TensorFlow's, with extents known and unknown
- every op of the table, and every dtype that it is said to take, is tried
"""

from functools import cache

import numpy as np
import pytest

from dsave import TensorSpec, function, ops
from dsave.functions.structure import flatten
from dsave.functions.table import OPS
from dsave.model.dtype import DType, dtype_of

FLOAT = ["float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
SIGNED = ["int8", "int16", "int32", "int64"]
UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
REAL = FLOAT + SIGNED + UNSIGNED
ANY = REAL + COMPLEX + ["bool"]
F, M = ["float32"], ["float32", "int32"]
A, B, C = (3, 4), (2, 3, 4), (4, 5)


def normal(rng, shape, dtype):
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        low = 0 if dtype.kind == "u" else -5
        return rng.integers(low, 6, shape).astype(dtype)
    values = rng.normal(size=shape)
    if dtype.kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return np.asarray(values, dtype)


def positive(rng, shape, dtype):
    if dtype.kind in "iu":
        return rng.integers(1, 4, shape).astype(dtype)
    return np.asarray(np.abs(rng.normal(size=shape)) + 0.5, dtype)


def unit(rng, shape, dtype):
    return np.asarray(rng.uniform(-0.9, 0.9, shape), dtype)


def above(rng, shape, dtype):
    return np.asarray(rng.uniform(1.1, 3.0, shape), dtype)


def words(rng, shape, dtype):
    return rng.choice(np.array([b"a", b"b"], dtype), shape)


def index(rng, shape, dtype):
    return rng.integers(0, 3, shape).astype(dtype)


CASES = {
    # Elements.
    "add": (np.add, REAL + COMPLEX, [A, (4,)], normal),
    "add of bools": (np.add, ["bool"], [A, A], normal),
    "subtract": (np.subtract, REAL + COMPLEX, [A, (3, 1)], normal),
    "multiply": (np.multiply, REAL + COMPLEX + ["bool"], [A, ()], normal),
    "divide": (np.divide, FLOAT + COMPLEX, [A, A], positive),
    "divide ints": (np.divide, ["int8", "int32", "uint16", "bool"], [A, A], positive),
    "floor_divide": (np.floor_divide, REAL, [A, A], positive),
    "floor_divide below 0": (lambda x: -7 // x, SIGNED + FLOAT, [A], positive),
    "remainder": (np.remainder, REAL, [A, A], positive),
    "remainder below 0": (lambda x: -7 % x, [*SIGNED, "float32"], [A], positive),
    "divmod": (np.divmod, M, [A, A], positive),
    "power": (np.power, FLOAT + COMPLEX + SIGNED, [A, A], positive),
    "power by a number": (lambda x: x**2 + x**3.0, FLOAT, [A], positive),
    "float_power": (np.float_power, M, [A, A], positive),
    "maximum": (np.maximum, [*REAL, "bool"], [A, (4,)], normal),
    "minimum": (np.minimum, [*REAL, "bool"], [A, (4,)], normal),
    "arctan2": (np.arctan2, FLOAT, [A, A], normal),
    "comparisons": (
        lambda x, y: [x < y, x <= y, x > y, x >= y],
        REAL,
        [A, A],
        normal,
    ),
    "equalities": (lambda x, y: [x == y, x != y], ANY, [A, A], normal),
    "equalities of strings": (lambda x, y: [x == y, x != b"b"], ["string"], [A, A], words),
    "logic": (
        lambda x, y: [
            np.logical_and(x, y),
            np.logical_or(x, y),
            np.logical_xor(x, y),
            np.logical_not(x),
        ],
        ["bool", "int32", "float32"],
        [A, A],
        normal,
    ),
    "bits": (
        lambda x, y: [x & y, x | y, x ^ y, ~x],
        SIGNED + UNSIGNED + ["bool"],
        [A, A],
        normal,
    ),
    "shifts": (lambda x, y: [x << y, x >> y], SIGNED + UNSIGNED, [A, A], positive),
    "negative": (np.negative, FLOAT + SIGNED + COMPLEX, [A], normal),
    "positive": (lambda x: +x, M, [A], normal),
    "absolute": (abs, REAL + COMPLEX, [A], normal),
    "fabs": (np.fabs, M, [A], normal),
    "sign": (np.sign, FLOAT + SIGNED, [A], normal),
    "square": (np.square, REAL + COMPLEX, [A], normal),
    "sqrt": (np.sqrt, FLOAT + COMPLEX + ["int32", "uint8"], [A], positive),
    "reciprocal": (np.reciprocal, FLOAT + COMPLEX, [A], positive),
    "exp": (np.exp, FLOAT + COMPLEX + ["int16", "bool"], [A], normal),
    "exp2": (np.exp2, ["float32", "float64", "int32"], [A], normal),
    "expm1": (np.expm1, FLOAT + COMPLEX, [A], normal),
    "log": (np.log, FLOAT + COMPLEX, [A], positive),
    "log1p": (np.log1p, FLOAT + COMPLEX, [A], positive),
    "log2": (np.log2, ["float32", "float64", "int32"], [A], positive),
    "log10": (np.log10, ["float32", "float64", "int32"], [A], positive),
    "sin": (np.sin, FLOAT + COMPLEX, [A], normal),
    "cos": (np.cos, FLOAT + COMPLEX, [A], normal),
    "tan": (np.tan, FLOAT + COMPLEX, [A], unit),
    "arcsin": (np.arcsin, FLOAT + COMPLEX, [A], unit),
    "arccos": (np.arccos, FLOAT + COMPLEX, [A], unit),
    "arctan": (np.arctan, FLOAT + COMPLEX, [A], unit),
    "sinh": (np.sinh, FLOAT + COMPLEX, [A], normal),
    "cosh": (np.cosh, FLOAT + COMPLEX, [A], normal),
    "tanh": (np.tanh, FLOAT + COMPLEX, [A], normal),
    "arcsinh": (np.arcsinh, FLOAT + COMPLEX, [A], normal),
    "arccosh": (np.arccosh, FLOAT + COMPLEX, [A], above),
    "arctanh": (np.arctanh, FLOAT + COMPLEX, [A], unit),
    "floor": (np.floor, [*FLOAT, "int32"], [A], normal),
    "ceil": (np.ceil, [*FLOAT, "int32"], [A], normal),
    "rint": (np.rint, FLOAT, [A], normal),
    "rint of halves": (lambda x: np.rint(np.sign(x) * 2.5), F, [A], normal),
    "trunc": (np.trunc, ["float32", "float64"], [A], normal),
    "round": (lambda x: [np.round(x), np.round(x, 1), x.round(0)], ["float64"], [A], normal),
    "round to tens": (lambda x: np.round(x * 40, -1), ["float64"], [A], normal),
    "is": (
        lambda x: [f(np.log(x - 1)) for f in (np.isnan, np.isinf, np.isfinite)],
        FLOAT,
        [A],
        positive,
    ),
    "hypot": (np.hypot, F, [A, A], normal),
    "degrees": (lambda x: [np.degrees(x), np.deg2rad(x)], F, [A], normal),
    "clip": (lambda x: [np.clip(x, -1, 2), x.clip(0, None)], M, [A], normal),
    "where": (lambda x, y: np.where(x > y, x, y), REAL, [A, (4,)], normal),
    "where of a number": (lambda x: np.where(x > 0, x, 0.0), [*FLOAT, "int32"], [A], normal),
    "where of numbers": (lambda x: np.where(x, 1.5, 2), ["bool", "int32"], [A], normal),
    "where of parts": (lambda x, y: np.where(x == y, x, y), [*COMPLEX, "bool"], [A, A], normal),
    "parts": (lambda x: [x.real, x.imag, np.conjugate(x)], [*COMPLEX, "float32"], [A], normal),
    "mixed dtypes": (
        lambda x, y: [x + y.astype("int32"), x * np.float64(2), x - 2.5, 3 - x],
        ["float32", "float16", "int16", "uint8"],
        [A, A],
        positive,
    ),
    # Reductions.
    "sum": (
        lambda x: [x.sum(), np.sum(x, 0), np.sum(x, axis=(0, -1)), x.sum(-2, keepdims=True)],
        ANY,
        [B],
        positive,
    ),
    "sum in its dtype": (lambda x: np.sum(x, 1, dtype=x.dtype), REAL + COMPLEX, [B], positive),
    "prod": (lambda x: [x.prod(), np.prod(x, 1)], ANY, [A], positive),
    "prod in its dtype": (lambda x: np.prod(x, 1, dtype=x.dtype), REAL, [A], positive),
    "mean": (lambda x: [x.mean(), np.mean(x, (0, 1)), x.mean(2)], ANY, [B], positive),
    "mean in its dtype": (lambda x: np.mean(x, 1, dtype=x.dtype), FLOAT, [B], positive),
    "max": (lambda x: [x.max(), np.max(x, -1, keepdims=True)], [*REAL, "bool"], [B], normal),
    "min": (lambda x: [x.min(), np.min(x, 0)], [*REAL, "bool"], [B], normal),
    "all": (lambda x: [np.all(x, 0), x.any(-1), np.any(x)], ["bool", "int32"], [A], normal),
    "argmax": (lambda x: [np.argmax(x), x.argmax(1)], [*REAL, "bool"], [A], normal),
    "argmin": (lambda x: [x.argmin(0), np.argmin(x, 1, keepdims=True)], REAL, [A], normal),
    "argmax of all": (lambda x: np.argmax(x, keepdims=True), F, [A], normal),
    "var": (lambda x: [x.var(), np.var(x, 1, ddof=1), x.std(0)], M + COMPLEX, [A], normal),
    "norm": (lambda x: [np.linalg.norm(x), np.linalg.norm(x, axis=1)], M, [A], normal),
    "count_nonzero": (lambda x: np.count_nonzero(x, axis=0), M, [A], normal),
    "cumsum": (lambda x: [np.cumsum(x), x.cumsum(1)], ANY, [A], positive),
    "cumsum in its dtype": (lambda x: np.cumsum(x, 0, dtype=x.dtype), REAL, [A], positive),
    "cumprod": (lambda x: x.cumprod(-1, dtype=x.dtype), REAL + COMPLEX, [A], positive),
    # Products.
    "matmul": (np.matmul, [*FLOAT, *COMPLEX, "int32", "int64"], [A, C], normal),
    "matmul of batches": (np.matmul, [*FLOAT, *COMPLEX, "int32", "int64"], [B, C], normal),
    "matmul that broadcasts": (np.matmul, F, [(2, 1, 3, 4), (5, 4, 2)], normal),
    "matmul of vectors": (lambda x, y: [x @ y, x @ x, y.T @ x], F, [(4,), C], normal),
    "matrix by vector": (lambda x, y: x @ y, F, [B, (4,)], normal),
    "einsum": (
        lambda x, y: np.einsum("ij,jk->ik", x, y),
        ["float32", "float64", *COMPLEX, "int32", "int64"],
        [A, C],
        normal,
    ),
    "Einsum of half floats": (
        lambda x, y: ops.call("Einsum", [x, y], {"equation": "ij,jk->ik"}),
        ["float16", "bfloat16"],
        [A, C],
        normal,
    ),
    "einsum of batches": (
        lambda x, y: [np.einsum("...ij,jk", x, y), np.einsum("bij,jk->kb", x, y)],
        F,
        [B, C],
        normal,
    ),
    "einsum of three": (
        lambda x, y, z: np.einsum("i,ij,j->i", x, y, z),
        F,
        [(3,), A, (4,)],
        normal,
    ),
    "trace": (lambda x: [np.einsum("ii", x), np.einsum("ii->i", x)], F, [(3, 3)], normal),
    "dot": (lambda x, y: [np.dot(x, y), x.dot(2)], F, [B, C], normal),
    "tensordot": (
        lambda x, y: [np.tensordot(x, y, ([1, 2], [0, 1])), np.inner(y, y), np.dot(x, y.T)],
        F,
        [B, (3, 4, 5)],
        normal,
    ),
    "outer": (lambda x, y: [np.outer(x, y), np.vdot(x, x)], F, [(3,), A], normal),
    # Shapes.
    "reshape": (lambda x: [x.reshape(4, -1), np.reshape(x, (2, 6))], ANY, [A], normal),
    "reshape of one": (
        lambda x: [x.reshape(()), x.reshape([]) + 1, x.sum(())],
        M,
        [(1, 1)],
        normal,
    ),
    "reshape by shape": (lambda x: x.reshape((x.shape[0], 2, 2)), F, [A], normal),
    "reshape by ops.shape": (
        lambda x: x.reshape((ops.shape(x)[1], ops.shape(x)[0] * 2, 2)),
        F,
        [B],
        normal,
    ),
    "ravel": (lambda x: [np.ravel(x), x.flatten()], M, [B], normal),
    "transpose": (
        lambda x: [x.T, x.transpose(1, 0, 2), np.transpose(x, (2, 0, 1))],
        ANY,
        [B],
        normal,
    ),
    "swapaxes": (lambda x: [x.swapaxes(0, 2), np.moveaxis(x, 0, -1), x.mT], M, [B], normal),
    "moveaxis": (lambda x: np.moveaxis(x, (0, 1), (2, 0)), F, [B], normal),
    "expand_dims": (
        lambda x: [np.expand_dims(x, -1), np.expand_dims(x, (0, 2))],
        M,
        [A],
        normal,
    ),
    "squeeze": (lambda x: [np.squeeze(x, 0), x.squeeze((0, 2))], M, [(1, 3, 1)], normal),
    "concatenate": (
        lambda x, y: [np.concatenate([x, y]), np.concatenate((x, x, y), -1)],
        ANY,
        [A, A],
        normal,
    ),
    "concatenate of all": (lambda x, y: np.concatenate([x, y], None), F, [A, (2,)], normal),
    "stack": (lambda x, y: [np.stack([x, y]), np.stack([x, y], -1)], ANY, [A, A], normal),
    "stacks": (
        lambda x, y: [np.vstack([x, y]), np.hstack([x, y]), np.dstack([x, y])],
        F,
        [A, A],
        normal,
    ),
    "stacks of vectors": (
        lambda x, y: [np.vstack([x, y]), np.hstack([x, y]), np.dstack([x, y])],
        F,
        [(3,), (3,)],
        normal,
    ),
    "split": (
        lambda x: [np.split(x, 2, 1), np.split(x, [1], axis=0), np.split(x, [1, 3], -1)],
        M,
        [A],
        normal,
    ),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), ANY, [A], normal),
    "broadcast by ops.shape": (
        lambda x, y: np.broadcast_to(x, (ops.shape(y)[0], 4)),
        F,
        [(4,), A],
        normal,
    ),
    "tile": (lambda x: [np.tile(x, 2), np.tile(x, (2, 1, 3))], M, [A], normal),
    "tile of axes": (lambda x: np.tile(x, 2), F, [B], normal),
    "repeat": (
        lambda x: [np.repeat(x, 2), x.repeat(3, axis=0), np.repeat(x, 2, -1)],
        M,
        [A],
        normal,
    ),
    "pad": (
        lambda x: [np.pad(x, 1), np.pad(x, ((1, 0), (2, 1)), constant_values=3)],
        ["float32", "int32", "uint8"],
        [A],
        normal,
    ),
    "mirrored pad": (
        lambda x: [np.pad(x, 1, "reflect"), np.pad(x, (1, 2), "symmetric")],
        M,
        [A],
        normal,
    ),
    "flip": (lambda x: [np.flip(x), np.flip(x, 1)], M, [A], normal),
    "roll": (
        lambda x: [np.roll(x, 1), np.roll(x, -1, 1), np.roll(x, (1, 2), (0, 1))],
        M,
        [A],
        normal,
    ),
    "triangles": (
        lambda x: [np.tril(x), np.tril(x, 1), np.triu(x), np.triu(x, -1)],
        [*M, "bool"],
        [B],
        normal,
    ),
    "likes": (
        lambda x: [np.zeros_like(x), np.ones_like(x), np.full_like(x, 7)],
        ["float32", "int32", "bool", "bfloat16"],
        [A],
        normal,
    ),
    "likes in a dtype": (lambda x: np.ones_like(x, dtype="int64"), F, [A], normal),
    "shape": (lambda x: [ops.shape(x), x * ops.shape(x)[-1]], F, [A], normal),
    # Elements by place.
    "slices": (
        lambda x: [
            x[0],
            x[-1],
            x[1:],
            x[:, ::2],
            x[::-1, 1:3],
            x[..., -1],
            x[:, None, 1],
            x[1:-1],
        ],
        ANY,
        [A],
        normal,
    ),
    "slices of batches": (
        lambda x: [x[:, 1], x[0, ..., None, :2], x[1, 2, 3], x[()]],
        F,
        [B],
        normal,
    ),
    "slice by a tensor": (
        lambda x, y: [x[y[0]], x[: y[1]], x[y[1], None], x[y[0] : y[1]]],
        ["int32", "int64", "uint8"],
        [(3, 2), (2,)],
        index,
    ),
    "rows": (lambda x: [x[number] for number in range(3)], F, [A], normal),
    "gather": (
        lambda x: [x[[0, 2]], x[np.array([[-1, 0]])], np.take(x, [1, 3], 1), x[:, [0, 1]]],
        ANY,
        [A],
        normal,
    ),
    "gather by a tensor": (
        lambda x, y: [x[y], x.take(y, axis=1), ops.gather(np.eye(4, dtype="f"), y)],
        ["int8", "int32", "int64", "uint8"],
        [A, (2, 2)],
        index,
    ),
    "gather from the end": (lambda x, y: x[y - 3], ["int32", "int64"], [A, (2,)], index),
    "take of all": (lambda x: np.take(x, [0, 5]), F, [A], normal),
    # Casts.
    **{
        f"astype {dtype}": (
            lambda x, dtype=dtype: x.astype(dtype_of(dtype).numpy),
            [*ANY, "complex128"] if dtype == "complex64" else [*REAL, "bool"],
            [A],
            positive,
        )
        for dtype in ("float32", "bfloat16", "int32", "uint8", "bool", "complex64")
    },
    # Neural networks.
    "softmax": (lambda x: [ops.softmax(x), ops.softmax(x, 0)], [*FLOAT, "int32"], [B], normal),
    "log_softmax": (lambda x: ops.log_softmax(x, axis=1), FLOAT, [B], normal),
    "relu": (ops.relu, REAL, [A], normal),
    "sigmoid": (lambda x: [ops.sigmoid(x), ops.softplus(x)], FLOAT, [A], normal),
    "erf": (ops.erf, FLOAT, [A], normal),
    "gelu": (lambda x: [ops.gelu(x), ops.gelu(x, approximate=True)], FLOAT, [A], normal),
    "one_hot": (
        lambda x: [ops.one_hot(x, 4), ops.one_hot(x, 3, axis=0, dtype="int32", on_value=5)],
        ["uint8", "int8", "int16", "int32", "int64"],
        [A],
        index,
    ),
    "conv2d": (
        lambda x, f: [
            ops.conv2d(x, f),
            ops.conv2d(x, f, strides=2),
            ops.conv2d(x, f, strides=(1, 2), padding="VALID"),
            ops.conv2d(x, f, padding=((1, 2), (0, 1))),
            ops.conv2d(x, f, dilations=(1, 2)),
        ],
        FLOAT,
        [(2, 6, 7, 3), (3, 2, 3, 4)],
        normal,
    ),
    "conv2d in groups": (
        ops.conv2d,
        FLOAT,
        [(2, 6, 7, 6), (3, 2, 2, 9)],
        normal,
    ),
    "max_pool2d": (
        lambda x: [ops.max_pool2d(x, 2), ops.max_pool2d(x, (3, 2), strides=2, padding="SAME")],
        FLOAT + SIGNED + ["uint8", "uint16"],
        [(2, 5, 6, 3)],
        normal,
    ),
    "avg_pool2d": (
        lambda x: [ops.avg_pool2d(x, 2), ops.avg_pool2d(x, 3, strides=(1, 2), padding="SAME")],
        FLOAT,
        [(2, 5, 6, 3)],
        normal,
    ),
    # Ops that loaded graphs have, and no numpy function leads to.
    "Unpack": (
        lambda x: ops.call("Unpack", [x], {"num": 3, "axis": 0}),
        ["float32"],
        [A],
        normal,
    ),
    "Range": (
        lambda x: ops.call("Range", [x, x * 0 + 9, x * 0 + 2]),
        [*FLOAT, "int32", "int64"],
        [()],
        positive,
    ),
    "FloorDiv of floats": (
        lambda x, y: ops.call("FloorDiv", [x, y]),
        FLOAT,
        [A, A],
        positive,
    ),
    "ArgMax of int32": (
        lambda x: ops.call("ArgMax", [x, np.int32(0)], {"output_type": np.int32}),
        ["float32"],
        [A],
        normal,
    ),
    "MatMul of transposed": (
        lambda x, y: ops.call("MatMul", [x, y], {"transpose_a": True, "transpose_b": True}),
        ["float32", "bfloat16"],
        [(4, 3), (5, 4)],
        normal,
    ),
    "BatchMatMulV2 of adjoint": (
        lambda x, y: ops.call("BatchMatMulV2", [x, y], {"adj_x": True, "adj_y": True}),
        ["complex64", "bfloat16"],
        [(2, 4, 3), (2, 5, 4)],
        normal,
    ),
    "Cumsum reversed": (
        lambda x: [
            ops.call("Cumsum", [x, np.int32(1)], {"reverse": True}),
            ops.call("Cumprod", [x, np.int32(0)], {"exclusive": True}),
            ops.call("Cumsum", [x, np.int32(0)], {"exclusive": True, "reverse": True}),
        ],
        ["float32"],
        [A],
        normal,
    ),
    "GatherV2 of batches": (
        lambda x, y: ops.call("GatherV2", [x, y, np.int32(1)], {"batch_dims": 1}),
        ["int32"],
        [(3, 4, 2), (3, 2)],
        index,
    ),
    "StridedSlice with an ellipsis": (
        lambda x: ops.call(
            "StridedSlice",
            [x, *(np.array(n, np.int32) for n in ([0, 0, 1], [0, 0, 3], [1, 1, 1]))],
            {"ellipsis_mask": 1, "new_axis_mask": 2},
        ),
        ["float32"],
        [B],
        normal,
    ),
    "DepthwiseConv2dNative": (
        lambda x, f: [
            ops.call("DepthwiseConv2dNative", [x, f], {"strides": [1, s, s, 1], **how})
            for s, how in (
                (1, {"padding": "SAME"}),
                (2, {"padding": "VALID"}),
                (2, {"padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 2, 0, 1, 0, 0]}),
            )
        ],
        FLOAT,
        [(2, 6, 7, 3), (3, 2, 3, 2)],
        normal,
    ),
    "Conv2DBackpropInput": (
        lambda f, x: [
            ops.call(
                "Conv2DBackpropInput",
                [np.array(size, np.int32), f, x],
                {"strides": [1, 2, 3, 1], "padding": padding},
            )
            for size, padding in (((2, 7, 10, 3), "SAME"), ((2, 9, 12, 3), "VALID"))
        ],
        FLOAT,
        [(3, 2, 3, 4), (2, 4, 4, 4)],
        normal,
    ),
    "Conv3D": (
        lambda x, f: [
            ops.call("Conv3D", [x, f], {"strides": [1, 1, 2, 1, 1], "padding": padding})
            for padding in ("SAME", "VALID")
        ],
        FLOAT,
        [(2, 4, 5, 6, 3), (2, 3, 2, 3, 4)],
        index,  # small numbers, since TensorFlow adds up half floats as they are
    ),
    "Conv3DBackpropInputV2": (
        lambda f, x: ops.call(
            "Conv3DBackpropInputV2",
            [np.array([2, 4, 5, 7, 3], np.int32), f, x],
            {"strides": [1, 2, 2, 2, 1], "padding": "SAME"},
        ),
        FLOAT,
        [(2, 3, 2, 3, 4), (2, 2, 3, 4, 4)],
        normal,
    ),
    "pools of volumes": (
        lambda x: [
            ops.call(op, [x], {"ksize": [1, 2, 3, 2, 1], "strides": [1, 2, 2, 1, 1], **how})
            for op in ("MaxPool3D", "AvgPool3D")
            for how in ({"padding": "SAME"}, {"padding": "VALID"})
        ],
        ["bfloat16", "float32"],
        [(2, 4, 5, 6, 3)],
        normal,
    ),
    "FusedBatchNormV3": (
        lambda x, scale: ops.call(
            "FusedBatchNormV3",
            [x, *(scale.astype("float32") + np.float32(n) for n in range(4))],
            {"is_training": False, "epsilon": 0.01},
        )[:3],
        ["float16", "bfloat16", "float32"],
        [(2, 3, 4, 3), (3,)],
        positive,
    ),
    "FusedBatchNormV3 in training": (
        lambda x, scale: [
            *ops.call("FusedBatchNormV3", [x, *[scale] * 4], {"epsilon": 0.01})[:3],
            *ops.call("FusedBatchNormV3", [x, *[scale] * 4], {"exponential_avg_factor": 0.25})[
                :3
            ],
        ],
        ["float32"],
        [(2, 3, 4, 3), (3,)],
        positive,
    ),
    **{
        f"{op} {how}": (
            lambda x, op=op, how=how: [
                ops.call(op, [x, np.array(size, np.int32)], dict.fromkeys(how.split(), True))
                for size in ((7, 3), (2, 9), (1, 1))
            ],
            [*FLOAT, *SIGNED, "uint8", "uint16"],
            [(2, 4, 6, 3)],
            normal,
        )
        for op in ("ResizeBilinear", "ResizeNearestNeighbor")
        for how in ("", "align_corners", "half_pixel_centers")
    },
    "SpaceToDepth": (
        lambda x: ops.call("SpaceToDepth", [x], {"block_size": 2}),
        M,
        [(2, 4, 6, 3)],
        normal,
    ),
    "DepthToSpace": (
        lambda x: ops.call("DepthToSpace", [x], {"block_size": 2}),
        M,
        [(2, 2, 3, 12)],
        normal,
    ),
    "SpaceToBatchND": (
        lambda x: ops.call(
            "SpaceToBatchND",
            [x, np.array([2, 3], np.int32), np.array([[1, 0], [1, 1]], np.int32)],
        ),
        M,
        [(2, 3, 4, 2)],
        normal,
    ),
    "BatchToSpaceND": (
        lambda x: ops.call(
            "BatchToSpaceND",
            [x, np.array([2, 3], np.int32), np.array([[1, 0], [1, 1]], np.int32)],
        ),
        M,
        [(12, 2, 2, 2)],
        normal,
    ),
}


WITHIN = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 2e-5, "complex64": 5e-5}
"""How far results may be apart, relative to 1 or to the larger of them; others are exact."""


def tried(name):
    """Each dtype of a case, once with all extents known and once with none."""
    return [(dtype, unknown) for dtype in CASES[name][1] for unknown in (False, True)]


def arrays(name, dtype):
    _, _, shapes, values = CASES[name]
    rng = np.random.default_rng(list(name.encode()))
    return [values(rng, shape, dtype_of(dtype).numpy) for shape in shapes]


@cache
def traced(name, dtype, unknown):
    specs = [
        TensorSpec([None] * array.ndim if unknown else array.shape, array.dtype)
        for array in arrays(name, dtype)
    ]
    return function(CASES[name][0]).get_concrete_function(*specs)


def flat(results):
    return [np.asarray(leaf) for leaf in flatten(results)]


def assert_same(found, wanted, dtype):
    """Equal dtypes and shapes, and numbers as near as those of this dtype can be."""
    assert [array.dtype for array in found] == [array.dtype for array in wanted], dtype
    assert [array.shape for array in found] == [array.shape for array in wanted], dtype
    for one, other in zip(found, wanted, strict=True):
        if one.dtype.kind in "iub":
            np.testing.assert_array_equal(one, other, dtype)
        else:
            within = max(WITHIN.get(name, 1e-10) for name in (dtype, str(one.dtype)))
            wide = np.complex128 if one.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(
                one.astype(wide), other.astype(wide), within, within, err_msg=dtype
            )


@pytest.mark.parametrize("name", CASES)
def test_what_is_traced_gives_what_the_code_gives(name):
    for dtype, unknown in tried(name):
        given = arrays(name, dtype)
        with np.errstate(all="ignore"):
            wanted = flat(CASES[name][0](*given))
        assert_same(flat(traced(name, dtype, unknown)(*given)), wanted, dtype)


def test_every_op_is_tried_with_every_dtype_that_it_takes():
    kinds = {}
    for name in CASES:
        for dtype, unknown in tried(name):
            for node in traced(name, dtype, unknown).graph.nodes:
                if node.op in OPS:
                    op = OPS[node.op]
                    attrs = {**op.defaults, **node.attrs}
                    kinds.setdefault(node.op, set()).add(attrs.get(op.type_attr))
    assert set(OPS) <= set(kinds)
    for name, op in OPS.items():
        assert op.types is None or op.types <= kinds[name], name


def attr_value(tf, attr):
    """The message of an attribute."""
    message = tf.compat.v1.AttrValue()
    if isinstance(attr, DType):
        message.type = attr.number
    elif isinstance(attr, bool):
        message.b = attr
    elif isinstance(attr, int):
        message.i = attr
    elif isinstance(attr, float):
        message.f = attr
    elif isinstance(attr, bytes):
        message.s = attr
    elif isinstance(attr, np.ndarray):
        message.tensor.CopyFrom(tf.make_tensor_proto(attr, shape=attr.shape))
    elif isinstance(attr, tuple):
        message.shape.CopyFrom(tf.TensorShape(attr).as_proto())
    else:
        message.list.SetInParent()
        message.list.i.extend(attr)
    return message


def add_graph(tf, graph_def, prefix, graph):
    """Add a function's nodes to a graph, their names under a prefix."""
    for node in graph.nodes:
        added = graph_def.node.add(name=f"{prefix}/{node.name}", op=node.op)
        for source in node.inputs:
            added.input.append(f"{prefix}/{graph.nodes[source.node].name}:{source.index}")
        for key, attr in node.attrs.items():
            added.attr[key].CopyFrom(attr_value(tf, attr))


@pytest.fixture(scope="module")
def tensorflow(tf):
    """What TensorFlow makes of each case: its results, and the shapes of all nodes' outputs.

    All are one graph that runs once: a session for each would take a minute.
    """
    graphs = {(name, *how): traced(name, *how).graph for name in CASES for how in tried(name)}
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
    for number, graph in enumerate(graphs.values()):
        add_graph(tf, graph_def, f"case{number}", graph)
    fetched, fed, shapes = {}, {}, {}
    with tf.Graph().as_default() as whole:
        tf.import_graph_def(graph_def, name="")
        for number, (case, graph) in enumerate(graphs.items()):
            names = [f"case{number}/{node.name}" for node in graph.nodes]
            shapes[case] = [
                [tensor.shape for tensor in whole.get_operation_by_name(name).outputs]
                for name in names
            ]
            for name, array in zip(names, arrays(*case[:2]), strict=False):
                fed[f"{name}:0"] = array
            fetched[case] = [f"{names[out.node]}:{out.index}" for out in graph.outputs]
        config = tf.compat.v1.ConfigProto()
        # What is folded or rewritten is not what is asked about.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = -1
        with tf.compat.v1.Session(config=config) as session:
            results = session.run(fetched, fed)
    return results, shapes


@pytest.mark.tf
@pytest.mark.parametrize("name", CASES)
def test_tensorflow_computes_the_same(tensorflow, name):
    results, _ = tensorflow
    for dtype, unknown in tried(name):
        found = flat(traced(name, dtype, unknown)(*arrays(name, dtype)))
        assert_same(found, results[name, dtype, unknown], dtype)


@pytest.mark.tf
@pytest.mark.parametrize("name", CASES)
def test_shapes_are_inferred_as_tensorflow_infers_them(tensorflow, name):
    _, shapes = tensorflow
    for dtype, unknown in tried(name):
        nodes = traced(name, dtype, unknown).graph.nodes
        for node, theirs in zip(nodes, shapes[name, dtype, unknown], strict=True):
            for spec, shape in zip(node.outputs, theirs, strict=True):
                assert shape.is_compatible_with(spec.shape), (node.name, dtype)
                # Where TensorFlow knows an extent, so does the graph.
                ours = spec.shape if shape.rank is not None else ()
                extents = zip(ours, shape if ours else (), strict=True)
                assert all(n is not None for n, m in extents if m is not None), node.name


@pytest.mark.tf
def test_the_table_says_of_each_op_what_tensorflow_says(tf):
    from tensorflow.python.framework import op_def_registry

    for name, op in OPS.items():
        theirs = op_def_registry.get(name)
        for ours, args in ((op.inputs, theirs.input_arg), (op.outputs, theirs.output_arg)):
            assert [(arg.name, str(arg.dtype), arg.count or "") for arg in ours] == [
                (arg.name, arg.type_attr or tf.as_dtype(arg.type).name, arg.number_attr)
                for arg in args
            ], name
        defaults = {
            attr.name: attr.default_value
            for attr in theirs.attr
            if attr.HasField("default_value")
        }
        for key, default in op.defaults.items():
            assert attr_value(tf, default) == defaults[key], (name, key)
