"""Diagonals, norms, and what solves systems of equations; matrices are the last two axes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op, plain
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.broadcasting import stretched
from dsave.functions.table.casts import cast, common_dtype
from dsave.functions.table.rules import COMPLEXES, dtype_like, normal_axes, same
from dsave.functions.table.shapes import equal
from dsave.functions.tensor import Face


class Slogdet(NamedTuple):
    """The sign of a determinant, and the logarithm of its size."""

    sign: Any
    logabsdet: Any


def _offset(k: Value) -> int:
    if not isinstance(k, np.ndarray) or k.size != 1:
        raise trace_error("a diagonal", "its place is one number that is known")
    return int(k.item())


def _diagonal_shape(_: AnyAttrs, x: Value, k: Value, _padding: Value) -> Shape:
    *batch, rows, columns = known_shape(x)
    offset = _offset(k)
    if rows is None or columns is None:
        return (*batch, None)
    extent = min(rows + min(offset, 0), columns - max(offset, 0))
    if extent < (offset != 0):
        raise trace_error("a diagonal", f"{rows} x {columns} matrices have none at {offset}")
    return (*batch, extent)


def _matrix_shape(_: AnyAttrs, x: Value, k: Value, *_others: Value) -> Shape:
    *batch, extent = known_shape(x)
    whole = None if extent is None else extent + abs(_offset(k))
    return (*batch, whole, whole)


def _matrix_of(_: AnyAttrs, x: Array, k: Array, *_others: Array) -> Array:
    offset, extent = _offset(k), x.shape[-1]
    whole = extent + abs(offset)
    result = np.zeros((*x.shape[:-1], whole, whole), x.dtype)
    places = np.arange(extent)
    result[..., places - min(offset, 0), places + max(offset, 0)] = x
    return result


def _solved(_: AnyAttrs, x: Value, right: Value) -> Shape:
    columns = known_shape(right)[-1]
    *batch, rows, unknowns = known_shape(x)
    shapes = [(*batch, rows), (*batch, unknowns), known_shape(right)[:-1]]
    return (*equal("numpy.linalg.solve", shapes), columns)


_TYPES = dtypes("float32 float64") | COMPLEXES
_DIAGONAL = op(
    "MatrixDiagPartV3(input: T, k: int32, padding_value: T) -> diagonal: T",
    shape=_diagonal_shape,
    kernel=lambda _, x, k, _padding: np.diagonal(x, _offset(k), -2, -1),
    align=b"RIGHT_LEFT",
)
_MATRIX = op(
    "MatrixDiagV3(diagonal: T, k: int32, num_rows: int32, num_cols: int32, padding_value: T)"
    " -> output: T",
    shape=_matrix_shape,
    kernel=_matrix_of,
    align=b"RIGHT_LEFT",
)
_INVERSE = op(
    "MatrixInverse(input: T) -> output: T",
    shape=same,
    kernel=lambda attrs, x: np.linalg.inv(_adjoint(x) if attrs["adjoint"] else x),
    types=_TYPES,
    adjoint=False,
)
_SOLVE = op(
    "MatrixSolve(matrix: T, rhs: T) -> output: T",
    shape=_solved,
    kernel=lambda attrs, x, right: np.linalg.solve(
        _adjoint(x) if attrs["adjoint"] else x, right
    ),
    types=_TYPES,
    adjoint=False,
)
_CHOLESKY = op(
    "Cholesky(input: T) -> output: T",
    shape=same,
    kernel=plain(np.linalg.cholesky),
    types=_TYPES,
)
_DETERMINANT = op(
    "MatrixDeterminant(input: T) -> output: T",
    shape=lambda _, x: known_shape(x)[:-2],
    kernel=plain(np.linalg.det),
    types=_TYPES,
)
_LOG_DETERMINANT = op(
    "LogMatrixDeterminant(input: T) -> sign: T, log_abs_determinant: T",
    shape=lambda _, x: [known_shape(x)[:-2]] * 2,
    kernel=lambda _, x: list(np.linalg.slogdet(x)),
    types=_TYPES,
)


def _adjoint(x: Array) -> Array:
    return x.conj().swapaxes(-1, -2)


def _diagonal(a: Any, offset: int = 0, axis1: Any = 0, axis2: Any = 1) -> Any:
    a = operand(a)
    axes = normal_axes((axis1, axis2), a.ndim, "numpy.diagonal")
    place = _offset(operand(offset))
    # Cut off, and the first of what is left, which TensorFlow takes of nothing too.
    rows = np.moveaxis(a, axes, (-2, -1))[..., max(-place, 0) :, max(place, 0) :]
    return apply(_DIAGONAL, rows, np.array(0, np.int32), np.zeros((), a.dtype))


def _diag(v: Any, k: int = 0) -> Any:
    v = operand(v)
    if v.ndim == 2:
        return np.diagonal(v, k)
    if v.ndim != 1:
        raise trace_error("numpy.diag", f"one axis or two are wanted, got {known_shape(v)}")
    zero, sizes = np.array(0, np.int32), np.array(-1, np.int32)
    square = apply(_MATRIX, v, zero, sizes, sizes, np.zeros((), v.dtype))
    # The op could place it, but of another diagonal TensorFlow infers a wrong shape.
    right, down = max(k, 0), max(-k, 0)
    return np.pad(square, ((down, right), (right, down))) if k else square


def _trace(
    a: Any,
    offset: int = 0,
    axis1: Any = 0,
    axis2: Any = 1,
    dtype: Any = None,
    out: None = None,
) -> Any:
    del out
    return np.sum(np.diagonal(operand(a), offset, axis1, axis2), -1, dtype=dtype)


def _square(a: Any, function: Callable[..., Any]) -> Any:
    """A stack of square matrices in the dtype that numpy computes in."""
    a = operand(a)
    name = f"numpy.linalg.{function.__name__}"
    extents = known_shape(a)[-2:]
    if a.ndim < 2 or (None not in extents and extents[0] != extents[1]):
        raise trace_error(name, f"square matrices are wanted, got a shape of {known_shape(a)}")
    return cast(a, _computed(function, a.dtype))


def _computed(function: Callable[..., Any], dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    try:
        return dtype_like(lambda x: function(x.reshape(1, 1)), dtype)
    except TypeError as error:
        raise trace_error(f"numpy.linalg.{function.__name__}", str(error)) from None


def _solve(a: Any, b: Any) -> Any:
    b = operand(b)
    dtype = _computed(np.linalg.inv, common_dtype(a, b))
    a, right = cast(_square(a, np.linalg.inv), dtype), cast(b, dtype)
    matrices, columns = stretched(
        [a, np.expand_dims(right, 1) if b.ndim == 1 else right], own=2
    )
    found = apply(_SOLVE, matrices, columns)
    return np.squeeze(found, -1) if b.ndim == 1 else found


def _slogdet(a: Any) -> Slogdet:
    sign, size = apply(_LOG_DETERMINANT, _square(a, np.linalg.det))
    return Slogdet(sign, np.real(size))


def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    found = apply(_CHOLESKY, _square(a, np.linalg.cholesky))
    return np.conjugate(np.swapaxes(found, -1, -2)) if upper else found


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002 - numpy's name
    x = operand(x)
    x = x if x.dtype.kind in "fc" else cast(x, np.float64)
    axes = normal_axes(axis, x.ndim, "numpy.linalg.norm")
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        return np.sqrt(np.sum(np.square(np.abs(x)), axis=axes, keepdims=keepdims))
    if len(axes) == 1:
        return _vector_norm(np.abs(x), ord, axes, keepdims)
    if len(axes) != 2 or ord not in {1, -1, np.inf, -np.inf}:
        raise trace_error("numpy.linalg.norm", f"ord {ord!r} of {len(axes)} axes")
    # Sums of columns, or of rows.
    along, across = axes if abs(ord) == 1 else axes[::-1]
    sums = np.sum(np.abs(x), along, keepdims=True)
    found = (np.max if ord > 0 else np.min)(sums, across, keepdims=True)
    return found if keepdims else np.squeeze(found, axes)


def _vector_norm(sizes: Any, ord: Any, axes: Any, keepdims: bool) -> Any:  # noqa: A002 - numpy's name
    if ord in {np.inf, -np.inf}:
        return (np.max if ord > 0 else np.min)(sizes, axes, keepdims=keepdims)
    if not isinstance(ord, int | float):
        raise trace_error("numpy.linalg.norm", f"ord {ord!r} of an axis")
    if ord == 0:
        return np.sum(cast(np.not_equal(sizes, 0), sizes.dtype), axes, keepdims=keepdims)
    if ord == 1:
        return np.sum(sizes, axes, keepdims=keepdims)
    powers = np.sum(np.power(sizes, cast(float(ord), sizes.dtype)), axes, keepdims=keepdims)
    return np.power(powers, cast(1.0 / ord, sizes.dtype))


OPS: tuple[Op, ...] = (
    *(_DIAGONAL, _MATRIX, _INVERSE, _SOLVE, _CHOLESKY, _DETERMINANT, _LOG_DETERMINANT),
)

FACES: dict[Callable[..., Any], Face] = {
    np.diagonal: _diagonal,
    np.diag: _diag,
    np.trace: _trace,
    np.linalg.inv: lambda a: apply(_INVERSE, _square(a, np.linalg.inv)),
    np.linalg.solve: _solve,
    np.linalg.det: lambda a: apply(_DETERMINANT, _square(a, np.linalg.det)),
    np.linalg.slogdet: _slogdet,
    np.linalg.cholesky: _cholesky,
    np.linalg.norm: _norm,
}
