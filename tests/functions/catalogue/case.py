"""A case of the catalogue: code, and the inputs that it is tried on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT = ["float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
SIGNED = ["int8", "int16", "int32", "int64"]
UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
REAL = FLOAT + SIGNED + UNSIGNED
ANY = REAL + COMPLEX + ["bool"]
F, M = ["float32"], ["float32", "int32"]
A, B, C = (3, 4), (2, 3, 4), (4, 5)

BATCH, KNOWN, OPEN = HOW = ("batch", "known", "open")
"""Which extents are known while the code is traced: all but the batch, all, none."""


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


@dataclass(frozen=True)
class Case:
    """Code, and the dtypes, the shapes and the values of its inputs.

    Axis 0 of the first input, and of those that are as long, is the batch. Where its extent is
    unknown to the trace, the code runs on batches of these sizes too. `how` are the ways in
    which it can be traced.
    """

    code: Callable[..., Any]
    dtypes: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    values: Callable[..., Any] = normal
    batches: tuple[int, ...] = (1, 5)
    how: tuple[str, ...] = HOW
