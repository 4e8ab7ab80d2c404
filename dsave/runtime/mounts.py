"""Paths of which a simulated host has its own copy, and where on this machine that is."""

import os
from collections.abc import Mapping
from pathlib import PurePosixPath


def mount_of(path: str, mounts: Mapping[str, str]) -> str | None:
    """The private path, a key of `mounts`, that a host's path is in; None: in none of them."""
    if not path.startswith("/"):  # a URL
        return None
    pure = _pure(path)
    return next((mount for mount in mounts if pure.is_relative_to(mount)), None)


def behind(path: str, mounts: Mapping[str, str]) -> str:
    """Where a path as a host sees it lies; `mounts`: where each of its private paths does."""
    mount = mount_of(path, mounts)
    if mount is None:
        return path
    return str(PurePosixPath(mounts[mount]) / _pure(path).relative_to(mount))


def private_note(path: str, hosts: Mapping[str, Mapping[str, str]]) -> str:
    """What to know of a path that is private to hosts, by their mounts; empty: it is not."""
    mount = next((m for mounts in hosts.values() if (m := mount_of(path, mounts))), None)
    if mount is None:
        return ""
    place = os.path.commonpath([mounts[mount] for mounts in hosts.values()])
    return (
        f"each host has its own {mount} (local_paths in the cluster's config), below {place}; "
        "a local_root in the config keeps them where the next cluster finds them, and "
        f"experimental_io_device='/job:localhost' reads the {mount} of the calling process"
    )


def _pure(path: str) -> PurePosixPath:
    return PurePosixPath("/", os.path.normpath(path).lstrip("/"))
