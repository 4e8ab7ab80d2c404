"""Machines that vanish in mid-save: a pulled cable, a power cut.

Claims: though Ray notices only a minute later, the save ends at its own deadline in an error
that names the lost host, be it the one that sends or the one that writes; where it was to be
written the SavedModel of before stays and nothing lies beside it; the hosts that are left go
on, and save what is theirs.
"""

import json
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.hosts, pytest.mark.ray]

STALL_S = 4.0

# Three saves of a variable on one host (`source`) that another writes (`writer`).
SCRIPT = """
import json, sys
import numpy as np
import dsave

def say(**facts):
    print("@" + json.dumps(facts), flush=True)

workers = [{"job": "worker", "tasks": 4}]
cluster = dsave.Cluster.start(
    {"ray": {"address": "auto"}, "placement": "spread", "hosts": workers}
)
alive = list(cluster.hosts)
small, large = [dsave.Module() for _ in alive], [dsave.Module() for _ in alive]
for task, host in enumerate(alive):
    with cluster.device(host):
        small[task].v = cluster.variable(float(task))
        fill = lambda _: np.ones(1 << 26, np.float32)
        large[task].v = cluster.variable(fill, shape=(1 << 26,), dtype="float32")

for source, writer, victim in json.loads(sys.argv[1]):
    options = dsave.SaveOptions(experimental_io_device=f"/job:worker/task:{writer}")
    dsave.save(small[source], "/tmp/jobs/export", options=options)
    say(now="saving")
    try:
        stall_s = float(sys.argv[2])
        dsave.save(large[source], "/tmp/jobs/export", options=options, stall_timeout_s=stall_s)
    except dsave.SaveError as error:
        say(error=type(error).__name__, host=error.host, phase=error.phase, text=str(error))
    alive = [host for host in alive if not host.endswith(f":{victim}")]
    say(ran=sorted(cluster.run(lambda _: None, hosts=alive, timeout_s=20)))
    options = dsave.SaveOptions(experimental_io_device=alive[-1])
    say(saved=dsave.save(small[0], "/tmp/jobs/export", options=options).layout)
"""

FAULTS = {
    # (source, writer, victim), and how it is lost.
    "the cable of a source": ((3, 1, 3), "cut"),
    "the power of a source": ((2, 1, 2), "crash"),
    "the power of the writer": ((0, 1, 1), "crash"),
}


@pytest.fixture(scope="module")
def stories(up):
    """What happened, by fault: all in one cluster, which has a host less after each."""
    with up(4) as hosts:
        hosts.slow("h1", "500mbit")
        plan = json.dumps([roles for roles, _ in FAULTS.values()])
        script = hosts.popen(
            "h0",
            [sys.executable, "-c", SCRIPT, plan, str(STALL_S)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield {name: story(hosts, script, *fault) for name, fault in FAULTS.items()}
        finally:
            script.kill()
            script.communicate()


def story(hosts, script, roles, how):
    """Let one host be lost while the script saves; what the script says of it, and when."""

    def hear():
        for line in script.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise AssertionError(script.stderr.read())

    _, writer, victim = (f"h{task}" for task in roles)
    there = hosts.outside(writer, "/tmp/jobs")
    assert hear() == {"now": "saving"}
    deadline = time.monotonic() + 30
    while not any(f.stat().st_size for f in there.glob(".export.dsave-*/variables/*data*")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    getattr(hosts, how)(victim)
    lost = time.monotonic()
    told = hear() | {"seconds": time.monotonic() - lost}
    if victim != writer:
        told["left"] = [path.name for path in there.iterdir()]
    return told | hear() | hear()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_machine_is_named_at_the_deadline_and_the_others_go_on(stories, fault):
    (_, writer, victim), _ = FAULTS[fault]
    told = stories[fault]
    assert told["error"] in {"StalledError", "HostLostError"}
    assert told["host"] == f"/job:worker/replica:0/task:{victim}"
    assert told["host"] in told["text"]
    assert told["phase"] in {"writing data files", "sending its variables"}
    assert told["seconds"] < 2 * STALL_S + 3
    if victim != writer:
        assert told["left"] == ["export"]
    assert told["host"] not in told["ran"]
    assert len(told["ran"]) == {3: 3, 2: 2, 1: 1}[victim]
    assert told["saved"] == "single"
