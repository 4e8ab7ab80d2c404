"""Whether a SavedModel or a checkpoint is what its writer meant: every byte, and the structure.

    index           what `read_index` proves of it, and that no two tensors share bytes
    data files      they are there and hold every entry; the crc of every entry
    object graph    each value that an object has is an entry
    saved_model.pb  its variables are those of the object graph, of their dtypes and shapes;
                    the files of its assets are there
    fingerprint.pb  it is of this index and of this graph

Local files are read, not mapped: a disk that fails is a finding, and ends nothing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from google.protobuf.message import DecodeError

from dsave.errors import CorruptionError
from dsave.format import naming
from dsave.format.bundle import Entry
from dsave.format.extents import covered_nbytes, meetings
from dsave.proto.object_graph_pb2 import TrackableObjectGraph
from dsave.proto.saved_model_pb2 import MetaGraphDef
from dsave.runtime.checking import corrupt_entries
from dsave.runtime.checkpoint import Checkpoint, open_checkpoint
from dsave.runtime.paths import location
from dsave.runtime.source import Source, of_one_save, read_whole
from dsave.runtime.terminal import count_text, size_text
from dsave.savedmodel.assets import asset_files
from dsave.savedmodel.components import is_container_name
from dsave.savedmodel.fingerprint import fingerprint_problems
from dsave.savedmodel.read_tree import parse_saved_model, tree_problems


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and how much was read. Without findings all is well.

    `nbytes` are those of all tensors. `idle_nbytes` are bytes of data files that are of no
    tensor: nothing vouches for them, and no reader looks at them.
    """

    path: str
    findings: tuple[CorruptionError, ...]
    tensors: int
    data_files: int
    nbytes: int
    idle_nbytes: int
    seconds: float


def verify(path: str, progress: Callable[[int, int], object] = lambda _, __: None) -> Report:
    """Check a SavedModel directory, or the bundle with this prefix, or either at an fsspec URL.

    `progress` is told the number of bytes that were read, and how many there are.

    Raises:
        NotCommittedError: there is neither.
        DirectoryError: it cannot be read.
    """
    path = location(path)

    def report(source: Source) -> Report:
        try:
            return _report(path, source, progress)
        finally:
            source.close()

    return of_one_save(path, report, mapped=False)


