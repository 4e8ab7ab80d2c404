"""Ops that change shapes, put tensors together, repeat, reorder, cut and fill."""

import numpy as np

from catalogue.case import ANY, BATCH, KNOWN, A, B, Case, F, M
from dsave import ops

CASES = {
    "reshape": Case(lambda x: [x.reshape(4, -1), np.reshape(x, (2, 6))], ANY, [A], batches=()),
    "reshape of one": Case(
        lambda x: [x.reshape(()), x.reshape([]) + 1, x.sum(())], M, [(1, 1)], batches=()
    ),
    "reshape by shape": Case(lambda x: x.reshape((x.shape[0], 2, 2)), F, [A]),
    "reshape by ops.shape": Case(
        lambda x: x.reshape((ops.shape(x)[1], ops.shape(x)[0] * 2, 2)), F, [B]
    ),
    "ravel": Case(lambda x: [np.ravel(x), x.flatten()], M, [B]),
    "transpose": Case(
        lambda x: [x.T, x.transpose(1, 0, 2), np.transpose(x, (2, 0, 1))], ANY, [B]
    ),
    "swapaxes": Case(lambda x: [x.swapaxes(0, 2), np.moveaxis(x, 0, -1), x.mT], M, [B]),
    "moveaxis": Case(lambda x: np.moveaxis(x, (0, 1), (2, 0)), F, [B]),
    "expand_dims": Case(lambda x: [np.expand_dims(x, -1), np.expand_dims(x, (0, 2))], M, [A]),
    "squeeze": Case(
        lambda x: [np.squeeze(x, 0), x.squeeze((0, 2))], M, [(1, 3, 1)], batches=()
    ),
    "concatenate": Case(
        lambda x, y: [
            np.concatenate([x, y]),
            np.concatenate((x, x, y), -1),
            np.concatenate([x], 1),
        ],
        ANY,
        [A, A],
    ),
    "concatenate of all": Case(lambda x, y: np.concatenate([x, y], None), F, [A, (2,)]),
    "stack": Case(lambda x, y: [np.stack([x, y]), np.stack([x, y], -1)], ANY, [A, A]),
    "stacks": Case(
        lambda x, y: [np.vstack([x, y]), np.hstack([x, y]), np.dstack([x, y])], F, [A, A]
    ),
    "stacks of vectors": Case(
        lambda x, y: [np.vstack([x, y]), np.hstack([x, y]), np.dstack([x, y])], F, [(3,), (3,)]
    ),
    "split": Case(
        lambda x: [np.split(x, 2, 1), np.split(x, [1], axis=0), np.split(x, [1, 3], -1)], M, [A]
    ),
    "broadcast_to": Case(lambda x: np.broadcast_to(x, (2, 3, 4)), ANY, [A], batches=(1,)),
    "broadcast by ops.shape": Case(
        lambda x, y: np.broadcast_to(x, (ops.shape(y)[0], 4)), F, [(4,), A], batches=(1,)
    ),
    "tile": Case(lambda x: [np.tile(x, 2), np.tile(x, (2, 1, 3))], M, [A]),
    "tile of axes": Case(lambda x: np.tile(x, 2), F, [B]),
    "repeat": Case(
        lambda x: [np.repeat(x, 2), x.repeat(3, axis=0), np.repeat(x, 2, -1)], M, [A]
    ),
    "flip": Case(lambda x: [np.flip(x), np.flip(x, 1)], M, [A]),
    "roll": Case(
        lambda x: [
            np.roll(x, 1),
            np.roll(x, -1, 1),
            np.roll(x, (1, 2), (0, 1)),
            np.roll(x, (1, 2), 1),
            np.roll(x, 1, (0, 0)),
        ],
        M,
        [A],
    ),
    "roll by a tensor": Case(
        lambda x, y: [np.roll(x, y[0], 1), np.roll(x, y, (0, 1)), np.roll(x, y[1])],
        ["int32", "int8", "int64"],
        [A, (2,)],
        how=(BATCH, KNOWN),
    ),
    "triangles": Case(
        lambda x: [np.tril(x), np.tril(x, 1), np.triu(x), np.triu(x, -1)], [*M, "bool"], [B]
    ),
    "likes": Case(
        lambda x: [np.zeros_like(x), np.ones_like(x), np.full_like(x, 7)],
        ["float32", "int32", "bool", "bfloat16"],
        [A],
    ),
    # Of which TensorFlow's optimiser makes 0.
    "likes of uint32": Case(lambda x: [np.ones_like(x), x + np.ones_like(x)], ["uint32"], [A]),
    "likes of uint64": Case(lambda x: [np.ones_like(x), x + np.ones_like(x)], ["uint64"], [A]),
    "made of extents": Case(
        lambda x: [
            np.ones((x.shape[0], 2), like=x),
            np.full(x.shape, -1.5, like=x),
            np.arange(x.shape[0], like=x),
            np.array(x.shape, like=x),
            np.asarray([1, 2], like=x) + x.shape[0],
            np.zeros((2, 3), like=x),
            np.ones_like(np.empty(3, like=x)),
        ],
        M,
        [A],
    ),
    "empty_like": Case(lambda x: np.ones_like(np.empty_like(x)), F, [A]),
    "likes in a dtype": Case(lambda x: np.ones_like(x, dtype="int64"), F, [A]),
    "what is known of a shape": Case(
        lambda x: [x.reshape(np.shape(x)), x * np.ndim(x), x * np.size(x), x * x.size],
        M,
        [A],
        how=(KNOWN,),
    ),
    "shape": Case(lambda x: [ops.shape(x), x * ops.shape(x)[-1]], F, [A]),
}
