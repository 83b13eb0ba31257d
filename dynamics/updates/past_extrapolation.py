from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_rates
from dynamics.directions import Direction, Gradient
from dynamics.game import Game, Players
from dynamics.optimisers import AnyOptimiser, sgd
from dynamics.updates.base import Projection, State, Steppers, Update, joint_step, moved, project


class PastExtrapolation(Update):
    r"""Extrapolation from the past: look ahead along the last direction, one evaluation per step instead of two.

    $w_t = x_t + \gamma\, d(w_{t-1})$, then $x_{t+1} = x_t + h\, d(w_t)$. With $\gamma = h$ the look-ahead points follow
    optimistic gradient descent, $w_{t+1} = w_t + 2h\, d(w_t) - h\, d(w_{t-1})$.

    Published versions differ in the first step, where there is no last direction. With `first="zero"` it is 0: the
    first step starts without a look-ahead (Popov's two equal starting points). With `first="current"` it is the
    direction at the start: the first step is one of extragradient; it costs a second evaluation, in a batch at every
    step.
    Source: Popov, A modification of the Arrow-Hurwicz method, 1980; Gidel et al., A Variational Inequality Perspective
    on GANs, 2019, section 3.3.

    Args:
        optimisers: one per player; how the direction at the look-ahead point becomes a step.
        extrapolation: gamma, the rate of the look-ahead step: one number, or one per player.
        first: "zero" or "current", what stands for the last direction at the start.
        direction: where each player wants to go; default its gradient.
        projections: one function or `None` per player, applied to the look-ahead point and after each step.

    Raises:
        ValueError: a rate is negative or not finite, or `first` is neither.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> update = PastExtrapolation(optax.sgd(0.5), optax.sgd(0.5), extrapolation=0.5, first="current")
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [0.75, 0.5]
    """

    steppers: Steppers
    direction: Direction
    extrapolation: tuple[Array, ...]
    first: Literal["zero", "current"] = eqx.field(static=True)

    def __init__(
        self,
        *optimisers: AnyOptimiser,
        extrapolation: Any,
        first: Literal["zero", "current"] = "zero",
        direction: Direction | None = None,
        projections: Sequence[Projection | None] | None = None,
    ):
        self.steppers = Steppers(optimisers, None if projections is None else tuple(projections))
        self.direction = Gradient() if direction is None else direction
        self.extrapolation = as_rates(extrapolation, len(optimisers), "extrapolation")
        self.first = first

    def __check_init__(self):
        if self.first not in ("zero", "current"):
            raise ValueError(f"PastExtrapolation.first is {self.first!r}; expected 'zero' or 'current'")

    def init(self, game: Game, players: Players) -> State:
        started = jnp.asarray(False) if self.first == "current" else None
        return State(players, _Memory(self.steppers.init(players), jax.tree.map(jnp.zeros_like, players), started))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        players, memory = state.players, state.memory
        last, started, move = memory.last, memory.started, key
        if started is not None:
            look, move = (None, None) if key is None else jax.random.split(key)
            last = jax.lax.cond(started, lambda: last, lambda: self.direction(game, players, look))
            started = jnp.ones_like(started)
        ahead = project(self.steppers.projections, moved(players, self.extrapolation, last))
        directions = self.direction(game, ahead, move)
        after = joint_step(self.steppers, _Known(directions), game, State(players, memory.steppers), move)
        return State(after.players, _Memory(after.memory, directions, started))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        rates = [0.1 / (1 + player) for player in range(players)]
        return cls(*(sgd(rate) for rate in rates), extrapolation=rates[::-1], first="current")


class _Memory(eqx.Module):
    """What the optimisers remember, the last direction, and whether there has been one."""

    steppers: PyTree
    last: Players
    started: Array | None


class _Known(Direction):
    """A direction that has been computed already."""

    directions: Players

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        return self.directions
