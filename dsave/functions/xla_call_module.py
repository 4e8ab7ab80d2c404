"""Run the op XlaCallModule, code that JAX exported, through JAX. It needs `dsave[jax]`.

The op holds StableHLO, bytecode or text, that leaves extents open. For inputs whose shapes are
known, XLA's passes find all others; JAX compiles and calls what they leave. Format:
tensorflow/compiler/tf2xla/kernels/xla_call_module_loader.cc, jax/_src/export/_export.py.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dsave.functions.graph import Array
from dsave.model.dtype import dtype_of

OP = "XlaCallModule"

_BYTECODE = b"ML\xefR"
_WIDE = frozenset({"float64", "int64", "uint64", "complex128"})
"""What JAX has only where it is asked for it."""

_Form = tuple[tuple[int, ...], "np.dtype[Any]"]
"""The shape and the dtype of an array."""


class JaxError(RuntimeError):
    """Why code of JAX cannot be run here."""


def run_module(attrs: Mapping[str, Any], inputs: Sequence[Array]) -> list[Array]:
    """The outputs of the op, given its attributes.

    Raises:
        JaxError: JAX is not installed, or does not run this code, or not for these inputs.
    """
    try:
        import jax  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise JaxError("it holds JAX code; install dsave[jax]") from None
    types = {dtype_of(each.dtype).name for each in inputs}
    types.update(dtype.name for dtype in attrs["Tout"])
    wide = contextlib.nullcontext() if types.isdisjoint(_WIDE) else _wide(jax)
    try:
        with wide:
            call = _compiled(
                attrs["module"],
                attrs["version"],
                tuple(name.decode().lower() for name in attrs.get("platforms", ())),
                bool(attrs.get("has_token_input_output") or attrs.get("dim_args_spec")),
                tuple((each.shape, each.dtype) for each in inputs),
                tuple(dtype.numpy for dtype in attrs["Tout"]),
            )
            return [np.asarray(output) for output in call(*inputs)]
    except JaxError:
        raise
    except Exception as error:  # JAX's and XLA's have no class in common
        # Of shapes that do not fit the cause says how, and the error how to debug JAX.
        said = str(error.__cause__ or error)
        raise JaxError(said.strip().partition("\n")[0]) from error


@lru_cache(maxsize=64)  # each is compiled once
def _compiled(
    module: bytes,
    version: int,
    platforms: tuple[str, ...],
    outdated: bool,
    inputs: tuple[_Form, ...],
    results: tuple[Any, ...],
) -> Callable[..., Sequence[Any]]:
    """The code as a function of arrays of these shapes and dtypes."""
    import jax  # noqa: PLC0415
    from jax import export  # noqa: PLC0415

    oldest = export.minimum_supported_calling_convention_version
    newest = export.maximum_supported_calling_convention_version
    if outdated or not oldest <= version <= newest:
        raise JaxError(
            f"the code has calling convention {version}"
            f"{' with tokens or dimension arguments' if outdated else ''}; "
            f"this JAX runs {oldest} to {newest}",
        )
    here = export.default_export_platform()
    if here not in platforms:
        raise JaxError(f"the code is for {', '.join(platforms)}, and this JAX runs on {here}")
    # Code for several platforms is told first for which of them it runs.
    which: list[_Form] = [((), np.dtype(np.int32))] if len(platforms) > 1 else []
    code, shapes = _refined(module, [*which, *inputs])
    outputs = list(zip(shapes, results, strict=True))
    # What JAX would have exported for these shapes, but for the code in it.
    like = export.export(
        jax.jit(lambda *_: tuple(jax.numpy.zeros(*output) for output in outputs)),
        platforms=platforms,
    )(*(jax.ShapeDtypeStruct(*each) for each in inputs))
    exported = dataclasses.replace(
        like,
        mlir_module_serialized=code,
        calling_convention_version=version,
        module_kept_var_idx=tuple(range(len(inputs))),
        uses_global_constants=True,  # so that JAX checks what the code asserts of its shapes
    )
    call: Callable[..., Sequence[Any]] = jax.jit(exported.call)
    return call


def _refined(module: bytes, inputs: Sequence[_Form]) -> tuple[bytes, list[tuple[int, ...]]]:
    """The code with all extents known, and the shape of each output."""
    from jax.interpreters import mlir  # noqa: PLC0415
    from jaxlib.mlir import ir, passmanager  # noqa: PLC0415
    from jaxlib.mlir.dialects import stablehlo  # noqa: PLC0415

    with mlir.make_ir_context() as context, ir.Location.unknown(context):
        if module.startswith(_BYTECODE):
            parsed = stablehlo.deserialize_portable_artifact(context, module)
        else:
            parsed = ir.Module.parse(module)
        taken = _main_type(ir, parsed).inputs
        types = [
            str(ir.RankedTensorType.get(shape, ir.RankedTensorType(each).element_type))
            for (shape, _), each in zip(inputs, taken, strict=True)
        ]
        stablehlo.register_stablehlo_passes()
        arguments = f"stablehlo-refine-arguments{{types={','.join(types)}}}"
        passes = f"builtin.module({arguments},stablehlo-refine-shapes)"
        passmanager.PassManager.parse(passes).run(parsed.operation)
        returned = [ir.RankedTensorType(each) for each in _main_type(ir, parsed).results]
        if not all(each.has_static_shape for each in returned):
            raise JaxError(
                "the shapes of its results do not follow from those of its arguments"
            )
        shapes = [tuple(each.shape) for each in returned]
        version = stablehlo.get_current_version()
        return stablehlo.serialize_portable_artifact(parsed, version), shapes


def _main_type(ir: Any, parsed: Any) -> Any:
    return ir.SymbolTable(parsed.operation)["main"].type


def _wide(jax: Any) -> contextlib.AbstractContextManager[object]:
    """JAX with the dtypes of 64 bits per number."""
    try:
        enable: Any = jax.enable_x64
    except AttributeError:  # before JAX 0.8
        from jax.experimental import enable_x64  # noqa: PLC0415

        enable = enable_x64
    wide: contextlib.AbstractContextManager[object] = enable(True)
    return wide
