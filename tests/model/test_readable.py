"""Variables in numpy expressions.

- a variable, or a component of one, stands for what the reader in force says
- operators, numpy's functions, indexing and the usual methods all ask the reader
- without a reader the error names the variable and says what reads it
- an expression cannot write to a variable
- variables still are compared, hashed and pickled as descriptions
"""

import pickle

import numpy as np
import pytest

from dsave.errors import ModelError
from dsave.model import readable
from dsave.model.dtype import dtype_of
from dsave.model.new_variable import mirrored, plain
from dsave.model.readable import reading, reading_eagerly, supply_reader, value_of

HERE = "/job:worker/replica:0/task:0/device:CPU:0"
VALUE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def w():
    return plain("w", dtype_of("float32"), (2, 3), HERE, lambda: "key", trainable=True)


@pytest.fixture
def reads():
    """What was read, while a reader is in force that gives VALUE."""
    asked = []

    def read(variable):
        asked.append(variable)
        return VALUE

    with reading(read):
        yield asked


@pytest.mark.parametrize(
    "expression",
    [
        lambda w: w + 1,
        lambda w: 2 - w,
        lambda w: np.ones((4, 2), np.float32) @ w,
        lambda w: -w,
        abs,
        lambda w: w**2,
        lambda w: w > 2,
        np.tanh,
        lambda w: np.equal(w, VALUE),
        lambda w: np.sum(w, axis=0),
        lambda w: np.concatenate([w, w], axis=1),
        lambda w: np.where(w > 1, w, 0),
        lambda w: np.einsum("ij,kj->ik", w, w),
        np.asarray,
        lambda w: w[0],
        lambda w: w[:, 1:],
        lambda w: w[[1, 0]],
        lambda w: w.T,
        lambda w: [w.ndim, w.size],
        lambda w: w.astype(np.int32),
        lambda w: w.reshape(3, 2),
        lambda w: w.transpose(1, 0),
        lambda w: w.sum(axis=1),
        lambda w: w.mean(),
        lambda w: w.max(0),
        lambda w: w.min(keepdims=True),
        lambda w: [row.sum() for row in w],
    ],
)
def test_a_variable_stands_for_its_value(w, reads, expression):
    np.testing.assert_array_equal(expression(w), expression(VALUE))
    assert set(reads) == {w}


def test_a_component_stands_for_its_array(reads):
    devices = [HERE, HERE.replace("task:0", "task:1")]
    v = mirrored(
        "v",
        dtype_of("float32"),
        (2, 3),
        devices,
        iter("ab").__next__,
        trainable=True,
        aggregation="none",
    )
    np.testing.assert_array_equal(v.components[1] * 2, VALUE * 2)
    assert reads == [v.components[1]]
    assert v.components[1].dtype == v.dtype


def test_two_variables_meet_in_one_expression(w, reads):
    other = plain("b", dtype_of("float32"), (2, 3), HERE, lambda: "b", trainable=True)
    np.testing.assert_array_equal(w + other, VALUE + VALUE)
    assert reads == [w, other]


@pytest.mark.parametrize(
    "expression", [lambda w: w + 1, np.sum, np.asarray, lambda w: w[0], lambda w: w.T]
)
def test_without_a_reader_the_error_says_what_reads_it(w, expression, monkeypatch):
    monkeypatch.setattr(readable, "_eager", [])
    with pytest.raises(ModelError, match=r"^w: .*cluster\.read.*dsave\.function"):
        expression(w)


def test_a_reader_is_in_force_until_its_block_ends(w):
    with reading(lambda _: 1), reading(lambda _: 2):
        assert value_of(w) == 2
    with pytest.raises(ModelError):
        value_of(w)


def test_the_supplied_reader_is_for_functions_that_run_outside_of_any_other(w, monkeypatch):
    monkeypatch.setattr(readable, "_eager", [])
    supply_reader(lambda _: "supplied")
    with pytest.raises(ModelError):
        value_of(w)
    with reading_eagerly():
        assert value_of(w) == "supplied"
        with reading(lambda _: "traced"), reading_eagerly():
            assert value_of(w) == "traced"


def test_what_is_no_variable_is_its_own_value():
    assert value_of(VALUE) is VALUE
    assert value_of(None) is None


def test_an_expression_cannot_write_to_a_variable(w, reads):
    with pytest.raises(ModelError, match=r"^w: .*cluster\.assign"):
        w += 1
    with pytest.raises(ModelError, match=r"^w: .*cluster\.assign"):
        np.add(VALUE, 1, out=w)
    assert not reads


def test_equality_is_that_of_descriptions_and_reads_nothing(w):
    other = plain("w", dtype_of("float32"), (2, 3), HERE, lambda: "key", trainable=True)
    same = w
    assert (w == same, w == other, w != other) == (True, False, True)
    assert len({w, other}) == 2
    assert w.components == other.components
    assert w in [other, w]


def test_a_variable_survives_a_pickle(w):
    copy = pickle.loads(pickle.dumps(w))
    assert (copy.name, copy.shape, copy.components) == (w.name, w.shape, w.components)
    with reading(lambda _: VALUE):
        np.testing.assert_array_equal(copy + 1, VALUE + 1)
