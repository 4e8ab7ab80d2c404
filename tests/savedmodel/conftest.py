"""Models to describe, and whole SavedModels of them on disk.

Sharded variables are stored in slices, those of dtypes that TensorFlow can put together.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from dsave.format.bundle import ShardWriter, build_index
from dsave.format.crc32c import crc32c
from dsave.format.naming import DEBUG_INFO_FILE, OBJECT_GRAPH_KEY, data_file
from dsave.format.strings import encode_strings
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function, functions_of
from dsave.model.dtype import STRING, dtype_of
from dsave.model.slices import Box, partition
from dsave.model.trackable import Module, trace
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
)
from dsave.options import SaveOptions, VariablePolicy
from dsave.savedmodel.components import component_entries, component_keys
from dsave.savedmodel.meta_graph import build_saved_model

LOCAL = "/job:localhost/replica:0/task:0/device:CPU"


def components(name, shape, dtype, devices):
    whole = Box.whole(shape)
    names = [name, *(f"{name}/replica_{i}" for i in range(1, len(devices)))]
    return tuple(
        Component(part, device, f"{part}@{device}", whole, dtype_of(dtype))
        for part, device in zip(names, devices, strict=True)
    )


def plain(name, shape=(), dtype="float32", device=f"{LOCAL}:0"):
    return Variable(name, dtype_of(dtype), shape, components(name, shape, dtype, [device]))


def mirrored(name, shape=(), dtype="float32", devices=(f"{LOCAL}:0", f"{LOCAL}:1")):
    parts = components(name, shape, dtype, devices)
    return MirroredVariable(name, dtype_of(dtype), shape, parts)


def on_read(name, aggregation, shape=(), dtype="float32", devices=(f"{LOCAL}:0", f"{LOCAL}:1")):
    return SyncOnReadVariable(
        name,
        dtype_of(dtype),
        shape,
        components(name, shape, dtype, devices),
        aggregation=Aggregation.from_obj(aggregation),
    )


def sharded(name, shape, dtype="float32", devices=(f"{LOCAL}:0", f"{LOCAL}:1")):
    parts = tuple(
        Component(
            f"{name}/part_{i}",
            devices[i],
            f"{name}@{i}",
            Box((start, *(0 for _ in shape[1:])), (length, *shape[1:])),
            dtype_of(dtype),
        )
        for i, (start, length) in enumerate(partition(shape[0], len(devices)))
    )
    return ShardedVariable(name, dtype_of(dtype), shape, parts)


def model(**attributes):
    """The object graph of a module with these attributes."""
    root = Module()
    vars(root).update(attributes)
    return tree(root)


def tree(root):
    """The object graph of a module, its functions included."""
    return trace(root, functions_of, (Function, ConcreteFunction))


@pytest.fixture(scope="session")
def make():
    """Makers of variables and of object graphs; variables are on the local CPUs."""
    return SimpleNamespace(
        plain=plain, mirrored=mirrored, on_read=on_read, sharded=sharded, model=model, tree=tree
    )


@pytest.fixture
def export(tmp_path):
    """Writes a SavedModel: `export(graph, policy, {key: array})` returns its directory.

    `replicas` are the arrays of variables that are aggregated, by key; None: the first is all.
    """
    return lambda graph, policy, *args, **options: written(
        tmp_path / policy.name, graph, policy, *args, **options
    )


@pytest.fixture(scope="module")
def export_once(tmp_path_factory):
    """Writes the SavedModel of a module of tests: its functions, without variables."""
    return lambda graph: written(
        tmp_path_factory.mktemp("saved") / "model", graph, VariablePolicy.NONE, {}
    )


def written(directory, graph, policy, values, signatures=None, replicas=None, **options):
    """Write a SavedModel whose variables have the values of their keys."""
    asked = SaveOptions(experimental_variable_policy=policy, **options)
    metadata = build_saved_model(graph, asked, signatures)
    (directory / "variables").mkdir(parents=True)
    with (directory / data_file(0, 1)).open("wb") as file:
        shard = ShardWriter(0, file.write)
        keys = component_keys(metadata.components)
        for _, key, variable in graph.variables():
            boxes = [None]
            if isinstance(variable, ShardedVariable) and variable.dtype.reassembled:
                boxes = [component.box for component in variable.components]
            whole = add(shard, key, variable.dtype, variable.shape, values[key], boxes)
            if isinstance(variable, SyncOnReadVariable):
                arrays = (replicas or {}).get(key) or replicas_of(variable, values[key])
                for component, array in zip(variable.components, arrays, strict=True):
                    if component.key in keys:
                        own = keys[component.key]
                        add(shard, own, variable.dtype, variable.shape, array)
            elif boxes == [None] and keys:
                shard.entries += part_entries(variable, whole, values[key], keys)
        add(shard, OBJECT_GRAPH_KEY, STRING, (), np.array(metadata.object_graph, object))
        components = component_entries(metadata.components, shard.entries)
        entries = [*shard.entries, *components]
    index = build_index(entries, 1)
    (directory / "variables" / "variables.index").write_bytes(index)
    if metadata.debug_info is not None:
        (directory / "debug").mkdir()
        (directory / DEBUG_INFO_FILE).write_bytes(metadata.debug_info)
    (directory / "saved_model.pb").write_bytes(metadata.saved_model)
    return str(directory)


def replicas_of(variable, value):
    """Replicas that are worth this value: the first is, and the others add nothing to it."""
    summed = variable.aggregation is Aggregation.SUM
    rest = np.zeros_like(np.asarray(value, variable.dtype.numpy)) if summed else value
    return [value, *[rest] * (len(variable.components) - 1)]


def part_entries(variable, whole, value, parts):
    """What the host that stores a variable in one piece says of its parts."""
    array = np.asarray(value, variable.dtype.numpy)
    offset = whole.offset
    for component in variable.components:
        if component.key in parts:
            data = array[component.box.index].tobytes()
            yield whole._replace(
                key=parts[component.key],
                shape=component.box.lengths,
                offset=offset,
                nbytes=len(data),
                crc32c=crc32c(data),
            )
            offset += len(data)


def add(shard, key, dtype, shape, value, boxes=(None,)):
    if dtype.is_string:
        encoded = encode_strings(np.asarray(value, object))
        return shard.add(key, dtype, shape, [encoded.payload], crc32c=encoded.crc32c)
    array = np.asarray(value, dtype.numpy)
    for box in boxes:
        piece = array if box is None else array[box.index]
        entry = shard.add(key, dtype, shape, [piece.tobytes()], box=box)
    return entry
