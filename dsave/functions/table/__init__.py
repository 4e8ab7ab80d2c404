"""The one table of ops: TensorFlow's by name, and what numpy's functions are in them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dsave.functions.op import Op
from dsave.functions.table import (
    arithmetic,
    broadcasting,
    casts,
    composed,
    convolution,
    creation,
    elementwise,
    gathering,
    indexing,
    layers,
    layout,
    linear,
    masks,
    matrices,
    nn,
    padding,
    pieces,
    pooling,
    reductions,
    resizing,
    shapes,
    sorting,
    statistics,
    ufuncs,
    vision,
)
from dsave.functions.tensor import Face

_PARTS = (
    *(casts, arithmetic, elementwise, composed, ufuncs),
    *(reductions, statistics, linear, matrices),
    *(shapes, creation, broadcasting, layout, padding, pieces),
    *(indexing, gathering, masks, sorting),
    *(nn, layers, convolution, pooling, resizing, vision),
)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for part in _PARTS for op in part.OPS})
"""Every op that dsave can run and infer, by TensorFlow's name."""

FACES: Mapping[Callable[..., Any], Face] = MappingProxyType(
    {function: face for part in _PARTS for function, face in part.FACES.items()}
)
"""What each numpy function does to traced tensors."""
