"""Every file name in a SavedModel directory, made and parsed here only.

    saved_model.pb                          the commit: without it there is no SavedModel
    fingerprint.pb
    variables/variables.index
    variables/variables.data-00000-of-00003
    assets/                                 files that the graph reads
    assets.extra/                           the user's own; never ours to touch
    debug/saved_model_debug_info.pb

Data files: tensorflow/core/util/tensor_bundle/naming.cc.
"""

import re

SAVED_MODEL_FILE = "saved_model.pb"
FINGERPRINT_FILE = "fingerprint.pb"
VARIABLES_DIRECTORY = "variables"
VARIABLES_PREFIX = "variables/variables"
INDEX_FILE = "variables/variables.index"
ASSETS_DIRECTORY = "assets"
DEBUG_INFO_FILE = "debug/saved_model_debug_info.pb"
CHECKPOINT_STATE_FILE = "checkpoint"
"""Beside checkpoints, which are bundles without a SavedModel: it says which is the latest."""

SAVED_MODEL_NAMES = frozenset(
    {"saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "variables", "assets", "debug"}
)
"""The names at the top of a SavedModel that its saver owns, and replaces as a whole."""

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The entry of a bundle that holds the serialized object graph, a scalar string."""

_DATA_FILE = re.compile(r"(?:variables/)?variables\.data-(\d{5,})-of-(\d{5,})", re.ASCII)
_STAGING_NAME = re.compile(r"\.([^/]+)\.dsave-([0-9A-Za-z_-]+)", re.ASCII)


def index_file(prefix: str) -> str:
    """The index of the bundle with this prefix."""
    return f"{prefix}.index"


def data_file(shard: int, num_shards: int, prefix: str = VARIABLES_PREFIX) -> str:
    """The data file of one shard: `variables/variables.data-00000-of-00003`."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


def is_bundle_file(name: str) -> bool:
    """Whether a name in the folder `variables` is one that a save gives, TensorFlow's too."""
    stem = VARIABLES_PREFIX.rpartition("/")[2]
    return name.startswith((f"{stem}.index", f"{stem}.data-", f"{stem}_temp"))


def parse_data_file(name: str) -> tuple[int, int] | None:
    """(shard, number of shards) of a SavedModel's data file, with or without its folder."""
    found = _DATA_FILE.fullmatch(name)
    if found is None:
        return None
    shard, num_shards = int(found[1]), int(found[2])
    # More digits than five only where five are too few: each file has one name.
    canonical = data_file(shard, num_shards).endswith(name)
    return (shard, num_shards) if canonical and shard < num_shards else None


def staging_name(base: str, epoch: str) -> str:
    """The sibling of directory `base` in which the save of this epoch is staged.

    `epoch`: letters, digits, `-` and `_`.
    """
    return f".{base}.dsave-{epoch}"


def parse_staging_name(name: str) -> tuple[str, str] | None:
    """(base, epoch) of a staging directory's name, or None for any other name."""
    found = _STAGING_NAME.fullmatch(name)
    return None if found is None else (found[1], found[2])
