"""Assets in the main graph: a variable for the path of each, which loaders fill in.

    Placeholder        asset_path_initializer, to which loaders feed `DIR/assets/FILE`
    VarHandleOp        asset_path, assigned from it when the graph is initialized
    ReadVariableOp     the path, for functions that want it

TensorFlow's Python does without them: it gives functions the path itself, so they take a string
where others take a variable's handle. Source: `_process_asset`,
tensorflow/python/saved_model/save.py.
"""

from dataclasses import dataclass

from dsave.errors import CorruptionError
from dsave.format.naming import ASSETS_DIRECTORY
from dsave.functions.names import Names
from dsave.model.asset import Asset
from dsave.model.dtype import STRING
from dsave.model.slices import Box
from dsave.proto.saved_model_pb2 import MetaGraphDef
from dsave.savedmodel.nodes import add_node
from dsave.savedmodel.resources import Resource
from dsave.savedmodel.tree import Kind, Tree


@dataclass(frozen=True, slots=True)
class GraphAsset:
    """An asset, what functions take of it, and the node that must have run before."""

    asset: Asset
    resource: Resource
    initializer: str


def add_asset(
    meta_graph: MetaGraphDef, names: Names, node_id: int, asset: Asset, file: str
) -> GraphAsset:
    """Add an asset, whose file in the directory `assets` is `file`, to the main graph."""
    nodes = meta_graph.graph_def.node
    fed = names.unique("asset_path_initializer")
    add_node(nodes, fed, "Placeholder", dtype=STRING, shape=())
    handle = names.unique("asset_path")
    add_node(
        nodes,
        handle,
        "VarHandleOp",
        dtype=STRING,
        shape=(),
        shared_name=handle.encode(),
        debug_name=f"{handle}/".encode(),
    )
    assign = names.unique(f"{handle}/Assign")
    add_node(nodes, assign, "AssignVariableOp", (handle, fed), dtype=STRING)
    read = names.unique(f"{handle}/Read/ReadVariableOp")
    add_node(nodes, read, "ReadVariableOp", (handle,), dtype=STRING)
    described = meta_graph.asset_file_def.add(filename=file)
    described.tensor_info.name = f"{fed}:0"
    path = Resource(read, node_id, "", STRING, Box.whole(()), by_value=True)
    return GraphAsset(asset, path, assign)


def read_assets(
    meta_graph: MetaGraphDef, tree: Tree, directory: str, file: str
) -> dict[int, Asset]:
    """The assets of a SavedModel in this directory, by node id; `file` names it in errors.

    Raises:
        CorruptionError: an asset has no file, or one elsewhere.
    """
    assets: dict[int, Asset] = {}
    names = asset_files(meta_graph, file)
    for number, node in enumerate(tree.nodes):
        if node.kind is Kind.ASSET:
            index = meta_graph.object_graph_def.nodes[number].asset.asset_file_def_index
            if not 0 <= index < len(names):
                raise CorruptionError(file, "", f"object {number} is an asset without a file")
            assets[number] = Asset(f"{directory}/{ASSETS_DIRECTORY}/{names[index]}")
    return assets


def asset_files(meta_graph: MetaGraphDef, file: str) -> list[str]:
    """The names of the files in the directory `assets`; `file` names the SavedModel in errors.

    Raises:
        CorruptionError: a name leads out of the directory.
    """
    names = [described.filename for described in meta_graph.asset_file_def]
    for name in names:
        if not name or "/" in name or name in {".", ".."}:
            raise CorruptionError(file, name, "the file of an asset is in no directory")
    return names
