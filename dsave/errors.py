"""Every error that dsave raises.

DsaveError
├── ConfigError (ValueError)            a cluster config
├── ClusterError (RuntimeError)         a cluster cannot start, or is gone
├── DeviceError (ValueError)            a device name, or a device that does not exist
├── OptionError (ValueError)            a value given to an option
├── OptionTypeError (TypeError)         a value of the wrong type given to an option
├── DtypeError (TypeError)              a dtype that a SavedModel cannot hold
├── TraceError (TypeError)              code that has no TensorFlow graph
├── ModelError (ValueError)             an object tree that cannot be saved, or run here
├── DirectoryError (OSError)            a directory that cannot be written, or read
│   └── NoSpaceError                    ... because its disk is too small
├── NotCommittedError (FileNotFoundError)   a directory without saved_model.pb
├── MissingKeyError (KeyError)          a checkpoint has no such entry
├── CorruptionError (ValueError)        a file that does not say the truth
└── SaveError (RuntimeError)            a save that began and failed; nothing was committed
    ├── HostLostError                   ... because a host died
    └── StalledError (TimeoutError)     ... because a host made no progress before its deadline
"""

from typing import Self


class DsaveError(Exception):
    """Base of all dsave errors.

    Subclasses pass their fields, and only their fields, to `super().__init__`,
    so that they survive the pickle that carries them out of a Ray actor.
    """


class ConfigError(DsaveError, ValueError):
    """A cluster config says something that is not allowed."""

    def __init__(self, key: str, given: str, allowed: str) -> None:
        super().__init__(key, given, allowed)
        self.key = key
        self.given = given
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.key}: got {self.given}, allowed is {self.allowed}"


class ClusterError(DsaveError, RuntimeError):
    """A cluster cannot be started, or is used after it was closed."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class DeviceError(DsaveError, ValueError):
    """A device name that cannot be parsed, or that names no single device."""

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(device, problem)
        self.device = device
        self.problem = problem

    def __str__(self) -> str:
        return f"device {self.device!r}: {self.problem}"


class OptionError(DsaveError, ValueError):
    """A value that an option does not take."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class OptionTypeError(DsaveError, TypeError):
    """A value of a type that an option does not take."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class DtypeError(DsaveError, TypeError):
    """A dtype that a SavedModel cannot hold."""

    def __init__(self, dtype: str, problem: str) -> None:
        super().__init__(dtype, problem)
        self.dtype = dtype
        self.problem = problem

    def __str__(self) -> str:
        return f"dtype {self.dtype}: {self.problem}"


class TraceError(DsaveError, TypeError):
    """Numpy code that a TensorFlow graph cannot express, and where it stands."""

    def __init__(self, function: str, problem: str, file: str, line: int) -> None:
        super().__init__(function, problem, file, line)
        self.function = function
        self.problem = problem
        self.file = file
        self.line = line

    def __str__(self) -> str:
        return f"{self.function}, at {self.file}:{self.line}: {self.problem}"


class ModelError(DsaveError, ValueError):
    """An object tree, or something in it, that cannot be saved, or be run here."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


class DirectoryError(DsaveError, OSError):
    """A directory that a host cannot write, or read."""

    def __init__(self, directory: str, host: str, problem: str) -> None:
        # OSError would take three fields for an errno, a message and a filename.
        Exception.__init__(self, directory, host, problem)
        self.filename = directory
        self.directory = directory
        self.host = host
        self.problem = problem

    def __str__(self) -> str:
        return f"directory {self.directory} on {self.host}: {self.problem}"


class NoSpaceError(DirectoryError):
    """A disk with too little room for its part of a save."""


class NotCommittedError(DsaveError, FileNotFoundError):
    """A directory without `saved_model.pb`: not a SavedModel, or never finished.

    `problem` says what is there instead.
    """

    def __init__(self, directory: str, problem: str) -> None:
        # OSError would take two fields for an errno and a message.
        Exception.__init__(self, directory, problem)
        self.filename = directory
        self.directory = directory
        self.problem = problem

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.directory, self.problem)  # OSError adds its file to two fields

    def __str__(self) -> str:
        return f"{self.directory}: {self.problem}"


class MissingKeyError(DsaveError, KeyError):
    """A checkpoint has no entry of that name; `hint` says which there are, or the nearest."""

    def __init__(self, checkpoint: str, key: str, hint: str = "") -> None:
        super().__init__(checkpoint, key, hint)
        self.checkpoint = checkpoint
        self.key = key
        self.hint = hint

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return f"checkpoint {self.checkpoint}: no entry {self.key!r}{hint}"


class CorruptionError(DsaveError, ValueError):
    """A file whose bytes contradict themselves, its index or its checksum."""

    def __init__(self, file: str, entry: str, problem: str) -> None:
        super().__init__(file, entry, problem)
        self.file = file
        self.entry = entry
        self.problem = problem

    def __str__(self) -> str:
        where = f"{self.file}, entry {self.entry!r}" if self.entry else self.file
        return f"{where}: {self.problem}"


class SaveError(DsaveError, RuntimeError):
    """A save that began and failed. Nothing was committed."""

    def __init__(self, host: str, phase: str, problem: str) -> None:
        super().__init__(host, phase, problem)
        self.host = host
        self.phase = phase
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.host}, while {self.phase}: {self.problem}"


class HostLostError(SaveError):
    """A host died during a save."""


class StalledError(SaveError, TimeoutError):
    """A host made no progress before its deadline."""
