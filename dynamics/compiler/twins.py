"""Programs that have a faster twin with the same numbers, which only XLA gets to see.

Derivatives, and all that reads a program here, are those of the plain one; what XLA compiles is its twin.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dynamics.compiler import fallback
from dynamics.compiler._jax import (
    CALLS,
    jaxpr_as_fun,
    lower_function,
    new_primitive,
    register_batching,
    register_derivative,
    register_lowering,
)

NAME = next(name for name in CALLS if "twin" in name)


def with_faster_twin(plain: Callable[..., Any], fast: Callable[..., Any], *, cpu_only: bool = False) -> Callable:
    """A function of pytrees of arrays with a faster twin.

    Where the twin cannot be traced the plain function serves, with a `CompilerWarning`.

    Args:
        plain: what it computes. Neither may close over traced arrays.
        fast: the same within rounding; it need not have derivatives, and is never batched.
        cpu_only: whether the twin is faster on a CPU alone.

    >>> twice = with_faster_twin(lambda x: x + x, lambda x: 2 * x)
    >>> float(jax.jit(jax.grad(twice))(3.0))
    2.0
    """

    def call(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        leaves = [jnp.asarray(leaf) for leaf in leaves]

        def of(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *leaves: function(*jax.tree.unflatten(structure, leaves))

        try:
            primitive = _primitive()
        except Exception as error:  # of a JAX that is not known here
            fallback.report(error)
            return plain(*arguments)
        closed, shape = jax.make_jaxpr(of(plain), return_shape=True)(*leaves)
        results = primitive.bind(*leaves, plain=closed, fast=of(fast), cpu_only=cpu_only)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return call


@functools.cache
def _primitive() -> Any:
    primitive = new_primitive(NAME, lambda *avals, plain, fast, cpu_only: list(plain.out_avals))
    register_lowering(primitive, _lower)
    register_lowering(primitive, _lower_fast, platform="cpu")
    register_derivative(primitive, _derivative)
    register_batching(primitive, _one_after_the_other)
    return primitive


def _derivative(primals: Any, tangents: Any, *, plain: Any, **params: Any) -> Any:
    _, changes = jax.jvp(jaxpr_as_fun(plain), tuple(primals), tangents)
    return _primitive().bind(*primals, plain=plain, **params), changes


def _one_after_the_other(arrays: Any, axes: Any, **params: Any) -> Any:
    batched = [jnp.moveaxis(array, axis, 0) for array, axis in zip(arrays, axes, strict=True) if axis is not None]

    def one(rows: Any) -> list[Any]:
        rest = iter(rows)
        whole = [a if axis is None else next(rest) for a, axis in zip(arrays, axes, strict=True)]
        return _primitive().bind(*whole, **params)

    results = jax.lax.map(one, batched)
    return results, [0] * len(results)


def _lower_plain(context: Any, *arrays: Any, plain: Any, **_: Any) -> Any:
    return lower_function(context, jaxpr_as_fun(plain), arrays)


def _lower_fast(context: Any, *arrays: Any, plain: Any, fast: Any, **_: Any) -> Any:
    try:
        return lower_function(context, lambda *leaves: jax.tree.leaves(fast(*leaves)), arrays)
    except Exception as error:  # of a JAX or a version of LLVM that is not known here
        fallback.report(error)
        return _lower_plain(context, *arrays, plain=plain)


def _lower(context: Any, *arrays: Any, cpu_only: bool, **params: Any) -> Any:
    return (_lower_plain if cpu_only else _lower_fast)(context, *arrays, **params)
