"""Lyapunov exponents: how fast neighbouring runs part, on any attractor."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics.analysis.equilibria.precision import as_point
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.compiler.derivatives import released
from dynamics.flows import Flow
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.outcomes import Outcome
from dynamics.simulation import simulate
from dynamics.updates import Simultaneous
from dynamics.updates.base import State, Update, check_memory_of
from dynamics.updates.runge_kutta import TABLEAUS
from dynamics.updates.with_variables import for_game

BLOCKS = 20  # stretches of a run whose means give the standard errors
LONGEST_STEP = 0.02  # of a flow, unless the caller says otherwise
FEWEST_STEPS = 2000  # along a flow, likewise


@dataclasses.dataclass(frozen=True)
class LyapunovExponents(Described):
    """Mean rates at which small displacements of the whole state grow along a run.

    Of a batch of runs the numbers are arrays with a leading axis.

    Attributes:
        kind: "map" or "flow".
        exponents: per step or per unit of time, in decreasing order. Minus infinity: displacements shrink faster than
            can be told from rounding.
        errors: standard errors of the exponents, from the means over 20 stretches of the run.
        sum: of the exponents; of the whole spectrum, the mean rate at which volumes grow.
        dimension: Kaplan and Yorke's estimate of the dimension of the attractor; exponents within three standard errors
            of 0, or a millionth of the largest, count as 0. NaN when it needs more exponents than were asked for.
        size: how many exponents there are in all.
        steps: number of steps over which the mean was taken.
        step: length of a step: 1 for a map.
        warm_up: number of steps before these.
        final: the players at the end.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    exponents: np.ndarray
    errors: np.ndarray
    sum: float | np.ndarray
    dimension: float | np.ndarray
    size: int
    steps: int
    step: float
    warm_up: int
    final: Players
    notes: tuple[str, ...]

    def describe(self) -> str:
        """The result as text."""
        boundary = boundary_of(self.kind)
        unit = boundary.unit
        length = f"{self.steps} steps" + ("" if boundary.discrete else f" of length {self.step:.4g}")
        if self.exponents.ndim > 1:
            largest = self.exponents[:, 0]
            known = largest[~np.isnan(largest)]
            span = f"from {known.min():.6g} to {known.max():.6g}" if len(known) else "nowhere defined"
            lines = [f"{len(largest)} runs: largest exponent {span} per {unit}, over {length}"]
        else:
            pairs = zip(self.exponents[:8], self.errors[:8], strict=True)
            shown = ", ".join(f"{value:.6g} (+- {error:.1g})" for value, error in pairs)
            more = f", ... ({len(self.exponents)} in all)" if len(self.exponents) > 8 else ""
            lines = [
                f"exponents per {unit}: {shown}{more}",
                f"sum {self.sum:.6g}, Kaplan-Yorke dimension {self.dimension:.5g}, over {length}",
            ]
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; what is not finite is `None`."""
        return plain_fields(self, final=[np.asarray(leaf) for leaf in jax.tree.leaves(self.final)])


def lyapunov_exponents(
    game: Game,
    method: Update | AbstractFlow,
    players: Any,
    *,
    steps: int | None = None,
    until: float | None = None,
    count: int | None = None,
    warm_up: int | float | None = None,
    interval: int | None = None,
    step: float | None = None,
    key: PRNGKeyArray | None = None,
    batch: bool = False,
    limit: float = 1e6,
) -> LyapunovExponents:
    r"""The Lyapunov exponents of a run: the largest tells order (negative), a cycle of a flow (0) and chaos (positive).

    Tangent vectors $Q$ are carried along by the derivative of the exact step on the whole state, players and memory,
    and are made orthonormal again every few steps, $DF\cdots DF\,Q = Q^+R$; the exponents are the means of
    $\log |R_{ii}|$ (Benettin, Galgani, Giorgilli, Strelcyn, Lyapunov Characteristic Exponents for Smooth Dynamical
    Systems, 1980). At a fixed point they are the logs of the moduli of the eigenvalues, or their real parts for a flow.
    Flows are followed by the classical Runge-Kutta method of order 4, so that the exponents are exact up to
    O(step^4), besides the error of the finite time.

    Args:
        game: the game.
        method: an update (with `steps`) or a flow (with `until`).
        players: starting point, a tuple with a number, array or pytree per player; of an update also a `State`, whose
            memory the run begins with: `run.state`, or the last result of `dynamics.from_step`.
        steps: number of steps of an update over which the mean is taken.
        until: likewise the time of a flow.
        count: how many exponents, the largest ones; default all, as many as the state has numbers.
        warm_up: steps (or time) before that, in which the run approaches its attractor and the tangent vectors their
            directions; default a tenth of `steps` or `until`.
        interval: steps between two orthonormalisations. What shrinks, relative to the rest, by more than the rounding
            unit in so many steps is lost: its exponent is minus infinity, and a note says so. Default 10, and where
            that loses something, 1.
        step: length of a flow's steps; default 0.02, or less for a short run.
        key: for minibatches; step t uses `fold_in(key, t)`, for the run, its tangents and every run of a batch.
        batch: the players' leaves have a leading axis, a run for each entry; one program for all.
        limit: as in `dynamics.simulate`: a run that goes farther has diverged, and its exponents are NaN.

    Raises:
        TypeError: the method is no update and no flow.
        ValueError: a number is out of bounds, the flow has noise of its own, or a state is that of another method.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    >>> result = lyapunov_exponents(Bilinear(1.0), update, (1.0, 1.0), steps=1000)
    >>> [round(float(value), 6) for value in result.exponents]  # log(1 + h^2) / 2
    [0.004975, 0.004975]
    """
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(f"method is {method!r}; expected an update (dynamics.updates) or a flow (dynamics.flows)")
    method = for_game(game, method)
    if isinstance(players, State):
        method = _resumed(game, method, players, batch)
        players = players.players
    players = as_point(players, "players")
    dtype = _trees.float_dtype(players)
    if isinstance(method, Update):
        if until is not None or step is not None or steps is None:
            raise ValueError(f"an update takes steps=..., not until or step; got steps={steps}, until={until}")
        steps = as_whole("steps", steps)
        warm_up = -(-steps // 10) if warm_up is None else as_whole("warm_up", warm_up, 0)
        update, length = method, 1.0
    else:
        steps, warm_up, length = _steps_of_flow(method, steps, until, warm_up, step, key)
        update = _FlowStep(method, jnp.asarray(length, dtype))
    if interval is not None:
        interval = as_whole("interval", interval)
    if not limit > 0:
        raise ValueError(f"limit is {limit}; expected a positive number")
    first_start = jax.tree.map(lambda leaf: leaf[0], players) if batch and _has_runs(players) else players
    size = _trees.float_size(eqx.filter_eval_shape(update.init, game, first_start))
    count = size if count is None else as_whole("count", count)
    if count > size:
        raise ValueError(f"count is {count}; expected a whole number from 1 to {size}, the numbers in the state")
    for every in (10, 1) if interval is None else (interval,):
        tangents = _Tangents(update, count, every, warm_up, steps)
        outcome, logs, final = jax.device_get(
            _follow(game, tangents, players, key, jnp.asarray(limit, dtype), warm_up + steps, batch)
        )
        if not np.isneginf(logs).any():
            break
    return _result(boundary_of(method).kind, outcome, np.asarray(logs, float), final, size, tangents, length)


class Resumed(Update):
    """An update whose first state has the memory that is given."""

    inner_update: Update
    memory: PyTree

    def init(self, game: Game, players: Players) -> State:
        return State(players, self.memory)

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.inner_update.step(game, state, key)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        inner = Simultaneous.example(players)
        return cls(inner, inner.steppers.init((jnp.zeros(()),) * players))


def _resumed(game: Game, method: Update | AbstractFlow, state: State, batch: bool) -> Update:
    """The method, beginning with the memory of a state."""
    if not isinstance(method, Update) or batch:
        raise ValueError(
            "players is a State, which a single run of an update can begin with; expected a tuple of players for "
            + ("a batch" if batch else "a flow")
        )
    check_memory_of(method, game, state)
    return Resumed(method, state.memory)


def _steps_of_flow(flow, steps, until, warm_up, step, key) -> tuple[int, int, float]:
    """Number of steps, those of the warm-up, and their length."""
    if steps is not None or until is None:
        raise ValueError(f"a flow takes until=..., not steps=...; got steps={steps}, until={until}")
    if key is not None or hasattr(flow, "noise"):
        raise ValueError("the exponents are those of a flow without noise; leave key=None and pass the flow itself")
    for name, value, least in (("until", until, 0), ("step", step, 0), ("warm_up", warm_up, -1)):
        if value is not None and not (least < value < math.inf and value >= 0):
            raise ValueError(f"{name} is {value}; expected a {'time >= 0' if least else 'positive time'}")
    step = min(LONGEST_STEP, until / FEWEST_STEPS) if step is None else step
    count = max(1, math.ceil(until / step * (1 - 1e-12)))
    length = float(until) / count
    warm_up = until / 10 if warm_up is None else warm_up
    return count, math.ceil(warm_up / length * (1 - 1e-12)), length


def _has_runs(players: Players) -> bool:
    """Whether all leaves have a leading axis of the same length; raises otherwise."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(players)}
    if len(lengths) != 1 or () in lengths or (0,) in lengths:
        shapes = jax.tree.map(jnp.shape, players)
        raise ValueError(f"the players have shapes {shapes}; expected, with batch=True, a leading axis of one length")
    return True


