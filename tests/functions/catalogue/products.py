"""Products of matrices, and sums of products."""

import numpy as np

from catalogue.case import COMPLEX, FLOAT, A, B, C, Case, F
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
}
