"""What Ray says of a failed call becomes what callers of dsave catch. Nothing starts Ray.

- An exception of a step is raised as itself, with a note of where.
- A dsave error crosses as itself.
- What is no Exception is a SaveError that names the host.
- A dead actor is a HostLostError that names the host and the phase.
"""

import pytest

from dsave.errors import HostLostError, ModelError, SaveError

HOST = "/job:worker/replica:0/task:1"


@pytest.fixture(scope="module")
def as_ours():
    from dsave.runtime.ray_hosts import _as_ours

    return lambda error: _as_ours(error, HOST, "running a step")


def raised_remotely(cause):
    """The error that Ray hands to a caller: of its own class and of the cause's."""
    from ray.exceptions import RayTaskError

    task_error = RayTaskError("Host.call", "Traceback: line 7", cause)
    return task_error.as_instanceof_cause()


def test_an_exception_of_a_step_is_raised_as_itself_with_a_note_of_where(as_ours):
    cause = ZeroDivisionError("by zero")
    assert as_ours(raised_remotely(cause)) is cause
    (note,) = cause.__notes__
    assert note.startswith(f"raised on {HOST}, running a step:\n")
    assert "Traceback: line 7" in note


def test_a_dsave_error_crosses_as_itself(as_ours):
    cause = ModelError("w", "it is too wide")
    assert as_ours(raised_remotely(cause)) is cause


def test_what_is_no_exception_is_a_save_error_that_names_the_host(as_ours):
    from ray.exceptions import RayTaskError

    class Odd(BaseException):
        pass

    error = as_ours(RayTaskError("Host.call", "Traceback: line 7", Odd()))
    assert type(error) is SaveError
    assert (error.host, error.phase) == (HOST, "running a step")
    assert "line 7" in error.problem


def test_a_dead_actor_is_a_lost_host(as_ours):
    from ray.exceptions import ActorDiedError

    error = as_ours(ActorDiedError())
    assert type(error) is HostLostError
    assert (error.host, error.phase) == (HOST, "running a step")
