"""Hostile files: changed ones of every kind, the same in every run, and all that ever hurt.

- only errors that say which file lies come out of a reader
- nothing is allocated on a file's word: memory stays in proportion to the file
- a good file gets through, so that a changed one is refused for the change alone
"""

import random
import tracemalloc
from pathlib import Path

import pytest
import targets
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
SLACK_NBYTES = 2 << 20  # for what Python has beside a file of a few kilobytes
each_target = pytest.mark.parametrize("target", targets.TARGETS, ids=lambda t: t.__name__)


@pytest.mark.parametrize(
    "target",
    [targets.index, targets.data_file, targets.saved_model, targets.object_graph],
    ids=lambda t: t.__name__,
)
def test_good_files_get_through(target, monkeypatch):
    # Or what is changed in them would be refused for another reason.
    outcomes = []

    class noting(targets._allowed):
        def __exit__(self, kind, error, trace):
            outcomes.append(error)
            return super().__exit__(kind, error, trace)

    monkeypatch.setattr(targets, "_allowed", noting)
    for data in targets.good_files(target):
        outcomes.clear()
        target(data)
        assert None in outcomes


@each_target
@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_changed_files_are_read_or_refused_with_an_error_that_names_them(target, seed):
    rng = random.Random(seed)
    target(targets.changed(target, rng.choice(targets.good_files(target)), rng))


def peak_nbytes(target, data):
    """The most that a target takes for a file, but for what protobuf takes for itself."""
    tracemalloc.start()
    try:
        target(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@each_target
def test_memory_stays_in_proportion_to_the_file(target):
    for number in range(60):
        rng = random.Random(number)
        data = targets.changed(target, rng.choice(targets.good_files(target)), rng)
        assert peak_nbytes(target, data) < 2 * len(data) + SLACK_NBYTES, number


FINDINGS = sorted(file for file in CORPUS.rglob("*") if file.is_file())


@pytest.mark.parametrize("file", FINDINGS, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_what_once_hurt_does_so_no_more(file):
    target = next(each for each in targets.TARGETS if each.__name__ == file.parent.name)
    data = file.read_bytes()
    assert peak_nbytes(target, data) < 2 * len(data) + SLACK_NBYTES
