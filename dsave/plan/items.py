"""The entries of data files: what a variable becomes on disk, and where its bytes come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Source:
    """One array on one host."""

    host: str
    key: str


@dataclass(frozen=True, slots=True)
class StringNbytes:
    """How large an array of strings is: in its stored form, and its strings alone."""

    stored: int = 0
    strings: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Arrays of one shape that become one run of bytes: one array, or several aggregated.

    `nbytes` is the size of each; of strings, in their stored form. `box` is what is taken of
    each array (None: all of it).
    """

    sources: tuple[Source, ...]
    shape: tuple[int, ...]
    nbytes: int
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a data file, and the parts that follow each other in it.

    `box` is None for a whole tensor. `part_keys` are the checkpoint keys under which each part
    has an entry too; none where they have not.
    """

    key: str
    dtype: DType
    shape: tuple[int, ...]
    box: Box | None
    parts: tuple[Part, ...]
    aggregation: Aggregation = Aggregation.NONE
    part_keys: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the entry."""
        return sum(part.nbytes for part in self.parts)

    @property
    def source_hosts(self) -> tuple[str, ...]:
        """The hosts that bytes come from, in order of first use."""
        return tuple(dict.fromkeys(s.host for part in self.parts for s in part.sources))


def items_of(
    key: str,
    variable: Variable,
    givers: Mapping[str, str],
    io_host: str | None,
    string_nbytes: Mapping[str, StringNbytes],
    component_keys: Mapping[str, str],
) -> Iterable[tuple[str, Item]]:
    """Each entry of a variable, and the host that gives it.

    `givers` is the choice of hosts, by name of the load; `io_host`, `string_nbytes` and
    `component_keys` as for `plan_shards`.
    """
    dtype, shape = variable.dtype, variable.shape

    def part(*components: Component) -> Part:
        first = components[0]
        nbytes = (
            string_nbytes[first.key].stored
            if dtype.is_string
            else first.box.size * dtype.itemsize
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
            keys = tuple(component_keys[c.key] for c in pieces if c.key in component_keys)
            yield pieces[0].host, Item(key, dtype, shape, None, parts, part_keys=keys)
        return
    host = givers[key]
    if isinstance(variable, SyncOnReadVariable):
        added = variable.aggregation in {Aggregation.SUM, Aggregation.MEAN}
        whole = part(*variable.components[: None if added else 1])
        aggregation = variable.aggregation if added else Aggregation.NONE
        yield host, Item(key, dtype, shape, None, (whole,), aggregation)
        for c in variable.components:  # replicas differ, so each has bytes of its own
            if c.key in component_keys:
                yield c.host, Item(component_keys[c.key], dtype, shape, None, (part(c),))
        return
    held = {component.host: component for component in reversed(variable.components)}
    if not isinstance(variable, MirroredVariable) or io_host not in held:
        source = held[host]
    else:  # the io host's own replica need not travel
        source = held[io_host]
    yield host, Item(key, dtype, shape, None, (part(source),))


def cut(item: Item, box: Box) -> Item:
    """What an entry becomes of which only a box is stored."""
    outer = item.box or Box.whole(item.shape)
    if box == outer:
        return item
    (part,) = item.parts  # what may be cut comes in one
    inner = replace(part, box=box.within(outer), nbytes=box.size * item.dtype.itemsize)
    return replace(item, box=box, parts=(inner,))
