from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_rates
from dynamics.directions import Direction, Gradient
from dynamics.game import Game, Players, advanced
from dynamics.optimisers import AnyOptimiser, sgd
from dynamics.updates.base import (
    Projection,
    State,
    Steppers,
    ThreadedUpdate,
    Update,
    alternating_step,
    check_order,
    joint_step,
    moved,
    project,
)


class Extragradient(ThreadedUpdate):
    r"""Look ahead, then move from where you are: $x^+ = x + h\, d(x + \gamma\, d(x))$.

    Simultaneous by default. With an `order` they move one by one (Gauss-Seidel): each looks ahead from, and moves at,
    the point that already holds the earlier players' moves; the look-ahead is always one of all players.

    Args:
        optimisers: one per player; how the direction at the look-ahead point becomes a step.
        extrapolation: gamma, the rate of the look-ahead step: one number, or one per player.
        order: `None` for simultaneous moves, or the order in which the players move.
        repeats: number of inner steps of each player; only with an order.
        direction: where each player wants to go; default its gradient.
        projections: one function or `None` per player, applied to the look-ahead point and after each step.

    With a key the look-ahead and the step see different minibatches.
    Source: Korpelevich 1976; Gidel et al., A Variational Inequality Perspective on GANs, 2019; with two step sizes and
    an order: Zhang and Yu, Convergence of Gradient Methods on Bilinear Zero-Sum Games, 2020.

    Raises:
        ValueError: a rate is negative or not finite, a wrong order, repeats without an order.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> update = Extragradient(optax.sgd(0.5), optax.sgd(0.5), extrapolation=0.5)
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [0.75, 0.5]
    """

    steppers: Steppers
    direction: Direction
    extrapolation: tuple[Array, ...]
    order: tuple[int, ...] | None = eqx.field(static=True)
    repeats: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        *optimisers: AnyOptimiser,
        extrapolation: Any,
        order: Sequence[int] | None = None,
        repeats: Sequence[int] | None = None,
        direction: Direction | None = None,
        projections: Sequence[Projection | None] | None = None,
    ):
        self.steppers = Steppers(optimisers, None if projections is None else tuple(projections))
        self.direction = Gradient() if direction is None else direction
        self.extrapolation = as_rates(extrapolation, len(optimisers), "extrapolation")
        self.order = None if order is None else tuple(order)
        self.repeats = None if repeats is None else tuple(repeats)

    def __check_init__(self):
        players = len(self.steppers.optimisers)
        if self.order is not None:
            check_order(self.order, self._repeats, players)
        elif self.repeats is not None:
            raise ValueError(
                f"repeats is {self.repeats} but there is no order; give order=(0, 1) for alternating moves"
            )

    @property
    def _repeats(self) -> tuple[int, ...]:
        return (1,) * len(self.steppers.optimisers) if self.repeats is None else self.repeats

    def init(self, game: Game, players: Players) -> State:
        return State(players, self.steppers.init(players))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.threaded_step(game, state, key)[0]

    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        ahead = _AtExtrapolatedPoint(self.direction, self.extrapolation, self.steppers.projections)
        if self.order is None:
            after = joint_step(self.steppers, ahead, game, state, key)
            return after, advanced(game, state.players, key)
        return alternating_step(self.steppers, ahead, self.order, self._repeats, game, state, key)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        rates = [0.1 / (1 + player) for player in range(players)]
        return cls(*(sgd(rate) for rate in rates), extrapolation=rates[::-1])


class _AtExtrapolatedPoint(Direction):
    """The direction at the point one step ahead."""

    direction: Direction
    rates: tuple[Array, ...]
    projections: tuple[Projection | None, ...] | None

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        look, move = (None, None) if key is None else jax.random.split(key)
        directions = self.direction(game, players, look)
        ahead = project(self.projections, moved(players, self.rates, directions))
        return self.direction(game, ahead, move)
