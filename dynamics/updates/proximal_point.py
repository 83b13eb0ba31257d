from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, as_rates, check_number
from dynamics.compiler.derivatives import released
from dynamics.directions import Direction, Gradient
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update, linear_solution, linear_solver, moved, rates_of

NEWTON_STEPS = 64


class ProximalPoint(Update):
    r"""The implicit step: every player moves along the direction at the point where all of them arrive.

    $x^+ = x + h\, d(x^+)$, solved by Newton's method from a start at x (GMRES for large systems). On a
    bilinear game every singular value is damped by $1/\sqrt{1 + h^2\sigma^2}$, whatever the step.

    A step that cannot be solved to the tolerance is NaN, so that the run ends as diverged. With a key both ends of the
    step see the same minibatch.
    Source: Martinet 1970; Rockafellar, Monotone operators and the proximal point algorithm, 1976.

    Args:
        rates: h, one number for all players or one per player.
        direction: where each player wants to go; default its gradient.
        tolerance: largest accepted residual and last Newton step, relative to the size of the players and of the first
            step; > 0 and < 1. Default 1e-11 in double and 1e-5 in single precision.

    Raises:
        ValueError: a rate is negative or not finite, a wrong number of rates, a tolerance out of bounds.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> update = ProximalPoint(1.0)
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.0)))
    >>> [round(float(x), 6) for x in update.step(Bilinear(1.0), state).players]
    [0.5, 0.5]
    """

    rates: tuple[Array, ...]
    direction: Direction
    tolerance: Array | None

    def __init__(self, rates: Any = 0.1, direction: Direction | None = None, tolerance: Any = None):
        self.rates = as_rates(rates, None, "rates")
        self.direction = Gradient() if direction is None else direction
        self.tolerance = None if tolerance is None else as_leaf(tolerance)

    def __check_init__(self):
        if self.tolerance is not None:
            check_number(self, "tolerance", above=0, below=1)

    def init(self, game: Game, players: Players) -> State:
        rates_of(self.rates, players)
        return State(players, ())

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        rates, (flat, unravel) = rates_of(self.rates, state.players), ravel_pytree(state.players)

        @released
        def shift(vector: Array, given: Any) -> Array:
            game, rates, direction = given
            players = unravel(vector)
            directions = direction(game, players, key)
            return ravel_pytree(moved(jax.tree.map(jnp.zeros_like, players), rates, directions))[0]

        given = (game, rates, self.direction)
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = 1e-11 if flat.dtype == jnp.float64 else 1e-5
        # The derivative of the end point is that of one more step of Newton's method from it, whose residual is 0 up to
        # rounding: the implicit function theorem. It needs no derivative of the iteration.
        start, held = _constant((flat, given))
        end = _solve(shift, start, held, tolerance)
        polished = end - _correction(shift, end, given, end - shift(end, given) - flat)
        return State(unravel(polished), ())

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls([0.1 / (1 + player) for player in range(players)])


def _constant(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


def _solve(shift: Any, start: Array, given: Any, tolerance: Any) -> Array:
    """The solution of `z = start + shift(z)`, or NaN."""
    # In units of the larger of the players and the first step, so that one tolerance does for all sizes.
    scale = jnp.max(jnp.abs(start), initial=0) + jnp.max(jnp.abs(shift(start, given)), initial=0)
    scale = jnp.where(scale > 0, scale, 1)

    def residual(move: Array, given: Any) -> Array:
        return move - shift(start + scale * move, given) / scale

    solver = optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=linear_solver(start.size, tolerance))
    solution = optx.root_find(residual, solver, jnp.zeros_like(start), given, max_steps=NEWTON_STEPS, throw=False)
    solved = solution.result == optx.RESULTS.successful
    return jnp.where(solved, start + scale * jax.lax.stop_gradient(solution.value), jnp.nan)


def _correction(shift: Any, end: Array, given: Any, residual: Array) -> Array:
    """Newton's step at the end point, for its derivative."""
    given = _constant(given)

    def slope(vector: Array) -> Array:
        return vector - jax.jvp(lambda z: shift(z, given), (end,), (vector,))[1]

    return linear_solution(slope, residual)
