"""Everything that a SavedModel says about a model: `saved_model.pb` and the object graph.

    graph_def           variables, assets; calls of signatures, of save and restore; functions
    saver_def           how sessions restore
    asset_file_def      the files of assets, and where loaders say what their paths are
    signature_def       each signature, and the init op, which remembers the paths of assets
    collection_def      the init op once more, for older loaders
    object_graph_def    how Python restores
    meta_info_def       tags, aliases of functions

Format: tensorflow/core/protobuf/{saved_model,meta_graph}.proto. Equal models give equal bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dsave.errors import ModelError, OptionError, OptionTypeError
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function
from dsave.functions.names import Names
from dsave.model.asset import Asset
from dsave.model.trackable import ObjectGraph
from dsave.options import SaveOptions
from dsave.proto.graph_pb2 import GraphDef
from dsave.proto.saved_model_pb2 import MetaGraphDef, SavedModel
from dsave.savedmodel.assets import add_asset
from dsave.savedmodel.components import ComponentNode, expanded
from dsave.savedmodel.debug_info import build_debug_info
from dsave.savedmodel.debug_stripper import strip_debug_ops
from dsave.savedmodel.function_def import Stack
from dsave.savedmodel.library import Library, Traces
from dsave.savedmodel.nodes import add_node
from dsave.savedmodel.object_graph import set_saved_object_graph, trackable_object_graph
from dsave.savedmodel.reads import Readings
from dsave.savedmodel.resources import GraphVariable, add_variable
from dsave.savedmodel.saver import add_saver
from dsave.savedmodel.signatures import INIT_OP, add_signature, chosen_signatures

SERVING_TAG = "serve"
"""The tag by which loaders ask for the graph."""

TENSORFLOW_VERSION = "2.21.0"
"""The TensorFlow whose rules the graph follows; readers see it as the writer's version."""

_GRAPH_PRODUCER = 2474
_GRAPH_MIN_CONSUMER = 12
"""The graph versions of that TensorFlow, tensorflow/core/public/version.h."""

_MAIN_OP = "saved_model_main_op"

_MAX_NBYTES = (1 << 31) - 1
"""The longest message that protobuf reads."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is written beside the tensors.

    `saved_model` is saved_model.pb. `object_graph` is the value of the checkpoint's entry
    `_CHECKPOINTABLE_OBJECT_GRAPH`. `components` have entries of their own. `debug_info` is None
    unless it was asked for.
    """

    saved_model: bytes
    object_graph: bytes
    components: tuple[ComponentNode, ...]
    debug_info: bytes | None

    @property
    def nbytes(self) -> int:
        """Bytes of what is written beside the tensors, but for the checkpoint's index."""
        files = (self.saved_model, self.object_graph, self.debug_info or b"")
        return sum(map(len, files))


def build_saved_model(
    graph: ObjectGraph,
    options: SaveOptions,
    signatures: object = None,
    caller: Stack = (),
    asset_names: Mapping[Asset, str] = MappingProxyType({}),
) -> Metadata:
    """The metadata of a model, its functions and signatures, as the options want it.

    `caller` is the user's call of the save, which made what no function of the user's made.
    `asset_names` are the names of the assets' files in the directory `assets`.

    Raises:
        ModelError, TraceError: a function or a signature cannot be saved.
        OptionError, OptionTypeError: an option or the signatures ask for what cannot be done.
    """
    policy = options.variable_policy
    aliases = list(_aliases(options.function_aliases or {}))
    given = signatures.values() if isinstance(signatures, Mapping) else [signatures]
    values = (*given, *(node.value for node in graph.nodes), *(f for _, f in aliases))
    traces = Traces(f for f in values if isinstance(f, Function | ConcreteFunction))
    wanted = chosen_signatures(signatures, graph, traces)
    graph, components = expanded(graph, policy)
    object_graph = trackable_object_graph(graph, components)
    proto = SavedModel(saved_model_schema_version=1)
    meta_graph = proto.meta_graphs.add()
    _set_meta_info(meta_graph, options)
    main = meta_graph.graph_def
    main.versions.producer = _GRAPH_PRODUCER
    main.versions.min_consumer = _GRAPH_MIN_CONSUMER
    names = Names()
    variables = _add_variables(main, names, graph, components, options)
    assets = [
        add_asset(meta_graph, names, node_id, asset, asset_names[asset])
        for node_id, asset in graph.assets()
    ]
    objects = meta_graph.object_graph_def
    library = Library(main.library, objects.concrete_functions, Readings(variables, assets))
    added = {
        signature.key: (
            signature,
            add_signature(
                main, names, library, signature, meta_graph.signature_def[signature.key]
            ),
        )
        for signature in wanted
    }
    set_saved_object_graph(objects, graph, components, policy, traces, library, added)
    for alias, function in aliases:
        for each in traces[function] if isinstance(function, Function) else [function]:
            meta_graph.meta_info_def.function_aliases[library[each].name] = alias
    _check_namespaces(main, options.namespace_whitelist or ())
    _add_init_op(meta_graph, names, [f"^{asset.initializer}" for asset in assets])
    if not options.experimental_skip_saver:
        meta_graph.saver_def.CopyFrom(add_saver(main, names, variables, object_graph))
    if options.experimental_debug_stripper:
        strip_debug_ops(main)
    debug_info = None
    if options.save_debug_info:
        debug_info = build_debug_info(main.library, library.stacks, caller)
    return Metadata(_serialized(proto), object_graph, components, debug_info)


