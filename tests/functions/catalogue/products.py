"""Products of matrices, and sums of products."""

import numpy as np

from catalogue.case import COMPLEX, FLOAT, A, B, C, Case, F, M
from dsave import ops

CASES = {
    "matmul": Case(np.matmul, [*FLOAT, *COMPLEX, "int32", "int64"], [A, C]),
    "matmul of batches": Case(np.matmul, [*FLOAT, *COMPLEX, "int32", "int64"], [B, C]),
    "matmul that broadcasts": Case(np.matmul, F, [(2, 1, 3, 4), (5, 4, 2)]),
    "matmul of vectors": Case(lambda x, y: [x @ y, x @ x, y.T @ x], F, [(4,), C]),
    "matrix by vector": Case(lambda x, y: x @ y, F, [B, (4,)]),
    "einsum": Case(
        lambda x, y: np.einsum("ij,jk->ik", x, y),
        ["float32", "float64", *COMPLEX, "int32", "int64"],
        [A, C],
    ),
    "Einsum of half floats": Case(
        lambda x, y: ops.call("Einsum", [x, y], {"equation": "ij,jk->ik"}),
        ["float16", "bfloat16"],
        [A, C],
    ),
    "einsum of batches": Case(
        lambda x, y: [np.einsum("...ij,jk", x, y), np.einsum("bij,jk->kb", x, y)], F, [B, C]
    ),
    "einsum of three": Case(
        lambda x, y, z: np.einsum("i,ij,j->i", x, y, z), F, [(3,), A, (4,)]
    ),
    "trace": Case(
        lambda x: [np.einsum("ii", x), np.einsum("ii->i", x)], F, [(3, 3)], batches=()
    ),
    "dot": Case(lambda x, y: [np.dot(x, y), x.dot(2)], F, [B, C]),
    "tensordot": Case(
        lambda x, y: [np.tensordot(x, y, ([1, 2], [0, 1])), np.inner(y, y), np.dot(x, y.T)],
        F,
        [B, (3, 4, 5)],
    ),
    "outer": Case(lambda x, y: [np.outer(x, y), np.vdot(x, x)], F, [(3,), A]),
    "products of other integers": Case(
        lambda x, y: [x @ y, np.einsum("ij,jk", x * 50, y * 50), np.dot(x, x[0])],
        ["int8", "int16", "uint8", "uint16", "uint32", "uint64", "bool"],
        [A, C],
    ),
    "einsum of lists": Case(
        lambda x, y: [
            np.einsum(x, [0, 1], y, [1, 2], [2, 0]),
            np.einsum(x, [0, 1], y, [1, 2]),
            np.einsum(x, [Ellipsis, 3], y, [3, 4], [Ellipsis, 4]),
        ],
        M,
        [A, C],
    ),
    "vecdot": Case(
        lambda x, y: (
            [np.vecdot(x, y), np.vecdot(x, y[0], axis=-1), np.vecdot(x, x, axis=0)]
            if hasattr(np, "vecdot")
            else x
        ),
        ["float32", "int8", "bool", "complex64"],
        [A, A],
    ),
}
