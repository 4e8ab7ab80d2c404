"""Save a model: the walk from an object tree to a committed SavedModel, top to bottom."""

import logging
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, overload

import numpy as np

from dsave.errors import ModelError, OptionTypeError
from dsave.format import naming
from dsave.format.bundle import Entry, ShardWriter, build_index
from dsave.format.strings import EncodedStrings, encode_strings
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function, functions_of
from dsave.functions.stack import user_stack
from dsave.model.device import LOCALHOST, cpu0, resolve_io_host
from dsave.model.dtype import STRING
from dsave.model.trackable import ObjectGraph, left_out, trace
from dsave.options import SaveOptions
from dsave.plan.items import StringNbytes
from dsave.plan.save_plan import SavePlan, check_space, plan_disks, plan_shards
from dsave.plan.sharding import ShardingCallback
from dsave.runtime.answers import checked_deadline
from dsave.runtime.assets import ServedAssets, find_assets
from dsave.runtime.cluster import Cluster, active_cluster
from dsave.runtime.coordinator import Coordinator
from dsave.runtime.host_save import marker_of
from dsave.runtime.loaded import LoadedVariable
from dsave.runtime.participants import Participants
from dsave.runtime.paths import location
from dsave.runtime.progress import ProgressBars
from dsave.runtime.result import SaveResult, ShardResult
from dsave.runtime.save_handle import SaveHandle
from dsave.runtime.save_messages import HostProgress, Incoming, Receipt, Ticket
from dsave.savedmodel.components import component_entries, component_keys
from dsave.savedmodel.fingerprint import build_fingerprint
from dsave.savedmodel.meta_graph import Metadata, build_saved_model

_log = logging.getLogger(__name__)


