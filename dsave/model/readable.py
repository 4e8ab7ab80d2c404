"""Variables in numpy expressions: each stands for what the reader in force says it is worth.

While a function is traced the reader gives symbolic tensors; while it runs, arrays. There is
none outside of functions, where reading a variable is a round trip that should be visible:
`cluster.read(variable)`. There variables are descriptions: in lists, as keys, in `==`.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dsave.errors import ModelError

Reader = Callable[[Any], Any]
"""From a variable, or a component of one, to an array or a symbolic tensor."""

_A_VARIABLE_IS = (
    "a description without a value; cluster.read(variable) reads it and "
    "cluster.assign(variable, value) replaces it, in a step host.value and host.assign do, "
    "and code in a dsave.function can compute with it"
)

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
        raise ModelError(getattr(item, "name", "variable"), f"a variable is {_A_VARIABLE_IS}")
    # Whoever looks a value up has variables as keys, and compares descriptions.
    token = _reader.set(None)
    try:
        return reader(item)
    finally:
        _reader.reset(token)


def values_in(item: Any) -> Any:
    """The same nested lists, tuples and dicts with each variable replaced by its value."""
    if isinstance(item, Readable):
        return value_of(item)
    if type(item) in {list, tuple}:
        return type(item)(values_in(each) for each in item)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*map(values_in, item))
    if type(item) is dict:
        return {key: values_in(each) for key, each in item.items()}
    return item


class Readable(NDArrayOperatorsMixin):
    """What numpy code may use as an array, though its values are elsewhere.

    In the code of a function, traced or run, all operators are those of the value, `==` and
    conditions too, and so are methods and conversions. Elsewhere `==` is that of the
    description, which is true in conditions, and the rest is an error. `hash` never asks.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        in_a_function = _reader.get() is not None
        return NDArrayOperatorsMixin.__eq__(self, other) if in_a_function else self._is(other)

    def __ne__(self, other: object) -> Any:
        in_a_function = _reader.get() is not None
        return (
            NDArrayOperatorsMixin.__ne__(self, other) if in_a_function else not self._is(other)
        )

    def __bool__(self) -> bool:
        return _reader.get() is None or bool(value_of(self))

    def _is(self, other: object) -> bool:
        """Whether it describes the same."""
        return self is other

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

    def __len__(self) -> int:
        return len(value_of(self))

    def __index__(self) -> int:
        return operator.index(value_of(self))

    def __int__(self) -> int:
        return int(value_of(self))

    def __float__(self) -> float:
        return float(value_of(self))

    def __complex__(self) -> complex:
        return complex(value_of(self))

    def __getattr__(self, name: str) -> Any:
        """What arrays have: attributes and methods of the value."""
        if name.startswith("_") or not hasattr(np.ndarray, name):
            problem = f"a variable has no {name!r}: it is {_A_VARIABLE_IS}"
            raise AttributeError(problem, name=name, obj=self)
        return getattr(value_of(self), name)
