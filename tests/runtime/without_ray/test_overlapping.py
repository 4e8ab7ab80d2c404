"""Saves to one directory that overlap: the one that was called last is there in the end."""

import pytest

import dsave


def test_a_save_that_is_called_later_is_the_one_that_stays(start, names):
    # The earlier one moved last, and so the older values stayed.
    cluster = start(shared=True)
    cluster.faults[names.A, "write"] = "waits 0.4"
    earlier = cluster.save(1, wait=False)
    cluster.save(2)
    assert earlier.done
    assert cluster.saved(names.A) == 2
    assert cluster.left(names.A) == ["export"]


def test_a_later_save_has_the_values_of_when_it_was_called(start, names):
    cluster = start(shared=True)
    cluster.faults[names.A, "write"] = "waits 0.4"
    saves = [cluster.save(value, wait=False) for value in (1, 2, 3)]
    for save in reversed(saves):
        save.result()
    assert cluster.saved(names.A) == 3


def test_a_later_save_goes_on_though_the_earlier_one_fails(start, names):
    cluster = start(shared=True)
    cluster.faults[names.A, "write"] = "fails after"
    earlier = cluster.save(1, wait=False)
    cluster.save(2)
    with pytest.raises(dsave.DsaveError):
        earlier.result()
    assert cluster.saved(names.B) == 2


def test_a_save_that_could_not_begin_keeps_nobody_waiting(start, names):
    cluster = start(shared=True)
    cluster.faults[names.A, "begin_save"] = "fails before"
    with pytest.raises(OSError, match="the disk is broken"):
        cluster.save(1)
    cluster.save(2)
    assert cluster.saved(names.A) == 2
