"""How far rounding keeps training from an equilibrium, and below which step it moves nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics.analysis.stability.fixed_point import equilibrium_of
from dynamics.analysis.stability.linearisation import jacobian_of
from dynamics.analysis.stability.rest import rest_state
from dynamics.game import Game, Players, as_players
from dynamics.updates.base import State
from dynamics.updates.rounded import Rounded
from dynamics.updates.with_variables import for_game

LONGEST = 100_000  # powers of the Jacobian that are summed up
SWEEPS = 30  # of spacings that depend on how far the state strays
_jacobian = eqx.filter_jit(jacobian_of)


@dataclasses.dataclass(frozen=True)
class RoundingFloor(Described):
    """What rounding of the state leaves of convergence, to first order in the spacing of numbers.

    All arrays are over the state: players in the order of their leaves, then the memory's floating numbers. Infinite
    where numbers are so coarse that no bound closes.

    Attributes:
        spacing: the distance of neighbouring numbers where the state strays; 0 where it is not rounded.
        nearest: a bound on the distance from the equilibrium, in the long run, with rounding to the nearest.
        resting: a bound on the distance of points at which training rests for good.
        stochastic: a bound on the root of the mean squared distance, in the long run, with stochastic rounding.
        radius: the spectral radius of the map without rounding.
        players: the equilibrium.
    """

    spacing: np.ndarray
    nearest: np.ndarray
    resting: np.ndarray
    stochastic: np.ndarray
    radius: float
    players: Players

    def describe(self) -> str:
        """The result as text."""
        count = _trees.size(self.players)
        largest = [f"{np.max(values[:count]):.3g}" for values in (self.nearest, self.resting, self.stochastic)]
        return (
            f"rounding floor of the players, where neighbours are up to {np.max(self.spacing[:count]):.3g} apart:\n"
            f"to the nearest: within {largest[0]} of the equilibrium in every coordinate, at rest within {largest[1]}\n"
            f"stochastic: root mean square below {largest[2]}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON."""
        return plain_fields(self, players=[np.asarray(leaf) for leaf in jax.tree.leaves(self.players)])


def rounding_floor(
    game: Game, update: Rounded, at: Any = None, *, reach: float = 0.0, key: PRNGKeyArray | None = None
) -> RoundingFloor:
    r"""The floor that rounding of the state puts under convergence to a stable equilibrium, from the spectrum.

    With the Jacobian M of the map without rounding and the spacing $\delta_i$ of the numbers of coordinate i, a step is
    $d^+ = M d + \rho$ with $|\rho_i| \le \delta_i/2$. So in the long run $|d| \le \sum_k |M^k|\,\delta/2$, entry by
    entry; where training rests $|d| \le |(I-M)^{-1}|\,\delta/2$. Errors of stochastic rounding have mean 0, and the
    variance $\delta_i^2 f(1-f)$ where a coordinate moves by a whole number of spacings and the share f of one: at most
    $\min(\delta_i^2/4, \delta_i E|(Md-d)_i|)$; the covariance is at most the solution of $C = M C M^\top$ plus these,
    which are bounded by C again. All are bounds for a linear map, of first order in $\delta$ for others. The step h
    stands in a denominator: $M = I - hA$ has $|(I-M)^{-1}| = |A^{-1}|/h$, and to the nearest smaller steps rest further
    away; the floor of stochastic rounding is about a spacing, whatever the step.
    The spacing is that of numbers of the equilibrium's size plus the bound itself, or plus `reach`: the bounds hold for
    runs that stay where numbers are no coarser. From further away a run may come to rest among coarser numbers before
    it gets there. A coordinate that tends to 0 with all others has no floor above the least positive number.

    Rounding within a step (`arithmetic`) is not in it: its errors are relative to what is computed, and add to these.
    Source: error bounds of perturbed linear recurrences, e.g. Higham, Accuracy and Stability of Numerical Algorithms,
    2002, section 18.1 (powers of matrices) and 17.2 (stationary iterations).

    Args:
        game: the game.
        update: an update in finite precision.
        at: a tuple of players; default the game's first known equilibrium.
        reach: how far from the equilibrium the runs in question may be, in every coordinate.
        key: for a game that can only be sampled: the batch is frozen.

    Raises:
        TypeError: the update is not in finite precision.
        EquilibriumError: no equilibrium is known.
        ValueError: the map without rounding does not contract at the point: an eigenvalue of modulus 1 or more.

    >>> import optax
    >>> from dynamics.games import LinearWasserstein
    >>> from dynamics.penalties import R1
    >>> from dynamics.updates import Simultaneous
    >>> game = LinearWasserstein(3.0, penalty=R1(2.0))
    >>> update = Rounded(Simultaneous(optax.sgd(0.1), optax.sgd(0.1)), "bfloat16")
    >>> [float(value) for value in rounding_floor(game, update).resting.round(4)]  # spacing 2^-6, A = [[0, -1], [1, 2]]
    [0.1587, 0.0781]
    """
    if not isinstance(update, Rounded):
        raise TypeError(
            f"update is {update!r}; expected an update in finite precision, e.g. Rounded(update, 'bfloat16')"
        )
    players = equilibrium_of(game) if at is None else as_players(at, "at")
    method = for_game(game, update)
    matrix = np.asarray(_jacobian(game, method, players, key), float)
    radius = float(np.max(np.abs(np.linalg.eigvals(matrix)))) if np.all(np.isfinite(matrix)) else np.inf
    if not radius < 1:
        raise ValueError(
            f"the map without rounding has an eigenvalue of modulus {radius:.6g} at the point: nothing brings training "
            "back from where rounding moves it. Expected a stable equilibrium that is alone; see dynamics.stability"
        )
    state = rest_state(game, method, players, key).state
    position = np.abs(np.asarray(ravel_pytree(eqx.filter(state, eqx.is_inexact_array))[0], float))
    powers, resting = _sum_of_powers(matrix), np.abs(np.linalg.inv(np.eye(len(matrix)) - matrix))

    def settled(bound: Any) -> np.ndarray:
        before = reached = np.zeros_like(position)
        for _ in range(SWEEPS):
            spacing = _spacing(update, state, position + np.maximum(reached, reach))
            before, reached = reached, bound(spacing)
            if not np.all(np.isfinite(reached)) or np.max(reached) > 1e30:
                return np.full_like(reached, np.inf)
            if np.all(reached <= before):
                break
        return np.maximum(reached, before)

    def deviations(spacing: np.ndarray) -> np.ndarray:
        variance, change = spacing**2 / 4, matrix - np.eye(len(matrix))
        covariance = np.diag(variance)
        for _ in range(SWEEPS):  # every one of them is a bound; they fall
            covariance = scipy.linalg.solve_discrete_lyapunov(matrix, np.diag(variance))
            moved = np.sqrt(np.maximum(np.diag(change @ covariance @ change.T), 0))
            variance = np.minimum(variance, spacing * moved)
        return np.sqrt(np.maximum(np.diag(covariance), 0))

    nearest = settled(lambda spacing: powers @ spacing / 2)
    floors = {"nearest": nearest, "resting": settled(lambda s: resting @ s / 2), "stochastic": settled(deviations)}
    finite = np.where(np.isfinite(nearest), nearest, 0)
    return RoundingFloor(
        spacing=_spacing(update, state, position + np.maximum(finite, reach)), radius=radius, players=players, **floors
    )


