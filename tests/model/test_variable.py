"""What the replicas of a variable are worth together, and what a variable says of itself.

- a sum is taken from the first replica to the last, in the variable's own dtype; integers wrap
- a mean is the sum over the number of replicas, in that dtype
- only_first_replica and none take the first replica as it is
- inf and nan are values like any other: no warning
- an aggregation is named in any case
- where a variable is shown it is one line: its kind, name, dtype, shape and places
- what is no variable is refused
"""

import ml_dtypes
import numpy as np
import pytest

from dsave.errors import OptionError, OptionTypeError
from dsave.model import new_variable
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    Synchronization,
    SyncOnReadVariable,
    Variable,
    aggregated,
    check_variable,
)

SUM, MEAN, FIRST = Aggregation.SUM, Aggregation.MEAN, Aggregation.ONLY_FIRST_REPLICA
WORKER_1 = "/job:worker/replica:0/task:1"


def worth(aggregation, dtype, *replicas):
    value = aggregated(aggregation, [np.array(replica, dtype) for replica in replicas])
    assert value.dtype == dtype
    return value.tolist()


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [(SUM, 33.0), (MEAN, 16.5), (FIRST, 11.0), (Aggregation.NONE, 11.0)],
)
def test_two_replicas_are_worth_what_tensorflow_stores(aggregation, value):
    assert worth(aggregation, np.float32, 11, 22) == value


@pytest.mark.parametrize(
    ("dtype", "replicas", "total"),
    [
        (np.int8, [[100, 1], [100, 2]], [-56, 3]),
        (np.uint8, [[200], [100]], [44]),
        (np.int32, [2**31 - 1, 1], -(2**31)),
        (np.uint64, [2**64 - 1, 2], 1),
    ],
)
def test_integer_sums_wrap(dtype, replicas, total):
    assert worth(SUM, dtype, *replicas) == total


def test_a_sum_starts_with_the_first_replica():
    assert worth(SUM, np.float32, 1e8, 1, -1e8) == 0.0
    assert worth(SUM, np.float32, 1e8, -1e8, 1) == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_a_mean_keeps_the_dtype(dtype):
    assert worth(MEAN, dtype, [1, 2], [2, 4]) == [1.5, 3.0]


def test_a_mean_of_three_is_rounded_in_its_own_dtype():
    assert worth(MEAN, ml_dtypes.bfloat16, 1, 0, 0) == 0.333984375


def test_bfloat16_adds_in_bfloat16():
    assert worth(SUM, ml_dtypes.bfloat16, 256, 1, 1) == 256.0


def test_complex_values_are_added_and_averaged():
    assert worth(SUM, np.complex64, 1 + 2j, 3 - 4j) == 4 - 2j
    assert worth(MEAN, np.complex64, 1 + 2j, 3 - 4j) == 2 - 1j


@pytest.mark.parametrize("aggregation", [SUM, MEAN])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_inf_and_nan_are_values_like_any_other(aggregation, dtype):
    value = worth(aggregation, dtype, [np.inf, np.inf, np.nan], [1, -np.inf, 1])
    assert value[0] == np.inf
    assert np.isnan(value[1:]).all()


def test_a_float_sum_overflows_to_inf():
    assert worth(SUM, np.float16, 60000, 60000) == np.inf


@pytest.mark.parametrize("aggregation", [SUM, MEAN, FIRST])
def test_one_replica_is_worth_itself(aggregation):
    assert worth(aggregation, np.float32, [[1.0, 2.0]]) == [[1.0, 2.0]]


@pytest.mark.parametrize("aggregation", [SUM, MEAN])
def test_replicas_are_not_changed(aggregation):
    replicas = [np.array([1.0]), np.array([2.0])]
    aggregated(aggregation, replicas)
    assert [replica.tolist() for replica in replicas] == [[1.0], [2.0]]


