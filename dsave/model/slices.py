"""Boxes in a tensor: the only place that does index arithmetic.

A box is half-open in every axis: `starts[i] <= index < starts[i] + lengths[i]`.
The text form is TensorFlow's `shape_and_slices` (tensorflow/core/framework/tensor_slice.cc).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A box in a tensor, one start and one length (both in elements) for each axis."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "Box":
        """The box that is all of a tensor of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def size(self) -> int:
        """Elements in the box."""
        return math.prod(self.lengths)

    @property
    def index(self) -> tuple[slice, ...]:
        """The box as a numpy index."""
        return tuple(
            slice(start, start + length)
            for start, length in zip(self.starts, self.lengths, strict=True)
        )

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether the box is all of a tensor of this shape."""
        return self == Box.whole(shape)

    def overlap(self, other: "Box") -> "Box | None":
        """The part that both boxes have, or None if they share no element."""
        starts = tuple(max(a, b) for a, b in zip(self.starts, other.starts, strict=True))
        stops = (
            min(a + n, b + m)
            for a, n, b, m in zip(
                self.starts, self.lengths, other.starts, other.lengths, strict=True
            )
        )
        lengths = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
        if any(length <= 0 for length in lengths):
            return None
        return Box(starts, lengths)

    def within(self, outer: "Box") -> "Box":
        """The same box, counted from the corner of `outer`."""
        return Box(
            tuple(a - b for a, b in zip(self.starts, outer.starts, strict=True)), self.lengths
        )

    def along(self, axis: int, start: int, length: int) -> "Box":
        """`length` slices of the box along an axis; `start` is counted from its corner."""
        starts, lengths = list(self.starts), list(self.lengths)
        starts[axis] += start
        lengths[axis] = length
        return Box(tuple(starts), tuple(lengths))

    def spec(self, shape: Sequence[int]) -> str:
        """TensorFlow's text for this box of a tensor of this shape, all extents explicit."""
        extents = ":".join(
            f"{start},{length}" for start, length in zip(self.starts, self.lengths, strict=True)
        )
        return " ".join([*map(str, shape), extents])


def blocks(box: Box, size: int) -> Iterator[Box]:
    """Cut a box, in row-major order, in boxes of at most `size` elements, and at least one."""
    extent = next((axis for axis, n in enumerate(box.lengths) if n > 1), None)
    if extent is None or box.size <= size:
        if box.size:
            yield box
        return
    rows = max(1, size // (box.size // box.lengths[extent]))
    for start in range(0, box.lengths[extent], rows):
        run = box.along(extent, start, min(rows, box.lengths[extent] - start))
        if run.size <= size:
            yield run
        else:
            yield from blocks(run, size)


def partition(size: int, parts: int) -> list[tuple[int, int]]:
    """Cut `size` rows in `parts` runs (start, length); the first ones get the remainder.

    Requires: 0 < parts <= size, so that no run is empty.
    """
    base, extra = divmod(size, parts)
    lengths = [base + (part < extra) for part in range(parts)]
    starts = [sum(lengths[:part]) for part in range(parts)]
    return list(zip(starts, lengths, strict=True))


def first_overlap(boxes: Sequence[Box]) -> tuple[Box, Box] | None:
    """Two of the boxes that share an element, or None. All have one rank, at least 1."""
    if len(boxes) < 2:
        return None
    starts = np.array([box.starts for box in boxes], np.int64)
    stops = starts + np.array([box.lengths for box in boxes], np.int64)
    # Along the axis with the most cuts the fewest boxes lie side by side.
    axis = int(np.argmax([np.unique(column).size for column in starts.T]))
    order = np.argsort(starts[:, axis], kind="stable")
    starts, stops = starts[order], stops[order]
    beyond = np.searchsorted(starts[:, axis], stops[:, axis], side="left")
    for here in np.flatnonzero(beyond > np.arange(len(boxes)) + 1):
        others = slice(here + 1, beyond[here])
        apart = (starts[others] >= stops[here]) | (stops[others] <= starts[here])
        meeting = np.flatnonzero(~apart.any(axis=1))
        if meeting.size:
            return boxes[order[here]], boxes[order[here + 1 + meeting[0]]]
    return None
