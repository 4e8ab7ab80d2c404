"""Nested lists, tuples and dicts: flattened, and put together again.

Dicts are taken by sorted key, as in tensorflow/python/util/nest.py.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dsave.errors import OptionTypeError


def _sorted(structure: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(structure)
    except TypeError:
        kinds = ", ".join(sorted({type(key).__name__ for key in structure}))
        problem = f"its keys have an order, as those of one type have; got {kinds}"
        raise OptionTypeError("a dict", problem) from None


def flatten(structure: object) -> Iterator[object]:
    """The leaves, in order. None is one."""
    if isinstance(structure, Mapping):
        for key in _sorted(structure):
            yield from flatten(structure[key])
    elif isinstance(structure, list | tuple):
        for item in structure:
            yield from flatten(item)
    else:
        yield structure


def paths(structure: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to each leaf: keys, fields of namedtuples, and positions."""
    if isinstance(structure, Mapping):
        for key in _sorted(structure):
            yield from paths(structure[key], (*path, str(key)))
    elif isinstance(structure, list | tuple):
        names = getattr(structure, "_fields", range(len(structure)))
        for name, item in zip(names, structure, strict=True):
            yield from paths(item, (*path, str(name)))
    else:
        yield path


def mapped(change: Callable[[object], object], structure: object) -> object:
    """The same structure with each leaf changed, in the order of `flatten`."""
    if isinstance(structure, Mapping):
        changed = {key: mapped(change, structure[key]) for key in _sorted(structure)}
        return {key: changed[key] for key in structure}
    if isinstance(structure, list | tuple):
        return rebuilt(structure, [mapped(change, item) for item in structure])
    return change(structure)


def rebuilt(like: list[Any] | tuple[Any, ...], items: list[Any]) -> object:
    """A list, a tuple or a namedtuple of these items."""
    if isinstance(like, list):
        return items
    return type(like)(*items) if hasattr(like, "_fields") else tuple(items)


def key_of(structure: object) -> object:
    """A hashable that is equal for equal structures with equal leaves of equal types."""
    if isinstance(structure, Mapping):
        return (dict, *((key, key_of(structure[key])) for key in _sorted(structure)))
    if isinstance(structure, list | tuple):
        return (type(structure), *map(key_of, structure))
    return (type(structure), structure)
