from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_rates
from dynamics._names import nearest
from dynamics.directions import Direction, Gradient
from dynamics.game import Game, Players
from dynamics.updates.base import Projection, State, Update, moved, project, rates_of

# Butcher tableaus of explicit methods: the rows of a below its diagonal, and the weights b.
TABLEAUS: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": (((),), (1,)),
    "midpoint": (((), (1 / 2,)), (0, 1)),
    "heun": (((), (1,)), (1 / 2, 1 / 2)),
    "ralston": (((), (2 / 3,)), (1 / 4, 3 / 4)),
    "kutta3": (((), (1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": (((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    "three_eighths": (((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}


class RungeKutta(Update):
    r"""One explicit Runge-Kutta step of all players together along the flow $\dot x_i = r_i\, d_i(x)$, of length 1.

    $k_s = r\, d(x + \sum_{q<s} a_{sq} k_q)$, then $x^+ = x + \sum_s b_s k_s$: every stage moves all players. On a
    bilinear game with s = r sigma the modulus is $\sqrt{1 + s^2}$ for euler, $\sqrt{1 + s^4/4}$ for methods of order 2,
    and $\sqrt{1 - s^6/72 + s^8/576}$ for those of order 4, stable for $s < 2\sqrt2$.

    With a key all stages see the same minibatch.
    Source: Butcher, Numerical Methods for Ordinary Differential Equations, 2016; for GANs Qin et al., Training GANs by
    Solving Ordinary Differential Equations, 2020.

    Args:
        rates: r, one number for all players or one per player: the length of the step.
        method: euler (order 1), midpoint, heun, ralston (2), kutta3 (3), rk4 or three_eighths (4).
        direction: where each player wants to go; default its gradient.
        projections: one function or `None` per player, applied after each step.

    Raises:
        ValueError: a rate is negative or not finite, a wrong number of rates, or no such method.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> update = RungeKutta(1.0, method="heun")
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [0.5, 1.0]
    """

    rates: tuple[Array, ...]
    method: str = eqx.field(static=True)
    direction: Direction
    projections: tuple[Projection | None, ...] | None

    def __init__(
        self,
        rates: Any = 0.1,
        method: str = "rk4",
        direction: Direction | None = None,
        projections: Sequence[Projection | None] | None = None,
    ):
        self.rates = as_rates(rates, None, "rates")
        self.method = method
        self.direction = Gradient() if direction is None else direction
        self.projections = None if projections is None else tuple(projections)

    def __check_init__(self):
        check_tableau(self.method)

    def init(self, game: Game, players: Players) -> State:
        rates_of(self.rates, players)
        if self.projections is not None and len(self.projections) != len(players):
            raise ValueError(f"{len(self.projections)} projections for {len(players)} players; expected one per player")
        return State(players, ())

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        players = explicit_step(self.method, self.rates, self.direction, game, state.players, key)
        return State(project(self.projections, players), ())

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls([0.1 / (1 + player) for player in range(players)])


def check_tableau(method: str) -> None:
    """Raise `ValueError` unless there is a tableau of this name."""
    if method not in TABLEAUS:
        raise ValueError(f"method is {method!r}{nearest(str(method), TABLEAUS)}")


def explicit_step(
    method: str,
    rates: tuple[Array, ...],
    direction: Direction,
    game: Game,
    players: Players,
    key: PRNGKeyArray | None,
) -> Players:
    """All players after one step of the tableau."""
    rows, weights = TABLEAUS[method]
    rates = rates_of(rates, players)

    def after(coefficients: Sequence[float], slopes: Sequence[Players]) -> Players:
        total = _trees.combined(coefficients, slopes)
        return players if total is None else moved(players, rates, total)

    slopes: list[Players] = []
    for row in rows:
        slopes.append(direction(game, after(row, slopes), key))
    return after(weights, slopes)
