"""What is known of a tensor while its elements are not."""

from dataclasses import dataclass
from typing import Any, Never

import numpy as np

from dsave.functions.graph import Shape
from dsave.functions.stack import trace_error
from dsave.functions.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Known:
    """A tensor as shape rules see it: what is known of it. An extent of None is unknown."""

    tensor: Tensor

    @property
    def shape(self) -> Shape:
        """The extents."""
        return self.tensor.spec.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.tensor.spec.shape)

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The numpy dtype."""
        return self.tensor.dtype

    def __int__(self) -> Never:
        raise trace_error("a shape", f"it depends on a tensor, {self.tensor.spec}")
