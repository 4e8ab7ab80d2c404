"""Where the user's code stands: the frames that are neither dsave's nor numpy's nor scipy's."""

import sys
from functools import cache, lru_cache
from types import FrameType

import numpy as np

from dsave.errors import TraceError
from dsave.functions.graph import Frame

_LEFT_OUT = (
    __file__.rpartition("functions")[0],
    np.__file__.rpartition("__init__")[0],
    np.__file__.rpartition("numpy")[0] + "scipy/",
    "<frozen ",
)


@cache
def _is_users(file: str) -> bool:
    return not file.startswith(_LEFT_OUT)


# Nodes made on one line share their frames.
@lru_cache(maxsize=4096)
def _frame(file: str, line: int, function: str) -> Frame:
    return Frame(file, line, function)


def user_stack(until: FrameType | None = None) -> tuple[Frame, ...]:
    """The user's calls that led here, oldest first; only those made by `until`, if given."""
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not until:
        code = frame.f_code
        if _is_users(code.co_filename):
            frames.append(_frame(code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(reversed(frames))


def trace_error(function: str, problem: str) -> TraceError:
    """The error about a function that was called on the innermost line of the user's."""
    stack = user_stack() or (Frame("<unknown>", 0, ""),)
    return TraceError(function, problem, stack[-1].file, stack[-1].line)
