"""Large variables: more bytes than 32 bits count, and little memory to save them.

Claims: a tensor of more than 2 GiB is read back by TensorFlow, whoever writes it; while 1 GiB
is saved, no host's private memory grows by more than 64 MiB, nor the caller's, whether hosts
write their own variables or one of them, or the caller, writes all.
"""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray

MIB = 1 << 20
PERIOD = 251
"""A prime: bytes that end up elsewhere are not equal to those that belong there."""


@pytest.fixture
def roomy(tmp_path):
    """A directory for large files, which pytest would keep for some runs."""
    yield tmp_path / "export"
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def huge(pair, gpus):
    count = (1 << 31) + 1000

    def make(_, period=PERIOD):
        array = np.zeros(count, np.uint8)
        array[: count // period * period].reshape(-1, period)[:] = np.arange(period)
        array.flags.writeable = False  # so that the host keeps it without a copy
        return array

    model = dsave.Module()
    with pair.device(gpus[2]):
        model.huge = pair.variable(make, shape=(count,), dtype="uint8")
        model.next = pair.variable(5.0)
    return model


@pytest.mark.tf
@pytest.mark.parametrize("route", [None, "/job:worker/task:0", "/job:localhost"])
def test_a_tensor_of_more_than_two_gibibytes_is_read_back(pair, huge, roomy, tf, route):
    options = dsave.SaveOptions(experimental_io_device=route)
    result = dsave.save(huge, roomy, options=options, cluster=pair, durable=False)
    assert result.nbytes > 1 << 31
    loaded = tf.saved_model.load(str(roomy))
    value = loaded.huge.numpy()
    assert value.shape == huge.huge.shape
    periods = value[: value.size // PERIOD * PERIOD].reshape(-1, PERIOD)
    assert (periods == np.arange(PERIOD, dtype=np.uint8)).all()
    assert loaded.next.numpy() == 5.0


@pytest.mark.parametrize("route", [None, "/job:worker/task:0", "/job:localhost"])
def test_to_save_a_gibibyte_takes_less_than_64_mebibytes(pair, gpus, roomy, route):
    model = dsave.Module()
    model.sharded = pair.sharded_variable(
        lambda index: np.ones((index[0].stop - index[0].start, MIB), np.float32),
        shape=(192, MIB),
        dtype="float32",
        devices=[gpus[0], gpus[2]],
    )
    model.total = pair.sync_on_read_variable(
        lambda _: np.ones((64, MIB), np.float32),
        shape=(64, MIB),
        dtype="float32",
        aggregation="sum",
        devices=[gpus[1], gpus[3]],
    )
    pids = pair.run(lambda _: os.getpid())
    pids["/job:localhost/replica:0/task:0"] = os.getpid()
    options = dsave.SaveOptions(experimental_io_device=route)
    with Growth(pids) as growth:
        result = dsave.save(model, roomy, options=options, cluster=pair, durable=False)
    assert result.nbytes >= 1 << 30
    assert growth.samples > 10
    assert {host: size for host, size in growth.nbytes.items() if size > 64 * MIB} == {}
    assert {host: size for host, size in result.peak_bytes.items() if size > 64 * MIB} == {}


class Growth:
    """Watches how far the private memory of processes rises above where it was."""

    def __init__(self, pids):
        self.samples = 0
        self.nbytes = dict.fromkeys(pids, 0)
        self._pids = pids
        self._before = {name: private_nbytes(pid) for name, pid in pids.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.01):
            self.samples += 1
            for name, pid in self._pids.items():
                growth = private_nbytes(pid) - self._before[name]
                self.nbytes[name] = max(self.nbytes[name], growth)


def private_nbytes(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10
