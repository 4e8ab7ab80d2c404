"""Dead hosts, silent hosts, and hosts that only seem so.

- a dead host is ordered nothing more, and the save fails with its error
- a host is lost if it does not answer, or has a command and moves nothing, until its deadline;
  the error names it, what it was doing, and the setting
- the silent source is blamed, not the writer that waits for it
- a host that is slow but moves, or idle but answers, is not lost; nor is any for our own pauses
"""

import re
import threading
import time
from concurrent.futures import Future

import pytest

from dsave.errors import ClusterError, HostLostError, StalledError
from dsave.runtime import pulses
from dsave.runtime.save_messages import Receipt


def test_a_host_that_dies_in_its_write_is_ordered_nothing_more(job):
    error = HostLostError(job.B, "writing data files", "killed")
    job.answers[job.B, "write"] = error
    assert job.fails(HostLostError) is error
    assert job.verbs(job.A)[-1] == "discard"
    # If it lives after all, it must not go on to write.
    assert job.verbs(job.B) == ["open", "write", "cancel"]


def test_a_writer_that_lost_a_source_lives_and_discards(job):
    error = HostLostError(job.B, "sending its variables", "the connection broke")
    job.answers["write"] = error
    assert job.fails(HostLostError, job.plan_with_a_source()) is error
    assert job.verbs(job.A) == ["open", "write", "discard"]


def test_a_source_that_is_dead_is_found_by_asking_it(job):
    error, writing = HostLostError(job.B, "writing data files", "killed"), Future()
    job.answers["write"] = writing
    job.answers[job.B, "progress"] = error
    job.answers[job.A, "cancel"] = lambda _: writing.set_exception(
        HostLostError(job.B, "sending its variables", "the connection broke")
    )
    assert job.fails(HostLostError, job.plan_with_a_source()) is error


def test_lost_hosts_are_told_and_their_progress_is_not(job):
    job.answers[job.B, "write"] = HostLostError(job.B, "writing data files", "killed")
    coordinator = job.coordinator()
    with pytest.raises(HostLostError):
        coordinator.run(lambda: None)
    assert coordinator.lost == {job.B}
    assert list(coordinator.progress()) == [job.A]


@pytest.mark.parametrize(
    ("verb", "phase"),
    [
        ("open", "opening the directory"),
        ("write", "writing data files"),
        ("seal", "writing the index and the metadata"),
        ("move", "moving the directory into place"),
    ],
)
def test_a_host_that_falls_silent_is_lost_at_its_deadline(job, verb, phase):
    job.answers[job.B, verb] = Future()
    job.answers[job.B, "progress"] = lambda host: Future() if verb in job.verbs(host) else None
    started = time.monotonic()
    error = job.fails(StalledError, stall_timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started < 3
    assert (error.host, error.phase) == (job.B, phase)
    assert re.fullmatch(
        r"no progress for \d s; stall_timeout_s sets the deadline", error.problem
    )
    assert job.verbs(job.A)[-1] == "discard"


def test_a_silent_host_is_lost_though_it_has_nothing_to_do(job):
    writing = Future()
    job.answers |= {"write": writing, "cancel": lambda _: writing.set_result(None)}
    job.answers[job.B, "progress"] = lambda _: Future()
    job.answers[job.B, "cancel"] = True
    assert job.fails(StalledError, job.plan_with_a_source(), stall_timeout_s=0.2).host == job.B


def test_a_busy_host_that_answers_but_moves_nothing_is_lost_at_its_deadline(job):
    job.answers[job.B, "write"] = Future()
    error = job.fails(StalledError, stall_timeout_s=0.3)
    assert (error.host, error.phase) == (job.B, "writing data files")


def test_an_idle_host_that_answers_is_not_lost(job):
    writing, started = Future(), time.monotonic()
    job.answers[job.A, "write"] = writing

    def progress(host):
        job.written[host] = job.written.get(host, 0) + (host == job.A)
        if time.monotonic() - started > 1.5 and not writing.done():
            writing.set_result(Receipt(0, (), 4, 0.0))

    job.answers["progress"] = progress
    job.carry_out(job.plan_with_a_source(), stall_timeout_s=1)
    assert time.monotonic() - started > 1.5


def test_a_slow_host_that_moves_is_not_lost(job):
    writing, started = Future(), time.monotonic()
    job.answers[job.B, "write"] = writing

    def progress(host):
        job.written[host] = job.written.get(host, 0) + 1
        if time.monotonic() - started > 1.5 and not writing.done():
            writing.set_result(Receipt(1, (), 80, 0.0))

    job.answers[job.B, "progress"] = progress
    job.carry_out(stall_timeout_s=1)
    assert time.monotonic() - started > 1.5


def test_the_silent_source_is_blamed_and_not_the_writer_that_waits_for_it(job):
    writing = Future()
    job.answers |= {"write": writing, "cancel": lambda _: writing.set_result(None)}
    job.answers[job.B, "progress"] = lambda _: Future() if "write" in job.verbs() else None
    job.answers[job.B, "cancel"] = True
    assert job.fails(StalledError, job.plan_with_a_source(), stall_timeout_s=0.3).host == job.B


def test_the_writer_that_waited_for_a_lost_source_has_a_deadline_of_its_own_to_give_up(job):
    writing = Future()

    def cancel(_):
        threading.Timer(0.6, writing.set_result, (None,)).start()

    job.answers |= {"write": writing, (job.A, "cancel"): cancel}
    job.answers[job.B, "progress"] = lambda _: Future() if "write" in job.verbs() else None
    job.answers[job.B, "cancel"] = True
    coordinator = job.coordinator(job.plan_with_a_source(), stall_timeout_s=1.0)
    with pytest.raises(StalledError):
        coordinator.run(lambda: None)
    assert coordinator.lost == {job.B}
    assert job.verbs(job.A)[-1] == "discard"


def test_questions_that_cannot_be_asked_end_a_save_at_its_deadline(job):
    def closed(_host):
        raise ClusterError("the cluster is closed")

    job.answers |= {"write": lambda _: Future(), "progress": closed}
    job.fails(StalledError, stall_timeout_s=0.1)


def test_the_time_that_we_stood_still_ourselves_is_not_the_hosts(job, monkeypatch):
    monkeypatch.setattr(pulses, "_PAUSE_S", 0.1)

    def seal(_receipts):
        time.sleep(1.5)
        return job.METADATA

    job.carry_out(seal=seal, stall_timeout_s=1)
    assert job.verbs(job.A)[-1] == "clean"
