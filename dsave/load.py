"""The verbs that read: `load`, a model as a whole; `open`, a checkpoint as a lazy mapping.

A load is the walk from a committed directory to values in place, top to bottom.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar, overload

import numpy as np

from dsave.errors import (
    DirectoryError,
    MissingKeyError,
    NotCommittedError,
    OptionError,
    OptionTypeError,
)
from dsave.format import naming
from dsave.format.bundle_reader import Index, read_index
from dsave.model.device import LOCALHOST, resolve_io_host
from dsave.model.trackable import Module
from dsave.options import LoadOptions
from dsave.plan.load_plan import SEGMENT_NBYTES, DataFile, plan_load
from dsave.runtime.absence import absence
from dsave.runtime.answers import checked_deadline
from dsave.runtime.binding import bind_new, bind_to, handles, wants
from dsave.runtime.checking import check
from dsave.runtime.checkpoint import Checkpoint, open_checkpoint
from dsave.runtime.cluster import Cluster, active_cluster
from dsave.runtime.host_load import StoredMetadata, View
from dsave.runtime.load_hosts import LoadHosts
from dsave.runtime.loaded import LoadedModel, LoadedVariable, Signatures
from dsave.runtime.paths import location
from dsave.runtime.source import Source, of_one_save, read_whole
from dsave.savedmodel.assets import read_assets
from dsave.savedmodel.interpreter import Handle
from dsave.savedmodel.read_functions import read_functions
from dsave.savedmodel.read_tree import parse_saved_model, read_tree
from dsave.savedmodel.revive import revive
from dsave.savedmodel.tree import Tree

_Model = TypeVar("_Model", bound=Module)
_logger = logging.getLogger(__name__)
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4)
"""How long hosts wait before they look again at what is of no one save."""

Placement = Mapping[str, str | Sequence[str]]
"""Devices of variables, by the variable's path in the model (`layers/0/w`) or by its name."""


@overload
def load(
    directory: str | os.PathLike[str],
    cluster: Cluster | None = None,
    options: LoadOptions | None = None,
    into: None = None,
    *,
    placement: Placement | None = None,
    stall_timeout_s: float = 120.0,
) -> LoadedModel: ...
@overload
def load(
    directory: str | os.PathLike[str],
    cluster: Cluster | None = None,
    options: LoadOptions | None = None,
    *,
    into: _Model,
    stall_timeout_s: float = 120.0,
) -> _Model: ...
def load(
    directory: str | os.PathLike[str],
    cluster: Cluster | None = None,
    options: LoadOptions | None = None,
    into: Module | None = None,
    *,
    placement: Placement | None = None,
    stall_timeout_s: float = 120.0,
) -> Module:
    """Load a SavedModel, written by dsave or by TensorFlow.

    Without a cluster its variables become local values, read from the files when they are
    wanted. With one they go onto its devices: those in `placement`, else those that were saved,
    else that of the device scope. With `into` the values go into that model's variables, on
    the active cluster if none is given. Either all values are in place, or none is.

    `directory` is a path as the hosts see it, or an fsspec URL. A host that reads nothing for
    `stall_timeout_s` seconds fails the load.

    Raises:
        OptionError, OptionTypeError, DeviceError: what was asked for cannot be done.
        NotCommittedError: there is no SavedModel.
        CorruptionError: a file does not say the truth, or a data file is on no host.
        MissingKeyError: the checkpoint lacks a variable's value (allow_partial_checkpoint).
        ModelError: `into` and the SavedModel do not have the same variables (likewise).
        DirectoryError: it cannot be read, or hosts see different saves.
        SaveError: a host died (HostLostError) or fell silent (StalledError).
    """
    options = _checked(options, placement, into)
    path, deadline_s = location(directory), checked_deadline("stall_timeout_s", stall_timeout_s)
    if cluster is None and into is not None:
        cluster = active_cluster()
    if cluster is not None and not hasattr(cluster, "inner"):
        raise OptionTypeError("cluster", f"a Cluster is wanted, got {cluster!r}")
    if cluster is None:
        return _load_here(path, options, placement)
    return _load_on(cluster, path, options, into, placement or {}, deadline_s)


