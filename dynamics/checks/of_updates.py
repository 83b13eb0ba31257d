"""The checks of updates, and what several of them need, computed once."""

import collections
import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._compiling import quick_jit
from dynamics.analysis.stability.periods import Period, find_period
from dynamics.checks.measures import field_jacobian, path, radius
from dynamics.checks.results import Answer, Subject, in_double_precision, question
from dynamics.compiler.jaxprs import subjaxprs
from dynamics.game import Game, Losses, Players
from dynamics.games import Quadratic, SpuriousAttractor, Torus
from dynamics.simulation import simulate
from dynamics.updates import Simultaneous, State, Update

UPDATE_CHECKS: dict[str, Callable[["OfUpdate"], Answer]] = {}

LANES = 160  # radii per call of the compiled program
LONGEST = 4.0  # the longest step times singular value that is scanned
STEPS, SAVED = 256, 8  # of the runs on quadratic games: how many, and every how many are kept
RATE = 0.05  # of these runs
SMALL = 0.005  # a small step, for what holds near the flow
HALVED = [2.0**-power for power in range(6, 18)]  # steps at which a method is compared with the flow


class _Scaled(Game):
    """A game with all its losses multiplied by one number."""

    game: Game
    scale: Array

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        return tuple(self.scale * loss for loss in self.game.losses(players, key))

    def equilibria(self) -> tuple[Players, ...]:
        return self.game.equilibria()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game, players = Quadratic.example()
        return cls(game, jnp.asarray(0.5)), players


class _OnScaledLosses(Update):
    """An update on the game with scaled losses: for a method without memory of squares, one with scaled rates."""

    inner: Update
    scale: Any

    def init(self, game: Game, players: Players) -> State:
        return self.inner.init(_Scaled(game, self.scale), players)

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.inner.step(_Scaled(game, self.scale), state, key)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Simultaneous.example(players), 0.5)


class _Trees(Game):
    """A quadratic game whose players are pytrees."""

    game: Quadratic

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        return self.game.losses(tuple(ravel_pytree(player)[0] for player in players), key)

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(_unequal()), ({"a": jnp.asarray([1.0, -0.5]), "b": jnp.asarray(0.5)}, [jnp.ones(1), jnp.zeros(1)])


class _Counted(Game):
    """A game whose gradients leave a mark in the program: digamma for player 0, a Bessel function for player 1."""

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        return jnp.sum(jax.lax.lgamma(2 + x + 2 * y)), jnp.sum(jax.lax.bessel_i0e(1 + 2 * x - y))

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), (jnp.asarray([0.5]), jnp.asarray([0.25]))


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


# A general-sum game of two planar players whose flow is stable, and the same with each player on its own.
_MATRIX = np.array([[1.0, 0.5, 1.0, -0.5], [0.5, 0.75, 0.25, 1.5], [-1.0, 0.5, 0.5, 0.25], [-0.5, -1.25, 0.25, 1.0]])
_ALONE = _MATRIX * np.kron(np.eye(2), np.ones((2, 2)))
_CENTRE, _SHIFT = np.array([0.5, -1.0, 0.25, 1.0]), np.array([1.0, -0.5, 0.75, 0.5])
_TURN = scipy.linalg.block_diag(_rotation(0.7), _rotation(-0.4))
_EXCHANGE = np.kron([[0.0, 1.0], [1.0, 0.0]], np.eye(2))


def _unequal() -> Quadratic:
    blocks = [[np.diag([1.0, 0.5, 0.75]), np.arange(6.0).reshape(3, 2) / 4], [np.ones((2, 3)) / -2, np.eye(2)]]
    return Quadratic(blocks, [[0.5, 0.0, -0.25], [0.0, 1.0]])