def _set_meta_info(meta_graph: MetaGraphDef, options: SaveOptions) -> None:
    info = meta_graph.meta_info_def
    info.tags.extend(dict.fromkeys((SERVING_TAG, *(options.extra_tags or ()))))
    info.tensorflow_version = TENSORFLOW_VERSION
    info.stripped_default_attrs = True


def _add_variables(
    main: GraphDef,
    names: Names,
    graph: ObjectGraph,
    components: Iterable[ComponentNode],
    options: SaveOptions,
) -> list[GraphVariable]:
    parts: dict[str, list[ComponentNode]] = {}
    for node in components:
        parts.setdefault(node.variable_key, []).append(node)
    return [
        add_variable(
            main.node,
            names,
            node_id,
            key,
            variable,
            parts.get(key, ()),
            options.variable_policy,
        )
        for node_id, key, variable in graph.variables()
        if variable.dtype.variable
    ]


def _aliases(
    aliases: Mapping[str, object],
) -> Iterator[tuple[str, Function | ConcreteFunction]]:
    """(alias, function) of each function that has one."""
    for alias, given in aliases.items():
        if not isinstance(alias, str):
            raise OptionTypeError("function_aliases", f"an alias is a str, got {alias!r}")
        for function in _functions(alias, given):
            yield alias, function


def _functions(
    alias: str, given: object, around: tuple[object, ...] = ()
) -> Iterator[Function | ConcreteFunction]:
    """Those in nested iterables; `around` are the iterables that this one is in."""
    if isinstance(given, Function | ConcreteFunction):
        yield given
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        if any(given is other for other in around):
            raise OptionTypeError(
                "function_aliases", f"alias {alias!r} is for a {type(given).__name__} in itself"
            )
        for item in given:
            yield from _functions(alias, item, (*around, given))
    else:
        raise OptionTypeError(
            "function_aliases",
            f"alias {alias!r} is for a {type(given).__name__}, which is no dsave.function, "
            "concrete function, or list of these",
        )


def _check_namespaces(main: GraphDef, allowed: Iterable[str]) -> None:
    """Every op of a namespace, `Namespace>Op`, was asked for."""
    ops = {node.op for node in main.node}
    ops.update(node.op for function in main.library.function for node in function.node_def)
    refused = sorted(op for op in ops if ">" in op and op.split(">")[0] not in allowed)
    if refused:
        missing = ", ".join(sorted({repr(op.split(">")[0]) for op in refused}))
        raise OptionError(
            "namespace_whitelist",
            f"the graph has ops of other namespaces: {', '.join(refused)}; "
            f"add {missing} to allow them",
        )


def _add_init_op(meta_graph: MetaGraphDef, names: Names, after: Iterable[str]) -> None:
    node = names.unique("NoOp")
    add_node(meta_graph.graph_def.node, node, "NoOp", after)
    meta_graph.collection_def[_MAIN_OP].node_list.value.append(node)
    output = meta_graph.signature_def[INIT_OP].outputs[INIT_OP]
    output.name = node
    output.tensor_shape.unknown_rank = True


def _serialized(proto: SavedModel) -> bytes:
    if proto.ByteSize() > _MAX_NBYTES:
        raise ModelError(
            "saved_model.pb",
            f"it would have {proto.ByteSize():,} bytes, of which no loader reads more than "
            f"{_MAX_NBYTES:,}; make large arrays in functions variables",
        )
    return proto.SerializeToString(deterministic=True)
