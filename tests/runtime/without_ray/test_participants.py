"""Who takes part in a save, called all at once and waited for no longer than the deadline.

- every host takes its snapshot, and only writers look at the directory
- one host's error is told when all others have answered, so that nothing begins after the end
- a silent host is named with the setting, and waited for only once
- the calling process takes part like a host
"""

import subprocess
import sys
import threading
import time

import pytest

from dsave.errors import ClusterError, DirectoryError, ModelError, StalledError
from dsave.model.device import LOCALHOST
from dsave.runtime.host_save import marker_of
from dsave.runtime.participants import Participants
from dsave.runtime.save_messages import HostProgress, Ticket


def taking_part(cluster, directory="/dsave-test/export", timeout_s=5.0):
    return Participants(cluster, Ticket("1-a", str(directory), True, timeout_s))


def test_every_host_takes_its_snapshot_and_writers_look_at_the_directory(start, names):
    cluster = start(shared=True)
    participants = taking_part(cluster)
    found = participants.begin({names.A: {}, names.B: {}}, [names.B])
    assert found[names.A].free_nbytes is None
    assert found[names.B].free_nbytes > 0
    assert cluster.left(names.B) == [".export.dsave-1-a"]
    participants.discard()
    assert participants.end().keys() == {names.A, names.B}
    assert cluster.left(names.B) == []
    assert not cluster.holds(names.A)


@pytest.mark.parametrize("shared", [True, False])
def test_writers_see_who_shares_their_directory(start, names, shared):
    cluster = start(shared=shared)
    participants = taking_part(cluster)
    participants.begin({}, cluster.hosts)
    both = {marker_of(host) for host in cluster.hosts}
    assert participants.seen(cluster.hosts) == {
        host: both if shared else {marker_of(host)} for host in cluster.hosts
    }
    participants.discard()
    participants.end()


def test_the_error_of_one_host_is_told_when_all_have_answered(start, names):
    cluster = start(shared=False)
    cluster.faults[names.B, "begin_save"] = "sleeps 0.3"
    participants = taking_part(cluster)
    started = time.monotonic()
    with pytest.raises(ModelError, match=f"x: {names.A} does not hold it"):
        participants.begin({names.A: {"missing": "x"}}, cluster.hosts)
    assert time.monotonic() - started > 0.3
    participants.discard()
    participants.end()
    assert cluster.left(names.B) == []
    assert not cluster.holds(names.B)


def test_a_host_without_a_directory_to_write_is_named(start, names):
    cluster = start(shared=False)
    (cluster.roots[names.B] / "export").write_bytes(b"mine")
    participants = taking_part(cluster)
    with pytest.raises(DirectoryError, match="it exists and is no directory") as caught:
        participants.begin({}, cluster.hosts)
    assert caught.value.host == names.B
    participants.discard()
    participants.end()
    assert cluster.left(names.A) == []


@pytest.fixture
def silent(start, names):
    """A cluster whose second host answers nothing."""
    cluster, over = start(shared=False), threading.Event()
    submit = cluster.submit
    cluster.submit = lambda host, *args, **kwargs: (
        cluster.workers.submit(over.wait) if host == names.B else submit(host, *args, **kwargs)
    )
    yield cluster
    over.set()


def test_a_silent_host_is_named_and_waited_for_once(silent, names):
    participants = taking_part(silent, timeout_s=0.3)
    started = time.monotonic()
    with pytest.raises(StalledError) as caught:
        participants.begin({}, silent.hosts)
    assert (caught.value.host, caught.value.phase) == (names.B, "taking a snapshot")
    assert "stall_timeout_s sets the deadline" in str(caught.value)
    participants.discard()
    assert participants.end().keys() == {names.A}
    assert time.monotonic() - started < 0.6
    assert silent.left(names.A) == []


def test_a_cluster_that_is_closed_by_then_is_no_error_of_the_end(start):
    cluster = start(shared=True)
    participants = taking_part(cluster)
    participants.begin({host: {} for host in cluster.hosts}, [])

    def closed(*_args, **_kwargs):
        raise ClusterError("the cluster is closed")

    cluster.submit = closed
    participants.discard()
    assert participants.end() == {}


def test_a_host_that_wakes_up_after_the_save_was_given_up_begins_nothing(start, names):
    cluster = start(shared=False)
    cluster.faults[names.B, "begin_save"] = "waits 0.6"
    participants = taking_part(cluster, timeout_s=0.2)
    with pytest.raises(StalledError):
        participants.begin({}, cluster.hosts)
    participants.discard()
    participants.end()
    cluster.workers.shutdown(wait=True)
    assert cluster.left(names.B) == []
    assert not cluster.holds(names.B)


def test_the_calling_process_takes_part_like_a_host(start, tmp_path):
    cluster = start(shared=True)
    directory = tmp_path / "mine" / "export"
    participants = taking_part(cluster, directory)
    found = participants.begin({host: {} for host in cluster.hosts}, [LOCALHOST])
    assert found[LOCALHOST].free_nbytes > 0
    assert participants.submit(LOCALHOST, "asking", "progress").result().nbytes == 0
    participants.discard()
    answers = participants.end()
    assert list(answers) == [*cluster.hosts, LOCALHOST]
    assert isinstance(answers[LOCALHOST], HostProgress)
    assert not (tmp_path / "mine").exists()


def test_the_calling_process_goes_on_when_its_script_has_ended():
    # A pool of threads takes no calls by then, and a save in the background was lost.
    script = (
        "import threading, time\n"
        "from dsave.runtime.participants import _in_thread\n"
        "def go_on():\n"
        "    threading.main_thread().join()\n"
        "    time.sleep(0.2)\n"
        "    print(_in_thread(lambda: 'written').result(5))\n"
        "threading.Thread(target=go_on).start()\n"
        "_in_thread(threading.Event().wait)  # nobody waits for what never returns\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "written\n"


def test_what_was_lost_is_still_told_to_end_but_not_waited_for(start, names):
    cluster = start(shared=True)
    participants = taking_part(cluster)
    participants.begin({host: {} for host in cluster.hosts}, [names.A])
    participants.discard()
    cluster.faults[names.B, "end"] = "waits 0.6"
    started = time.monotonic()
    assert participants.end([names.B]).keys() == {names.A}
    assert time.monotonic() - started < 0.4
    assert (names.B, "end") in cluster.calls