class OfUpdate(Subject):
    @in_double_precision
    def __init__(self, method: Any):
        self.instance = method if isinstance(method, Update) else None
        if self.instance is not None:
            self.name = type(method).__name__
            self.make: Callable[[Any], Update] = functools.partial(_OnScaledLosses, method)
        elif callable(method):
            made = method(0.1)
            if not isinstance(made, Update):
                raise TypeError(
                    f"the function returned {made!r} for the rate 0.1; expected an update (dynamics.updates.Update)"
                )
            self.name, self.make = type(made).__name__, method
        else:
            raise TypeError(
                f"method is {method!r}; expected a function of the rate that returns an update, "
                "e.g. lambda rate: MyUpdate(rate), or an update"
            )

    # What several checks need

    @functools.cached_property
    def period(self) -> Period:
        """After how many steps the method repeats, if it does not come to rest."""
        game = Quadratic([[[[1.0]], [[1.0]]], [[[-1.0]], [[1.0]]]])
        return find_period(game, self.make(RATE), (jnp.zeros(1), jnp.zeros(1)))

    @functools.cached_property
    def radius_program(self) -> Callable:
        def radius_of(rate, matrix):
            blocks = [[matrix[:1, :1], matrix[:1, 1:]], [matrix[1:, :1], matrix[1:, 1:]]]
            repeated = self.period.of(self.make(rate))
            whole = radius(Quadratic(blocks), repeated, (jnp.zeros(1), jnp.zeros(1)))
            return whole ** (1 / max(self.period.steps, 1))

        return quick_jit(jax.vmap(radius_of))

    def radii(self, rates: Any, matrices: Any) -> np.ndarray:
        """Radii on games of two scalars given by H, for all rates and matrices (or one)."""
        rates = np.atleast_1d(np.asarray(rates, float))
        matrices = np.broadcast_to(np.asarray(matrices, float), (len(rates), 2, 2))
        radii = []
        for first in range(0, len(rates), LANES):
            batch = (
                np.resize(rates[first : first + LANES], LANES),
                np.resize(matrices[first : first + LANES], (LANES, 2, 2)),
            )
            radii.append(np.asarray(self.radius_program(*batch)))
        return np.concatenate(radii)[: len(rates)]

    @functools.cached_property
    def runs_program(self) -> Callable:
        def run(rate, matrix, offset, start):
            rows = [matrix[:2], matrix[2:]]
            blocks = [[row[:, :2], row[:, 2:]] for row in rows]
            game = Quadratic(blocks, [offset[:2], offset[2:]])
            players = path(game, self.make(rate), (start[:2], start[2:]), steps=STEPS, save_every=SAVED)
            return jnp.concatenate(players, axis=-1)

        return quick_jit(jax.vmap(run))

    @functools.cached_property
    def runs(self) -> dict[str, np.ndarray]:
        """Runs on quadratic games, by name: shape (saved points, 4), or of one per step for `halved`."""
        start, centre = _CENTRE + _SHIFT, _CENTRE
        lanes = [(rate, _MATRIX, centre, start) for rate in HALVED]
        lanes += [
            (RATE, _MATRIX, centre, start),
            (RATE, _TURN @ _MATRIX @ _TURN.T, _TURN @ centre, _TURN @ start),
            (RATE, _EXCHANGE @ _MATRIX @ _EXCHANGE.T, _EXCHANGE @ centre, _EXCHANGE @ start),
            (RATE, _ALONE, centre, start),
            (RATE, _MATRIX, centre, centre),
        ]
        # A diagonal block is symmetric but for the rounding of the turn.
        rates, matrices, centres, starts = (np.stack(column) for column in zip(*lanes))
        offsets = -np.einsum("lij,lj->li", matrices, centres)
        points = np.asarray(self.runs_program(rates, matrices, offsets, starts))
        names = ["plain", "turned", "exchanged", "alone", "resting"]
        return {"halved": points[: len(HALVED)], **dict(zip(names, points[len(HALVED) :]))}

    @functools.cached_property
    def single(self) -> float:
        """Largest difference of the run in float32 from that in double precision, relative to the points."""
        arguments = (RATE, _MATRIX, -_MATRIX @ _CENTRE, _CENTRE + _SHIFT)
        points = self.runs_program(*[np.asarray(value, np.float32)[None] for value in arguments])
        return _apart(np.asarray(points)[0], self.runs["plain"])

    @functools.cached_property
    def step_of(self) -> tuple[Game, Players]:
        return _unequal(), (jnp.asarray([1.0, -0.5, 0.25]), jnp.asarray([0.5, 2.0]))

    def one_step(self, rate: float) -> np.ndarray:
        """The players after one step, by a program of its own, traced anew."""
        game, players = self.step_of
        moved = jax.jit(lambda point: self.make(rate).step(game, self.make(rate).init(game, point)).players)(players)
        return np.asarray(ravel_pytree(moved)[0])

    @functools.cached_property
    def first_step(self) -> np.ndarray:
        return self.one_step(RATE)

    @functools.cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        """What the method makes of the equilibrium of planar quadratic games at a small step."""
        curvatures, matrices = (-1.0, -0.5, 0.25, 1.0), []
        for a in curvatures:
            for d in curvatures:
                matrices += [(a, b, -b, d) for b in (0.5, 1.5)]
                matrices += [(a, *both, d) for both in ((1.5, -0.5), (0.5, 0.75), (1.5, 0.5))]
        matrices = np.array(matrices).reshape(-1, 2, 2)
        flow = np.array([np.linalg.eigvals(matrix).real.min() for matrix in matrices])
        matrices = matrices[np.abs(flow) > 0.05]
        verdicts = []
        for matrix, value in zip(matrices, self.radii(np.full(len(matrices), SMALL), matrices)):
            (a, b), (c, d) = matrix
            zero_sum = b == -c
            verdicts.append(
                {
                    "matrix": matrix.tolist(),
                    "nash": bool(a > 0 and d > 0),
                    "minimax": bool(d > 0 and a - b * c / d > 0) if zero_sum else None,
                    "flow": bool(np.linalg.eigvals(matrix).real.min() > 0),
                    "stable": bool(value < 1 - 2.0**-31),  # weights that fade, held at their limit, are at 1 - 2**-30
                }
            )
        return verdicts

    @functools.cached_property
    def ends(self) -> dict[str, dict[str, Any]]:
        """Where runs from a grid of starts end on games with several critical points."""
        ticks = np.linspace(-1, 1, 6)
        first, second = (grid.ravel() for grid in np.meshgrid(ticks, ticks + 0.05))
        boxes = {"Torus": (Torus(0.5, 0.5), 3 * first, 3 * second), "SpuriousAttractor": (
            SpuriousAttractor(), 4 * first - 2, 3.5 * second + 1.5)}  # fmt: skip
        ends = {}
        for name, (game, x, y) in boxes.items():

            def run_to_end(x, y, game=game):
                run = simulate(game, self.make(jnp.asarray(RATE)), (x, y), steps=4000, save_every=2000, classify=False)
                points = jnp.stack(run.players, axis=-1)
                field = jnp.stack(game.field(run.final))
                return points[-1], points[-1] - points[-2], field, field_jacobian(game, run.final)

            end, moved, field, slopes = map(np.asarray, quick_jit(jax.vmap(run_to_end))(x, y))
            kinds: dict[str, Any] = collections.Counter()
            created = []
            for point, change, push, slope in zip(end, moved, field, slopes):
                size = 1 + np.linalg.norm(point)
                if not (np.linalg.norm(change) <= 1e-4 * size and size < 1e3):
                    kinds["not at rest"] += 1
                elif not np.linalg.norm(push) <= 1e-3 * size:
                    kinds["no equilibrium"] += 1
                    if not any(np.linalg.norm(point - other) < 1e-3 for other in created):
                        created.append(np.round(point, 6).tolist())
                elif slope[0, 0] < 0 and slope[1, 1] < 0:
                    kinds["Nash"] += 1
                elif slope[1, 1] < 0 and slope[0, 0] - slope[0, 1] * slope[1, 0] / slope[1, 1] < 0:
                    kinds["minimax, not Nash"] += 1
                else:
                    kinds["neither Nash nor minimax"] += 1
            ends[name] = {**kinds, "created": created}
        return ends


