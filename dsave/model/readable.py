"""Variables in numpy expressions: each stands for what the reader in force says it is worth.

While a function is traced the reader gives symbolic tensors; while it runs, arrays. There is
none outside of functions, where reading a variable is a round trip that should be visible:
`cluster.read(variable)`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from numpy.lib.mixins import NDArrayOperatorsMixin

from dsave.errors import ModelError

Reader = Callable[[Any], Any]
"""From a variable, or a component of one, to an array or a symbolic tensor."""

_reader: ContextVar[Reader | None] = ContextVar("dsave_reader", default=None)
_eager: list[Reader] = []


@contextmanager
def reading(reader: Reader) -> Iterator[None]:
    """Put a reader in force."""
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


@contextmanager
def reading_eagerly() -> Iterator[None]:
    """Put the runtime's reader in force, unless there is one already.

    Each variable is read once, so that a function sees one value of it.
    """
    if _reader.get() is None and _eager:
        with reading(_remembering(_eager[-1])):
            yield
    else:
        yield


def supply_reader(reader: Reader) -> None:
    """Say how functions that run read variables: the runtime does, once."""
    _eager.append(reader)


def _remembering(reader: Reader) -> Reader:
    values: dict[Any, Any] = {}

    def read(item: Any) -> Any:
        if item not in values:
            values[item] = reader(item)
        return values[item]

    return read


def value_of(item: Any) -> Any:
    """What a variable or component is worth to the reader in force; anything else is itself.

    Raises:
        ModelError: no reader is in force.
    """
    if not isinstance(item, Readable):
        return item
    reader = _reader.get()
    if reader is None:
        raise ModelError(
            getattr(item, "name", "variable"),
            "a variable is a description without a value; cluster.read(variable) reads it, "
            "and code in a dsave.function can compute with it",
        )
    return reader(item)


def values_in(item: Any) -> Any:
    """The same nested lists, tuples and dicts with each variable replaced by its value."""
    if isinstance(item, Readable):
        return value_of(item)
    if type(item) in {list, tuple}:
        return type(item)(values_in(each) for each in item)
    if type(item) is dict:
        return {key: values_in(each) for key, each in item.items()}
    return item


class Readable(NDArrayOperatorsMixin):
    """What numpy code may use as an array, though its values are elsewhere.

    `==` and `hash` are those of the object, as the walk of the object tree needs them:
    `np.equal` compares values.
    """

    __slots__ = ()
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: object = None, **kwargs: Any
    ) -> Any:
        if out is not None:
            raise ModelError(
                getattr(self, "name", "variable"),
                "an expression cannot write to a variable; cluster.assign does",
            )
        return getattr(ufunc, method)(*values_in(inputs), **values_in(kwargs))

    def __array_function__(
        self, func: Any, types: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        return func(*values_in(args), **values_in(dict(kwargs)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = value_of(self).__array__(dtype)
        return array.copy() if copy else array

    def __getitem__(self, index: Any) -> Any:
        return value_of(self)[values_in(index)]

    def __iter__(self) -> Iterator[Any]:
        return iter(value_of(self))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return int(value_of(self).ndim)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(value_of(self).size)

    @property
    def T(self) -> Any:  # noqa: N802 - numpy's name
        """The value with its axes reversed."""
        return value_of(self).T

    def astype(self, dtype: Any) -> Any:
        """The value in another dtype."""
        return value_of(self).astype(dtype)

    def reshape(self, *shape: Any) -> Any:
        """The value in another shape."""
        return value_of(self).reshape(*shape)

    def transpose(self, *axes: Any) -> Any:
        """The value with its axes permuted."""
        return value_of(self).transpose(*axes)

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        """The sum of the value, as `numpy.sum`."""
        return value_of(self).sum(*args, **kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        """The mean of the value, as `numpy.mean`."""
        return value_of(self).mean(*args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """The largest element, as `numpy.max`."""
        return value_of(self).max(*args, **kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Any:
        """The smallest element, as `numpy.min`."""
        return value_of(self).min(*args, **kwargs)
