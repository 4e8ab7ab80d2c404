"""Files that belong to a model: a vocabulary, a table of labels."""

from dataclasses import dataclass

from dsave.errors import OptionTypeError
from dsave.model.dtype import STRING, DType
from dsave.model.readable import Readable
from dsave.model.slices import Box


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Asset(Readable):
    """A file that each save copies to the `assets` of its directory.

    `path` is that of the process that calls save; the file is read while the save goes on. In a
    function the asset stands for its path, a string: where a SavedModel is loaded, that of the
    copy.

    Raises:
        OptionTypeError: `path` is neither a str nor a path.
    """

    path: str

    def __post_init__(self) -> None:
        given: object = self.path
        path = given.__fspath__() if hasattr(given, "__fspath__") else given
        if not isinstance(path, str) or not path:
            raise OptionTypeError("path", f"the path of a file is wanted, got {given!r}")
        object.__setattr__(self, "path", path)  # the frozen dataclass is normalised once, here

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.path

    @property
    def dtype(self) -> DType:
        """That of the path."""
        return STRING

    @property
    def box(self) -> Box:
        """That of the path, which has no axes."""
        return Box.whole(())
