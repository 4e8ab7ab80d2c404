"""Any index that numpy takes gives what numpy gives, whatever of the shape is known."""

import numpy as np
from hypothesis import given, reject
from hypothesis import strategies as st

from dsave import TensorSpec, function

SHAPE = (3, 4, 5)
ARRAY = np.arange(60, dtype=np.float32).reshape(SHAPE)


def slices(extent):
    bound = st.none() | st.integers(-extent - 2, extent + 2)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([1, 2, -1, -2]))


@st.composite
def indices(draw):
    """An index: for each axis a number, a slice, an array or a mask, and new axes between."""
    together = draw(st.sampled_from([(2,), (2, 1), (1, 2), ()]))
    items, axis = [], 0
    count = draw(st.integers(0, 3))
    while axis < count:
        extent = SHAPE[axis]
        kind = draw(st.sampled_from(["number", "slice", "slice", "array", "array", "mask"]))
        places = st.integers(-extent, extent - 1)
        if kind == "number":
            items.append(draw(places))
        elif kind == "slice":
            items.append(draw(slices(extent)))
        elif kind == "array":
            size = int(np.prod(together))
            drawn = draw(st.lists(places, min_size=size, max_size=size))
            items.append(np.array(drawn).reshape(together))
        else:
            # As many as an array has, so that they fit together.
            mask = np.zeros(extent, bool)
            mask[draw(st.permutations(range(extent)))[:2]] = True
            items.append(mask)
        axis += 1
    for new in draw(st.lists(st.sampled_from([None, Ellipsis]), max_size=2)):
        if new is None or not any(item is Ellipsis for item in items):
            items.insert(draw(st.integers(0, len(items))), new)
    return tuple(items)


@given(indices(), st.sampled_from([SHAPE, (None, 4, 5), (None, None, None)]))
def test_an_index_gives_what_numpy_gives(index, known):
    try:
        wanted = ARRAY[index]
    except IndexError:
        reject()
    concrete = function(lambda x: x[index]).get_concrete_function(TensorSpec(known))
    np.testing.assert_array_equal(concrete(ARRAY), wanted)
    assert TensorSpec(concrete.structured_outputs.shape).accepts(wanted.shape)


@given(indices())
def test_an_index_of_tensors_gives_what_numpy_gives(index):
    places = [i for i, item in enumerate(index) if isinstance(item, np.ndarray)]
    try:
        wanted = ARRAY[index]
    except IndexError:
        reject()

    def code(x, arrays):
        items = list(index)
        for place, array in zip(places, arrays, strict=True):
            items[place] = array
        return x[tuple(items)]

    arrays = [index[place] for place in places]
    specs = [TensorSpec([None] * array.ndim, array.dtype) for array in arrays]
    concrete = function(code).get_concrete_function(TensorSpec([None] * 3), specs)
    np.testing.assert_array_equal(concrete(ARRAY, *arrays), wanted)
