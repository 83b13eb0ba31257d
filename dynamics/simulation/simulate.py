"""The entrance: input is checked, and a map or a flow is run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_whole, is_concrete
from dynamics._compiling import once_per_kind
from dynamics._memory import check_memory, counted
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Players, advice_on_lists, as_losses, as_players, variables_of
from dynamics.outcomes import Summary
from dynamics.recurrence import Open
from dynamics.simulation.flows import Problem, run_flow, save_times, solver_options
from dynamics.simulation.maps import Schedule, run_update, run_with_any_steps
from dynamics.simulation.result import Measure, Pieces, Run
from dynamics.simulation.second_look import decided_by_a_second_look
from dynamics.simulation.sliding import LONGEST_STEP, NotFollowed, run_through_jumps
from dynamics.updates.base import State, Update, check_memory_of
from dynamics.updates.with_variables import for_game


def simulate(
    game: Game,
    method: Update | AbstractFlow,
    players: Any,
    *,
    steps: int | None = None,
    until: float | Array | None = None,
    save_every: int | float | Literal["last"] | None = None,
    measures: Mapping[str, Measure] | None = None,
    key: PRNGKeyArray | None = None,
    classify: bool = True,
    tolerance: float | Array = 1e-3,
    limit: float | Array = 1e6,
    progress: bool = False,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    dt0: float | Array | None = None,
    max_steps: int = 100_000,
    adjoint: diffrax.AbstractAdjoint | None = None,
    sliding: bool | Literal["auto"] = "auto",
) -> Run:
    """Run a game under an update for so many steps, or along a flow until some time.

    A game with variables (networks with BatchNorm, spectral normalisation) is played by the update within
    `dynamics.updates.WithVariables`: they are in `run.state.memory.variables`, and each save's losses and measures are
    taken with those at that step. A flow holds them as they are in the game.

    Compiled; works under `jax.jit` and `jax.vmap`, and can be differentiated in forward mode. Numbers in the game and
    in the method follow the players' dtype. A game that blows up ends as `diverged` and disturbs nobody.

    Another call of the same kind compiles nothing: other numbers, other numbers of steps of an update, functions that
    are made anew with the same code and read the same values. (Where steps are saved, numbers of saves that differ by
    less than a fifth or so share a program while the saves take few megabytes. Under an outer `jax.jit` or `jax.vmap`
    the number of steps belongs to the outer program.) Functions that read what may change unseen, such as an object of
    a class of your own, are compiled each; the log of `dynamics._functions` warns of those, with the reason.

    Args:
        game: the game.
        method: an update (with `steps`) or a flow (with `until`).
        players: starting point, a tuple with a number, array or pytree per player; or `run.state` to go on.
        steps: number of steps of an update.
        until: final time of a flow.
        save_every: save each so many steps (updates, default 1) or each so much time (flows, default until/512), the
            start included; `"last"` keeps only the end, in memory that does not grow with the number of steps.
        measures: functions `(game, players) -> pytree of arrays` to be saved along with the losses, by name.
        key: for minibatches; step t uses `fold_in(key, t)`. `None`: exact expectations. Flows are
            exact but for `NoisyFlow`, whose Brownian path the key decides.
        classify: decide the outcome, rate and period along the way; without, only divergence is told.
        tolerance: how much the amplitude must have shrunk for an outcome `converged`.
        limit: distance from the start, relative to the larger of 1 and the start's norm, beyond which a game has
            diverged.
        progress: show a progress bar.
        solver, stepsize_controller, dt0, max_steps, adjoint: for flows, passed to diffrax; by default Tsit5 with
            adaptive steps and tolerances of 1e-9 (float64) or 1e-6, and forward-mode differentiation. A `NoisyFlow`
            needs `dt0`, the length of its steps, and is solved by ShARK; it should be saved at multiples of `dt0`, as
            values in between are interpolated.
        sliding: for flows whose field jumps (signs, clipping, hinges, WGAN-GP, dry friction): with `True` the run
            consists of smooth pieces that end at the surfaces of the field's switches, and of sliding along these where
            it leads to them from both sides, in the sense of Filippov; `run.pieces` has their times, and says from
            where on an ordinary solver was used, and why. With `False` an ordinary solver goes through the jumps, with
            steps as short as its accuracy where it should slide. `"auto"`: the latter, and the former where that has
            given up. Needs numbers that are known: under `jax.jit`, `jax.vmap` and in sweeps it is always the latter.

    Returns:
        a `Run`; see `dynamics.outcomes.summarise` for how outcomes are decided.

    Raises:
        TypeError: the method is no update and no flow, or the players are no arrays of real numbers.
        ValueError: a number is out of bounds, the start has the wrong shape, NaN in the start, or what is to be saved
            has no room in memory; `sliding=True` of an update, of a flow with noise, or where numbers are traced.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Alternating
    >>> run = simulate(Bilinear(1.0), Alternating(optax.sgd(0.1), optax.sgd(0.1)), (1.0, 1.0), steps=1000)
    >>> str(run.outcome), round(float(run.period), 3)  # 2 pi / (2 arcsin(h/2))
    ('cycling', 62.806)
    """
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(f"method is {method!r}; expected an update (dynamics.updates) or a flow (dynamics.flows)")
    method = for_game(game, method)
    state = start_state(game, method, players)
    dtype = _trees.float_dtype(state.players)
    game, method = jax.tree.map(partial(_number_of_type, dtype=dtype), (game, method))
    measures = dict(measures or {})
    for name, value in (("tolerance", tolerance), ("limit", limit)):
        if not (isinstance(value, Tracer) or value > 0):
            raise ValueError(f"{name} is {value}; expected a positive number")
    thresholds = _number(tolerance, dtype), _number(limit, dtype)
    meter = diffrax.NoProgressMeter()
    if progress:
        meter = diffrax.TqdmProgressMeter(refresh_steps=1 if isinstance(method, Update) else 20)
    if sliding not in (True, False, "auto"):
        raise ValueError(f"sliding is {sliding!r}; expected True, False or 'auto'")
    if sliding is True and (isinstance(method, (Update, NoisyFlow))):
        raise ValueError(
            f"sliding is True for {type(method).__name__}; expected a flow without noise, or leave it away"
        )
    if isinstance(method, Update):
        if until is not None or steps is None:
            raise ValueError(f"an update takes steps=..., not until=...; got steps={steps}, until={until}")
        steps = as_whole("steps", steps)
        every = steps if save_every == "last" else 1 if save_every is None else as_whole("save_every", save_every)
        if every > steps:
            raise ValueError(f"save_every is {every}, more than the {steps} steps; use save_every='last'")
        if steps >= 2**31:
            raise ValueError(f"steps is {counted(steps)}; expected fewer than 2^31. Go on from run.state with more")
        _check_saves(steps // every + 1, state.players, variables_of(game))
        schedule = steps, every, save_every == "last"
        rest = thresholds, tuple(measures.items()), bool(classify), meter
        if is_concrete((game, method, state, key, thresholds)):
            ran = run_with_any_steps(game, method, state, key, schedule, dtype, *rest)
        else:
            ran = run_update(game, method, state, key, Schedule(*schedule), *rest, False)
        return decided_by_a_second_look(game, method, key, *ran)
    if steps is not None or until is None:
        raise ValueError(f"a flow takes until=..., not steps=...; got steps={steps}, until={until}")
    if not (isinstance(until, Tracer) or 0 < float(until) < np.inf):
        raise ValueError(f"until is {until}; expected a positive time")
    _check_noise(method, key, dt0)
    if isinstance(save_every, (int, float)) and not isinstance(until, Tracer) and save_every > 0:
        _check_saves(int(min(float(until) / save_every, 1e300)) + 1, state.players, variables_of(game))
    saves = save_times(until, save_every, dtype)
    options = solver_options(
        method,
        dtype,
        solver=solver,
        stepsize_controller=stepsize_controller,
        dt0=dt0,
        max_steps=max_steps,
        adjoint=adjoint,
        key=key,
    )
    end, asked = _number(until, dtype), tuple(measures.items())
    known = is_concrete((game, method, state, end, saves, options, thresholds))
    if sliding is True and not known:
        raise ValueError("sliding is True under jax.jit, jax.vmap or a derivative; leave it away there")
    problem = Problem(game, method, state, end, saves, options, thresholds, asked, bool(classify))
    note, short_steps = "", stepsize_controller is None
    if sliding is True:
        try:
            return _through_jumps(problem, short_steps)
        except NotFollowed as reason:
            note = f"Solved by an ordinary solver: the flow cannot be followed through jumps, as {reason}."
    ran = run_flow(problem, meter)
    run = decided_by_a_second_look(game, method, key, *ran)
    if note:
        nothing = Pieces(jnp.zeros(0, dtype), jnp.zeros(0, jnp.int32), note)
        return eqx.tree_at(lambda r: r.pieces, run, nothing, is_leaf=lambda leaf: leaf is None)
    if sliding == "auto" and known and bool(run.gave_up) and not isinstance(method, NoisyFlow):
        try:
            other = _through_jumps(problem, short_steps)
        except NotFollowed:
            return run
        if float(other.reached) > float(run.reached):
            return other
    return run


def _through_jumps(problem: Problem, short_steps: bool) -> Run:
    """A flow in the sense of Filippov; see `dynamics.simulation.sliding`.

    Args:
        problem: what is asked.
        short_steps: keep the solver's steps below `LONGEST_STEP` of the whole time, as nobody has chosen a controller.
    """
    if short_steps:
        longest, options = problem.until * LONGEST_STEP, problem.options
        controller = eqx.tree_at(lambda c: c.dtmax, options.stepsize_controller, longest, is_leaf=lambda x: x is None)
        problem = problem._replace(options=eqx.tree_at(lambda o: o.stepsize_controller, options, controller))
    return decided_by_a_second_look(problem.game, problem.flow, None, *run_through_jumps(problem))


def _check_saves(count: int, players: Players, variables: PyTree) -> None:
    """Raise `ValueError` where what is saved has no room in memory: players and variables, a time, and losses."""
    numbers = _trees.size(players) + _trees.size(variables) + len(players) + 2
    each = numbers * _trees.float_dtype(players).itemsize
    check_memory(f"{counted(count)} saves", count, each, "save less often with save_every=, or 'last'")


def simulate_lane(
    game: Game,
    update: Update,
    players: Any,
    *,
    steps: int,
    save_every: int,
    key: PRNGKeyArray | None,
    tolerance: Array,
    limit: Array,
    apart: bool,
) -> tuple[Run, Summary, Open | None]:
    """As `simulate`, for one of many games that run side by side.

    What is in doubt at the end is left so; `second_look` decides it.

    Args:
        apart: whether a loop by itself counts the crossings of the last quarter. They cost as much as a step of a small
            game, and those of the other quarters are of no use; but the step is compiled twice then.
    """
    update = for_game(game, update)
    state = start_state(game, update, players)
    dtype = _trees.float_dtype(state.players)
    game, update = _trees.cast((game, update), dtype)
    thresholds = jnp.asarray(tolerance, dtype), jnp.asarray(limit, dtype)
    schedule = Schedule(steps, save_every, False)
    return run_update(game, update, state, key, schedule, thresholds, (), True, diffrax.NoProgressMeter(), apart)


def _number_of_type(leaf: Any, dtype: Any) -> Any:
    """A leaf as `_trees.cast` makes it, or an array of NumPy: then it is the compiled program's call that places it."""
    if not eqx.is_inexact_array(leaf):
        return leaf
    if isinstance(leaf, Tracer) or leaf.dtype != dtype:
        return jax.lax.convert_element_type(leaf, dtype)
    if not getattr(leaf, "weak_type", False):
        return leaf
    here = leaf.is_fully_addressable and all(device.platform == "cpu" for device in leaf.devices())
    return np.asarray(leaf) if here and not leaf.ndim else jax.lax.convert_element_type(leaf, dtype)


