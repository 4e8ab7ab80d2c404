"""Elements of tensors by their places."""

import numpy as np

from catalogue.case import ANY, A, B, Case, F, index
from dsave import ops

CASES = {
    "slices": Case(
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
    ),
    "slices of batches": Case(
        lambda x: [x[:, 1], x[0, ..., None, :2], x[1, 2, 3], x[()]], F, [B], batches=(5,)
    ),
    "slice by a tensor": Case(
        lambda x, y: [x[y[0]], x[: y[1]], x[y[1], None], x[y[0] : y[1]]],
        ["int32", "int64", "uint8"],
        [(3, 2), (2,)],
        index,
        batches=(5,),
    ),
    "rows": Case(
        lambda x: list(x) if None not in x.shape else [x[0], x[1], x[2]], F, [A], batches=()
    ),
    "gather": Case(
        lambda x: [x[[0, 2]], x[np.array([[-1, 0]])], np.take(x, [1, 3], 1), x[:, [0, 1]]],
        ANY,
        [A],
        batches=(5,),
    ),
    "gather by a tensor": Case(
        lambda x, y: [x[y], x.take(y, axis=1), ops.gather(np.eye(4, dtype="f"), y)],
        ["int8", "int32", "int64", "uint8"],
        [A, (2, 2)],
        index,
        batches=(5,),
    ),
    "gather from the end": Case(
        lambda x, y: x[y - 3], ["int32", "int64"], [A, (2,)], index, batches=(5,)
    ),
    "take of all": Case(lambda x: np.take(x, [0, 5]), F, [A], batches=(5,)),
}
