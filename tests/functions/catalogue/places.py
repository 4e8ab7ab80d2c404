"""Elements of tensors by their places."""

import numpy as np

from catalogue.case import ANY, A, B, Case, F, M, index
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
    # Of which TensorFlow's optimiser would lose the new axes.
    "a new axis in what is stacked": Case(
        lambda x: [
            np.stack([x.sum(), x.max(), x.min()])[1, None],
            np.stack([x[0], x[1]])[None, 1, None, ::-1, None],
        ],
        F,
        [A],
        batches=(5,),
    ),
    "one tensor stacked": Case(lambda x: np.stack([x, x], 1), ["uint16"], [A]),
    "slice by a tensor": Case(
        lambda x, y: [x[y[0]], x[: y[1]], x[y[1], None], x[y[0] : y[1]]],
        ["int32", "int64", "uint8"],
        [(3, 2), (2,)],
        index,
        batches=(5,),
    ),
    "rows": Case(lambda x: [x[number] for number in range(3)], F, [A], batches=()),
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
    # numpy's own rule of where the axes of arrays come to stand.
    "arrays of indices": Case(
        lambda x: [
            x[[0, 1], [1, -1]],
            x[[[0], [-1]], [1, 2]],
            x[:, [0, 1], [1, -1]],
            x[[0, 1], :, [1, -1]],
            x[[0, 1], ..., [1, 3]],
            x[[0, 1], [1, 0], [3, -1]],
            x[[0, 1], 1:, None, [[1], [2]]],
        ],
        ["float32", "int32", "bool", "complex64"],
        [B],
        batches=(5,),
    ),
    "arrays and numbers": Case(
        lambda x: [
            x[0, [0, 2]],
            x[[0, 1], 2],
            x[:, 0, [0, -1]],
            x[:, [0, -1], 1],
            x[0, :, [1, 2]],
            x[[0, 1], :, -1],
            x[0, ..., [1, 2]],
            x[0, None, [1, 2]],
            x[[1, 0], :, None],
            x[..., [1, 2], 0],
            x[-1, [0, 1], [1, 2]],
        ],
        F,
        [B],
        batches=(5,),
    ),
    "arrays that are tensors": Case(
        lambda x, y, z: [
            x[y, z],
            x[y[:, None], z],
            x[[[0], [1]], z - 3],
            x[0, z],
            x[:, z],
            x[..., z],
            x[y, :, None],
            x[y, :, z],
            x[:, y, z],
            x[y[0], z],
            x[z, y[1]],
        ],
        ["int32", "int64", "int8"],
        [(4, 3, 3), (2,), (2,)],
        index,
        batches=(5,),
    ),
    "rows and a place in each": Case(
        lambda x, y: x[np.arange(3), y], ["int32"], [A, (3,)], index, batches=()
    ),
    "masks that are known": Case(
        lambda x: [
            x[:, [True, False, True]],
            x[0][np.eye(3, 4) == 0],
            x[:, np.eye(3, 4) == 1],
            x[..., [False, True, True, False]],
            x[[0, 1], [True, False, True]],
            x[:, [True, False, False], :, None],
        ],
        F,
        [B],
        batches=(5,),
    ),
    "masks": Case(
        lambda x, y: [x[x > 1], x[y[:, 0] > 1], x[:, y[0] > 0, None], x[y > 0, 0], x[y > 9]],
        ["float32", "int8"],
        [B, (2, 3)],
    ),
    "where it is true": Case(
        lambda x: [
            np.argwhere(x),
            np.nonzero(x),
            x.nonzero(),
            np.flatnonzero(x),
            np.extract(x != 0, x),
            np.compress([False, True, True], x, 1),
            np.compress(x[:, 0] != 0, x, axis=0),
        ],
        ANY,
        [A],
    ),
    "broadcast_arrays": Case(
        lambda x, y, z: [*np.broadcast_arrays(x, y, z), *np.broadcast_arrays(x, z)],
        M,
        [(3, 1), (4,), (2, 1, 4)],
    ),
    "GatherNd by name": Case(
        lambda x: ops.call("GatherNd", [x, np.array([[0], [2]], np.int32)]),
        F,
        [A],
        batches=(5,),
    ),
}
