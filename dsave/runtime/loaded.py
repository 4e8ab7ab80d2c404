"""What a model becomes that is loaded without a cluster: local values, read when wanted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from dsave.errors import MissingKeyError, ModelError
from dsave.model.dtype import DType
from dsave.model.trackable import Module
from dsave.model.variable import Aggregation, Synchronization
from dsave.runtime.arrays import Array
from dsave.runtime.checkpoint import StoredTensor
from dsave.savedmodel.tree import StoredVariable

_NO_SIGNATURES: Mapping[str, Any] = {}


class Signatures(dict[str, Any]):
    """The functions that model servers call, by key, of the SavedModel in `directory`."""

    def __init__(self, directory: str, functions: Mapping[str, Any]) -> None:
        super().__init__(functions)
        self._directory = directory

    def __missing__(self, key: str) -> Any:
        there = ", ".join(map(repr, self))
        hint = f"its signatures are {there}" if there else "it has no signatures"
        raise MissingKeyError(self._directory, key, hint)


class LoadedModel(Module):
    """The root of a model that was loaded.

    `signatures` are the functions that model servers call, by key. `load_notes` says what is
    not as it was saved; an attribute of the model that has this name comes first.
    """

    __slots__ = ("__load_notes", "signatures")

    def __init__(self) -> None:
        self.signatures: Mapping[str, Any] = _NO_SIGNATURES
        self.__load_notes: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name == "load_notes":
            return self.__load_notes
        raise AttributeError(f"the loaded model has no {name!r}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model's function `__call__`, if it was saved with one."""
        function = vars(self).get("__call__")
        if function is None:
            raise TypeError("the loaded model has no function __call__")
        return function(*args, **kwargs)

    def note(self, *notes: str) -> None:
        """Add notes."""
        self.__load_notes += notes


class LoadedVariable(NDArrayOperatorsMixin):
    """A variable's value in this process, read when it is first wanted; numpy computes with it.

    `device` is the one it was saved on, empty if none was saved. Operators are numpy's, `==`
    too; `hash` is that of the object.
    """

    __slots__ = ("__weakref__", "_stored", "_value", "_variable")
    __hash__ = object.__hash__

    def __init__(self, variable: StoredVariable, stored: StoredTensor) -> None:
        self._variable = variable
        self._stored = stored
        self._value: Array | None = None

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._variable.name

    @property
    def key(self) -> str:
        """Its checkpoint key."""
        return self._variable.key

    @property
    def dtype(self) -> DType:
        """The dtype that it has in TensorFlow."""
        return self._variable.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._variable.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def trainable(self) -> bool:
        """Whether training changes it."""
        return self._variable.trainable

    @property
    def device(self) -> str:
        """The device it was saved on."""
        return self._variable.device

    @property
    def synchronization(self) -> Synchronization:
        """How its replicas were kept alike."""
        return self._variable.synchronization

    @property
    def aggregation(self) -> Aggregation:
        """How its replicas were aggregated."""
        return self._variable.aggregation

    def numpy(self) -> Array:
        """The value, read-only; all of it is read, and its checksum checked.

        Raises:
            CorruptionError: it is not what was written.
        """
        if self._value is None:
            self._value = np.asarray(self._stored)
        return self._value

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype, copy=copy)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: object = None, **kwargs: Any
    ) -> Any:
        if out is not None:
            raise ModelError(self.name, "an expression cannot write to a loaded variable")
        arrays = (i.numpy() if isinstance(i, LoadedVariable) else i for i in inputs)
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        return self.numpy()[index]

    def __len__(self) -> int:
        return len(self.numpy())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __float__(self) -> float:
        return float(self.numpy())

    def __repr__(self) -> str:
        return f"<LoadedVariable {self.name}: {self.dtype} {self.shape}>"
