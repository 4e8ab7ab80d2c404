"""An interrupt undoes a save and is raised again, wherever it strikes.

- before the commit everything is undone, after it nothing is
- whatever the caller's own tick raises is an interrupt
- a second one does not wait for what was written to be removed
"""

import threading
import time
from concurrent.futures import Future

import pytest

from dsave.errors import SaveError


def once(job, verb, kind=KeyboardInterrupt):
    """A tick that raises when the verb was called on both hosts."""
    raised = []

    def tick():
        if job.verbs().count(verb) == 2 and not raised:
            raised.append(kind)
            raise kind

    return tick


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_interrupt_discards_and_is_raised_again(job, kind):
    writing = Future()
    job.answers[job.B, "write"] = writing
    job.answers[job.B, "cancel"] = lambda host: writing.set_exception(
        SaveError(host, "writing", "the save was given up")
    )
    with pytest.raises(kind):
        job.coordinator().run(once(job, "write", kind))
    assert [job.verbs(host)[-1] for host in (job.A, job.B)] == ["discard", "discard"]
    assert "seal" not in job.verbs()


def test_an_interrupt_in_the_move_moves_back(job):
    moving = Future()
    job.answers[job.B, "move"] = moving
    tick = once(job, "move")

    def interrupt():
        try:
            tick()
        except KeyboardInterrupt:
            threading.Timer(0.1, moving.set_result, [None]).start()
            raise

    with pytest.raises(KeyboardInterrupt):
        job.coordinator().run(interrupt)
    for host in (job.A, job.B):
        assert job.verbs(host)[-3:] == ["move", "move_back", "discard"]


def test_an_interrupt_after_the_commit_undoes_nothing_and_is_raised_again(job):
    cleaning = Future()
    job.answers[job.B, "clean"] = cleaning
    tick = once(job, "clean")

    def interrupt():
        try:
            tick()
        except KeyboardInterrupt:
            threading.Timer(0.1, cleaning.set_result, [None]).start()
            raise

    with pytest.raises(KeyboardInterrupt):
        job.coordinator().run(interrupt)
    for host in (job.A, job.B):
        assert job.verbs(host) == ["open", "write", "seal", "move", "clean"]


def test_an_interrupt_that_is_no_tick_is_one_too(job, monkeypatch):
    coordinator = job.coordinator()
    wait, interrupts = coordinator._over.wait, []

    def interrupt(timeout=None):
        if not interrupts:
            interrupts.append(timeout)
            raise KeyboardInterrupt
        return wait(timeout)

    monkeypatch.setattr(coordinator._over, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        coordinator.run(lambda: None)
    assert wait(0)


def test_a_second_interrupt_does_not_wait(job, monkeypatch):
    job.answers |= dict.fromkeys(["write", "discard"], lambda _: Future())
    coordinator = job.coordinator(stall_timeout_s=0.5)
    wait, interrupts = coordinator._over.wait, []

    def interrupt_twice(timeout=None):
        if "write" in job.verbs() and len(interrupts) < 2:
            interrupts.append(time.monotonic())
            raise KeyboardInterrupt
        return wait(timeout)

    monkeypatch.setattr(coordinator._over, "wait", interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        coordinator.run(lambda: None)
    assert time.monotonic() - interrupts[1] < 0.3
    assert wait(10)


def test_the_tick_is_not_called_again_after_it_raised(job):
    writing = Future()
    job.answers[job.B, "write"] = writing
    job.answers[job.B, "cancel"] = lambda _: writing.set_result(None)
    ticks = []

    def tick():
        ticks.append(None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job.coordinator().run(tick)
    assert len(ticks) == 1
