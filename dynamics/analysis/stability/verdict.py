"""Local stability from the eigenvalues of the Jacobian of the exact map or flow."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, overload

import equinox as eqx
import jax
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_rates
from dynamics._compiling import filter_jit_quickly, sharing
from dynamics._plain import plain
from dynamics._printing import Described
from dynamics._text import complex_text
from dynamics.analysis.equilibria.newton import (
    EquilibriumError,
    _newton,
    _short,
    accuracy_of,
    manifold_dimension,
    vanishes,
)
from dynamics.analysis.equilibria.precision import as_point, precisely
from dynamics.analysis.normal_forms.expansion import Task, alone
from dynamics.analysis.normal_forms.invariants import Invariant
from dynamics.analysis.spectra.scaling import dense_memory_scales
from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, UNIT_CIRCLE, Boundary, boundary_of
from dynamics.analysis.stability.certificates import (
    SMALLEST,
    frobenius,
    keeps_its_side,
    rounding_bound,
    scale_of,
    widest_gap,
    without_neutral,
)
from dynamics.analysis.stability.higher_orders import Decay, Decision, NormalForm, beyond_linear
from dynamics.analysis.stability.leading import Leading, LeadingStability, leading_stability
from dynamics.analysis.stability.linearisation import (
    Linearisation,
    Smoothness,
    closer_smoothness,
    derivative_rules,
    function_at_rest,
    is_finite,
    linearise,
    moved_memory,
    one_sided_jacobians,
    player_coordinates,
    probe_closely,
    smoothness,
    switch_directions,
    without_limit,
)
from dynamics.analysis.stability.notes import Note, Remark, Verdict, has
from dynamics.analysis.stability.periods import REASONS, Period, find_period
from dynamics.analysis.stability.piecewise import (
    Pieces,
    distinct,
    expanding_directions,
    joint_bounds,
    sample_directions,
)
from dynamics.analysis.stability.rest import Repeated, Rest, above_zero, held_state, rest_state
from dynamics.analysis.stability.sliding import Jump, NotSliding, Sliding, jump_at
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import COUNTER_LIMIT, State, Update, check_memory_of
from dynamics.updates.rounded import is_rounded, unrounded
from dynamics.updates.with_variables import for_game

COMPUTED = 10  # a margin of so many computed errors decides without a proof
DIRECTIONS = 12  # eigenvectors along which the map is probed
PROBED = 128  # directions of a closer look
NEWTON_STEPS = 20
LARGEST_DENSE = 2000  # numbers in a state whose Jacobian is computed whole
SIDES = 24  # of switches at the point, along which terms of higher order are held against values
JUMPING = 1e-6  # part of the largest velocity that moves players
FAINT = 1e3  # kinks below so many rounding errors may be rounding after all


@dataclasses.dataclass(frozen=True)
class Stability(Described):
    """Local stability of a method at a point of a game.

    Attributes:
        kind: "map" or "flow".
        eigenvalues: of the Jacobian on the whole state, complex, the outermost first (largest modulus for a map,
            largest real part for a flow).
        radius: largest modulus; for a map, without the directions along a manifold of equilibria.
        abscissa: largest real part, likewise.
        margin: `1 - radius` for a map, `-abscissa` for a flow: positive when stable.
        error: bound on the rounding error of the margin: proved where the verdict is, else of first order in the
            eigenvalues' condition numbers; infinite where the eigenvalues do not decide (at a kink, say).
        verdict: stable, unstable, neutral or marginal, see `Verdict`. The first two are given only where nothing that
            was seen contradicts them: the outermost eigenvalue is off the boundary by more than its error, and
            difference quotients of the map agree with the Jacobian; or, with an `order` other than 1, eigenvalues are
            on the boundary and what the terms of higher order do was computed. At a jump of a field the verdict is that
            of Filippov's solutions; a map that jumps at the point is unstable, see `sliding`.
        proved: whether the verdict holds for every matrix within the rounding error of the Jacobian, see
            `certificates.keeps_its_side` (a loss whose large terms cancel has larger errors than
            that), or, at a kink, for every order of the pieces. Else it rests on computed eigenvalues and their
            condition, as a note says.
        rate: log contraction per step, `log(radius)`, or per unit of time, the abscissa.
        rotation: angle per step, or per unit of time, of the outermost eigenvalue, >= 0.
        manifold_dimension: dimension of the manifold of equilibria through the point, 0 for an isolated one. Its
            directions are left out of radius, abscissa, rate and verdict.
        largest_step: for a flow, the largest step for which its Euler discretisation is stable; 0 when there is none.
            Eigenvalues along a manifold do not count. NaN for a map, and at a kink.
        pieces: at a kink, the Jacobians of the pieces and what they do together; else `None`. Then the eigenvalues are
            those of the piece that contracts least; radius (maps), abscissa (flows), rate and margin are joint bounds.
        smoothness: "smooth"; "stiff" (the Jacobian holds in a tiny neighbourhood only); or "kinked", "discontinuous",
            "inconsistent" (difference quotients disagree with the Jacobian at all distances), "not differentiable":
            then the eigenvalues do not tell the truth about the map.
        jacobian: of the map or of the flow's field, on players and memory.
        blocks: `blocks[i][j]` is the derivative of player i's field with respect to player j.
        players: the point.
        residual: norm of the game's field there.
        notes: what a reader should know, one sentence each.
        neutral: number of eigenvalues that decide nothing and are left out: along a manifold of equilibria, and of
            memory that stays where it is put.
        period: number of steps after which the method repeats: 1 for one that comes to rest, 0 for one that does
            neither, where the verdict is marginal and all numbers but eigenvalues are NaN (the eigenvalues are those at
            one of its states and decide nothing). Above 1 (a schedule that goes round, one step with every k-th
            gradient) eigenvalues, abscissa and Jacobian are those of a whole period; radius, margin, rate and rotation
            are per step: the radius is that of the period's Jacobian to the power of 1/period. Memory that moves by
            itself (counters, hyper-parameters kept in the state) has no place in the Jacobian: nothing acts on it.
        order: of the terms that decide: 1 where eigenvalues do (or nothing does), 2 or 3 where terms of that order do,
            0 where a conserved quantity does. With an order other than 1 margin, error and rate are those of the linear
            part, which do not decide.
        normal_form: the motion on the centre manifold, where eigenvalues are on the boundary and it was computed.
        decay: the algebraic law by which the distance goes to 0, where terms of third order make the point attract.
        invariant: what is conserved, where the verdict is neutral.
        sliding: what the field or map does next to a point at which it jumps. Where it slides, eigenvalues, abscissa
            and rate are those of the sliding field along the surfaces of the switches; else they decide nothing.
    """

    kind: str
    eigenvalues: np.ndarray
    radius: float
    abscissa: float
    margin: float
    error: float
    verdict: Verdict
    rate: float
    rotation: float
    manifold_dimension: int
    largest_step: float
    smoothness: str
    jacobian: np.ndarray
    blocks: tuple[tuple[np.ndarray, ...], ...]
    players: Players
    residual: float
    notes: tuple[str, ...]
    pieces: Pieces | None = None
    neutral: int = 0
    proved: bool = False
    period: int = 1
    order: int = 1
    normal_form: NormalForm | None = None
    decay: Decay | None = None
    invariant: Invariant | None = None
    sliding: Sliding | None = None

    @property
    def boundary(self) -> Boundary:
        """The curve that decides: the unit circle for a map, the imaginary axis for a flow."""
        return boundary_of(self.kind)

    def describe(self) -> str:
        """The report as text."""
        boundary = self.boundary
        bound = "below" if self.proved else "about"
        error = f"error {bound} {self.error:.1g}" if np.isfinite(self.error) else "which does not decide"
        extent = f"{boundary.bound_name} {boundary.bound_of(self):.10g}"
        lines = [
            f"{self.verdict}: {extent}, margin {self.margin:.3g} ({error})",
            f"rate {self.rate:.6g} and rotation {self.rotation:.6g} per {boundary.unit}",
        ]
        if self.sliding is not None:
            lines = [f"{self.verdict}: the {self.kind} jumps at the point", *self.sliding.describe().splitlines()]
        if not boundary.discrete and np.isfinite(self.largest_step):
            lines.append(f"largest stable Euler step {self.largest_step:.6g}")
        if self.period > 1:
            lines.append(f"repeats after {self.period} steps, of which the eigenvalues are together:")
        if self.decay is not None:
            lines.append(self.decay.describe(boundary.unit))
        shown = ", ".join(complex_text(value) for value in self.eigenvalues[:8])
        more = f", ... ({len(self.eigenvalues)} in all)" if len(self.eigenvalues) > 8 else ""
        return "\n".join([*lines, f"eigenvalues {shown}{more}", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON; complex numbers are pairs, what is not finite is `None`."""
        beyond = ("normal_form", "decay", "invariant")
        skip = {"players", "blocks", "jacobian", "eigenvalues", "notes", "verdict", "pieces", "sliding", *beyond}
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skip}
        data = {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in data.items()}
        return {
            "verdict": str(self.verdict),
            **data,
            "eigenvalues": [_numbers(np.array([v.real, v.imag])) for v in self.eigenvalues],
            "jacobian": _numbers(self.jacobian),
            "blocks": [[_numbers(block) for block in row] for row in self.blocks],
            "players": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(self.players)],
            "notes": [str(note) for note in self.notes],
            "pieces": None if self.pieces is None else plain(dataclasses.asdict(self.pieces)),
            "sliding": None if self.sliding is None else self.sliding.to_dict(),
            **{name: _parts(getattr(self, name)) for name in beyond},
        }


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
        order: "auto", or "linear": eigenvalues in double precision alone.

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
        rest = _rest_state(game, method, players, key)
        if not bool(rest.rests):
            notes = (*notes, REASONS["memory"])
        rest = rest._replace(state=State(rest.state.players, jax.tree.map(above_zero, rest.state.memory)))
        game, method = _trees.cast((game, method), dtype)
        return leading_stability(game, method, rest, asked, key, notes, require_equilibrium)
    accuracy = accuracy_of(players)
    with precisely(game, method, players, key, noise) as (game, method, exact, noise):
        linear, rest = _linear_at_rest(game, method, exact, key, noise)
        near = np.all(_residual_vanishes(linear, players, accuracy)[0]) and np.any(linear.residual != 0)
        if exact is not players and near:
            exact = _newton(_trees.cast(rest.at(game), _trees.float_dtype(exact)), exact, key, NEWTON_STEPS)[0]
            linear, rest = _linear_at_rest(game, method, exact, key, noise)
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
        return leading_stability(game, method, _held(game, method, state, key), asked, key, notes, require_equilibrium)
    with precisely(game, method, point, key, state.memory) as (game, method, exact, memory):
        rest = _held(game, method, State(exact, memory), key)
        linear = jax.device_get(_linearise(game, method, exact, key, limit=False, rest=rest))
        accuracy = accuracy_of(point)
        scales = dense_memory_scales(linear.jacobian, _trees.size(exact)) if boundary_of(method).discrete else None
        options: dict[str, Any] = dict(accuracy=accuracy, rest=rest, point=point, scales=scales)
        report = stability_of(linear, game, method, exact, key, None, require_equilibrium, **options)
    moved = _norm(linear.defect)
    unmoved = defect_vanishes(
        linear, _residual_vanishes(linear, exact, accuracy)[1], float(linear.epsilon), accuracy, report.boundary
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


def _linear_at_rest(game, method, players, key, noise) -> tuple[Linearisation, Rest]:
    rest = _rest_state(game, method, players, key, noise)
    linear = _linearise(game, method, players, key, gradient_noise=noise, limit=False, rest=rest)
    return jax.device_get(linear), rest


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
        linear, rest = _linear_at_rest(game, method, players, key, noise)
        again = linear, game, method, players, key, noise, require_equilibrium, accuracy, rest, point
        return (yield from stability_task(*again, order=order))
    settles = bool(linear.rests) or (period.steps == 1 and noise is None)
    at_rest_state = functools.cache(lambda: _rest_state(game, method, players, key, noise) if rest is None else rest)
    vanishing = not is_finite(linear.jacobian)
    if vanishing:
        limit = _linearise(game, method, players, key, gradient_noise=noise, rest=at_rest_state())
        linear = jax.device_get(limit)
        if without_limit(linear.jacobian):
            linear = linear._replace(jacobian=np.full_like(linear.jacobian, np.nan))
    passes, allowed = _residual_vanishes(linear, players, accuracy)
    at_rest = bool(np.all(passes))
    slides = not at_rest and _slides_at(game, method, players, key, linear, at_rest_state)
    if require_equilibrium and not slides:
        if not at_rest:
            raise EquilibriumError(_no_equilibrium(linear, players, passes, allowed))
        # Under noise the mean map rests only up to terms of second order in the rates.
        if noise is None and settles:
            _check_fixed_point(linear, game, method, players, key, accuracy)
    dimension = 0
    if at_rest:  # through any other point there is no manifold of equilibria
        game = _trees.cast(at_rest_state().at(game), _trees.float_dtype(players))
        dimension = manifold_dimension(game, players, linear.game_jacobian, key)
    sizes = [_trees.size(player) for player in players]
    if not settles:
        undecided = _judge_nothing(linear, boundary, dimension)
        notes = [Note.manifold.filled(dimension=dimension)] if dimension else []
        notes.append(Remark(period.reason or REASONS["memory"]))
        return _report(linear, boundary, dimension, sizes, point, undecided, notes, 0)
    problem = _Problem(game, method, players, key, noise, at_rest_state)
    kept = _kept_memory(problem, linear) if boundary.discrete else 0
    smooth = str(smoothness(linear.kinks, linear.errors, is_finite(linear.jacobian)))
    directions = None
    if smooth in ("kinked", "discontinuous", "stiff") or linear.switching > 0:
        directions, smooth = _closer_look(problem, linear, smooth, limit=vanishing)
    judged = _judge_eigenvalues(linear, boundary, dimension, kept, smooth, scales)
    jump = None
    if smooth == "discontinuous" and (at_rest or slides) and scales is None and not vanishing:
        judged, jump = _judge_jump(problem, linear, judged, boundary)
    if smooth == "kinked" and not judged.neutral and not vanishing:
        pieces = _pieces(problem, linear, directions)
        if pieces is not None and len(pieces.jacobians) == 1 and np.max(linear.kinks) < FAINT:
            # One Jacobian in all directions: the probes saw the rounding of what the map solves inside.
            judged = _judge_eigenvalues(linear, boundary, dimension, kept, "smooth", scales)
        elif pieces is not None:
            judged = _judge_pieces(pieces, boundary, judged)
    notes = list(judged.notes)
    if judged.smoothness == "inconsistent" and (names := derivative_rules(game, method, players, key)):
        notes.append(Note.rules.filled(names=", ".join(sorted(names))))
    if linear.fading and boundary.discrete and _has_fading(judged.eigenvalues):
        notes.append(Note.fading.filled())
    if not at_rest and not slides:
        notes.append(Note.no_equilibrium.filled(residual=_norm(linear.residual)))
    if vanishing and judged.smoothness != "not differentiable":
        notes.append(Note.vanishing_memory.filled())
    steps = method.period if isinstance(method, Repeated) else 1
    report = _report(linear, boundary, dimension, sizes, point, judged, notes, steps)
    if jump is not None:
        slid = jump.report
        report = dataclasses.replace(report, sliding=slid, manifold_dimension=slid.manifold_dimension)
        if order == "linear" or jump.field is None or judged.verdict is not Verdict.marginal:
            return report
        is_player = player_coordinates(problem.at_rest_state().state)
        decision = yield from beyond_linear(jump.field, linear.position, is_player, boundary, judged.neutral)
        return _with(report, decision)
    if order == "linear" or scales is not None or judged.verdict is not Verdict.marginal or not at_rest:
        return report
    where = problem, linear, judged, directions, boundary, steps
    return _with(report, (yield from _beyond_linear(*where, vanishing=vanishing)))


@dataclasses.dataclass(frozen=True)
class _Problem:
    """What is judged: a method on a game, at a point; and how its memory is put to rest there, which takes long."""

    game: Game
    method: Update | AbstractFlow
    players: Players
    key: PRNGKeyArray | None
    noise: tuple[jax.Array, ...] | None
    at_rest_state: Callable[[], Rest]


def _closer_look(problem: _Problem, linear: Linearisation, smooth: str, *, limit: bool) -> tuple[np.ndarray, str]:
    """Directions that lead into the pieces next to the point, and smoothness from probes along them, ever closer.

    Along eigenvectors, along the way that the field takes, and to both sides of every switch at the point.
    """
    jacobian, size = np.asarray(linear.jacobian, float), len(linear.jacobian)
    if not is_finite(jacobian):
        return np.zeros((0, size)), smooth
    random = np.random.default_rng(3).standard_normal((4, size))
    vectors = np.linalg.eig(jacobian)[1].T[:DIRECTIONS]
    followed = random
    with np.errstate(all="ignore"):
        for _ in range(16):
            followed = followed @ jacobian.T
            followed = followed / np.maximum(np.linalg.norm(followed, axis=1, keepdims=True), SMALLEST)
    directions = [np.real(vectors), np.imag(vectors), followed]
    where = problem.game, problem.method, problem.players
    options: dict[str, Any] = dict(gradient_noise=problem.noise, limit=limit, rest=problem.at_rest_state())
    if linear.switching > 0:
        sides = _switch_directions(*where, problem.key, **options)
        directions.insert(0, np.asarray(sides))
    along = np.concatenate(directions)
    lengths = np.linalg.norm(along, axis=1)
    along = along[(lengths > 0) & np.isfinite(lengths)]
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    filled = np.zeros((PROBED, size), linear.jacobian.dtype)  # one shape, one program
    filled[: len(along)] = along[: len(filled)]
    closely = jax.device_get(_probe_closely(*where, linear.jacobian, filled, problem.key, **options))
    if smooth == "smooth":  # at two distances along more directions
        smooth = str(smoothness(*(leaf[:2] / closely.rounding[1] for leaf in closely[:2]), True))
        if smooth == "smooth":
            return along, smooth
    return along, closer_smoothness(closely, smooth, bool(linear.switching > 0))


_linearise = eqx.filter_jit(linearise)
_held = held_state
_probe_closely = filter_jit_quickly(probe_closely)
_switch_directions = filter_jit_quickly(switch_directions)


def equilibrium_of(game: Game) -> Players:
    """The game's first known equilibrium, as players.

    Raises:
        EquilibriumError: none is known.
    """
    known = game.equilibria()
    if not known:
        raise EquilibriumError(
            f"{type(game).__name__} knows none of its equilibria; pass at=players, for example "
            "at=find_equilibrium(game, start).players"
        )
    return as_point(known[0], "equilibria")


def _residual_vanishes(linear: Linearisation, players: Players, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    flat = np.asarray(ravel_pytree(players)[0], float)
    return vanishes(linear.residual, linear.game_jacobian, flat, float(linear.epsilon), accuracy)


def _no_equilibrium(linear: Linearisation, players: Players, passes: np.ndarray, allowed: np.ndarray) -> str:
    """What to tell about a point at which the field does not vanish: where it is largest, player by player."""
    residual = np.abs(np.asarray(linear.residual, float))
    excess = np.where(passes, -1, residual / np.maximum(allowed, SMALLEST))
    begin, parts = 0, []
    for number, player in enumerate(players):
        size = _trees.size(player)
        part = slice(begin, begin + size)
        begin += size
        if not np.all(passes[part]):
            worst = part.start + int(np.argmax(np.where(np.isnan(residual[part]), np.inf, excess[part])))
            parts.append(
                f"that of player {number} is {residual[worst]:.3g} at {_coordinate(players, worst)}, where "
                f"{allowed[worst]:.1g} counts as zero"
            )
    return (
        f"{_short(players)} is no equilibrium: the field has norm {_norm(residual):.3g} there; {'; '.join(parts)}. Use "
        "find_equilibrium(game, start).players, or require_equilibrium=False to linearise anyway."
    )


def _coordinate(players: Players, place: int) -> str:
    """The name of a coordinate of the flattened players."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(players):
        size = int(np.size(leaf))
        if place < size:
            index = "" if np.ndim(leaf) == 0 else str(list(map(int, np.unravel_index(place, np.shape(leaf)))))
            return f"players{jax.tree_util.keystr(path)}{index}"
        place -= size
    raise IndexError(place)


def _norm(vector: np.ndarray) -> float:
    return float(frobenius(np.asarray(vector, float).reshape(1, -1)))


def _check_fixed_point(linear: Linearisation, game, method, players: Players, key, accuracy: float) -> None:
    _, allowed = _residual_vanishes(linear, players, accuracy)
    passes, most = defect_vanishes(linear, allowed, float(linear.epsilon), accuracy, boundary_of(method))
    if not np.all(passes):
        worst = int(np.argmax(np.where(passes, -1, np.abs(linear.defect) / np.maximum(most, SMALLEST))))
        raise EquilibriumError(
            f"{_short(players)} is an equilibrium of the game but no fixed point of the method: one step moves the "
            f"state by {_norm(linear.defect):.3g}, its coordinate {worst} by {abs(linear.defect[worst]):.3g}. Use "
            "require_equilibrium=False to linearise anyway."
        )


def defect_vanishes(
    linear: Linearisation, allowed: np.ndarray, epsilon: float, accuracy: float, boundary: Boundary
) -> tuple[np.ndarray, np.ndarray]:
    """Which coordinates of the state stay where they are, and how far each may move at most; of one or many points.

    Args:
        linear: with or without a leading axis.
        allowed: what a coordinate of the game's field may be at most to pass for 0.
        epsilon: of the arithmetic.
        accuracy: as for `equilibria.newton.vanishes`.
        boundary: of the method.
    """
    jacobian, position = np.asarray(linear.jacobian, float), np.asarray(linear.position, float)
    rounding = boundary.defect_rounding(jacobian, position, epsilon)
    passes, most = vanishes(linear.defect, boundary.change(jacobian), position, epsilon, accuracy, rounding)
    if position.shape[-1] != allowed.shape[-1]:
        # A field that passes for 0 moves the state by as much as the Jacobian makes of it.
        passes |= np.abs(linear.defect) <= np.linalg.norm(allowed, axis=-1, keepdims=True)
    return passes, most


def may_keep_memory(jacobian: np.ndarray, players: int, epsilon: float, boundary: Boundary) -> np.ndarray:
    """Where there may be memory that stays where it is put, of Jacobians of shape (..., n, n).

    Args:
        jacobian: of the state.
        players: number of its coordinates that belong to the players; the memory comes after them.
        epsilon: of the arithmetic.
        boundary: of the method; what a flow keeps stays nowhere.
    """
    usable = np.isfinite(jacobian).all(axis=(-2, -1))
    if not boundary.discrete or jacobian.shape[-1] == players:
        return np.zeros_like(usable)
    change = np.where(usable[..., None, None], boundary.change(jacobian), 0)
    singular = np.linalg.svd(change[..., players:], compute_uv=False)
    return usable & (singular[..., -1] <= rounding_bound(jacobian, epsilon))


def _kept_memory(problem: _Problem, linear: Linearisation) -> int:
    """Number of directions in which the memory stays where it is put, without an effect on the players' rest."""
    jacobian, count = np.asarray(linear.jacobian), len(linear.game_jacobian)
    if not may_keep_memory(jacobian, count, float(linear.epsilon), UNIT_CIRCLE):
        return 0
    change = UNIT_CIRCLE.change(jacobian)[:, count:]
    small = rounding_bound(jacobian, float(linear.epsilon))
    # Single numbers before combinations of several, which move them apart.
    alone = np.linalg.norm(change, axis=0) <= small
    _, singular, rows = np.linalg.svd(np.where(alone, 0, change))
    null = np.concatenate([np.eye(len(alone))[alone], rows[(singular <= small) & (np.abs(rows) @ ~alone > 0.5)]])
    null = null * np.where(null.sum(axis=1) < 0, -1, 1)[:, None]  # upwards: squares and maxima are not negative
    directions = np.pad(null, ((0, 0), (count, 0))).astype(jacobian.dtype)
    rest = problem.at_rest_state()
    defects = np.asarray(
        moved_memory(problem.game, problem.method, problem.players, problem.key, problem.noise, rest, directions)
    )
    return int(np.sum(defects <= np.finfo(jacobian.dtype).eps ** 0.5))


def _has_fading(eigenvalues: np.ndarray) -> bool:
    """Whether an eigenvalue is that of a weight about one over the number of steps, held at its limit."""
    distances = np.abs(eigenvalues - 1)
    return bool(np.any((distances > 1e-3 / COUNTER_LIMIT) & (distances < 1e2 / COUNTER_LIMIT)))


def fades(report: Stability) -> bool:
    """Whether weights in the memory of the method fade like one over the number of steps."""
    return has(report.notes, Note.fading)


class _Judged(NamedTuple):
    """What eigenvalues or pieces say of a map or flow; the names are those of `Stability`."""

    eigenvalues: np.ndarray
    radius: float = float("nan")
    abscissa: float = float("nan")
    margin: float = float("nan")
    error: float = float("inf")
    verdict: Verdict = Verdict.marginal
    rate: float = float("nan")
    rotation: float = float("nan")
    largest_step: float = float("nan")
    smoothness: str = "smooth"
    neutral: int = 0
    proved: bool = False
    pieces: Pieces | None = None
    notes: tuple[Remark, ...] = ()

    def per_step(self, steps: int) -> dict[str, float]:
        """The numbers of one step, where the map is so many."""
        radius, whole = self.radius ** (1 / steps), max(self.radius, self.error)
        error = whole ** (1 / steps) / whole * self.error / steps if 0 < whole < np.inf else self.error
        rates = dict(rate=self.rate / steps, rotation=self.rotation / steps)
        return dict(radius=radius, margin=1 - radius, error=float(error), **rates)


def _report(
    linear: Linearisation,
    boundary: Boundary,
    dimension: int,
    sizes: list[int],
    players: Players,
    judged: _Judged,
    notes: Sequence[str],
    period: int = 1,
) -> Stability:
    game_jacobian, edges = np.asarray(linear.game_jacobian), np.cumsum([0, *sizes])
    parts = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    numbers: dict[str, Any] = (
        judged._asdict() | (judged.per_step(period) if period > 1 else {}) | dict(notes=tuple(notes))
    )
    return Stability(
        kind=boundary.kind,
        jacobian=np.asarray(linear.jacobian),
        blocks=tuple(tuple(game_jacobian[row, column] for column in parts) for row in parts),
        players=players,
        residual=_norm(linear.residual),
        manifold_dimension=dimension,
        period=period,
        **numbers,
    )


def assess(
    linear: Linearisation,
    boundary: Boundary,
    dimension: int,
    sizes: list[int],
    players: Players,
    kept: int = 0,
    smoothness: str = "smooth",
) -> Stability:
    """Eigenvalues, verdict and notes of a linearisation; on the host, in NumPy.

    `dimension` and `kept` count the neutral directions that decide nothing: along a manifold of equilibria, and of
    memory that stays where it is put. `smoothness` is that of the map.
    """
    judged = _judge_eigenvalues(linear, boundary, dimension, kept, smoothness)
    return _report(linear, boundary, dimension, sizes, players, judged, judged.notes)


def _judge_nothing(linear: Linearisation, boundary: Boundary, dimension: int) -> _Judged:
    """Of a method that does not come to rest: eigenvalues, and no number, as none is that of a linear map."""
    smooth = "smooth" if is_finite(linear.jacobian) else "not differentiable"
    judged = _judge_eigenvalues(linear, boundary, dimension, 0, smooth)
    return _Judged(judged.eigenvalues, smoothness=smooth, neutral=judged.neutral)


def _pieces(problem: _Problem, linear: Linearisation, along: np.ndarray) -> Pieces | None:
    """The Jacobians of all pieces of a piecewise smooth map or flow; `None` where none is seen.

    `along` are directions that lead into pieces, looked along besides those of `sample_directions`.
    """
    rest = problem.at_rest_state()
    state, boundary = jax.device_get(rest.state), boundary_of(problem.method)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))])
    still = ~player_coordinates(state) & (flat == 0)
    nearby = sample_directions(len(flat), still, np.asarray(linear.jacobian).dtype)
    both = np.where(still, 0, np.stack([along, -along], axis=1).reshape(-1, len(flat))).astype(nearby.dtype)
    rays = np.concatenate([nearby, both, nearby[: -len(both) % len(nearby)]])  # the shape compiled before, each time

    def jacobians_along(rays: np.ndarray) -> np.ndarray:
        where = problem.game, problem.method, problem.players, problem.key
        return np.asarray(one_sided_jacobians(*where, rays, problem.noise, rest))

    parts = [distinct(jacobians_along(part), boundary) for part in np.split(rays, len(rays) // len(nearby))]
    jacobians = distinct(np.concatenate([part for part in parts if len(part)] or parts), boundary)
    if len(jacobians) == 0:
        return None
    expanding = expanding_directions(jacobians, boundary)
    passed = [ray for rays in expanding for ray in rays][: len(nearby)]
    invariant = False
    if passed:
        rays = np.resize([ray for _, ray in passed], nearby.shape).astype(nearby.dtype)  # the shape compiled before
        ahead = jacobians_along(rays)[: len(passed)]
        stays = [
            len(distinct(np.stack([jacobians[number], piece]), boundary)) == 1
            for (number, _), piece in zip(passed, ahead, strict=True)
        ]
        ends = np.cumsum([0, *map(len, expanding)])
        invariant = any(all(stays[a:b]) for a, b in zip(ends, ends[1:], strict=False) if b <= len(stays))
    return Pieces(jacobians, *joint_bounds(jacobians, boundary), invariant)


def _beyond_linear(
    problem: _Problem,
    linear: Linearisation,
    judged: _Judged,
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


def _with(report: Stability, decision: Decision | None) -> Stability:
    """The report with what higher orders say."""
    if decision is None:
        return report
    notes = [
        note
        for note in report.notes
        if decision.verdict is Verdict.marginal or getattr(note, "note", None) is not Note.marginal
    ]
    return dataclasses.replace(
        report,
        verdict=decision.verdict,
        order=decision.order,
        notes=(*notes, *decision.notes),
        normal_form=decision.normal_form,
        decay=decision.decay,
        invariant=decision.invariant,
    )


def _slides_at(game, method, players: Players, key, linear: Linearisation, at_rest_state: Callable[[], Rest]) -> bool:
    """Whether a point at which the field of a flow does not vanish is an equilibrium in Filippov's sense."""
    if not isinstance(method, AbstractFlow) or not linear.switching > 0:
        return False
    function, position, _ = function_at_rest(game, method, players, key, rest=at_rest_state())
    try:
        return jump_at(function, position, False).report.pseudo_equilibrium
    except NotSliding:
        return False


def _judge_jump(
    problem: _Problem, linear: Linearisation, judged: _Judged, boundary: Boundary
) -> tuple[_Judged, Jump | None]:
    """The verdict on a field or map that jumps at the point; `judged` is what the eigenvalues of one side say."""
    where = problem.game, problem.method, problem.players, problem.key
    function, position, is_player = function_at_rest(*where, gradient_noise=problem.noise, rest=problem.at_rest_state())
    try:
        jump = jump_at(function, position, boundary.discrete)
    except NotSliding as reason:
        return judged._replace(notes=(*judged.notes, Note.jump_undecided.filled(reason=reason))), None
    slid = jump.report

    def decided(verdict: Verdict, note: Remark) -> tuple[_Judged, Jump]:
        nothing = dict.fromkeys(("radius", "abscissa", "margin", "rate", "rotation", "largest_step"), float("nan"))
        return judged._replace(**nothing, verdict=verdict, proved=True, notes=(note,)), jump

    def undecided(reason: str) -> tuple[_Judged, Jump]:
        return judged._replace(notes=(*judged.notes, Note.jump_undecided.filled(reason=reason))), jump

    moved = float(np.max(np.linalg.norm(jump.velocities[:, is_player], axis=1), initial=0))
    if not moved > JUMPING * jump.largest:
        return undecided("the jump is one of the memory alone")
    if boundary.discrete:
        if slid.motion != "sliding":
            more = ", and it leads away" if slid.motion == "escaping" else ""
            return decided(Verdict.unstable, Note.jumping_map.filled(distance=moved, more=more))
        band = ", ".join(f"{width:.6g}" for width in slid.band)
        along = "by a mean of the steps on their sides"
        if slid.pseudo_equilibrium:
            values = ", ".join(complex_text(1 + value) for value in np.linalg.eigvals(slid.jacobian))
            along = f"with the multipliers {values}" if len(slid.jacobian) else "nowhere, as they meet in the point"
        return decided(Verdict.unstable, Note.chattering.filled(distance=moved, band=band, along=along))
    if slid.motion in ("escaping", "crossing"):
        speed = float(np.max(slid.normal_speeds)) if len(slid.normals) else jump.largest
        note = Note.escaping if len(slid.normals) else Note.leaving_ray
        return decided(Verdict.unstable, note.filled(speed=speed))
    if slid.motion == "jump" or slid.reason:
        return undecided(slid.reason)
    slowest = float(np.min(np.max(np.abs(slid.normal_speeds), axis=1)))
    if not len(slid.tangents):
        values = dict(eigenvalues=np.zeros(0, complex), abscissa=-np.inf, rate=-np.inf)
        result = decided(Verdict.stable, Note.reached.filled(speed=slowest))
        return result[0]._replace(**values), jump
    if not slid.pseudo_equilibrium:
        speed = float(np.linalg.norm(slid.velocity))
        if speed <= 1e-6 * jump.largest:
            return undecided(f"the velocity of the sliding motion at the point, {speed:.1g}, may be rounding")
        return decided(Verdict.unstable, Note.slides_away.filled(speed=speed))
    along = linear._replace(jacobian=slid.jacobian)
    result = _judge_eigenvalues(along, boundary, slid.manifold_dimension, 0, "smooth")
    note = Note.sliding.filled(speed=slowest)
    return result._replace(smoothness=judged.smoothness, notes=(*result.notes, note), largest_step=0.0), jump


def _judge_pieces(pieces: Pieces, boundary: Boundary, judged: _Judged) -> _Judged:
    """The verdict of a piecewise smooth map or flow; `judged` is what the eigenvalues of one piece say."""
    jacobians, lower, upper = pieces.jacobians, pieces.lower, pieces.upper
    error = float(max(rounding_bound(jacobian) for jacobian in jacobians))
    if pieces.invariant:
        verdict, worst = Verdict.unstable, lower
    else:
        verdict, worst = (Verdict.stable if upper + error < boundary.neutral else Verdict.marginal), upper
    seen = Note.pieces.filled(count=len(jacobians), lower=lower, upper=upper, verdict=_PIECES[verdict])
    # The eigenvalues shown are those of the piece that contracts least.
    spectra = [np.linalg.eigvals(jacobian.astype(float)).astype(complex) for jacobian in jacobians]
    values = spectra[int(np.argmax([boundary.bound(values) for values in spectra]))]
    values = values[boundary.order(values)]
    bounds = {other.bound_name: float(other.bound(values)) for other in (UNIT_CIRCLE, IMAGINARY_AXIS)}
    return _Judged(
        eigenvalues=values,
        **(bounds | {boundary.bound_name: worst}),
        rate=float(boundary.rate(max(worst, 1e-300) if boundary.discrete else worst)),
        rotation=float(boundary.rotation(values[0])),
        verdict=verdict,
        margin=boundary.neutral - worst,
        error=error if verdict is not Verdict.marginal else float("inf"),
        smoothness=judged.smoothness,
        pieces=pieces,
        notes=(*(note for note in judged.notes if note.note is not Note.kinked), seen),
        proved=verdict is not Verdict.marginal,
    )


_PIECES = {
    Verdict.stable: "all of them contract in one common norm, and the point is stable",
    Verdict.unstable: "one of them expands along a direction within itself, and the point is unstable",
    Verdict.marginal: "they do not all contract in one norm that was found, and none expands along a direction of "
    "its own: the pieces do not decide",
}


@eqx.filter_jit
def _rest_state(game, method, players, key=None, noise=None) -> Rest:
    dtype = _trees.float_dtype(players)
    game, method = _trees.cast((game, method), dtype)
    return rest_state(game, method, players, key, _trees.cast(noise, dtype))


def _judge_eigenvalues(
    linear: Linearisation,
    boundary: Boundary,
    dimension: int,
    kept: int,
    smoothness: str,
    scales: np.ndarray | None = None,
) -> _Judged:
    jacobian, epsilon = np.asarray(linear.jacobian), float(linear.epsilon)
    if scales is not None:  # powers of two: a similar matrix without rounding
        jacobian = jacobian * scales / scales[:, None]
    if smoothness == "not differentiable":
        nothing = np.full(len(jacobian), complex(float("nan"), float("nan")))
        return _Judged(nothing, smoothness=smoothness, notes=(Note.not_differentiable.filled(),))
    values, errors = eigenvalues_with_errors(jacobian, epsilon)
    neutral, order = boundary.neutral, boundary.order(values)
    values, errors = values[order], errors[order]
    outward = boundary.outward(values)
    # The neutral directions: the eigenvalues nearest to 1 (maps) or 0 (flows), as far as rounding explains the rest: a
    # method need not rest wherever the game's field vanishes.
    nearest = boundary.from_neutral(values)
    free = int(np.sum(np.abs(values - neutral)[nearest[: dimension + kept]] <= errors[nearest[: dimension + kept]]))
    rest = np.sort(nearest[free:])
    bound = float(boundary.bound(values[rest]))
    margin = boundary.margin(bound)
    # A verdict is a proof: no matrix within the rounding error has an eigenvalue on the boundary, or, when unstable, on
    # a curve outside it that leaves eigenvalues beyond.
    remaining, amplification = without_neutral(jacobian.astype(float), neutral, free)
    perturbation = amplification * rounding_bound(jacobian, epsilon)
    proved = keeps_its_side(remaining, perturbation, boundary)
    if not proved and margin < 0:
        curve = float(widest_gap(outward[rest], neutral))
        allowed = boundary.length_relative(curve, perturbation)
        proved = keeps_its_side(boundary.relative(curve, remaining), allowed, boundary)
    # Every eigenvalue is moved by its own error; the margin by the largest of those that can become outermost.
    upper = np.max(outward[rest] + errors[rest], initial=-np.inf)
    lower = np.max(outward[rest] - errors[rest], initial=-np.inf)
    error = float(max(upper - (neutral - margin), (neutral - margin) - lower)) if len(rest) else 0.0
    # At a kink or a jump the eigenvalues are those of one side, and an inconsistent Jacobian is not that of the map.
    decides = smoothness in ("smooth", "stiff")
    proved = proved and decides
    verdict = Verdict.marginal
    if proved or (decides and abs(margin) > COMPUTED * error):
        verdict = Verdict.stable if margin > 0 else Verdict.unstable
        error = min(error, abs(margin))
    elif not decides:
        error = float("inf")
    else:
        error = max(error, abs(margin))
    notes = []
    if dimension:
        notes.append(Note.manifold.filled(dimension=dimension))
    if kept:
        notes.append(Note.kept_memory.filled(kept=kept))
    if free < dimension + kept:
        notes.append(Note.not_at_rest.filled())
    if verdict is Verdict.marginal and decides:
        notes.append(Note.marginal.filled())
    if verdict is not Verdict.marginal and not proved:
        notes.append(Note.not_proved.filled(margin=abs(margin), error=error))
    if smoothness != "smooth":
        notes.append(Note[Smoothness.of(smoothness).name].filled())
    with np.errstate(divide="ignore"):
        rate = float(boundary.rate(bound))
    leading = values[rest[0]] if len(rest) else neutral
    return _Judged(
        eigenvalues=values,
        radius=float(UNIT_CIRCLE.bound(values[rest])),
        abscissa=float(IMAGINARY_AXIS.bound(values[rest])),
        margin=float(margin),
        error=error,
        verdict=verdict,
        rate=rate,
        rotation=float(boundary.rotation(leading)),
        largest_step=float("nan") if boundary.discrete else largest_euler_step(values[rest]),
        smoothness=smoothness,
        neutral=free,
        notes=tuple(notes),
        proved=bool(proved),
    )


def eigenvalues_with_errors(matrix: np.ndarray, epsilon: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Eigenvalues with first-order bounds on their rounding errors, $\kappa_i\,\|\Delta\|$.

    $\kappa_i = 1/|y_i^* x_i|$ is the eigenvalue's condition number and $\|\Delta\|$ a bound on the error of a matrix
    that was computed in its dtype; an eigenvalue of an exact Jordan block of size m gets $\|\Delta\|^{1/m}$, with m at
    most n. Source: Golub and Van Loan, Matrix Computations, section 7.2.2.
    """
    size = len(matrix)
    if size == 0:
        return np.zeros(0, complex), np.zeros(0)
    scale = float(scale_of(matrix))
    values, left, right = scipy.linalg.eig(matrix.astype(float) / scale, left=True, right=True)
    values = values * scale
    perturbation = rounding_bound(matrix, epsilon)
    overlap = np.abs(np.sum(left.conj() * right, axis=0))
    with np.errstate(divide="ignore"):
        errors = perturbation / overlap
    norm = frobenius(matrix)
    defective = norm * (perturbation / max(norm, SMALLEST)) ** (1 / size)
    return values, np.minimum(errors, max(defective, perturbation))


def largest_euler_step(values: np.ndarray) -> float:
    r"""The largest h with $1 + h\lambda$ in the unit disk for all eigenvalues: $\min 2|Re\lambda|/|\lambda|^2$.

    0 when an eigenvalue has a real part >= 0. Source: Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, lemma 4.

    >>> round(float(largest_euler_step(np.array([-0.5 + 1j, -0.5 - 1j]))), 12)
    0.8
    """
    if not len(values):
        return float("inf")
    real = np.real(values)
    if np.any(real >= 0):
        return 0.0
    return float(np.min(-2 * (real / np.abs(values)) / np.abs(values)))


def _parts(result: Any) -> Any:
    return None if result is None else plain(dataclasses.asdict(result))


def _numbers(array: np.ndarray) -> list:
    return plain(np.asarray(array))
