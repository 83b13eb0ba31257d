from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, is_concrete
from dynamics.directions.base import Direction
from dynamics.directions.gradient import Gradient
from dynamics.game import Game, Players

Scale = Array | tuple[Array, ...]


class Noisy(Direction):
    r"""Any direction with Gaussian noise on every coordinate, as a stand-in for the noise of minibatches.

    $d_i(x) + s_i\,\xi$ with independent $\xi \sim N(0, I)$ for a key; the exact direction without one.

    Args:
        direction: the direction without noise; default the gradient.
        scale: standard deviation s of the noise, >= 0: one number, or one per player.

    Raises:
        ValueError: a scale is negative or not finite, or there is not one per player.

    >>> from dynamics.games import Bilinear
    >>> players = (jnp.asarray(1.0), jnp.asarray(3.0))
    >>> [float(d) for d in Noisy(scale=0.1)(Bilinear(2.0), players)]
    [-6.0, 2.0]
    >>> [bool(abs(d - e) > 0) for d, e in zip(Noisy()(Bilinear(2.0), players, jax.random.key(0)), (-6.0, 2.0))]
    [True, True]
    """

    direction: Direction
    scale: Scale

    def __init__(self, direction: Direction | None = None, scale: Any = 1.0):
        self.direction = Gradient() if direction is None else direction
        self.scale = as_scale(scale, "Noisy.scale")

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        if key is None:
            return self.direction(game, players)
        key, noise = jax.random.split(key)
        directions = self.direction(game, players, key)
        leaves, structure = jax.tree.flatten(directions)
        keys = jax.tree.unflatten(structure, list(jax.random.split(noise, len(leaves))))
        return tuple(
            jax.tree.map(lambda leaf, key, scale=scale: _add_noise(leaf, scale, key), direction, player_keys)
            for direction, player_keys, scale in zip(directions, keys, scales(self.scale, players), strict=True)
        )


def as_scale(scale: Any, label: str) -> Scale:
    """One standard deviation for everybody, or a tuple with one per player, as array leaves.

    Raises:
        ValueError: one of them is no number, negative or not finite.
    """
    several = isinstance(scale, (tuple, list)) or np.ndim(scale) > 0
    leaves = tuple(as_leaf(deviation) for deviation in (scale if several else (scale,)))
    for leaf in leaves:
        if jnp.shape(leaf) != ():
            raise ValueError(f"{label} has an entry of shape {jnp.shape(leaf)}; expected one number, or one per player")
        if is_concrete(leaf) and not 0 <= float(leaf) < np.inf:
            raise ValueError(f"{label} has the entry {float(leaf):g}; expected finite numbers >= 0")
    return leaves if several else leaves[0]


def scales(scale: Scale, players: Players) -> tuple[Array, ...]:
    """One standard deviation per player.

    Raises:
        ValueError: there are more or fewer than players.
    """
    if not isinstance(scale, tuple):
        return (scale,) * len(players)
    if len(scale) != len(players):
        raise ValueError(f"{len(scale)} scales for {len(players)} players; expected one number, or one per player")
    return scale


def _add_noise(leaf: PyTree, scale: Array, key: PRNGKeyArray) -> Array:
    return leaf + (scale * jax.random.normal(key, jnp.shape(leaf), leaf.dtype)).astype(leaf.dtype)
