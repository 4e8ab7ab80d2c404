"""Functions of TensorFlow that branch and loop, run by numpy.

- branches, cases and loops follow the values, with variables, and stateful ones too
- lists of tensors are filled and read, elements that were never set are zeros
- an assertion that does not hold is an error with its message
- what depends on values is no part of a trace; what does not, is
- arithmetic that fails is an error that names function and node
"""

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.tf

F32 = "float32"


@pytest.fixture(scope="module")
def both(tf, tmp_path_factory):
    """(the model of TensorFlow, what dsave loads of it)."""
    model = tf.Module()
    model.w = tf.Variable([1.0, 2.0], name="w")
    vector, scalar = tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)

    def function(*signature):
        def named(code):
            made = tf.function(code, input_signature=signature)
            setattr(model, code.__name__, made)
            return made

        return named

    @function(vector)
    def branch(x):
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * model.w, lambda: x - 1.0)

    @function(scalar, vector)
    def case(place, x):
        return tf.switch_case(place, [lambda: x, lambda: -x, lambda: x * model.w])

    @function(vector)
    def loop(x):
        steps = tf.constant(0)
        while tf.reduce_max(x) < 10.0:
            x = x * model.w + 1.0
            steps += 1
            if steps > 20:
                tf.debugging.assert_less(steps, 22)  # which makes it stateful
        return x, steps

    @function(vector)
    def squares(x):
        return tf.map_fn(
            lambda each: [each * each, each + model.w], x, [tf.float32, tf.float32]
        )

    @function(scalar, vector)
    def sparse(count, x):
        held = tf.TensorArray(tf.float32, count, element_shape=[2])
        held = held.write(1, x).write(3, x * 2.0)
        return held.stack(), held.gather([3, 0]), held.size()

    @function(vector)
    def growing(x):
        held = tf.TensorArray(tf.float32, 0, dynamic_size=True)
        for each in x:
            held = held.write(held.size(), each * 2.0)
        return held.stack()

    @function(vector)
    def ranks(x):
        shapes = [tf.TensorShape(None)]
        (x,) = tf.while_loop(lambda x: tf.rank(x) < 3, lambda x: [x[None]], [x], shapes)
        return tf.rank(x), tf.reshape(x, [-1, 2])

    @function(tf.TensorSpec([None, None], tf.float32))
    def ensured(x):
        return tf.ensure_shape(x, [None, 2])

    @function(vector)
    def checked(x):
        tf.debugging.assert_positive(x, "only positive ones")
        return tf.sqrt(x)

    @function(scalar)
    def constant(x):
        return tf.cond(tf.constant(True), lambda: x + 1, lambda: x - 1)

    directory = str(tmp_path_factory.mktemp("tf") / "flow")
    tf.saved_model.save(model, directory)
    return model, dsave.load(directory)


def results(value):
    """Nested lists of numbers."""
    if isinstance(value, dict):
        return {key: results(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [results(each) for each in value]
    return np.asarray(value).tolist()


def vector(*numbers):
    return np.array(numbers, np.float32)


CALLS = {
    "the first branch": ("branch", vector(1.0, 2.0)),
    "the second branch": ("branch", vector(1.0, -2.0)),
    "the first case": ("case", np.int32(0), vector(1.0, 2.0)),
    "the last case": ("case", np.int32(2), vector(1.0, 2.0)),
    "a case that there is not": ("case", np.int32(-1), vector(1.0, 2.0)),
    "a loop": ("loop", vector(1.0, 0.5)),
    "a loop that ends before it begins": ("loop", vector(10.0, 10.0)),
    "a map": ("squares", vector(1.0, 2.0, 3.0)),
    "a list with holes": ("sparse", np.int32(5), vector(1.0, 2.0)),
    "a list that grows": ("growing", vector(1.0, 2.0, 3.0)),
    "a loop that adds axes": ("ranks", vector(1.0, 2.0)),
    "a shape as it should be": ("ensured", np.ones((3, 2), np.float32)),
    "an assertion that holds": ("checked", vector(1.0, 4.0)),
    "a condition that is known": ("constant", np.int32(4)),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_follows_values_is_what_tensorflow_computes(both, call):
    theirs, ours = both
    name, *arguments = CALLS[call]
    assert ours.load_notes == ()
    found, wanted = (getattr(model, name)(*arguments) for model in (ours, theirs))
    assert results(found) == results(wanted)


def test_an_assertion_that_does_not_hold_is_an_error_with_its_message(both):
    with pytest.raises(dsave.ModelError, match=r"function checked, node .*only positive ones"):
        both[1].checked(vector(1.0, -4.0))


def test_a_shape_that_is_not_as_it_should_be_is_an_error(both):
    with pytest.raises(
        dsave.ModelError, match=r"ensured, .*\[None, 2\] is wanted, got \[3, 1\]"
    ):
        both[1].ensured(np.ones((3, 1), np.float32))


def test_arithmetic_that_fails_names_the_function_and_the_node(both):
    with pytest.raises(
        dsave.ModelError, match=r"function branch, node cond/mul: Mul cannot be run: "
    ):
        both[1].branch(vector(1.0, 2.0, 3.0))


@pytest.mark.parametrize("name", ["branch", "loop"])
def test_what_depends_on_values_is_no_part_of_a_trace(both, name):
    calling = dsave.function(lambda x: [getattr(both[1], name)(x)])
    with pytest.raises(dsave.TraceError, match="a condition on a tensor"):
        calling.get_concrete_function(dsave.TensorSpec([2], F32))


def test_what_does_not_depend_on_values_is_part_of_a_trace(both):
    calling = dsave.function(lambda x: both[1].constant(x) * 2)
    concrete = calling.get_concrete_function(dsave.TensorSpec([], "int32"))
    assert [node.op for node in concrete.graph.nodes if node.op != "Const"] == [
        "Placeholder",
        "AddV2",
        "Mul",
    ]
    assert concrete(np.int32(4)) == 10