def _number(value: Any, dtype: Any) -> Any:
    """A number as an array; what is known is left to the compiled program to place."""
    return jnp.asarray(value, dtype) if isinstance(value, jax.Array) else np.asarray(value, dtype)


def _check_noise(flow: AbstractFlow, key: PRNGKeyArray | None, dt0: Any) -> None:
    if not isinstance(flow, NoisyFlow):
        if key is not None:
            raise ValueError(
                "a flow follows exact expectations; leave key=None, or simulate an update or a dynamics.flows.NoisyFlow"
            )
        return
    if key is None:
        raise ValueError("a NoisyFlow needs random numbers; pass key=jax.random.key(0)")
    if dt0 is None:
        raise ValueError(
            "a NoisyFlow takes steps of a fixed length; pass dt0=..., for instance a hundredth of the time in which "
            "the flow changes"
        )
    if not (isinstance(dt0, Tracer) or 0 < float(dt0) < np.inf):
        raise ValueError(f"dt0 is {dt0}; expected a positive time")


def start_state(game: Game, method: Update | AbstractFlow, players: Any) -> State:
    """Check a starting point and make it the state before the first step.

    Args:
        game: the game.
        method: an update or a flow.
        players: a tuple of pytrees; or a `State`, which is checked and stays as it is.

    Returns:
        players and memory.

    Raises:
        TypeError: a leaf is no array of real numbers.
        ValueError: a wrong number or shape of players, or a number that is not finite.
    """
    if isinstance(players, State):
        once_per_kind(check_memory_of, method, game, players)
        return players
    players = as_players(players)
    known = once_per_kind(check_players, game, players)
    if not known:  # which may depend on the game's numbers
        check_shapes(game, players)
    return method.init(game, players)


