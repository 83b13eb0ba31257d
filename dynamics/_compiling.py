"""Compiling quickly what runs for milliseconds."""

from collections.abc import Callable
from typing import Any

import jax


def compile_quickly(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile without the costly optimisations, as far as this version of the compiler knows the options."""
    options: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    while options:
        try:
            return lowered.compile(compiler_options=options)
        except Exception:  # an option of the compiler's own that is gone
            options.popitem()
    return lowered.compile()


def quick_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for programs that are compiled for a few calls; positional arguments of arrays only."""
    programs: dict[Any, jax.stages.Compiled] = {}

    def call(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        kind = structure, tuple((jax.numpy.shape(leaf), jax.numpy.result_type(leaf)) for leaf in leaves)
        if kind not in programs:
            programs[kind] = compile_quickly(jax.jit(function).lower(*arguments))
        return programs[kind](*arguments)

    return call
