"""The tree of errors: drawn as it is, and fit to leave an actor.

- the module's docstring draws every error under its parent, with its stdlib base
- every error survives a pickle: type, args, fields and message
- a message begins with the name of the thing
- OSErrors name the directory, and make up no errno
"""

import builtins
import inspect
import pickle
import re

import pytest

from dsave import errors

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and value is not errors.DsaveError
]


def made(kind: type[Exception]) -> Exception:
    fields = list(inspect.signature(kind).parameters)
    return kind(*[f"<{field}>" for field in fields])


def drawn() -> dict[str, tuple[str, list[str]]]:
    """Name -> (name of the parent, stdlib bases), as the docstring draws it."""
    tree: dict[str, tuple[str, list[str]]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"[│├└─ ]*(\w+Error)(?: \((\w+)\))?", line)
        if found:
            depth = found.start(1) // 4
            name, base = found.groups()
            parents[depth:] = [name]
            tree[name] = (parents[depth - 1] if depth else "Exception", [base] if base else [])
    return tree


def test_the_docstring_draws_every_error_as_it_is():
    as_it_is = {
        kind.__name__: (
            kind.__bases__[0].__name__,
            [base.__name__ for base in kind.__bases__[1:]],
        )
        for kind in [errors.DsaveError, *ALL]
    }
    assert drawn() == as_it_is


def test_the_other_base_is_of_the_standard_library():
    for kind in ALL:
        for base in kind.__bases__[1:]:
            assert base is getattr(builtins, base.__name__)


def test_what_tensorflow_raises_is_raised_here_too():
    bases = {
        errors.DeviceError: ValueError,
        errors.OptionError: ValueError,
        errors.OptionTypeError: TypeError,
        errors.DtypeError: TypeError,
        errors.TraceError: TypeError,
        errors.ModelError: ValueError,
        errors.NotCommittedError: FileNotFoundError,
        errors.StalledError: TimeoutError,
    }
    assert all(issubclass(kind, base) for kind, base in bases.items())


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_the_pickle_out_of_an_actor(kind):
    error = made(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (
        copy.args == error.args == tuple(f"<{p}>" for p in inspect.signature(kind).parameters)
    )
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("kind", ALL)
def test_a_field_is_an_attribute_and_is_in_the_message(kind):
    error = made(kind)
    for field in inspect.signature(kind).parameters:
        assert getattr(error, field) == f"<{field}>"
        assert f"<{field}>" in str(error)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.ConfigError("hosts[0].gpus", "-1", "an integer of at least 0"),
            "hosts[0].gpus: got -1, allowed is an integer of at least 0",
        ),
        (errors.ClusterError("no cluster is active"), "no cluster is active"),
        (errors.DeviceError("/gpu:7", "unknown device"), "device '/gpu:7': unknown device"),
        (errors.DtypeError("datetime64", "no"), "dtype datetime64: no"),
        (
            errors.NoSpaceError("/tmp/x", "/job:w/replica:0/task:0", "3 MiB free, 4 wanted"),
            "directory /tmp/x on /job:w/replica:0/task:0: 3 MiB free, 4 wanted",
        ),
        (
            errors.NotCommittedError("/tmp/x", "it does not exist"),
            "/tmp/x: it does not exist",
        ),
        (
            errors.TraceError("numpy.sort", "no op sorts", "/tmp/m.py", 7),
            "numpy.sort, at /tmp/m.py:7: no op sorts",
        ),
        (errors.MissingKeyError("/tmp/x", "v"), "checkpoint /tmp/x: no entry 'v'"),
        (
            errors.MissingKeyError("/tmp/x", "v", "did you mean 'w'?"),
            "checkpoint /tmp/x: no entry 'v'; did you mean 'w'?",
        ),
        (errors.CorruptionError("a.index", "v", "bad"), "a.index, entry 'v': bad"),
        (errors.CorruptionError("a.index", "", "bad"), "a.index: bad"),
        (errors.HostLostError("host", "writing", "died"), "host, while writing: died"),
    ],
)
def test_a_message_begins_with_the_name_of_the_thing(error, message):
    assert str(error) == message


@pytest.mark.parametrize(
    "error",
    [
        errors.DirectoryError("/tmp/x", "host", "read-only"),
        errors.NoSpaceError("/tmp/x", "host", "full"),
        errors.NotCommittedError("/tmp/x", "gone"),
    ],
)
def test_an_oserror_names_the_directory_and_makes_up_no_errno(error):
    assert (error.filename, error.errno) == ("/tmp/x", None)


def test_a_stalled_save_is_a_failed_save_and_a_timeout():
    assert issubclass(errors.StalledError, errors.SaveError)
    assert issubclass(errors.StalledError, RuntimeError)
