"""A sum or a mean on read, handed back to its replicas.

- the shares of a sum are the value divided by their number, those of a mean the value, as
  TensorFlow restores them, but for what is lost by rounding
- they are worth the value again, for every dtype and any number of replicas; but of means that
  so many replicas cannot have, a neighbour
- the remainder of an integer goes to the first replicas, one each
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.model.dtype import DTYPES, dtype_of
from dsave.model.variable import Aggregation, aggregated
from dsave.plan.shares import shares

SUM, MEAN = Aggregation.SUM, Aggregation.MEAN
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
    parts = shares(SUM, value, count)
    assert [(part.dtype, part.shape) for part in parts] == [(value.dtype, value.shape)] * count
    total = aggregated(SUM, parts)
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
    assert [part.item() for part in shares(SUM, np.asarray(value), len(expected))] == expected


def test_a_scalar_stays_a_scalar():
    assert [part.shape for part in shares(SUM, np.array(1, np.int32), 2)] == [(), ()]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -0.0, np.float32(1e-45)])
def test_what_cannot_be_divided_stays_what_it_is(value):
    total = aggregated(SUM, shares(SUM, np.asarray(value, np.float32), 3))
    assert str(total) == str(np.float32(value))


HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
HALVES = HALVES[np.abs(HALVES) < np.finfo(np.float16).max]  # after that one comes none
WIDE = [
    dtype_of(name) for name in ("bfloat16", "float32", "float64", "complex64", "complex128")
]


@pytest.mark.parametrize("count", range(2, 10))
def test_of_every_half_that_is_a_mean_the_shares_have_it(count):
    with np.errstate(all="ignore"):
        means = np.unique(HALVES / np.float16(count))
        parts = np.stack(shares(MEAN, HALVES, count))
        found = aggregated(MEAN, list(parts))
        fits = np.isfinite(HALVES * np.float16(count))
    assert (found == HALVES)[fits & np.isin(HALVES, means)].all()
    exact, spacing = HALVES.astype(float), np.abs(np.spacing(HALVES).astype(float))
    assert (np.abs(found - exact) <= spacing)[fits].all()
    assert (np.abs(parts - exact) <= count**2 / 2 * spacing).all()


@given(st.data(), st.sampled_from(WIDE), st.integers(1, 9))
def test_a_mean_that_so_many_replicas_had_they_have_again(data, dtype, count):
    """An old bug: of 8 replicas every second element was another one after a load."""
    numbers = st.floats(-(2.0**100), 2.0**100)
    if dtype.numpy.kind == "c":
        numbers = st.builds(complex, numbers, numbers)
    lists = st.lists(numbers, min_size=4, max_size=4)
    replicas = [np.array(data.draw(lists)).astype(dtype.numpy) for _ in range(count)]
    mean = aggregated(MEAN, replicas)
    parts = shares(MEAN, mean, count)
    assert [(part.dtype, part.shape) for part in parts] == [(mean.dtype, (4,))] * count
    assert (aggregated(MEAN, parts) == mean).all()


@pytest.mark.parametrize("value", [2.5, -1.0, 0.0, np.inf, -np.inf, np.nan, np.float32(3e38)])
def test_equal_replicas_have_a_mean_where_they_can(value):
    value = np.asarray(value, np.float32)
    for part in shares(MEAN, value, 4):
        np.testing.assert_array_equal(part, value, strict=True)


@pytest.mark.parametrize(("dtype", "large"), [("float8_e4m3fn", 448), ("complex64", 3e38j)])
def test_of_what_has_no_total_each_replica_has_the_value(dtype, large):
    value = np.asarray(large).astype(dtype_of(dtype).numpy)
    assert [part.item() for part in shares(MEAN, value, 3)] == [value.item()] * 3


def test_of_what_has_no_mean_each_replica_has_the_value():
    for aggregation in (Aggregation.ONLY_FIRST_REPLICA, Aggregation.NONE):
        parts = shares(aggregation, np.array([1.5, 7.0]), 3)
        assert [part.tolist() for part in parts] == [[1.5, 7.0]] * 3


def test_a_float_that_is_lost_by_rounding_goes_to_the_last_replica():
    tenth = np.float32(0.1)
    parts = shares(MEAN, np.asarray(tenth), 7)
    assert [part.item() for part in parts[:-1]] == [tenth.item()] * 6
    assert 0 < abs(parts[-1].item() - tenth.item()) < 1e-7


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
        [part.item() for part in shares(SUM, np.asarray(value, dtype), 2)]
        for value, dtype in zip(values, dtypes, strict=True)
    ]
    assert theirs == [*ours[:3], [3, 3], [-3, -3], ours[5]]
    assert ours[3:5] == [[4, 3], [-4, -3]]
