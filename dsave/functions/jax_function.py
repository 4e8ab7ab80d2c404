"""`dsave.jax_function`: JAX code as a function that can be saved. It needs `dsave[jax]`.

What is saved is one op, XlaCallModule, that holds the code as portable StableHLO
(jax.export; tensorflow/compiler/tf2xla/kernels/xla_call_module_loader.cc reads it). Arguments
and results are in JAX's order: dicts by sorted key.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from dsave.errors import DtypeError, OptionError, OptionTypeError
from dsave.functions.call import call
from dsave.functions.function import Function
from dsave.functions.graph import TensorSpec
from dsave.functions.operands import spec_dtype
from dsave.functions.stack import trace_error
from dsave.functions.structure import flatten
from dsave.functions.tensor import Tensor
from dsave.functions.tracer import current_trace
from dsave.model.dtype import DType, dtype_of
from dsave.model.readable import value_of
from dsave.model.variable import Variable

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

_MAX_VERSION = 10
"""The last calling convention that TensorFlow 2.21 knows."""

_WIDE = frozenset({"float64", "int64", "uint64", "complex128"})

_GIVEN = object()
"""In the place of a leaf that is a tensor; others are Python values, and part of the code."""


def jax_function(
    fn: Callable[..., Any],
    input_signature: Sequence[object],
    variables: object = None,
    platforms: Sequence[str] = ("cpu",),
) -> Function:
    """Make JAX code a function that can be saved.

    Called with arrays it runs through JAX, and returns arrays of numpy. `variables` is a
    pytree of dsave variables; where it is given, their values are the first argument of `fn`.
    An unknown first extent is the same for all arguments, any other is one of its own, but
    extents of one name are equal: `TensorSpec(["b", "t", 3])`.
    `platforms`: where the function can run: "cpu", "cuda", "rocm", "tpu".

    Raises:
        OptionError: JAX is not installed, or there is no such platform.
        OptionTypeError: something else than TensorSpecs, variables or names of platforms.
    """
    try:
        import jax  # noqa: PLC0415 - optional, and slow to import
        from jax import export  # noqa: PLC0415
    except ImportError:
        raise OptionError("jax_function", "it needs JAX: install dsave[jax]") from None

    code = _Code(jax, export, fn, variables, _platforms(platforms))

    def run(*args: Any, **kwargs: Any) -> Any:
        return code(args, kwargs)

    run.__name__ = getattr(fn, "__name__", type(fn).__name__)
    run.__doc__ = fn.__doc__
    parameters = list(inspect.signature(fn).parameters.values())
    if variables is not None and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        del parameters[0]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Function(run, input_signature)


class _Code:
    """JAX code that is run, or exported into the function that is being traced."""

    def __init__(
        self,
        jax: Any,
        export: Any,
        fn: Callable[..., Any],
        variables: object,
        platforms: tuple[str, ...],
    ) -> None:
        self._jax = jax
        self._export = export
        self._fn = fn
        self._platforms = platforms
        self._variables, self._variables_tree = jax.tree.flatten(variables)
        self._takes_variables = variables is not None
        for leaf in self._variables:
            if not isinstance(leaf, Variable):
                raise OptionTypeError("variables", f"dsave variables are wanted, got {leaf!r}")

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Any:
        leaves, tree = self._jax.tree.flatten((args, dict(kwargs)))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor | np.ndarray)]
        literals = (
            _GIVEN if isinstance(leaf, Tensor | np.ndarray) else leaf for leaf in leaves
        )
        form = (tree, tuple(literals))
        for dtype in [v.dtype for v in self._variables] + [spec_dtype(t) for t in tensors]:
            self._check(dtype)
        if current_trace() is not None:
            return self._recorded(form, tensors)
        values = map(self._jax.numpy.asarray, (*map(value_of, self._variables), *tensors))
        return self._jax.tree.map(np.asarray, self._on_leaves(form, *values))

    def _on_leaves(self, form: tuple[Any, tuple[object, ...]], *leaves: Any) -> Any:
        count = len(self._variables)
        tree, literals = form
        given = iter(leaves[count:])
        args, kwargs = self._jax.tree.unflatten(
            tree, [next(given) if literal is _GIVEN else literal for literal in literals]
        )
        if self._takes_variables:
            args = (self._jax.tree.unflatten(self._variables_tree, leaves[:count]), *args)
        return self._fn(*args, **kwargs)

    def _recorded(self, form: tuple[Any, tuple[object, ...]], tensors: list[Any]) -> Any:
        """What the code returns in a trace: outputs of the op that holds it."""
        scope = self._export.SymbolicScope()
        inputs = [*self._variables, *tensors]
        shapes = [each.spec.dims if isinstance(each, Tensor) else each.shape for each in inputs]
        named = {n for shape in shapes for n in shape if isinstance(n, str)}
        structs = [
            self._jax.ShapeDtypeStruct(
                self._shape(shape, place, named, scope), dtype_of(each.dtype).numpy
            )
            for place, (each, shape) in enumerate(zip(inputs, shapes, strict=True))
        ]
        # A new function each time: of the same one jit remembers what the code was.
        flat = self._jax.jit(lambda *leaves: self._on_leaves(form, *leaves))
        with self._one_frame():
            exported = self._export.export(flat, platforms=self._platforms)(*structs)
        self._check_exported(exported)
        kept = [inputs[place] for place in exported.module_kept_var_idx]
        specs = [
            TensorSpec([n if isinstance(n, int) else None for n in aval.shape], aval.dtype)
            for aval in exported.out_avals
        ]
        outputs = call(
            "XlaCallModule",
            kept,
            {
                "version": exported.calling_convention_version,
                "module": exported.mlir_module_serialized,
                "platforms": [platform.upper() for platform in exported.platforms],
                "Tin": [dtype_of(each.dtype) for each in kept],
                "Tout": [spec.dtype for spec in specs],
                "Sout": [spec.shape for spec in specs],
            },
            specs,
        )
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        results = self._jax.tree.unflatten(exported.out_tree, outputs)
        held = [id(leaf) for leaf in flatten(results) if leaf is not None]
        if held != [id(output) for output in outputs]:
            raise trace_error(
                "jax_function", "its results are lists, tuples and dicts of arrays, no classes"
            )
        return results

    @contextmanager
    def _one_frame(self) -> Iterator[None]:
        """JAX notes no callers: the same code is the same bytes, whoever exports it."""
        option, config = "jax_traceback_in_locations_limit", self._jax.config
        before = getattr(config, option)
        config.update(option, 1)
        try:
            yield
        finally:
            config.update(option, before)

    def _shape(
        self,
        dims: tuple[int | str | None, ...],
        place: int,
        named: Collection[str],
        scope: Any,
    ) -> Any:
        """A shape whose unknown extents have names; those given here are none of the user's."""
        if all(isinstance(n, int) for n in dims):
            return dims
        names = []
        for axis, n in enumerate(dims):
            name = str(n) if n is not None else f"d{place}_{axis}" if axis else "b"
            while n is None and name in named:
                name += "_"
            names.append(name)
        return self._export.symbolic_shape(", ".join(names), scope=scope)

    def _check(self, dtype: DType) -> None:
        if dtype.is_string or "qu" in dtype.name or "qi" in dtype.name:
            raise DtypeError(dtype.name, "JAX has no arrays of it")
        if dtype.name in _WIDE and not self._jax.config.jax_enable_x64:
            raise DtypeError(
                dtype.name, 'JAX has it after jax.config.update("jax_enable_x64", True) only'
            )

    def _check_exported(self, exported: Any) -> None:
        if exported.calling_convention_version > _MAX_VERSION:
            raise OptionError(
                "jax_export_calling_convention_version",
                f"TensorFlow reads versions up to {_MAX_VERSION}, this JAX exports "
                f"{exported.calling_convention_version}; set this option of JAX",
            )
        if exported.nr_devices != 1:
            raise trace_error(
                "jax_function",
                f"a SavedModel holds code for 1 device, not {exported.nr_devices}",
            )


def _platforms(given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not given or not all(isinstance(p, str) for p in given):
        raise OptionTypeError("platforms", f"a list of names is wanted, got {given!r}")
    names = tuple(dict.fromkeys(platform.lower() for platform in given))
    for name in names:
        if name not in _PLATFORMS:
            raise OptionError("platforms", f"{name!r} is none of {', '.join(_PLATFORMS)}")
    return names
