"""Decide a whole save before its first byte moves: which file holds what, and who writes it.

One data file for each host that gives bytes, whichever device they are on, and one more for
the object graph; so neither an io device nor a policy changes the files, as in TensorFlow
(python/checkpoint/functional_saver.py, ShardByTaskPolicy). Hosts that give nothing get no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dsave.errors import ModelError, NoSpaceError
from dsave.format import naming
from dsave.model.dtype import DType
from dsave.model.slices import Box
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
)
from dsave.plan.routing import Load, balance_bytes

Layout = Literal["single", "host-local"]


@dataclass(frozen=True, slots=True)
class Source:
    """One array on one host."""

    host: str
    key: str


@dataclass(frozen=True, slots=True)
class Part:
    """Arrays of one shape that become one run of bytes: one array, or several aggregated.

    `nbytes` is the size of each; of strings, in their stored form.
    """

    sources: tuple[Source, ...]
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a data file, and the parts that follow each other in it.

    `box` is None for a whole tensor.
    """

    key: str
    dtype: DType
    shape: tuple[int, ...]
    box: Box | None
    parts: tuple[Part, ...]
    aggregation: Aggregation = Aggregation.NONE

    @property
    def nbytes(self) -> int:
        """Bytes of the entry."""
        return sum(part.nbytes for part in self.parts)

    @property
    def source_hosts(self) -> tuple[str, ...]:
        """The hosts that bytes come from, in order of first use."""
        return tuple(dict.fromkeys(s.host for part in self.parts for s in part.sources))