_of_update = functools.partial(question, UPDATE_CHECKS)


@_of_update("traceable")
def _traceable(subject: OfUpdate) -> Answer:
    game, players = subject.step_of

    def step(rate, point):
        update = subject.make(rate)
        return update.step(game, update.init(game, point))

    before = jax.eval_shape(lambda point: subject.make(RATE).init(game, point), players)
    after = jax.eval_shape(step, jax.ShapeDtypeStruct((), jnp.result_type(float)), players)
    if jax.tree.structure(before) != jax.tree.structure(after):
        return "fail", False, "a step changes the structure of the state, so that no loop can be compiled"
    return "pass", True, "a step can be traced with the rate and the players unknown, and keeps the state's structure"


@_of_update("deterministic")
def _deterministic(subject: OfUpdate) -> Answer:
    gap = float(np.max(np.abs(subject.first_step - subject.one_step(RATE))))
    if gap == 0:
        return "pass", gap, "without a key two traces of a step give the same numbers"
    return "fail", gap, f"without a key two traces of the same step differ by {gap:.3g}; draw from the key of `step`"


@_of_update("finite")
def _finite(subject: OfUpdate) -> Answer:
    for name, where in (("plain", "from a general start"), ("resting", "from an equilibrium")):
        if not np.all(np.isfinite(subject.runs[name])):
            return "fail", False, f"a run {where} of a quadratic game with a stable flow, rate {RATE:g}, is not finite"
    return "pass", True, "runs from a general start and from an equilibrium stay finite"


