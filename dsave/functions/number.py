"""Python numbers that a trace does not know: extents, and what is computed of them.

They are weak, as Python's own are: `x / x.shape[0]` has the dtype of x. Where Python would have
to know one, in a condition, a `range` or the index of a list, that is an error.
"""

from collections.abc import Callable
from typing import Any, Never

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dsave.functions.graph import Output, TensorSpec
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Tensor

_INT64 = TensorSpec((), "int64")
_PYTHONS = frozenset({bool, int, float})
_SEQUENCES = (list, tuple, str, bytes)

_HINT = (
    "it is not known while the function is traced; expressions take it, and so do numpy's "
    "functions of tensors, others with like=: numpy.full((n, 4), 0.0, like=x), "
    "numpy.asarray(array, like=x)[:n]"
)

_SEQUENCE_HINT = (
    "it is not known while the function is traced; numpy.repeat, numpy.tile and "
    "numpy.broadcast_to make tensors of such an extent, numpy.asarray(list, like=x) one to "
    "compute with"
)


class Number(Tensor):
    """A Python int, as a scalar of int64, or a Python float, as one of float64."""

    __slots__ = ()

    @property
    def kind(self) -> type:
        """The Python type that it stands for."""
        return float if self.dtype.kind == "f" else int

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self.kind

    def __repr__(self) -> str:
        return f"<{self.kind.__name__} {self.tracer.nodes[self.output.node].name}>"

    def __eq__(self, other: object) -> Any:
        return not _is_no_number(other) and NDArrayOperatorsMixin.__eq__(self, other)

    def __ne__(self, other: object) -> Any:
        return _is_no_number(other) or NDArrayOperatorsMixin.__ne__(self, other)

    def __hash__(self) -> int:
        raise trace_error("an unknown extent as a key", _HINT)

    def __array__(self, dtype: object = None, copy: object = None) -> Never:
        raise trace_error(
            "an array of an unknown extent", f"{_HINT}; math.prod multiplies extents"
        )

    def __bool__(self) -> Never:
        raise trace_error(
            "a condition on an unknown extent", f"{_HINT}; numpy.where chooses by value"
        )

    def __int__(self) -> Never:
        raise trace_error("int of an unknown extent", f"{_HINT}; math.floor rounds it")

    def __index__(self) -> Never:
        self.tracer.refused_size = trace_error("an unknown extent as a size or an index", _HINT)
        raise self.tracer.refused_size

    def __float__(self) -> Never:
        raise trace_error("float of an unknown extent", _HINT)

    def __floor__(self) -> Any:
        return self._whole(np.floor)

    def __ceil__(self) -> Any:
        return self._whole(np.ceil)

    def __trunc__(self) -> Any:
        return self._whole(np.trunc)

    def __round__(self, ndigits: int | None = None) -> Any:
        return self._whole(np.rint) if ndigits is None else _weak(np.round(self, ndigits))

    def _whole(self, rounded: Callable[[Any], Any]) -> Any:
        return self if self.kind is int else _weak(rounded(self).astype(np.int64))


class Extent(Number):
    """An extent of a tensor, recorded where it is first used."""

    __slots__ = ("_int32", "_output", "axis", "tensor")

    def __init__(self, tensor: Tensor, axis: int) -> None:
        self.tracer, self.spec = tensor.tracer, _INT64
        self.tensor, self.axis = tensor, axis
        self._int32: Tensor | None = None
        self._output: Output | None = None

    @property
    def output(self) -> Output:  # type: ignore[override]
        """Its place in the graph."""
        if self._output is None:
            self._output = self.int32.astype(np.int64).output
        return self._output

    def of(self, value: Any) -> bool:
        """Whether it is an extent of this tensor."""
        return isinstance(value, Tensor) and value.output == self.tensor.output

    @property
    def int32(self) -> Tensor:
        """It as TensorFlow has it in shapes: of int32, which accelerators leave to the CPU."""
        if self._int32 is None:
            self._int32 = self.tracer.faces[Extent](self.tensor, self.axis)
        return self._int32

    def __repr__(self) -> str:
        return f"<extent {self.axis} of {self.tensor!r}>"


def _is_no_number(other: object) -> bool:
    return other is None or isinstance(other, _SEQUENCES)


def _weak(result: Any) -> Any:
    """What a Python operator gives: a number, unless it is a truth."""
    if not isinstance(result, Tensor) or result.dtype.kind == "b":
        return result
    return Number(result.tracer, result.output, result.spec)


def _operator(name: str) -> Callable[..., Any]:
    operate = getattr(NDArrayOperatorsMixin, name)

    def method(self: Number, *others: Any) -> Any:
        if any(isinstance(other, _SEQUENCES) for other in others):
            # numpy would make an array of the sequence, where Python repeats it.
            what = "repeated an unknown number of times" if "mul" in name else "and an extent"
            raise trace_error(f"a sequence {what}", _SEQUENCE_HINT)
        if name == "__pow__" and type(others[0]) is int and others[0] < 0:
            others = (float(others[0]),)
        result = operate(self, *others)
        if all(type(other) in _PYTHONS or isinstance(other, Number) for other in others):
            return tuple(map(_weak, result)) if isinstance(result, tuple) else _weak(result)
        return result

    return method


for _name in ("neg", "pos", "abs", "invert"):
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__"))
for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow"),
    *("lshift", "rshift", "and", "or", "xor"),
):
    for _form in (f"__{_name}__", f"__r{_name}__"):
        setattr(Number, _form, _operator(_form))
    # `n += 1` makes another number of n, and changes none.
    setattr(Number, f"__i{_name}__", getattr(Number, f"__{_name}__"))