@eqx.filter_jit
def _follow(game, tangents, players, key, limit, steps: int, batch: bool):
    def run(players: Players):
        run = simulate(game, tangents, players, steps=steps, save_every="last", key=key, classify=False, limit=limit)
        return run.outcome, run.state.memory.logs, run.final

    return (jax.vmap(run) if batch else run)(players)


class _Frame(eqx.Module):
    """The memory of a run with tangents."""

    inner: PyTree
    basis: Float[Array, "size count"]
    logs: Float[Array, "stretches count"]  # sums of the logs of growth: the warm-up, then the blocks
    step: Array


class _Tangents(Update):
    """An update that carries tangent vectors along and adds up the logs of their growth."""

    update: Update
    count: int = eqx.field(static=True)
    interval: int = eqx.field(static=True)
    warm_up: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def lengths(self) -> np.ndarray:
        """Steps in every block."""
        return np.diff(np.linspace(0, self.steps, min(BLOCKS, self.steps) + 1).astype(int))

    @property
    def ends(self) -> np.ndarray:
        """The last steps of the warm-up and of the blocks."""
        return self.warm_up + np.cumsum([0, *self.lengths])

    def init(self, game: Game, players: Players) -> State:
        state = self.update.init(game, players)
        floating, _ = eqx.partition(state, eqx.is_inexact_array)
        flat, _ = ravel_pytree(floating)
        # In general position: the unit vectors may all lie in subspaces that the game leaves alone.
        basis = np.linalg.qr(np.random.default_rng(0).standard_normal((flat.size, self.count)))[0]
        logs = jnp.zeros((len(self.ends), self.count), flat.dtype)
        start = jnp.zeros((), jnp.int32)
        return State(state.players, _Frame(state.memory, jnp.asarray(basis, flat.dtype), logs, start))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        frame = state.memory
        floating, other = eqx.partition(State(state.players, frame.inner), eqx.is_inexact_array)
        flat, unravel = ravel_pytree(floating)

        def move(vector: Array) -> tuple[Array, State]:
            new = self.update.step(game, eqx.combine(unravel(vector), other), key)
            return ravel_pytree(eqx.filter(new, eqx.is_inexact_array))[0], new

        def push(tangent: Array) -> tuple[Array, State]:
            _, pushed, new = jax.jvp(released(move), (flat,), (tangent,), has_aux=True)
            return pushed, new

        basis, copies = jax.vmap(push, in_axes=1, out_axes=(1, 0))(frame.basis)
        new = jax.tree.map(lambda leaf: leaf[0], copies)  # the same for every tangent, and computed once
        step = frame.step + 1
        due = (step % self.interval == 0) | jnp.any(step == self.ends)
        basis, growth = jax.lax.cond(due, _orthonormal, lambda basis: (basis, jnp.zeros_like(basis[0])), basis)
        logs = frame.logs.at[jnp.sum(step > self.ends)].add(growth)
        return State(new.players, _Frame(new.memory, basis, logs, step))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Simultaneous.example(players), 1, 1, 1, 1)


