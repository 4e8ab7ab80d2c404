"""Reading a TensorBundle: an index is believed only when all of it has been checked.

What can be proved from the index alone is proved here, before anything is allocated: versions,
dtypes, shapes, sizes, and that the slices of a tensor tile it. That the ranges lie inside the
data files is for whoever opens those files.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from dsave.errors import CorruptionError
from dsave.format.bundle import HEADER_KEY, Entry, slice_key, tiling_problem
from dsave.format.coding import Buffer
from dsave.format.crc32c import crc32c, unmask
from dsave.format.strings import decode_strings
from dsave.format.table import read_table
from dsave.model.dtype import DTYPES, DType
from dsave.model.slices import Box
from dsave.proto.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto
from dsave.proto.types_pb2 import DT_RESOURCE, DT_VARIANT, TensorSliceProto

_VERSION = 1
_MAX_RANK = 64  # of numpy
_LIMIT = 1 << 63
_UNSUPPORTED = frozenset({DT_RESOURCE, DT_VARIANT})
_DTYPES = {dtype.number: dtype for dtype in DTYPES}


@dataclass(frozen=True, slots=True)
class Index:
    """What a bundle holds.

    `entries`: for each key its pieces, in the order of its slices; they tile the tensor.
    `unsupported`: keys of resource handles and variants, which no array holds.
    """

    num_shards: int
    big_endian: bool
    entries: Mapping[str, tuple[Entry, ...]]
    unsupported: tuple[str, ...]


def read_index(data: Buffer, file: str) -> Index:
    """Read and check a whole index; `file` names it in errors.

    Raises:
        CorruptionError: it contradicts itself, or was written for readers that came later.
    """
    table = read_table(data, file)
    if not table or table[0][0] != HEADER_KEY:
        raise CorruptionError(file, "", "it has no header entry")
    num_shards, big_endian = _header(table[0][1], file)
    slices = {key: value for key, value in table[1:] if key[0] == 0}
    entries: dict[str, tuple[Entry, ...]] = {}
    unsupported = []
    types: dict[tuple[int, bytes], tuple[DType, tuple[int, ...]]] = {}
    for name, value in table[1 + len(slices) :]:
        try:
            key = name.decode()
        except UnicodeDecodeError:
            raise CorruptionError(file, repr(name), "its key is not UTF-8") from None
        proto = _parsed(value, key, file)
        if proto.dtype in _UNSUPPORTED:
            unsupported.append(key)
        elif proto.slices:
            entries[key] = _pieces(key, name, proto, slices, num_shards, file)
        else:
            # Most tensors of a model have the dtype and the shape of others.
            kind = (proto.dtype, proto.shape.SerializeToString())
            if kind not in types:
                types[kind] = _type(proto, key, file)
            entries[key] = (_entry(key, *types[kind], proto, None, num_shards, file),)
    if slices:
        raise CorruptionError(file, repr(next(iter(slices))), "it is a slice of no tensor")
    return Index(num_shards, big_endian, MappingProxyType(entries), tuple(unsupported))


def decode_tensor(
    entry: Entry, payload: Buffer, big_endian: bool, file: str, *, check: bool = True
) -> NDArray[Any]:
    """The array of one piece, of `entry.stored_shape`, from its `entry.nbytes` bytes.

    Read-only; without a copy unless the bundle is big-endian or the dtype is string.

    Raises:
        CorruptionError: too few bytes, or (with `check`) a checksum that does not match.
    """
    nbytes = memoryview(payload).nbytes
    if nbytes != entry.nbytes:
        raise CorruptionError(
            file, entry.key, f"it has {entry.nbytes} bytes, {nbytes} are there"
        )
    if entry.dtype.is_string:
        return decode_strings(
            payload,
            entry.stored_shape,
            file,
            entry.key,
            big_endian=big_endian,
            crc=entry.crc32c if check else None,
        )
    if check and crc32c(payload) != entry.crc32c:
        raise CorruptionError(file, entry.key, "its checksum does not match")
    return decode_elements(entry.dtype, entry.stored_shape, payload, big_endian)


def decode_elements(
    dtype: DType, shape: tuple[int, ...], payload: Buffer, big_endian: bool
) -> NDArray[Any]:
    """The read-only array of fixed-size elements. Requires: the bytes that the shape needs."""
    array: NDArray[Any]
    if big_endian and dtype.itemsize > 1:
        # By bytes, since numpy cannot swap the dtypes of ml_dtypes; a complex is two numbers.
        width = dtype.itemsize // 2 if dtype.numpy.kind == "c" else dtype.itemsize
        swapped = np.frombuffer(payload, np.uint8).reshape(-1, width)[:, ::-1]
        array = np.ascontiguousarray(swapped).reshape(-1).view(dtype.numpy).reshape(shape)
    else:
        array = np.frombuffer(payload, dtype.numpy).reshape(shape)
    array.flags.writeable = False
    return array


def _header(value: bytes, file: str) -> tuple[int, bool]:
    """Number of shards, and whether the data files are big-endian."""
    try:
        header = BundleHeaderProto.FromString(value)
    except DecodeError:
        raise CorruptionError(file, "", "its header is no BundleHeaderProto") from None
    version = header.version
    if version.min_consumer > _VERSION or _VERSION in version.bad_consumers:
        raise CorruptionError(
            file,
            "",
            f"readers of version {_VERSION} of the format may not read it",
        )
    if header.num_shards < 0:
        raise CorruptionError(file, "", f"it claims {header.num_shards} data files")
    if header.endianness not in {BundleHeaderProto.LITTLE, BundleHeaderProto.BIG}:
        raise CorruptionError(file, "", f"unknown endianness {header.endianness}")
    return header.num_shards, header.endianness == BundleHeaderProto.BIG


def _parsed(value: bytes, key: str, file: str) -> BundleEntryProto:
    try:
        return BundleEntryProto.FromString(value)
    except DecodeError:
        raise CorruptionError(file, key, "it is no BundleEntryProto") from None


def _type(proto: BundleEntryProto, key: str, file: str) -> tuple[DType, tuple[int, ...]]:
    """The dtype and the shape, which is known to be that of a possible array."""
    dtype = _DTYPES.get(proto.dtype)
    if dtype is None:
        raise CorruptionError(file, key, f"no tensor can have the dtype number {proto.dtype}")
    shape = tuple([dim.size for dim in proto.shape.dim])
    if proto.shape.unknown_rank or len(shape) > _MAX_RANK or (shape and min(shape) < 0):
        raise CorruptionError(file, key, f"no stored tensor has the shape {shape}")
    # Zeros aside: numpy refuses large dimensions even in an array without elements.
    if math.prod([size for size in shape if size]) * max(dtype.itemsize, 1) >= _LIMIT:
        raise CorruptionError(file, key, f"a {dtype} tensor of shape {shape} is too large")
    return dtype, shape


def _entry(
    key: str,
    dtype: DType,
    shape: tuple[int, ...],
    proto: BundleEntryProto,
    box: Box | None,
    num_shards: int,
    file: str,
) -> Entry:
    shard, offset, nbytes = proto.shard_id, proto.offset, proto.size
    if not 0 <= shard < num_shards:
        raise CorruptionError(file, key, f"it is in shard {shard} of {num_shards}")
    if offset < 0 or nbytes < 0 or offset + nbytes >= _LIMIT:
        raise CorruptionError(file, key, f"{nbytes} bytes at byte {offset} are in no file")
    count = math.prod(shape if box is None else box.lengths)
    if dtype.is_string:
        if nbytes < count + 4:
            raise CorruptionError(file, key, f"{count} strings cannot lie in {nbytes} bytes")
    elif nbytes != count * dtype.itemsize:
        raise CorruptionError(
            file, key, f"it has {nbytes} bytes, its shape needs {count * dtype.itemsize}"
        )
    return Entry(key, dtype, shape, shard, offset, nbytes, unmask(proto.crc32c), box)


def _pieces(
    key: str,
    name: bytes,
    proto: BundleEntryProto,
    slices: dict[bytes, bytes],
    num_shards: int,
    file: str,
) -> tuple[Entry, ...]:
    """The pieces of a sliced tensor, taken out of `slices`."""
    dtype, shape = _type(proto, key, file)
    entries = []
    for extents in map(_extents, proto.slices):
        box = _box(extents, shape)
        value = slices.pop(slice_key(name, extents), None) if box else None
        if box is None or value is None:
            raise CorruptionError(
                file, key, f"its slice {extents} is empty, missing or not its own"
            )
        piece = _parsed(value, key, file)
        if piece.slices or _type(piece, key, file) != (dtype, box.lengths):
            raise CorruptionError(
                file, key, f"its slice {box.spec(shape)} is of another tensor"
            )
        entries.append(_entry(key, dtype, shape, piece, box, num_shards, file))
    problem = tiling_problem(shape, [entry.box for entry in entries if entry.box is not None])
    if problem is not None:
        raise CorruptionError(file, key, problem)
    # Pieces that share bytes would let a small file promise a tensor of any size.
    placed = sorted((entry.shard, entry.offset, entry.nbytes) for entry in entries)
    for (shard, offset, nbytes), (following, start, _) in pairwise(placed):
        if shard == following and offset + nbytes > start:
            raise CorruptionError(
                file, key, f"two of its slices share byte {start} of a data file"
            )
    if len(entries) == 1:
        (whole,) = entries
        return (
            Entry(key, dtype, shape, whole.shard, whole.offset, whole.nbytes, whole.crc32c),
        )
    return tuple(entries)


def _extents(proto: TensorSliceProto) -> tuple[tuple[int, int], ...]:
    """(start, length) along each axis as in the slice's key: an open extent has length -1."""
    return tuple(
        (extent.start, extent.length if extent.HasField("length") else -1)
        for extent in proto.extent
    )


def _box(extents: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> Box | None:
    """The box of a slice, or None for extents that cannot be of a slice of this shape."""
    if len(extents) != len(shape):
        return None
    lengths = []
    for (start, length), size in zip(extents, shape, strict=True):
        is_open = (start, length) == (0, -1)
        if not is_open and (start < 0 or not 0 < length <= size - start):
            return None
        lengths.append(size if is_open else length)
    return Box(tuple(start for start, _ in extents), tuple(lengths))
