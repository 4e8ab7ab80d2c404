"""What callers may call a directory.

- paths are absolute then, and end in no slash; `file:` URLs are paths; other URLs stay
- what is no path of this machine is refused by name
"""

import os
from pathlib import Path

import pytest

from dsave.errors import OptionError, OptionTypeError
from dsave.runtime.paths import location


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/tmp/a", "/tmp/a"),
        ("/tmp/a/", "/tmp/a"),
        ("/tmp//b/../a", "/tmp/a"),
        (Path("/tmp/a"), "/tmp/a"),
        ("a b/c", f"{os.getcwd()}/a b/c"),  # noqa: PTH109
        ("file:///tmp/a", "/tmp/a"),
        ("file://localhost/tmp/a/", "/tmp/a"),
        ("file:/tmp/a", "/tmp/a"),
        ("FILE:///tmp/a%20b", "/tmp/a%20b"),
        ("file:a", f"{os.getcwd()}/file:a"),  # noqa: PTH109
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://", "s3://"),
        ("memory://a//b", "memory://a//b"),
    ],
)
def test_a_directory_has_one_form(given, path):
    assert location(given) == path


@pytest.mark.parametrize("given", [None, b"/tmp/a", 3, ["/tmp/a"]])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(OptionTypeError, match="directory: a path or a URL is wanted"):
        location(given)


@pytest.mark.parametrize("given", ["", "a\0b", "file://elsewhere/tmp/a"])
def test_a_path_that_cannot_be_here_is_refused(given):
    with pytest.raises(OptionError, match="directory: "):
        location(given)
