"""Diagonals, norms, and systems of equations."""

import numpy as np

from catalogue.case import ANY, A, Case, normal

WIDE = ["float32", "float64", "complex64", "complex128"]


def regular(rng, shape, dtype):
    """Matrices that can be inverted, positive definite ones; or vectors."""
    values = normal(rng, shape, dtype)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        return values
    square = values @ np.conjugate(np.swapaxes(values, -1, -2))
    return (square + 4 * np.eye(shape[-1])).astype(dtype)


CASES = {
    "diagonal": Case(
        lambda x: [
            np.diagonal(x),
            x.diagonal(1, 1, 2),
            np.diagonal(x, -1, axis1=2, axis2=0),
            x.trace(),
            np.trace(x, 1, -1, 1),
        ],
        ANY,
        [(3, 3, 4)],
        batches=(5,),
    ),
    "diag": Case(
        lambda x, y: [np.diag(x), np.diag(x, 2), np.diag(x, -1), np.diag(y), np.diag(y, -1)],
        ANY,
        [(4,), A],
        batches=(1,),
    ),
    "inv": Case(
        lambda x: [np.linalg.inv(x), np.linalg.det(x), *np.linalg.slogdet(x)],
        [*WIDE, "int32"],
        [(2, 3, 3)],
        regular,
    ),
    "solve": Case(
        lambda x, y: [
            np.linalg.solve(x, y),
            np.linalg.solve(x[0], y[0, 0]),
            np.linalg.solve(x[0], y),
            np.linalg.solve(np.eye(3, dtype=x.dtype), x),
        ],
        [*WIDE, "int32"],
        [(2, 3, 3), (4, 1, 3, 3)],
        regular,
    ),
    "cholesky": Case(lambda x: [np.linalg.cholesky(x)], [*WIDE, "int32"], [(2, 3, 3)], regular),
    "norm": Case(
        lambda x: [
            np.linalg.norm(x),
            np.linalg.norm(x[0], 2),
            np.linalg.norm(x, axis=1),
            *(np.linalg.norm(x, n, axis=1) for n in (0, 1, 2, 3, 2.5, np.inf, -np.inf)),
            *(np.linalg.norm(x, n) for n in (1, -1, np.inf, -np.inf, "fro")),
            np.linalg.norm(x, 1, axis=(1, 0), keepdims=True),
        ],
        ["float32", "float64", "int32", "complex64"],
        [A],
    ),
}