@dataclass(frozen=True, slots=True)
class Shard:
    """One data file: what it holds, and the host that writes it."""

    index: int
    file: str
    writer: str
    items: tuple[Item, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return sum(item.nbytes for item in self.items)

    @property
    def source_hosts(self) -> tuple[str, ...]:
        """The hosts that bytes come from, in order of first use."""
        return tuple(dict.fromkeys(host for item in self.items for host in item.source_hosts))


@dataclass(frozen=True, slots=True)
class Disk:
    """One directory as some hosts see it: all of `hosts` share it; the first one tends it."""

    hosts: tuple[str, ...]
    free_nbytes: int | None

    @property
    def owner(self) -> str:
        """The host that writes the metadata and makes the commit."""
        return self.hosts[0]


@dataclass(frozen=True, slots=True)
class SavePlan:
    """The frozen decision of a whole save. `object_graph_file` is written on every disk."""

    directory: str
    shards: tuple[Shard, ...]
    disks: tuple[Disk, ...]

    @property
    def num_shards(self) -> int:
        """Data files, the object graph's included."""
        return len(self.shards) + 1

    @property
    def object_graph_shard(self) -> int:
        """The number of the data file that holds the object graph: the last."""
        return len(self.shards)

    @property
    def object_graph_file(self) -> str:
        """The data file that holds the object graph."""
        return naming.data_file(self.object_graph_shard, self.num_shards)

    @property
    def layout(self) -> Layout:
        """Whether one directory holds everything."""
        return "single" if len(self.disks) == 1 else "host-local"


def plan_shards(
    variables: Sequence[tuple[str, Variable]],
    hosts: Sequence[str],
    io_host: str | None,
    string_nbytes: Mapping[str, int],
) -> tuple[Shard, ...]:
    """Cut the variables (checkpoint key, variable) into data files and choose their writers.

    `hosts` in the cluster's order; `io_host` is the host of `experimental_io_device`;
    `string_nbytes` gives the stored size of each string array by component key.

    Raises:
        ModelError: two variables have one checkpoint key.
    """
    seen: dict[str, Variable] = {}
    for key, variable in variables:
        if key in seen:
            raise ModelError(
                key, f"two variables, {seen[key].name!r} and {variable.name!r}, have this key"
            )
        seen[key] = variable
    givers = balance_bytes((load for key, v in variables for load in _loads(key, v)), hosts)
    by_host: dict[str, list[Item]] = {host: [] for host in hosts}
    for key, variable in variables:
        for host, item in _items(key, variable, givers, io_host, string_nbytes):
            by_host[host].append(item)
    given = [(host, items) for host, items in by_host.items() if items]
    return tuple(
        Shard(index, naming.data_file(index, len(given) + 1), io_host or host, tuple(items))
        for index, (host, items) in enumerate(given)
    )


def plan_disks(
    writers: Sequence[str], sees: Mapping[str, frozenset[str]], free: Mapping[str, int | None]
) -> tuple[Disk, ...]:
    """Group the writers by the directory they share.

    `sees` tells whose markers each writer found in its directory, its own included.
    """
    disks: list[Disk] = []
    placed: set[str] = set()
    for writer in writers:
        if writer not in placed:
            group = tuple(host for host in writers if host == writer or host in sees[writer])
            placed.update(group)
            disks.append(Disk(group, free[writer]))
    return tuple(disks)


def check_space(plan: SavePlan, metadata_nbytes: int) -> None:
    """See that every disk has room for its data files and a copy of the metadata.

    Raises:
        NoSpaceError: one has not.
    """
    for disk in plan.disks:
        needed = metadata_nbytes + sum(
            shard.nbytes for shard in plan.shards if shard.writer in disk.hosts
        )
        if disk.free_nbytes is not None and needed > disk.free_nbytes:
            raise NoSpaceError(
                plan.directory,
                disk.owner,
                f"{needed:,} bytes are to be written and {disk.free_nbytes:,} are free; "
                "free some, or choose another directory or experimental_io_device",
            )


def _loads(key: str, variable: Variable) -> Iterable[Load]:
    if isinstance(variable, ShardedVariable):
        for part in variable.components:
            nbytes = part.box.size * variable.dtype.itemsize
            yield Load(f"{key} {part.name}", nbytes, (part.host,))
    elif isinstance(variable, MirroredVariable):
        holders = tuple(dict.fromkeys(component.host for component in variable.components))
        yield Load(key, variable.nbytes, holders)
    else:
        yield Load(key, variable.nbytes, (variable.components[0].host,))


def _items(
    key: str,
    variable: Variable,
    givers: Mapping[str, str],
    io_host: str | None,
    string_nbytes: Mapping[str, int],
) -> Iterable[tuple[str, Item]]:
    """Each entry of a variable, and the host in whose file it is."""
    dtype, shape = variable.dtype, variable.shape

    def part(*components: Component) -> Part:
        first = components[0]
        nbytes = (
            string_nbytes[first.key] if dtype.is_string else first.box.size * dtype.itemsize
        )
        sources = tuple(Source(component.host, component.key) for component in components)
        return Part(sources, first.box.lengths, nbytes)

    if isinstance(variable, ShardedVariable):
        # A slice without elements is not allowed, and holds nothing.
        pieces = [c for c in variable.components if c.box.size] or [variable.components[0]]
        if dtype.reassembled and len(pieces) > 1:
            for c in pieces:
                yield c.host, Item(key, dtype, shape, c.box, (part(c),))
        else:  # TensorFlow cannot put slices of this dtype together: store one piece
            parts = tuple(part(c) for c in pieces)
            yield pieces[0].host, Item(key, dtype, shape, None, parts)
        return
    host = givers[key]
    if isinstance(variable, SyncOnReadVariable) and variable.aggregation in {
        Aggregation.SUM,
        Aggregation.MEAN,
    }:
        whole = part(*variable.components)
        yield host, Item(key, dtype, shape, None, (whole,), variable.aggregation)
        return
    held = {component.host: component for component in reversed(variable.components)}
    if not isinstance(variable, MirroredVariable) or io_host not in held:
        source = held[host]
    else:  # the io host's own replica need not travel
        source = held[io_host]
    yield host, Item(key, dtype, shape, None, (part(source),))
