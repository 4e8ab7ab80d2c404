"""The protocol of a save, walked event by event without a clock or a host.

- the table in the module's docstring is the one that is walked
- what is visible changes only when every shard is stored and every disk sealed
- a failure undoes everything, after every open command is answered
- a lost host is ordered nothing; another host of its disk takes over where one can
- a loss that touches nothing that is still to do fails nothing
- once every disk is moved, nothing can fail the save
- whatever happens in whatever order, a save ends, committed or aborted, and never half
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsave.errors import HostLostError, SaveError
from dsave.model.dtype import dtype_of
from dsave.plan import commit
from dsave.plan.commit import (
    Answered,
    Command,
    CommitLog,
    Failed,
    GivenUp,
    Lost,
    Phase,
)
from dsave.plan.items import Item, Part, Source
from dsave.plan.save_plan import Disk, SavePlan, Shard

OPENING, WRITING, SEALING, MOVING = (
    Phase.OPENING,
    Phase.WRITING,
    Phase.SEALING,
    Phase.MOVING,
)
CLEANING, MOVING_BACK, DISCARDING = Phase.CLEANING, Phase.MOVING_BACK, Phase.DISCARDING
COMMITTED, ABORTED = Phase.COMMITTED, Phase.ABORTED


def plan(shards, *disks):
    """Shards as (writer, sources), disks as the hosts that share each, a letter a host."""
    return SavePlan(
        "/d",
        tuple(
            Shard(index, f"file-{index}", writer, (item(sources),))
            for index, (writer, sources) in enumerate(shards)
        ),
        tuple(Disk(tuple(hosts), None) for hosts in disks),
    )


def item(sources):
    part = Part(tuple(Source(host, "key") for host in sources), (1,), 4)
    return Item("v", dtype_of("float32"), (1,), None, (part,))


ONE_DISK = plan([("a", "a"), ("b", "b")], "ab")
TWO_DISKS = plan([("a", "a"), ("b", "b")], "a", "b")


def problem(text="it broke"):
    return SaveError("host", "phase", text)


def lost(host):
    return Lost(host, HostLostError(host, "phase", "gone"))


def walk(log, *events):
    """The log after the events, and the commands that the last one made due."""
    commands = ()
    for event in events:
        log, commands = log.advance(event)
    return log, commands


def answered(*commands):
    return [Answered(command) for command in commands]


def reach(of, phase):
    """The log of a save in which all went well until this phase, and its first commands."""
    log, commands = CommitLog.begin(of)
    while log.phase is not phase:
        log, commands = walk(log, *answered(*commands))
    return log, commands


def finish(log, commands):
    """Answer everything until the end; the phases on the way, and the log."""
    phases = []
    while not log.ended:
        phases.append(log.phase)
        log, commands = walk(log, *answered(*commands))
    return [*phases, log.phase], log


def brief(commands):
    return [f"{command.phase.name} {command.number} {command.host}" for command in commands]


def test_the_table_in_the_docstring_is_the_one_that_is_walked():
    rows = re.findall(
        r"^    ([A-Z_]+) +\S.*? {2,}([A-Z]+) +([A-Z_]+)$", commit.__doc__, re.MULTILINE
    )
    told = {Phase[phase]: (Phase[well], Phase[ill]) for phase, well, ill in rows}
    assert len(told) == 7
    for phase, (well, ill) in told.items():
        log, commands = at(phase)
        assert walk(log, *answered(*commands))[0].phase is (well if log.error is None else ill)
        failures = [Failed(command, problem()) for command in commands]
        assert walk(log, *failures)[0].phase is ill


def at(phase):
    """A log in this phase, and its open commands."""
    if phase is DISCARDING:
        log, (command,) = reach(plan([("a", "a")], "a"), SEALING)
        return log.advance(Failed(command, problem()))
    if phase is MOVING_BACK:
        log, (command,) = reach(plan([("a", "a")], "a"), MOVING)
        return log.advance(Failed(command, problem()))
    return reach(TWO_DISKS, phase)


def test_a_save_of_one_disk_orders_everything_from_its_first_host():
    log, commands = CommitLog.begin(ONE_DISK)
    assert brief(commands) == ["OPENING 0 a"]
    orders = []
    while not log.ended:
        log, commands = walk(log, *answered(*commands))
        orders.append(brief(commands))
    assert orders == [
        ["WRITING 0 a", "WRITING 1 b"],
        ["SEALING 0 a"],
        ["MOVING 0 a"],
        ["CLEANING 0 a"],
        [],
    ]
    assert (log.phase, log.error, log.open) == (COMMITTED, None, frozenset())


def test_a_save_of_two_disks_waits_for_both_in_every_phase():
    log, commands = CommitLog.begin(TWO_DISKS)
    for phase in (OPENING, WRITING, SEALING, MOVING, CLEANING):
        assert brief(commands) == [f"{phase.name} 0 a", f"{phase.name} 1 b"]
        log, none = log.advance(Answered(commands[1]))
        assert (log.phase, none) == (phase, ())
        log, commands = log.advance(Answered(commands[0]))
    assert log.phase is COMMITTED


def test_a_save_without_shards_is_sealed_at_once():
    log, commands = CommitLog.begin(plan([], "a"))
    log, commands = log.advance(Answered(commands[0]))
    assert brief(commands) == ["SEALING 0 a"]


def test_a_failed_write_waits_for_the_other_writes_before_it_discards():
    log, (a, b) = reach(TWO_DISKS, WRITING)
    log, commands = log.advance(Failed(a, problem()))
    assert (log.phase, log.failing, commands) == (WRITING, True, ())
    log, commands = log.advance(Answered(b))
    assert brief(commands) == ["DISCARDING 0 a", "DISCARDING 1 b"]
    assert finish(log, commands)[0] == [DISCARDING, ABORTED]


@pytest.mark.parametrize("phase", [OPENING, SEALING])
def test_a_failure_before_the_move_discards(phase):
    log, commands = reach(TWO_DISKS, phase)
    log, commands = walk(log, Failed(commands[0], problem()), Answered(commands[1]))
    assert brief(commands) == ["DISCARDING 0 a", "DISCARDING 1 b"]


def test_a_move_that_fails_on_one_disk_is_undone_on_both():
    log, (a, b) = reach(TWO_DISKS, MOVING)
    log, commands = walk(log, Answered(a), Failed(b, problem("no exchange")))
    assert brief(commands) == ["MOVING_BACK 0 a", "MOVING_BACK 1 b"]
    phases, log = finish(log, commands)
    assert phases == [MOVING_BACK, DISCARDING, ABORTED]
    assert log.error.problem == "no exchange"


def test_what_could_not_be_moved_back_is_still_discarded():
    log, commands = at(MOVING_BACK)
    log, commands = log.advance(Failed(commands[0], problem()))
    assert brief(commands) == ["DISCARDING 0 a"]


def test_a_save_is_committed_though_nothing_can_be_cleaned():
    log, (a, b) = reach(TWO_DISKS, CLEANING)
    log, _ = walk(log, Failed(a, problem()), Failed(b, problem()))
    assert (log.phase, log.error, log.failing) == (COMMITTED, None, False)


@pytest.mark.parametrize("event", [lost("a"), lost("b"), GivenUp(problem())])
def test_nothing_can_fail_a_save_that_is_moved(event):
    log, commands = reach(TWO_DISKS, CLEANING)
    log, _ = log.advance(event)
    assert not log.failing
    assert walk(log, *answered(*commands))[0].phase is COMMITTED


@pytest.mark.parametrize(
    ("phase", "next_one"),
    [
        (OPENING, DISCARDING),
        (WRITING, DISCARDING),
        (SEALING, DISCARDING),
        (MOVING, MOVING_BACK),
    ],
)
def test_a_save_that_is_given_up_is_undone_once_what_is_open_is_answered(phase, next_one):
    log, commands = reach(TWO_DISKS, phase)
    log, none = log.advance(GivenUp(problem("enough")))
    assert (log.phase, log.failing, none) == (phase, True, ())
    log, commands = walk(log, *answered(*commands))
    assert log.phase is next_one
    assert finish(log, commands)[1].error.problem == "enough"


def test_giving_up_what_is_being_undone_changes_nothing():
    for phase in (MOVING_BACK, DISCARDING):
        log, _ = at(phase)
        assert log.advance(GivenUp(problem("enough"))) == (log, ())


def test_a_host_that_dies_before_its_write_fails_the_save():
    log, commands = CommitLog.begin(ONE_DISK)
    log, none = log.advance(lost("b"))
    assert (log.phase, log.failing, none) == (OPENING, True, ())
    log, commands = walk(log, *answered(*commands))
    assert brief(commands) == ["DISCARDING 0 a"]


def test_a_writer_that_dies_before_its_write_fails_the_save_though_it_holds_nothing():
    log, _ = CommitLog.begin(plan([("b", "a")], "ab"))
    assert log.advance(lost("b"))[0].failing


def test_a_host_that_dies_in_its_write_fails_the_save():
    log, (a, _) = reach(ONE_DISK, WRITING)
    log, commands = walk(log, Answered(a), lost("b"))
    assert brief(commands) == ["DISCARDING 0 a"]
    assert isinstance(log.error, HostLostError)


def test_a_host_that_dies_after_its_write_fails_nothing_if_others_see_its_disk():
    log, (a, b) = reach(ONE_DISK, WRITING)
    log, commands = walk(log, Answered(a), lost("a"), Answered(b))
    assert brief(commands) == ["SEALING 0 b"]
    assert finish(log, commands)[0] == [SEALING, MOVING, CLEANING, COMMITTED]


def test_a_host_that_dies_after_its_write_takes_a_disk_of_its_own_along():
    log, (a, b) = reach(TWO_DISKS, WRITING)
    log, commands = walk(log, Answered(a), lost("a"))
    assert (log.phase, log.failing) == (WRITING, True)
    log, commands = log.advance(Answered(b))
    assert brief(commands) == ["DISCARDING 1 b"]


def test_a_source_that_dies_idle_fails_the_save_but_the_writer_is_waited_for():
    log, (write,) = reach(plan([("a", "ab")], "a"), WRITING)
    log, commands = log.advance(lost("b"))
    assert (log.phase, log.failing, commands) == (WRITING, True, ())
    log, commands = log.advance(Failed(write, problem("the connection broke")))
    assert brief(commands) == ["DISCARDING 0 a"]
    assert isinstance(log.error, HostLostError)


def test_a_source_that_dies_when_its_bytes_are_stored_fails_nothing():
    log, (first, second) = reach(plan([("a", "b"), ("a", "c")], "a"), WRITING)
    log, _ = walk(log, Answered(first), lost("b"))
    assert not log.failing
    log, commands = log.advance(Answered(second))
    assert finish(log, commands)[0] == [SEALING, MOVING, CLEANING, COMMITTED]


@pytest.mark.parametrize("phase", [SEALING, MOVING])
def test_a_tender_that_dies_before_its_turn_is_replaced_by_a_host_of_its_disk(phase):
    of = plan([("a", "a"), ("b", "b"), ("c", "c")], "ab", "c")
    before = {SEALING: WRITING, MOVING: SEALING}[phase]
    log, commands = reach(of, before)
    *early, last = sorted(commands, key=lambda command: command.host)
    log, commands = walk(log, *answered(*early), lost("a"), Answered(last))
    assert brief(commands) == [f"{phase.name} 0 b", f"{phase.name} 1 c"]


def test_the_last_host_of_a_sealed_disk_takes_the_save_along():
    log, (a, b) = reach(TWO_DISKS, SEALING)
    log, commands = walk(log, Answered(a), lost("a"), Answered(b))
    assert brief(commands) == ["DISCARDING 1 b"]


def test_the_last_host_of_a_moved_disk_may_die():
    log, (a, b) = reach(TWO_DISKS, MOVING)
    log, commands = walk(log, Answered(a), lost("a"), Answered(b))
    assert brief(commands) == ["CLEANING 1 b"]


def test_a_host_that_dies_in_its_move_is_moved_back_by_a_host_of_its_disk():
    log, _ = reach(ONE_DISK, MOVING)
    log, commands = log.advance(lost("a"))
    assert brief(commands) == ["MOVING_BACK 0 b"]
    assert finish(log, commands)[0] == [MOVING_BACK, DISCARDING, ABORTED]


@pytest.mark.parametrize("phase", [MOVING_BACK, DISCARDING, CLEANING])
def test_what_a_dying_host_had_to_tidy_is_taken_over_by_a_host_of_its_disk(phase):
    log, commands = reach(ONE_DISK, CLEANING)
    if phase is not CLEANING:
        log, commands = reach(ONE_DISK, MOVING)
        log, commands = log.advance(Failed(commands[0], problem()))
        if phase is DISCARDING:
            log, commands = log.advance(Answered(commands[0]))
    assert brief(commands) == [f"{phase.name} 0 a"]
    log, again = log.advance(lost("a"))
    assert brief(again) == [f"{phase.name} 0 b"]
    assert log.advance(Answered(commands[0])) == (log, ())
    log, commands = log.advance(Answered(again[0]))
    assert log.phase is not phase


def test_a_disk_that_nobody_sees_any_more_is_left():
    log, commands = reach(TWO_DISKS, WRITING)
    log, commands = walk(log, lost("a"), lost("b"))
    assert (log.phase, commands) == (ABORTED, ())


def test_an_idle_host_that_nobody_needs_may_die_at_any_time():
    of = plan([("a", "a")], "ab")
    for phase in (OPENING, WRITING, SEALING, MOVING, CLEANING):
        log, commands = reach(of, phase)
        log, none = log.advance(lost("b"))
        assert (log.failing, none) == (False, ())
        assert finish(log, commands)[1].phase is COMMITTED


def test_answers_that_are_late_or_doubled_change_nothing():
    log, (a, _) = reach(TWO_DISKS, WRITING)
    log, _ = log.advance(Answered(a))
    for command in (a, Command(OPENING, 0, "a"), Command(SEALING, 0, "a")):
        assert log.advance(Answered(command)) == (log, ())
        assert log.advance(Failed(command, problem())) == (log, ())


def test_the_answer_of_a_host_given_up_for_lost_changes_nothing():
    log, (a, _) = reach(TWO_DISKS, WRITING)
    log, _ = log.advance(lost("a"))
    assert log.advance(Answered(a)) == (log, ())


def test_the_first_failure_is_the_one_that_is_told():
    log, (a, b) = reach(TWO_DISKS, WRITING)
    log, commands = walk(log, Failed(a, problem("first")), Failed(b, problem("second")))
    log, _ = walk(log, *[Failed(command, problem("third")) for command in commands])
    assert (log.phase, log.error.problem) == (ABORTED, "first")


def test_an_ended_log_takes_no_events():
    _, log = finish(*CommitLog.begin(ONE_DISK))
    for event in (lost("a"), GivenUp(problem()), Answered(Command(CLEANING, 0, "a"))):
        assert log.advance(event) == (log, ())


HOSTS = "abcd"


@st.composite
def plans(draw):
    named = HOSTS[: draw(st.integers(1, 4))]
    letters = st.sampled_from(named)
    shards = draw(st.lists(st.tuples(letters, st.text(letters, min_size=1)), max_size=3))
    group_of = {host: draw(st.integers(0, 2)) for host in named}
    groups = [[h for h in named if group_of[h] == number] for number in range(3)]
    return plan(shards, *[group for group in groups if group])


class Hosts:
    """What the hosts of a save see of it: orders, and what they did."""

    def __init__(self, of):
        self.plan = of
        self.ordered = []
        self.answered = set()
        self.done = set()
        self.dead = set()

    def order(self, commands):
        """What the log wants done now: it must be allowed."""
        busy = [
            command
            for command in self.ordered
            if command not in self.answered and command.host not in self.dead
        ]
        for command in commands:
            assert command not in self.ordered, "ordered twice"
            assert command.host not in self.dead, "ordered from the dead"
            assert {other.phase for other in busy} <= {command.phase}, "others still work"
            if command.phase is WRITING:
                assert command.host == self.plan.shards[command.number].writer
            else:
                assert command.host in self.plan.disks[command.number].hosts
            needed = {SEALING: self.writes, MOVING: self.seals, CLEANING: self.moves}
            assert needed.get(command.phase, set()) <= self.done
            self.ordered.append(command)

    def answer(self, command, kind):
        """One of them did it, or tried."""
        self.answered.add(command)
        if kind is Failed:
            return Failed(command, problem())
        self.done.add((command.phase, command.number))
        return Answered(command)

    def lose(self, host):
        """One of them is dead, or given up for dead."""
        self.dead.add(host)
        return lost(host)

    @property
    def writes(self):
        """What must be done before any disk is sealed."""
        return {(WRITING, shard.index) for shard in self.plan.shards}

    @property
    def seals(self):
        """What must be done before any disk is moved."""
        return {(SEALING, number) for number in range(len(self.plan.disks))}

    @property
    def moves(self):
        """What must be done before anything is removed."""
        return {(MOVING, number) for number in range(len(self.plan.disks))}


@settings(max_examples=400)
@given(plans(), st.data())
def test_whatever_happens_a_save_ends_and_never_half(of, data):
    hosts = Hosts(of)
    log, commands = CommitLog.begin(of)
    hosts.order(commands)
    for _ in range(data.draw(st.integers(0, 30))):
        if log.ended:
            break
        kind = data.draw(st.sampled_from([Answered, Answered, Failed, Lost, GivenUp, "late"]))
        if kind is GivenUp:
            event = GivenUp(problem())
        elif kind is Lost:
            event = hosts.lose(data.draw(st.sampled_from(HOSTS)))
        elif kind == "late":
            closed = [command for command in hosts.ordered if command not in log.open]
            if closed:
                command = data.draw(st.sampled_from(closed))
                assert log.advance(Answered(command)) == (log, ())
                assert log.advance(Failed(command, problem())) == (log, ())
            continue
        else:
            still_open = sorted(log.open, key=lambda command: (command.number, command.host))
            event = hosts.answer(data.draw(st.sampled_from(still_open)), kind)
        log, commands = log.advance(event)
        hosts.order(commands)
        assert log.ended or log.open
    while log.open:
        for command in log.open:
            log, commands = log.advance(hosts.answer(command, Answered))
            hosts.order(commands)
    assert (log.phase, log.error is None) in {(COMMITTED, True), (ABORTED, False)}
    if log.phase is COMMITTED:
        assert hosts.writes | hosts.seals | hosts.moves <= hosts.done
        return
    for number, disk in enumerate(of.disks):
        phases = {
            c.phase for c in hosts.ordered if c.number == number and c.phase is not WRITING
        }
        if not hosts.dead.issuperset(disk.hosts):
            assert DISCARDING in phases
            assert (MOVING_BACK in phases) == (MOVING in phases)
