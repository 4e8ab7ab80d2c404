"""The coordinator sends what is due to hosts, and what comes back fails a save or does not.

- every verb gets what it needs: a shard and its sources, the metadata and the sizes of its disk
- an error of a host, of a call or of the metadata fails the save once, and what was written is
  discarded
- writers stop as soon as the save can only fail
- what cannot be tidied is a warning
"""

import logging
from concurrent.futures import Future

import pytest

from dsave.errors import (
    ClusterError,
    DirectoryError,
    HostLostError,
    ModelError,
    SaveError,
)
from dsave.runtime.coordinator import Coordinator
from dsave.runtime.save_messages import HostProgress, Receipt


def test_a_save_that_goes_well_calls_each_verb_once_and_in_order(job):
    job.carry_out()
    for host in (job.A, job.B):
        assert job.verbs(host) == ["open", "write", "seal", "move", "clean"]


def test_each_writer_gets_its_shard_and_the_addresses_of_other_sources(job):
    plan = job.plan_with_a_source()
    job.carry_out(plan)
    (write,) = [call for call in job.calls if call[1] == "write"]
    assert write == (job.A, "write", plan.shards[0], {job.B: job.ENDPOINT})
    assert job.verbs(job.B) == []


def test_the_metadata_is_made_once_from_all_receipts_and_sent_to_each_disk(job):
    made_of = []

    def seal(receipts):
        made_of.append({number: receipt.nbytes for number, receipt in receipts.items()})
        return job.METADATA

    done = job.carry_out(seal=seal)
    assert made_of == [{0: 40, 1: 80}]
    assert [call for call in job.calls if call[1] == "seal"] == [
        (job.A, "seal", job.METADATA, {job.FILES[0]: 40}),
        (job.B, "seal", job.METADATA, {job.FILES[1]: 80}),
    ]
    assert sorted(done.receipts) == [0, 1]


def test_a_disk_is_told_the_sizes_of_the_files_of_all_its_hosts(job):
    job.carry_out(job.plan((job.A, job.B)))
    (seal,) = [call for call in job.calls if call[1] == "seal"]
    assert seal == (job.A, "seal", job.METADATA, {job.FILES[0]: 40, job.FILES[1]: 80})


def test_what_is_cleaned_is_told_every_file_of_the_save(job):
    job.carry_out(job.plan((job.A, job.B)))
    assert job.calls[-1] == (job.A, "clean", 2.0, (*job.FILES, *job.METADATA))


def test_what_is_discarded_is_told_every_file_of_the_save(job):
    job.answers["move"] = DirectoryError("/d", job.A, "no")
    job.fails(DirectoryError, job.plan((job.A, job.B)))
    assert job.calls[-1] == (job.A, "discard", 2.0, (*job.FILES, *job.METADATA))


def test_the_caller_sees_how_far_the_hosts_are_while_they_write(job):
    written = Future()
    job.answers[job.B, "write"] = written
    job.written = {job.A: 11, job.B: 22}
    coordinator = job.coordinator()

    def tick():
        heard = coordinator.progress()
        if heard == {job.A: HostProgress(11, 7, 1.5), job.B: HostProgress(22, 7, 1.5)}:
            written.set_result(Receipt(1, (), 80, 0.0))

    coordinator.run(lambda: None if written.done() else tick())
    assert written.done()


def test_hosts_are_told_when_they_were_heard_of_last_by_their_own_clocks(job):
    job.carry_out()
    told = {(call[0], call[1]): call[2] for call in job.calls if call[1] in {"open", "move"}}
    # When they began; and when they had sealed, unless a question was answered since.
    assert told == {
        (job.A, "open"): 1.0,
        (job.B, "open"): 1.0,
        (job.A, "move"): 2.0,
        (job.B, "move"): 2.0,
    }


def test_a_question_that_was_answered_later_counts(job):
    sealed = Future()
    job.answers["seal"] = lambda host: 1.2 if host == job.A else sealed
    coordinator = job.coordinator()

    def tick():
        if {1.5} == {heard.clock_s for heard in coordinator.progress().values()}:
            sealed.set_result(1.2)

    coordinator.run(lambda: None if sealed.done() else tick())
    assert {call[2] for call in job.calls if call[1] == "move"} == {1.5}


