"""What is saved is what TensorFlow reads, bit for bit.

Claims: for every dtype and every kind of variable, under every policy and by every route, a
checkpoint holds the value, and so does the variable that TensorFlow makes of it, unless it
has no variables of that dtype.
"""

import ml_dtypes
import numpy as np
import pytest

import dsave
from dsave.model.dtype import DTYPES

pytestmark = [pytest.mark.ray, pytest.mark.tf]

SHAPE = (5, 3)

NO_VARIABLES = {dtype.name for dtype in DTYPES if not dtype.variable}
"""TensorFlow 2.21 stores tensors of these, and has no op that assigns them to a variable."""

NARROW = {"int2", "uint2", "int4", "uint4", "float4_e2m1fn"}
FLOATS = {d.name for d in DTYPES if "float" in d.name or "complex" in d.name}
TINY = NARROW | {name for name in FLOATS if name.startswith("float8")}

ROUTES = {
    "own": None,
    "worker": "/job:worker/task:1/device:CPU:0",
    "caller": "/job:localhost",
}


def arbitrary(dtype, seed):
    """Any bits that an array of the dtype may have: numbers, NaNs, infinities; any strings."""
    count = int(np.prod(SHAPE))
    random = np.random.default_rng(seed)
    if dtype.name == "string":
        words = [random.bytes(int(n)) for n in random.integers(0, 200, count)]
        return np.array([*words[:-2], b"", b"\0\0"], object).reshape(SHAPE)
    if dtype.name == "bool":
        return random.integers(0, 2, SHAPE).astype(bool)
    if dtype.name in NARROW:
        low, high = {"int2": (-2, 2), "int4": (-8, 8), "uint2": (0, 4)}.get(dtype.name, (0, 16))
        numbers = random.integers(low, high, SHAPE)
        if dtype.name == "float4_e2m1fn":
            return numbers.astype(np.uint8).view(ml_dtypes.float4_e2m1fn)
        return numbers.astype(dtype.numpy)
    return np.frombuffer(random.bytes(count * dtype.itemsize), dtype.numpy).reshape(SHAPE)


def replicas(dtype):
    """Four arrays that differ, their sum, and their mean: all exact in the dtype."""
    index = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    if dtype.name in TINY:
        numbers = [index % 2, 0 * index, 1 - index % 2, 0 * index]
        if dtype.name in FLOATS:
            numbers[1] = numbers[0]  # 2 or 1, and a mean of 0.5 or 0.25
            numbers[3] = 1 - index % 2
    else:
        numbers = [index, 8 + index, 4 * (index % 3), 4 * ((index + 1) % 4) - 2 * index]
        numbers = [4 * n if dtype.name in FLOATS else n % 29 for n in numbers]
    total = sum(numbers)
    if dtype.name.startswith("complex"):
        numbers, total = [n * (1 + 2j) for n in numbers], total * (1 + 2j)
    return [n.astype(dtype.numpy) for n in numbers], total


@pytest.fixture(scope="module")
def everything(pair, gpus):
    """(model, values by kind and dtype's name)."""
    model, expected = dsave.Module(), {}
    for number, dtype in enumerate(DTYPES):

        def put(kind, variable, value, name=dtype.name):
            vars(model).setdefault(kind, {})[name] = variable
            expected[kind, name] = value

        value = arbitrary(dtype, number)
        with pair.device(gpus[number % 4]):
            put("plain", pair.variable(value, dtype.name, dtype=dtype.name), value)
        value = arbitrary(dtype, number + 100)
        put("mirrored", pair.mirrored_variable(value, dtype.name, dtype=dtype.name), value)
        value = arbitrary(dtype, number + 200)
        sharded = pair.sharded_variable(value, dtype.name, dtype=dtype.name, devices=gpus)
        put("sharded", sharded, value)

        first = [arbitrary(dtype, number + 300 + replica) for replica in range(4)]
        put("first", on_read(pair, gpus, dtype, "only_first_replica", first), first[0])
        if dtype.name not in {"bool", "string"}:
            arrays, total = replicas(dtype)
            put("sum", on_read(pair, gpus, dtype, "sum", arrays), total.astype(dtype.numpy))
        if dtype.name in FLOATS:
            put(
                "mean",
                on_read(pair, gpus, dtype, "mean", arrays),
                (total / 4).astype(dtype.numpy),
            )
    return model, expected


def on_read(cluster, gpus, dtype, aggregation, arrays):
    variable = cluster.sync_on_read_variable(
        arrays[0], dtype.name, aggregation=aggregation, dtype=dtype.name
    )
    for device, array in zip(gpus, arrays, strict=True):
        cluster.assign(variable, array, device=device)
    return variable


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_tensorflow_reads_what_was_saved(
    pair, everything, tmp_path, tf, stored, see, policy, route
):
    options = dsave.SaveOptions(
        experimental_io_device=ROUTES[route], experimental_variable_policy=policy
    )
    model, expected = everything
    result = dsave.save(model, tmp_path, options=options, cluster=pair)
    assert result.layout == "single"
    assert stored(tmp_path) == {
        f"{kind}/{name}/.ATTRIBUTES/VARIABLE_VALUE": see.bits(value)
        for (kind, name), value in expected.items()
    }
    types = dict(tf.train.list_variables(f"{tmp_path}/variables/variables"))
    assert all(types[f"{k}/{n}/.ATTRIBUTES/VARIABLE_VALUE"] == [*SHAPE] for k, n in expected)
    loaded = tf.saved_model.load(str(tmp_path))
    for (kind, name), value in expected.items():
        if name not in NO_VARIABLES:
            variable = getattr(loaded, kind)[name]
            assert variable.dtype.name == name
            assert see.bits(variable.numpy()) == see.bits(value)


def test_values_of_which_tensorflow_has_no_variables_are_named_in_a_warning(
    pair, tmp_path, tf, caplog
):
    model = dsave.Module()
    model.q = pair.variable(np.zeros(1), "q", dtype="qint16")
    model.v = pair.variable(1.0, "v")
    dsave.save(model, tmp_path / "export", cluster=pair)
    (record,) = (r for r in caplog.records if r.name == "dsave.save")
    assert record.levelname == "WARNING"
    assert "q (qint16)" in record.getMessage()
    assert "v (float32)" not in record.getMessage()
    assert tf.saved_model.load(str(tmp_path / "export")).v.numpy() == 1.0