def _orthonormal(basis: Array) -> tuple[Array, Array]:
    """An orthonormal basis of the same flag of subspaces, and the logs of the lengths that are lost thereby."""
    normal, triangle = jnp.linalg.qr(basis)
    lengths = jnp.abs(jnp.diagonal(triangle))
    floor = 64 * jnp.finfo(basis.dtype).eps * jnp.max(jnp.linalg.norm(basis, axis=0))
    lost = lengths <= floor  # what is left is rounding
    return normal, jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, lengths)))


class _FlowStep(Update):
    """One step of the classical Runge-Kutta method on a flow's whole state."""

    flow: AbstractFlow
    length: Array

    def init(self, game: Game, players: Players) -> State:
        state = self.flow.init(game, players)
        # Time comes from a counter, so that it is no number of the state with an exponent of its own.
        return State(state.players, (state.memory, jnp.zeros((), jnp.int32)))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        memory, count = state.memory
        start = State(state.players, memory)
        rows, weights = TABLEAUS["rk4"]

        def after(coefficients, slopes) -> State:
            point = start
            for coefficient, slope in zip(coefficients, slopes, strict=True):
                point = _trees.add_scaled(point, self.length * coefficient, slope) if coefficient else point
            return point

        slopes: list[State] = []
        for row in rows:
            time = (count + sum(row)) * self.length
            slopes.append(self.flow.field(game, time, after(row, slopes)))
        end = after(weights, slopes)
        return State(end.players, (end.memory, count + 1))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Flow.example(players), jnp.asarray(0.1))