def _report(path: str, source: Source, progress: Callable[[int, int], object]) -> Report:
    started = time.perf_counter()
    findings: list[CorruptionError] = []
    file = f"{path}/{naming.SAVED_MODEL_FILE}"
    saved_model, meta_graph = None, None
    checkpoint, object_graph = None, None
    try:
        saved_model = _read(source, file)
        if saved_model is not None:
            meta_graph = parse_saved_model(saved_model, file)
    except CorruptionError as error:
        findings.append(error)
    try:
        checkpoint = open_checkpoint(path, source)
        object_graph = checkpoint.object_graph
    except CorruptionError as error:
        if checkpoint is not None or meta_graph is None or _has_values(meta_graph):
            findings.append(error)
    if saved_model is not None and meta_graph is not None:
        findings += _asset_problems(path, source, meta_graph)
        findings += _fingerprint_problems(path, source, saved_model)
        if checkpoint is not None and object_graph is not None:
            entries = checkpoint.index.entries
            findings += tree_problems(meta_graph, object_graph, entries, file)
    if checkpoint is None:
        return Report(path, _unique(findings), 0, 0, 0, 0, time.perf_counter() - started)
    if object_graph is not None:
        findings += _value_problems(checkpoint, object_graph)
    pieces = [piece for pieces in checkpoint.index.entries.values() for piece in pieces]
    sizes = checkpoint.sizes()
    findings += _place_problems(checkpoint, pieces, sizes)
    there = [piece for piece in pieces if _fits(piece, sizes)]
    total, done = sum(covered_nbytes(there).values()), 0

    def read(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress(done, total)

    findings += corrupt_entries(checkpoint, there, read)
    own = [key for key in checkpoint if not _is_component(key)]
    return Report(
        path,
        _unique(findings),
        len(own),
        checkpoint.num_shards,
        sum(checkpoint[key].nbytes for key in own),
        sum(nbytes or 0 for nbytes in sizes.values()) - total,
        time.perf_counter() - started,
    )


def as_json(report: Report) -> object:
    """The report as what JSON has."""
    findings = [
        {"file": finding.file, "entry": finding.entry, "problem": finding.problem}
        for finding in report.findings
    ]
    return asdict(replace(report, findings=())) | {"findings": findings}


def as_text(report: Report) -> str:
    """The report for people: a line for each finding, and one for all."""
    lines = [" ".join(str(finding).split()) for finding in report.findings]
    read = (
        f"{count_text(report.tensors, 'tensor')} of {size_text(report.nbytes)} in "
        f"{count_text(report.data_files, 'data file')} read in {report.seconds:.2f} s"
    )
    found = count_text(len(lines), "finding") if lines else "all is as it was written"
    idle = f"; {size_text(report.idle_nbytes)} of no tensor" if report.idle_nbytes else ""
    return "\n".join([*lines, f"{report.path}: {found}; {read}{idle}"])


def _read(source: Source, file: str) -> bytes | None:
    """A whole file, None if it is not there.

    Raises:
        CorruptionError: it is no file, or cannot be read.
    """
    try:
        return read_whole(source, file) if source.exists(file) else None
    except OSError as error:
        raise CorruptionError(file, "", f"it cannot be read: {error}") from None


def _unique(findings: list[CorruptionError]) -> tuple[CorruptionError, ...]:
    """Each once: some files are read twice."""
    return tuple({finding.args: finding for finding in findings}.values())


def _has_values(meta_graph: MetaGraphDef) -> bool:
    """Whether a checkpoint must be there: TensorFlow 1 writes none for a graph without any."""
    return bool(meta_graph.object_graph_def.nodes or meta_graph.saver_def.restore_op_name)


def _place_problems(
    checkpoint: Checkpoint, entries: list[Entry], sizes: dict[int, int | None]
) -> Iterator[CorruptionError]:
    for shard, nbytes in sizes.items():
        if nbytes is None:
            first = next(entry for entry in entries if entry.shard == shard)
            try:
                checkpoint.check_place(first)
            except CorruptionError as error:
                yield CorruptionError(error.file, "", error.problem)
            except OSError as error:
                file = checkpoint.data_file(shard)
                yield CorruptionError(file, "", f"it cannot be read: {error}")
    for entry in entries:
        nbytes, end = sizes[entry.shard], entry.offset + entry.nbytes
        if nbytes is not None and end > nbytes:
            problem = f"it ends at byte {end}, the file at {nbytes}"
            yield CorruptionError(checkpoint.data_file(entry.shard), entry.key, problem)
    # Components have their variables' bytes, and sums of them one run of zeros.
    apart = [entry for entry in entries if not _is_component(entry.key)]
    for one, other in meetings(apart):
        problem = f"it shares byte {other.offset} with {one.key!r}"
        yield CorruptionError(checkpoint.data_file(other.shard), other.key, problem)


def _is_component(key: str) -> bool:
    return is_container_name(key.partition("/")[0])


def _fits(entry: Entry, sizes: dict[int, int | None]) -> bool:
    nbytes = sizes[entry.shard]
    return nbytes is not None and entry.offset + entry.nbytes <= nbytes


def _value_problems(checkpoint: Checkpoint, object_graph: bytes) -> Iterator[CorruptionError]:
    """Values that objects have, and the checkpoint has no entry of."""
    file = checkpoint.index_file
    try:
        tracked = TrackableObjectGraph.FromString(object_graph)
    except DecodeError:
        yield CorruptionError(file, naming.OBJECT_GRAPH_KEY, "it cannot be parsed")
        return
    keys = {*checkpoint.index.entries, *checkpoint.index.unsupported}
    for node in tracked.nodes:
        for attribute in node.attributes:
            key = attribute.checkpoint_key
            if key not in keys:
                yield CorruptionError(file, key, "the object graph has it, the index has not")


def _asset_problems(
    path: str, source: Source, meta_graph: MetaGraphDef
) -> Iterator[CorruptionError]:
    try:
        names = asset_files(meta_graph, f"{path}/{naming.SAVED_MODEL_FILE}")
    except CorruptionError as error:
        yield error
        return
    for name in names:
        asset = f"{path}/{naming.ASSETS_DIRECTORY}/{name}"
        if not source.exists(asset):
            yield CorruptionError(asset, "", "the model reads this file, which is not there")


def _fingerprint_problems(
    path: str, source: Source, saved_model: bytes
) -> Iterator[CorruptionError]:
    file = f"{path}/{naming.FINGERPRINT_FILE}"
    try:
        fingerprint = _read(source, file)
        index = _read(source, f"{path}/{naming.INDEX_FILE}")
    except CorruptionError as error:
        yield error
        return
    if fingerprint is not None and index is not None:
        for problem in fingerprint_problems(fingerprint, saved_model, index):
            yield CorruptionError(file, "", problem)
