"""A TensorBundle: data files of tensor bytes, and one index that says where each tensor lies.

    data file   tensors one after another, without header or padding: row-major little-endian
                elements, or strings (see `strings`)
    index       a table (see `table`): "" -> BundleHeaderProto, tensor name -> BundleEntryProto

A tensor stored in slices has one entry under its name, with its whole shape and the list of its
slices, and one entry a slice under `slice_key`, with the slice's shape, file, offset and crc.

Sources: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, saved_tensor_slice_util.cc.
The reader is `bundle_reader`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dsave.errors import ModelError
from dsave.format.coding import (
    Buffer,
    fixed32,
    ordered_num,
    ordered_signed,
    ordered_string,
    varint,
)
from dsave.format.crc32c import crc32c as crc32c_of
from dsave.format.crc32c import mask
from dsave.format.table import TableBuilder
from dsave.model.dtype import DType
from dsave.model.slices import Box, first_overlap

HEADER_KEY = b""


class Entry(NamedTuple):  # indexes hold many: it is made and pickled in a third of the time
    """One run of bytes in a data file: a tensor, or one slice of it.

    `shape` is that of the whole tensor, `box` the slice that is stored here (None: all of it).
    `nbytes` and `offset` are in bytes, `crc32c` is not masked.
    """

    key: str
    dtype: DType
    shape: tuple[int, ...]
    shard: int
    offset: int
    nbytes: int
    crc32c: int
    box: Box | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of what is stored here."""
        return self.shape if self.box is None else self.box.lengths


class ShardWriter:
    """Writes one data file through `write`, which is given every chunk as it came."""

    def __init__(self, shard: int, write: Callable[[Buffer], object]) -> None:
        self.entries: list[Entry] = []
        self.nbytes = 0
        self._shard = shard
        self._write = write

    def add(
        self,
        key: str,
        dtype: DType,
        shape: Sequence[int],
        chunks: Iterable[Buffer],
        box: Box | None = None,
        crc32c: int | None = None,
    ) -> Entry:
        """Append a tensor of this shape, or the slice `box` of one, given as row-major chunks.

        `crc32c`: the crc to store, for strings, whose crc is not that of their bytes.

        Raises:
            ValueError: the chunks have more or fewer bytes than the tensor; what was written of
                them stays in the file, so the file must be given up.
        """
        shape = tuple(shape)
        if box is not None and box.covers(shape):
            box = None
        crc, offset = 0, self.nbytes
        for chunk in chunks:
            if crc32c is None:
                crc = crc32c_of(chunk, crc)  # while it is in the cache for the write
            self._write(chunk)
            self.nbytes += memoryview(chunk).nbytes
        entry = Entry(
            key,
            dtype,
            shape,
            self._shard,
            offset,
            self.nbytes - offset,
            crc if crc32c is None else crc32c,
            box,
        )
        wanted = Box.whole(entry.stored_shape).size * dtype.itemsize
        if not dtype.is_string and entry.nbytes != wanted:
            raise ValueError(f"{key}: got {entry.nbytes} bytes, its shape needs {wanted}")
        self.entries.append(entry)
        return entry


def build_index(entries: Iterable[Entry], num_shards: int) -> bytes:
    """The index of a bundle; what TensorFlow's merge of the same shards gives, byte for byte.

    The order of `entries` does not matter. Requires: every shard is below `num_shards`.

    Raises:
        ModelError: a key that no tensor can have, a key twice, or slices that do not tile their
            tensor.
    """
    pieces: dict[str, list[Entry]] = {}
    for entry in entries:
        assert entry.shard < num_shards, entry
        pieces.setdefault(entry.key, []).append(entry)
    table = {HEADER_KEY: b"\x08" + varint(num_shards) + b"\x1a\x02\x08\x01"}
    for key, stored in pieces.items():
        name = key.encode()
        # Keys that begin with 0 are those of slices.
        if not name or name[0] == 0:
            raise ModelError(repr(key), "a key is not empty and does not begin with NUL")
        if len(stored) == 1 and stored[0].box is None:
            table[name] = _encoded(stored[0])
            continue
        stored.sort(key=lambda piece: (piece.shard, piece.offset))
        boxes = _tiling(key, stored)
        table[name] = _encoded_slices(stored[0], boxes)
        for piece, box in zip(stored, boxes, strict=True):
            table[slice_key(name, zip(box.starts, box.lengths, strict=True))] = _encoded(piece)
    builder = TableBuilder()
    for name in sorted(table):
        builder.add(name, table[name])
    return builder.finish()


