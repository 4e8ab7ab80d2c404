"""Products of matrices, and sums of products."""

import itertools
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dsave.functions.apply import apply
from dsave.functions.graph import Array, Shape
from dsave.functions.op import AnyAttrs, Op, dtypes, op
from dsave.functions.operands import Value, known_shape, operand
from dsave.functions.stack import trace_error
from dsave.functions.table.casts import cast, common_dtype, loop_dtypes
from dsave.functions.table.rules import COMPLEXES, FLOATS, broadcast, normal_axes
from dsave.functions.tensor import Face

_TYPES = FLOATS | COMPLEXES | dtypes("int32 int64")


def _product(attrs: AnyAttrs, x: Value, y: Value) -> Shape:
    *batch_x, rows, inner_x = x.shape
    *batch_y, inner_y, columns = y.shape
    if attrs.get("transpose_a") or attrs.get("adj_x"):
        rows, inner_x = inner_x, rows
    if attrs.get("transpose_b") or attrs.get("adj_y"):
        inner_y, columns = columns, inner_y
    if None not in {inner_x, inner_y} and inner_x != inner_y:
        raise trace_error("numpy.matmul", f"shapes {x.shape} and {y.shape} do not fit")
    return (*broadcast(tuple(batch_x), tuple(batch_y)), rows, columns)


_MATMUL = op(
    "MatMul(a: T, b: T) -> product: T",
    shape=_product,
    kernel=lambda attrs, a, b: np.matmul(
        a.T if attrs["transpose_a"] else a, b.T if attrs["transpose_b"] else b
    ),
    types=_TYPES,
    transpose_a=False,
    transpose_b=False,
)
_BATCH_MATMUL = op(
    "BatchMatMulV2(x: T, y: T) -> output: T",
    shape=_product,
    kernel=lambda attrs, x, y: np.matmul(
        x.conj().swapaxes(-1, -2) if attrs["adj_x"] else x,
        y.conj().swapaxes(-1, -2) if attrs["adj_y"] else y,
    ),
    types=_TYPES,
    adj_x=False,
    adj_y=False,
)


def _labels(term: str, ndim: int) -> list[str]:
    """A label for each axis: those of an ellipsis are numbers, counted from its last."""
    before, dots, after = term.partition("...")
    missing = ndim - len(before) - len(after)
    if missing < 0 or (missing and not dots):
        raise trace_error("numpy.einsum", f"{term!r} does not fit a tensor of {ndim} axes")
    return [*before, *(str(place) for place in range(missing, 0, -1)), *after]


def _together(label: str, before: Shape | None, extent: int | None) -> Shape:
    """The extent of a label; only those of an ellipsis are stretched."""
    if before is None or (extent is not None and before == (None,)):
        return (extent,)
    if label.isdigit():
        return broadcast(before, (extent,))
    if extent is not None and before != (extent,):
        raise trace_error("numpy.einsum", f"{label!r} is of {before[0]} and of {extent}")
    return before


def _summed(attrs: AnyAttrs, *inputs: Value) -> Shape:
    terms, _, result = attrs["equation"].decode().partition("->")
    found: dict[str, Shape] = {}
    for term, value in zip(terms.split(","), inputs, strict=True):
        for label, extent in zip(_labels(term, value.ndim), value.shape, strict=True):
            found[label] = _together(label, found.get(label), extent)
    unnamed = sum(label.isdigit() for label in found)
    count = len(result.replace("...", "")) + (unnamed if "..." in result else 0)
    return tuple(found[label][0] for label in _labels(result, count))


def _einsum_kernel(attrs: AnyAttrs, *inputs: Array) -> Array:
    dtype = inputs[0].dtype
    # numpy.einsum has no loops for the dtypes of ml_dtypes.
    wide = [x.astype(np.float32) if dtype.kind == "V" else x for x in inputs]
    result: Array = np.einsum(attrs["equation"].decode(), *wide, optimize=len(wide) > 2)
    return result


_EINSUM = op(
    "Einsum(inputs: N*T) -> output: T",
    shape=_summed,
    kernel=_einsum_kernel,
    types=_TYPES,
)


