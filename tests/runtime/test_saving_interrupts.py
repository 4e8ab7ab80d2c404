"""The calling process is interrupted, or dies, in mid-save.

Claims: Ctrl-C ends a save within seconds in KeyboardInterrupt; whenever it comes nothing is
left behind, on disks or on hosts, and what was in the directory stays to the byte unless the
save is committed; after a kill that nothing can catch the directory stays as well, the hosts
end, and the next save removes what was left.
"""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import dsave

pytestmark = pytest.mark.ray

SCRIPT = """
import sys
import numpy as np
import dsave

with dsave.Cluster.start({"hosts": [{"job": "worker", "tasks": 2}]}) as cluster:
    model = dsave.Module()
    model.v = cluster.sharded_variable(
        lambda index: np.ones((index[0].stop - index[0].start, 1 << 20), np.float32),
        shape=(256, 1 << 20),
        dtype="float32",
    )
    print("ready", flush=True)
    try:
        dsave.save(model, sys.argv[1])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise
    print("saved", flush=True)
"""


@pytest.fixture
def directory(pair, tmp_path):
    """A directory in which another save is committed."""
    model = dsave.Module()
    model.v = pair.variable(1.0)
    directory = tmp_path / "parent" / "export"
    dsave.save(model, directory, cluster=pair)
    return directory


@pytest.fixture
def signalled(directory, see):
    """Runs the script, and sends its process group a signal once bytes are being written."""

    def run(number):
        for _ in range(5):
            before = see.tree(directory)
            script = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, directory],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                assert script.stdout.readline() == "ready\n"
                see.wait_for(lambda process=script: is_saving(directory) or process.poll() == 0)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(script.pid, number)
                sent = time.monotonic()
                output, errors = script.communicate(timeout=60)
            except BaseException:
                os.killpg(script.pid, signal.SIGKILL)
                script.communicate()
                raise
            if output != "saved\n":  # on a busy machine the signal may come too late
                seconds = time.monotonic() - sent
                return before, script.returncode, output, errors, seconds
        raise AssertionError("the save was over before the signal came, each time")

    return run


def is_saving(directory):
    files = directory.parent.glob(".export.dsave-*/variables/*")
    with contextlib.suppress(FileNotFoundError):  # it was moved just now
        return sum(file.stat().st_size for file in files) > 1 << 20


def names(directory):
    return [path.name for path in directory.parent.iterdir()]


def test_an_interrupt_ends_a_save_at_once_and_leaves_nothing(directory, signalled, see):
    before, code, output, errors, seconds = signalled(signal.SIGINT)
    assert (output, "KeyboardInterrupt" in errors) == ("interrupted\n", True), errors
    assert code != 0
    assert seconds < 15
    assert see.tree(directory) == before
    assert names(directory) == ["export"]


def test_an_interrupt_at_any_moment_leaves_nothing(pair, directory, interrupting, see):
    model = dsave.Module()
    model.v = pair.mirrored_variable([2.0, 3.0])
    model.w = pair.mirrored_variable([4.0, 5.0])
    before = see.tree(directory)
    interrupted = 0
    for moment in range(40):
        try:
            with interrupting(after_s=moment / 1000):
                dsave.save(model, directory, cluster=pair)
        except KeyboardInterrupt:
            interrupted += 1
        assert names(directory) == ["export"]
        stored = see.tree(directory)
        assert stored == before or (directory / "saved_model.pb").is_file()
        before = stored
    assert interrupted > 5
    see.wait_for(lambda: set(pair.run(lambda host: len(host._saves)).values()) == {0})


@pytest.fixture
def interrupting():
    """Interrupts what runs in the context, but nothing after it."""
    inside = False

    def handle(*_):
        if inside:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def interrupt(after_s):
        nonlocal inside
        timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        inside = True
        try:
            yield
        finally:
            inside = False
            timer.cancel()
            timer.join()

    previous = signal.signal(signal.SIGINT, handle)
    gc.disable()  # what is raised in a callback of it, as JAX has one, ends nothing
    yield interrupt
    gc.enable()
    signal.signal(signal.SIGINT, previous)


def test_after_a_kill_the_next_save_removes_what_was_left(pair, directory, signalled, see):
    before, code, output, _, _ = signalled(signal.SIGKILL)
    assert (code, output) == (-signal.SIGKILL, "")
    assert see.tree(directory) == before
    model = dsave.Module()
    model.v = pair.variable(2.0)

    def cleaned():
        dsave.save(model, directory, cluster=pair)
        return names(directory) == ["export"]

    see.wait_for(cleaned)  # hosts see a little later that whom they served is gone