def slice_key(name: bytes, extents: Iterable[tuple[int, int]]) -> bytes:
    """The key of the entry of a slice, given as (start, length) along each axis."""
    pairs = tuple(extents)
    ordered = b"".join(
        ordered_signed(start) + ordered_signed(length) for start, length in pairs
    )
    return ordered_num(0) + ordered_string(name) + ordered_num(len(pairs)) + ordered


def tiling_problem(shape: tuple[int, ...], boxes: Sequence[Box]) -> str | None:
    """What keeps these boxes from tiling a tensor of this shape, or None if they do.

    Tiling: each element is in exactly one box. Requires: boxes of the tensor's rank.
    """
    for box in boxes:
        inside = all(
            start >= 0 and 0 < length <= size - start
            for start, length, size in zip(box.starts, box.lengths, shape, strict=True)
        )
        if not inside:
            return f"the slice {box.spec(shape)} is empty or leaves its tensor"
    overlap = first_overlap(boxes) if shape else None
    if overlap is not None:
        return f"its slices {overlap[0].spec(shape)} and {overlap[1].spec(shape)} overlap"
    covered, size = sum(box.size for box in boxes), Box.whole(shape).size
    if covered != size:
        return f"its slices hold {covered} of its {size} elements"
    return None


def _tiling(key: str, stored: list[Entry]) -> list[Box]:
    first = stored[0]
    boxes = [piece.box for piece in stored if piece.box is not None]
    if len(boxes) < len(stored):
        raise ModelError(key, "two tensors have this checkpoint key")
    for piece in stored:
        if (piece.dtype, piece.shape) != (first.dtype, first.shape):
            raise ModelError(
                key,
                f"slices of different tensors: {first.dtype} {first.shape} and "
                f"{piece.dtype} {piece.shape}",
            )
    problem = tiling_problem(first.shape, boxes)
    if problem is not None:
        raise ModelError(key, problem)
    return boxes


def _encoded(entry: Entry) -> bytes:
    # By hand: as protobuf would, fields in order and zeros left out, in a quarter of the time.
    encoded = bytearray(b"\x08%c" % entry.dtype.number)
    encoded += _shape(entry.stored_shape)
    if entry.shard:
        encoded += b"\x18" + varint(entry.shard)
    if entry.offset:
        encoded += b"\x20" + varint(entry.offset)
    if entry.nbytes:
        encoded += b"\x28" + varint(entry.nbytes)
    crc = mask(entry.crc32c)
    if crc:
        encoded += b"\x35" + fixed32(crc)
    return bytes(encoded)


def _encoded_slices(first: Entry, boxes: list[Box]) -> bytes:
    encoded = bytearray(b"\x08%c" % first.dtype.number)
    encoded += _shape(first.shape)
    # It has no bytes of its own; TensorFlow's merge gives it the first shard that has it.
    if first.shard:
        encoded += b"\x18" + varint(first.shard)
    for box in boxes:
        extents = b"".join(
            _message(b"\x0a", (b"\x08" + varint(start) if start else b"") + b"\x10" + varint(n))
            for start, n in zip(box.starts, box.lengths, strict=True)
        )
        encoded += _message(b"\x3a", extents)
    return bytes(encoded)


def _shape(shape: tuple[int, ...]) -> bytes:
    return _message(
        b"\x12", b"".join(_message(b"\x12", b"\x08" + varint(n) if n else b"") for n in shape)
    )


def _message(tag: bytes, message: bytes) -> bytes:
    return tag + varint(len(message)) + message
