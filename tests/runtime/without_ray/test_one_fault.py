"""Wherever one call of a save fails, or one host dies, what is in the directory is whole.

- if `save` returns the new model is there, and if it raises the old one
- what was written by a save that failed is gone, unless nobody is left to remove it
- hosts that live take no part in it any more
- the next save succeeds, and removes what was left
"""

import itertools

import pytest

from dsave.errors import DsaveError

VERBS = ["begin_save", "seen", "serve", "open", "write", "seal", "move", "clean", "end"]
FAULTS = ["fails before", "fails after", "dies before", "dies after"]
LAYOUTS = pytest.mark.parametrize("shared", [True, False], ids=["shared", "host-local"])


def living(cluster):
    return [host for host in cluster.hosts if host not in cluster.dead]


def check(cluster, start, saved, *, tidy=True):
    for host in cluster.hosts if cluster.shared else living(cluster):
        assert cluster.saved(host) == saved
        if tidy:
            assert cluster.left(host) == ["export"]
    again = start(shared=cluster.shared)
    again.save(3.0)
    for host in again.hosts:
        assert again.saved(host) == 3.0
        assert again.left(host) == ["export"]


@LAYOUTS
@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_save_with_one_fault_is_whole_or_not_at_all(start, shared, number, verb, fault):
    cluster = start(shared=shared)
    cluster.save(1.0)
    cluster.faults[cluster.hosts[number], verb] = fault
    try:
        cluster.save(2.0)
    except DsaveError:
        saved = 1.0
        assert verb not in {"clean", "end"}
    except OSError:  # before the save has begun, a host's own errors pass as they are
        saved = 1.0
        assert verb in {"begin_save", "seen", "serve"}
    else:
        saved = 2.0
    check(cluster, start, saved, tidy=verb != "clean")
    if verb != "end":
        assert not any(cluster.holds(host) for host in living(cluster))


def test_every_fault_strikes(start):
    for shared, number, verb in itertools.product([True, False], range(2), VERBS):
        cluster = start(shared=shared)
        cluster.save(1.0)
        called = (cluster.hosts[number], verb) in cluster.calls
        # The first host tends the shared disk; only the second one's bytes travel.
        tended = {"open", "seal", "move", "clean"}
        assert called == (
            (verb not in tended or not shared or number == 0)
            and (verb != "serve" or number == 1)
        )


@LAYOUTS
@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["move_back", "discard"])
def test_a_fault_while_a_save_is_undone_leaves_the_old_model(
    start, shared, number, verb, fault
):
    cluster = start(shared=shared)
    cluster.save(1.0)
    cluster.faults[cluster.hosts[0 if shared else 1], "move"] = "fails after"
    cluster.faults[cluster.hosts[number], verb] = fault
    with pytest.raises(DsaveError, match="the disk is broken"):
        cluster.save(2.0)
    check(cluster, start, 1.0, tidy=verb == "move_back")


@LAYOUTS
@pytest.mark.parametrize("verb", ["begin_save", "open", "write", "seal", "move"])
def test_a_first_save_that_fails_leaves_nothing(start, shared, verb):
    for fault in FAULTS[:2]:
        cluster = start(shared=shared)
        cluster.faults[cluster.hosts[0], verb] = fault
        with pytest.raises((DsaveError, OSError)):
            cluster.save(1.0)
        for host in cluster.hosts:
            assert cluster.saved(host) is None
            assert cluster.left(host) == []


@LAYOUTS
def test_a_host_that_dies_when_its_bytes_are_stored_is_missed_by_nobody(start, shared):
    cluster = start(shared=shared)
    cluster.save(1.0)
    cluster.faults[cluster.hosts[0], "write"] = "answers and dies"
    cluster.faults[cluster.hosts[1], "write"] = "sleeps 0.3"
    if shared:
        cluster.save(2.0)
        assert cluster.saved(cluster.hosts[1]) == 2.0
    else:
        with pytest.raises(DsaveError, match="the host is gone"):
            cluster.save(2.0)
    assert cluster.dead == {cluster.hosts[0]}
