"""A checkpoint, read lazily: the index at once, tensors and rows of tensors when asked for.

The arrays of a local checkpoint are views of the mapped data files, read-only, and stay valid
after it is closed. A checksum covers a whole piece (a tensor, or a slice of one), so it is
checked when all of a piece is read, and not when some rows of it are.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dsave.errors import CorruptionError, MissingKeyError, NotCommittedError
from dsave.format import naming
from dsave.format.bundle import Entry
from dsave.format.bundle_reader import Index, decode_elements, decode_tensor, read_index
from dsave.format.coding import Buffer
from dsave.format.crc32c import crc32c_told
from dsave.model.slices import Box
from dsave.model.trackable import VALUE_SUFFIX
from dsave.runtime.absence import absence
from dsave.runtime.source import Source

Array = NDArray[Any]

_COMPARED = 1000
"""Keys that one which is not there is compared with: each takes microseconds."""


def _nobody(_: int) -> None:
    pass


class Checkpoint(Mapping[str, "StoredTensor"]):
    """Stored tensors by checkpoint key, in the order of their keys.

    `path` is what was opened, `prefix` that of the bundle in it.
    """

    def __init__(self, path: str, source: Source, prefix: str) -> None:
        self.path = path
        self._source = source
        self._prefix = prefix
        self.index_file = naming.index_file(prefix)
        try:
            data = source.read(self.index_file, 0, source.size(self.index_file))
        except FileNotFoundError:
            raise CorruptionError(self.index_file, "", "the index is missing") from None
        self._index = read_index(data, self.index_file)
        self._entries = dict(self._index.entries)
        self._object_graph = self._entries.pop(naming.OBJECT_GRAPH_KEY, None)
        self._last: dict[int, Entry] = {}
        for entry in chain.from_iterable(self._index.entries.values()):
            last = self._last.setdefault(entry.shard, entry)
            if entry.offset + entry.nbytes > last.offset + last.nbytes:
                self._last[entry.shard] = entry
        self._checked: set[int] = set()
        for shard in self._last:  # a later save may take this one's place
            source.hold(self.data_file(shard))

    @property
    def index(self) -> Index:
        """What the index says, of the object graph too."""
        return self._index

    @property
    def object_graph(self) -> bytes | None:
        """The serialized object graph; None for a checkpoint without one."""
        if self._object_graph is None:
            return None
        graph = StoredTensor(self, self._object_graph)[()]
        if not isinstance(graph, bytes):
            raise CorruptionError(self.path, naming.OBJECT_GRAPH_KEY, "it is no scalar string")
        return graph

    @property
    def num_shards(self) -> int:
        """Number of data files."""
        return self._index.num_shards

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Keys of entries that are no arrays: resource handles and variants."""
        return self._index.unsupported

    def __getitem__(self, key: str) -> "StoredTensor":
        if key not in self._entries:
            raise MissingKeyError(self.path, key, self._nearest(key))
        return StoredTensor(self, self._entries[key])

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path}: {len(self)} tensors in {self.num_shards} data files>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. Arrays stay valid; what is read later opens the files again.

        They are those of the same directory, though another save has taken its place.
        """
        self._source.close()
        self._checked.clear()

    def sizes(self) -> dict[int, int | None]:
        """Bytes of each data file that entries are in, by shard; None: it cannot be read."""
        sizes: dict[int, int | None] = {}
        for shard in sorted(self._last):
            try:
                sizes[shard] = self._source.size(self.data_file(shard))
            except (OSError, CorruptionError):
                sizes[shard] = None
        return sizes

    def read_piece(self, entry: Entry, told: Callable[[int], object] = _nobody) -> Array:
        """All of one piece, its checksum checked; `told` hears of bytes as they are read."""
        payload = self._payload(entry, 0, entry.nbytes)
        crc = crc32c_told(payload, told)
        file = self.data_file(entry.shard)
        is_string = entry.dtype.is_string  # whose checksum is not that of the bytes
        array = decode_tensor(entry, payload, self._index.big_endian, file, check=is_string)
        if not is_string and crc != entry.crc32c:
            raise CorruptionError(file, entry.key, "its checksum does not match")
        return array

    def read_rows(
        self, entry: Entry, start: int, stop: int, told: Callable[[int], object] = _nobody
    ) -> Array:
        """Some rows of one piece, counted from its own first row.

        Only their bytes are read, except of strings: where a row of those begins is not known.
        Of all of a piece the checksum is checked, and `told` hears of bytes as they are read.
        """
        shape = entry.stored_shape
        if not shape or (start, stop) == (0, shape[0]):
            return self.read_piece(entry, told)
        if entry.dtype.is_string:
            return self.read_piece(entry)[start:stop]
        row_nbytes = math.prod(shape[1:]) * entry.dtype.itemsize
        payload = self._payload(entry, start * row_nbytes, (stop - start) * row_nbytes)
        rows = (stop - start, *shape[1:])
        return decode_elements(entry.dtype, rows, payload, self._index.big_endian)

    def check_place(self, entry: Entry) -> None:
        """See that the entry's data file is there and has room for all of its entries.

        Raises:
            CorruptionError: it is missing or too short.
        """
        if entry.shard in self._checked:
            return
        file = self.data_file(entry.shard)
        try:
            size = self._source.size(file)
        except FileNotFoundError:
            raise CorruptionError(
                file,
                entry.key,
                "the data file is not here; a host-local directory has only its own host's",
            ) from None
        last = self._last[entry.shard]
        if size < last.offset + last.nbytes:
            raise CorruptionError(
                file,
                last.key,
                f"it ends at byte {last.offset + last.nbytes}, the file at {size}",
            )
        self._checked.add(entry.shard)

    def read_bytes(self, shard: int, offset: int, nbytes: int) -> Buffer:
        """Bytes of a data file. Requires: they lie inside it."""
        return self._source.read(self.data_file(shard), offset, nbytes)

    def _nearest(self, wrong: object) -> str:
        """Which key may have been meant, as a question."""
        suffix = f"/{VALUE_SUFFIX}"
        name = str(wrong).removesuffix(suffix)
        named = {key.removesuffix(suffix): key for key in islice(self._entries, _COMPARED)}
        if f"{name}{suffix}" in self:
            named[name] = f"{name}{suffix}"
        near = get_close_matches(name, named, n=1)
        return f"did you mean {named[near[0]]!r}?" if near else ""

    def _payload(self, entry: Entry, offset: int, nbytes: int) -> Buffer:
        self.check_place(entry)
        return self.read_bytes(entry.shard, entry.offset + offset, nbytes)

    def data_file(self, shard: int) -> str:
        """The whole name of a data file."""
        return naming.data_file(shard, self._index.num_shards, self._prefix)


class StoredTensor:
    """One tensor of a checkpoint. `tensor[...]`, `tensor[10:20]` and `np.asarray` read it."""

    __slots__ = ("_checkpoint", "entries")

    def __init__(self, checkpoint: Checkpoint, entries: tuple[Entry, ...]) -> None:
        self._checkpoint = checkpoint
        self.entries = entries

    @property
    def key(self) -> str:
        """Its checkpoint key."""
        return self.entries[0].key

    @property
    def shape(self) -> tuple[int, ...]:
        """Its whole shape."""
        return self.entries[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the arrays; object for strings, whose elements are bytes."""
        return self.entries[0].dtype.numpy

    @property
    def nbytes(self) -> int:
        """Bytes in the data files."""
        return sum(entry.nbytes for entry in self.entries)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self.key} is a scalar and has no length")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """What numpy gives for this index; of axis 0 only the rows needed are read."""
        first, *others = index if isinstance(index, tuple) and index else (index,)
        if self.shape and isinstance(first, slice):
            rows = range(self.shape[0])[first]
            start, stop = (
                (min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1) if rows else (0, 0)
            )
            return self._rows(start, stop)[(slice(None, None, rows.step), *others)]
        if self.shape and isinstance(first, int | np.integer) and not isinstance(first, bool):
            row = range(self.shape[0])[first]
            return self._rows(row, row + 1)[(0, *others)]
        return self._rows(0, self.shape[0] if self.shape else 1)[index]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        array: Array = self[...]
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"{self.key}: {self.dtype} becomes {dtype} only by a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __repr__(self) -> str:
        return f"<StoredTensor {self.key}: {self.entries[0].dtype} {self.shape}>"

    def _rows(self, start: int, stop: int) -> Array:
        """Rows start to stop of axis 0, or the scalar."""
        shape = self.shape
        if not shape:
            return self._checkpoint.read_piece(self.entries[0])
        wanted = Box((start, *(0,) * (len(shape) - 1)), (stop - start, *shape[1:]))
        parts = []
        for entry in self.entries:
            box = entry.box or Box.whole(shape)
            part = box.overlap(wanted)
            if part == wanted or len(self.entries) == 1:
                first = start - box.starts[0]
                return self._checkpoint.read_rows(entry, first, first + stop - start)
            if part is not None:
                self._checkpoint.check_place(entry)
                parts.append((entry, box, part))
        # Only now: the parts lie apart in files that are there, so it is no larger than those.
        assembled = np.empty(wanted.lengths, self.dtype)
        for entry, box, part in parts:
            first = part.starts[0] - box.starts[0]
            rows = self._checkpoint.read_rows(entry, first, first + part.lengths[0])
            assembled[part.within(wanted).index] = rows
        assembled.flags.writeable = False
        return assembled


def open_checkpoint(path: str, source: Source) -> Checkpoint:
    """Open a SavedModel directory, or the bundle with this prefix, for which the source is.

    Raises:
        NotCommittedError: there is no SavedModel, and no bundle either.
        CorruptionError: its index lies.
    """
    if source.exists(f"{path}/{naming.SAVED_MODEL_FILE}"):
        return Checkpoint(path, source, f"{path}/{naming.VARIABLES_PREFIX}")
    if source.exists(naming.index_file(path)):
        return Checkpoint(path, source, path)
    raise NotCommittedError(path, absence(source, path, path))
