from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_leaf, as_rates, check_number
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update, linear_solution, rates_of


class AdaptiveCompetitive(Update):
    r"""ACGD: competitive gradient descent with a step per parameter from a running mean of squared gradients.

    $v \leftarrow \beta v + (1-\beta) g^2$, $\eta = h\sqrt{1-\beta^t}/(\sqrt{v + \epsilon_{root}} + \epsilon)$ for every
    player. The players then move to the equilibrium of the local game in which each sees the other's move to first
    order: $\Delta_i = \eta_i\,(d_i + \sum_{j \ne i} D_j d_i\, \Delta_j)$ with d the field of the game. For two players
    and a zero-sum game this is the published form, $\Delta_x = -(I + \eta_x D_{xy}\eta_y D_{yx})^{-1}
    \eta_x(\nabla_x f + D_{xy}\eta_y\nabla_y f)$; general-sum games and more players have the same equations. They are
    solved for $\Delta/\sqrt\eta$, whose matrix is the identity and, in a zero-sum game, an antisymmetric one.

    v starts at 0 and is updated before use; the bias is corrected outside the sum with epsilon, as in the authors'
    code. At an equilibrium, without noise, v is 0 and the steps are $h/\epsilon$, large but harmless where the step is
    implicit. With eps_root=0 the map has no derivative where a gradient vanishes.
    Source: Schaefer, Zheng, Anandkumar, Implicit competitive regularization in GANs, 2020, section 4; the authors'
    package devzhk/cgds-package (its ACGD, and GACGD for general-sum games).

    Args:
        rates: h, one number for all players or one per player, > 0 for a player that moves.
        decay: beta, >= 0 and < 1.
        eps: epsilon, > 0.
        eps_root: number under the root, >= 0; 0 as published.

    Raises:
        ValueError: a number is out of bounds, or a wrong number of rates.

    >>> from dynamics.games import Bilinear
    >>> update = AdaptiveCompetitive(1.0, eps=1e-6)
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(1.0)))
    >>> [round(float(x), 4) for x in update.step(Bilinear(1.0), state).players]
    [0.0, 1.0]
    """

    rates: tuple[Array, ...]
    decay: Array
    eps: Array
    eps_root: Array

    def __init__(self, rates: Any = 1e-3, decay: Any = 0.99, eps: Any = 1e-5, eps_root: Any = 0.0):
        self.rates = as_rates(rates, None, "rates")
        self.decay, self.eps, self.eps_root = as_leaf(decay), as_leaf(eps), as_leaf(eps_root)

    def __check_init__(self):
        check_number(self, "decay", minimum=0, below=1)
        check_number(self, "eps", above=0)
        check_number(self, "eps_root", minimum=0)

    def init(self, game: Game, players: Players) -> State:
        rates_of(self.rates, players)
        return State(players, _Memory(jax.tree.map(jnp.zeros_like, players), jnp.asarray(0, jnp.int32)))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        players, count = state.players, state.memory.count + 1
        field, slope = jax.linearize(lambda point: game.field(point, key), players)
        squares = jax.tree.map(lambda v, g: self.decay * v + (1 - self.decay) * g**2, state.memory.squares, field)

        def root_of_step(rate: Array, square: Array) -> Array:
            correction = jnp.sqrt(1 - self.decay ** count.astype(square.dtype))
            return jnp.sqrt(rate * correction / (jnp.sqrt(square + self.eps_root) + self.eps))

        roots = tuple(
            jax.tree.map(lambda square, rate=rate: root_of_step(rate, square), player_squares)
            for rate, player_squares in zip(rates_of(self.rates, players), squares, strict=True)
        )

        def times(left: Players, right: Players) -> Players:
            return jax.tree.map(jnp.multiply, left, right)

        def matrix(scaled: Players) -> Players:
            coupling = times(roots, _coupling(slope, times(roots, scaled)))
            return _trees.add_scaled(scaled, -1, coupling)

        moves = times(roots, linear_solution(matrix, times(roots, field)))
        return State(_trees.add_scaled(players, 1, moves), _Memory(squares, count))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls([0.1 / (1 + player) for player in range(players)], decay=0.9, eps=0.1)


class _Memory(eqx.Module):
    """The mean squared gradients, and how many steps have been taken."""

    squares: Players
    count: Array


def _coupling(slope: Callable[[Players], Players], moves: Players) -> Players:
    """How every player's field changes when the others move, to first order."""
    count = len(moves)

    def without_own(leaf: Array, player: int) -> Array:
        others = (jnp.arange(count) != player).astype(leaf.dtype)
        return others.reshape((count,) + (1,) * leaf.ndim) * leaf

    # Entry i of the batch: everybody but player i moves. One batch, so that there is one copy of the field to compile.
    batch = tuple(
        jax.tree.map(lambda leaf, player=player: without_own(leaf, player), move) for player, move in enumerate(moves)
    )
    changes = jax.vmap(slope)(batch)
    return tuple(
        jax.tree.map(lambda leaf, player=player: leaf[player], change) for player, change in enumerate(changes)
    )
