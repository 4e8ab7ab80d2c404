"""How what one host gives is cut in data files, with TensorFlow's own policy as the judge.

- MaxShardSizePolicy gives the files, slices and order of TensorFlow's, for tensors of any rank,
  parts of sharded variables, strings and scalars
- no tensor is lost, and no file is larger than the limit or empty, however small the limit
- what does not fit in a file comes in one of its own, after all others
- dtypes that TensorFlow does not put together from slices, and strings, are kept whole
- tensors without elements are kept
- limits are integers above 0, and the option takes functions only, no classes
- whatever a callback does to a tensor that it may not is an error that names the tensor
"""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsave.errors import OptionError, OptionTypeError
from dsave.model.dtype import DTYPES, dtype_of
from dsave.model.slices import Box
from dsave.options import SaveOptions
from dsave.plan.sharding import (
    MaxShardSizePolicy,
    ShardableTensor,
    ShardByTaskPolicy,
    shards_of,
)

TASK = "/job:worker/replica:0/task:0/device:CPU:0"


def tensor(key, shape, dtype="float32", box=None, nbytes=None):
    kind, box = dtype_of(dtype), box or Box.whole(shape)
    size = box.size * kind.itemsize if nbytes is None else nbytes
    return ShardableTensor(key, kind, shape, box, TASK, size)


def cut(tensors, limit):
    """[(key, slice)] of each file."""
    return listed(tensors, shards_of(tensors, MaxShardSizePolicy(limit)))


def listed(tensors, shards):
    return [[(tensors[n].checkpoint_key, box) for n, box in shard] for shard in shards]


def theirs(tf, tensors, limit):
    """The same as TensorFlow decides it."""
    from tensorflow.python.ops.variables import Variable

    given, boxes = [], {}
    for t in tensors:
        whole = t.box == Box.whole(t.shape)
        if t.dtype.is_string:
            value = tf.constant(b"s" * t.nbytes)
        else:
            value = tf.zeros(t.box.lengths, t.dtype.name)
        given.append(
            tf.train.experimental.ShardableTensor(
                _tensor_save_spec=None,
                tensor=value,
                dtype=value.dtype,
                device="/CPU:0",
                name=t.checkpoint_key,
                shape=value.shape,
                slice_spec="" if whole else t.box.spec(t.shape),
                checkpoint_key=t.checkpoint_key,
                trackable=None,
            )
        )
        boxes[t.checkpoint_key] = Box.whole(t.shape)
    shards = tf.train.experimental.MaxShardSizePolicy(limit)(given)

    def box(key, spec):
        if not spec:
            return boxes[key]
        info = Variable.SaveSliceInfo.from_spec(spec)
        return Box(tuple(info.var_offset), tuple(info.var_shape))

    found = [[(k, box(k, s)) for k, slices in f.items() for s in slices] for f in shards]
    return [file for file in found if file]


# Each is a case of TensorFlow's own tests, or one whose outcome was written down.
CASES = {
    "vectors": [tensor("v0", (4,)), tensor("v1", (5,)), tensor("v2", (3,)), tensor("v3", (4,))],
    "matrices": [tensor("v0", (2, 3)), tensor("v1", (4, 2)), tensor("v2", (1, 2))],
    "scalars": [tensor(f"v{n}", ()) for n in range(5)],
    "strings": [tensor(f"s{n}", (), "string", nbytes=n) for n in (3, 4, 5, 20, 1)],
    "all": [
        tensor("x", (10, 10)),
        tensor("s", (), "string", nbytes=3),
        tensor("z", ()),
        tensor("d", (3,), "float64"),
        tensor("e", (9, 4), box=Box((3, 0), (4, 4))),
        tensor("f", (2, 3, 4), "int8"),
    ],
}


@pytest.mark.tf
@pytest.mark.parametrize("limit", [40, 64, 100, 160, 200, 400, 1000])
def test_files_are_those_of_tensorflow(tf, limit):
    assert cut(CASES["all"], limit) == theirs(tf, CASES["all"], limit)


