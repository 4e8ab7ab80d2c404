"""Saves to one place go on one after another, and files of many saves share a host's threads.

- a save's turn comes when all before it have ended, in whichever order they end
- other places are other lines, and what is over is forgotten
- one save writes up to 8 files on a host; another one's first file need not wait for them
- a host writes up to 16 files at once
"""

import uuid

import pytest

from dsave.runtime import turns
from dsave.runtime.turns import Turn, has_written, may_write


def in_line(directory):
    turn = Turn(directory)
    turn.take()
    return turn


@pytest.fixture
def host():
    """A host of which nobody has heard."""
    name = f"/job:{uuid.uuid4().hex}"
    yield name
    turns._writing.pop(name, None)


def test_a_turn_comes_when_all_before_it_have_ended():
    first, second, third = (in_line("/latest") for _ in range(3))
    assert [turn.has_come for turn in (first, second, third)] == [True, False, False]
    second.end()
    assert not third.has_come
    first.end()
    assert third.has_come
    third.end()


def test_places_do_not_wait_for_each_other():
    one, other = in_line("/one"), in_line("/other")
    assert one.has_come
    assert other.has_come
    one.end()
    other.end()


def test_ending_twice_or_without_having_begun_ends_nobody_elses_turn():
    Turn("/latest").end()
    first, second = in_line("/latest"), in_line("/latest")
    first.end()
    first.end()
    assert second.has_come
    second.end()
    assert "/latest" not in turns._lines


def files_of_one_save(host):
    own = 0
    while may_write(host, own):
        own += 1
    return own


def test_one_save_writes_eight_files_on_a_host(host):
    assert files_of_one_save(host) == 8


def test_the_first_file_of_another_save_need_not_wait(host):
    files_of_one_save(host)
    assert may_write(host, 0)
    assert not may_write(host, 1)


def test_a_host_writes_sixteen_files_at_once(host):
    files_of_one_save(host)
    assert [may_write(host, 0) for _ in range(9)] == [True] * 8 + [False]


def test_a_file_that_is_written_makes_room(host):
    files_of_one_save(host)
    has_written(host)
    assert may_write(host, 7)


def test_hosts_that_write_nothing_are_forgotten(host):
    assert may_write(host, 0)
    has_written(host)
    assert host not in turns._writing
