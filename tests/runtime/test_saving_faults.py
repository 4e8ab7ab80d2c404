"""A host dies or falls silent while it saves.

Claims: whether it writes its own variables, sends them to another host, or writes those of
others, its death or its silence ends the save before the deadline, in an error that names the
host and what was being done; nothing is committed, what was in the directory stays to the
byte, and leftovers are gone once somebody saves there again; the other hosts go on, and save
what is theirs. A host that wakes up later changes nothing, nor does one that was only slow.
With nobody to write, nothing is begun.
"""

import contextlib
import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dsave
from dsave.runtime.participants import Participants

pytestmark = pytest.mark.ray

FIRST, SECOND = (f"/job:worker/replica:0/task:{task}" for task in (0, 1))
ROUTES = {
    # The second host has the large variable; who writes it, and who is to be hit.
    "a host that writes its own": (None, SECOND),
    "a source": (f"{FIRST}/device:CPU:0", SECOND),
    "a writer of others' variables": (f"{FIRST}/device:CPU:0", FIRST),
}
PHASES = {"writing data files", "sending its variables"}
STALL_S = 3.0


@pytest.fixture
def job(start):
    """Two hosts; `large` has half a gibibyte on the second, `small` a scalar on each."""
    with start() as cluster:
        small = {}
        for host in cluster.hosts:
            with cluster.device(host):
                small[host] = dsave.Module()
                small[host].v = cluster.variable(1.0)
        large = dsave.Module()
        large.own = small[FIRST].v
        with cluster.device(SECOND):
            large.v = cluster.variable(
                lambda _: np.ones(1 << 27, np.float32), shape=(1 << 27,), dtype="float32"
            )
        pids = cluster.run(lambda _: os.getpid())
        yield SimpleNamespace(cluster=cluster, small=small, large=large, pids=pids)
        for pid in pids.values():
            resume(pid)


@pytest.fixture
def directory(job, tmp_path):
    """What was saved there before, as `see.tree` sees it, is to stay."""
    directory = tmp_path / "parent" / "export"
    dsave.save(job.small[FIRST], directory, cluster=job.cluster)
    (directory / "notes.txt").write_text("mine")
    return directory


