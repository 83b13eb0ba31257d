from typing import Any

import jax
from jaxtyping import Array

from dynamics._checks import as_rates
from dynamics.directions import Direction, Gradient
from dynamics.flows.base import AbstractFlow, check_players
from dynamics.game import Game, Players
from dynamics.updates.base import State


class Flow(AbstractFlow):
    r"""The flow along a direction: $\dot x_i = r_i\, d_i(x)$ with a rate $r_i$ per player.

    It is the limit of `updates.Simultaneous` along the same direction as the step goes to 0, and of `Alternating`,
    `Extragradient` and the optimistic method as well.

    Args:
        direction: the vector field; default the gradient.
        rates: one per player, >= 0; `None`: 1 for everybody.

    Raises:
        ValueError: a rate is negative or not finite.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> flow = Flow(rates=(1.0, 4.0))
    >>> state = flow.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0)))
    >>> [float(x) for x in flow.field(Bilinear(1.0), jnp.asarray(0.0), state).players]
    [-2.0, 4.0]
    """

    direction: Direction
    rates: tuple[Array, ...] | None

    def __init__(self, direction: Direction | None = None, rates: Any = None):
        self.direction = Gradient() if direction is None else direction
        self.rates = None if rates is None else as_rates(rates, None, "rates")

    def init(self, game: Game, players: Players) -> State:
        check_players(self.rates, players)
        return State(players, ())

    def field(self, game: Game, time: Array, state: State) -> State:
        directions = self.direction(game, state.players)
        return State(scale_by_rates(self.rates, directions), ())

    @classmethod
    def example(cls, players: int = 2) -> AbstractFlow:
        return cls(rates=[1.0 + player for player in range(players)])


def scale_by_rates(rates: tuple[Array, ...] | None, directions: Players) -> Players:
    """Every player's direction times its rate."""
    if rates is None:
        return directions
    return tuple(
        jax.tree.map(lambda leaf, rate=rate: rate * leaf, direction)
        for rate, direction in zip(rates, directions, strict=True)
    )