def open(path: str | os.PathLike[str], verify: bool = False) -> Checkpoint:  # noqa: A001 - it is dsave.open
    """Open a SavedModel directory, or the bundle with this prefix, written by anyone.

    `verify`: read everything now and check every checksum.

    Raises:
        NotCommittedError: there is no SavedModel here, and no bundle.
        CorruptionError: a file does not say the truth.
        DirectoryError: it cannot be read.
    """
    path = location(path)

    def opened(source: Source) -> Checkpoint:
        checkpoint = open_checkpoint(path, source)
        if verify:
            check(checkpoint)
        return checkpoint

    return of_one_save(path, opened)


def _load_here(path: str, options: LoadOptions, placement: Placement | None) -> LoadedModel:
    if placement is not None:
        raise OptionError("placement", "it names devices of a cluster, and none was given")
    if options.experimental_io_device is not None:
        resolve_io_host(options.experimental_io_device, ())
    return of_one_save(path, partial(_local_model, path, options))


def _local_model(path: str, options: LoadOptions, source: Source) -> LoadedModel:
    file = f"{path}/{naming.SAVED_MODEL_FILE}"
    if not source.exists(file):
        raise NotCommittedError(path, absence(source, path, path))
    saved_model = read_whole(source, file)
    checkpoint = Checkpoint(path, source, f"{path}/{naming.VARIABLES_PREFIX}")
    entries = {key: tensor.entries for key, tensor in checkpoint.items()}
    meta_graph = parse_saved_model(saved_model, file)
    tree = read_tree(meta_graph, checkpoint.object_graph, entries, file)
    root = LoadedModel()
    root.note(*_missing(tree, path, options))
    leaves: dict[int, object] = {}
    for number, variable in tree.variables().items():
        stored = checkpoint[variable.key]
        for entry in stored.entries:
            checkpoint.check_place(entry)
        leaves[number] = LoadedVariable(variable, stored)
    local = {number: Handle(partial(np.asarray, leaf)) for number, leaf in leaves.items()}
    for number, variable in tree.components.items():
        component = LoadedVariable(variable, checkpoint[variable.key])
        local[number] = Handle(partial(np.asarray, component))
    assets = read_assets(meta_graph, tree, path, file)
    functions = read_functions(meta_graph, tree, local, assets, file)
    root.signatures = Signatures(path, functions.signatures)
    root.note(*functions.notes)
    revive(tree, root, {**leaves, **assets, **functions.by_node}, file)
    return root


def _load_on(
    cluster: Cluster,
    path: str,
    options: LoadOptions,
    into: Module | None,
    placement: Placement,
    stall_timeout_s: float,
) -> Module:
    device = options.experimental_io_device
    io_host = None if device is None else resolve_io_host(device, cluster.devices)
    readers = cluster.hosts if io_host is None else (io_host,)
    file = f"{path}/{naming.SAVED_MODEL_FILE}"
    index_file = f"{path}/{naming.INDEX_FILE}"
    hosts = LoadHosts(cluster.inner, path, stall_timeout_s)
    try:
        views = hosts.begin(cluster.hosts, readers)
        private_note = "" if io_host == LOCALHOST else cluster.inner.private_note(path)
        metadata, index, files = _seen(hosts, views, path, index_file, private_note)
        meta_graph = parse_saved_model(metadata.saved_model, file)
        tree = read_tree(meta_graph, metadata.object_graph, index.entries, file)
        assets = read_assets(meta_graph, tree, path, file)
        notes = _missing(tree, path, options)
        stored = tree.variables()
        if into is None:
            soft = options.soft_device_placement
            bound, moved = bind_new(cluster, stored, placement, file, soft=soft)
            functions = read_functions(meta_graph, tree, handles(tree, bound), assets, file)
            notes += [*map(str, moved), *functions.notes]
        else:
            partial = options.allow_partial_checkpoint
            bound = bind_to(into, cluster, tree, path, partial=partial)
        plan = plan_load(
            wants(tree, bound),
            index.entries,
            files,
            # Rows of another byte order are not told apart by their bytes.
            None if index.big_endian else SEGMENT_NBYTES,
        )
        hosts.stage(plan, index_file)
        hosts.adopt(plan, replaces=into is not None)
    finally:
        hosts.end()
    for note in notes:
        _logger.warning("%s", note)
    if into is not None:
        return into
    root = LoadedModel()
    root.note(*notes)
    root.signatures = Signatures(path, functions.signatures)
    revive(tree, root, {**bound, **assets, **functions.by_node}, file)
    return root


