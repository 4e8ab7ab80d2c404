"""Read a cluster config: the only place that knows that it is a YAML file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dsave.errors import ConfigError
from dsave.model.cluster_spec import ClusterSpec


class _DoubleKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, but that of a key that is there twice takes the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise _DoubleKeyError(str(key))
        return super().construct_mapping(node, deep)


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
            config = yaml.load(Path(path).read_text(), _UniqueKeys)  # noqa: S506 - it is safe
        except _DoubleKeyError as error:
            raise ConfigError(error.key, "it twice", "each key once") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(path, str(error), "a readable YAML file") from None
        except yaml.YAMLError as error:
            raise ConfigError(path, f"no YAML ({error})", "a YAML file") from None
    return ClusterSpec.from_mapping(config)
