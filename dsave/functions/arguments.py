"""The arguments of a function: what they are traced as, and whether they fit what is wanted."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dsave.errors import OptionTypeError
from dsave.functions.graph import TensorSpec
from dsave.functions.names import Names
from dsave.functions.number import Number
from dsave.functions.operands import Value, described, known_shape, operand
from dsave.functions.structure import flatten, mapped, paths, rebuilt
from dsave.functions.tensor import Tensor
from dsave.model.readable import value_of

Args = tuple[object, ...]
KeywordArgs = dict[str, object]

Change = Callable[[object, TensorSpec, str], object]
"""From an argument, the spec that is wanted of it and the function's name to what is taken."""

_LITERALS = frozenset({bool, int, float, str, bytes, type(None)})


def spec_of(argument: object) -> object:
    """What an argument is traced as: the spec of a tensor, or a Python value as it is.

    Raises:
        OptionTypeError: it is neither.
    """
    if isinstance(argument, TensorSpec) or type(argument) in _LITERALS:
        return argument
    if isinstance(argument, Tensor | np.ndarray | np.generic):
        return described(operand(argument))
    raise OptionTypeError(
        "an argument",
        f"a TensorSpec, an array, a number, a str or None is wanted, got {argument!r}; "
        "variables are read in the function",
    )


def fitting_spec(given: object, wanted: TensorSpec, name: str) -> TensorSpec:
    """The spec that is wanted, if what is given fits it.

    Raises:
        OptionTypeError: it has another shape or dtype.
    """
    spec = spec_of(given)
    if (
        isinstance(spec, TensorSpec)
        and spec.dtype.numpy == wanted.dtype.numpy
        and wanted.accepts(spec.shape)
    ):
        return wanted
    raise OptionTypeError(name, f"{wanted} is wanted, got {spec}")


def fitting_value(given: object, wanted: TensorSpec, name: str) -> Value:
    """The argument as a tensor or an array; Python numbers and lists take the wanted dtype.

    Raises:
        OptionTypeError: it has another shape or dtype.
    """
    given = value_of(given)
    if not isinstance(given, Tensor | np.ndarray | np.generic):
        try:
            given = np.asarray(given, wanted.dtype.numpy)
        except (TypeError, ValueError, OverflowError) as error:
            raise OptionTypeError(name, f"{wanted} is wanted: {error}") from None
    value = operand(given.astype(wanted.dtype) if isinstance(given, Number) else given)
    fitting_spec(described(value), wanted, name)
    return value


def fitted(wanted: object, given: object, name: str, change: Change) -> object:
    """The arguments with each tensor among them changed to what is wanted in its place.

    Raises:
        OptionTypeError: their lists, tuples and dicts are not those that are wanted.
    """
    if isinstance(wanted, TensorSpec):
        return change(given, wanted, name)
    if isinstance(wanted, Mapping):
        if not isinstance(given, Mapping) or given.keys() != wanted.keys():
            keys = ", ".join(map(str, wanted))
            raise OptionTypeError(name, f"a dict of {keys} is wanted, got {given!r}")
        return {key: fitted(wanted[key], given[key], name, change) for key in given}
    if isinstance(wanted, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(wanted):
            raise OptionTypeError(name, f"{len(wanted)} items are wanted, got {given!r}")
        pairs = zip(wanted, given, strict=True)
        return rebuilt(wanted, [fitted(*pair, name, change) for pair in pairs])
    return given


def named(signature: inspect.Signature, args: Args, kwargs: KeywordArgs) -> Any:
    """The arguments with a name for each TensorSpec among them, its own if it has one."""
    names = _leaf_names(signature, args, kwargs)
    unique = Names(case_matters=True).unique

    def with_name(leaf: object) -> object:
        name = next(names)
        if not isinstance(leaf, TensorSpec):
            return leaf
        return TensorSpec(leaf.dims, leaf.dtype, unique(leaf.name or name))

    return mapped(with_name, (args, kwargs))


def check_names(wanted: object, given: object, name: str) -> None:
    """Whether extents that have one name in the specs are equal in the values.

    Raises:
        OptionTypeError: they are not.
    """
    found: dict[Any, Any] = {}
    for spec, value in zip(flatten(wanted), flatten(given), strict=True):
        if not isinstance(spec, TensorSpec) or not isinstance(value, Tensor | np.ndarray):
            continue
        for dim, extent in zip(spec.dims, known_shape(value), strict=True):
            has_name = isinstance(dim, str) and extent is not None
            if has_name and found.setdefault(dim, extent) != extent:
                raise OptionTypeError(name, f"{dim!r} is {found[dim]} and {extent}")


def _leaf_names(signature: inspect.Signature, args: Args, kwargs: KeywordArgs) -> Iterator[str]:
    """A name for each leaf of the arguments: its parameter's, and the way from there."""
    positional: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            count = len(args) - len(positional)
            positional += [f"{parameter.name}_{index}" for index in range(count)]
        elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            positional.append(parameter.name)
    by_name: list[tuple[str, Any]] = [
        *zip(positional, args, strict=False),
        *((name, kwargs[name]) for name in sorted(kwargs)),
    ]
    for name, value in by_name:
        for path in paths(value):
            yield "_".join((name, *path))
