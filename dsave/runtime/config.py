"""Read a cluster config: the only place that knows that it is a YAML file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dsave.errors import ConfigError
from dsave.model.cluster_spec import ClusterSpec


def load_spec(
    config: "str | os.PathLike[str] | Mapping[str, Any] | ClusterSpec",
) -> ClusterSpec:
    """The spec that a config file, a mapping or a spec describes.

    Raises:
        ConfigError: what it says is not allowed, or the file cannot be read.
    """
    if isinstance(config, ClusterSpec):
        return config
    if isinstance(config, str | os.PathLike):
        path = os.fspath(config)
        try:
            config = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(path, str(error), "a readable YAML file") from None
        except yaml.YAMLError as error:
            raise ConfigError(path, f"no YAML ({error})", "a YAML file") from None
    return ClusterSpec.from_mapping(config)
