"""How fast a save is, and in how much memory: dsave's, beside TensorFlow's own.

Both sides hold the same variables in as many processes (random float32, made where they live),
and save them in turn, warmed up, into new directories of one disk. What either left to be
written back is synced before the other's turn. README.md beside this file says how to read it.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

import dsave

SMALL_VARIABLES, SMALL_ELEMENTS = 4000, 64
IO_DEVICES = {"local": None, "designated": "/job:worker/replica:0/task:0/device:CPU:0"}


@dataclass(frozen=True, slots=True)
class Workload:
    """Float32 variables of one length, dealt out to the hosts in turn."""

    variables: int
    elements: int
    hosts: int

    @property
    def nbytes(self):
        """Bytes of all variables."""
        return self.variables * self.elements * 4


class Dsave:
    """A cluster of dsave's that holds the workload."""

    name = "dsave"

    def __init__(self, workload):
        hosts = {"job": "worker", "tasks": workload.hosts}
        self._cluster = dsave.Cluster.start({"placement": "pack", "hosts": [hosts]})
        self._model = dsave.Module()
        self._model.v = [self._variable(n, workload) for n in range(workload.variables)]
        self.version = version("dsave")
        self.peak_bytes = dict.fromkeys(self._cluster.hosts, 0)

    def _variable(self, number, workload):
        def values(index):
            (rows,) = index
            return np.random.default_rng(number).random(rows.stop - rows.start, np.float32)

        host = self._cluster.hosts[number % workload.hosts]
        with self._cluster.device(f"{host}/device:CPU:0"):
            return self._cluster.variable(
                values, name=f"v{number}", shape=(workload.elements,), dtype="float32"
            )

    def save(self, directory, io_device, *, durable):
        """Save; seconds."""
        options = dsave.SaveOptions(experimental_io_device=io_device)
        started = time.perf_counter()
        result = dsave.save(
            self._model, directory, options=options, durable=durable, progress=False
        )
        seconds = time.perf_counter() - started
        for host, peak in result.peak_bytes.items():
            self.peak_bytes[host] = max(self.peak_bytes[host], peak)
        return seconds

    def close(self):
        """End the hosts."""
        self._cluster.close()


