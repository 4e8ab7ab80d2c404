"""Separate hosts, where there can be any."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package, and netns is theirs

import netns


@pytest.fixture(scope="session")
def _possible():
    if reason := netns.why_not():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def up(_possible):
    """Takes a number and gives that many hosts, with a Ray node on each."""
    return _Up


class _Up(netns.Hosts):
    def __enter__(self):
        super().__enter__()
        try:
            self.start_ray()
        except BaseException:
            self.__exit__()
            raise
        return self
