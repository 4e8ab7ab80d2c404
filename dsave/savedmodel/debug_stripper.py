"""Take ops that only debug out of a graph, as `experimental_debug_stripper` asks for.

    Assert, PrintV2          become NoOp, after what they took
    CheckNumerics, Print     become Identity of their first input, after the others

Source: tensorflow/python/saved_model/save.py.
"""

from collections.abc import Iterable

from dsave.proto.graph_pb2 import GraphDef, NodeDef

_TO_NOTHING = frozenset({"Assert", "PrintV2"})
_TO_IDENTITY = frozenset({"CheckNumerics", "Print"})


def strip_debug_ops(graph: GraphDef) -> None:
    """Change the main graph and every function."""
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if node.op in _TO_NOTHING:
                _become(node, "NoOp", [])
            elif node.op in _TO_IDENTITY:
                _become(node, "Identity", ["T"])


def _become(node: NodeDef, op: str, attrs: Iterable[str]) -> None:
    kept = 1 if op == "Identity" else 0
    inputs = list(node.input)
    after = dict.fromkeys(f"^{_node_of(name)}" for name in inputs[kept:])
    node.op = op
    del node.input[kept:]
    node.input.extend(after)
    for name in [name for name in node.attr if name not in attrs and name[0] != "_"]:
        del node.attr[name]


def _node_of(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]
