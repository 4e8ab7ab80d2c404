"""What a caller may ask of a save or a load: options, checked once, frozen.

Source: `tf.saved_model.SaveOptions`, `LoadOptions` and `experimental.VariablePolicy`,
TensorFlow 2.21, python/saved_model/{save,load}_options.py. `soft_device_placement` is what
TensorFlow asks of its context.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsave.errors import OptionError, OptionTypeError


class VariablePolicy(enum.Enum):
    """How a saved model describes variables."""

    NONE = None
    """Distributed variables are saved as one variable, with no device attached."""

    SAVE_VARIABLE_DEVICES = "save_variable_devices"
    """Also the device that each variable is on."""

    EXPAND_DISTRIBUTED_VARIABLES = "expand_distributed_variables"
    """Also the components of distributed variables, and their devices."""

    @property
    def saves_devices(self) -> bool:
        """Whether devices are saved: so under every policy but NONE, as in TensorFlow."""
        return self is not VariablePolicy.NONE

    @property
    def expands(self) -> bool:
        """Whether the components of distributed variables are saved."""
        return self is VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES

    @classmethod
    def from_obj(cls, obj: object) -> "VariablePolicy":
        """The policy that `obj` names: a policy, its value string in any case, "none" or None.

        Raises:
            OptionError: `obj` names no policy.
        """
        if isinstance(obj, cls):
            return obj
        if obj is None:
            return cls.NONE
        text = obj.lower() if isinstance(obj, str) else None
        for policy in cls:
            if text == policy.name.lower():
                return policy
        allowed = ", ".join(repr(policy.name.lower()) for policy in cls)
        raise OptionError(
            "experimental_variable_policy",
            f"{obj!r} is not a variable policy; allowed are None, a VariablePolicy, "
            f"and in any case {allowed}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """Options of `dsave.save`, named as TensorFlow names them, and checked when they are made.

    Attributes:
        namespace_whitelist: namespaces of ops (`Mine` of `Mine>Op`) that the graph may use, a
            list of str; whoever loads the model must have these ops. None allows none of them.
        save_debug_info: whether to write `debug/saved_model_debug_info.pb`: which lines of code
            made each node of the graph.
        function_aliases: a dict from alias to function. An alias is one name for all that the
            function was traced to, by which other tools find it in the graph.
        experimental_io_device: the device whose host writes all files, such as
            "/job:worker/task:0/device:CPU:0": for a path that only this host is to have, or
            sees. "/job:localhost" is the process that calls `save`. None: every host writes
            what its variables hold.
        experimental_variable_policy: what the graph says of variables, as a `VariablePolicy` or
            a str in any case. None or "none": a distributed variable is one, and no device is
            said. "save_variable_devices": also the device of each variable.
            "expand_distributed_variables": also every replica and part, on its device. Servers
            and sessions run the last two only where these devices exist.
        experimental_sharding_callback: what cuts that which one host gives in data files: a
            `ShardByTaskPolicy` (as None does: one file for each host), a `MaxShardSizePolicy`,
            or a function of the same form.
        experimental_debug_stripper: whether to leave ops that only debug out: Assert, Print,
            PrintV2, CheckNumerics.
        experimental_skip_saver: whether to leave out how sessions and model servers restore:
            only Python can load such a model.
        extra_tags: tags of the graph after `serve`, a str or several; to load it all of them
            must be given.

    Raises:
        OptionError: a value that the option does not take.
        OptionTypeError: a value of the wrong type.
    """

    namespace_whitelist: list[str] | None = None
    save_debug_info: bool = False
    function_aliases: Mapping[str, object] | None = None
    experimental_io_device: str | None = None
    experimental_variable_policy: VariablePolicy | str | None = field(
        default=VariablePolicy.NONE
    )
    experimental_sharding_callback: Callable[..., Any] | None = None
    experimental_debug_stripper: bool = False
    experimental_skip_saver: bool = False
    extra_tags: Sequence[str] | str | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the frozen dataclass is normalised once, here
        set_field(
            self,
            "experimental_variable_policy",
            VariablePolicy.from_obj(self.experimental_variable_policy),
        )
        set_field(self, "namespace_whitelist", _namespaces(self.namespace_whitelist))
        _check_sharding(self.experimental_sharding_callback)
        set_field(self, "extra_tags", _tags(self.extra_tags))
        _check_device(self.experimental_io_device)
        for option in (
            "save_debug_info",
            "experimental_debug_stripper",
            "experimental_skip_saver",
        ):
            set_field(self, option, _switch(option, getattr(self, option)))
        aliases = {} if self.function_aliases is None else self.function_aliases
        if not isinstance(aliases, Mapping):
            raise OptionTypeError(
                "function_aliases", f"a dict from alias to function is wanted, got {aliases!r}"
            )
        for alias in aliases:
            if not isinstance(alias, str):
                raise OptionTypeError("function_aliases", f"an alias is a str, got {alias!r}")
        set_field(self, "function_aliases", dict(aliases))

    @property
    def variable_policy(self) -> VariablePolicy:
        """The policy, always as a `VariablePolicy`."""
        return VariablePolicy.from_obj(self.experimental_variable_policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options of `dsave.load`, checked when they are made.

    Attributes:
        allow_partial_checkpoint: whether to load what there is, though model and checkpoint do
            not have the same variables.
        soft_device_placement: whether a variable goes to the nearest device if there is none
            here like that on which it was saved; if not, that is a DeviceError.
        experimental_io_device: the device whose host reads all files, such as
            "/job:worker/task:0/device:CPU:0". "/job:localhost" is the process that calls
            `load`. None: each host reads what it needs.

    Raises:
        OptionTypeError: a value of the wrong type.
    """

    allow_partial_checkpoint: bool = False
    soft_device_placement: bool = True
    experimental_io_device: str | None = None

    def __post_init__(self) -> None:
        for option in ("allow_partial_checkpoint", "soft_device_placement"):
            object.__setattr__(self, option, _switch(option, getattr(self, option)))
        _check_device(self.experimental_io_device)


def _switch(option: str, given: object) -> bool:
    # numpy's booleans, and the numbers that are equal to Python's; no text: "no" would be yes.
    if given in (True, False) and not isinstance(given, str | bytes):
        return bool(given)
    raise OptionTypeError(option, f"True or False is wanted, got {given!r}")


def _check_device(given: object) -> None:
    if given is not None and not isinstance(given, str):
        raise OptionTypeError(
            "experimental_io_device", f"a device string or None is wanted, got {given!r}"
        )


def _check_sharding(given: object) -> None:
    # A class is callable too, and what it makes is a policy, not data files.
    if given is not None and (isinstance(given, type) or not callable(given)):
        raise OptionError(
            "experimental_sharding_callback",
            f"a policy, another function of tensors or None is wanted, got {given!r}",
        )


def _namespaces(given: object) -> list[str] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise OptionTypeError(
            "namespace_whitelist",
            f"a list of str or None is wanted, got {given!r} of type {type(given).__name__}",
        )
    for namespace in given:
        if not isinstance(namespace, str):
            raise OptionError(
                "namespace_whitelist",
                f"each is a str, got {namespace!r} of type {type(namespace).__name__}",
            )
    return list(given)


def _tags(given: object) -> tuple[str, ...]:
    tags = (given,) if isinstance(given, str) else () if given is None else given
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise OptionTypeError(
            "extra_tags", f"a str, or a list or tuple of str, is wanted, got {given!r}"
        )
    return tuple(tags)
