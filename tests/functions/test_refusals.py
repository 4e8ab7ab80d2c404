"""What no graph expresses of a function that can be traced is an error, and says what.

That an error names the user's line is tested where traces are: test_tracing.py.
"""

import re

import ml_dtypes
import numpy as np
import pytest

from dsave import TensorSpec, TraceError, function, ops

X = TensorSpec([None, 4], name="x")

REFUSED = {
    "accumulates an open axis": (
        lambda x: np.maximum.accumulate(x, 0),
        r"numpy\.maximum\.accumulate.*extent 0.*unknown",
    ),
    "chooses where": (
        lambda x: np.max(x, where=np.ones(4, bool)),
        r"numpy\.max.*initial= is wanted",
    ),
    "reduces from a start": (
        lambda x: np.logical_and.reduce(x, initial=True),
        r"numpy\.logical_and\.reduce.*initial",
    ),
    "weighs wrongly": (
        lambda x: np.average(x, weights=[1, 2, 3, 4]),
        r"numpy\.average.*weights of \(4,\)",
    ),
    "measures singular values": (
        lambda x: np.linalg.norm(x, "nuc"),
        r"numpy\.linalg\.norm.*'nuc' of 2 axes",
    ),
    "inverts a vector": (
        lambda x: np.linalg.inv(x[0]),
        r"numpy\.linalg\.inv.*square matrices.*\(4,\)",
    ),
    "inverts what is not square": (
        lambda x: np.linalg.inv(x[[0, 1]]),
        r"numpy\.linalg\.inv.*square matrices.*\(2, 4\)",
    ),
    "inverts half floats": (
        lambda x: np.linalg.inv(x.astype("float16")),
        r"numpy\.linalg\.inv.*float16",
    ),
    "cuts beyond": (
        lambda x: ops.call("MatrixDiagPartV3", [x[[0, 1]], np.int32(4), np.float32(0)]),
        r"a diagonal.*2 x 4 matrices have none at 4",
    ),
    "sorts by a field": (lambda x: np.sort(x, order="f"), r"numpy\.argsort.*fields"),
    "sorts in place": (lambda x: x.sort(), r"numpy\.ndarray\.sort.*in place \(x\.sort\)"),
    "takes too many": (lambda x: ops.top_k(x, 5), r"dsave\.ops\.top_k.*largest 5 of 4"),
    "takes a fraction": (
        lambda x: ops.top_k(x, 1.5),
        r"dsave\.ops\.top_k.*k is an int, got 1\.5",
    ),
    "finds bins": (lambda x: np.digitize(x, x[0]), r"numpy\.digitize.*must be known"),
    "finds mixed bins": (
        lambda x: np.digitize(x, [1, 3, 2]),
        r"numpy\.digitize.*rise, or fall",
    ),
    "takes along another": (
        lambda x: np.take_along_axis(x, np.array([0]), 0),
        r"numpy\.take_along_axis.*\(1,\) differ",
    ),
    "convolves no images": (
        lambda x: ops.conv2d(x, np.ones((2, 2, 4, 1))),
        r"conv2d.*batch, height, width, channels.*\(None, 4\)",
    ),
    "convolves other channels": (
        lambda x: ops.conv2d(x[None, None], np.ones((1, 1, 3, 1))),
        r"conv2d.*4 channels.*1 groups of filters take 3",
    ),
    "convolves unequal groups": (
        lambda x: ops.conv2d(x[None, None], np.ones((1, 1, 2, 3)), groups=2),
        r"conv2d.*3 filters are not 2 equal groups",
    ),
    "pools too much": (
        lambda x: ops.max_pool2d(x[None, :, :1, None], (1, 2)),
        r"a window.*2 elements do not fit in 1",
    ),
    "pools doubles": (
        lambda x: ops.max_pool3d(x[None, None, :, :, None].astype("float64"), 1),
        r"MaxPool3D.*not for float64",
    ),
    "resizes to three": (
        lambda x: ops.resize(x[None, :, :, None], (1, 2, 3)),
        r"dsave\.ops\.resize.*a height and a width, got \(1, 2, 3\)",
    ),
    "resizes by cubes": (
        lambda x: ops.resize(x[None, :, :, None], 2, "cubic"),
        r"dsave\.ops\.resize.*nearest or bilinear, got 'cubic'",
    ),
    "masks by another shape": (
        lambda x: x[:, np.ones(3, bool)],
        r"indexing.*mask of \(3,\) for a shape of \(4,\)",
    ),
    "masks by a scalar": (
        lambda x: x[x.sum() > 0],
        r"indexing.*mask has an axis.*numpy\.where",
    ),
    "masks too much": (lambda x: x[x > 0, 0], r"indexing.*3 indices"),
    "indexes several beyond": (
        lambda x: x[[0, 1], [0, -5]],
        r"numpy\.take.*index -5 of an axis with 4",
    ),
    "sums a list": (lambda x: np.sum([x, x]), r"conversion to an array.*numpy\.stack"),
    "remakes it": (lambda x: np.asarray(x, "f"), r"conversion to an array.*as it is"),
    "pads with means": (
        lambda x: np.pad(x, 1, "mean"),
        r"numpy\.pad.*edge, reflect, symmetric, wrap, got 'mean'",
    ),
    "pads with less": (lambda x: np.pad(x, -1), r"numpy\.pad.*0 or more, got -1"),
    "pads by three": (lambda x: np.pad(x, (1, 2, 3)), r"numpy\.pad.*\(3,\)"),
    "takes less than none": (lambda x: ops.top_k(x, -1), r"top_k.*largest -1 of 4"),
    "turns one axis": (lambda x: np.rot90(x, 1, (0,)), r"numpy\.rot90.*unpack"),
    "joins what has no common dtype": (
        lambda x: np.stack([x.astype(ml_dtypes.bfloat16), x.astype("int64")]),
        r"numpy\.stack.*Int64DType.*bfloat16",
    ),
    "takes somehow": (
        lambda x: np.take(x, [0], 0, mode="around"),
        r"numpy\.take.*raise, clip or wrap, got 'around'",
    ),
    "splits an open axis": (
        lambda x: np.array_split(x, 2),
        r"numpy\.array_split.*extent 0.*unknown",
    ),
    "rolls by too many": (
        lambda x: np.roll(x, (1, 2, 3), (0, 1)),
        r"broadcasting.*\(3,\), \(2,\)",
    ),
    "selects by numbers": (
        lambda x: np.select([x], [x]),
        r"numpy\.select.*conditions are of bool",
    ),
    "selects unevenly": (
        lambda x: np.select([x > 0], [x, x]),
        r"numpy\.select.*1 conditions for 2 choices",
    ),
    "crosses in four dimensions": (lambda x: np.cross(x, x), r"numpy\.cross.*vectors of 3"),
    "labels by names": (lambda x: np.einsum(x, ["a", "b"]), r"numpy\.einsum.*lists of numbers"),
    "closes holes of complex": (
        lambda x: np.nan_to_num(x.astype("complex64")),
        r"numpy\.nan_to_num.*real numbers.*complex64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name):
    code, message = REFUSED[name]
    with pytest.raises(TraceError) as caught:
        function(code).get_concrete_function(X)
    assert re.search(message, str(caught.value))
    assert caught.value.file == __file__
