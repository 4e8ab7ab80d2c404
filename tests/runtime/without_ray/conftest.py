"""A cluster whose hosts are plain objects, called by threads, that can fail at any verb."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import dsave
from dsave.errors import CorruptionError, HostLostError
from dsave.model import new_variable
from dsave.model.dtype import dtype_of
from dsave.runtime import pulses
from dsave.runtime.host import Host

PATH = "/dsave-test/export"
A, B = HOSTS = tuple(f"/job:worker/replica:0/task:{task}" for task in range(2))


class Cluster:
    """Two hosts that see `PATH` below the same directory, or each below its own.

    `faults` says what happens once, by (host, verb): "fails before" or "fails after" the verb
    is carried out, "dies before" or "dies after", "answers and dies", "waits 0.5" seconds
    before and "sleeps 0.5" after it.
    """

    hosts = HOSTS
    devices = tuple(f"{host}/device:CPU:0" for host in HOSTS)
    own_address = "127.0.0.1"

    @property
    def inner(self):
        """Itself: it is its hosts too."""
        return self

    def __init__(self, root, *, shared):
        self.roots = {host: root / ("all" if shared else host[-1]) for host in HOSTS}
        for directory in self.roots.values():
            directory.mkdir(parents=True, exist_ok=True)
        self.shared = shared
        self.together = threading.RLock()
        self.workers = ThreadPoolExecutor(16)
        self.dead = set()
        self.faults = {}
        self.calls = []
        self._hosts = {
            host: Host(host, (device,), {"/dsave-test": str(self.roots[host])}, "127.0.0.1")
            for host, device in zip(HOSTS, self.devices, strict=True)
        }

    def real_path(self, path, host):
        """Where a path as a host sees it lies."""
        return self._hosts[host].real_path(path)

    def submit(self, host, phase, method, *args, group=None, **kwargs):  # noqa: ARG002 - threads need no groups
        """Call a method of a host, as `Hosts.submit` does."""
        verb = args[1] if method == "in_save" else method
        if verb not in {"progress", "cancel"}:
            self.calls.append((host, verb))
        return self.workers.submit(self._call, host, phase, verb, method, args, kwargs)

    def _call(self, host, phase, verb, method, args, kwargs):
        if host in self.dead:
            raise HostLostError(host, phase, "the host is gone")
        fault, _, when = self.faults.pop((host, verb), "").partition(" ")
        if fault == "waits":
            time.sleep(float(when))
        if when == "before":
            self._strike(fault, host, phase)
        answer = getattr(self._hosts[host], method)(*args, **kwargs)
        if fault == "sleeps":
            time.sleep(float(when))
        if when == "after":
            self._strike(fault, host, phase)
        if fault == "answers":  # and dies
            self._die(host)
        return answer

    def _strike(self, fault, host, phase):
        if fault == "fails":
            raise OSError(5, "the disk is broken")
        self._die(host)
        raise HostLostError(host, phase, "the host is gone")

    def _die(self, host):
        self.dead.add(host)
        for save in self._hosts[host]._saves.values():
            save.end()  # as the kernel would: locks and connections go

    def wait_for(self, thread):
        """Saves in the background are waited for by those who ask for them."""

    def model(self, value):
        """A model with variables of all kinds, all of one value."""
        model, keys = dsave.Module(), iter(range(100))

        def key():
            return f"key-{next(keys)}"

        half, single = dtype_of("float16"), dtype_of("float32")
        place = dict(zip("ab", self.devices, strict=True))
        model.x = new_variable.plain("x", single, (50,), place["a"], key, trainable=True)
        model.y = new_variable.plain("y", single, (50,), place["b"], key, trainable=True)
        model.m = new_variable.mirrored(
            "m", single, (20,), self.devices, key, trainable=True, aggregation="none"
        )
        model.s = new_variable.sync_on_read(
            "s", single, (20,), self.devices, key, aggregation="mean"
        )
        model.e = new_variable.sharded("e", half, (7, 2), self.devices, key, trainable=True)
        for variable in vars(model).values():
            for component in variable.components:
                slot = {component.key: (variable.name, variable.dtype, component.box)}
                array = np.full(component.box.lengths, value)
                self._hosts[component.host].store(slot, array)
        return model

    def save(self, value, **options):
        """Save such a model."""
        return dsave.save(
            self.model(value),
            PATH,
            cluster=self,
            progress=False,
            **{"durable": False, "stall_timeout_s": 5.0, **options},
        )

    def saved(self, host):
        """The value of what a host finds in the directory; None if nothing is there."""
        directory = self.roots[host] / "export"
        if not directory.exists():
            return None
        values = set()
        with dsave.open(directory) as checkpoint:
            for name in "xymse":
                try:
                    values |= set(checkpoint[f"{name}/.ATTRIBUTES/VARIABLE_VALUE"][...].flat)
                except CorruptionError as error:
                    if self.shared or "the data file is not here" not in str(error):
                        raise
        (value,) = values
        return float(value)

    def left(self, host):
        """What is beside the directory, as the host finds it."""
        return sorted(entry.name for entry in self.roots[host].iterdir())

    def holds(self, host):
        """Whether a host still has a part in any save."""
        return bool(self._hosts[host]._saves)

    def close(self):
        """End the threads."""
        self.workers.shutdown()


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts clusters below one directory."""
    monkeypatch.setattr(pulses, "POLL_S", 0.002)
    started = []

    def begin(*, shared):
        started.append(Cluster(tmp_path, shared=shared))
        return started[-1]

    yield begin
    for cluster in started:
        cluster.close()


@pytest.fixture(scope="session")
def names():
    """The two hosts."""
    return SimpleNamespace(A=A, B=B)
