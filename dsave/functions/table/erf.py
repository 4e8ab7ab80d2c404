"""The error function, which numpy does not have.

Rational Chebyshev approximations: W. J. Cody, Mathematics of Computation 23 (1969), 631-637.
"""

import numpy as np

from dsave.functions.graph import Array

# Coefficients from the highest power to the constant: up to 0.5, up to 4, and beyond.
_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (
        1.0,
        2.36012909523441209e1,
        2.44024637934444173e2,
        1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)
_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_FAR = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def erf_of(x: Array) -> Array:
    """Erf of each element, in the dtype of x; nan of nan."""
    value = x.astype(np.float64)
    size = np.abs(value)
    # Beyond 6 it is 1 in double precision; without the bound powers would overflow.
    size = np.minimum(size, 6.0)
    near = value * _ratio(_NEAR, np.square(np.minimum(size, 0.5)))
    tail = np.exp(-np.square(size))
    middle = 1.0 - tail * _ratio(_MIDDLE, size)
    beyond = np.maximum(size, 4.0)
    inverse = 1.0 / np.square(beyond)
    correction = inverse * _ratio(_FAR, inverse)
    far = 1.0 - tail * (1.0 / np.sqrt(np.pi) - correction) / beyond
    outside = np.copysign(np.where(size <= 4.0, middle, far), value)
    return np.where(size <= 0.5, near, outside).astype(x.dtype)


def _ratio(form: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    above, below = (np.polyval(part, x) for part in form)
    result: Array = above / below
    return result