@overload
def save(
    model: object,
    directory: str | os.PathLike[str],
    signatures: object = None,
    options: SaveOptions | None = None,
    *,
    cluster: Cluster | None = None,
    durable: bool = True,
    wait: Literal[True] = True,
    progress: bool = True,
    stall_timeout_s: float = 120.0,
) -> SaveResult: ...
@overload
def save(
    model: object,
    directory: str | os.PathLike[str],
    signatures: object = None,
    options: SaveOptions | None = None,
    *,
    cluster: Cluster | None = None,
    durable: bool = True,
    wait: Literal[False],
    progress: bool = True,
    stall_timeout_s: float = 120.0,
) -> "SaveHandle": ...
def save(
    model: object,
    directory: str | os.PathLike[str],
    signatures: object = None,
    options: SaveOptions | None = None,
    *,
    cluster: Cluster | None = None,
    durable: bool = True,
    wait: bool = True,
    progress: bool = True,
    stall_timeout_s: float = 120.0,
) -> "SaveResult | SaveHandle":
    """Save a model of a cluster as one TensorFlow SavedModel, whole or not at all.

    `directory` is a path as the writing hosts see it, or an fsspec URL; a SavedModel that is
    there is replaced in one step, files beside it that are not its own are kept.
    `signatures`: a function or concrete function, or a dict of these by key; None: the only one
    of the model's own functions that can be a signature, if there is one.
    `cluster=None` is the active one. `durable` syncs every file before the commit.
    `wait=False` returns a SaveHandle once the snapshot is taken, so that training goes on while
    it is written; saves to one directory are written one after another, as they were called.
    A host that makes no progress for `stall_timeout_s` seconds fails the save. `progress` shows
    a bar for each writing host, if stderr is a terminal.

    Raises:
        OptionError, OptionTypeError, DeviceError, ModelError, DtypeError, TraceError: what was
            asked for cannot be done. Nothing was written.
        DirectoryError: a host cannot write there; NoSpaceError: or has too little room.
        SaveError: a host died (HostLostError), fell silent (StalledError) or failed. Nothing is
            visible of the save, and what was in the directory still is.
    """
    started = time.perf_counter()
    options = SaveOptions() if options is None else options
    if not isinstance(options, SaveOptions):
        raise OptionTypeError("options", f"a SaveOptions is wanted, got {options!r}")
    if not isinstance(durable, bool):
        raise OptionTypeError("durable", f"True or False is wanted, got {durable!r}")
    path, deadline_s = location(directory), checked_deadline("stall_timeout_s", stall_timeout_s)
    cluster = active_cluster() if cluster is None else cluster
    if not hasattr(cluster, "inner"):
        raise OptionTypeError("cluster", f"a Cluster is wanted, got {cluster!r}")
    device = options.experimental_io_device
    io_host = None if device is None else resolve_io_host(device, cluster.devices)
    graph = _graph(model)
    assets = find_assets(asset for _, asset in graph.assets())
    metadata = build_saved_model(graph, options, signatures, user_stack(), assets.names)
    object_graph = encode_strings(np.array(metadata.object_graph, dtype=np.object_))

    ticket = Ticket(_new_epoch(), path, durable, deadline_s)
    participants = Participants(cluster.inner, ticket)
    served = ServedAssets(assets, cluster.inner.own_address, deadline_s)
    try:
        sharding = options.experimental_sharding_callback
        plan = _plan(
            graph, metadata, participants, cluster.hosts, io_host, sharding, ticket.directory
        )
        check_space(plan, metadata.nbytes + assets.nbytes)
        travelling = {h for s in plan.shards for h in s.source_hosts if h != s.writer}
        coordinator = Coordinator(
            plan,
            participants.submit,
            participants.serve(sorted(travelling)),
            lambda receipts: (
                served.files | _metadata_files(plan, metadata, object_graph, receipts)
            ),
            participants.heard_s,
            deadline_s,
            participants.turn,
        )
    except BaseException:
        _abandon(participants, served)
        raise

    def finish() -> SaveResult:
        try:
            with ProgressBars(plan, show=progress) as bars:
                coordinator.run(lambda: bars.update(coordinator.progress()))
        except BaseException:
            if not coordinator.begun:
                participants.discard()
            raise
        finally:
            ended = participants.end(coordinator.lost)
            served.close()
        seconds = time.perf_counter() - started
        heard = {**coordinator.progress(), **ended}
        places = [
            plan.directory
            if disk.owner == LOCALHOST
            else cluster.real_path(plan.directory, disk.owner)
            for disk in plan.disks
        ]
        return _result(
            plan, coordinator.receipts, len(object_graph.payload), heard, places, seconds
        )

    if wait:
        return finish()
    try:
        return SaveHandle(finish, cluster.inner)
    except BaseException:
        if not coordinator.begun:  # no thread could be started
            _abandon(participants, served)
        raise


def _abandon(participants: Participants, served: ServedAssets) -> None:
    """Leave nothing of a save that did not get as far as its coordinator."""
    served.close()
    try:
        participants.discard()
    finally:
        participants.end()


def _plan(
    graph: ObjectGraph,
    metadata: Metadata,
    participants: Participants,
    hosts: Sequence[str],
    io_host: str | None,
    sharding: ShardingCallback | None,
    directory: str,
) -> SavePlan:
    """Take the snapshots, learn what the hosts know, and decide the whole save."""
    variables = [(key, variable) for _, key, variable in graph.variables()]
    snapshots: dict[str, dict[str, str]] = {}
    for _, variable in variables:
        for component in variable.components:
            if component.host not in hosts:
                raise ModelError(
                    variable.name, f"it is of another cluster, on {component.host}"
                )
            snapshots.setdefault(component.host, {})[component.key] = variable.name
    keys = component_keys(metadata.components)
    shards = plan_shards(variables, hosts, io_host, defaultdict(StringNbytes), None, keys)
    writers = list(dict.fromkeys(shard.writer for shard in shards)) or [io_host or hosts[0]]
    found = participants.begin(snapshots, writers)
    string_nbytes = {k: n for answer in found.values() for k, n in answer.string_nbytes.items()}
    markers = participants.seen(writers) if len(writers) > 1 else {}
    sees = {
        writer: frozenset(other for other in writers if marker_of(other) in markers[writer])
        for writer in markers
    }
    if string_nbytes or sharding is not None:  # which change no writer, but what files hold
        shards = plan_shards(variables, hosts, io_host, string_nbytes, sharding, keys)
    free_nbytes = {writer: found[writer].free_nbytes for writer in writers}
    return SavePlan(directory, shards, plan_disks(writers, sees, free_nbytes))


