"""The files of a model's assets: found before a save, and given out while it goes on."""

import filecmp
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsave.errors import ModelError
from dsave.format import naming
from dsave.model.asset import Asset
from dsave.model.device import LOCALHOST
from dsave.model.slices import Box
from dsave.runtime.save_messages import Incoming
from dsave.runtime.stream import CHUNK_NBYTES, Server


@dataclass(frozen=True, slots=True)
class AssetFiles:
    """Files of the calling process: `names` by asset, (path, bytes) by name.

    Names are those in the directory `assets`.
    """

    names: Mapping[Asset, str]
    files: Mapping[str, tuple[str, int]]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(nbytes for _, nbytes in self.files.values())

    def chunks(self, name: str, box: Box | None) -> Iterator[memoryview]:
        """The bytes of a file, for a stream. Raises KeyError or OSError at once."""
        del box
        path, nbytes = self.files[name]
        found = Path(path).stat().st_size
        if found != nbytes:
            raise OSError(f"{path} had {nbytes:,} bytes when the save began, and has {found:,}")
        return _read(path, nbytes)


class ServedAssets:
    """Gives files out to the hosts, on this address, until it is closed.

    `files` say where each is had; they are named as in a SavedModel.
    """

    def __init__(self, assets: AssetFiles, address: str, timeout_s: float) -> None:
        self.files: dict[str, bytes | Incoming] = {}
        self._server: Server | None = None
        if assets.files:
            self._server = Server(address, assets.chunks, timeout_s)
            for name, (_, nbytes) in assets.files.items():
                self.files[f"{naming.ASSETS_DIRECTORY}/{name}"] = Incoming(
                    LOCALHOST, self._server.endpoint, name, nbytes
                )

    def close(self) -> None:
        """Give nothing out any more."""
        if self._server is not None:
            self._server.close()


def find_assets(assets: Iterable[Asset]) -> AssetFiles:
    """Look at the file of each asset and give it a name.

    Files of one name and one content are copied once; of those of other content the later ones
    are named `NAME_1`, `NAME_2` and so on, as in TensorFlow.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    names: dict[Asset, str] = {}
    files: dict[str, tuple[str, int]] = {}
    for asset in assets:
        path = os.path.abspath(asset.path)  # noqa: PTH100 - as a string
        nbytes = _size(asset.path)
        base = Path(path).name
        name, count = base, 0
        while name in files and not _equal(files[name], (path, nbytes)):
            count += 1
            name = f"{base}_{count}"
        files.setdefault(name, (path, nbytes))
        names[asset] = name
    return AssetFiles(names, files)


def _size(path: str) -> int:
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(path, "an asset is a file, and this is none")
        with Path(path).open("rb"):
            return status.st_size
    except OSError as error:
        problem = error.strerror or str(error)
        raise ModelError(path, f"the file of an asset cannot be read: {problem}") from None


def _equal(one: tuple[str, int], other: tuple[str, int]) -> bool:
    return one == other or (one[1] == other[1] and filecmp.cmp(one[0], other[0], shallow=False))


def _read(path: str, nbytes: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(nbytes, CHUNK_NBYTES)))
    with Path(path).open("rb", buffering=0) as file:
        while nbytes:
            count = file.readinto(buffer[:nbytes])
            if not count:
                raise OSError(f"{path} became shorter")
            yield buffer[:count]
            nbytes -= count
