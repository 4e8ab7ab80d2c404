"""What there is at a path, where a SavedModel was looked for and is not."""

from collections.abc import Iterable

from dsave.format import naming
from dsave.runtime.source import Source


def absence(source: Source, path: str, called: str) -> str:
    """Why there is no SavedModel at a path, and what to give instead.

    `called` is what the caller calls the path. Checkpoints have their names on this machine,
    for whoever opens them does it here.
    """
    names = source.names(path)
    parent, _, name = path.rpartition("/")
    if names is None and not (source.exists(path) or source.exists(naming.index_file(path))):
        return "it does not exist"
    whole = _whole(source, path, called)
    if whole is not None:
        return f"it is a part of a SavedModel; its directory is {whole}"
    if names is not None:
        prefixes = _prefixes(names)
        if not prefixes:
            return "no saved_model.pb, so no save was committed here"
        opened = f"dsave.open({path}/{prefixes[-1]}) reads one"
        return f"it holds checkpoints, not a SavedModel; {opened}"
    for prefix in reversed(_prefixes(source.names(parent) or ())):
        opened = f"dsave.open({parent}/{prefix}) reads it"
        if name == prefix:
            return f"it is a checkpoint, not a SavedModel; {opened}"
        if name.startswith(f"{prefix}.") or name == naming.CHECKPOINT_STATE_FILE:
            return f"it is a file of a checkpoint, not a SavedModel; {opened}"
    return "it is a file, not a SavedModel's directory"


def _whole(source: Source, path: str, called: str) -> str | None:
    """The SavedModel that the path is a part of."""
    for _ in range(2):
        path, _, name = path.rpartition("/")
        called = called.rpartition("/")[0]
        if name in naming.SAVED_MODEL_NAMES and source.exists(
            f"{path}/{naming.SAVED_MODEL_FILE}"
        ):
            return called
    return None


def _prefixes(names: Iterable[str]) -> list[str]:
    """The checkpoints in a directory, the latest of numbered ones last."""
    suffix = naming.index_file("")
    found = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(found, key=lambda prefix: (len(prefix), prefix))