def stall_factor(game: Game, update: Rounded, players: Players, *, key: PRNGKeyArray | None = None) -> float:
    """By what factor a step could be shorter and still move some number of the players; below 1 it moves none.

    Of the first step from the players, rounded to their formats, with rounding to the nearest: the largest ratio of a
    change to half the distance to the neighbour on its side. For a method whose step is in proportion to its rate, the
    rate over this factor is the least at which training leaves the point.

    Args:
        game, update, key: as in `rounding_floor`.
        players: a tuple of players.

    Raises:
        TypeError: the update is not in finite precision.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = Rounded(Simultaneous(optax.sgd(0.01), optax.sgd(0.01)), "bfloat16")
    >>> round(stall_factor(Bilinear(1.0), update, (1.0, 0.25)), 6)  # 0.01 against 2^-10
    10.24
    """
    if not isinstance(update, Rounded):
        raise TypeError(
            f"update is {update!r}; expected an update in finite precision, e.g. Rounded(update, 'bfloat16')"
        )
    state = update.init(game, as_players(players))
    after = update.inner_update.step(game, state, None if update.exact else key)
    before, moved = (ravel_pytree(tree)[0] for tree in (state.players, after.players))
    sizes = jnp.where(jnp.abs(moved) < jnp.abs(before), jnp.nextafter(before, jnp.zeros_like(before)), before)
    spacing = _spacing(update, State(state.players, ()), np.abs(np.asarray(sizes, float)))
    change = np.abs(np.asarray(moved - before, float))
    return float(np.max(np.divide(change, spacing / 2, out=np.where(change > 0, np.inf, 0.0), where=spacing > 0)))


def _spacing(update: Rounded, state: State, sizes: np.ndarray) -> np.ndarray:
    """The distance of neighbouring numbers around numbers of these sizes; 0 where nothing is rounded."""
    formats = update.formats * len(state.players) if len(update.formats) == 1 else update.formats
    counts = [_trees.float_size(player) for player in state.players]
    parts = np.split(sizes, np.cumsum(counts))
    spacings = [np.asarray(f.spacing(part), float) for f, part in zip(formats, parts, strict=False)]
    rest = parts[-1]
    spacings.append(np.zeros_like(rest) if update.memory is None else np.asarray(update.memory.spacing(rest), float))
    return np.concatenate(spacings)


def _sum_of_powers(matrix: np.ndarray) -> np.ndarray:
    """An upper bound of the sum of |M^k|, entry by entry: exact but for a bounded tail; infinite if too long."""
    total, power = np.zeros_like(matrix), np.eye(len(matrix))
    for _ in range(LONGEST):
        total += np.abs(power)
        power = power @ matrix
        if np.max(np.sum(np.abs(power), axis=1)) < 1e-3:
            break
    else:
        return np.full_like(matrix, np.inf)
    # The sum S of all is at most the sum so far plus |M^N| S.
    return np.linalg.solve(np.eye(len(matrix)) - np.abs(power), total)
