from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics._checks import as_leaf, as_rates, check_number
from dynamics._trees import replaced
from dynamics.directions import Direction, Gradient
from dynamics.flows.base import AbstractFlow, check_players
from dynamics.flows.flow import scale_by_rates
from dynamics.game import Game, Players
from dynamics.schedules import gap_aware, gap_multiplier
from dynamics.updates.base import State


class GapAwareFlow(AbstractFlow):
    r"""The flow of gap-aware scheduling; the averaged loss of the adversary is part of the state.

    $\dot x_i = r_i\, d_i(x)$, the adversary's times `dynamics.schedules.gap_multiplier(L)`, and
    $\dot L = (L_{adversary}(x) - L)/T$. It is the limit of the update with step h and moving average
    $\rho = 1 - h/T$. Source: Hazimeh and Ponomareva, Mind the (optimality) Gap, AISTATS 2023, in continuous time.

    Args:
        ideal_loss: V*; `game.objective.ideal_discriminator_loss`.
        averaging_time: T, > 0.
        rates: one per player, >= 0; `None`: 1 for everybody.
        player: the adversary whose rate is scheduled; default 1, the discriminator.
        minimum, maximum, width_below, width_above: as in `dynamics.schedules.gap_aware`.
        direction: the vector field; default the gradient.

    Raises:
        ValueError: a number is out of bounds, or the ideal loss is 0 and an absolute width is missing.
    """

    ideal_loss: Array
    averaging_time: Array
    rates: tuple[Array, ...] | None
    player: int = eqx.field(static=True)
    minimum: Array
    maximum: Array
    width_below: Array | None
    width_above: Array | None
    direction: Direction

    def __init__(
        self,
        ideal_loss: Any,
        averaging_time: Any = 2.0,
        rates: Any = None,
        player: int = 1,
        minimum: Any = 0.1,
        maximum: Any = 2.0,
        width_below: Any = None,
        width_above: Any = None,
        direction: Direction | None = None,
    ):
        self.ideal_loss = as_leaf(ideal_loss)
        self.averaging_time = as_leaf(averaging_time)
        self.rates = None if rates is None else as_rates(rates, None, "rates")
        self.player = player
        self.minimum, self.maximum = as_leaf(minimum), as_leaf(maximum)
        self.width_below = None if width_below is None else as_leaf(width_below)
        self.width_above = None if width_above is None else as_leaf(width_above)
        self.direction = Gradient() if direction is None else direction

    def __check_init__(self):
        check_number(self, "averaging_time", above=0)
        gap_aware(self.ideal_loss, *self._shape)  # the same checks

    @property
    def _shape(self) -> tuple[Array | None, ...]:
        return self.minimum, self.maximum, self.width_below, self.width_above

    def init(self, game: Game, players: Players) -> State:
        check_players(self.rates, players)
        if not 0 <= self.player < len(players):
            raise ValueError(f"player is {self.player}; expected one of 0 to {len(players) - 1}")
        return State(players, jnp.asarray(self.ideal_loss, jnp.result_type(*jax.tree.leaves(players))))

    def field(self, game: Game, time: Array, state: State) -> State:
        directions = scale_by_rates(self.rates, self.direction(game, state.players))
        factor = gap_multiplier(state.memory, self.ideal_loss, *self._shape)
        scaled = jax.tree.map(lambda leaf: factor * leaf, directions[self.player])
        loss = game.losses(state.players)[self.player]
        return State(replaced(directions, self.player, scaled), (loss - state.memory) / self.averaging_time)

    @classmethod
    def example(cls, players: int = 2) -> AbstractFlow:
        return cls(2 * jnp.log(2.0).item(), rates=[1.0 + player for player in range(players)])
