"""Where a save's files go: one directory of one filesystem, or one prefix of an object store.

Both kinds have the same verbs, in the order of a save (plan/commit.py):

    begin, seen         is it writable, how much is free, and who else sees it
    open                sweep what dead saves left behind
    create, check, put  write files
    move                make the save visible
    clean               remove what it replaced
    move_back, discard  undo
    end                 let go, on every host and in any case
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from dsave.format import naming
from dsave.format.coding import Buffer

COMMITS = frozenset({naming.SAVED_MODEL_FILE, f"{naming.SAVED_MODEL_FILE}txt"})
"""One of these is in every directory that is a SavedModel."""

MARKER = ".seen-by-"
"""How the name of a marker begins; the name of its host follows."""


class Sink(Protocol):
    """A file being written. It is stored when `close` returns, and not at all after `abort`."""

    def write(self, data: Buffer, /) -> object:
        """Append bytes."""

    def close(self) -> None:
        """Store the file."""

    def abort(self) -> None:
        """Give the file up."""


class Storage(Protocol):
    """One directory as one host sees it, for one save.

    What others see is changed only if the save was not given up: each kind is made with a
    function that raises where it was, and calls it at the last moment.
    """

    def begin(self, marker: str) -> int | None:
        """Make sure that the directory can be written, leave a marker, tell the free bytes."""

    def seen(self) -> frozenset[str]:
        """The markers that are there."""

    def open(self) -> None:
        """Remove what saves that died left behind."""

    def create(self, file: str, nbytes: int) -> Sink:
        """Start a file of about this size, named as in the finished directory."""

    def check(self, files: Mapping[str, int]) -> None:
        """See that files of these sizes are there: nobody removed or changed them."""

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write small files in this order, each whole."""

    def move(self) -> None:
        """Make the save visible; keep what it replaces."""

    def clean(self, files: Collection[str]) -> None:
        """Remove what the save replaced; `files` are the ones that it has."""

    def move_back(self) -> None:
        """Undo `move`, if it happened."""

    def discard(self, files: Collection[str]) -> None:
        """Remove every trace of the save; `files` are those that it may have written."""

    def end(self) -> None:
        """Let go of what was held while the save went on; files stay as they are."""


def why_not_ours(names: Collection[str], variables: Collection[str]) -> str | None:
    """Why a save may not replace a directory with these names in it, or None: it may.

    `variables` are those in the directory of that name, if there is one.
    """
    if not names or COMMITS.intersection(names):
        return None
    # What has variables alone is of a save that was never committed, or of somebody else.
    foreign = sorted(set(names) - naming.SAVED_MODEL_NAMES) + [
        f"{naming.VARIABLES_DIRECTORY}/{name}"
        for name in sorted(variables)
        if not naming.is_bundle_file(name)
    ]
    if not foreign and naming.VARIABLES_DIRECTORY in names:
        return None
    named = ", ".join((foreign or sorted(names))[:3])
    return (
        f"it is no SavedModel and holds others' files ({named}); "
        "choose another directory, or empty this one"
    )
