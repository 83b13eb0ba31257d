from collections.abc import Sequence

from jaxtyping import PRNGKeyArray

from dynamics.directions import Direction, Gradient
from dynamics.game import Game, Players
from dynamics.optimisers import AnyOptimiser, sgd
from dynamics.updates.base import Projection, State, Steppers, Update, joint_step


class Simultaneous(Update):
    r"""All players move at once: $x_i^+ = x_i + h_i\, d_i(x)$ for gradient descent with rates $h_i$.

    Args:
        optimisers: one per player, a bare optax transformation or a `dynamics.Optimiser`.
        direction: where each player wants to go; default its gradient.
        projections: one function or `None` per player, applied to its parameters after its step; e.g. `Clip(0.01)`.

    Unequal rates make this the two-timescale update (Heusel et al. 2017). An optimiser that asks for the loss (such as
    `dynamics.schedules.gap_aware`) gets its own player's loss at the point where the direction is taken.

    Raises:
        ValueError: no optimiser, or not one projection per optimiser.
        TypeError: an optimiser is none.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> update = Simultaneous(optax.sgd(0.5), optax.sgd(0.25))
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [0.0, 2.25]
    """

    steppers: Steppers
    direction: Direction

    def __init__(
        self,
        *optimisers: AnyOptimiser,
        direction: Direction | None = None,
        projections: Sequence[Projection | None] | None = None,
    ):
        self.steppers = Steppers(optimisers, None if projections is None else tuple(projections))
        self.direction = Gradient() if direction is None else direction

    def init(self, game: Game, players: Players) -> State:
        return State(players, self.steppers.init(players))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return joint_step(self.steppers, self.direction, game, state, key)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(*(sgd(0.1 / (1 + player)) for player in range(players)))
