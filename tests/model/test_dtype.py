"""Dtypes: TensorFlow's numbers, sizes and names, carried by numpy.

- numbers, names, sizes and carriers are TensorFlow's own
- a name, a numpy dtype, a scalar type and a DType all name a dtype; byte order does not matter
- plain integers are not quantized ones; TensorFlow's numpy face of those is recognised
- what no SavedModel can hold is refused, None included
- `reassembled` says for which dtypes TensorFlow puts slices together
- `variable` says of which dtypes it has variables
- a dtype that crosses a pickle is the same object
"""

import pickle

import ml_dtypes
import numpy as np
import pytest

from dsave.errors import DtypeError
from dsave.model.dtype import DTYPES, STRING, dtype_numbered, dtype_of


@pytest.mark.tf
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_names_and_sizes_are_those_of_tensorflow(tf, dtype):
    theirs = tf.as_dtype(dtype.number)
    assert theirs.name == dtype.name
    if dtype.is_string:
        assert dtype.itemsize == 0
    else:
        assert np.dtype(theirs.as_numpy_dtype).itemsize == dtype.itemsize


@pytest.mark.tf
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_numpy_dtype_of_tensorflow_names_the_same_dtype(tf, dtype):
    assert dtype_of(np.dtype(tf.as_dtype(dtype.number).as_numpy_dtype)) is dtype


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("float32", "float32"),
        ("half", "float16"),
        (np.float64, "float64"),
        (np.dtype(">i4"), "int32"),
        (ml_dtypes.bfloat16, "bfloat16"),
        ("bfloat16", "bfloat16"),
        (np.int8, "int8"),
        ("qint8", "qint8"),
        (np.dtype([("qint32", "<i4")]), "qint32"),
        (bool, "bool"),
        (object, "string"),
        (np.dtype("U5"), "string"),
        (np.dtype("S5"), "string"),
        (STRING, "string"),
    ],
)
def test_many_things_name_a_dtype(given, name):
    assert dtype_of(given).name == name


@pytest.mark.parametrize(
    "given",
    [
        None,
        "float33",
        "datetime64[s]",
        np.longdouble,
        np.dtype([("qint8", "<i4")]),
        [("float32", "<f4"), ("more", "<f4")],
        3,
    ],
)
def test_what_a_savedmodel_cannot_hold_is_refused(given):
    with pytest.raises(DtypeError, match="a SavedModel cannot hold it; it can hold float32, "):
        dtype_of(given)


@pytest.mark.parametrize("number", [0, 20, 21, 34, 101, -1])
def test_numbers_that_no_tensor_has_are_refused(number):
    with pytest.raises(DtypeError, match=f"number {number}"):
        dtype_numbered(number)


def test_every_number_names_its_dtype():
    assert [dtype_numbered(dtype.number) for dtype in DTYPES] == list(DTYPES)


def test_a_mean_is_an_element_of_floats_and_complex_numbers_only():
    assert {dtype.name for dtype in DTYPES if dtype.is_float} == {
        "float16", "float32", "float64", "bfloat16", "complex64", "complex128",
        "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz",
        "float8_e5m2fnuz", "float4_e2m1fn",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dtype_survives_pickle_as_itself(dtype):
    assert pickle.loads(pickle.dumps(dtype)) is dtype


@pytest.mark.tf
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reassembled_is_what_tensorflow_puts_together(tf, tmp_path, dtype):
    carried = np.zeros(1, dtype.numpy)
    if dtype.is_string:
        half = tf.constant(["a"])
    elif dtype.name.startswith("q"):
        half = tf.bitcast(carried, tf.as_dtype(dtype.number))
    else:
        half = tf.constant(carried)
    prefixes = [str(tmp_path / f"part-{index}") for index in range(2)]
    for index, prefix in enumerate(prefixes):
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=["x"], shape_and_slices=[f"2 {index},1"], tensors=[half]
        )
    merged = str(tmp_path / "merged")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=merged)

    def restored():
        return tf.raw_ops.RestoreV2(
            prefix=merged,
            tensor_names=["x"],
            shape_and_slices=[""],
            dtypes=[tf.as_dtype(dtype.number)],
        )

    if dtype.reassembled:
        assert restored()[0].shape == (2,)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="not supported"):
            restored()


@pytest.mark.tf
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensorflow_has_variables_of_these_dtypes_alone(tf, dtype):
    handle = tf.raw_ops.VarHandleOp(dtype=dtype.number, shape=[1], shared_name=dtype.name)
    value = tf.make_tensor_proto([b""])
    if not dtype.is_string:
        value.dtype, value.tensor_content = dtype.number, b"\0" * dtype.itemsize
        del value.string_val[:]
    tensor = tf.io.parse_tensor(value.SerializeToString(), tf.as_dtype(dtype.number))
    if dtype.variable:
        tf.raw_ops.AssignVariableOp(resource=handle, value=tensor)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="AssignVariableOp"):
            tf.raw_ops.AssignVariableOp(resource=handle, value=tensor)