@_of_update("keeps equilibria")
def _keeps(subject: OfUpdate) -> Answer:
    moved = float(np.max(np.abs(subject.runs["resting"] - _CENTRE)))
    if moved <= 1e-9:
        return "pass", moved, f"a player at an equilibrium stays there for {STEPS} steps"
    return "fail", moved, f"players put on an equilibrium of the game are moved away from it by {moved:.3g}"


@_of_update("recompiles")
def _recompiles(subject: OfUpdate) -> Answer:
    game, players = subject.step_of
    if subject.instance is None:
        pair = [subject.make(0.1), subject.make(0.05)]
    else:
        numbers, rest = eqx.partition(subject.instance, eqx.is_inexact_array)
        pair = [eqx.combine(jax.tree.map(lambda leaf, f=f: leaf * f, numbers), rest) for f in (1.0, 0.5)]
    # The numbers of bare optax transformations are constants, by the choice of who writes optax.sgd(rate).
    flat = [jax.tree_util.tree_flatten_with_path(update, is_leaf=_is_bare) for update in pair]
    (entries, _), (others, structure) = flat
    constants = [f"method{jax.tree_util.keystr(path)}" for path, leaf in entries if _is_bare(leaf)]
    if len(entries) == len(others):
        mixed = [a if _is_bare(a) and _is_bare(b) else b for (_, a), (_, b) in zip(entries, others, strict=True)]
        pair[1] = jax.tree.unflatten(structure, mixed)
    if subject.instance is not None and not constants and not jax.tree.leaves(numbers):
        return "skipped", None, "it has no numbers"
    traces = 0

    @eqx.filter_jit
    def step(update, point):
        nonlocal traces
        traces += 1
        return update.step(game, update.init(game, point)).players

    for update in pair:
        step(update, players)
    if traces > 1:
        return "fail", True, "another rate compiles a new program: its numbers are constants. Keep them as array leaves"
    if constants:
        text = "constants of the compiled program are the numbers of the bare optax transformations"
        text += f" {', '.join(constants)}; dynamics.Optimiser(optax.sgd, rate) in place of optax.sgd(rate) makes them"
        return "info", constants, text + " leaves, which can change without compiling and be swept"
    return "pass", False, "another rate runs in the same compiled program"


def _is_bare(node: Any) -> bool:
    return isinstance(node, optax.GradientTransformation)


@_of_update("vmap")
def _vmap(subject: OfUpdate) -> Answer:
    game, players = subject.step_of

    def step(point):
        update = subject.make(RATE)
        return ravel_pytree(update.step(game, update.init(game, point)).players)[0]

    several = jax.tree.map(lambda leaf: jnp.stack([leaf + 1, leaf, leaf * 2]), players)
    gap = float(np.max(np.abs(np.asarray(jax.jit(jax.vmap(step))(several))[1] - subject.first_step)))
    if gap <= 1e-6:
        return "pass", gap, "several games at once give what each gives alone"
    return "fail", gap, f"a step under vmap differs from a single one by {gap:.3g}"


@_of_update("pytrees")
def _pytrees(subject: OfUpdate) -> Answer:
    game, start = _Trees.example()
    flat = tuple(ravel_pytree(player)[0] for player in start)

    def steps(rate):
        update, ends = subject.make(rate), []
        for where, point in ((game, start), (game.game, flat)):
            state = update.init(where, point)
            for _ in range(2):
                state = update.step(where, state)
            ends.append(state.players)
        return ends

    trees, arrays = jax.jit(steps)(RATE)
    if jax.tree.structure(trees) != jax.tree.structure(start):
        return "fail", False, "players that are pytrees come back as something else"
    gap = float(jnp.max(jnp.abs(ravel_pytree(trees)[0] - ravel_pytree(arrays)[0])))
    if gap <= 1e-6:
        return "pass", gap, "players may be pytrees of unequal sizes; how they are nested makes no difference"
    return "info", gap, f"how a player's numbers are nested makes a difference, {gap:.3g} after two steps"