def _metadata_files(
    plan: SavePlan,
    metadata: Metadata,
    object_graph: EncodedStrings,
    receipts: Mapping[int, Receipt],
) -> dict[str, bytes | Incoming]:
    """The metadata that every disk gets, in the order in which it is written."""
    entries: list[Entry] = [entry for receipt in receipts.values() for entry in receipt.entries]
    writer = ShardWriter(plan.object_graph_shard, lambda _: None)
    entries.append(
        writer.add(
            naming.OBJECT_GRAPH_KEY,
            STRING,
            (),
            [object_graph.payload],
            crc32c=object_graph.crc32c,
        )
    )
    shared = component_entries(metadata.components, entries)
    index = build_index([*entries, *shared], plan.num_shards)
    debug_info = metadata.debug_info
    return {
        plan.object_graph_file: object_graph.payload,
        naming.INDEX_FILE: index,
        naming.FINGERPRINT_FILE: build_fingerprint(
            metadata.saved_model, index, secrets.randbits(128)
        ),
        **({} if debug_info is None else {naming.DEBUG_INFO_FILE: debug_info}),
        naming.SAVED_MODEL_FILE: metadata.saved_model,  # the commit: always the last
    }


def _result(
    plan: SavePlan,
    receipts: Mapping[int, Receipt],
    object_graph_nbytes: int,
    progress: Mapping[str, HostProgress],
    places: Sequence[str],
    seconds: float,
) -> SaveResult:
    shards = [
        ShardResult(
            shard.file,
            cpu0(shard.writer),
            shard.source_hosts,
            receipts[shard.index].nbytes,
            receipts[shard.index].seconds,
        )
        for shard in plan.shards
    ]
    shards.append(
        ShardResult(
            plan.object_graph_file, cpu0(plan.disks[0].owner), (), object_graph_nbytes, 0.0
        )
    )
    return SaveResult(
        plan.directory,
        plan.layout,
        sum(shard.nbytes for shard in shards),
        seconds,
        tuple(shards),
        {host: heard.peak_bytes for host, heard in progress.items()},
        tuple(disk.hosts for disk in plan.disks),
        tuple(places),
    )


def _graph(model: object) -> ObjectGraph:
    """The objects of a model, and a word on what of them nobody will find in the save."""
    graph = trace(model, functions_of, (Function, ConcreteFunction, LoadedVariable))
    for node in graph.nodes:
        if isinstance(node.value, LoadedVariable):
            raise ModelError(
                "/".join(node.path),
                "it was loaded without a cluster, and hosts save what is on them; load the "
                "model onto the cluster: dsave.load(directory, cluster)",
            )
    unknown = [v for _, _, v in graph.variables() if not v.dtype.variable]
    if unknown:
        _log.warning(
            "TensorFlow has no variables of these dtypes, so it will not find %s in the model; "
            "their values are in its checkpoint",
            ", ".join(f"{v.name} ({v.dtype})" for v in unknown),
        )
    for path in left_out(graph):
        _log.warning(
            "%r holds variables or modules, and is not saved: only modules, lists, tuples and "
            "dicts are followed; make it a dsave.Module",
            path,
        )
    return graph


def _new_epoch() -> str:
    return f"{time.time_ns() // 1_000_000:x}-{secrets.token_hex(4)}"
