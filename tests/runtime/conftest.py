"""One Ray for the session, clusters on it, and TensorFlow's view of what they saved."""

import contextlib
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

# Before Ray is imported. Its workers would be nice to everything else on a busy machine, its
# memory monitor counts what other programs hold, and nothing here talks to another Ray.
os.environ |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
}

PRIVATE = "/dsave-private"
"""The path of which each host of a cluster here has its own copy; all others are shared."""


@pytest.fixture(scope="session")
def _ray():
    import ray

    ray.init(
        address="local",
        num_cpus=16,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def start(_ray, tmp_path_factory):
    """Starts clusters: two hosts of job `worker`, `gpus` GPUs each, sharing all but PRIVATE."""
    import dsave

    def started(*, tasks=2, gpus=0):
        return dsave.Cluster.start(
            {
                "hosts": [{"job": "worker", "tasks": tasks, "gpus": gpus}],
                "local_paths": [PRIVATE],
                "local_root": str(tmp_path_factory.mktemp("hosts")),
            }
        )

    return started


@pytest.fixture(scope="session")
def pair(start):
    """Two hosts with two GPUs each, for all tests that leave them alive."""
    with start(gpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def gpus(pair):
    """Names of its four GPUs, two of each host."""
    return [device for device in pair.devices if "/device:GPU:" in device]


@pytest.fixture
def doomed(start):
    """Two hosts, for a test that may kill them; `pids` is what to kill, by host."""
    with start() as cluster:
        yield SimpleNamespace(cluster=cluster, pids=cluster.run(lambda _: os.getpid()))


@pytest.fixture
def private(tmp_path):
    """A path of which each host has its own copy, new for each test."""
    return f"{PRIVATE}/{tmp_path.name}/export"


@pytest.fixture(scope="session")
def stored(tf):
    """The value of each variable of a SavedModel by checkpoint key, as `bits`."""

    def read(directory):
        reader = tf.train.load_checkpoint(f"{directory}/variables/variables")
        return {
            key: bits(reader.get_tensor(key))
            for key in reader.get_variable_to_dtype_map()
            if key != "_CHECKPOINTABLE_OBJECT_GRAPH" and not key.startswith("_components/")
        }

    return read


def bits(value):
    """(shape, bytes) of an array, or of strings (shape, list): equal only if every bit is."""
    array = np.asarray(value)
    return array.shape, array.tolist() if array.dtype == object else array.tobytes()


def tree(directory):
    """(bytes, time of the last change, mode) of everything below a directory, by path."""
    paths = [Path(directory), *sorted(Path(directory).rglob("*"))]
    return {
        str(path): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mtime_ns,
            path.stat().st_mode,
        )
        for path in paths
        if path.exists()
    }


@contextlib.contextmanager
def untouched(directory):
    """What runs inside leaves the directory as it was, and adds nothing beside it."""
    parent = Path(directory).parent
    beside = sorted(parent.iterdir())
    before = tree(directory)
    yield
    assert tree(directory) == before
    assert sorted(parent.iterdir()) == beside


def wait_for(condition, timeout_s=30.0):
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return value


@pytest.fixture(scope="session")
def see():
    """Ways to look at values and directories from outside."""
    return SimpleNamespace(bits=bits, tree=tree, untouched=untouched, wait_for=wait_for)
