"""Ops that reduce axes, or accumulate along one."""

import numpy as np

from catalogue.case import (
    ANY,
    BATCH,
    COMPLEX,
    FLOAT,
    KNOWN,
    REAL,
    A,
    B,
    Case,
    F,
    M,
    normal,
    positive,
)


def gaps(rng, shape, dtype):
    """Numbers, among those of floats some nan."""
    values = normal(rng, shape, dtype)
    if dtype.kind == "f":
        values.ravel()[rng.integers(0, values.size, values.size // 4)] = np.nan
    return values


CASES = {
    "sum": Case(
        lambda x: [x.sum(), np.sum(x, 0), np.sum(x, axis=(0, -1)), x.sum(-2, keepdims=True)],
        ANY,
        [B],
        positive,
    ),
    "sum in its dtype": Case(
        lambda x: np.sum(x, 1, dtype=x.dtype), REAL + COMPLEX, [B], positive
    ),
    "prod": Case(lambda x: [x.prod(), np.prod(x, 1)], ANY, [A], positive),
    "prod in its dtype": Case(lambda x: np.prod(x, 1, dtype=x.dtype), REAL, [A], positive),
    "mean": Case(lambda x: [x.mean(), np.mean(x, (0, 1)), x.mean(2)], ANY, [B], positive),
    "mean in its dtype": Case(lambda x: np.mean(x, 1, dtype=x.dtype), FLOAT, [B], positive),
    "max": Case(lambda x: [x.max(), np.amax(x, -1, keepdims=True)], [*REAL, "bool"], [B]),
    "min": Case(lambda x: [x.min(), np.amin(x, 0)], [*REAL, "bool"], [B]),
    "all": Case(lambda x: [np.all(x, 0), x.any(-1), np.any(x)], ["bool", "int32"], [A]),
    "argmax": Case(lambda x: [np.argmax(x), x.argmax(1)], [*REAL, "bool"], [A]),
    "argmin": Case(lambda x: [x.argmin(0), np.argmin(x, 1, keepdims=True)], REAL, [A]),
    "argmax of all": Case(lambda x: np.argmax(x, keepdims=True), F, [A]),
    "var": Case(lambda x: [x.var(), np.var(x, 1, ddof=1), x.std(0)], M + COMPLEX, [A]),
    "count_nonzero": Case(lambda x: np.count_nonzero(x, axis=0), M, [A]),
    "cumsum": Case(lambda x: [np.cumsum(x), x.cumsum(1)], ANY, [A], positive),
    "cumsum in its dtype": Case(lambda x: np.cumsum(x, 0, dtype=x.dtype), REAL, [A], positive),
    "cumprod": Case(lambda x: x.cumprod(-1, dtype=x.dtype), REAL + COMPLEX, [A], positive),
    "reductions of some": Case(
        lambda x: [
            np.sum(x, where=x > 1),
            x.sum(1, where=[True, False, True, True]),
            np.prod(x, 0, where=x < 3),
            np.mean(x, axis=1, where=x[0] < 9),
            np.max(x, 1, where=x > 1, initial=0),
            np.min(x, where=x > 1, initial=7),
            np.all(x, 0, where=x > 1),
            np.any(x, where=x > 99),
            np.var(x, 0, where=x < 99),
            np.std(x, where=x < 99, ddof=1),
        ],
        ["float32", "float16", "int32", "uint8"],
        [A],
        positive,
    ),
    "reductions from a start": Case(
        lambda x: [
            np.sum(x, initial=2),
            np.sum(x, 0, initial=2.5, dtype=np.float64),
            np.prod(x, 1, initial=3),
            np.max(x, initial=3),
            x.min(0, initial=1),
            np.var(x, correction=1) if hasattr(np, "astype") else np.var(x, ddof=1),
        ],
        M,
        [A],
        positive,
    ),
    "ufuncs that reduce": Case(
        lambda x: [
            np.add.reduce(x),
            np.add.reduce(x, -1, dtype=np.float64, keepdims=True),
            np.multiply.reduce(x, axis=(0, 1)),
            np.maximum.reduce(x, None),
            np.minimum.reduce(x, 1, initial=2, where=x > 1),
            np.logical_and.reduce(x),
            np.logical_or.reduce(x, axis=None),
        ],
        ["float32", "int8"],
        [A],
    ),
    "ufuncs that accumulate": Case(
        lambda x: [
            np.add.accumulate(x),
            np.multiply.accumulate(x, 1),
            *(
                ufunc.accumulate(x, axis=1)
                for ufunc in (np.maximum, np.minimum, np.logical_and, np.logical_or)
            ),
        ],
        ["float32", "int32", "bool"],
        [(3, 5)],
        how=(BATCH, KNOWN),
    ),
    "ufunc of floats that accumulates": Case(
        lambda x: np.logaddexp.accumulate(x, -1),
        ["float32", "float64"],
        [A],
        how=(BATCH, KNOWN),
    ),
    "outer products of ufuncs": Case(
        lambda x, y: [np.add.outer(x, y), np.less.outer(y, 2), np.hypot.outer(x, x[0])],
        ["float32"],
        [A, (2,)],
    ),
    "past nan": Case(
        lambda x: [
            np.nansum(x),
            np.nanprod(x, 1),
            np.nanmean(x, 0, keepdims=True),
            np.nanmax(x, 1),
            np.nanmin(x),
            np.nanvar(x),
            np.nanstd(x, axis=1, ddof=1),
            np.nansum(x, 0, where=x > 1),
            np.nanmax(x, 1, initial=2, where=x < 3),
        ],
        ["float32", "float64", "int32"],
        [(3, 5)],
        gaps,
    ),
    "average": Case(
        lambda x, w: [
            np.average(x),
            np.average(x, 1, weights=w),
            np.average(x, axis=0, weights=x),
            np.average(x, weights=x * x, keepdims=True),
            *np.average(x, axis=1, weights=w, returned=True),
            *np.average(x, axis=0, returned=True),
        ],
        ["float32", "float64", "int32"],
        [A, (4,)],
        positive,
    ),
    "median": Case(
        lambda x: [
            np.median(x),
            np.median(x, 1),
            np.median(x, axis=(0, 2), keepdims=True),
            np.median(x[:, 0], 0),
        ],
        ["float32", "float64", "int32", "uint8", "bool"],
        [(3, 5, 2)],
        gaps,
    ),
    "ptp": Case(lambda x: [np.ptp(x), np.ptp(x, 1), np.ptp(x, 0, keepdims=True)], M, [A]),
}
