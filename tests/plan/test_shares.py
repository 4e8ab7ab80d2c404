"""A sum on read, handed back to its replicas.

- the shares are the value divided by their number, as TensorFlow restores them
- their sum is the value again, for every dtype that has sums and any number of replicas
- the remainder of an integer goes to the first replicas, one each
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from dsave.model.dtype import DTYPES
from dsave.model.variable import Aggregation, aggregated
from dsave.plan.shares import shares

SUMMED = [dtype for dtype in DTYPES if dtype.name not in {"string", "bool"}]
NARROW = {"int2", "uint2", "int4", "uint4", "float4_e2m1fn"}


def values(dtype):
    if dtype.name in NARROW:
        lowest = {"int2": -2, "int4": -8}.get(dtype.name, 0)
        return np.arange(lowest, {"int2": 2, "int4": 8}.get(dtype.name, 4)).astype(dtype.numpy)
    raw = np.random.default_rng(dtype.number).bytes(999 * dtype.itemsize)
    return np.concatenate([np.frombuffer(raw, dtype.numpy), np.zeros(1, dtype.numpy)])


@pytest.mark.parametrize("dtype", SUMMED, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_the_sum_of_the_shares_is_the_value(dtype, count):
    value = values(dtype)
    parts = shares(value, count)
    assert [(part.dtype, part.shape) for part in parts] == [(value.dtype, value.shape)] * count
    total = aggregated(Aggregation.SUM, parts)
    with np.errstate(invalid="ignore"):
        same = (total == value) | ((total != total) & (value != value))  # noqa: PLR0124
    assert same.all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (33.0, [16.5, 16.5]),
        (33, [17, 16]),
        (-33, [-17, -16]),
        (8, [3, 3, 2]),
        (-8, [-3, -3, -2]),
        (2, [1, 1, 0, 0]),
        (-1, [-1, 0, 0]),
        (np.int64(-(2**63)), [-(2**62), -(2**62)]),
        (np.uint64(2**64 - 1), [2**63, 2**63 - 1]),
        (np.int8(-128), [-64, -64]),
        (np.complex64(3 - 1j), [1.5 - 0.5j, 1.5 - 0.5j]),
    ],
)
def test_each_replica_gets_its_share_and_the_first_the_remainder(value, expected):
    assert [part.item() for part in shares(np.asarray(value), len(expected))] == expected


def test_a_scalar_stays_a_scalar():
    assert [part.shape for part in shares(np.array(1, np.int32), 2)] == [(), ()]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -0.0, np.float32(1e-45)])
def test_what_cannot_be_divided_stays_what_it_is(value):
    total = aggregated(Aggregation.SUM, shares(np.asarray(value, np.float32), 3))
    assert str(total) == str(np.float32(value))


RESTORED_BY_TENSORFLOW = """
import json, sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
restored = []
for value in json.loads(sys.argv[1]):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        variable = tf.Variable(
            value,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
    path = tf.train.Checkpoint(v=tf.Variable(value)).save(sys.argv[2] + "/checkpoint")
    tf.train.Checkpoint(v=variable).restore(path)
    restored.append([component.numpy().item() for component in variable.values])
print(json.dumps(restored))
"""


@pytest.mark.tf
def test_tensorflow_restores_the_same_shares_but_for_the_remainder(tf, tmp_path):
    del tf  # a process of its own, whose TensorFlow has two CPUs
    values = [33.0, 0.1, 1e30, 7, -7, 8]
    command = [sys.executable, "-c", RESTORED_BY_TENSORFLOW, json.dumps(values), str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = json.loads(printed.splitlines()[-1])
    dtypes = [np.float32 if isinstance(value, float) else np.int32 for value in values]
    ours = [
        [part.item() for part in shares(np.asarray(value, dtype), 2)]
        for value, dtype in zip(values, dtypes, strict=True)
    ]
    assert theirs == [*ours[:3], [3, 3], [-3, -3], ours[5]]
    assert ours[3:5] == [[4, 3], [-4, -3]]