def check_shapes(game: Game, players: Players) -> bool:
    """Compare players with an equilibrium of the game, and tell whether there is one.

    Args:
        game, players: the game and its players.

    Raises:
        ValueError: the equilibrium has other shapes.
    """
    for known in game.equilibria()[:1]:
        expected, got = (jax.tree.map(jnp.shape, tree) for tree in (tuple(known), players))
        if expected != got:
            advice = " ".join(["", advice_on_lists(players)]).rstrip()
            raise ValueError(f"the players have shapes {got}; {type(game).__name__} expects {expected}.{advice}")
        return True
    return False


def check_players(game: Game, players: Players) -> bool:
    """Compare players with an equilibrium and with the losses of the game, and tell whether there is an equilibrium.

    Args:
        game, players: the game and its players.

    Raises:
        ValueError: they do not fit together.
    """
    known = check_shapes(game, players)
    cast = _trees.cast(game, _trees.float_dtype(players))  # as for a step
    try:
        losses = jax.eval_shape(partial(_losses_of, cast), players)
    except (TypeError, ValueError, IndexError) as error:
        shapes = jax.tree.map(jnp.shape, players)
        advice = advice_on_lists(players)
        advice = f". {advice}" if advice else ""
        raise ValueError(f"{type(game).__name__} cannot take players of shapes {shapes}: {error}{advice}") from error
    if len(losses) != len(players):
        raise ValueError(f"{len(players)} players for a game of {len(losses)} losses; expected one entry per player")
    return known


def _losses_of(game: Game, players: Players) -> tuple:
    """The losses as they come, each of them checked, for a random batch."""
    returned = game.losses(players, jax.random.key(0))
    count = len(returned) if isinstance(returned, (tuple, list)) else len(players)
    return as_losses(returned, count, f"{type(game).__name__}.losses")
