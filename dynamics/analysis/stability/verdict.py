"""Local stability from the eigenvalues of the Jacobian of the exact map or flow."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, overload

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_rates
from dynamics._compiling import sharing
from dynamics.analysis.equilibria.newton import EquilibriumError, accuracy_of, manifold_dimension, newton_method
from dynamics.analysis.equilibria.precision import as_point, precisely
from dynamics.analysis.normal_forms.expansion import Task, alone
from dynamics.analysis.spectra.scaling import dense_memory_scales
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.eigenvalues import judge_eigenvalues, judge_nothing
from dynamics.analysis.stability.fixed_point import (
    check_fixed_point,
    defect_vanishes,
    equilibrium_of,
    norm,
    not_an_equilibrium,
    residual_vanishes,
)
from dynamics.analysis.stability.higher_orders import Decision, beyond_linear
from dynamics.analysis.stability.jumps import judge_jump, slides_at
from dynamics.analysis.stability.kept_memory import has_fading, kept_dimension
from dynamics.analysis.stability.kinks import closer_look, judge_pieces, pieces_at
from dynamics.analysis.stability.leading import Leading, LeadingStability, leading_stability
from dynamics.analysis.stability.linearisation import (
    Linearisation,
    derivative_rules,
    function_at_rest,
    is_finite,
    player_coordinates,
    smoothness,
    without_limit,
)
from dynamics.analysis.stability.notes import Note, Remark, Verdict, has
from dynamics.analysis.stability.periods import REASONS, Period, find_period
from dynamics.analysis.stability.problem import JudgedPoint, compiled_linearise, compiled_rest_state, linear_at_rest
from dynamics.analysis.stability.report import Judgement, Stability, report_of, with_higher_orders
from dynamics.analysis.stability.rest import Repeated, Rest, above_zero, held_state
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update, check_memory_of
from dynamics.updates.rounded import is_rounded, unrounded
from dynamics.updates.with_variables import for_game

NEWTON_STEPS = 20
LARGEST_DENSE = 2000  # numbers in a state whose Jacobian is computed whole
SIDES = 24  # of switches at the point, along which terms of higher order are held against values
FAINT = 1e3  # kinks below so many rounding errors may be rounding after all


@overload
def stability(
    game: Game,
    method: Update | AbstractFlow,
    at: Any = None,
    *,
    key: PRNGKeyArray | None = None,
    require_equilibrium: bool | None = None,
    gradient_noise: Any = None,
    leading: None = None,
    order: Literal["auto", "linear"] = "auto",
) -> Stability: ...


@overload
def stability(
    game: Game,
    method: Update | AbstractFlow,
    at: Any = None,
    *,
    key: PRNGKeyArray | None = None,
    require_equilibrium: bool | None = None,
    gradient_noise: Any = None,
    leading: int | Leading,
    order: Literal["auto", "linear"] = "auto",
) -> LeadingStability: ...


def stability(
    game: Game,
    method: Update | AbstractFlow,
    at: Any = None,
    *,
    key: PRNGKeyArray | None = None,
    require_equilibrium: bool | None = None,
    gradient_noise: Any = None,
    leading: int | Leading | None = None,
    order: Literal["auto", "linear"] = "auto",
) -> Any:
    """The spectrum of the Jacobian of the exact map that is iterated, or of the flow, and what follows from it.

    The Jacobian is taken by automatic differentiation through the whole state: alternation, inner steps, extrapolation
    and optimiser memory included. Step counters are held at their limit, the memory is at rest. What a loss holds fixed
    (`stop_gradient`) is fixed for the field and free for the Jacobian: the map depends on it.

    Where steps depend on their number for ever but repeat (schedules that go round), a whole period is judged. Where
    they neither come to rest nor repeat, or the memory does not, the verdict is marginal and a note says why.

    Players in float32 are judged in double precision, with the numbers that they, the game and the method have, from
    the equilibrium next to them, unless the game does not allow it (it casts to float32, or draws random numbers).

    At a `State`, such as `run.state` in the middle of training, the Jacobian is that of the step from this very state:
    memory and counters are those that are given. Where the step moves the state the report says what its eigenvalues
    then mean.

    An update in finite precision (`updates.Rounded`) is judged without its rounding, and a note says so.

    Where eigenvalues are on the boundary, the rest of them inside, and the method is smooth, the linear part decides
    nothing. Then the map is evaluated in 60 digits (states of up to 24 numbers): eigenvalues so close to the boundary
    may decide after all; a quantity that is conserved makes the point neutral; else terms of second and third order on
    the centre manifold decide, see `dynamics.analysis.normal_forms`. An eigenvalue that is on the boundary in 60 digits
    counts as on it: a report says within what distance from the point that could matter. Where all this decides
    nothing the verdict is marginal, and a note says why.

    Large states (beyond 2,000 numbers, or with `leading`) get a `LeadingStability`: a few eigenvalues from products
    with the Jacobian, with their errors, and a bound on all others that holds with a known probability. Directions
    along a manifold of equilibria are not left out there.

    Args:
        game: the game.
        method: an update or a flow.
        at: a tuple of players, or a `State`; default the game's first known equilibrium.
        key: for a game that can only be sampled: the batch is frozen.
        require_equilibrium: raise at a point that is no equilibrium of the game, or no fixed point of the method;
            default for players, but not for a `State`.
        gradient_noise: standard deviation s of the noise of every gradient's coordinates, one number or one per player:
            the memory rests where noise of +s and -s keeps it on average, and the map is its mean over the two. It
            matters for Adam and its relatives, whose step is about learning rate / (s + eps) then; without noise the
            memory of squared gradients vanishes at an equilibrium and the step is learning rate / eps.
        leading: how many leading eigenvalues to compute without the dense Jacobian, or a `Leading` that says more.
        order: "auto", or "linear": eigenvalues in double precision, and the sides of a jump, alone.

    Raises:
        EquilibriumError: the point is no equilibrium (the message shows the residual), or none is known.
        TypeError: the method is no update and no flow.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> report = stability(Bilinear(1.0), Simultaneous(optax.sgd(0.1), optax.sgd(0.1)))
    >>> str(report.verdict), round(report.radius, 8)  # sqrt(1 + h^2)
    ('unstable', 1.00498756)
    """
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(f"method is {method!r}; expected an update (dynamics.updates) or a flow (dynamics.flows)")
    if order not in ("auto", "linear"):
        raise ValueError(f'order is {order!r}; expected "auto" or "linear"')
    method = for_game(game, method)
    if is_rounded(method):
        options: dict[str, Any] = dict(key=key, require_equilibrium=require_equilibrium, gradient_noise=gradient_noise)
        report = stability(game, unrounded(method), at, leading=leading, order=order, **options)
        return dataclasses.replace(report, notes=(Note.rounding.filled(), *report.notes))
    if isinstance(at, State):
        return _at_state(game, method, at, key, bool(require_equilibrium), gradient_noise, leading)
    require_equilibrium = require_equilibrium is None or require_equilibrium
    players = equilibrium_of(game) if at is None else as_point(at, "at")
    noise = None if gradient_noise is None else as_rates(gradient_noise, len(players), "gradient_noise")
    if noise is not None and isinstance(method, AbstractFlow):
        raise ValueError("gradient_noise is for updates; a flow has no gradient noise in its memory")
    game, method = sharing((game, method))
    size = _trees.float_size(eqx.filter_eval_shape(method.init, game, players))
    asked, notes = _leading(size, leading, noise)
    if asked is not None:
        dtype = _trees.float_dtype(players)
        rest = compiled_rest_state(game, method, players, key)
        if not bool(rest.rests):
            notes = (*notes, REASONS["memory"])
        rest = rest._replace(state=State(rest.state.players, jax.tree.map(above_zero, rest.state.memory)))
        game, method = _trees.cast((game, method), dtype)
        return leading_stability(game, method, rest, asked, key, notes, require_equilibrium)
    accuracy = accuracy_of(players)
    with precisely(game, method, players, key, noise) as (game, method, exact, noise):
        linear, rest = linear_at_rest(game, method, exact, key, noise)
        near = np.all(residual_vanishes(linear, players, accuracy)[0]) and np.any(linear.residual != 0)
        if exact is not players and near:
            exact = newton_method(_trees.cast(rest.at(game), _trees.float_dtype(exact)), exact, key, NEWTON_STEPS)[0]
            linear, rest = linear_at_rest(game, method, exact, key, noise)
        return stability_of(
            linear, game, method, exact, key, noise, require_equilibrium, accuracy, rest, players, order=order
        )


def _at_state(
    game: Game,
    method: Update | AbstractFlow,
    state: State,
    key: PRNGKeyArray | None,
    require_equilibrium: bool,
    gradient_noise: Any,
    leading: int | Leading | None,
) -> Stability | LeadingStability:
    """The report at a state, with the memory that it has."""
    if gradient_noise is not None:
        raise ValueError(
            "gradient_noise says where memory rests; the memory of a State is as it is. Pass at=state.players"
        )
    point = as_point(state.players, "at.players")
    state = State(point, state.memory)
    check_memory_of(method, game, state)
    game, method = sharing((game, method))
    asked, notes = _leading(_trees.float_size(state), leading, None)
    if asked is not None:
        dtype = _trees.float_dtype(point)
        game, method = _trees.cast((game, method), dtype)
        rest = held_state(game, method, state, key)
        return leading_stability(game, method, rest, asked, key, notes, require_equilibrium)
    with precisely(game, method, point, key, state.memory) as (game, method, exact, memory):
        rest = held_state(game, method, State(exact, memory), key)
        linear = jax.device_get(compiled_linearise(game, method, exact, key, limit=False, rest=rest))
        accuracy = accuracy_of(point)
        scales = dense_memory_scales(linear.jacobian, _trees.size(exact)) if boundary_of(method).discrete else None
        options: dict[str, Any] = dict(accuracy=accuracy, rest=rest, point=point, scales=scales)
        report = stability_of(linear, game, method, exact, key, None, require_equilibrium, **options)
    moved = norm(linear.defect)
    unmoved = defect_vanishes(
        linear, residual_vanishes(linear, exact, accuracy)[1], float(linear.epsilon), accuracy, report.boundary
    )[0]
    if np.all(unmoved) and not has(report.notes, Note.no_equilibrium):
        return report
    notes = [note for note in report.notes if getattr(note, "note", None) is not Note.no_equilibrium]
    return dataclasses.replace(report, notes=(Note.given_state.filled(moved=moved), *notes))


def _leading(size: int, leading: int | Leading | None, noise: Any) -> tuple[Leading | None, tuple[str, ...]]:
    """What is asked of leading eigenvalues, if they are, and what is to be said of it."""
    if leading is None and size <= LARGEST_DENSE:
        return None, ()
    if noise is not None:
        raise ValueError(
            f"gradient_noise needs the dense Jacobian; the state has {size} numbers and leading={leading!r}"
        )
    if leading is not None:
        return leading if isinstance(leading, Leading) else Leading(leading), ()
    gigabytes, minutes = 4 * 8 * size**2 / 1e9, 25 * (size / 3000) ** 3 / 60
    return Leading(), (Note.automatic.filled(size=size, gigabytes=gigabytes, minutes=minutes),)


def stability_of(*arguments: Any, **options: Any) -> Stability:
    """The report of `stability_task`, at once."""
    return alone(stability_task(*arguments, **options))


def stability_task(
    linear: Linearisation,
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    noise: tuple[jax.Array, ...] | None = None,
    require_equilibrium: bool = False,
    accuracy: float | None = None,
    rest: Rest | None = None,
    point: Players | None = None,
    scales: np.ndarray | None = None,
    order: str = "auto",
) -> Task[Stability]:
    """The report of a linearisation that was made with `limit=False`; arguments as in `stability`.

    `accuracy` is that of the players, relative to 1 + their size; `None`: the root of their machine epsilon. `rest` is
    that of the method under this noise, where it is known; `point` is what the report names, if not the players. In
    units of `scales`, one per coordinate of the state, rounding is measured; such a state is as it is, not at rest, and
    nothing beyond its linear part is asked for. A task: what lies beyond that part asks for values in many digits.
    """
    point = players if point is None else point
    accuracy = accuracy_of(players) if accuracy is None else accuracy
    boundary = boundary_of(method)
    period = Period(1, 0, "")
    if not linear.rests:
        period = Period(0, 0, "") if isinstance(method, Repeated) else find_period(game, method, players, key)
    if period.steps > 1:
        method = period.of(method)
        linear, rest = linear_at_rest(game, method, players, key, noise)
        again = linear, game, method, players, key, noise, require_equilibrium, accuracy, rest, point
        return (yield from stability_task(*again, order=order))
    settles = bool(linear.rests) or (period.steps == 1 and noise is None)
    at_rest_state = functools.cache(
        lambda: compiled_rest_state(game, method, players, key, noise) if rest is None else rest
    )
    vanishing = not is_finite(linear.jacobian)
    if vanishing:
        limit = compiled_linearise(game, method, players, key, gradient_noise=noise, rest=at_rest_state())
        linear = jax.device_get(limit)
        if without_limit(linear.jacobian):
            linear = linear._replace(jacobian=np.full_like(linear.jacobian, np.nan))
    passes, allowed = residual_vanishes(linear, players, accuracy)
    at_rest = bool(np.all(passes))
    problem = JudgedPoint(game, method, players, key, noise, at_rest_state)
    slides = not at_rest and slides_at(problem, linear)
    if require_equilibrium and not slides:
        if not at_rest:
            raise EquilibriumError(not_an_equilibrium(linear, players, passes, allowed))
        # Under noise the mean map rests only up to terms of second order in the rates.
        if noise is None and settles:
            check_fixed_point(linear, method, players, accuracy)
    dimension = 0
    if at_rest:  # through any other point there is no manifold of equilibria
        game = _trees.cast(at_rest_state().at(game), _trees.float_dtype(players))
        problem = dataclasses.replace(problem, game=game)
        dimension = manifold_dimension(game, players, linear.game_jacobian, key)
    sizes = [_trees.size(player) for player in players]
    if not settles:
        undecided = judge_nothing(linear, boundary, dimension)
        notes = [Note.manifold.filled(dimension=dimension)] if dimension else []
        notes.append(Remark(period.reason or REASONS["memory"]))
        return report_of(linear, boundary, dimension, sizes, point, undecided, notes, 0)
    kept = kept_dimension(problem, linear) if boundary.discrete else 0
    smooth = str(smoothness(linear.kinks, linear.errors, is_finite(linear.jacobian)))
    directions = None
    if smooth in ("kinked", "discontinuous", "stiff") or linear.switching > 0:
        directions, smooth = closer_look(problem, linear, smooth, limit=vanishing)
    judged = judge_eigenvalues(linear, boundary, dimension, kept, smooth, scales)
    jump = None
    if smooth == "discontinuous" and (at_rest or slides) and scales is None and not vanishing:
        judged, jump = judge_jump(problem, linear, judged, boundary)
    if smooth == "kinked" and not judged.neutral and not vanishing:
        pieces = pieces_at(problem, linear, directions)
        if pieces is not None and len(pieces.jacobians) == 1 and np.max(linear.kinks) < FAINT:
            # One Jacobian in all directions: the probes saw the rounding of what the map solves inside.
            judged = judge_eigenvalues(linear, boundary, dimension, kept, "smooth", scales)
        elif pieces is not None:
            judged = judge_pieces(pieces, boundary, judged)
    further = []
    if judged.smoothness == "inconsistent" and (names := derivative_rules(game, method, players, key)):
        further.append(Note.rules.filled(names=", ".join(sorted(names))))
    if linear.fading and boundary.discrete and has_fading(judged.eigenvalues):
        further.append(Note.fading.filled())
    if not at_rest and not slides:
        further.append(Note.no_equilibrium.filled(residual=norm(linear.residual)))
    if vanishing and judged.smoothness != "not differentiable":
        further.append(Note.vanishing_memory.filled())
    steps = method.period if isinstance(method, Repeated) else 1
    report = report_of(linear, boundary, dimension, sizes, point, judged, [*judged.notes, *further], steps)
    if jump is not None:
        slid = jump.report
        report = dataclasses.replace(report, sliding=slid, manifold_dimension=slid.manifold_dimension)
        if order == "linear" or jump.field is None or judged.verdict is not Verdict.marginal:
            return report
        is_player = player_coordinates(problem.at_rest_state().state)
        decision = yield from beyond_linear(jump.field, linear.position, is_player, boundary, judged.neutral)
        return with_higher_orders(report, decision)
    if order == "linear" or scales is not None or judged.verdict is not Verdict.marginal or not at_rest:
        return report
    where = problem, linear, judged, directions, boundary, steps
    decision = yield from _beyond_linear(*where, vanishing=vanishing)
    if decision is None or not decision.manifold:
        return with_higher_orders(report, decision)
    along = judge_eigenvalues(linear, boundary, dimension + decision.manifold, kept, smooth, scales)
    notes = [*along.notes, *further, *decision.notes]
    return report_of(linear, boundary, dimension + decision.manifold, sizes, point, along, notes, steps)


def _beyond_linear(
    problem: JudgedPoint,
    linear: Linearisation,
    judged: Judgement,
    directions: np.ndarray | None,
    boundary: Boundary,
    steps: int,
    *,
    vanishing: bool,
) -> Task[Decision | None]:
    """What higher orders say, of a report that is marginal because of eigenvalues on the boundary.

    `directions` lead to the sides of switches between smooth pieces, where there are some at the point.
    """
    if judged.smoothness != "smooth":
        return None
    reason = None
    if vanishing:
        reason = "the memory of squared gradients vanishes there, and its root has no expansion"
    elif linear.fading:
        reason = "weights in the memory fade like one over the number of steps, and the map changes with them"
    if reason is not None:
        return Decision(Verdict.marginal, 1, (Note.not_decided.filled(reason=reason),))
    where = problem.game, problem.method, problem.players, problem.key
    function, position, is_player = function_at_rest(*where, gradient_noise=problem.noise, rest=problem.at_rest_state())
    sides = [] if directions is None else list(directions[:SIDES])
    return (yield from beyond_linear(function, position, is_player, boundary, judged.neutral, steps, sides))
