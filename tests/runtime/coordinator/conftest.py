"""Hosts that answer from a table, and two plans for them.

That real hosts do the same is shown by the tests that start a Ray.
"""

import uuid
from concurrent.futures import Future
from dataclasses import replace

import pytest

from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.variable import Component, ShardedVariable, Variable
from dsave.plan.save_plan import Disk, SavePlan, plan_shards
from dsave.runtime import pulses
from dsave.runtime.coordinator import Coordinator
from dsave.runtime.save_messages import HostProgress, Receipt
from dsave.runtime.stream import Endpoint
from dsave.runtime.turns import Turn


class Job:
    """Two hosts, and what they are asked to do.

    `answers` are by (host, verb) or by verb: a value, an exception, a Future that the test will
    end, or a function of the host that returns one of these. None is what a well host answers.
    """

    A, B = (f"/job:w/replica:0/task:{task}" for task in range(2))
    METADATA = {  # noqa: RUF012 - nobody changes it
        "variables/variables.index": b"index",
        "saved_model.pb": b"graph",
    }
    FILES = tuple(f"variables/variables.data-0000{n}-of-00003" for n in range(3))
    ENDPOINT = Endpoint(("127.0.0.1", 1), b"token")

    def __init__(self):
        self.answers = {}
        self.calls = []
        self.written = {}

    def submit(self, host, phase, verb, *args):
        """A call of a host, as the coordinator makes it."""
        assert phase
        if verb != "progress":
            self.calls.append((host, verb, *args))
        answer = self.answers.get((host, verb), self.answers.get(verb))
        if callable(answer):
            answer = answer(host)
        if answer is None and verb == "write":
            answer = Receipt(args[0].index, (), args[0].nbytes, 0.0)
        elif answer is None and verb == "seal":
            answer = 2.0
        elif answer is None and verb == "progress":
            answer = HostProgress(self.written.get(host, 0), 7, 1.5)
        if isinstance(answer, Future):
            return answer
        future = Future()
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def verbs(self, host=None):
        """The verbs that were called, in order."""
        return [call[1] for call in self.calls if host in {None, call[0]}]

    def plan(self, *disks):
        """File 0 of host A, 40 bytes; file 1 of host B, 80; on a disk each, or on these."""
        variables = [
            (name, _variable(name, host, n))
            for name, host, n in [("x", self.A, 10), ("y", self.B, 20)]
        ]
        shards = plan_shards(variables, [self.A, self.B], None, {})
        hosts = disks or ((self.A,), (self.B,))
        return SavePlan("/d", shards, tuple(Disk(group, None) for group in hosts))

    def plan_with_a_source(self):
        """One file, which A writes with bytes of A and of B."""
        float16 = dtype_of("float16")
        parts = tuple(
            Component(f"e{n}", f"{host}/device:GPU:0", f"e{n}", Box((n,), (1,)), float16)
            for n, host in enumerate([self.A, self.B])
        )
        variable = ShardedVariable("e", float16, (2,), parts)
        shards = plan_shards([("e", variable)], [self.A, self.B], None, {})
        return SavePlan("/d", shards, (Disk((self.A,), None),))

    def plan_of_many(self, files):
        """As many files of host A."""
        plan = self.plan((self.A, self.B))
        shards = tuple(
            replace(plan.shards[0], index=n, file=f"variables/variables.data-{n:05}-of-00099")
            for n in range(files)
        )
        return replace(plan, shards=shards)

    def coordinator(self, plan=None, *, seal=None, stall_timeout_s=5.0, turn=None):
        """The coordinator of a save."""
        if turn is None:
            turn = Turn(uuid.uuid4().hex)
            turn.take()
        return Coordinator(
            plan or self.plan(),
            self.submit,
            dict.fromkeys([self.A, self.B], self.ENDPOINT),
            seal or (lambda _receipts: self.METADATA),
            dict.fromkeys([self.A, self.B], 1.0),
            stall_timeout_s,
            turn,
        )

    def carry_out(self, plan=None, **options):
        """A whole save."""
        coordinator = self.coordinator(plan, **options)
        coordinator.run(lambda: None)
        return coordinator

    def fails(self, kind, plan=None, **options):
        """The error of a save that fails."""
        with pytest.raises(kind) as caught:
            self.carry_out(plan, **options)
        return caught.value


def _variable(name, host, size):
    float32 = dtype_of("float32")
    component = Component(name, f"{host}/device:GPU:0", name, Box.whole((size,)), float32)
    return Variable(name, float32, (size,), (component,))


@pytest.fixture
def job(monkeypatch):
    """Two hosts; they are asked more often than usual, so that deadlines can be short."""
    monkeypatch.setattr(pulses, "POLL_S", 0.005)
    monkeypatch.setattr(pulses, "_BLAME_S", 0.1)
    return Job()
