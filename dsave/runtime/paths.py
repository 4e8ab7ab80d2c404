"""What callers may call a directory, as the one form that everything else works with."""

import os

from dsave.errors import OptionError, OptionTypeError


def location(directory: object) -> str:
    """An absolute path of this machine, or an fsspec URL, without slashes at its end.

    `file:` URLs are paths; as in fsspec nothing in them is decoded.

    Raises:
        OptionTypeError: it is neither a str nor a path.
        OptionError: it is empty, holds NUL, or is on another machine.
    """
    path = os.fspath(directory) if isinstance(directory, os.PathLike) else directory
    if not isinstance(path, str):
        raise OptionTypeError("directory", f"a path or a URL is wanted, got {directory!r}")
    if not path or "\0" in path:
        raise OptionError("directory", f"a path or a URL is wanted, got {path!r}")
    scheme, colon, rest = path.partition(":")
    if colon and scheme.lower() == "file" and rest.startswith("/"):
        machine, _, below = rest.removeprefix("//").partition("/")
        if not rest.startswith("//"):
            path = rest
        elif machine in {"", "localhost"}:
            path = f"/{below}"
        else:
            raise OptionError("directory", f"{path!r} names a file of the machine {machine!r}")
    scheme, colon, rest = path.partition("://")
    return f"{scheme}{colon}{rest.rstrip('/')}" if colon else os.path.abspath(path)  # noqa: PTH100
