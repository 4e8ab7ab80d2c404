"""Elements in order, and places in what is in order."""

import numpy as np

from catalogue.case import COMPLEX, REAL, A, B, Case, M, index
from dsave import ops


def few(rng, shape, dtype):
    """Numbers of which many are equal, -0 and nan among those of floats."""
    values = rng.integers(0, 3, shape).astype(dtype)
    if dtype.kind in "iub":
        return values
    values[rng.random(shape) < 0.2] = -0.0
    values[rng.random(shape) < 0.2] = np.inf
    values[rng.random(shape) < 0.1] = -np.inf
    if dtype.kind == "f":  # among bfloat16 numpy puts nan anywhere
        values[rng.random(shape) < 0.2] = np.nan
    return values


CASES = {
    "sort": Case(
        lambda x: [np.sort(x), np.sort(x, 0), np.sort(x, None)], [*REAL, "bool"], [B], few
    ),
    "argsort": Case(
        lambda x: [
            np.argsort(x, kind="stable"),
            x.argsort(0, kind="stable"),
            np.argsort(x, None, kind="stable"),
        ],
        [*REAL, "bool"],
        [B],
        few,
    ),
    # What is on each side of a place is in no order.
    "partition": Case(
        lambda x: [
            np.sort(np.partition(x, 2)[..., :3]),
            np.partition(x, 1, axis=0)[1],
            np.take_along_axis(x, np.argpartition(x, 2), -1)[..., 2],
            np.take_along_axis(x, x.argpartition(2), -1)[..., 2],
        ],
        M,
        [A],
        batches=(5,),
    ),
    "top_k": Case(
        lambda x: [*ops.top_k(x, 2), *ops.top_k(x, 1, axis=0), *ops.top_k(x, np.int64(3))],
        [*REAL, "bool"],
        [B],
        index,
    ),
    "top_k of a tensor": Case(
        lambda x, y: [*ops.top_k(x, y[0] + 1)], ["int32", "uint8"], [A, (1,)], index, batches=()
    ),
    "take_along_axis": Case(
        lambda x, y: [
            np.take_along_axis(x, y, 1),
            np.take_along_axis(x, y - 3, axis=1),
            np.take_along_axis(x, y[0], None),
            np.take_along_axis(x, np.argmax(x, -1)[:, None], -1),
            np.take_along_axis(x, np.array([[0, -1, 2, 1]]), 0),
        ],
        ["int32", "int8", "int64"],
        [A, (3, 2)],
        index,
        batches=(5,),
    ),
    "take_along_axis that broadcasts": Case(
        lambda x, y: [
            np.take_along_axis(x, y, 1),
            np.take_along_axis(y, x, axis=-1),
            np.take_along_axis(y, np.array([[[0, 1]]]), -1),
        ],
        ["int32"],
        [(2, 3, 1), (1, 3, 2)],
        lambda *given: index(*given) % 2,
        batches=(1, 3),
    ),
    "searchsorted": Case(
        lambda x, y: [
            np.searchsorted(np.sort(x), y),
            np.searchsorted(np.sort(x), y, side="right"),
            np.sort(x).searchsorted(y[0]),
            np.searchsorted(x, y[0, 0], sorter=np.argsort(x)),
            np.searchsorted(np.arange(3).astype(y.dtype), y),
        ],
        [*REAL, "bool"],
        [(4,), (3, 2)],
    ),
    "digitize": Case(
        lambda x: [
            np.digitize(x, [-1, 0, 2]),
            np.digitize(x, [-1, 0, 2], right=True),
            np.digitize(x, [2, 0, -1]),
            np.digitize(x, [2, 0, -1], right=True),
        ],
        M,
        [A],
    ),
    "Bitcast": Case(
        lambda x: [
            ops.call("Bitcast", [x], {"type": np.uint8}),
            ops.call(
                "Bitcast", [ops.call("Bitcast", [x], {"type": np.uint8})], {"type": x.dtype}
            ),
        ],
        [*REAL, *COMPLEX],
        [A],
    ),
}
