"""Scales of memory in which the Jacobian of a step is small, so that its eigenvalues survive rounding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics.analysis.spectra.operators import Product

LARGEST = 1e12  # between the scales of two numbers of one array of memory


def memory_scales(product: Product, players: PyTree, memory: PyTree, direction: Array) -> tuple[Array, Array]:
    r"""The diagonal of D for which $D^{-1} J D$ couples players and memory as strongly in both directions; traceable.

    Adam moves a parameter by $h\,m/\sqrt v$: where v is 1e-12 its memory acts a million times as strongly on the
    players as they on it, the Jacobian has a norm of 1e4 to 1e6, and its eigenvalues drown in rounding. In the scales
    $d_i = \sqrt{r_i/c_i}$ of memory, where $c_i$ is how much the players change with it and $r_i$ how much it changes
    with the players, the norm is about 1; eigenvalues are those of J for any D. The c of one copy of a player's
    parameters come from one product, the r of all memory from three products with random directions; no type of
    optimiser is asked for. Memory of other shapes keeps the scale 1.

    Where what flows into memory is rounding alone (a bias before a batch norm has no gradient), $r_i$ is no less than
    that rounding over the machine epsilon: smaller scales would blow it up. It is seen from how far products are from
    linear.

    Args:
        product: with J, on the players and, behind them, the floating part of the memory.
        players: a tuple of pytrees.
        memory: floating part of the memory.
        direction: standard normal, shape (4, n).

    Returns:
        the scales, shape (n,), and the product of J with the last direction.
    """
    count, (probes, size) = _size(players), direction.shape
    parts = copies(players, memory)
    begins = np.array([begin for begin, _, _ in parts], int)
    ends = begins + np.array([length for _, length, _ in parts], int)
    index = jnp.arange(size)
    of_players = jnp.where(index < count, direction[:-1], 0)
    of_parts = (index >= begins[:, None]) & (index < ends[:, None])
    combined = jnp.stack([of_players.sum(axis=0), 3 * of_players[0]])
    answers = jax.lax.map(
        product, jnp.concatenate([of_players, of_parts.astype(direction.dtype), combined, direction[-1:]])
    )
    into = jnp.sqrt(jnp.mean(answers[: probes - 1] ** 2, axis=0))
    expected = jnp.stack([answers[: probes - 1].sum(axis=0), 3 * answers[0]])
    noise = jnp.max(jnp.abs(answers[-3:-1] - expected), axis=0) / 3
    into = jnp.maximum(into, noise / jnp.finfo(direction.dtype).eps)
    scales = jnp.ones(size, direction.dtype)
    for number, (begin, length, targets) in enumerate(parts):
        response = jnp.abs(answers[probes - 1 + number])
        candidates = jnp.stack([response[first : first + length] for first in targets])
        out = candidates[jnp.argmax(jnp.linalg.norm(candidates, axis=1))]
        part = into[begin : begin + length]
        scale = jnp.sqrt(_positive(part) / _positive(out))
        known = (jnp.max(out) > 0) & (jnp.max(part) > 0) & jnp.all(jnp.isfinite(scale))
        scales = scales.at[begin : begin + length].set(jnp.where(known, scale, 1))
    return scales, answers[-1]


def dense_memory_scales(jacobian: Any, players: int) -> np.ndarray:
    r"""The same scales from a Jacobian that is written down, as powers of two: $D^{-1} J D$ has no rounding of its own.

    Args:
        jacobian: of a step, shape (n, n), players first.
        players: how many of the n numbers are players'.

    Returns:
        shape (n,); 1 for players, and for memory that acts in one direction alone.
    """
    matrix = np.asarray(jacobian, float)
    scales = np.ones(len(matrix))
    with np.errstate(all="ignore"):
        out = np.linalg.norm(matrix[:players, players:], axis=0)
        into = np.linalg.norm(matrix[players:, :players], axis=1)
        exponents = np.round(np.log2(into / out) / 2)
    most = np.log2(LARGEST)
    usable = np.isfinite(exponents)
    scales[players:][usable] = np.exp2(np.clip(exponents[usable], -most, most))
    return scales


def _positive(values: Array) -> Array:
    return jnp.maximum(values, jnp.maximum(jnp.max(values) / LARGEST, jnp.finfo(values.dtype).tiny * 1e6))


def copies(players: PyTree, memory: PyTree) -> list[tuple[int, int, list[int]]]:
    """Where memory has the structure and the shapes of a player's parameters.

    Returns:
        for every such part of memory its first place in the flat state, its length, and the first places of the players
        that it may belong to.
    """
    starts = np.cumsum([0, *(_size(player) for player in players)])
    kinds = [_kind(player) for player in players]
    parts: list[tuple[int, int, list[int]]] = []

    def same(node: PyTree) -> bool:
        return node is not None and _kind(node) in kinds

    begin = int(starts[-1])
    for node in jax.tree.leaves(memory, is_leaf=same):
        length = _size(node)
        if same(node) and length:
            kind = _kind(node)
            parts.append((begin, length, [int(starts[i]) for i, other in enumerate(kinds) if other == kind]))
        begin += length
    return parts


def _kind(tree: PyTree) -> Any:
    return jax.tree.structure(tree), tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree))


def _size(tree: PyTree) -> int:
    return sum(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(tree))