class TensorFlow:
    """A client of TensorFlow's workers that hold the workload: `tensorflow_saves.py`."""

    name = "TensorFlow"

    def __init__(self, workload):
        program = Path(__file__).with_name("tensorflow_saves.py")
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close` closes it
        self._client = subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )
        try:
            self.version = self._ask(asdict(workload))["version"]
        except BaseException:
            self.close()
            raise

    def save(self, directory, io_device, *, durable):
        """Save; seconds, as the client saw them."""
        order = {"directory": str(directory), "io_device": io_device, "durable": durable}
        return self._ask(order)["seconds"]

    def close(self):
        """End the client, and so its workers: they stay no longer than its end of a pipe."""
        self._client.kill()
        self._client.wait()
        self._client.stdin.close()
        self._client.stdout.close()
        self._complaints.close()

    def _ask(self, question):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self._client.stdin, flush=True)
        line = self._client.stdout.readline()
        if not line:
            self._complaints.seek(0)
            raise click.ClickException(f"TensorFlow's side ended: {self._complaints.read()}")
        return json.loads(line)


@click.command()
@click.option("--gib", default=1.0, help="GiB of variables, of all hosts together.")
@click.option("--variables", default=16, help="How many variables.")
@click.option("--small", is_flag=True, help="4,000 variables of 64 floats instead.")
@click.option("--hosts", default=2, help="How many hosts hold them.")
@click.option("--route", type=click.Choice(["local", "designated", "both"]), default="both")
@click.option("--durable/--no-durable", default=False, help="Sync before the save is over.")
@click.option("--repeats", default=5, help="Measured saves of each kind.")
@click.option("--tensorflow/--no-tensorflow", default=None, help="Measure it too.")
@click.option("--directory", default="/var/tmp", help="Where: a directory of the disk.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Results as JSON.")
def main(
    gib, variables, small, hosts, route, durable, repeats, tensorflow, directory, json_file
):
    """Measure saves; TensorFlow's beside them, but for --small."""
    if small:
        workload = Workload(SMALL_VARIABLES, SMALL_ELEMENTS, hosts)
    else:
        workload = Workload(variables, int(gib * (1 << 30)) // 4 // variables, hosts)
    kinds = [Dsave]
    if tensorflow or (tensorflow is None and not small):
        kinds.append(TensorFlow)
    routes = [route] if route != "both" else list(IO_DEVICES)
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="dsave-throughput-", dir=directory)
        )
        load = os.getloadavg()[0]  # before this program adds to it
        sides = [stack.enter_context(contextlib.closing(kind(workload))) for kind in kinds]
        settings = {
            "workload": asdict(workload),
            "durable": durable,
            "repeats": repeats,
            "versions": {side.name: side.version for side in sides},
            "machine": f"{os.cpu_count()} cores, load {load:.1f}, {platform.platform()}",
            "file_system": file_system(work),
            "ray": {
                name: value
                for name, value in sorted(os.environ.items())
                if name.startswith("RAY_") and "TOKEN" not in name
            },
        }
        print_settings(settings, workload)
        seconds = measure(sides, routes, Path(work), durable=durable, repeats=repeats)
        peak_bytes = sides[0].peak_bytes
    print_results(seconds, workload, small=small)
    for host, peak in peak_bytes.items():
        print(f"peak private memory of {host}: {peak / (1 << 20):.1f} MiB")
    if json_file:
        result = {"settings": settings, "seconds": seconds, "peak_bytes": peak_bytes}
        Path(json_file).write_text(json.dumps(result, indent=1))


def measure(sides, routes, work, *, durable, repeats):
    """Seconds of every save: {route: {side: [...]}}. The sides take turns.

    Before each save comes one that does not count, of the same kind: it warms the side up, and
    leaves memory for the page cache that a virtual machine's host need not find first.
    """
    seconds = {route: {side.name: [] for side in sides} for route in routes}
    directory = work / "saved"
    for repeat in range(repeats):
        for route in routes:
            # Whoever is first in one round is last in the next.
            for side in reversed(sides) if repeat % 2 else sides:
                os.sync()
                for _ in range(2):
                    took = side.save(directory, IO_DEVICES[route], durable=durable)
                    shutil.rmtree(directory)
                seconds[route][side.name].append(took)
    return seconds


def print_settings(settings, workload):
    """What was measured, and where."""
    print(", ".join(f"{name} {number}" for name, number in settings["versions"].items()))
    print(f"{settings['machine']}; {settings['file_system']}")
    size = (
        f"{workload.nbytes:,} bytes in {workload.variables} variables on {workload.hosts} hosts"
    )
    print(f"{size}; {'durable' if settings['durable'] else 'not durable'}, page cache warm")
    print(" ".join(f"{name}={value}" for name, value in settings["ray"].items()))


def print_results(seconds, workload, *, small):
    """A line for each route and side, and one for what dsave gains over TensorFlow."""
    unit = "seconds" if small else "GB/s"
    print(f"\n{'route':12}{'':12}{'best':>8}{'median':>8}  {unit}")
    for route, by_side in seconds.items():
        found = {side: (min(took), statistics.median(took)) for side, took in by_side.items()}
        for side, pair in found.items():
            shown = pair if small else [workload.nbytes / s / 1e9 for s in pair]
            print(f"{route:12}{side:12}{shown[0]:8.3f}{shown[1]:8.3f}")
        if "TensorFlow" in found:
            ratios = [t / d for d, t in zip(found["dsave"], found["TensorFlow"], strict=True)]
            print(f"{route:12}{'ratio':12}{ratios[0]:8.2f}{ratios[1]:8.2f}")


def file_system(directory):
    """Type, device and options of the file system that a directory is on."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if Path(directory).resolve().is_relative_to(mount[1])]
    device, _, kind, options, *_ = max(reversed(above), key=lambda mount: len(mount[1]))
    return f"{kind} on {device} ({options})"


def stop(*_):
    """End as on Ctrl-C, so that all is cleaned up."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    main()
