"""Decide a whole save before its first byte moves: which file holds what, and who writes it.

One data file for each host that gives bytes, whichever device they are on, or as many as a
sharding callback makes of it, and one more for the object graph; so neither an io device nor a
variable policy changes the files, as in TensorFlow (python/checkpoint/functional_saver.py).
Hosts that give nothing get no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from dsave.errors import ModelError, NoSpaceError
from dsave.format import naming
from dsave.model.device import cpu0
from dsave.model.slices import Box
from dsave.model.variable import MirroredVariable, ShardedVariable, Variable
from dsave.plan.items import Item, StringNbytes, cut, items_of
from dsave.plan.routing import Load, balance_bytes
from dsave.plan.sharding import ShardableTensor, ShardingCallback, shards_of

Layout = Literal["single", "host-local"]


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
    string_nbytes: Mapping[str, StringNbytes],
    sharding: ShardingCallback | None = None,
    component_keys: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Shard, ...]:
    """Cut the variables (checkpoint key, variable) into data files and choose their writers.

    `hosts` in the cluster's order; `io_host` is the host of `experimental_io_device`;
    `string_nbytes` gives the size of each string array by component key; `sharding` cuts what
    one host gives (None: it stays one file); `component_keys` are checkpoint keys that parts of
    sharded variables and replicas that differ have beside that of the variable, by the key
    that their host knows them by.

    Raises:
        ModelError: two variables have one checkpoint key.
        OptionError, OptionTypeError: `sharding` does something that it may not.
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
        for host, item in items_of(
            key, variable, givers, io_host, string_nbytes, component_keys
        ):
            by_host[host].append(item)
    files = [
        (host, file)
        for host, items in by_host.items()
        if items
        for file in _files(items, host, sharding, string_nbytes)
    ]
    return tuple(
        Shard(index, naming.data_file(index, len(files) + 1), io_host or host, tuple(items))
        for index, (host, items) in enumerate(files)
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


def _files(
    items: Sequence[Item],
    host: str,
    sharding: ShardingCallback | None,
    string_nbytes: Mapping[str, StringNbytes],
) -> Iterable[Sequence[Item]]:
    """The data files that a host's entries become."""
    if sharding is None:
        return [items]

    def shardable(item: Item) -> ShardableTensor:
        nbytes = item.nbytes
        if item.dtype.is_string:
            nbytes = sum(string_nbytes[part.sources[0].key].strings for part in item.parts)
        box = item.box or Box.whole(item.shape)
        return ShardableTensor(item.key, item.dtype, item.shape, box, cpu0(host), nbytes)

    shards = shards_of([shardable(item) for item in items], sharding)
    return [[cut(items[number], box) for number, box in shard] for shard in shards]
