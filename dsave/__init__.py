"""dsave: a distributed saver on Ray actors that writes TensorFlow SavedModels."""

from dsave.errors import (
    ClusterError,
    ConfigError,
    CorruptionError,
    DeviceError,
    DirectoryError,
    DsaveError,
    DtypeError,
    HostLostError,
    MissingKeyError,
    ModelError,
    NoSpaceError,
    NotCommittedError,
    OptionError,
    OptionTypeError,
    SaveError,
    StalledError,
    TraceError,
)
from dsave.functions import ops
from dsave.functions.concrete_function import ConcreteFunction
from dsave.functions.function import Function, function
from dsave.functions.graph import TensorSpec
from dsave.functions.jax_function import jax_function
from dsave.load import load, open  # noqa: A004 - `dsave.open` reads as what it does
from dsave.model.asset import Asset
from dsave.model.cluster_spec import ClusterSpec
from dsave.model.device import DeviceSpec
from dsave.model.trackable import Module
from dsave.model.variable import (
    Aggregation,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
)
from dsave.options import LoadOptions, SaveOptions, VariablePolicy
from dsave.plan.sharding import MaxShardSizePolicy, ShardableTensor, ShardByTaskPolicy
from dsave.runtime.cluster import Cluster
from dsave.runtime.host import Host
from dsave.runtime.loaded import LoadedModel, LoadedVariable
from dsave.runtime.result import SaveResult, ShardResult
from dsave.runtime.save_handle import SaveHandle
from dsave.save import save

__version__ = "0.1.0"

__all__ = [
    "Aggregation",
    "Asset",
    "Cluster",
    "ClusterError",
    "ClusterSpec",
    "ConcreteFunction",
    "ConfigError",
    "CorruptionError",
    "DeviceError",
    "DeviceSpec",
    "DirectoryError",
    "DsaveError",
    "DtypeError",
    "Function",
    "Host",
    "HostLostError",
    "LoadOptions",
    "LoadedModel",
    "LoadedVariable",
    "MaxShardSizePolicy",
    "MirroredVariable",
    "MissingKeyError",
    "ModelError",
    "Module",
    "NoSpaceError",
    "NotCommittedError",
    "OptionError",
    "OptionTypeError",
    "SaveError",
    "SaveHandle",
    "SaveOptions",
    "SaveResult",
    "ShardByTaskPolicy",
    "ShardResult",
    "ShardableTensor",
    "ShardedVariable",
    "StalledError",
    "SyncOnReadVariable",
    "TensorSpec",
    "TraceError",
    "Variable",
    "VariablePolicy",
    "function",
    "jax_function",
    "load",
    "open",
    "ops",
    "save",
]