def test_hosts_of_disks_and_sources_are_asked(job):
    assert list(job.coordinator(job.plan_with_a_source()).progress()) == [job.A, job.B]


@pytest.mark.parametrize("verb", ["open", "write", "seal", "move"])
def test_an_error_of_a_host_is_the_error_of_the_save(job, verb):
    error = DirectoryError("/d", job.B, "no room")
    job.answers[job.B, verb] = error
    assert job.fails(DirectoryError) is error
    undone = ["move_back", "discard"] if verb == "move" else ["discard"]
    for host in (job.A, job.B):
        assert job.verbs(host)[-len(undone) :] == undone
    assert "clean" not in job.verbs()


def test_an_error_that_is_not_ours_names_the_host_and_the_phase(job):
    cause = ZeroDivisionError("division by zero")
    job.answers[job.B, "write"] = cause
    error = job.fails(SaveError)
    assert str(error) == (
        f"{job.B}, while writing data files: ZeroDivisionError: division by zero"
    )
    assert error.__cause__ is cause


def test_a_call_that_cannot_be_made_fails_the_save(job):
    def closed(_host):
        raise ClusterError("the cluster is closed")

    job.answers["write"] = closed
    job.fails(ClusterError)
    assert job.verbs() == ["open", "open", "write", "write", "discard", "discard"]


@pytest.mark.parametrize(
    ("raised", "kind"), [(ModelError("x", "no"), ModelError), (RuntimeError("no"), SaveError)]
)
def test_metadata_that_cannot_be_made_fails_the_save(job, raised, kind):
    def seal(_receipts):
        raise raised

    error = job.fails(kind, seal=seal)
    assert raised in {error, error.__cause__}
    assert job.verbs(job.A) == ["open", "write", "discard"]


def test_writers_stop_once_the_save_can_only_fail(job):
    writing = Future()
    job.answers[job.A, "write"] = DirectoryError("/d", job.A, "no")
    job.answers[job.B, "write"] = writing
    job.answers[job.B, "cancel"] = lambda host: writing.set_exception(
        SaveError(host, "writing", "the save was given up")
    )
    job.fails(DirectoryError)
    assert job.verbs(job.A) == ["open", "write", "discard"]
    assert job.verbs(job.B) == ["open", "write", "cancel", "discard"]


def test_a_save_is_committed_though_nothing_can_be_cleaned(job, caplog):
    error = DirectoryError("/d", job.A, "busy")
    job.answers["clean"] = error
    with caplog.at_level(logging.WARNING):
        job.carry_out()
    assert f"the save is committed; what it replaced stays: {error}" in caplog.text


def test_a_host_that_dies_while_it_cleans_is_a_warning(job, caplog):
    job.answers[job.A, "clean"] = HostLostError(job.A, "removing what was replaced", "killed")
    with caplog.at_level(logging.WARNING):
        job.carry_out()
    assert "the save is committed; what it replaced stays" in caplog.text


@pytest.mark.parametrize("verb", ["move_back", "discard"])
def test_what_cannot_be_undone_is_a_warning_beside_the_first_error(job, caplog, verb):
    job.answers["move"] = DirectoryError("/d", job.A, "first")
    job.answers[verb] = DirectoryError("/d", job.A, "second")
    with caplog.at_level(logging.WARNING):
        assert job.fails(DirectoryError).problem == "first"
    assert "the save failed; what it wrote stays: directory /d" in caplog.text
    assert "second" in caplog.text


def test_nothing_is_said_of_saves_that_leave_nothing(job, caplog):
    with caplog.at_level(logging.WARNING):
        job.carry_out()
        job.answers[job.B, "write"] = DirectoryError("/d", job.A, "no")
        job.fails(DirectoryError)
    assert caplog.text == ""


def test_a_fault_of_our_own_is_raised_and_does_not_hang(job, monkeypatch):
    def broken(*_args):
        raise AssertionError("ours")

    monkeypatch.setattr(Coordinator, "_outcome", broken)
    assert str(job.fails(AssertionError)) == "ours"