@_of_update("dtype")
def _dtype(subject: OfUpdate) -> Answer:
    game, players = subject.step_of
    game, update, players = _trees.cast((game, subject.make(RATE), players), jnp.float32)

    def step(point):
        return update.step(game, update.init(game, point))

    after = jax.eval_shape(step, players)
    for where, leaf in jax.tree_util.tree_leaves_with_path(after):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != jnp.float32:
            name = jax.tree_util.keystr(where)
            return "fail", str(leaf.dtype), f"with players in float32 the state{name} is {leaf.dtype} after a step"
    return "pass", "float32", "players in float32 stay in float32, and so does the memory"


@_of_update("float32")
def _single(subject: OfUpdate) -> Answer:
    if subject.single <= 1e-3:
        return "pass", subject.single, f"64 steps in float32 follow those in float64, difference {subject.single:.1g}"
    return (
        "fail",
        subject.single,
        f"64 steps in float32 differ from those in float64 by {subject.single:.3g} (relative)",
    )


@_of_update("cost")
def _cost(subject: OfUpdate) -> Answer:
    game, players = _Counted.example()
    update = subject.make(RATE)
    floating, other = eqx.partition(update.init(game, players), eqx.is_array)

    def step(point, arrays):
        return eqx.filter(update.step(game, State(point, eqx.combine(arrays, other).memory)), eqx.is_array)

    count = _evaluations(jax.make_jaxpr(step)(players, floating).jaxpr)
    gradients = (count["digamma"], count["bessel_i1e"])
    products = count["linear field"] or count["differentiated field"]
    value = {
        "gradients": gradients,
        "fields": sum(gradients) / 2,
        "products": products,
        "unknown loops": count["while"] > 0,
    }
    text = f"{gradients[0]} + {gradients[1]} gradients of the two players per step, {sum(gradients) / 2:g} fields"
    text += f", {products} product{'s' * (products > 1)} with the Jacobian" if products else ""
    text += "; loops whose length depends on numbers counted once" if count["while"] else ""
    return "info", value, text


def _evaluations(jaxpr: Any, wanted: Sequence[bool] | None = None) -> collections.Counter:
    """How often each primitive runs, without what nobody needs; and passes over the field of the game."""
    count: collections.Counter = collections.Counter()
    outs = [var for var, want in zip(jaxpr.outvars, wanted or [True] * len(jaxpr.outvars)) if want]
    needed = {var for var in outs if not hasattr(var, "val")}
    for equation in reversed(jaxpr.eqns):
        used = [var in needed for var in equation.outvars]
        if not any(used):
            continue
        needed.update(var for var in equation.invars if not hasattr(var, "val"))
        name = equation.primitive.name
        count[name] += 1
        times = equation.params.get("length", 1) if name == "scan" else 1
        for inner in subjaxprs(equation):
            same = len(inner.outvars) == len(used) and name in ("jit", "pjit")
            inside = _evaluations(inner, used if same else None)
            if equation.params.get("name") == "_field":
                marks = inside["digamma"] + inside["bessel_i1e"]
                inside["linear field"] += marks == 0
                inside["differentiated field"] += marks > 0 and inside["polygamma"] > 0
            for key, number in inside.items():
                count[key] += times * number
    return count


