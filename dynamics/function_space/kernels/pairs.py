"""A kernel of all pairs of two sets of points: its matrix, and sums over the points of one set with their gradients.

Sets of a few hundred points have a hundred thousand pairs, each of which is some hundred operations on single numbers.
XLA would write every intermediate result of all pairs to memory; on a CPU the loop over pairs becomes machine code
instead, rows side by side in the registers (`dynamics.compiler`). Derivatives of what is computed here are those of the
plain programs below, so that they can be taken again.
"""

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics.compiler import fallback
from dynamics.compiler.twins import with_faster_twin

MANY = 10_000  # pairs, from which on they are worth a program of their own
LARGEST = 256  # numbers that a kernel needs of a point; with more the loop is long code
ROW_BLOCKS = 4  # of a symmetric matrix
TILE = 64  # rows are filled up to a multiple, so that registers are full


def matrix(kernel: Any, rows: Array, columns: Array) -> Array:
    """The kernel of every point of one set with every one of another, shape (n, m)."""
    if not _is_worth_it(kernel, rows, columns):
        return _plain_matrix(kernel, rows, columns)
    return _on_cpu(_fast_matrix, _plain_matrix, kernel, rows, columns)


def symmetric(kernel: Any, points: Array) -> Array:
    """The kernel of every point of a set with every one of the same, shape (n, n), symmetric to the last bit.

    Of large sets in blocks of rows, each of them up to the diagonal: five eighths of all pairs.
    """
    if len(points) < ROW_BLOCKS * TILE or not _is_worth_it(kernel, points, points):
        return matrix(kernel, points, points)
    ends = [len(points) * block // ROW_BLOCKS for block in range(ROW_BLOCKS + 1)]
    blocks = [matrix(kernel, points[begin:end], points[:end]) for begin, end in itertools.pairwise(ends)]
    lower = jnp.concatenate([jnp.pad(block, ((0, 0), (0, len(points) - block.shape[1]))) for block in blocks])
    return jnp.tril(lower) + jnp.tril(lower, -1).T


@eqx.filter_jit
def sums(kernel: Any, rows: Array, columns: Array, weights: Array) -> Array:
    r"""$\\sum_j w_j k(x_i, y_j)$ for every row, shape (n,)."""
    if len(rows) * len(columns) < MANY:
        return jnp.sum(weights * _plain_matrix(kernel, rows, columns), axis=1)
    return _sums(rows, (kernel, columns, weights))


def _is_worth_it(kernel: Any, rows: Array, columns: Array) -> bool:
    """Whether the loop over pairs becomes machine code."""
    if len(rows) * len(columns) < MANY or rows.dtype not in (jnp.float32, jnp.float64) or not fallback.is_wanted():
        return False
    needed = jax.eval_shape(kernel.of_point, jax.ShapeDtypeStruct(rows.shape[1:], rows.dtype))
    return sum(leaf.size for leaf in jax.tree.leaves(needed)) <= LARGEST


# Plain programs


def _plain_matrix(kernel: Any, rows: Array, columns: Array) -> Array:
    # What depends on one of the two points alone is computed once per point, not once per pair.
    first, second = (jax.vmap(kernel.of_point)(points) for points in (rows, columns))
    return jax.vmap(lambda one: jax.vmap(lambda two: kernel.of_pair(one, two))(second))(first)


def _one_sum(kernel: Any, row: Array, columns: Array, weights: Array) -> Array:
    one, second = kernel.of_point(row), jax.vmap(kernel.of_point)(columns)
    return jnp.sum(weights * jax.vmap(lambda two: kernel.of_pair(one, two))(second))


def _plain_sums(kernel: Any, rows: Array, columns: Array, weights: Array) -> Array:
    # Row after row: the intermediate results of all pairs may have no room.
    return jax.lax.map(lambda row: _one_sum(kernel, row, columns, weights), rows)


def _plain_slopes(kernel: Any, rows: Array, columns: Array, weights: Array) -> tuple[Array, Array]:
    return jax.lax.map(jax.value_and_grad(lambda row: _one_sum(kernel, row, columns, weights)), rows)


# Machine code, with the same numbers


def _over_rows(
    kernel: Any, rows: Array, columns: tuple[Any, ...], each: Callable[[Any, Any], Any]
) -> tuple[Any, Callable[[Any], Any]]:
    """What a function of a row makes of it, for all rows, with the rows last; and how these become first again."""
    from dynamics.compiler.batch.interpreter import batch_last_axis  # an error there is one of the compiler

    count = len(rows)
    filled = -(-count // TILE) * TILE
    filled += TILE * (filled == len(jax.tree.leaves(columns)[0]))  # the axis of rows is known by its length
    padded = jnp.concatenate([rows, jnp.broadcast_to(rows[:1], (filled - count, *rows.shape[1:]))])
    last = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), jax.vmap(kernel.of_point)(padded))
    result = batch_last_axis(lambda one: each(one, columns), machine_code=True)(last)
    return result, lambda tree: jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0)[:count], tree)


