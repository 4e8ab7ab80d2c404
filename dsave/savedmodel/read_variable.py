"""One variable of a SavedModel: what its object, the checkpoint's index and its devices say."""

from dsave.errors import CorruptionError, DeviceError
from dsave.format.bundle import Entry
from dsave.model.device import DeviceSpec
from dsave.model.variable import Aggregation, Synchronization
from dsave.proto.object_graph_pb2 import SavedObject, SavedVariable
from dsave.savedmodel.tree import StoredVariable


def read_variable(
    saved: SavedObject, entry: Entry, *, file: str, path: str, key: str, full_name: str
) -> StoredVariable:
    """The variable that an object describes, or of which it says nothing but its value.

    `path` leads to the object, from the root. `key` is that of `entry`, and `full_name` the
    name, both as the checkpoint's object graph has them. `file` holds the object.

    Raises:
        CorruptionError: object and entry contradict each other, or a device is none.
    """
    proto = saved.variable
    if saved.HasField("variable") and not _fits(proto, entry):
        raise CorruptionError(
            file,
            path,
            f"it is a variable of dtype number {proto.dtype} and shape {_sizes(proto)}, "
            f"in the checkpoint it is {entry.dtype} {entry.shape}",
        )
    components = tuple(
        part.device for part in proto.experimental_distributed_variable_components
    )
    try:
        for device in (proto.device, *components):
            DeviceSpec.from_string(device)
        synchronization = Synchronization(proto.synchronization)
        aggregation = Aggregation(proto.aggregation)
    except (DeviceError, ValueError) as error:
        raise CorruptionError(file, path, str(error)) from None
    return StoredVariable(
        key,
        path,
        full_name or proto.name or path,
        entry.dtype,
        entry.shape,
        # What no graph can have has no description; variables are made trainable.
        proto.trainable or not saved.HasField("variable"),
        synchronization,
        aggregation,
        proto.device,
        components,
    )


def _sizes(variable: SavedVariable) -> tuple[int, ...]:
    return tuple(dim.size for dim in variable.shape.dim)


def _fits(variable: SavedVariable, entry: Entry) -> bool:
    """Whether the entry can be the value of the variable."""
    sizes = _sizes(variable)
    fits = variable.shape.unknown_rank or (
        len(sizes) == len(entry.shape)
        and all(a in {-1, b} for a, b in zip(sizes, entry.shape, strict=True))
    )
    return fits and variable.dtype == entry.dtype.number
