"""Run a graph with numpy, by the kernels of the table; or record it in another one."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dsave.errors import ModelError
from dsave.functions import xla_call_module
from dsave.functions.graph import CONST, PLACEHOLDER, READ, Array, Capture, FunctionGraph
from dsave.functions.operands import Value
from dsave.functions.table import OPS
from dsave.functions.tracer import Trace


def run_graph(
    graph: FunctionGraph,
    arguments: Sequence[ArrayLike],
    read: Callable[[Capture], Array],
) -> list[Array]:
    """The outputs of a graph, given its flat arguments and a reader of its captures.

    Raises:
        ModelError: the graph has an op that only TensorFlow can run, or code that JAX cannot.
    """
    values: list[tuple[Array, ...]] = []
    for place, node in enumerate(graph.nodes):
        if node.op == PLACEHOLDER:
            values.append((np.asarray(arguments[place], node.outputs[0].dtype.numpy),))
        elif node.op == CONST:
            values.append((np.asarray(node.attrs["value"]),))
        elif node.op == READ:
            assert node.capture is not None
            values.append((np.asarray(read(graph.captures[node.capture])),))
        elif node.op in OPS:
            inputs = [values[source.node][source.index] for source in node.inputs]
            values.append(OPS[node.op].run(node.attrs, inputs))
        elif node.op == xla_call_module.OP:
            inputs = [values[source.node][source.index] for source in node.inputs]
            try:
                values.append(tuple(xla_call_module.run_module(node.attrs, inputs)))
            except xla_call_module.JaxError as error:
                problem = f"{node.op} cannot be run: {error}"
                raise ModelError(f"{graph.name}, node {node.name}", problem) from error
        else:
            raise ModelError(
                f"{graph.name}, node {node.name}",
                f"numpy cannot run the op {node.op}; TensorFlow can",
            )
    return [values[output.node][output.index] for output in graph.outputs]


def record_graph(graph: FunctionGraph, arguments: Sequence[Value], trace: Trace) -> list[Value]:
    """The outputs of a graph that becomes part of a trace, given its flat arguments."""
    values: list[Sequence[Value]] = []
    for place, node in enumerate(graph.nodes):
        if node.op == PLACEHOLDER:
            values.append([arguments[place]])
        elif node.op == CONST:
            values.append([np.asarray(node.attrs["value"])])
        elif node.op == READ:
            assert node.capture is not None
            values.append([trace.read(graph.captures[node.capture])])
        else:
            inputs = [values[source.node][source.index] for source in node.inputs]
            added = trace.add(node.op, inputs, node.attrs, node.outputs, node.output_args)
            values.append(added)
    return [values[output.node][output.index] for output in graph.outputs]
