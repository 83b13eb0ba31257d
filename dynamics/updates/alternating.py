from collections.abc import Sequence

import equinox as eqx
from jaxtyping import PRNGKeyArray

from dynamics.directions import Direction, Gradient
from dynamics.game import Game, Players
from dynamics.optimisers import AnyOptimiser, sgd
from dynamics.updates.base import Projection, State, Steppers, ThreadedUpdate, Update, alternating_step, check_order


class Alternating(ThreadedUpdate):
    r"""One player after the other: $x^+ = x + h_0\, d_0(x, y)$, then $y^+ = y + h_1\, d_1(x^+, y)$.

    Args:
        optimisers: one per player, a bare optax transformation or a `dynamics.Optimiser`.
        order: who moves when; default (0, 1, ...), generator first.
        repeats: number of inner steps of each player, by player; default one each. With a key every inner step draws
            its own minibatch.
        direction: where each player wants to go; default its gradient.
        projections: one function or `None` per player, applied after each of its steps.

    Raises:
        ValueError: the order is no permutation of the players, or a number of inner steps is no positive integer.
        TypeError: an optimiser is none.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> update = Alternating(optax.sgd(0.5), optax.sgd(0.25), repeats=(1, 2))
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(2.0), jnp.asarray(2.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [1.0, 2.5]
    """

    steppers: Steppers
    direction: Direction
    order: tuple[int, ...] = eqx.field(static=True)
    repeats: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        *optimisers: AnyOptimiser,
        order: Sequence[int] | None = None,
        repeats: Sequence[int] | None = None,
        direction: Direction | None = None,
        projections: Sequence[Projection | None] | None = None,
    ):
        self.steppers = Steppers(optimisers, None if projections is None else tuple(projections))
        self.direction = Gradient() if direction is None else direction
        self.order = tuple(range(len(optimisers))) if order is None else tuple(order)
        self.repeats = (1,) * len(optimisers) if repeats is None else tuple(repeats)

    def __check_init__(self):
        check_order(self.order, self.repeats, len(self.steppers.optimisers))

    def init(self, game: Game, players: Players) -> State:
        return State(players, self.steppers.init(players))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.threaded_step(game, state, key)[0]

    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        return alternating_step(self.steppers, self.direction, self.order, self.repeats, game, state, key)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(*(sgd(0.1 / (1 + player)) for player in range(players)), repeats=(1,) * (players - 1) + (2,))
