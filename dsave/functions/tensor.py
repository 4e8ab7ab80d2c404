"""A tensor whose elements are not known yet: what user code computes with while it is traced.

It behaves as a numpy array as far as a graph can: numpy's functions and operators are
recorded as ops, whatever needs the elements is an error.
"""

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dsave.errors import DsaveError
from dsave.functions.graph import Output, Shape, TensorSpec
from dsave.functions.stack import trace_error
from dsave.model.readable import values_in

if TYPE_CHECKING:
    from dsave.functions.tracer import Trace

Face = Callable[..., Any]
"""What a numpy function does to tensors: called with the arguments of that function."""

# Those whose arguments are, after the array, the arguments of numpy's function of that name.
_METHODS = frozenset(
    (
        *("all", "any", "argmax", "argmin", "argpartition", "argsort", "conj", "conjugate"),
        *("cumprod", "cumsum", "diagonal", "dot", "max", "mean", "min", "nonzero", "prod"),
        *("ravel", "repeat", "round", "searchsorted", "squeeze", "std", "sum", "swapaxes"),
        *("take", "var"),
    )
)

_IN_PLACE = frozenset(("fill", "partition", "put", "resize", "setfield", "setflags", "sort"))

_SHAPE_HINT = "dsave.ops.shape gives it as a tensor"
_FLOW_HINT = "its value is not known while the function is traced; numpy.where chooses by value"


class Tensor(NDArrayOperatorsMixin):
    """A node's output."""

    __slots__ = ("output", "spec", "trace")
    __hash__ = None  # type: ignore[assignment] # as arrays, since == compares elements

    def __init__(self, trace: "Trace", output: Output, spec: TensorSpec) -> None:
        self.trace = trace
        self.output = output
        self.spec = spec

    def __repr__(self) -> str:
        return f"<Tensor {self.trace.nodes[self.output.node].name}: {self.spec}>"

    @property
    def shape(self) -> Shape:
        """The extents; None is unknown."""
        return self.spec.shape

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The numpy dtype."""
        return self.spec.dtype.numpy

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.spec.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod([self._extent(axis) for axis in range(self.ndim)], dtype=np.int64))

    @property
    def T(self) -> Any:  # noqa: N802 - numpy's name
        """The tensor with its axes reversed."""
        return np.transpose(self)

    @property
    def mT(self) -> Any:  # noqa: N802 - numpy's name
        """The tensor with its last two axes swapped."""
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        """The real part."""
        return np.real(self)

    @property
    def imag(self) -> Any:
        """The imaginary part."""
        return np.imag(self)

    def astype(self, dtype: object, copy: bool = True) -> Any:  # noqa: ARG002 - numpy's
        """The tensor in another dtype."""
        return self.trace.faces[np.ndarray.astype](self, dtype)

    def reshape(self, *shape: Any) -> Any:
        """The tensor in another shape; an extent of -1 is what remains."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """The tensor with its axes permuted, or reversed."""
        order = axes[0] if len(axes) == 1 else axes or None
        return np.transpose(self, order)

    def clip(self, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - numpy's names
        """The tensor with no element below or above these."""
        return np.clip(self, min, max)

    def flatten(self) -> Any:
        """The tensor with one axis."""
        return np.ravel(self)

    def copy(self) -> "Tensor":
        """The tensor itself: nothing changes it."""
        return self

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name, function = f"numpy.{ufunc.__name__}", ufunc
        if method != "__call__":
            name, function = f"{name}.{method}", getattr(ufunc, method)
        elif kwargs.pop("where", True) is not True:
            raise trace_error(
                name, "where= leaves elements as they are in out=; numpy.where chooses by value"
            )
        if kwargs.get("out") is not None:
            raise trace_error(name, _mutation("out= and +=, *= and so on"))
        return self._done(function, name, inputs, kwargs)

    def __array_function__(
        self, func: Any, types: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        return self._done(func, f"{func.__module__}.{func.__name__}", args, kwargs)

    def _done(
        self, function: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """What numpy's function of this name does to tensors."""
        face = self.trace.faces.get(function)
        if face is None:
            raise trace_error(name, _no_entry())
        # A ufunc is given its inputs, and nothing else that would have to be bound.
        if kwargs or not isinstance(function, np.ufunc):
            args, kwargs = _bound(face, name, args, kwargs)
        try:
            return face(*values_in(args), **values_in(kwargs))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, DsaveError):
                raise
            raise trace_error(name, str(error)) from error

    def __getitem__(self, index: Any) -> Any:
        return self.trace.faces[operator.getitem](self, values_in(index))

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._extent(0)))

    def __len__(self) -> int:
        return self._extent(0)

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS:
            return partial(getattr(np, name), self)
        if name in _IN_PLACE:
            raise trace_error(f"numpy.ndarray.{name}", _mutation(f"x.{name}"))
        if hasattr(np.ndarray, name) and not name.startswith("__"):
            raise trace_error(f"numpy.ndarray.{name}", _no_entry())
        raise AttributeError(f"a traced tensor has no attribute {name!r}", name=name, obj=self)

    def __setitem__(self, index: object, value: object) -> Never:
        raise trace_error("an assignment to elements", _mutation("x[...] = y"))

    def __array__(self, dtype: object = None, copy: object = None) -> Never:
        raise trace_error(
            "a conversion to an array",
            "a traced tensor has no elements yet; numpy's functions of tensors take it as it "
            "is, numpy.stack puts several together, dsave.ops.gather takes elements by it",
        )

    def __bool__(self) -> Never:
        raise trace_error("a condition on a tensor", _FLOW_HINT)

    def __int__(self) -> Never:
        raise trace_error("int of a tensor", f"{_FLOW_HINT}, astype converts")

    def __index__(self) -> Never:
        raise trace_error(
            "a tensor as an index or a size",
            f"{_FLOW_HINT}; dsave.ops.gather takes elements by it, and numpy.broadcast_to and "
            "numpy.reshape make shapes of it",
        )

    def __float__(self) -> Never:
        raise trace_error("float of a tensor", f"{_FLOW_HINT}, astype converts")

    def __complex__(self) -> Never:
        raise trace_error("complex of a tensor", f"{_FLOW_HINT}, astype converts")

    def _extent(self, axis: int) -> int:
        if axis >= self.ndim:
            raise trace_error("the length of a tensor", "a scalar has none")
        extent = self.spec.shape[axis]
        if extent is None:
            raise trace_error(
                "the length of a tensor",
                f"extent {axis} of {self.spec} is unknown while the function is traced; "
                f"{_SHAPE_HINT}",
            )
        return extent


def _bound(
    face: Face, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, if they are what the face takes."""
    try:
        bound = _signature(face).bind(*args, **kwargs)
    except TypeError as error:
        raise trace_error(name, f"{error}; TensorFlow has no op for this use of it") from None
    if bound.arguments.get("out") is not None:
        raise trace_error(name, _mutation("out="))
    return bound.args, bound.kwargs


@cache
def _signature(face: Face) -> inspect.Signature:
    return inspect.signature(face)


def _mutation(how: str) -> str:
    return f"a tensor cannot be changed in place ({how}); compute a new one"


def _no_entry() -> str:
    return "no TensorFlow op is known for it; dsave.ops.call records any op by its name"
