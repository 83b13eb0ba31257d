"""Programs of which every result is changed on its way: numbers of a coarser arithmetic."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics.compiler._jax import bind, opened
from dynamics.compiler.derivatives import through
from dynamics.compiler.jaxprs import interpret

# What only moves numbers or picks some: exact in every arithmetic.
EXACT = {
    *("abs", "argmax", "argmin", "broadcast_in_dim", "clamp", "concatenate", "copy", "copy_p", "convert_element_type"),
    *(
        "dynamic_slice",
        "dynamic_update_slice",
        "gather",
        "iota",
        "max",
        "min",
        "neg",
        "pad",
        "reduce_max",
        "reduce_min",
    ),
    *("reshape", "rev", "scatter", "select_n", "sign", "slice", "sort", "squeeze", "stop_gradient", "transpose"),
    *("device_put", "optimization_barrier", "reduce_precision", "bitcast_convert_type", "split", "expand_dims"),
}


def with_results(function: Callable[..., Any], change: Callable[[Array], Array]) -> Callable[..., Any]:
    """The same function, with the floating-point results of every operation changed: in calls, loops and branches too.

    Results of operations that only move or pick numbers stay as they are.

    Args:
        function: of pytrees of arrays.
        change: from a result to one of the same shape and dtype.

    >>> float(with_results(lambda x: -(x + 0.3) * 2, jnp.floor)(jnp.asarray(1.0)))
    -2.0
    """

    def closed(program: Any, values: Sequence[Any]) -> list[Any]:
        jaxpr, constants = opened(program)
        return interpret(jaxpr, [*constants, *values], evaluate)

    def evaluate(eqn: Any, values: list[Any]) -> list[Any]:
        inside = through(eqn, values, closed)
        if inside is not None:
            return inside
        results = bind(eqn, values)
        if eqn.primitive.name in EXACT:
            return results
        return [change(result) if jnp.issubdtype(result.dtype, jnp.floating) else result for result in results]

    def run(*arguments: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        return jax.tree.unflatten(jax.tree.structure(shape), closed(program, jax.tree.leaves(arguments)))

    return run