def test_a_scalar_stays_an_array():
    for aggregation in (SUM, MEAN):
        value = aggregated(aggregation, [np.array(1.0), np.array(2.0)])
        assert isinstance(value, np.ndarray)
        assert value.shape == ()


@pytest.mark.tf
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64"])
def test_tensorflow_adds_and_averages_to_the_same_bits(tf, name):
    dtype = dtype_of(name).numpy
    replicas = [np.array([0.1 * i, 3.3 * i, 1e3 / (i + 1)], dtype) for i in range(1, 4)]
    a, b, c = (tf.constant(replica, name) for replica in replicas)
    assert aggregated(SUM, replicas).tobytes() == (a + b + c).numpy().tobytes()
    assert aggregated(MEAN, replicas).tobytes() == ((a + b + c) / 3).numpy().tobytes()


@pytest.mark.parametrize("given", ["sum", "SUM", "Sum", SUM])
def test_an_aggregation_is_named_in_any_case(given):
    assert Aggregation.from_obj(given) is SUM


@pytest.mark.parametrize("given", ["total", "", None, 1, b"sum"])
def test_what_names_no_aggregation_is_refused(given):
    with pytest.raises(OptionError, match=r"none, sum, mean, only_first_replica$"):
        Aggregation.from_obj(given)


@pytest.mark.tf
def test_the_numbers_are_tensorflows(tf):
    for ours, theirs in (
        (Aggregation, tf.VariableAggregation),
        (Synchronization, tf.VariableSynchronization),
    ):
        named = {
            name: getattr(theirs, name).value
            for name in ours.__members__
            if hasattr(theirs, name)
        }
        assert len(named) == 4
        assert {name: int(member) for name, member in ours.__members__.items()} == named


def made(kind=Variable, dtype="float32", shape=(2, 3)):
    device = f"{WORKER_1}/device:GPU:0"
    component = Component("v", device, "v", Box.whole(shape), dtype_of(dtype))
    return kind("v", dtype_of(dtype), shape, (component,))


def test_a_variable_is_on_the_device_of_its_first_component():
    assert made().device == f"{WORKER_1}/device:GPU:0"
    assert made().components[0].host == WORKER_1


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes"),
    [("float32", (2, 3), 24), ("bfloat16", (), 2), ("int4", (3,), 3), ("string", (5,), 0)],
)
def test_a_variable_knows_the_bytes_it_takes_on_disk(dtype, shape, nbytes):
    assert made(dtype=dtype, shape=shape).nbytes == nbytes


@pytest.mark.parametrize(
    ("kind", "synchronization", "trainable"),
    [
        (Variable, 0, True),
        (ShardedVariable, 1, True),
        (MirroredVariable, 2, True),
        (SyncOnReadVariable, 3, False),
    ],
)
def test_each_kind_has_tensorflows_synchronization(kind, synchronization, trainable):
    assert (made(kind).synchronization, made(kind).trainable) == (synchronization, trainable)


def test_variables_are_compared_by_identity():
    one, other = made(), made()
    assert one != other
    assert len({one, other, one}) == 2


def test_where_a_variable_is_shown_it_is_one_line():
    devices = [f"/job:worker/replica:0/task:{t}/device:GPU:{g}" for t in (0, 1) for g in (0, 1)]
    float32, key = dtype_of("float32"), iter("abcdefgh").__next__
    w = new_variable.mirrored(
        "w", float32, (64, 10), devices, key, trainable=True, aggregation="none"
    )
    e = new_variable.sharded("e", float32, (4,), devices, key, trainable=True)
    assert repr(w) == "<MirroredVariable w: float32 (64, 10) on worker:0-1 GPU:0-1>"
    assert str(e) == "<ShardedVariable e: float32 (4,) on worker:0-1 GPU:0-1>"
    assert repr(e.components[1]) == "<Component e/part_1: float32 (1,) on worker:0 GPU:1>"


def test_what_is_no_variable_is_refused():
    with pytest.raises(OptionTypeError, match="a variable is wanted, got 'w'"):
        check_variable("w")
