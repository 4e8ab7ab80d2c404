"""The verbs that read: `open`, a checkpoint as a lazy mapping."""

import os

from dsave.runtime.checkpoint import Checkpoint, open_checkpoint


def open(path: str | os.PathLike[str], verify: bool = False) -> Checkpoint:  # noqa: A001 - it is dsave.open
    """Open a SavedModel directory, or the bundle with this prefix, written by anyone.

    `verify`: read everything now and check every checksum.

    Raises:
        NotCommittedError: there is no SavedModel here, and no bundle.
        CorruptionError: a file does not say the truth.
    """
    return open_checkpoint(path, verify=verify)
