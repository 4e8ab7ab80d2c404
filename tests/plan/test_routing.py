"""Which host gives each variable's bytes: only one that holds it, evenly, and always the same.

- the largest load is given away first, to the least loaded of its holders
- loads that only one host can carry are counted before any choice
- names break ties, of loads and of hosts; the order of the inputs does not matter
- no host carries more than the even share and the largest load
"""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dsave.plan.routing import Load, balance_bytes

HOSTS = ("a", "b", "c")


def given_by(*loads, hosts=HOSTS):
    """Loads as (name, nbytes, holders): the giver's letter of each, in this order."""
    made = [Load(name, nbytes, tuple(holders)) for name, nbytes, holders in loads]
    chosen = balance_bytes(made, hosts)
    return "".join(chosen[load.name] for load in made)


def test_only_a_holder_gives():
    assert given_by(("x", 8, "b"), ("y", 8, "a")) == "ba"


def test_the_largest_load_is_given_away_first():
    # In the order of the names a would have got x and z, 14 bytes, and b 10.
    assert given_by(("x", 4, "ab"), ("y", 10, "ab"), ("z", 6, "ab")) == "bab"


def test_equal_loads_go_round_by_name():
    assert given_by(("z", 4, "abc"), ("x", 4, "abc"), ("y", 4, "abc")) == "cab"


def test_of_equally_loaded_holders_the_first_by_name_gives():
    assert given_by(("x", 4, "cb")) == "b"


def test_what_only_one_host_can_carry_counts_before_any_choice():
    assert given_by(("chosen", 100, "ab"), ("fixed", 10, "a")) == "ba"


def test_a_load_without_bytes_is_given_too():
    assert given_by(("empty", 0, "ba")) == "a"


def test_no_loads_are_no_choice():
    assert balance_bytes([], HOSTS) == {}


def test_the_order_of_loads_holders_and_hosts_does_not_matter():
    loads = [("x", 4, "abc"), ("y", 4, "bc"), ("z", 8, "ab"), ("w", 2, "c")]
    outcomes = {
        tuple(
            sorted(
                balance_bytes(
                    [Load(n, size, tuple(holders[::turn])) for n, size, holders in order], hosts
                ).items()
            )
        )
        for order in itertools.permutations(loads)
        for hosts in itertools.permutations(HOSTS)
        for turn in (1, -1)
    }
    assert outcomes == {(("w", "c"), ("x", "b"), ("y", "c"), ("z", "a"))}


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_replicas_on_all_hosts_are_given_evenly(sizes):
    loads = [Load(f"v{index:02}", nbytes, HOSTS) for index, nbytes in enumerate(sizes)]
    chosen = balance_bytes(loads, HOSTS)
    carried = dict.fromkeys(HOSTS, 0)
    for load in loads:
        carried[chosen[load.name]] += load.nbytes
    assert max(carried.values()) - min(carried.values()) <= max(sizes, default=0)