def resume(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def is_saving(directory):
    """Whether bytes are in a staging directory beside it."""
    files = directory.parent.glob(".export.dsave-*/variables/*")
    with contextlib.suppress(FileNotFoundError):  # it was moved just now
        return sum(file.stat().st_size for file in files) > 1 << 20


def hit_in_mid_save(
    job, directory, io_device, victim, how, stall_timeout_s, see, seen_by_host=None
):
    """Send the victim a signal once bytes are being written: the error, and its delay."""
    handle = dsave.save(
        job.large,
        seen_by_host or directory,
        options=dsave.SaveOptions(experimental_io_device=io_device),
        cluster=job.cluster,
        wait=False,
        stall_timeout_s=stall_timeout_s,
    )
    see.wait_for(lambda: is_saving(directory) or handle.done)
    hit = time.monotonic()
    os.kill(job.pids[victim], how)
    with pytest.raises(dsave.SaveError) as raised:
        handle.result(60)
    return raised.value, time.monotonic() - hit


def goes_on(job, host, directory):
    """The host runs steps, and its own variables are saved, with nothing beside them."""
    assert job.cluster.run(lambda _: "here", hosts=[host]) == {host: "here"}
    dsave.save(job.small[host], directory, cluster=job.cluster)
    return [path.name for path in directory.parent.iterdir()] == ["export"]


@pytest.mark.parametrize("who", ROUTES)
def test_a_killed_host_ends_the_save_at_once(job, directory, see, who):
    io_device, victim = ROUTES[who]
    before = see.tree(directory)
    error, delay_s = hit_in_mid_save(job, directory, io_device, victim, signal.SIGKILL, 60, see)
    assert isinstance(error, dsave.HostLostError)
    assert error.host == victim
    assert error.phase in PHASES
    assert victim in str(error)
    assert delay_s < 10
    assert see.tree(directory) == before
    if victim == SECOND:  # whom the other host cleans up after
        assert [path.name for path in directory.parent.iterdir()] == ["export"]
    assert goes_on(job, FIRST if victim == SECOND else SECOND, directory)
    assert (directory / "notes.txt").read_text() == "mine"


def test_a_killed_host_keeps_all_hosts_with_directories_of_their_own_from_changing_them(
    job, private, see
):
    both = dsave.Module()
    both.v = job.cluster.mirrored_variable([1.0, 2.0])
    both.w = job.cluster.mirrored_variable([3.0, 4.0])
    assert dsave.save(both, private, cluster=job.cluster).layout == "host-local"
    real = {host: Path(job.cluster.real_path(private, host)) for host in (FIRST, SECOND)}
    before = {host: see.tree(directory) for host, directory in real.items()}
    error, _ = hit_in_mid_save(
        job, real[SECOND], None, SECOND, signal.SIGKILL, 60, see, seen_by_host=private
    )
    assert error.host == SECOND
    assert {host: see.tree(directory) for host, directory in real.items()} == before
    assert [path.name for path in real[FIRST].parent.iterdir()] == ["export"]


@pytest.mark.parametrize("who", ROUTES)
def test_a_silent_host_ends_the_save_at_the_deadline(job, directory, see, who):
    io_device, victim = ROUTES[who]
    other = FIRST if victim == SECOND else SECOND
    before = see.tree(directory)
    error, delay_s = hit_in_mid_save(
        job, directory, io_device, victim, signal.SIGSTOP, STALL_S, see
    )
    assert isinstance(error, dsave.StalledError | dsave.HostLostError)
    assert error.host == victim
    assert error.phase in PHASES
    assert "stall_timeout_s" in str(error)
    assert STALL_S - 1 < delay_s < 2 * STALL_S + 2
    assert see.tree(directory) == before
    assert job.cluster.run(lambda _: "here", hosts=[other]) == {other: "here"}
    resume(job.pids[victim])
    job.cluster.run(lambda _: None, hosts=[victim])
    assert see.tree(directory) == before
    see.wait_for(lambda: goes_on(job, other, directory))
    assert goes_on(job, victim, directory)


@pytest.mark.parametrize("io_device", [None, f"{SECOND}/device:CPU:0", "/job:localhost"])
def test_a_host_that_is_dead_already_is_named_before_anything_is_written(
    job, directory, see, io_device
):
    os.kill(job.pids[SECOND], signal.SIGKILL)
    options = dsave.SaveOptions(experimental_io_device=io_device)
    with see.untouched(directory), pytest.raises(dsave.HostLostError) as raised:
        dsave.save(job.large, directory, options=options, cluster=job.cluster)
    assert raised.value.host == SECOND
    assert goes_on(job, FIRST, directory)


def test_a_silent_host_is_named_before_anything_is_written(job, directory, see):
    os.kill(job.pids[SECOND], signal.SIGSTOP)
    with see.untouched(directory), pytest.raises(dsave.StalledError) as raised:
        dsave.save(job.large, directory, cluster=job.cluster, stall_timeout_s=1.0)
    assert raised.value.host == SECOND


def test_a_host_that_wakes_up_begins_no_save_that_was_given_up(job, directory, see):
    for _ in range(10):  # whether it hears of the end or of the beginning first is chance
        os.kill(job.pids[SECOND], signal.SIGSTOP)
        with pytest.raises(dsave.StalledError):
            dsave.save(job.large, directory, cluster=job.cluster, stall_timeout_s=0.2)
        resume(job.pids[SECOND])
        job.cluster.run(lambda _: None, hosts=[SECOND])
    see.wait_for(lambda: goes_on(job, SECOND, directory))
    held = job.cluster.run(lambda host: len(host._saves))
    assert held == {FIRST: 0, SECOND: 0}


def test_a_host_that_stood_still_before_the_move_does_not_undo_a_later_save(
    job, directory, see, monkeypatch
):
    submit, moves = Participants.submit, []

    def stopping(self, host, phase, verb, *args):
        if verb in {"cancel", "end"} and moves:
            return Future()  # which does not reach the host
        if verb == "move":
            moves.append(host)
            os.kill(job.pids[host], signal.SIGSTOP)
        return submit(self, host, phase, verb, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Participants, "submit", stopping)
        options = dsave.SaveOptions(experimental_io_device=f"{SECOND}/device:CPU:0")
        with pytest.raises(dsave.StalledError) as raised:
            dsave.save(
                job.small[SECOND],
                directory,
                options=options,
                cluster=job.cluster,
                stall_timeout_s=1.0,
            )
    assert raised.value.phase == "moving the directory into place"
    dsave.save(job.small[FIRST], directory, cluster=job.cluster)
    before = see.tree(directory)
    resume(job.pids[SECOND])
    job.cluster.run(lambda _: None, hosts=[SECOND])
    time.sleep(1.0)  # by now it has done all that it was told
    assert moves == [SECOND]
    assert see.tree(directory) == before


def test_a_host_that_is_slow_to_move_does_not_move_once_it_was_given_up(job, directory, see):
    def delay_moves(_host, seconds):
        from dsave.runtime.users_files import UsersFiles

        UsersFiles.link = lambda *_: time.sleep(seconds)

    job.cluster.run(delay_moves, 1.5, hosts=[FIRST])
    before = see.tree(directory)
    with pytest.raises(dsave.SaveError) as raised:
        dsave.save(job.small[FIRST], directory, cluster=job.cluster, stall_timeout_s=0.5)
    assert raised.value.phase == "moving the directory into place"
    time.sleep(2.0)  # by now it has done all that it was told
    assert see.tree(directory) == before
