"""Give stored variables a place in a cluster: new variables, or those of a given model."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dsave.errors import CorruptionError, ModelError, OptionError
from dsave.model import new_variable
from dsave.model.readable import value_of
from dsave.model.slices import Box
from dsave.model.trackable import Module, trace
from dsave.model.variable import (
    Aggregation,
    Synchronization,
    SyncOnReadVariable,
    Variable,
)
from dsave.plan.load_plan import Want
from dsave.plan.placement import Moved, place
from dsave.runtime.cluster import Cluster
from dsave.savedmodel.components import own_places
from dsave.savedmodel.interpreter import Handle
from dsave.savedmodel.tree import StoredVariable, Tree

_NAMED = 5
"""How many of several variables an error names."""


def bind_new(
    cluster: Cluster,
    stored: Mapping[int, StoredVariable],
    placement: Mapping[str, str | Sequence[str]],
    file: str,
    *,
    soft: bool,
) -> tuple[dict[int, Variable], list[Moved]]:
    """Make a variable for each stored one, without values yet, and say which have moved.

    `placement` gives devices by path or name; `file` names the SavedModel in errors.

    Raises:
        OptionError: `placement` names a variable that there is not.
        DeviceError: a device does not exist.
        CorruptionError: a variable is described that cannot be.
    """
    known = {text for variable in stored.values() for text in (variable.path, variable.name)}
    for key in placement:
        if key not in known:
            raise OptionError(
                "placement", f"no variable has the path or the name {key!r}; {_some(known)} do"
            )
    variables: dict[int, Variable] = {}
    moved: list[Moved] = []
    for number, variable in stored.items():
        asked = placement.get(variable.path, placement.get(variable.name))
        if asked is not None:
            devices: Sequence[str] = cluster.inner.resolved(
                [asked] if isinstance(asked, str) else asked
            )
        elif variable.device:
            saved = _distributed(variable) and variable.components
            found = place(variable.name, saved or [variable.device], cluster.devices, soft=soft)
            devices = found.devices
            moved += found.moved
        else:
            devices = [cluster.default_device]
        try:
            variables[number] = _variable(variable, devices, cluster)
        except OptionError as error:
            raise CorruptionError(file, variable.path, error.problem) from None
        cluster.inner.values.keep(variables[number])
    return variables, moved


def bind_to(
    into: Module, cluster: Cluster, tree: Tree, directory: str, *, partial: bool
) -> dict[int, Variable]:
    """The variables of a model that take the values of stored ones, by node id of these.

    Both trees are followed by names from the root. `partial`: leave out what only one has.

    Raises:
        ModelError: a variable has another shape or dtype than the stored one, is two of them
            or on a host that the cluster has not; without `partial`, only one of them has it.
    """
    graph = trace(into)
    bound: dict[int, Variable] = {}
    taken: dict[int, int] = {}
    met = {(0, 0)}
    queue = deque(met)
    while queue:
        mine, theirs = queue.popleft()
        value, node = graph.nodes[mine].value, tree.nodes[theirs]
        if isinstance(value, Variable) and node.variable is not None:
            if taken.setdefault(mine, theirs) != theirs:
                raise ModelError(value.name, "the model has it as one variable, saved are two")
            if bound.setdefault(theirs, value) is not value:
                raise ModelError(value.name, "the model has it as two variables, saved is one")
            _check_fits(value, node.variable, cluster)
            continue
        children = dict(node.children)
        for name, child in graph.nodes[mine].children:
            pair = (child, children.get(name, -1))
            if pair[1] >= 0 and pair not in met:
                met.add(pair)
                queue.append(pair)
    if not partial:
        absent = [
            "/".join(graph.nodes[number].path)
            for number, _, _ in graph.variables()
            if number not in taken
        ]
        unused = [v.path for number, v in tree.variables().items() if number not in bound]
        hint = "allow_partial_checkpoint=True loads what both have"
        if absent:
            raise ModelError(directory, f"it has no value for {_some(absent)}; {hint}")
        if unused:
            raise ModelError(directory, f"the model does not have {_some(unused)}; {hint}")
    return bound


def wants(tree: Tree, bound: Mapping[int, Variable]) -> list[Want]:
    """What hosts need for the variables that stored ones, by node id, have become.

    Replicas that were saved with a value of their own get it back, if there are as many now. If
    not, each gets its share of what they were worth together.
    """
    stored, own = tree.variables(), _components(tree)
    found: list[Want] = []
    for number, variable in bound.items():
        key = stored[number].key
        if isinstance(variable, SyncOnReadVariable):
            replicas = [
                own.get((number, place), stored[number])
                for place in range(len(stored[number].components))
            ]
            kinds = {(replica.dtype, replica.shape) for replica in replicas}
            differ = len({replica.key for replica in replicas}) > 1
            if differ and len(kinds) == 1 and len(replicas) == len(variable.components):
                found += [
                    Want(part.host, replica.key, variable.dtype, part.box, ((part.key, 0),))
                    for replica, part in zip(replicas, variable.components, strict=True)
                ]
                continue
        slots: dict[tuple[str, Box], list[tuple[str, int]]] = {}
        for replica, component in enumerate(variable.components):
            place = (component.host, component.box)
            slots.setdefault(place, []).append((component.key, replica))
        differ = isinstance(variable, SyncOnReadVariable)
        shared_by = len(variable.components) if differ else 1
        found += [
            Want(host, key, variable.dtype, box, tuple(held), shared_by, variable.aggregation)
            for (host, box), held in slots.items()
        ]
    return found


def handles(tree: Tree, bound: Mapping[int, Variable]) -> dict[int, Handle]:
    """What functions read at each node: a variable, or what stands for its component here.

    A function that adds up the replicas of a sum shall have the sum of those that there are
    now, whatever their number: the first stands for all of it, the others for zero. Of a table
    a part is its rows.
    """
    found = {
        number: Handle(partial(value_of, variable), variable)
        for number, variable in bound.items()
    }
    start = 0
    components = _components(tree)
    numbers = list(tree.components)[: len(components)]
    for number, ((owner, index), component) in zip(numbers, components.items(), strict=True):
        variable = tree.nodes[owner].variable
        if variable is None or owner not in bound:
            continue
        if variable.synchronization is Synchronization.NONE:
            start = start if index else 0
            rows = slice(start, start + component.shape[0])
            start = rows.stop
            found[number] = Handle(partial(_rows, bound[owner], rows))
        elif index and _is_summed(variable):
            zeros = np.zeros(component.shape, component.dtype.numpy)
            found[number] = Handle(partial(value_of, zeros))
        else:
            found[number] = found[owner]
    return found


def _components(tree: Tree) -> dict[tuple[int, int], StoredVariable]:
    """The components that are objects, by their variable's node id and their place in it."""
    owners = [
        (number, place)
        for number, variable in tree.variables().items()
        for place in own_places(variable)
    ]
    if len(owners) != len(tree.components):
        return {}  # not as dsave writes them
    return dict(zip(owners, tree.components.values(), strict=True))


