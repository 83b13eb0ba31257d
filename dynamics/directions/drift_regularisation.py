from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_finite
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class DriftRegularisation(Direction):
    r"""Drift regularisers: norms and products of all players' gradients, in any player's loss, each with its weight.

    Added to the loss of player i, with all weights of its own:
    $\frac{a_i}{2}\|\nabla_i L_i\|^2$ (self norm) $+ \frac{b_i}{2}\sum_{j\ne i}\|\nabla_j L_j\|^2$ (other norm)
    $+\, c_i\sum_{j\ne i}\langle\nabla_j L_i, \mathrm{sg}(\nabla_j L_j)\rangle$ (other dot product, the second factor
    held fixed). As a direction:
    $d_i = v_i - a_i(D_iv_i)^\top v_i - b_i\sum_{j\ne i}(D_iv_j)^\top v_j - c_i\sum_{j\ne i}(D_jv_i)v_j$.
    Simultaneous descent with one rate h drifts away from its flow as if $a = c = h/2$; $a = c = -h/2$ cancels that to
    first order. With b alone it is `JacobianRegularisation`, with $b_1 = 2\lambda$ alone the penalty of `ODEGAN` in
    continuous time, with $a = b$ `Consensus`. In a zero-sum game the dot product acts as the other norm with $b = -c$.
    They stand here and not among the penalties of a GAN, as they need the gradients of the generator, too.
    Source: Rosca, Wu, Dherin, Barrett, Discretization Drift in Two-Player Games, 2021, section 4 and the authors' code;
    the sums over the others are the extension to more than two players.

    Args:
        self_norm: a, one number for all players or one per player, of either sign.
        other_norm: b, likewise.
        other_dot_product: c, likewise.

    Raises:
        ValueError: a number is not finite, or they are not as many as there are players.

    >>> from dynamics.games import Bilinear
    >>> regularised = DriftRegularisation(other_norm=(0.0, 0.5))
    >>> [float(d) for d in regularised(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-6.0, -4.0]
    """

    self_norm: tuple[Array, ...]
    other_norm: tuple[Array, ...]
    other_dot_product: tuple[Array, ...]

    def __init__(self, self_norm: Any = 0.0, other_norm: Any = 0.0, other_dot_product: Any = 0.0):
        self.self_norm = _leaves(self_norm)
        self.other_norm = _leaves(other_norm)
        self.other_dot_product = _leaves(other_dot_product)

    def __check_init__(self):
        for name in ("self_norm", "other_norm", "other_dot_product"):
            for value in getattr(self, name):
                if jnp.shape(value) != ():
                    raise ValueError(
                        f"DriftRegularisation.{name} has a weight of shape {jnp.shape(value)}; expected numbers"
                    )
                check_finite(value, f"DriftRegularisation.{name}")

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        count = len(players)

        def gradients(point: Players) -> Players:
            return game.field(point, key)

        field, pullback = jax.vjp(gradients, players)
        nothing = jax.tree.map(jnp.zeros_like, field)
        alone = [_trees.replaced(nothing, player, field[player]) for player in range(count)]
        pulls = [pullback(part)[0] for part in alone]  # pulls[j][i] is (D_i v_j)^T v_j
        weights = [self._of_players(name, count) for name in ("self_norm", "other_norm", "other_dot_product")]

        def direction(player: int) -> PyTree:
            of_self, of_other, of_product = (weight[player] for weight in weights)
            pushed = jax.jvp(gradients, (players,), (_blocks.without(field, player),))[1][player]
            total = _trees.add_scaled(field[player], -of_self, pulls[player][player])
            for index in range(count):
                if index != player:
                    total = _trees.add_scaled(total, -of_other, pulls[index][player])
            return _trees.add_scaled(total, -of_product, pushed)

        return tuple(direction(player) for player in range(count))

    def _of_players(self, name: str, count: int) -> tuple[Array, ...]:
        weights = getattr(self, name)
        if len(weights) not in (1, count):
            raise ValueError(
                f"DriftRegularisation.{name} has {len(weights)} numbers for {count} players; expected one number, "
                "or one per player"
            )
        return weights if len(weights) == count else weights * count


def _leaves(weights: Any) -> tuple[Array, ...]:
    several = isinstance(weights, (tuple, list)) or jnp.ndim(weights) > 0
    return tuple(map(as_leaf, weights)) if several else (as_leaf(weights),)
