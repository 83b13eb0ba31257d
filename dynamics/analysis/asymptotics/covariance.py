"""How far noise spreads training around a stable equilibrium."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import ArrayLike, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._keys import Keys
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics.analysis.stability.notes import Verdict
from dynamics.analysis.stability.report import Stability, fades
from dynamics.analysis.stability.rest import Rest, rest_state
from dynamics.analysis.stability.verdict import stability
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update
from dynamics.updates.with_variables import for_game

GROUPS = 16  # of draws; their spread tells the error of what is computed from all of them


@dataclasses.dataclass(frozen=True)
class StationaryCovariance(Described):
    """The stationary distribution of noisy training around a stable point, to leading order in the noise.

    Attributes:
        kind: "map" or "flow".
        matrix: covariance of the whole state: all players in the order of their leaves, then the memory's floating
            numbers.
        error: standard error of every entry of the matrix, from the draws of the noise; zero for a noise that is known.
        noise: covariance of the noise of one step, or per unit of time.
        blocks: `blocks[i][j]` is the covariance of player i with player j.
        stds: standard deviations of the players, of their shapes.
        players: the point, which is the mean.
        draws: number of draws from which the noise was estimated; 0 for a noise that is known.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    matrix: np.ndarray
    error: np.ndarray
    noise: np.ndarray
    blocks: tuple[tuple[np.ndarray, ...], ...]
    stds: Players
    players: Players
    draws: int
    notes: tuple[str, ...]

    def describe(self) -> str:
        """The result as text."""
        size, memory = _trees.size(self.players), len(self.matrix) - _trees.size(self.players)
        lines = [f"stationary covariance of a {self.kind}: {size} numbers of the players and {memory} of the memory"]
        for player, stds in enumerate(self.stds):
            flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(stds)] or [np.zeros(0)])
            shown = ", ".join(f"{value:.6g}" for value in flat[:8])
            more = f", ... ({len(flat)} in all)" if len(flat) > 8 else ""
            lines.append(f"standard deviations of player {player}: {shown}{more}")
        if self.draws:
            variances, errors = np.diag(self.matrix), np.diag(self.error)
            relative = np.max(errors[variances > 0] / (2 * variances[variances > 0]), initial=0)
            lines.append(f"from {self.draws} draws of the noise; relative error about {relative:.2g}")
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON."""
        stds, players = ([np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for tree in (self.stds, self.players))
        return plain_fields(self, stds=stds, players=players)


def stationary_covariance(
    game: Game,
    method: Update | AbstractFlow,
    at: Any = None,
    *,
    noise: ArrayLike | None = None,
    key: PRNGKeyArray | None = None,
    samples: int = 4096,
) -> StationaryCovariance:
    r"""The covariance of noisy training around a stable equilibrium, once it has forgotten its start.

    The discrete Lyapunov equation $C = J C J^\top + Q$ for an update and the continuous one $J C + C J^\top + Q = 0$
    for a flow, with the Jacobian J of the method without noise on the whole state (players and memory, as in
    `dynamics.stability`) and the covariance Q of the noise at the rest state. This is the leading order in the noise:
    exact for a linear game with additive noise; what the noise does to the Jacobian is left out.

    For an update the noise is what the key decides: minibatches of the game, `dynamics.directions.Noisy`. Its
    covariance is estimated from draws of one step, and the error of that is part of the result. For a
    `dynamics.flows.NoisyFlow` the noise is known.
    Source: Mandt, Hoffman, Blei, Stochastic Gradient Descent as Approximate Bayesian Inference, 2017, section 3.2, for
    flows; with any Jacobian, and for maps, a textbook fact about linear systems.

    Args:
        game: the game; it must know its exact expectations (`key=None`).
        method: an update, or a flow.
        at: a tuple of players; default the game's first known equilibrium.
        noise: Q on the whole state instead: per step for an update, per unit of time for a flow.
        key: for the draws; default `jax.random.key(0)`.
        samples: number of draws, at least 64; rounded up to a multiple of 16.

    Raises:
        EquilibriumError: the point is no equilibrium, or none is known.
        ValueError: the point is not stable, so that there is no stationary distribution, the method is not smooth
            there, keeps a part of its memory for ever or averages with weights that fade; a flow without noise; a noise
            that is no covariance matrix of the state.
        TypeError: the method is no update and no flow.

    >>> import optax
    >>> from dynamics.directions import Noisy
    >>> from dynamics.games import Quadratic
    >>> from dynamics.updates import Simultaneous
    >>> update = Simultaneous(optax.sgd(0.1), optax.sgd(0.1), direction=Noisy(scale=0.5))
    >>> spread = stationary_covariance(Quadratic([[1.0, 2.0], [-2.0, 1.0]]), update)
    >>> [round(float(std), 2) for std in spread.stds]  # h s / sqrt(1 - (1 - h)^2 - (2 h)^2) = 0.129
    [0.13, 0.13]
    """
    method = for_game(game, method)
    report = stability(game, method, at, order="linear")  # noise meets a linear response
    if fades(report):
        raise ValueError(
            "weights in the memory fade like one over the number of steps (as in Averaged without decay), so that the "
            "spread depends on that number and there is no stationary distribution. Use a decay, or ask for the spread "
            "of the update inside."
        )
    _check_stable(report)
    if report.period != 1:
        raise ValueError(
            f"the method repeats after {report.period} steps (a schedule that goes round, say), so that the spread "
            "goes round with it and there is no stationary distribution. Use a constant schedule."
        )
    rest = _rest(game, method, report.players)
    method, state = rest.of(method), jax.device_get(rest.state)
    size, notes, draws = len(report.jacobian), [], 0
    if noise is not None:
        noises = [_check_noise(np.asarray(noise, float), size)]
    elif isinstance(method, NoisyFlow):
        noises = [np.diag(np.asarray(_flatten(method.noise(state)), float) ** 2)]
    elif isinstance(method, AbstractFlow):
        raise ValueError(
            f"{type(method).__name__} has no noise; wrap it in dynamics.flows.NoisyFlow(flow, scale), or pass noise=Q, "
            f"a matrix of shape {(size, size)}"
        )
    else:
        samples = as_whole("samples", samples, 64)
        noises, draws, notes = _drawn_noise(game, method, state, jax.random.key(0) if key is None else key, samples)
    solve = _solve_map if report.boundary.discrete else _solve_flow
    solutions = np.stack([solve(np.asarray(report.jacobian, float), noise) for noise in noises])
    matrix = solutions.mean(axis=0)
    error = solutions.std(axis=0, ddof=1) / len(noises) ** 0.5 if draws else np.zeros_like(matrix)
    edges = np.cumsum([0, *(_trees.size(player) for player in report.players)])
    parts = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    flat, unravel = ravel_pytree(report.players)
    stds = np.sqrt(np.maximum(np.diag(matrix), 0))[: flat.size]
    return StationaryCovariance(
        kind=report.kind,
        matrix=matrix,
        error=error,
        noise=np.mean(noises, axis=0),
        blocks=tuple(tuple(matrix[row, column] for column in parts) for row in parts),
        stds=unravel(jnp.asarray(stds, flat.dtype)),
        players=report.players,
        draws=draws,
        notes=tuple(notes),
    )


def _check_stable(report: Stability) -> None:
    if report.smoothness != "smooth":
        raise ValueError(
            f"the method is {report.smoothness} at the point, where noise has no linear response. "
            + " ".join(report.notes)
        )
    name, value = report.boundary.bound_name, report.boundary.bound_of(report)
    if report.verdict is Verdict.unstable:
        raise ValueError(
            f"the point is unstable ({name} {value:.6g}), so that there is no stationary distribution: noise and the "
            "dynamics drive training away. Use a smaller step or a penalty; dynamics.stability says more."
        )
    if report.verdict is not Verdict.stable:
        raise ValueError(
            f"the linear part at the point is {report.verdict} ({name} {value:.6g}), so that its response to noise has "
            "no stationary distribution: whatever holds training there is of higher order, which a covariance from the "
            "linear part cannot see. Use a penalty, another method, or simulate."
        )
    if report.manifold_dimension:
        raise ValueError(
            f"the point lies on a manifold of equilibria of dimension {report.manifold_dimension}, along which noise "
            "diffuses for ever, so that there is no stationary distribution. A penalty can make it an isolated point."
        )
    if report.neutral:
        raise ValueError(
            f"the memory stays where it is put in {report.neutral} directions (a running maximum, as in AMSGrad, "
            "does), so that noise moves it for ever and there is no stationary distribution. Use an optimiser whose "
            "memory forgets, e.g. Adam."
        )


def _check_noise(noise: np.ndarray, size: int) -> np.ndarray:
    if noise.shape != (size, size):
        raise ValueError(
            f"noise has shape {noise.shape}; expected {(size, size)}: the players' numbers, then the memory's"
        )
    scale = np.max(np.abs(noise), initial=0)
    if not np.isfinite(scale) or np.max(np.abs(noise - noise.T), initial=0) > 1e-8 * scale:
        raise ValueError("noise is not symmetric, or not finite; expected a covariance matrix")
    smallest = np.min(np.linalg.eigvalsh(noise), initial=0)
    if smallest < -1e-8 * scale:
        raise ValueError(
            f"noise has the eigenvalue {smallest:.3g}; expected a covariance matrix, without negative ones"
        )
    return noise


@eqx.filter_jit
def _rest(game: Game, method: Update | AbstractFlow, players: Players) -> Rest:
    game, method = _trees.cast((game, method), _trees.float_dtype(players))
    return rest_state(game, method, players)


def _flatten(state: PyTree) -> jax.Array:
    return ravel_pytree(eqx.filter(state, eqx.is_inexact_array))[0]


@eqx.filter_jit
def _steps(game: Game, update: Update, state: State, keys: Keys) -> jax.Array:
    """How far one step moves the state at rest, for every key."""
    game, update = _trees.cast((game, update), _trees.float_dtype(state.players))
    return jax.vmap(lambda key: _flatten(update.step(game, state, key)))(keys) - _flatten(state)


def _drawn_noise(
    game: Game, update: Update, state: State, key: PRNGKeyArray, samples: int
) -> tuple[list[np.ndarray], int, list[str]]:
    """The covariance of one step from each group of draws, their number altogether, and notes."""
    state = jax.tree.map(jnp.asarray, state)
    keys = jax.random.split(key, (GROUPS, -(-samples // GROUPS)))
    moves = np.stack([np.asarray(_steps(game, update, state, group), float) for group in keys])
    noises = [np.atleast_2d(np.cov(group, rowvar=False)) for group in moves]
    moves = moves.reshape(-1, moves.shape[-1])
    notes = []
    if not np.any(noises):
        notes.append("One step is the same for every key: this training has no noise.")
    rounding = float(jnp.finfo(_trees.float_dtype(state.players)).eps) ** 0.5 * (1 + np.abs(_flatten(state)))
    shift = np.abs(moves.mean(axis=0))
    if np.any(shift > 6 * moves.std(axis=0) / len(moves) ** 0.5 + rounding):
        notes.append(
            "The mean of one step is not the rest state (a memory of squares takes in the variance, say): the "
            "covariance holds for weak noise only."
        )
    return noises, len(moves), notes


def _solve_map(jacobian: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return _symmetric(scipy.linalg.solve_discrete_lyapunov(jacobian, noise))


def _solve_flow(jacobian: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return _symmetric(scipy.linalg.solve_continuous_lyapunov(jacobian, -noise))


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2
