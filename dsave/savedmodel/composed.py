"""Ops that the table does not have, by those that it has.

They are arithmetic on arrays, and on tensors, which records what they are made of.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from dsave.functions.call import call


def _add_all(_: Mapping[str, Any], *values: Any) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _sliced(_: Mapping[str, Any], value: Any, begin: Any, size: Any) -> Any:
    return value[
        tuple(
            slice(start, None if length < 0 else start + length)
            for start, length in zip(begin.tolist(), size.tolist(), strict=True)
        )
    ]


COMPOSED: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "Add": _add_all,
        "AddN": _add_all,
        "BiasAdd": lambda attrs, value, bias: (
            value + bias.reshape(-1, *[1] * (value.ndim - 2))
            if attrs.get("data_format") == b"NCHW"
            else value + bias
        ),
        "Erfc": lambda _, value: 1 - call("Erf", [value]),
        "ResourceGather": lambda _, value, rows: np.take(value, rows, axis=0),
        "Rsqrt": lambda _, value: np.reciprocal(np.sqrt(value)),
        "Slice": _sliced,
        "SquaredDifference": lambda _, first, second: np.square(first - second),
    }
)
"""From attributes and inputs to the one output."""
