"""A traced function: its arguments, nodes, captured variables and outputs.

The first nodes, one for each argument, are placeholders. A variable is read by one node,
which says *what* is read; how is a matter of the policy of a save.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from dsave.errors import OptionError, OptionTypeError
from dsave.model.asset import Asset
from dsave.model.dtype import DType, dtype_of
from dsave.model.variable import Component, Variable

Shape = tuple[int | None, ...]
"""Extents; None is one that is not known before the function runs."""

Array = NDArray[Any]

Attr = (
    DType
    | bool
    | int
    | float
    | bytes
    | Shape
    | Array
    | list[DType]
    | list[bool]
    | list[int]
    | list[float]
    | list[bytes]
    | list[Shape]
)
"""An attribute of a node: a tuple is a shape, an array a tensor, a list a list."""

Attrs = Mapping[str, Attr]

Capture = Variable | Component | Asset
"""What a function reads of the model."""

PLACEHOLDER = "Placeholder"
CONST = "Const"
READ = "ReadVariableOp"
"""The ops that graphs are made of beside those of the table: arguments, constants, reads."""


@dataclass(frozen=True, slots=True, init=False)
class TensorSpec:
    """The shape, the dtype and perhaps the name of a tensor.

    An extent that is not known may have a name: those of one name are equal in all arguments
    of a function. `dims` are the extents with these names, of which `shape` knows nothing.

    Raises:
        DtypeError: a SavedModel cannot hold this dtype.
        OptionError: an extent that is neither None, nor a name, nor 0 or more.
        OptionTypeError: a shape that is no list of extents.
    """

    shape: Shape
    dtype: DType
    name: str | None
    dims: tuple[int | str | None, ...]

    def __init__(
        self,
        shape: Sequence[int | str | None],
        dtype: object = "float32",
        name: str | None = None,
    ) -> None:
        if isinstance(shape, str) or not isinstance(shape, Iterable):
            raise OptionTypeError("shape", f"a list of extents is wanted, got {shape!r}")
        dims = tuple(_dim(extent, shape) for extent in shape)
        set_field = object.__setattr__  # the frozen dataclass is normalised once, here
        set_field(self, "shape", tuple(None if isinstance(n, str) else n for n in dims))
        set_field(self, "dtype", dtype_of(dtype))
        set_field(self, "name", name)
        set_field(self, "dims", dims)

    def accepts(self, shape: Sequence[int | None]) -> bool:
        """Whether tensors of this shape are of the spec's shape."""
        return len(shape) == len(self.shape) and all(
            mine is None or mine == given for mine, given in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.dims)}"

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"TensorSpec({list(self.dims)}, {self.dtype.name!r}{name})"


@lru_cache(maxsize=4096)
def unnamed_spec(shape: Shape, dtype: DType) -> TensorSpec:
    """The spec of tensors in a graph, of which few differ."""
    return TensorSpec(shape, dtype)


def _dim(extent: object, shape: object) -> int | str | None:
    # Of a tensor that is traced an unknown extent is itself a tensor.
    if extent is None or isinstance(getattr(extent, "spec", None), TensorSpec):
        return None
    if isinstance(extent, str) and extent.isidentifier():
        return extent
    if not hasattr(extent, "__index__") or extent.__index__() < 0:
        raise OptionError("shape", f"each extent is None, a name, 0 or more, got {shape}")
    return int(extent.__index__())


@dataclass(frozen=True, slots=True)
class Frame:
    """One call on the user's stack."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Output:
    """The tensor that is output `index` of node `node` of a graph."""

    node: int
    index: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """One op.

    `attrs` leaves out what is at the op's default. `outputs` are unnamed, all of them in a
    row; `output_args` are the op's output arguments, each with the number of tensors in it.
    `stack` is the user's, oldest call first. `capture` is the index of what a read reads.
    """

    name: str
    op: str
    inputs: tuple[Output, ...]
    attrs: Attrs
    outputs: tuple[TensorSpec, ...]
    output_args: tuple[tuple[str, int], ...]
    stack: tuple[Frame, ...]
    capture: int | None = None


Call = tuple[Any, tuple[tuple[object, ...], dict[str, object]]]
"""A function, and what it was called with: TensorSpecs, and Python values as they were."""


@dataclass(frozen=True, slots=True)
class FunctionGraph:
    """One traced function.

    Node `i` is the placeholder of `arguments[i]`: they are in the order of the flattened
    `structured_inputs`, (positional, by keyword), whose leaves are these TensorSpecs and
    Python values that were traced as they were. `outputs` are in the order of the flattened
    `structured_outputs`, whose leaves are TensorSpecs and None. Dicts are flattened by sorted
    key. `captures` are in the order of their first use. `calls` are the functions that were
    called, whose graphs are parts of this one, each with (positional, by keyword) what it was
    called with.
    """

    name: str
    arguments: tuple[TensorSpec, ...]
    structured_inputs: tuple[tuple[object, ...], dict[str, object]]
    nodes: tuple[Node, ...]
    captures: tuple[Capture, ...]
    outputs: tuple[Output, ...]
    structured_outputs: object
    calls: tuple[Call, ...] = ()
