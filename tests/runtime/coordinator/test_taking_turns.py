"""What has to wait is not sent, and nobody is given up for it.

- nothing is opened before the save's turn, and the turn ends with the save, however it ends
- hosts need not get on meanwhile, but they must live
- a host gets eight files at once, and the next as soon as one is written
- what was not sent when the save can only fail is never sent
"""

import threading
import time
from concurrent.futures import Future

import pytest

from dsave.errors import DirectoryError, HostLostError
from dsave.plan.commit import Phase
from dsave.runtime import turns
from dsave.runtime.coordinator import Coordinator
from dsave.runtime.save_messages import Receipt
from dsave.runtime.turns import Turn


@pytest.fixture
def line():
    """A turn that has come, and the one after it."""
    pair = Turn("/d/latest"), Turn("/d/latest")
    for turn in pair:
        turn.take()
    yield pair
    for turn in pair:
        turn.end()


def test_nothing_is_opened_before_the_turn_and_no_host_is_given_up_for_it(job, line):
    earlier, own = line
    threading.Timer(0.4, earlier.end).start()
    started = time.monotonic()
    opened = []
    job.answers["open"] = lambda _host: opened.append(time.monotonic())
    job.carry_out(turn=own, stall_timeout_s=0.1)
    assert min(opened) - started > 0.4
    assert job.verbs(job.A) == ["open", "write", "seal", "move", "clean"]


def test_hosts_that_waited_are_told_when_they_were_heard_of_meanwhile(job, line):
    earlier, own = line
    threading.Timer(0.1, earlier.end).start()
    job.carry_out(turn=own)
    assert {call[2] for call in job.calls if call[1] == "open"} == {1.5}


@pytest.mark.parametrize("failing", [False, True])
def test_the_turn_ends_with_the_save(job, line, failing):
    own, later = line
    if failing:
        job.answers["write"] = DirectoryError("/d", job.A, "no")
        job.fails(DirectoryError, turn=own)
    else:
        job.carry_out(turn=own)
    assert later.has_come


def test_the_turn_ends_when_all_is_undone_and_not_before(job, line):
    own, later = line
    too_early = []
    job.answers["write"] = DirectoryError("/d", job.A, "no")
    job.answers["discard"] = lambda _host: too_early.append(later.has_come)
    job.fails(DirectoryError, turn=own)
    assert too_early == [False, False]


def test_a_host_that_dies_before_the_turn_fails_the_save(job, line):
    earlier, own = line

    class Dead(Future):
        def exception(self, timeout=None):
            """What came of the question; the turn comes in the same moment."""
            earlier.end()
            return super().exception(timeout)

    dead = Dead()
    dead.set_exception(HostLostError(job.B, "opening the directory", "killed"))
    job.answers[job.B, "progress"] = dead
    assert job.fails(HostLostError, turn=own).host == job.B
    assert job.verbs(job.A) == ["discard"]


def test_an_interrupt_before_the_turn_opens_nothing(job, line):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.coordinator(turn=line[1]).run(interrupt)
    assert job.verbs(job.A) == ["discard"]


class Writes:
    """Answers to `write` that a test gives one by one."""

    def __init__(self, job):
        self.open = []
        self.most = 0
        job.answers["write"] = self._begin

    def _begin(self, _host):
        self.open.append(Future())
        self.most = max(self.most, len(self.open))
        return self.open[-1]

    def end_one(self):
        """One of those that are open, if there is one."""
        if self.open:
            self.open.pop(0).set_result(Receipt(0, (), 40, 0.0))


def test_a_host_gets_eight_files_at_once_and_then_the_next(job):
    writes = Writes(job)
    ticks = iter(range(1000))
    job.coordinator(job.plan_of_many(20)).run(
        lambda: writes.end_one() if next(ticks) > 5 else None
    )
    assert writes.most == 8
    assert job.verbs().count("write") == 20


def test_the_file_of_another_save_does_not_wait_for_those_of_a_big_one(job, see):
    writes = Writes(job)
    big = job.coordinator(job.plan_of_many(20))
    over = threading.Event()
    thread = threading.Thread(
        target=big.run, args=(lambda: over.is_set() and writes.end_one(),)
    )
    thread.start()
    see.wait_for(lambda: len(writes.open) == 8)
    job.answers["write"] = None
    job.carry_out(job.plan_of_many(1))
    assert len(writes.open) == 8
    job.answers["write"] = writes._begin
    over.set()
    thread.join()


def test_a_host_whose_files_all_wait_for_those_of_others_is_not_given_up(job):
    taken = turns.WRITERS
    for _ in range(taken):
        assert turns.may_write(job.A, 0)
    try:
        threading.Timer(0.4, turns.has_written, [job.A]).start()
        job.carry_out(job.plan_of_many(1), stall_timeout_s=0.1)
    finally:
        for _ in range(taken - 1):
            turns.has_written(job.A)
    assert job.verbs(job.A) == ["open", "write", "seal", "move", "clean"]


def test_files_that_were_not_begun_when_one_failed_are_never_begun(job):
    job.answers["write"] = DirectoryError("/d", job.A, "no")
    job.fails(DirectoryError, job.plan_of_many(20))
    assert job.verbs().count("write") == 8
    assert job.verbs()[-1] == "discard"


@pytest.mark.parametrize(
    "answer", [None, DirectoryError("/d", "A", "no"), HostLostError("A", "writing", "killed")]
)
def test_no_room_on_a_host_is_lost_with_a_save(job, answer):
    if isinstance(answer, HostLostError):
        answer = HostLostError(job.A, "writing", "killed")
    job.answers["write"] = answer
    if answer is None:
        job.carry_out(job.plan_of_many(20))
    else:
        job.fails(type(answer), job.plan_of_many(20))
    assert job.A not in turns._writing


def test_no_room_on_a_host_is_lost_with_a_fault_of_our_own(job, monkeypatch):
    outcome = Coordinator._outcome

    def broken(self, command, future):
        if command.phase is Phase.WRITING:
            raise AssertionError("ours")
        return outcome(self, command, future)

    monkeypatch.setattr(Coordinator, "_outcome", broken)
    job.answers[job.B, "write"] = Future()
    job.fails(AssertionError)
    assert not {job.A, job.B} & turns._writing.keys()
