"""Cut what one host gives in data files: two policies to choose from, or one of the caller's.

A policy is called once for each host that gives bytes. The rules are TensorFlow's
(python/checkpoint/sharding/sharding_policies.py), with these differences:

    a tensor that TensorFlow does not put together from slices    is kept whole
    nothing fits in a file of its own, along no axis              is cut along several; in
                                                                  TensorFlow this never ends
    a tensor without elements                                     is kept; TensorFlow loses it
    what a policy returns                                         is checked
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dsave.errors import OptionError, OptionTypeError
from dsave.format.bundle import tiling_problem
from dsave.model.dtype import DType
from dsave.model.slices import Box

OPTION = "experimental_sharding_callback"


@dataclass(frozen=True, slots=True)
class ShardableTensor:
    """A tensor that a host gives to a save, or a part of one.

    `shape` is that of the whole tensor, `box` what of it is meant. `task` is the `CPU:0` of the
    host. `nbytes` are those of the elements; of strings, the sum of their lengths.
    """

    checkpoint_key: str
    dtype: DType
    shape: tuple[int, ...]
    box: Box
    task: str
    nbytes: int

    @property
    def divisible(self) -> bool:
        """Whether it may be cut: TensorFlow puts slices of its dtype together."""
        return self.dtype.reassembled and self.nbytes > 0

    def part(self, axis: int, start: int, length: int) -> "ShardableTensor":
        """`length` slices of it along an axis; `start` is counted from where it begins."""
        box = self.box.along(axis, start, length)
        return replace(self, box=box, nbytes=box.size * self.dtype.itemsize)


ShardingCallback = Callable[[Sequence[ShardableTensor]], Sequence[Sequence[ShardableTensor]]]
"""From what one host gives to the data files that it becomes: each tensor whole or in parts."""


@dataclass(frozen=True, slots=True)
class ShardByTaskPolicy:
    """One data file for each host: what a save does unless it is told otherwise."""

    def __call__(self, tensors: Sequence[ShardableTensor]) -> list[list[ShardableTensor]]:
        """The data files of one host."""
        return [list(tensors)]


@dataclass(frozen=True, slots=True)
class MaxShardSizePolicy:
    """Data files of at most `max_shard_size` bytes; larger tensors are cut.

    A file is larger if it holds a single element, or a single tensor that may not be cut, that
    is: strings, and dtypes that TensorFlow does not put together from slices. The lengths of
    strings count, not what is stored beside them.

    Raises:
        OptionError, OptionTypeError: the size is no integer above 0.
    """

    max_shard_size: int

    def __post_init__(self) -> None:
        given = self.max_shard_size
        if isinstance(given, bool) or not hasattr(given, "__index__"):
            raise OptionTypeError("max_shard_size", f"bytes, an int, are wanted, got {given!r}")
        if given < 1:
            raise OptionError("max_shard_size", f"at least 1 byte is wanted, got {given}")

    def __call__(self, tensors: Sequence[ShardableTensor]) -> list[list[ShardableTensor]]:
        """The data files of one host."""
        packing = _Packing(self.max_shard_size)
        for tensor in tensors:
            packing.add(tensor)
        return packing.shards


class _Packing:
    """Fills one file after the other; what is too large for any comes after them."""

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes = max_nbytes
        self._room = max_nbytes
        self._shards: list[list[ShardableTensor]] = [[]]
        self._oversize: list[list[ShardableTensor]] = []

    @property
    def shards(self) -> list[list[ShardableTensor]]:
        """The files that hold something."""
        return [shard for shard in self._shards if shard] + self._oversize

    def add(self, tensor: ShardableTensor) -> None:
        """Put a tensor in files, cut as need be."""
        if tensor.shape and tensor.divisible:
            self._add_cut(tensor)
        elif tensor.nbytes > self._max_nbytes:
            self._oversize.append([tensor])
        else:
            if tensor.nbytes > self._room:
                self._open()
            self._put(tensor)

    def _add_cut(self, tensor: ShardableTensor) -> None:
        while tensor.nbytes > self._room:
            axis, length = self._best_cut(tensor)
            if length:
                self._put(tensor.part(axis, 0, length))
            elif tensor.nbytes // max(tensor.box.lengths) <= self._max_nbytes:
                self._open()
                continue
            elif tensor.box.size == 1:
                self._oversize.append([tensor])
                return
            else:
                axis, length = next((a, 1) for a, n in enumerate(tensor.box.lengths) if n > 1)
                self._add_cut(tensor.part(axis, 0, length))
            tensor = tensor.part(axis, length, tensor.box.lengths[axis] - length)
        self._put(tensor)

    def _best_cut(self, tensor: ShardableTensor) -> tuple[int, int]:
        """(axis, length) of what the open file takes next; a length of 0 if nothing fits."""
        best: tuple[int, int, int] | None = None
        for axis, extent in enumerate(tensor.box.lengths):
            fitting = self._room // (tensor.nbytes // extent)
            if fitting:
                parts = -(-extent // fitting)
                if best is None or parts < best[0]:
                    best = parts, axis, -(-extent // parts)
        return (0, 0) if best is None else best[1:]

    def _put(self, tensor: ShardableTensor) -> None:
        self._shards[-1].append(tensor)
        self._room -= tensor.nbytes

    def _open(self) -> None:
        self._shards.append([])
        self._room = self._max_nbytes


def shards_of(
    tensors: Sequence[ShardableTensor], callback: ShardingCallback
) -> list[list[tuple[int, Box]]]:
    """The data files that the callback makes: for each, (number of a tensor, box of it).

    Raises:
        OptionError: a tensor, or a part of one, is lost, doubled, changed or added; a tensor is
            cut that may not be; or a file is empty.
        OptionTypeError: what the callback returns is no list of lists of tensors.
    """
    returned = callback(tensors)
    if not _is_listing(returned) or not all(map(_is_listing, returned)):
        raise OptionTypeError(
            OPTION, f"a list of tensors for each file is wanted, it returns {returned!r}"
        )
    given: dict[str, list[tuple[int, ShardableTensor]]] = {}
    for number, tensor in enumerate(tensors):
        given.setdefault(tensor.checkpoint_key, []).append((number, tensor))
    shards = [[_placed(given, piece) for piece in shard] for shard in returned]
    if not all(shards):
        raise OptionError(OPTION, f"file {shards.index([])} of those that it returns is empty")
    boxes: list[list[Box]] = [[] for _ in tensors]
    for shard in shards:
        for number, box in shard:
            boxes[number].append(box)
    for tensor, parts in zip(tensors, boxes, strict=True):
        problem = _problem(tensor, parts)
        if problem:
            raise _error(tensor, problem)
    return shards


def _is_listing(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _placed(
    given: Mapping[str, Sequence[tuple[int, ShardableTensor]]], piece: object
) -> tuple[int, Box]:
    """(number, box) of the tensor that a piece is of."""
    if not isinstance(piece, ShardableTensor):
        raise OptionTypeError(OPTION, f"it returns {piece!r} where a tensor is wanted")
    alike = given.get(piece.checkpoint_key, ())
    if not alike:
        raise _error(piece, "it is none of those that were given")
    for field in ("shape", "dtype", "task"):
        was, now = getattr(alike[0][1], field), getattr(piece, field)
        if was != now:
            raise _error(piece, f"its {field} was {was} and is {now}")
    for number, tensor in alike:
        if _inside(piece.box, tensor.box):
            return number, piece.box
    raise _error(piece, f"{piece.box} is in nothing that was given of it")


def _inside(box: Box, outer: Box) -> bool:
    alike = len(box.starts) == len(box.lengths) == len(outer.starts)
    return box == outer or (alike and box.overlap(outer) == box)


def _problem(tensor: ShardableTensor, boxes: list[Box]) -> str | None:
    if boxes == [tensor.box]:
        return None
    if not boxes:
        return "it is lost"
    if len(set(boxes)) < len(boxes):
        return "the same of it is returned twice"
    if not tensor.divisible and tensor.box not in boxes:
        return f"it is cut, and TensorFlow does not put slices of {tensor.dtype} together"
    return tiling_problem(tensor.box.lengths, [box.within(tensor.box) for box in boxes])


def _error(tensor: ShardableTensor, problem: str) -> OptionError:
    return OptionError(OPTION, f"tensor {tensor.checkpoint_key!r}: {problem}")