@pytest.mark.tf
@pytest.mark.parametrize("limit", [8, 10, 16, 18])
@pytest.mark.parametrize("case", ["vectors", "matrices", "scalars", "strings"])
def test_files_of_small_limits_are_those_of_tensorflow(tf, case, limit):
    assert cut(CASES[case], limit) == theirs(tf, CASES[case], limit)


shapes = st.lists(st.integers(1, 7), max_size=3).map(tuple)
numbers = st.tuples(shapes, st.sampled_from(["float32", "int8", "float64", "bfloat16"]))


@st.composite
def any_tensors(draw):
    kinds = draw(st.lists(numbers, min_size=1, max_size=5))
    return [tensor(f"v{n}", shape, dtype) for n, (shape, dtype) in enumerate(kinds)]


@pytest.mark.tf
@settings(max_examples=60)
@given(any_tensors(), st.integers(0, 90))
def test_files_of_any_tensors_are_those_of_tensorflow(tf, tensors, more):
    # With a smaller limit TensorFlow's never ends: no slice fits in an empty file.
    slices = [t.nbytes // max(t.shape) for t in tensors if t.shape]
    limit = max([*slices, 1]) + more
    assert cut(tensors, limit) == theirs(tf, tensors, limit)


@given(any_tensors(), st.integers(1, 300))
def test_no_file_is_larger_than_the_limit_or_empty_however_small_the_limit(tensors, limit):
    shards = shards_of(tensors, MaxShardSizePolicy(limit))  # which sees that nothing is lost
    for shard in shards:
        nbytes = [box.size * tensors[n].dtype.itemsize for n, box in shard]
        assert sum(nbytes) <= limit or len(shard) == 1 == shard[0][1].size
        assert shard


def test_what_is_larger_than_the_limit_gets_files_of_its_own_after_all_others():
    tensors = [tensor("d", (2,), "float64"), tensor("z", (), "int8"), tensor("c", (), "int64")]
    assert cut(tensors, 4) == [
        [("z", Box((), ()))],
        [("d", Box((0,), (1,)))],
        [("d", Box((1,), (1,)))],
        [("c", Box((), ()))],
    ]


def test_where_nothing_fits_along_one_axis_rows_are_cut_until_something_does():
    assert cut([tensor("x", (4, 3), "int8")], 2) == [
        [("x", Box((0, 0), (1, 2)))],
        [("x", Box((0, 2), (1, 1))), ("x", Box((1, 0), (1, 1)))],
        [("x", Box((1, 1), (1, 2)))],
        [("x", Box((2, 0), (2, 1)))],
        [("x", Box((2, 1), (1, 2)))],
        [("x", Box((3, 1), (1, 2)))],
    ]


@pytest.mark.parametrize("dtype", [d.name for d in DTYPES if not d.reassembled])
def test_what_tensorflow_does_not_put_together_is_kept_whole(dtype):
    nbytes = 60 if dtype == "string" else None
    tensors = [tensor("i", (3,), "int8"), tensor("h", (60,), dtype, nbytes=nbytes)]
    limit = tensors[1].nbytes
    assert cut(tensors, limit - 1) == [[("i", Box((0,), (3,)))], [("h", Box((0,), (60,)))]]
    assert cut(tensors, limit) == [[("i", Box((0,), (3,)))], [("h", Box((0,), (60,)))]]
    assert len(cut(tensors, limit + 3)) == 1


def test_tensors_without_elements_are_kept():
    empty = tensor("e", (0, 3))
    assert cut([empty], 1) == [[("e", Box((0, 0), (0, 3)))]]
    assert [len(file) for file in cut([tensor("x", (4,)), empty], 8)] == [1, 2]


def test_by_task_one_host_has_one_file():
    tensors = [tensor("x", (4,)), tensor("h", (4,), "float16")]
    assert listed(tensors, shards_of(tensors, ShardByTaskPolicy())) == [
        [("x", Box((0,), (4,))), ("h", Box((0,), (4,)))]
    ]


@pytest.mark.parametrize("size", [0, -1])
def test_a_limit_below_one_is_refused(size):
    with pytest.raises(OptionError, match=r"^max_shard_size: at least 1 byte"):
        MaxShardSizePolicy(size)


@pytest.mark.parametrize("size", [None, 1.5, "1G", True])
def test_a_limit_that_is_no_integer_is_refused(size):
    with pytest.raises(OptionTypeError, match=r"^max_shard_size: bytes, an int"):
        MaxShardSizePolicy(size)


@pytest.mark.parametrize("given", ["by_task", 100, MaxShardSizePolicy, ShardByTaskPolicy])
def test_an_option_that_is_no_policy_is_refused(given):
    with pytest.raises(OptionError, match=r"^experimental_sharding_callback: a policy, "):
        SaveOptions(experimental_sharding_callback=given)


def test_numpy_integers_are_limits():
    assert cut([tensor("x", (4,))], np.int64(16)) == [[("x", Box((0,), (4,)))]]


def test_a_part_is_counted_from_where_its_tensor_begins():
    part = tensor("x", (10, 8), box=Box((4, 2), (6, 4))).part(0, 1, 2)
    assert (part.box, part.nbytes) == (Box((5, 2), (2, 4)), prod((2, 4, 4)))


X, H = tensor("x", (4, 2)), tensor("h", (4,), "float16")
TASK_1 = TASK.replace("task:0", "task:1")


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ([[X]], "tensor 'h': it is lost"),
        ([[X, H, H]], "tensor 'h': the same of it is returned twice"),
        ([[H, X.part(0, 0, 3)]], "tensor 'x': its slices hold 6 of its 8 elements"),
        ([[H, X.part(0, 0, 3)], [X.part(0, 2, 2)]], "tensor 'x': its slices .* overlap"),
        ([[X], [H.part(0, 0, 2), H.part(0, 2, 2)]], "tensor 'h': it is cut, .* of float16"),
        ([[H, replace(X, shape=(8,), box=Box.whole((8,)))]], "tensor 'x': its shape was"),
        ([[H, replace(X, dtype=dtype_of("int32"))]], "tensor 'x': its dtype was float32"),
        ([[H, replace(X, task=TASK_1)]], "tensor 'x': its task was .*task:0.* and is .*task:1"),
        ([[H, X.part(0, 0, 2), X.part(0, 2, 3)]], "tensor 'x': .* is in nothing"),
        ([[H, X, X.part(1, 0, 0)]], "tensor 'x': .* is in nothing"),
        ([[H, replace(X, box=Box((0,), (4,)))]], "tensor 'x': .* is in nothing"),
        ([[X, H, replace(X, checkpoint_key="y")]], "tensor 'y': it is none of those"),
        ([[X], [], [H]], "file 1 of those that it returns is empty"),
        ([], "tensor 'x': it is lost"),
    ],
)
def test_what_a_callback_may_not_do_is_named(returned, problem):
    with pytest.raises(OptionError, match=f"^experimental_sharding_callback: {problem}"):
        shards_of([X, H], lambda _: returned)


@pytest.mark.parametrize("returned", [None, 3, "xh", [X, H], [{"x": X}], [["x"]], [[X.box]]])
def test_what_is_no_list_of_lists_of_tensors_is_refused(returned):
    with pytest.raises(OptionTypeError, match=r"^experimental_sharding_callback: "):
        shards_of([X, H], lambda _: returned)


def test_a_callback_of_ones_own_decides():
    def reverse(tensors):
        return [(t.part(0, 2, 2), t.part(0, 0, 2)) if t.divisible else (t,) for t in tensors]

    assert listed([X, H], shards_of([X, H], reverse)) == [
        [("x", Box((2, 0), (2, 2))), ("x", Box((0, 0), (2, 2)))],
        [("h", Box((0,), (4,)))],
    ]