def _result(kind, outcome, logs, final, size, tangents: _Tangents, length: float) -> LyapunovExponents:
    blocks = logs[..., 1:, :]
    means = blocks / (tangents.lengths[:, None] * length)
    with np.errstate(invalid="ignore"):
        exponents = blocks.sum(axis=-2) / (tangents.steps * length)
        errors = (
            means.std(axis=-2, ddof=1) / math.sqrt(means.shape[-2])
            if means.shape[-2] > 1
            else np.full_like(exponents, np.nan)
        )
    diverged = np.asarray(outcome) == Outcome.diverged
    exponents, errors = (np.where(diverged[..., None], np.nan, x) for x in (exponents, errors))
    order = np.argsort(-exponents, axis=-1, kind="stable")
    exponents, errors = (np.take_along_axis(x, order, axis=-1) for x in (exponents, errors))
    complete = tangents.count == size
    flat = [x.reshape(-1, x.shape[-1]) for x in (exponents, errors)]
    dimension = np.array([_kaplan_yorke(*row, complete) for row in zip(*flat, strict=True)]).reshape(diverged.shape)
    total = exponents.sum(axis=-1)
    notes = []
    if diverged.any():
        who = f"{diverged.sum()} of {diverged.size} runs" if diverged.ndim else "The run"
        notes.append(_NOTES["diverged"].format(who=who))
    if (np.isnan(exponents).any(axis=-1) & ~diverged).any():
        notes.append(_NOTES["undefined"])
    if np.isneginf(exponents).any():
        notes.append(_NOTES["unresolved"].format(interval=tangents.interval))
    if (np.isnan(dimension) & ~np.isnan(exponents[..., 0])).any():
        notes.append(_NOTES["dimension"].format(count=tangents.count, size=size))
    scalar = diverged.ndim == 0
    return LyapunovExponents(
        kind=kind,
        exponents=exponents,
        errors=errors,
        sum=float(total) if scalar else total,
        dimension=float(dimension) if scalar else dimension,
        size=size,
        steps=tangents.steps,
        step=length,
        warm_up=tangents.warm_up,
        final=final,
        notes=tuple(notes),
    )


_NOTES = {
    "diverged": "{who} diverged: no exponents; take smaller steps, another start, or a larger limit.",
    "undefined": "Some exponents are not defined: the map has no finite derivative along the run.",
    "unresolved": "Exponents of minus infinity: displacements vanish, or shrink within {interval} step(s) by more than "
    "rounding lets one see.",
    "dimension": "The dimension needs more exponents than {count} of {size}; raise count.",
}


def _kaplan_yorke(exponents: np.ndarray, errors: np.ndarray, complete: bool) -> float:
    r"""$k + (\lambda_1+\dots+\lambda_k)/|\lambda_{k+1}|$ with k the most exponents whose sum is not negative."""
    if np.isnan(exponents).any():
        return math.nan
    noise = 3 * np.nan_to_num(errors) + 1e-6 * np.max(np.abs(exponents[np.isfinite(exponents)]), initial=1e-6)
    values = np.where(np.abs(exponents) <= noise, 0.0, exponents)
    sums = np.cumsum(values)
    negative = np.flatnonzero(sums < 0)
    if not len(negative):
        return float(len(values)) if complete else math.nan
    k = int(negative[0])
    return k + (float(sums[k - 1]) if k else 0.0) / abs(float(values[k]))