def _is_summed(variable: StoredVariable) -> bool:
    summed = (Synchronization.ON_READ, Aggregation.SUM)
    return (variable.synchronization, variable.aggregation) == summed


def _rows(variable: Variable, rows: slice) -> Any:
    return value_of(variable)[rows]


def _distributed(variable: StoredVariable) -> bool:
    return variable.synchronization is not Synchronization.AUTO


def _variable(stored: StoredVariable, devices: Sequence[str], cluster: Cluster) -> Variable:
    """A variable of the kind that was saved; a plain one on several devices is mirrored."""
    name, dtype, shape, new_key = stored.name, stored.dtype, stored.shape, cluster.inner.new_key
    trainable, aggregation = stored.trainable, stored.aggregation
    variable: Variable
    if stored.synchronization is Synchronization.NONE and shape:
        variable = new_variable.sharded(
            name, dtype, shape, devices, new_key, trainable=trainable
        )
    elif stored.synchronization is Synchronization.ON_READ and aggregation:
        variable = new_variable.sync_on_read(
            name, dtype, shape, devices, new_key, aggregation=aggregation
        )
    elif _distributed(stored) or len(devices) > 1:
        variable = new_variable.mirrored(
            name, dtype, shape, devices, new_key, trainable=trainable, aggregation=aggregation
        )
    else:
        variable = new_variable.plain(
            name, dtype, shape, devices[0], new_key, trainable=trainable
        )
    return replace(variable, trainable=trainable, aggregation=aggregation)


def _check_fits(variable: Variable, stored: StoredVariable, cluster: Cluster) -> None:
    if (variable.dtype, variable.shape) != (stored.dtype, stored.shape):
        raise ModelError(
            variable.name,
            f"it is {variable.dtype} {variable.shape}, "
            f"saved as {stored.path!r} is {stored.dtype} {stored.shape}",
        )
    cluster.inner.check_own(variable)


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(map(repr, listed[:_NAMED])) + more
