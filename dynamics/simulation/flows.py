"""The solution of an ODE or an SDE, by diffrax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._compiling import cheap_jit
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Players
from dynamics.outcomes import (
    Outcome,
    Summary,
    evidence_of_samples,
    floor_of,
    marks,
    probe_sizes,
    quarters_of,
    summarise,
)
from dynamics.recurrence import Open
from dynamics.simulation.ending import distance_of, distances_of, fields_at, finished_run, only_divergence, residual_of
from dynamics.simulation.maps import SEGMENTS
from dynamics.simulation.result import Measure, Run
from dynamics.simulation.second_look import failures
from dynamics.solver_watch import SolverWatch, watched
from dynamics.updates.base import State

STEPS_PER_TURN = 64  # of a second look at a flow

MOST_STEPS = 2**14

SAMPLES = 1024  # points along a flow from which its outcome is decided; a multiple of SEGMENTS


def save_times(until: Any, save_every: Any, dtype: Any) -> Array | None:
    """The times at which a flow is saved; `None` for its end alone."""
    if save_every == "last":
        return None
    if save_every is None:
        return until * jnp.linspace(0, 1, 513, dtype=dtype)
    if isinstance(save_every, str) or not 0 < save_every <= until:
        raise ValueError(f"save_every is {save_every}; expected a time between 0 and until={until}, or 'last'")
    return jnp.asarray(save_every * np.arange(int(until / save_every * (1 + 1e-12)) + 1), dtype)


class SolverOptions(eqx.Module):
    """How diffrax solves a flow; see `dynamics.simulate`, whose arguments these are."""

    solver: diffrax.AbstractSolver
    stepsize_controller: diffrax.AbstractStepSizeController
    dt0: float | Array | None
    max_steps: int | None
    adjoint: diffrax.AbstractAdjoint
    key: PRNGKeyArray | None


def solver_options(
    flow: AbstractFlow,
    dtype: Any,
    *,
    solver: diffrax.AbstractSolver | None,
    stepsize_controller: diffrax.AbstractStepSizeController | None,
    dt0: float | Array | None,
    max_steps: int | None,
    adjoint: diffrax.AbstractAdjoint | None,
    key: PRNGKeyArray | None,
) -> SolverOptions:
    """The options with those filled in that are `None`: for an ODE Tsit5 at 1e-9 (float32: 1e-6), for an SDE ShARK."""
    if isinstance(flow, NoisyFlow):
        solver = diffrax.ShARK() if solver is None else solver
        stepsize_controller = diffrax.ConstantStepSize() if stepsize_controller is None else stepsize_controller
        dt0 = jnp.asarray(dt0, dtype)
    if stepsize_controller is None:
        accuracy = 1e-9 if dtype == jnp.float64 else 1e-6
        stepsize_controller = diffrax.PIDController(rtol=accuracy, atol=accuracy)
    solver = diffrax.Tsit5() if solver is None else solver
    adjoint = diffrax.ForwardMode() if adjoint is None else adjoint
    return SolverOptions(solver, stepsize_controller, dt0, max_steps, adjoint, key)


class Problem(NamedTuple):
    """What is asked of a flow.

    Attributes:
        game, flow, state: what moves, and from where.
        until: the final time.
        saves: the times at which players are saved; `None`: at the end alone.
        options: of the solver.
        thresholds: tolerance and limit of `dynamics.simulate`.
        measures: by name.
        classify: whether outcome, rate and period are wanted.
    """

    game: Game
    flow: AbstractFlow
    state: State
    until: Array
    saves: Array | None
    options: SolverOptions
    thresholds: tuple[Array, Array]
    measures: tuple[tuple[str, Measure], ...]
    classify: bool


@cheap_jit
def run_flow(problem: Problem, meter: diffrax.AbstractProgressMeter) -> tuple[Run, Summary, Open | None]:
    """The run, what became of it, and what a second look needs; `None` where nothing is classified."""
    game, flow, state, until, saves, options, (_, limit), _, classify = problem
    controller, dt0 = options.stepsize_controller, options.dt0
    dtype = until.dtype
    start = _trees.norm(state.players)
    # diffrax stumbles over empty containers in a state (an empty memory, say), so it gets the bare leaves.
    leaves, structure = jax.tree.flatten(state)

    def field(t, y, args):
        return jax.tree.leaves(flow.field(game, t, jax.tree.unflatten(structure, y)))

    def players_at(t, y, args):
        return jax.tree.unflatten(structure, y).players

    def too_large(t, y, args, **kwargs):
        return ~(distance_of(players_at(t, y, args), state.players) <= limit * jnp.maximum(1, start))

    def players_of(y):
        return jax.tree.unflatten(structure, y).players

    # Whatever is saved costs time to compile: the end comes last in the samples from which the outcome is decided.
    keep = {"grid": diffrax.SubSaveAt(ts=samples_of(until) if classify else None, t1=True)}
    if saves is not None:
        keep["saved"] = diffrax.SubSaveAt(ts=saves, fn=lambda *at: jax.tree.leaves(players_at(*at)))
    terms = diffrax.ODETerm(field)
    if isinstance(flow, NoisyFlow):
        noise = flow.noise

        def diffusion(t, y, args):
            return lx.DiagonalLinearOperator(jax.tree.leaves(noise(jax.tree.unflatten(structure, y))))

        assert dt0 is not None and options.key is not None  # `simulate` has seen to it
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        area = diffrax.SpaceTimeLevyArea  # serves the solvers that need it, and those that need less
        path = diffrax.VirtualBrownianTree(jnp.zeros((), dtype), until, dt0 / 2, shapes, options.key, area)
        terms = diffrax.MultiTerm(terms, diffrax.ControlTerm(diffusion, path))
    solution = diffrax.diffeqsolve(
        terms,
        options.solver,
        jnp.zeros((), dtype),
        until,
        dt0,
        leaves,
        saveat=diffrax.SaveAt(subs=keep, controller_state=classify),
        stepsize_controller=watched(controller, players_of, until) if classify else controller,
        max_steps=options.max_steps,
        event=diffrax.Event(too_large),
        progress_meter=meter,
        adjoint=options.adjoint,
        throw=False,
    )
    controller_state: Any = solution.controller_state
    values: Any = solution.ys
    times: Any = solution.ts
    solved = Solved(
        times=times["grid"],
        sampled=jax.tree.unflatten(structure, values["grid"]),
        saved=None if saves is None else jax.tree.unflatten(jax.tree.structure(state.players), values["saved"]),
        left=solution.result == diffrax.RESULTS.event_occurred,
        ended=solution.result == diffrax.RESULTS.successful,
        steps=solution.stats["num_steps"],
        watch=controller_state[1] if classify else None,
    )
    return concluded(problem, solved)


class Solved(eqx.Module):
    """The solution of a flow.

    Attributes:
        times: of `samples_of`, infinite where not reached, and the end after the last one that was reached.
        sampled: the state at each, with a leading axis.
        saved: the players at the saved times; `None` where the end alone is saved.
        left: whether it left the bound on the distance from the start.
        ended: whether it came to the final time.
        steps: that the solver took.
        watch: what was gathered at every step; `None` where nothing is classified.
    """

    times: Array
    sampled: State
    saved: Any
    left: Array
    ended: Array
    steps: Array
    watch: SolverWatch | None


def samples_of(until: Array) -> Array:
    """The times of the samples from which the outcome of a flow is decided."""
    return until * jnp.linspace(0, 1, SAMPLES + 1, dtype=until.dtype)


def concluded(
    problem: Problem,
    solved: Solved,
    fields_of: Callable[[tuple[Players, ...], Array], tuple[Array, Array]] | None = None,
) -> tuple[Run, Summary, Open | None]:
    """The run that a solution makes: outcome, rate and measures.

    Args:
        fields_of: norms of the field at some points, and how much it changes around the last one; default those of the
            game's field.
    """
    game, flow, state, until, saves, options, (tolerance, limit), measures, classify = problem
    dtype, start = until.dtype, _trees.norm(state.players)

    def flat_players(point: State) -> tuple[Array, ...]:
        return tuple(ravel_pytree(player)[0] for player in point.players)

    def at(place: Any) -> State:
        return jax.tree.map(lambda leaf: leaf[place], solved.sampled)

    # The end is stored after the last sample that was reached; what was not reached is infinite.
    last = jnp.sum(jnp.isfinite(solved.times)) - 1
    final = at(last)
    travelled = distance_of(final.players, state.players)
    occurred, ended = solved.left, solved.ended
    blown = occurred | ~jnp.isfinite(travelled)
    reached = solved.times[last]
    if solved.watch is not None:
        watch, grid = solved.watch, samples_of(until)
        tolerances = [getattr(options.stepsize_controller, name, None) for name in ("rtol", "atol")]
        accuracy = max([float(jnp.finfo(dtype).eps), *(value for value in tolerances if value is not None)])
        points = jax.vmap(flat_players)(at(slice(-1)))
        covered, sizes = distances_of(final.players, state.players), _trees.norms(final.players)
        quarters, floor = quarters_of(points, SEGMENTS), floor_of(sizes, accuracy)
        probes = probe_sizes(quarters, covered, sizes, floor, tolerance, floor)
        places = jnp.asarray(marks(SAMPLES + 1)[:-1])
        begin, half, late = (at(place).players for place in places)
        ends = begin, half, late, final.players
        fields, variation = fields_at(game, ends, probes, None) if fields_of is None else fields_of(ends, probes)
        crossings = watch.crossings_until(until)
        evidence = evidence_of_samples(grid, points, crossings, fields, variation, accuracy, SEGMENTS)
        summary = summarise(evidence._replace(travelled=covered, start=start), tolerance, limit)
        failed = failures(flow, game, final, reached, watch.failed_at)
        wrong = ~ended & ~occurred & failed.any()
        outcome = jnp.where(ended, summary.outcome, jnp.int8(Outcome.undecided))
        outcome = jnp.where(blown, jnp.int8(Outcome.diverged), outcome)
        outcome = jnp.where(wrong, jnp.int8(Outcome.not_a_number), outcome)
        failed = failed & (outcome == Outcome.not_a_number)
        gave_up = ~ended & ~blown & ~wrong
        turn = (watch.last - watch.first) / jnp.maximum(watch.crossings - 1, 1)
        doubt = jnp.where(ended & (outcome == Outcome.undecided), summary.doubt, 0)
        summary = summary._replace(
            outcome=outcome,
            period=jnp.where(ended, summary.period, jnp.nan),
            doubt=doubt.astype(jnp.int8),
            needed=jnp.where(ended, summary.needed, jnp.nan),
            exponent=jnp.where(ended, summary.exponent, jnp.nan),
        )
        length = jnp.minimum(turn / STEPS_PER_TURN, until / 8 / jnp.maximum(watch.steps, 1))
        length = jnp.where(jnp.isfinite(length) & (length > 0), length, until / SAMPLES)
        open_ = Open(
            doubt=summary.doubt,
            state=final,
            step=until,
            start=state.players,
            bound=limit * jnp.maximum(1, start),
            amplitude=quarters[3],
            axis=watch.axis,
            centre=watch.centre,
            turn=turn / length,
            most=jnp.minimum(until / 4 / length, MOST_STEPS),
            length=length,
        )
        residual = jnp.sqrt(jnp.sum(fields[3] ** 2))
    else:
        summary, open_ = only_divergence(jnp.where(blown, jnp.inf, travelled), start, limit), None
        failed, gave_up = jnp.zeros(len(final.players), bool), ~ended & ~blown
        residual = residual_of(game, final.players, None)
    if saves is None:
        saved, saved_times = jax.tree.map(lambda leaf: leaf[None], final.players), reached[None]
    else:
        saved, saved_times = solved.saved, saves
    rest = residual, solved.steps, reached, failed, gave_up
    return finished_run(game, final, (saved, ()), saved_times, measures, None, summary, *rest), summary, open_