def _computed(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """What products are computed in: integers in those that TensorFlow takes.

    What is too large for a narrow integer is cut off in the end as it would be on the way.
    """
    if dtype.kind not in "iub":
        return dtype
    wide = dtype.itemsize > 4 or dtype == np.uint32
    return np.dtype(np.int64 if wide else np.int32)


def _lettered(operands: Sequence[Any]) -> tuple[str, list[Any]]:
    """Subscripts as text, of lists of numbers after each tensor and perhaps at the end."""
    values, lists = list(operands[0::2]), list(operands[1::2])
    result = values.pop() if len(values) > len(lists) else None

    def text(subscripts: Any) -> str:
        return "".join("..." if n is Ellipsis else string.ascii_letters[n] for n in subscripts)

    try:
        terms = ",".join(map(text, lists))
        return (terms if result is None else f"{terms}->{text(result)}"), values
    except (IndexError, TypeError):
        raise trace_error(
            "numpy.einsum", "the subscripts are a str, or lists of numbers below 52"
        ) from None


def _matmul(x1: Any, x2: Any) -> Any:
    x, y = operand(x1), operand(x2)
    if not x.ndim or not y.ndim:
        raise trace_error("numpy.matmul", "a scalar has no product of matrices; multiply it")
    dtype = loop_dtypes(np.matmul, (x, y))[-1]
    x, y = cast(x, _computed(dtype)), cast(y, _computed(dtype))
    # A vector is a matrix with one row, or one column, which the result does not have.
    left = x if x.ndim > 1 else np.expand_dims(x, 0)
    right = y if y.ndim > 1 else np.expand_dims(y, 1)
    batched = left.ndim > 2 or right.ndim > 2
    result: Any = cast(apply(_BATCH_MATMUL if batched else _MATMUL, left, right), dtype)
    gone = tuple(axis for axis, v in ((-2, x), (-1, y)) if v.ndim == 1)
    return np.squeeze(result, gone) if gone else result


def _einsum(subscripts: Any, *operands: Any, optimize: object = False) -> Any:
    del optimize
    values: Sequence[Any] = operands
    if not isinstance(subscripts, str):
        subscripts, values = _lettered((subscripts, *operands))
    equation = subscripts.replace(" ", "")
    if "->" not in equation:
        letters = sorted(set(equation) - set(",."))
        once = [letter for letter in letters if equation.count(letter) == 1]
        equation += f"->{'...' if '...' in equation else ''}{''.join(once)}"
    values = [operand(each) for each in values]
    if equation.partition("->")[0].count(",") != len(values) - 1:
        raise trace_error("numpy.einsum", f"{equation!r} is not about {len(values)} tensors")
    try:
        np.einsum(equation, *(np.empty((1,) * value.ndim) for value in values))
    except ValueError as error:
        raise trace_error("numpy.einsum", str(error)) from None
    dtype = common_dtype(*values)
    values = [cast(value, _computed(dtype)) for value in values]
    source, _, result = equation.partition("->")
    terms = source.split(",")
    _leave_out_ones(terms, values)
    # TensorFlow's op takes two tensors at most.
    while len(values) > 2:
        needed = set("".join([*terms[2:], result]))
        kept = "".join(label for label in dict.fromkeys(terms[0] + terms[1]) if label in needed)
        kept = f"...{kept.replace('.', '')}" if "." in kept else kept
        pair = f"{terms[0]},{terms[1]}->{kept}"
        values[:2] = [apply(_EINSUM, values[:2], equation=pair.encode())]
        terms[:2] = [kept]
    total = apply(_EINSUM, values, equation=f"{','.join(terms)}->{result}".encode())
    return cast(total, dtype)


def _leave_out_ones(terms: list[str], values: list[Any]) -> None:
    """Axes of 1 that numpy stretches to what they are in other tensors, TensorFlow does not."""
    labels = [
        list(zip(_labels(term, value.ndim), known_shape(value), strict=True))
        for term, value in zip(terms, values, strict=True)
    ]
    wider = [{label for label, extent in each if extent != 1} for each in labels]
    for place, term in enumerate(terms):
        elsewhere = set().union(*wider[:place], *wider[place + 1 :]) - wider[place]
        gone = {label for label, _ in labels[place] if label in elsewhere and label in term}
        if gone:
            axes = tuple(axis for axis, (label, _) in enumerate(labels[place]) if label in gone)
            values[place] = np.squeeze(values[place], axes)
            terms[place] = "".join(label for label in term if label not in gone)


def _dot(a: Any, b: Any, out: None = None) -> Any:
    del out
    a, b = operand(a), operand(b)
    if not a.ndim or not b.ndim:
        return np.multiply(a, b)
    if b.ndim <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, -2))


def _inner(a: Any, b: Any) -> Any:
    a, b = operand(a), operand(b)
    return np.tensordot(a, b, (-1, -1)) if a.ndim and b.ndim else np.multiply(a, b)


def _outer(a: Any, b: Any, out: None = None) -> Any:
    del out
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


def _vdot(a: Any, b: Any) -> Any:
    x, y = np.ravel(operand(a)), np.ravel(operand(b))
    return _added_products(x, y, common_dtype(x, y), -1, keepdims=False)


def _vecdot(x1: Any, x2: Any, *, axis: Any = -1, keepdims: bool = False) -> Any:
    dtype = loop_dtypes(np.vecdot, (x1, x2))[-1]
    return _added_products(x1, x2, dtype, axis, keepdims=keepdims)


def _added_products(x: Any, y: Any, dtype: Any, axis: Any, *, keepdims: bool) -> Any:
    products = np.conjugate(cast(x, dtype)) * cast(y, dtype)
    if dtype.kind == "b":
        return np.any(products, axis, keepdims=keepdims)
    return np.sum(products, axis, dtype=dtype, keepdims=keepdims)


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = operand(a), operand(b)
    if not np.iterable(axes):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    gone_a, gone_b = (
        normal_axes(each, value.ndim, "numpy.tensordot")
        for each, value in zip(axes, (a, b), strict=True)
    )
    letters = iter(string.ascii_letters)
    of_a = list(itertools.islice(letters, a.ndim))
    of_b = list(itertools.islice(letters, b.ndim))
    for one, other in zip(gone_a, gone_b, strict=True):
        of_b[other] = of_a[one]
    kept = [*_without(of_a, gone_a), *_without(of_b, gone_b)]
    return np.einsum(f"{''.join(of_a)},{''.join(of_b)}->{''.join(kept)}", a, b)


def _without(labels: Sequence[str], gone: Sequence[int]) -> list[str]:
    return [label for axis, label in enumerate(labels) if axis not in gone]


OPS: tuple[Op, ...] = (_MATMUL, _BATCH_MATMUL, _EINSUM)

FACES: dict[Callable[..., Any], Face] = {
    np.matmul: _matmul,
    np.einsum: _einsum,
    np.dot: _dot,
    np.inner: _inner,
    np.outer: _outer,
    np.vdot: _vdot,
    np.tensordot: _tensordot,
}

if hasattr(np, "vecdot"):  # since numpy 2.0
    FACES[np.vecdot] = _vecdot
