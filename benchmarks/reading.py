"""How fast checkpoints are read: all of one, beside TensorFlow; many keys; one row; onto hosts.

Every reader checks every checksum, but for the row, which is a part of what has one. The files
are in the page cache, and the readers take turns. README.md beside this file says more.
"""

import gc
import os
import platform
import signal
import statistics
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

import dsave
from dsave.format import naming
from dsave.format.bundle import ShardWriter, build_index
from dsave.model.dtype import dtype_of

TENSORS, KEYS = 16, 100_000
ROW_NBYTES = 16 << 10


def write_bundle(prefix, arrays):
    """A bundle of one data file, of float32 arrays by key."""
    with Path(naming.data_file(0, 1, prefix)).open("wb") as file:
        writer = ShardWriter(0, file.write)
        for key, array in arrays:
            writer.add(key, dtype_of("float32"), array.shape, [array.tobytes()])
    Path(naming.index_file(prefix)).write_bytes(build_index(writer.entries, 1))


def timed(*calls, repeats):
    """Seconds of each call, called in turn, and once before to warm up."""
    seconds = [[] for _ in calls]
    for repeat in range(repeats + 1):
        # Whoever is first in one round is last in the next.
        for number, call in list(enumerate(calls))[:: -1 if repeat % 2 else 1]:
            gc.collect()
            started = time.perf_counter()
            kept = call()
            if repeat:
                seconds[number].append(time.perf_counter() - started)
            del kept
    return seconds


def read_all(prefix):
    """All tensors, as views of the mapped file."""
    checkpoint = dsave.open(prefix)
    return {key: tensor[...] for key, tensor in checkpoint.items()}


def read_all_copied(prefix):
    """All tensors, in memory of their own."""
    checkpoint = dsave.open(prefix)
    return {key: np.array(tensor) for key, tensor in checkpoint.items()}


def all_of_a_checkpoint(work, nbytes, repeats, tf):
    """Read a checkpoint that TensorFlow wrote, or without TensorFlow one of dsave's."""
    values = np.random.default_rng(0).random((TENSORS, nbytes // TENSORS // 4), np.float32)
    prefix = str(work / "all")
    readers = {
        "dsave.open": partial(read_all, prefix),
        "dsave.open, copied": partial(read_all_copied, prefix),
    }
    if tf:
        checkpoint = tf.train.Checkpoint(v=[tf.Variable(value) for value in values])
        checkpoint.write(prefix)

        def get_all():
            reader = tf.train.load_checkpoint(prefix)
            return [reader.get_tensor(key) for key in reader.get_variable_to_shape_map()]

        readers["tf.train.load_checkpoint"] = get_all
        readers["tf.train.Checkpoint.read"] = lambda: checkpoint.read(prefix).assert_consumed()
    else:
        write_bundle(prefix, ((f"v{n}", value) for n, value in enumerate(values)))
    del values
    seconds = timed(*readers.values(), repeats=repeats)
    print(f"\n{nbytes:,} bytes in {TENSORS} tensors{'best':>16}{'median':>8}  GB/s")
    for name, took in zip(readers, seconds, strict=True):
        rates = [nbytes / s / 1e9 for s in (min(took), statistics.median(took))]
        print(f"{name:40}{rates[0]:8.3f}{rates[1]:8.3f}")
    for name, took in list(zip(readers, seconds, strict=True))[2:]:
        for ours, other in zip(list(readers)[:2], seconds[:2], strict=True):
            ratios = [
                min(took) / min(other),
                statistics.median(took) / statistics.median(other),
            ]
            print(f"{f'{ours} / {name}':60}{ratios[0]:8.2f}{ratios[1]:8.2f}  ratio")


def many_keys(work, keys, repeats):
    """Open an index of many keys."""
    small = np.zeros(4, np.float32)
    names = (
        f"layers/{n // 100}/block/{n % 100}/.ATTRIBUTES/VARIABLE_VALUE" for n in range(keys)
    )
    write_bundle(str(work / "keys"), ((name, small) for name in names))
    (took,) = timed(partial(dsave.open, str(work / "keys")), repeats=repeats)
    print_seconds(f"opening an index of {keys:,} keys", took)


def one_row(work, nbytes, repeats):
    """One row of a large tensor, each time another one, once the checkpoint is open."""
    rows = nbytes // ROW_NBYTES
    large = np.random.default_rng(0).random((rows, ROW_NBYTES // 4), np.float32)
    write_bundle(str(work / "row"), [("v", large)])
    del large
    tensor = dsave.open(str(work / "row"))["v"]
    places = iter(np.random.default_rng(1).permutation(rows))
    (took,) = timed(lambda: np.array(tensor[next(places)]), repeats=repeats * 20)
    print_seconds(f"one row of {ROW_NBYTES:,} bytes of {nbytes:,}", took, digits=6)


def onto_hosts(work, nbytes, repeats):
    """Load a SavedModel onto one host, and onto two that have half of the variables each."""
    config = {"placement": "pack", "hosts": [{"job": "worker", "tasks": 2}]}
    with dsave.Cluster.start(config) as cluster:
        model, elements = dsave.Module(), nbytes // TENSORS // 4
        shape = {"shape": (elements,), "dtype": "float32"}
        model.v = [
            cluster.variable(lambda _: np.ones(elements, np.float32), f"v{n}", **shape)
            for n in range(TENSORS)
        ]
        dsave.save(model, work / "model", durable=False, progress=False)
        del model

        def load(hosts):
            places = {f"v{n}": cluster.hosts[n % hosts] for n in range(TENSORS)}
            return dsave.load(work / "model", cluster, placement=places)

        seconds = timed(partial(load, 1), partial(load, 2), repeats=repeats)
    for hosts, took in zip((1, 2), seconds, strict=True):
        print_seconds(f"loading {nbytes:,} bytes onto {hosts} host{'s' * (hosts > 1)}", took)
    best, median = (find(seconds[0]) / find(seconds[1]) for find in (min, statistics.median))
    print(f"{'two hosts / one':60}{best:8.2f}{median:8.2f}  ratio")


def print_seconds(what, took, digits=3):
    """The best and the median of some times."""
    print(f"{what:60}{min(took):8.{digits}f} {statistics.median(took):8.{digits}f}  seconds")


@click.command()
@click.option("--gib", default=1.0, help="GiB in the large checkpoints.")
@click.option("--keys", default=KEYS, help="Keys in the one that has many.")
@click.option("--repeats", default=5, help="Measured reads of each kind.")
@click.option("--tensorflow/--no-tensorflow", default=True, help="Measure it too.")
@click.option("--directory", default="/var/tmp", help="Where: a directory of the disk.")
def main(gib, keys, repeats, tensorflow, directory):
    """Measure how fast checkpoints are read."""
    nbytes = int(gib * (1 << 30))
    load, tf = os.getloadavg()[0], None  # before this program adds to it
    if tensorflow:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import tensorflow as tf
    print(f"dsave {version('dsave')}", f", TensorFlow {tf.__version__}" if tf else "", sep="")
    print(f"{os.cpu_count()} cores, load {load:.1f}, {platform.platform()}; page cache warm")
    with tempfile.TemporaryDirectory(prefix="dsave-reading-", dir=directory) as work:
        all_of_a_checkpoint(Path(work), nbytes, repeats, tf)
        many_keys(Path(work), keys, repeats)
        one_row(Path(work), nbytes, repeats)
        onto_hosts(Path(work), nbytes, repeats)


def stop(*_):
    """End as on Ctrl-C, so that all is cleaned up."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    main()
