"""Numpy's functions that do not ask the tensors among their arguments, made to ask them.

Numpy leaves to a tensor what is done with it where a function takes an array (`numpy.sum(x)`),
but not where a function takes a shape (`numpy.zeros((x.shape[0], 4))`), and not in `asarray`.
So while a function is traced these names in numpy are of functions that look at all arguments.
Without a tensor among them they are what they were, in every thread. Code that took such a
function from numpy before (`from numpy import zeros`) is not reached; it can say `like=x`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

from dsave.functions.tensor import Tensor
from dsave.model.readable import Readable, value_of

_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(np.arange, np.array, np.asarray, np.broadcast_to, np.empty, np.full, np.ones, np.pad),
    *(np.prod, np.repeat, np.reshape, np.take, np.tile, np.zeros),
)

_traces: list[object] = []
"""One item for each trace that goes on."""


@contextmanager
def all_arguments_asked() -> Iterator[None]:
    """Have tensors asked wherever they are arguments of numpy's functions."""
    this = object()
    _traces.append(this)
    _replace(_ASKING)
    try:
        yield
    finally:
        _traces.remove(this)
        if not _traces:
            _replace(_FUNCTIONS)
        if _traces:  # another thread's, that began in between
            _replace(_ASKING)


def _replace(functions: Iterable[Callable[..., Any]]) -> None:
    for function in functions:
        setattr(np, function.__name__, function)


def _asking(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            tensor = tensor_in(value)
            if tensor is not None:
                kwargs.pop("like", None)
                return tensor.__array_function__(function, (), args, kwargs)
        return function(*args, **kwargs)

    return asking


def tensor_in(value: Any) -> Tensor | None:
    """The tensor that is among these, or one of them."""
    if isinstance(value, list | tuple):
        for item in value:
            found = tensor_in(item)
            if found is not None:
                return found
    if isinstance(value, Readable):
        value = value_of(value)
    return value if isinstance(value, Tensor) else None


_ASKING = tuple(map(_asking, _FUNCTIONS))
