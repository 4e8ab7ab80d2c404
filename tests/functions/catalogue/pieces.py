"""What takes tensors apart, puts them together, turns them, and puts something around them."""

import numpy as np

from catalogue.case import BATCH, KNOWN, A, B, Case, F, M, index

NEW = hasattr(np, "unstack")

CASES = {
    "array_split": Case(
        lambda x: [
            np.array_split(x, 3, 1),
            np.array_split(x, 5, axis=-1),
            np.array_split(x, [1, 3], 1),
            np.hsplit(x, 2),
            np.hsplit(x, [3]),
            np.vsplit(x, [1]),
            np.dsplit(x[..., None], 1),
            np.hsplit(x[0], 2),
        ],
        M,
        [A],
        how=(BATCH, KNOWN),
    ),
    "column_stack": Case(
        lambda x, y: [np.column_stack([x, y, x]), np.column_stack((y, y))], M, [A, (3,)]
    ),
    "append": Case(
        lambda x, y: [np.append(x, y), np.append(x, y[None], 0), np.append(x, 7)], F, [A, (4,)]
    ),
    "atleast": Case(
        lambda x, y, z: [
            np.atleast_1d(z),
            np.atleast_2d(x, y, z),
            np.atleast_3d(y),
            np.atleast_3d(x),
            np.atleast_3d(z),
        ],
        F,
        [A, (4,), ()],
    ),
    "block": Case(
        lambda x, y: [
            np.block([[x, x], [y[None], y]]),
            np.block([y, y, 1]),
            np.block([[x], [y]]),
            np.block([x]),
        ],
        F,
        [A, (4,)],
    ),
    "meshgrid": Case(
        lambda x, y: [
            *np.meshgrid(x, y),
            *np.meshgrid(x, y, [1, 2], indexing="ij"),
            *np.meshgrid(y, x, sparse=True),
            *np.meshgrid(x),
        ],
        F,
        [(3,), (4,)],
    ),
    "diff": Case(
        lambda x: [
            np.diff(x),
            np.diff(x, 2),
            np.diff(x, axis=0),
            np.diff(x, n=0),
            np.diff(x, prepend=0),
            np.diff(x, append=x[:, :1], axis=1),
        ],
        ["float32", "int8", "uint8"],
        [A],
    ),
    "diff of bools": Case(np.diff, ["bool"], [A]),
    "turns": Case(
        lambda x: [
            np.fliplr(x),
            np.flipud(x),
            *(np.rot90(x, k) for k in range(-1, 5)),
            np.rot90(x[..., None], 1, (2, 0)),
        ],
        M,
        [A],
    ),
    "new names": Case(
        lambda x: [
            np.astype(x, "int64") if NEW else x.astype("int64"),
            np.matrix_transpose(x) if NEW else x.swapaxes(-1, -2),
            np.unstack(x, axis=1) if NEW else tuple(np.moveaxis(x, 1, 0)),
        ],
        M,
        [B],
        how=(BATCH, KNOWN),
    ),
    "kron": Case(
        lambda x, y: [np.kron(x, y), np.kron(y, x[0]), np.kron(x[0], 2)], M, [A, (2, 3)]
    ),
    "cross": Case(
        lambda x, y: [
            np.cross(x, y),
            np.cross(x, y[0]),
            np.cross(x.T, y.T, axis=0),
            np.cross(x, y, axisc=0),
        ],
        M,
        [(5, 3), (5, 3)],
        batches=(1, 4),
        how=(BATCH, KNOWN),
    ),
    "pad": Case(
        lambda x: [np.pad(x, 1), np.pad(x, ((1, 0), (2, 1)), constant_values=3)],
        ["float32", "int32", "uint8"],
        [A],
    ),
    "pad with several values": Case(
        lambda x: [
            np.pad(x, 2, constant_values=((1, 2), (3, 4))),
            np.pad(x, ((1, 0), (2, 1)), "constant", constant_values=(1, 2)),
        ],
        M,
        [A],
    ),
    "pad with elements": Case(
        lambda x: [
            np.pad(x, ((2, 1), (0, 5)), mode)
            for mode in ("edge", "wrap", "reflect", "symmetric")
        ],
        M,
        [A],
    ),
    "mirrored pad": Case(
        lambda x: [np.pad(x, ((0, 0), (1, 3)), "reflect"), np.pad(x, (1, 2), "symmetric")],
        M,
        [A],
        batches=(2, 5),
    ),
    "take beyond the ends": Case(
        lambda x, y: [
            np.take(x, [-3, 0, 9], 1, mode="clip"),
            np.take(x, [[-3], [9]], 0, mode="wrap"),
            x.take(y * 3 - 4, axis=1, mode="clip"),
            x.take(y * 3 - 4, mode="wrap"),
        ],
        ["int32", "int8", "int64"],
        [A, (2, 2)],
        index,
    ),
}