def _seen(
    hosts: LoadHosts,
    views: Mapping[str, View],
    path: str,
    index_file: str,
    private_note: str,
) -> tuple[StoredMetadata, Index, dict[int, DataFile]]:
    """The one save that hosts see: its metadata, its index, and who has its data files.

    They look once more while a save may be about to come, or to take the other's place: the
    disks of hosts have it one after the other.
    """
    pauses = iter(_PAUSES_S)
    while True:
        pause_s = next(pauses, None)
        try:
            metadata = hosts.metadata(_first_with_save(views, path, private_note))
            index = read_index(metadata.index, index_file)
            files = _data_files(index, views, path)
            if pause_s is None or all(file.hosts for file in files.values()):
                return metadata, index, files
        except DirectoryError:
            if pause_s is None:
                raise
        time.sleep(pause_s)
        views = hosts.look(views)


def _first_with_save(views: Mapping[str, View], path: str, private_note: str) -> str:
    """The first host that sees a save; all that see one must see the same.

    `private_note`: what to know of the path, if they see none.
    """
    seen = {host: view.save for host, view in views.items() if view.save is not None}
    if not seen:
        found = dict.fromkeys(view.absence for view in views.values())
        raise NotCommittedError(path, "; ".join(filter(None, [*found, private_note])))
    first = next(iter(seen))
    for host, save in seen.items():
        if save != seen[first]:
            raise DirectoryError(
                path,
                host,
                f"it sees another save there than {first}; remove one of them, or say with "
                "experimental_io_device whose to load",
            )
    return first


def _data_files(index: Index, views: Mapping[str, View], path: str) -> dict[int, DataFile]:
    """Each data file, and the hosts that have all of it."""
    ends: dict[int, int] = {}
    for entries in index.entries.values():
        for entry in entries:
            end = entry.offset + entry.nbytes
            ends[entry.shard] = max(end, ends.get(entry.shard, 0))
    return {
        shard: DataFile(
            f"{path}/{naming.data_file(shard, index.num_shards)}",
            tuple(h for h, view in views.items() if view.sizes.get(shard, -1) >= end),
        )
        for shard, end in ends.items()
    }


def _missing(tree: Tree, path: str, options: LoadOptions) -> list[str]:
    """A note on each variable without a value in the checkpoint."""
    if tree.missing and not options.allow_partial_checkpoint:
        raise MissingKeyError(path, tree.missing[0])
    return [f"variable {name!r}: the checkpoint has no value of it" for name in tree.missing]


def _checked(options: object, placement: object, into: object) -> LoadOptions:
    options = LoadOptions() if options is None else options
    if not isinstance(options, LoadOptions):
        raise OptionTypeError("options", f"a LoadOptions is wanted, got {options!r}")
    if placement is not None and not isinstance(placement, Mapping):
        raise OptionTypeError(
            "placement", f"a dict from variable to devices is wanted, got {placement!r}"
        )
    if into is not None and not isinstance(into, Module):
        raise OptionTypeError("into", f"a dsave.Module is wanted, got {into!r}")
    if into is not None and placement is not None:
        raise OptionError("placement", "the variables of `into` have their devices")
    return options