@_of_update("bilinear games")
def _bilinear_games(subject: OfUpdate) -> Answer:
    matrix = np.array([[0.0, 1.0], [-1.0, 0.0]])
    grid = np.linspace(0, LONGEST, LANES + 1)[1:]
    if not subject.period.steps:
        return "info", {"stable": None, "marginal": None}, subject.period.reason
    radii_on_grid = subject.radii(grid, matrix)
    if not np.any(np.isfinite(radii_on_grid)):
        return "info", {"stable": [], "marginal": []}, "its Jacobian at the equilibrium is not finite"

    def stable(radii):
        return radii < 1 - 1e-12

    points, inside = np.concatenate([[0.0], grid]), stable(radii_on_grid)
    # Close to 0 rounding hides what a method of high order gains; a step there counts unless it is clearly unstable.
    near = subject.radii([1e-3, 3e-3, 1e-2], matrix)
    inside = np.concatenate([[bool(inside[0] and np.all(near <= 1 + 1e-12))], inside])
    changes = np.flatnonzero(inside[1:] != inside[:-1])
    edges = [0.0] if inside[0] else []
    if len(changes) > LANES // 8:
        return "info", {"stable": None, "marginal": None}, f"stable for {np.mean(inside):.0%} of the steps, in pieces"
    low, high = points[changes], points[changes + 1]
    per = LANES // max(len(changes), 1)
    for _ in range(6 if len(changes) else 0):
        between = low[:, None] + (high - low)[:, None] * np.arange(1, per + 1) / (per + 1)
        verdict = stable(subject.radii(between.ravel(), matrix)).reshape(between.shape)
        for row, index in enumerate(changes):
            flipped = np.flatnonzero(verdict[row] != inside[index])
            where = flipped[0] if len(flipped) else per
            high[row] = between[row, where] if where < per else high[row]
            low[row] = between[row, where - 1] if where > 0 else low[row]
    edges += list((low + high) / 2)
    edges += [LONGEST] if inside[-1] else []
    intervals = [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2])]
    still = (np.abs(radii_on_grid - 1) <= 1e-7) & ~stable(radii_on_grid)
    marginal = _ranges(grid, still)
    text = f"converges for h sigma in {_listed(intervals)}" if intervals else f"converges for no step up to {LONGEST:g}"
    text += f"; neither converges nor diverges (to first order) in about {_listed(marginal)}" if marginal else ""
    return "info", {"stable": intervals, "marginal": marginal}, text


