"""Arithmetic on players: tuples of arbitrary pytrees."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def add_scaled(tree: PyTree, scale: Any, other: PyTree) -> PyTree:
    """`tree + scale * other`, leaf by leaf."""
    return jax.tree.map(lambda a, b: a + scale * b, tree, other)


def scaled(scale: Any, tree: PyTree) -> PyTree:
    """`scale * tree`, leaf by leaf."""
    return jax.tree.map(lambda a: scale * a, tree)


def combined(coefficients: Sequence[float], trees: Sequence[PyTree], unit: Any = 1) -> PyTree | None:
    """The sum of the trees times their coefficients, in units; trees of coefficient 0 count for nothing.

    Trees of equal coefficients are added first, for speed. `None` where nothing is left.
    """
    equal: dict[float, list[PyTree]] = {}
    for coefficient, tree in zip(coefficients, trees, strict=True):
        if coefficient:
            equal.setdefault(coefficient, []).append(tree)
    total = None
    for coefficient, group in equal.items():
        part = functools.reduce(functools.partial(jax.tree.map, operator.add), group)
        total = scaled(coefficient * unit, part) if total is None else add_scaled(total, coefficient * unit, part)
    return total


def dot(tree: PyTree, other: PyTree) -> Array:
    """Euclidean inner product over all leaves."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), tree, other)
    return functools.reduce(operator.add, jax.tree.leaves(products))


def norm(tree: PyTree) -> Array:
    """Euclidean norm over all leaves."""
    return jnp.sqrt(dot(tree, tree))


def norms(trees: Sequence[PyTree]) -> Array:
    """Euclidean norm of every entry, in one vector."""
    return jnp.stack([norm(tree) for tree in trees])


def replaced(entries: tuple[Any, ...], index: int, entry: Any) -> tuple[Any, ...]:
    """The tuple with one entry exchanged."""
    return entries[:index] + (entry,) + entries[index + 1 :]


def size(tree: PyTree) -> int:
    """Number of real numbers in the tree; of arrays, or of their shapes and dtypes alone."""
    return sum(math.prod(leaf.shape) if hasattr(leaf, "shape") else 1 for leaf in jax.tree.leaves(tree))


def float_size(tree: PyTree) -> int:
    """Number of floating-point numbers in the tree; of arrays, or of their shapes and dtypes alone."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(math.prod(leaf.shape) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))


def float_dtype(tree: PyTree) -> Any:
    """The common floating dtype of the tree's leaves; the default one for a tree without numbers."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf) or isinstance(leaf, float)]
    return jnp.result_type(*[dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)] or [float])


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Give every floating array leaf the dtype; leave all other leaves alone.

    >>> import jax.numpy as jnp
    >>> cast({"a": jnp.ones(2), "n": jnp.arange(2)}, jnp.bfloat16)["a"].dtype.name
    'bfloat16'
    """

    dtype = jax.dtypes.canonicalize_dtype(dtype)

    def cast_leaf(leaf):
        if isinstance(leaf, jax.Array) and leaf.dtype == dtype and not leaf.weak_type:
            return leaf
        return jax.lax.convert_element_type(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(cast_leaf, tree)
