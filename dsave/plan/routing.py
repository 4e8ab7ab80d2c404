"""Choose the host that each variable's bytes are taken from.

Replicas of a mirrored variable hold equal bytes, so any of its hosts may give them; the
choice makes the hosts' bytes even. The same variables give the same choice on every run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes that one of `holders` has to give; `name` breaks ties."""

    name: str
    nbytes: int
    holders: tuple[str, ...]


def balance_bytes(loads: Iterable[Load], hosts: Sequence[str]) -> Mapping[str, str]:
    """Give each load to its least loaded holder, largest first: a map from name to host.

    Loads that only one host can carry are counted before any choice is made.
    """
    carried = dict.fromkeys(hosts, 0)
    chosen: dict[str, str] = {}
    ordered = sorted(loads, key=lambda load: (len(load.holders) > 1, -load.nbytes, load.name))
    for load in ordered:
        # The name breaks ties: the order in which replicas were made must not matter.
        host = min(load.holders, key=lambda holder: (carried[holder], holder))
        carried[host] += load.nbytes
        chosen[load.name] = host
    return chosen
