"""A tensor whose elements are not known yet: what user code computes with while it is traced.

It behaves as a numpy array as far as a graph can: numpy's functions and operators are
recorded as ops, whatever needs the elements is an error.
"""

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dsave.errors import DsaveError
from dsave.functions.graph import Output, TensorSpec
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
        *("take", "trace", "var"),
    )
)

# Ufuncs that others have, and what is the same here.
_OTHERS = {
    "erf": "dsave.ops.erf",
    "expit": "dsave.ops.sigmoid",
    "log_expit": "-dsave.ops.softplus(-x)",
}

_IN_PLACE = frozenset(("fill", "partition", "put", "resize", "setfield", "setflags", "sort"))

_FLOW_HINT = "its value is not known while the function is traced; numpy.where chooses by value"


class Tensor(NDArrayOperatorsMixin):
    """A node's output."""

    __slots__ = ("output", "spec", "tracer")

    def __init__(self, tracer: "Trace", output: Output, spec: TensorSpec) -> None:
        self.tracer = tracer
        self.output = output
        self.spec = spec

    def __repr__(self) -> str:
        return f"<Tensor {self.tracer.nodes[self.output.node].name}: {self.spec}>"

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # Who asks whether it is an array goes on as with one.
        return np.ndarray

    @property
    def shape(self) -> tuple[Any, ...]:
        """The extents: ints, and where they are not known yet numbers that will be."""
        return self.tracer.shape_of(self)

    @shape.setter
    def shape(self, _: object) -> None:
        raise trace_error("an assignment to shape", _mutation("x.shape = ...; reshape makes"))

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The numpy dtype."""
        return self.spec.dtype.numpy

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.spec.shape)

    @property
    def size(self) -> Any:
        """Number of elements: an int, or a number that is not known yet."""
        return math.prod(self.shape)

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

    def astype(self, dtype: object, *how: object, **named: object) -> Any:
        """The tensor in another dtype."""
        if how or named.keys() - {"copy"}:
            raise trace_error("numpy.ndarray.astype", "it takes a dtype and copy= alone")
        return self.tracer.faces[np.ndarray.astype](self, dtype)

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> Any:  # noqa: ARG002 - numpy's
        """The tensor in another shape; an extent of -1 is what remains."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order)  # type: ignore[call-overload]

    def transpose(self, *axes: Any) -> Any:
        """The tensor with its axes permuted, or reversed."""
        order = axes[0] if len(axes) == 1 else axes or None
        return np.transpose(self, order)

    def clip(self, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - numpy's names
        """The tensor with no element below or above these."""
        return np.clip(self, min, max)

    def flatten(self, order: str = "C") -> Any:
        """The tensor with one axis."""
        return np.ravel(self, order)  # type: ignore[call-overload]

    def copy(self, order: str = "C") -> "Tensor":  # noqa: ARG002 - numpy's
        """The tensor itself: nothing changes it."""
        return self

    def __copy__(self) -> "Tensor":
        return self

    def __deepcopy__(self, memo: object) -> "Tensor":
        return self

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name, function = ufunc.__name__, ufunc
        if getattr(np, name, None) is ufunc:
            name = f"numpy.{name}"
        elif name in _OTHERS:
            raise trace_error(name, f"no op is known for this ufunc; {_OTHERS[name]} is one")
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
        face = self.tracer.faces.get(function)
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
        return self.tracer.faces[operator.getitem](self, values_in(index))

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise trace_error("a loop over a tensor", "a scalar has no elements to loop over")
        return self._rows()

    def _rows(self) -> Iterator[Any]:
        # Here and not where it is made, or numpy.iterable would take the error for a no.
        yield from (self[index] for index in range(self._length("a loop over a tensor")))

    def __len__(self) -> int:
        return self._length("the length of a tensor")

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
            "is, numpy.stack puts several together, and an array that is indexed by a tensor "
            "has to be one: numpy.asarray(array, like=x)",
        )

    def __hash__(self) -> int:
        raise trace_error("a tensor as a key", "it has no hash, as arrays have none")

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

    def __round__(self, ndigits: int | None = None) -> Any:
        raise trace_error("round of a tensor", "numpy.round rounds tensors")

    def __trunc__(self) -> Never:
        raise trace_error("math.trunc of a tensor", "numpy.trunc rounds tensors")

    def __floor__(self) -> Never:
        raise trace_error("math.floor of a tensor", "numpy.floor rounds tensors")

    def __ceil__(self) -> Never:
        raise trace_error("math.ceil of a tensor", "numpy.ceil rounds tensors")

    def __format__(self, form: str) -> str:
        if form:
            raise trace_error("a format of a tensor", "it has no elements to print yet")
        return str(self)

    def __complex__(self) -> Never:
        raise trace_error("complex of a tensor", f"{_FLOW_HINT}, astype converts")

    def _length(self, what: str) -> int:
        if not self.ndim:
            raise trace_error(what, "a scalar has none")
        extent = self.spec.shape[0]
        if extent is None:
            raise trace_error(
                what,
                f"extent 0 of {self.spec} is not known while the function is traced; shape[0] "
                "can be computed with, and numpy's functions take all elements at once",
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