def _ranges(grid: np.ndarray, mask: np.ndarray) -> list[tuple[float, float]]:
    """First (0 for that of the grid) and last point of every run of true entries that has more than one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(float(grid[a]) if a else 0.0, float(grid[b - 1])) for a, b in zip(edges[::2], edges[1::2]) if b - a > 1]


def _listed(intervals: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"({a:.6g}, {b:.6g})" for a, b in intervals)


@_of_update("gradient flow")
def _gradient_flow(subject: OfUpdate) -> Answer:
    points = subject.runs["halved"]
    half, last = points[:, STEPS // 2 // SAVED], points[:, STEPS // SAVED]
    if not np.all(np.isfinite(last)):
        return "info", None, "runs at small steps are not finite"

    def flown(scales, index):
        time = STEPS // 2 * HALVED[index]
        matrix = np.repeat(scales, 2)[:, None] * _MATRIX
        return _CENTRE + scipy.linalg.expm(-time * matrix) @ (half[index] - _CENTRE)

    travelled = np.linalg.norm(last - half, axis=1)
    if np.any(travelled == 0):
        return "info", None, "it does not move at small steps"

    def fitted(index):
        field = -_MATRIX @ (half[index] - _CENTRE)
        moved = (last - half)[index] / (STEPS // 2 * HALVED[index])
        guess = [moved[part] @ field[part] / (field[part] @ field[part]) for part in (slice(0, 2), slice(2, 4))]
        fit = scipy.optimize.least_squares(
            lambda scales: (flown(scales, index) - last[index]) / travelled[index],
            guess,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        return fit.x

    scales = (8 * fitted(-1) - 6 * fitted(-2) + fitted(-3)) / 3  # without the first two error terms
    whole = np.round(scales, 3)
    scales = np.where(np.abs(scales - whole) < 1e-4 * np.abs(scales), whole, scales)
    errors = np.array([np.linalg.norm(flown(scales, i) - last[i]) / travelled[i] for i in range(len(HALVED))])
    rounding = 1e4 * np.finfo(float).eps * (1 + np.linalg.norm(last, axis=1)) / travelled
    clear = np.flatnonzero(errors[1:] > rounding[1:])
    index = clear[-1] if len(clear) else 0
    order = float(np.log2(errors[index] / errors[index + 1])) if errors[index + 1] > 0 else np.inf
    shown = tuple(float(np.round(scale, 4)) for scale in scales)
    equivalent = bool(errors[-1] < 0.1 and order > 0.6)
    value = {"equivalent": equivalent, "order": round(order, 1), "time": shown, "error": float(errors[-1])}
    if not equivalent:
        text = f"small steps do not follow the gradient flow: {errors[-1]:.2g} of the way is elsewhere"
        return "info", value | {"order": None, "time": None}, text + f" at a step of {HALVED[-1]:.2g}"
    per = "h" if shown == (1.0, 1.0) else f"{shown[0]:g} h" if shown[0] == shown[1] else None
    time = per or f"{shown[0]:g} h for player 0 and {shown[1]:g} h for player 1"
    return "info", value, f"small steps follow the gradient flow, one step for a time of {time}, to order {order:.1f}"


@_of_update("gradient descent")
def _gradient_descent(subject: OfUpdate) -> Answer:
    step = np.eye(4) - RATE * _ALONE
    powers = [np.linalg.matrix_power(step, SAVED * index) for index in range(9)]
    expected = np.array([_CENTRE + power @ _SHIFT for power in powers])
    gap = float(np.max(np.abs(subject.runs["alone"][:9] - expected)))
    if gap <= 1e-9:
        return "info", True, "for a player alone (losses that are not coupled) it is gradient descent"
    return "info", False, f"for a player alone it is not gradient descent: {gap:.3g} apart within 64 steps of {RATE:g}"


@_of_update("rotations")
def _rotations(subject: OfUpdate) -> Answer:
    yes = "turning each player's parameters turns the run with them"
    return _symmetry(subject, "turned", _TURN, yes, "depends on the coordinates: turning each player's parameters")


@_of_update("exchange of players")
def _exchange(subject: OfUpdate) -> Answer:
    no = "the players have different roles: exchanging them"
    return _symmetry(subject, "exchanged", _EXCHANGE, "treats the players alike", no)


def _symmetry(subject: OfUpdate, name: str, back: np.ndarray, yes: str, no: str) -> Answer:
    """Whether the run of a changed game, changed back, is the plain one."""
    gap = _apart(subject.runs[name] @ back, subject.runs["plain"])
    return "info", gap <= 1e-8, yes if gap <= 1e-8 else f"{no} changes a run by {gap:.2g}"


def _apart(run: np.ndarray, other: np.ndarray) -> float:
    """Largest difference between the beginnings of two runs, relative to the points of the second."""
    run, other = run[:9], other[:9]
    return float(np.max(np.abs(run - other)) / (1 + np.max(np.abs(other))))


@_of_update("stable Nash points")
def _nash(subject: OfUpdate) -> Answer:
    if not subject.period.steps:
        return "info", None, subject.period.reason
    nash = [verdict for verdict in subject.verdicts if verdict["nash"] and verdict["flow"]]
    lost = [verdict["matrix"] for verdict in nash if not verdict["stable"]]
    if not lost:
        return (
            "info",
            [],
            f"all {len(nash)} strict Nash points that are stable for the flow are stable for steps {SMALL:g}",
        )
    text = f"{len(lost)} of {len(nash)} strict Nash points that are stable for the flow are lost at steps {SMALL:g}"
    return "info", lost, f"{text}, e.g. for the game's matrix {lost[0]}"


@_of_update("other stable points")
def _others(subject: OfUpdate) -> Answer:
    if not subject.period.steps:
        return "info", None, subject.period.reason
    stable = [verdict for verdict in subject.verdicts if verdict["stable"]]
    value = {
        "not Nash": [verdict["matrix"] for verdict in stable if not verdict["nash"]],
        "not minimax": [verdict["matrix"] for verdict in stable if verdict["minimax"] is False],
        "unstable for the flow": [verdict["matrix"] for verdict in stable if not verdict["flow"]],
    }
    parts = [f"{len(matrices)} that are {name}" for name, matrices in value.items() if matrices]
    text = f"of {len(subject.verdicts)} equilibria of quadratic games it makes {len(stable)} stable"
    return (
        "info",
        value,
        text + (", among them " + ", ".join(parts) if parts else ", all strict Nash" if stable else ""),
    )


@_of_update("created points")
def _created(subject: OfUpdate) -> Answer:
    value, texts = subject.ends, []
    for name, ends in value.items():
        kinds = ", ".join(f"{number} {kind}" for kind, number in ends.items() if kind != "created")
        texts.append(f"{name}: {kinds}")
    points = [f"{tuple(point)} of {name}" for name, ends in value.items() for point in ends["created"]]
    head = f"with steps {RATE:g} comes to rest at {points[0]}, no equilibrium" if points else "none found"
    head += f" ({len(points)} such points)" if len(points) > 1 else ""
    return "info", value, head + "; ends of runs on " + "; on ".join(texts)
