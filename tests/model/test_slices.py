"""Boxes: overlap, cover, text, and cutting rows.

- two boxes overlap in just the elements that both have
- a box counted from a corner keeps its lengths
- the text is TensorFlow's, all extents explicit
- `first_overlap` finds two boxes that share an element exactly when there are two
- blocks are a box in row-major order, in pieces no larger than asked
- `partition` cuts all rows in runs that differ by one row at most, longer ones first
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.model.slices import Box, blocks, first_overlap, partition

SHAPE = (5, 4, 3)
boxes = st.tuples(*[st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SHAPE]).map(
    lambda extents: Box(
        tuple(start for start, _ in extents),
        tuple(min(length, n - s) for (s, length), n in zip(extents, SHAPE, strict=True)),
    )
)


def mask(box):
    held = np.zeros(SHAPE, bool)
    held[box.index] = True
    return held


def test_the_whole_box_covers_and_any_smaller_one_does_not():
    assert Box.whole((2, 3)) == Box((0, 0), (2, 3))
    assert Box.whole((2, 3)).covers((2, 3))
    assert not Box((0, 0), (2, 2)).covers((2, 3))
    assert not Box((0, 1), (2, 2)).covers((2, 3))


def test_the_box_of_a_scalar_has_one_element():
    assert Box.whole(()).size == 1
    assert Box.whole(()).index == ()


@given(boxes, boxes)
def test_the_overlap_is_the_elements_that_both_have(a, b):
    both = mask(a) & mask(b)
    overlap = a.overlap(b)
    if overlap is None:
        assert not both.any()
    else:
        assert (mask(overlap) == both).all()


@given(boxes, boxes)
def test_a_box_within_another_selects_the_same_elements_of_it(a, b):
    tensor = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    overlap = a.overlap(b)
    if overlap is not None:
        np.testing.assert_array_equal(
            tensor[b.index][overlap.within(b).index], tensor[overlap.index]
        )


def test_the_text_is_that_of_tensorflow():
    assert Box((0, 70), (2, 30)).spec((3, 100)) == "3 100 0,2:70,30"


@given(st.lists(boxes, max_size=6))
def test_an_overlap_is_found_exactly_when_there_is_one(some):
    found = first_overlap(some)
    assert (found is not None) == (
        sum((mask(box).astype(int) for box in some), np.zeros(SHAPE)).max() > 1
    )
    if found is not None:
        assert found[0].overlap(found[1]) is not None


def test_touching_boxes_of_a_grid_do_not_overlap():
    grid = [Box((row, column), (1, 1)) for row in range(30) for column in range(30)]
    assert first_overlap(grid) is None
    assert first_overlap([*grid, Box((7, 7), (1, 1))]) is not None


def test_boxes_near_the_end_of_int64_do_not_wrap_around():
    end = 2**63 - 1
    assert first_overlap([Box((0,), (end - 1,)), Box((end - 1,), (1,))]) is None


@pytest.mark.parametrize(
    ("size", "parts", "runs"),
    [
        (5, 1, [(0, 5)]),
        (6, 3, [(0, 2), (2, 2), (4, 2)]),
        (5, 3, [(0, 2), (2, 2), (4, 1)]),
        (3, 3, [(0, 1), (1, 1), (2, 1)]),
    ],
)
def test_rows_are_cut_evenly_and_the_first_runs_get_the_remainder(size, parts, runs):
    assert partition(size, parts) == runs


@given(boxes, st.integers(1, 70))
def test_blocks_are_the_box_in_row_major_order_and_no_larger_than_asked(box, size):
    tensor = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    cut = list(blocks(box, size))
    assert all(0 < block.size <= size for block in cut)
    rows = [tensor[block.index].ravel() for block in cut]
    np.testing.assert_array_equal(np.concatenate(rows), tensor[box.index].ravel())
    assert len(cut) <= 2 * -(-box.size // size) + np.prod(box.lengths[:2])


def test_a_block_has_an_element_though_none_was_asked_for():
    assert list(blocks(Box((1,), (2,)), 0)) == [Box((1,), (1,)), Box((2,), (1,))]


def test_a_box_without_elements_has_no_blocks_and_a_scalar_is_one():
    assert list(blocks(Box((0, 0), (3, 0)), 5)) == []
    assert list(blocks(Box((), ()), 5)) == [Box((), ())]


def test_slices_along_an_axis_are_counted_from_the_boxs_corner():
    assert Box((4, 2), (6, 3)).along(1, 1, 2) == Box((4, 3), (6, 2))
