"""Ops that reduce axes, or accumulate along one."""

import numpy as np

from catalogue.case import ANY, COMPLEX, REAL, A, B, Case, F, M, positive

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
    "max": Case(lambda x: [x.max(), np.max(x, -1, keepdims=True)], [*REAL, "bool"], [B]),
    "min": Case(lambda x: [x.min(), np.min(x, 0)], [*REAL, "bool"], [B]),
    "all": Case(lambda x: [np.all(x, 0), x.any(-1), np.any(x)], ["bool", "int32"], [A]),
    "argmax": Case(lambda x: [np.argmax(x), x.argmax(1)], [*REAL, "bool"], [A]),
    "argmin": Case(lambda x: [x.argmin(0), np.argmin(x, 1, keepdims=True)], REAL, [A]),
    "argmax of all": Case(lambda x: np.argmax(x, keepdims=True), F, [A]),
    "var": Case(lambda x: [x.var(), np.var(x, 1, ddof=1), x.std(0)], M + COMPLEX, [A]),
    "norm": Case(lambda x: [np.linalg.norm(x), np.linalg.norm(x, axis=1)], M, [A]),
    "count_nonzero": Case(lambda x: np.count_nonzero(x, axis=0), M, [A]),
    "cumsum": Case(lambda x: [np.cumsum(x), x.cumsum(1)], ANY, [A], positive),
    "cumsum in its dtype": Case(lambda x: np.cumsum(x, 0, dtype=x.dtype), REAL, [A], positive),
    "cumprod": Case(lambda x: x.cumprod(-1, dtype=x.dtype), REAL + COMPLEX, [A], positive),
}
