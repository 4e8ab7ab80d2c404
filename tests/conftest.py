"""What every test may ask for."""

import os

import pytest
from hypothesis import settings

# The same examples in every run, and none is too slow: the machine may be busy.
settings.register_profile("dsave", derandomize=True, deadline=None, database=None)
settings.load_profile("dsave")


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, the oracle, kept quiet."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return pytest.importorskip(
        "tensorflow", reason="TensorFlow, the oracle, is not installed here (see dsave[test])"
    )
