"""What a `saved_model.pb` says about its model, read without TensorFlow, whoever wrote it.

A file with several graphs is described by its first. One without an object graph, from
TensorFlow 1, has tags and signatures here, no variables and no functions.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from dsave.errors import CorruptionError, DtypeError
from dsave.model.dtype import dtype_numbered
from dsave.model.trackable import checkpoint_key
from dsave.model.variable import Aggregation, Synchronization
from dsave.options import VariablePolicy
from dsave.proto.object_graph_pb2 import SavedObjectGraph, SavedVariable
from dsave.proto.saved_model_pb2 import SavedModel, TensorInfo
from dsave.proto.types_pb2 import TensorShapeProto
from dsave.savedmodel.components import container_of
from dsave.savedmodel.signatures import INIT_OP

Shape = tuple[int | None, ...] | None
"""The extents of a tensor, None for one that is not known; None if not even the rank is."""


@dataclass(frozen=True, slots=True)
class ComponentSummary:
    """One device's part in a distributed variable."""

    name: str
    device: str


@dataclass(frozen=True, slots=True)
class VariableSummary:
    """A variable; `key` is that of its value in the checkpoint."""

    key: str
    name: str
    dtype: str
    shape: Shape
    device: str
    synchronization: Synchronization
    aggregation: Aggregation
    trainable: bool
    components: tuple[ComponentSummary, ...]


@dataclass(frozen=True, slots=True)
class FunctionSummary:
    """A function of the object tree, by its path from the root, and what it was traced to."""

    path: str
    concrete_functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """An input or an output of a signature; `tensor` is its name in the main graph."""

    name: str
    tensor: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class SignatureSummary:
    """What model servers call by `key`."""

    key: str
    method: str
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A SavedModel in short.

    `policy` is the least that explains the file: one with devices and no components was saved
    with SAVE_VARIABLE_DEVICES, or expanded without a distributed variable. `component_keys` are
    those of components, whose values are bytes of their variables'. `aliases` maps names of
    concrete functions to their aliases.
    """

    tags: tuple[str, ...]
    tensorflow_version: str
    policy: VariablePolicy
    variables: tuple[VariableSummary, ...]
    component_keys: tuple[str, ...]
    functions: tuple[FunctionSummary, ...]
    signatures: tuple[SignatureSummary, ...]
    aliases: Mapping[str, str]


def read_summary(saved_model: bytes, file: str) -> Summary:
    """The summary of a serialized SavedModel; `file` is its name in errors.

    Raises:
        CorruptionError: the bytes are no SavedModel, or one that contradicts itself.
    """
    try:
        proto = SavedModel.FromString(saved_model)
    except DecodeError:
        raise CorruptionError(file, "", "it cannot be parsed as a SavedModel") from None
    if not proto.meta_graphs:
        raise CorruptionError(file, "", "it holds no graph")
    meta_graph = proto.meta_graphs[0]
    objects = meta_graph.object_graph_def
    paths = _paths(objects, file)
    keys = {node_id: checkpoint_key(path) for node_id, path in paths.items()}
    keys |= _slot_keys(objects, paths)
    keys = {
        node_id: key
        for node_id, key in keys.items()
        if objects.nodes[node_id].HasField("variable")
    }
    parts = _parts(objects, paths)
    variables = tuple(
        _variable(objects.nodes[node_id].variable, key, file)
        for node_id, key in keys.items()
        if node_id not in parts
    )
    return Summary(
        tags=tuple(meta_graph.meta_info_def.tags),
        tensorflow_version=meta_graph.meta_info_def.tensorflow_version,
        policy=_policy(variables),
        variables=variables,
        component_keys=tuple(key for node_id, key in keys.items() if node_id in parts),
        functions=tuple(
            FunctionSummary(
                "/".join(path), tuple(objects.nodes[node_id].function.concrete_functions)
            )
            for node_id, path in paths.items()
            if objects.nodes[node_id].HasField("function")
        ),
        signatures=tuple(
            SignatureSummary(
                key,
                signature.method_name,
                _tensors(signature.inputs),
                _tensors(signature.outputs),
            )
            for key, signature in sorted(meta_graph.signature_def.items())
            if key != INIT_OP
        ),
        aliases=dict(sorted(meta_graph.meta_info_def.function_aliases.items())),
    )


def _paths(objects: SavedObjectGraph, file: str) -> dict[int, tuple[str, ...]]:
    """The first path to each node that the root leads to, breadth first."""
    paths: dict[int, tuple[str, ...]] = {0: ()} if objects.nodes else {}
    queue = deque(paths)
    while queue:
        node_id = queue.popleft()
        for child in objects.nodes[node_id].children:
            path = (*paths[node_id], child.local_name)
            if not 0 <= child.node_id < len(objects.nodes):
                raise CorruptionError(
                    file,
                    "/".join(path),
                    f"node {child.node_id} of an object graph of {len(objects.nodes)} nodes",
                )
            if child.node_id not in paths:
                paths[child.node_id] = path
                queue.append(child.node_id)
    return paths


def _parts(objects: SavedObjectGraph, paths: Mapping[int, tuple[str, ...]]) -> set[int]:
    """The components of an expanded model that are nodes of their own."""
    container = container_of(objects)
    within = paths.get(-1 if container is None else container)
    return {node_id for node_id, path in paths.items() if path[:1] == within}


def _slot_keys(
    objects: SavedObjectGraph, paths: Mapping[int, tuple[str, ...]]
) -> dict[int, str]:
    """The keys of variables that optimizers keep for others, which are no one's children.

    Source: `_serialize_slot_variables`, tensorflow/python/checkpoint/util.py.
    """
    return {
        slot.slot_variable_node_id: checkpoint_key(
            paths[slot.original_variable_node_id]
        ).removesuffix(checkpoint_key(()))
        + f".OPTIMIZER_SLOT/{checkpoint_key((*path, slot.slot_name))}"
        for node_id, path in paths.items()
        for slot in objects.nodes[node_id].slot_variables
        if slot.original_variable_node_id in paths
        and 0 <= slot.slot_variable_node_id < len(objects.nodes)
    }


def _variable(proto: SavedVariable, key: str, file: str) -> VariableSummary:
    try:
        synchronization = Synchronization(proto.synchronization)
        aggregation = Aggregation(proto.aggregation)
    except ValueError as error:
        raise CorruptionError(file, key, str(error)) from None
    return VariableSummary(
        key=key,
        name=proto.name,
        dtype=_dtype(proto.dtype),
        shape=_shape(proto.shape),
        device=proto.device,
        synchronization=synchronization,
        aggregation=aggregation,
        trainable=proto.trainable,
        components=tuple(
            ComponentSummary(component.name, component.device)
            for component in proto.experimental_distributed_variable_components
        ),
    )


def _policy(variables: Iterable[VariableSummary]) -> VariablePolicy:
    if any(variable.components for variable in variables):
        return VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES
    if any(variable.device for variable in variables):
        return VariablePolicy.SAVE_VARIABLE_DEVICES
    return VariablePolicy.NONE


def _tensors(tensors: Mapping[str, TensorInfo]) -> tuple[TensorSummary, ...]:
    return tuple(
        TensorSummary(name, tensor.name, _dtype(tensor.dtype), _shape(tensor.tensor_shape))
        for name, tensor in sorted(tensors.items())
    )


def _dtype(number: int) -> str:
    try:
        return dtype_numbered(number).name
    except DtypeError:
        return f"dtype {number}"  # a resource or a variant, which no checkpoint holds


def _shape(proto: TensorShapeProto) -> Shape:
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)
