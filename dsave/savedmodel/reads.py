"""What a graph reads where a function reads a variable, or a component of one.

                             NONE, SAVE_VARIABLE_DEVICES    EXPAND
    mirrored                 v                              v
    on read, by sum          v                              v + v/replica_1 + ...
    on read, by mean         v                              (v + v/replica_1 + ...) / n
    on read, by first        v                              v
    a replica                v                              v/replica_i
    sharded                  emb                            emb
    a part                   its rows of emb                emb/part_i
    a part, of strings       its rows of emb                its rows of emb

Only functions that read replicas themselves can tell the policies apart. `components` says why
a sum is right in every reader, and of which dtypes there are no replicas to add: those are read
as without the policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dsave.errors import ModelError
from dsave.functions.graph import READ, Capture
from dsave.functions.names import Names
from dsave.model.asset import Asset
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.variable import Aggregation, ShardedVariable
from dsave.savedmodel.assets import GraphAsset
from dsave.savedmodel.nodes import Nodes, add_const, add_node
from dsave.savedmodel.resources import GraphVariable, Resource


@dataclass(frozen=True, slots=True)
class Reading:
    """One resource that is read, or rows of it, `box`; or several, for their sum or mean."""

    resources: tuple[Resource, ...]
    mean: bool = False
    box: Box | None = None


class Readings:
    """How each variable of a model is read, each of its components, and each asset."""

    def __init__(
        self, variables: Sequence[GraphVariable], assets: Sequence[GraphAsset] = ()
    ) -> None:
        self._variables = variables
        self._assets = assets

    @cached_property
    def _found(self) -> dict[Capture, Reading]:
        found: dict[Capture, Reading] = {
            asset.asset: Reading((asset.resource,)) for asset in self._assets
        }
        for variable in self._variables:
            found[variable.variable] = worth(variable)
            for place, component in enumerate(variable.variable.components):
                found[component] = _component(variable, place)
        return found

    def of(self, capture: Capture, function: str) -> Reading:
        """How `function` reads what it captured.

        Raises:
            ModelError: the graph has no such variable or asset.
        """
        found = self._found.get(capture)
        if found is not None:
            return found
        if capture.dtype.variable:
            problem = "is not part of the model; make it an attribute of it"
        else:
            problem = f"is {capture.dtype}, of which TensorFlow has no variables"
        kind = "asset" if isinstance(capture, Asset) else "variable"
        raise ModelError(f"function {function}", f"the {kind} {capture.name!r} {problem}")


def worth(variable: GraphVariable) -> Reading:
    """How the graph reads what a variable is worth."""
    if variable.is_aggregate:
        mean = variable.variable.aggregation is Aggregation.MEAN
        return Reading(variable.resources, mean)
    return Reading(variable.resources[:1])


def add_read(
    nodes: Nodes,
    names: Names,
    name: str,
    reading: Reading,
    handle_of: Callable[[Resource], str],
    device: str = "",
) -> str:
    """Add the nodes of a reading to a function; returns the reference to its value.

    What is computed from values that were read is computed on `device`.
    """
    dtype = reading.resources[0].dtype

    def read(resource: Resource, wanted: str) -> str:
        if resource.by_value:
            return handle_of(resource)
        node = names.unique(wanted)
        add_node(nodes, node, READ, (handle_of(resource),), dtype=dtype)
        return f"{node}:value:0"

    if len(reading.resources) > 1:
        values = [
            read(resource, f"{name}/replica_{place}")
            for place, resource in enumerate(reading.resources)
        ]
        total, *others = values
        for value in others:  # in this order, as `aggregated` does: no sum of many at once
            node = names.unique(f"{name}/sum" if reading.mean else name)
            add_node(nodes, node, "AddV2", (total, value), device, T=dtype)
            total = f"{node}:z:0"
        if not reading.mean:
            return total
        count = names.unique(f"{name}/count")
        add_const(nodes, count, np.array(len(values), dtype.numpy), dtype, device)
        mean = names.unique(name)
        add_node(nodes, mean, "RealDiv", (total, f"{count}:output:0"), device, T=dtype)
        return f"{mean}:z:0"
    if reading.box is None:
        return read(reading.resources[0], name)
    value = read(reading.resources[0], f"{name}/whole")
    corner = []
    for argument, extents in (("begin", reading.box.starts), ("size", reading.box.lengths)):
        node = names.unique(f"{name}/{argument}")
        add_const(nodes, node, np.array(extents, np.int64), device=device)
        corner.append(f"{node}:output:0")
    node = names.unique(name)
    inputs = (value, *corner)
    add_node(nodes, node, "Slice", inputs, device, T=dtype, Index=dtype_of(np.int64))
    return f"{node}:output:0"


def _component(variable: GraphVariable, place: int) -> Reading:
    first, *others = variable.resources
    box = variable.variable.components[place].box
    if isinstance(variable.variable, ShardedVariable):
        if others:
            return Reading((others[place],))
        return Reading((first,), box=None if box.covers(variable.variable.shape) else box)
    return Reading((variable.resources[place] if others else first,))