def _fast_matrix(kernel: Any, rows: Array, columns: Array) -> Array:
    def each(one: Any, second: Any) -> Array:
        return jax.lax.scan(lambda _, two: (None, kernel.of_pair(one, two)), None, second)[1]

    result, first = _over_rows(kernel, rows, jax.vmap(kernel.of_point)(columns), each)
    return first(result)


def _fast_sums(kernel: Any, rows: Array, columns: Array, weights: Array) -> Array:
    def each(one: Any, columns: Any) -> Array:
        def add(total: Array, column: Any) -> tuple[Array, None]:
            two, weight = column
            return total + weight * kernel.of_pair(one, two), None

        return jax.lax.scan(add, jnp.zeros((), rows.dtype), columns)[0]

    result, first = _over_rows(kernel, rows, (jax.vmap(kernel.of_point)(columns), weights), each)
    return first(result)


def _fast_slopes(kernel: Any, rows: Array, columns: Array, weights: Array) -> tuple[Array, Array]:
    # The chain rule: slopes with respect to what the kernel needs of a point are summed, and then taken back to it.
    def each(one: Any, columns: Any) -> Any:
        def add(total: Any, column: Any) -> tuple[Any, None]:
            two, weight = column
            new = jax.value_and_grad(lambda one: kernel.of_pair(one, two))(one)
            return jax.tree.map(lambda before, more: before + weight * more, total, new), None

        start = jnp.zeros((), rows.dtype), jax.tree.map(jnp.zeros_like, one)
        return jax.lax.scan(add, start, columns)[0]

    result, first = _over_rows(kernel, rows, (jax.vmap(kernel.of_point)(columns), weights), each)
    values, slopes = first(result)
    (gradients,) = jax.vmap(lambda row, slope: jax.vjp(kernel.of_point, row)[1](slope))(rows, slopes)
    return values, gradients


def _on_cpu(fast: Callable[..., Any], plain: Callable[..., Any], *arguments: Any) -> Any:
    """The fast program on a CPU, and the plain one elsewhere."""
    arrays, rest = eqx.partition(arguments, eqx.is_array)

    def of(program: Callable[..., Any]) -> Callable[..., Any]:
        return lambda arrays: program(*eqx.combine(arrays, rest))

    return with_faster_twin(of(plain), of(fast), cpu_only=True)(arrays)


@eqx.filter_custom_jvp
def _sums(rows: Array, others: tuple[Any, Array, Array]) -> Array:
    kernel, columns, weights = others
    if not _is_worth_it(kernel, rows, columns):
        return _plain_sums(kernel, rows, columns, weights)
    return _on_cpu(_fast_sums, _plain_sums, kernel, rows, columns, weights)


# Derivatives with respect to the rows are those of one row after the other: the memory of a gradient through the matrix
# is not needed.
@_sums.def_jvp
def _sums_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    rows, others = primals
    of_rows, of_others = tangents
    total = None
    if of_rows is None:
        values = _sums(rows, others)
    else:
        kernel, columns, weights = others
        values, gradients = _slopes(kernel, rows, columns, weights)
        total = jnp.sum(jnp.reshape(gradients * of_rows, (len(values), -1)), axis=1)
    if jax.tree.leaves(of_others):

        def plain(others: Any) -> Array:
            kernel, columns, weights = others
            return _plain_sums(kernel, rows, columns, weights)

        change = eqx.filter_jvp(plain, (others,), (of_others,))[1]
        total = change if total is None else total + change
    return values, total  # pyright: ignore[reportReturnType]


def _slopes(kernel: Any, rows: Array, columns: Array, weights: Array) -> tuple[Array, Array]:
    if not _is_worth_it(kernel, rows, columns):
        return _plain_slopes(kernel, rows, columns, weights)
    return _on_cpu(_fast_slopes, _plain_slopes, kernel, rows, columns, weights)
