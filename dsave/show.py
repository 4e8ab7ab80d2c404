"""What a SavedModel or a checkpoint holds, whoever wrote it: as a value, as JSON, and as text.

Only metadata is read. JSON has every fact and whole device names; the text has short ones.
"""

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial

from dsave.errors import NotCommittedError
from dsave.format import naming
from dsave.model.short_names import short_devices
from dsave.model.slices import Box
from dsave.model.trackable import VALUE_SUFFIX
from dsave.model.variable import Aggregation, Synchronization
from dsave.runtime.absence import absence
from dsave.runtime.checkpoint import Checkpoint, open_checkpoint
from dsave.runtime.paths import location
from dsave.runtime.source import Source, of_one_save, read_whole
from dsave.runtime.terminal import count_text, plain_table, size_text, table_text
from dsave.savedmodel.summary import (
    Shape,
    Summary,
    TensorSummary,
    VariableSummary,
    read_summary,
)

_KINDS = {
    Synchronization.AUTO: "",
    Synchronization.NONE: "sharded",
    Synchronization.ON_WRITE: "mirrored",
    Synchronization.ON_READ: "sync-on-read",
}

_PIECES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes in a data file: all of a tensor, or the box of it."""

    file: str
    offset: int
    nbytes: int
    box: Box | None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the checkpoint."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file; `nbytes` is its size, None if it is not in the directory."""

    file: str
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class Contents:
    """A SavedModel: what its graph says, and its tensors by checkpoint key.

    Of a checkpoint `directory` is the prefix, and `summary` None.
    """

    directory: str
    summary: Summary | None
    tensors: Mapping[str, Tensor]
    data_files: tuple[DataFile, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def read_contents(directory: str) -> Contents:
    """Look into a directory of this machine or at an fsspec URL, or at a checkpoint's prefix.

    Raises:
        NotCommittedError: there is no SavedModel, and no checkpoint either.
        CorruptionError: its `saved_model.pb` or its index lies.
        DirectoryError: it cannot be read.
    """
    path = location(directory)
    return of_one_save(path, partial(_contents, path))


def _contents(path: str, source: Source) -> Contents:
    file = f"{path}/{naming.SAVED_MODEL_FILE}"
    if source.exists(file):
        summary = read_summary(read_whole(source, file), file)
        # Without variables there may be no checkpoint: TensorFlow 1 writes none then.
        if not summary.variables and not source.exists(f"{path}/{naming.INDEX_FILE}"):
            return Contents(path, summary, {}, ())
        left_out = frozenset(summary.component_keys)
        return Contents(path, summary, *_bundle(path, source, path, left_out))
    if not source.exists(naming.index_file(path)):
        raise NotCommittedError(path, absence(source, path, path))
    return Contents(path, None, *_bundle(path, source, path.rpartition("/")[0], ()))


def _bundle(
    path: str, source: Source, base: str, left_out: Collection[str]
) -> tuple[dict[str, Tensor], tuple[DataFile, ...]]:
    """The tensors of a checkpoint and its data files, which are named as below `base`."""
    with open_checkpoint(path, source) as checkpoint:
        prefix = naming.VARIABLES_PREFIX if base == path else path.rpartition("/")[2]
        files = [
            naming.data_file(shard, checkpoint.num_shards, prefix)
            for shard in range(checkpoint.num_shards)
        ]
        sizes = [_size(source, f"{base}/{file}" if base else file) for file in files]
        data_files = tuple(map(DataFile, files, sizes))
        return _tensors(checkpoint, files, left_out), data_files


def as_json(contents: Contents) -> object:
    """The contents as what JSON has: dicts, lists, strings, numbers, booleans and None."""
    summary = contents.summary
    described = () if summary is None else fields(summary)
    return _plain(
        {"directory": contents.directory, "nbytes": contents.nbytes}
        | {field.name: getattr(summary, field.name) for field in described}
        | {"tensors": contents.tensors, "data_files": contents.data_files}
    )


def as_text(contents: Contents, width: int) -> str:
    """The contents for people, in lines of at most `width` columns where that can be."""
    return "\n".join(_lines(contents, width))


def _tensors(
    checkpoint: Checkpoint, files: list[str], left_out: Collection[str]
) -> dict[str, Tensor]:
    return {
        key: Tensor(
            tensor.entries[0].dtype.name,
            tensor.shape,
            tensor.nbytes,
            tuple(Piece(files[e.shard], e.offset, e.nbytes, e.box) for e in tensor.entries),
        )
        for key, tensor in checkpoint.items()
        if key not in left_out
    }


def _size(source: Source, file: str) -> int | None:
    try:
        return source.size(file)
    except FileNotFoundError:
        return None


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _lines(contents: Contents, width: int) -> Iterator[str]:
    summary, tensors = contents.summary, contents.tensors
    variables = () if summary is None else summary.variables
    yield contents.directory
    if summary is None:
        yield "checkpoint"
    else:
        version = f"TensorFlow {summary.tensorflow_version or '?'}"
        tags = ", ".join(summary.tags) or "none"
        yield f"{version}; tags: {tags}; variable policy: {summary.policy.name.lower()}"
    yield f"{count_text(len(tensors), 'tensor')} of {size_text(contents.nbytes)} in all"
    if variables:
        yield ""
        yield from _variables(variables, contents, width)
    others = tensors.keys() - {variable.key for variable in variables}
    if others:
        name = "tensor" if summary is None else "other tensor"
        table = plain_table(name, "type", "size", "data file", numbers=["size"])
        for key in sorted(others):
            tensor = tensors[key]
            table.add_row(
                key,
                _type(tensor.dtype, tensor.shape),
                size_text(tensor.nbytes),
                _places(tensor, contents),
            )
        yield ""
        yield table_text(table, width)
    if contents.data_files:
        yield ""
        yield from _data_files(contents, width)
    if summary is not None:
        yield from _functions(summary)


def _functions(summary: Summary) -> Iterator[str]:
    if summary.signatures:
        yield ""
        for signature in summary.signatures:
            inputs, outputs = _arguments(signature.inputs), _arguments(signature.outputs)
            yield f"signature {signature.key}: {inputs} -> {outputs}"
    if summary.functions:
        yield ""
        for function in summary.functions:
            graphs = function.concrete_functions
            aliases = {alias for graph, alias in summary.aliases.items() if graph in graphs}
            traced = count_text(len(graphs), "concrete function")
            named = "".join(f", alias {alias}" for alias in sorted(aliases))
            yield f"function {function.path}: {traced}{named}"


def _variables(
    variables: Sequence[VariableSummary], contents: Contents, width: int
) -> Iterator[str]:
    columns: dict[str, list[str]] = {
        name: [] for name in ("variable", "type", "size", "kind", "on", "data file")
    }
    for variable in variables:
        tensor = contents.tensors.get(variable.key)
        devices = [part.device for part in variable.components] or [variable.device]
        cells = (
            variable.key.removesuffix(f"/{VALUE_SUFFIX}"),
            _type(variable.dtype, variable.shape),
            "no value" if tensor is None else size_text(tensor.nbytes),
            _kind(variable),
            "\n".join(short_devices(devices)),
            "" if tensor is None else _places(tensor, contents),
        )
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    # Without a policy no device is known, and few models have several kinds.
    shown = {name: column for name, column in columns.items() if any(column)}
    table = plain_table(*shown, numbers=["size"])
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    yield table_text(table, width)


def _data_files(contents: Contents, width: int) -> Iterator[str]:
    table = plain_table("data file", "name", "size", whole="name", numbers=["size"])
    for number, data_file in enumerate(contents.data_files):
        size = "not here" if data_file.nbytes is None else size_text(data_file.nbytes)
        table.add_row(str(number), data_file.file, size)
    yield table_text(table, width)
    if contents.summary and any(file.nbytes is None for file in contents.data_files):
        yield "A host-local directory has only its own host's data files; for a whole one copy"
        yield "the hosts' directories over one another, or save with experimental_io_device."


def _kind(variable: VariableSummary) -> str:
    kind = _KINDS[variable.synchronization]
    if variable.aggregation is Aggregation.NONE:
        return kind
    return f"{kind} {variable.aggregation.name.lower()}".strip()


def _type(dtype: str, shape: Shape) -> str:
    if shape is None:
        return f"{dtype} of any shape"
    return f"{dtype} [{','.join('?' if extent is None else str(extent) for extent in shape)}]"


def _places(tensor: Tensor, contents: Contents) -> str:
    """The number of the data file that each piece is in, and its box as an index."""
    numbers = {data_file.file: n for n, data_file in enumerate(contents.data_files)}
    if len(tensor.pieces) > _PIECES_SHOWN:
        files = len({piece.file for piece in tensor.pieces})
        return f"{len(tensor.pieces):,} pieces in {count_text(files, 'file')}"
    return "\n".join(
        f"{numbers[piece.file]} {_index(piece.box, tensor.shape)}".rstrip()
        for piece in tensor.pieces
    )


def _index(box: Box | None, shape: tuple[int, ...]) -> str:
    """The box as numpy would be asked for it: axes that follow and are whole are left out."""
    if box is None:
        return ""
    parts = list(zip(box.index, Box.whole(shape).index, strict=True))
    while parts and parts[-1][0] == parts[-1][1]:
        del parts[-1]
    texts = [":" if part == whole else f"{part.start}:{part.stop}" for part, whole in parts]
    return f"[{','.join(texts)}]"


def _arguments(tensors: tuple[TensorSummary, ...]) -> str:
    shown = ", ".join(f"{t.name}: {_type(t.dtype, t.shape)}" for t in tensors)
    return f"({shown})"
