"""Variables in numpy expressions.

- a variable, or a component of one, stands for what the reader in force says
- operators, numpy's functions, indexing and the usual methods all ask the reader
- without a reader the error names the variable and says what reads it; so does that for
  what TensorFlow's variables have and these have not
- an expression cannot write to a variable
- where a reader is in force `==` and conditions are those of values, elsewhere of descriptions
- variables are always hashed and pickled as descriptions, and looked up as such by readers
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
        lambda w: w == 3,
        lambda w: w != VALUE,
        lambda w: np.not_equal(VALUE, w),
        lambda w: w.mT,
        lambda w: w.dot(np.ones(3)),
        lambda w: w.flatten().squeeze().clip(1, 2),
        lambda w: [w.std(), w.var(), w.argmax(), len(w)],
        lambda w: w.tolist(),
    ],
)
def test_a_variable_stands_for_its_value(w, reads, expression):
    np.testing.assert_array_equal(expression(w), expression(VALUE))
    assert set(reads) == {w}


@pytest.mark.parametrize(
    "expression",
    [
        bool,
        int,
        float,
        complex,
        lambda n: [7, 8, 9][n],
        lambda n: "a" if n == 1 else "b",
        lambda n: "a" if n != 1 else "b",
        lambda n: n in (0, 1),
    ],
)
@pytest.mark.parametrize("value", [0, 1])
def test_python_has_the_value_of_a_scalar(expression, value):
    n = plain("n", dtype_of("int32"), (), HERE, lambda: "n", trainable=False)
    with reading(lambda _: np.array(value, np.int32)):
        assert expression(n) == expression(value)


def on_two_devices():
    return mirrored(
        "v",
        dtype_of("float32"),
        (2, 3),
        [HERE, HERE.replace("task:0", "task:1")],
        iter("ab").__next__,
        trainable=True,
        aggregation="none",
    )


def test_a_component_stands_for_its_array(reads):
    v = on_two_devices()
    np.testing.assert_array_equal(v.components[1] * 2, VALUE * 2)
    np.testing.assert_array_equal(v.components[1] == 2, VALUE == 2)
    del reads[1:]
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


@pytest.mark.parametrize("name", ["numpy", "value", "assign"])
def test_habits_from_tensorflow_are_told_what_reads_and_assigns(w, name):
    hint = rf"no '{name}': .*cluster\.read.*cluster\.assign.*host\.value.*dsave\.function"
    with pytest.raises(AttributeError, match=hint):
        getattr(w, name)()


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


def test_without_a_reader_equality_is_that_of_descriptions(w):
    other = plain("w", dtype_of("float32"), (2, 3), HERE, lambda: "key", trainable=True)
    same = w
    assert (w == same, w == other, w != other) == (True, False, True)
    assert len({w, other}) == 2
    assert w.components == other.components
    assert hash(w.components) == hash(other.components)
    assert w.components != on_two_devices().components
    assert w in [other, w]
    assert [other, w].index(w) == 1
    assert w
    assert plain("n", dtype_of("int32"), (), HERE, lambda: "n", trainable=False)


def test_readers_have_variables_as_keys(w):
    copy = pickle.loads(pickle.dumps(w))
    with reading({w: VALUE, w.components[0]: VALUE}.__getitem__):
        np.testing.assert_array_equal(w == 2, VALUE == 2)
        # A component is known by its fields, whoever has it.
        np.testing.assert_array_equal(copy.components[0] == 2, VALUE == 2)
        with pytest.raises(KeyError):
            copy + 1


def test_what_is_not_of_arrays_is_no_attribute(w):
    with pytest.raises(AttributeError, match="a variable has no 'mystery'"):
        _ = w.mystery
    assert not hasattr(w, "mystery")
    with pytest.raises(AttributeError):
        w.__array_interface__  # noqa: B018


def test_a_variable_survives_a_pickle(w):
    copy = pickle.loads(pickle.dumps(w))
    assert (copy.name, copy.shape, copy.components) == (w.name, w.shape, w.components)
    with reading(lambda _: VALUE):
        np.testing.assert_array_equal(copy + 1, VALUE + 1)
