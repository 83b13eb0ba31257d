"""Local stability of large states: leading eigenvalues from products with the Jacobian alone."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._compiling import filter_jit_quickly
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics._text import complex_text
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.spectra.bounds import Bound, abscissa_bound, radius_bound
from dynamics.analysis.spectra.exponential import Box, rightmost
from dynamics.analysis.spectra.inverses import DECOMPOSED, WRITTEN, decomposed, nearest, nearness
from dynamics.analysis.spectra.krylov import Eigenpairs, Measure, krylov_schur
from dynamics.analysis.spectra.operators import Operator, Product, Scaled, WrappingOperator, products_with
from dynamics.analysis.spectra.scaling import copies, memory_scales
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.linearisation import Smoothness, on_vectors
from dynamics.analysis.stability.notes import Note, Verdict
from dynamics.analysis.stability.rest import Rest, above_zero
from dynamics.compiler.derivatives import released
from dynamics.compiler.switches import gaps
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update

PROBES = 4  # random directions for the scales of memory
COMBINATIONS = 2  # of these, from which rounding is seen
DIRECTIONS = 4  # along which difference quotients are taken
ROUNDING = 16  # units of eps ||J|| that the products and the linearisation itself may be wrong by
PRODUCTS = 3000  # budget for the eigenvalues
LONG = 10  # times as many where the exponential is needed
QUICK = 20_000  # numbers up to which compiling takes longer than what optimised programs save
FEW = 200  # products of the method on the matrix itself before it goes on with the exponential
SMALL = 1e-3  # share of the largest slope below which a slope is taken for zero by difference quotients
QUOTIENTS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # distances at which difference quotients are taken, relative


class StateOperator(Operator):
    """The Jacobian of the exact step of an update, or of a flow's field, on the flat floating part of a state.

    Args:
        game, method, key: as in `dynamics.stability`.
        state: where; players first, then the floating part of the memory.
    """

    game: Game
    method: Update | AbstractFlow
    state: State
    key: PRNGKeyArray | None = None

    @property
    def size(self) -> int:
        return _trees.float_size(self.state)

    @property
    def dtype(self) -> Any:
        return _trees.float_dtype(self.state.players)

    def function(self) -> tuple[Array, Callable[[Array], Array]]:
        """The state as a vector, and the map or the flow's field on vectors."""
        flat, moved = on_vectors(self.method, self.state, self.key)
        return flat, lambda vector: moved(self.game, vector)

    def switches(self) -> int:
        """How many numbers of the program decide between smooth pieces of the map, see `dynamics.compiler.switches`."""
        flat, function = self.function()
        return jax.eval_shape(gaps(function), flat).size

    def product(self) -> Product:
        flat, function = self.function()
        return jax.linearize(released(function), flat)[1]


class FieldOperator(Operator):
    r"""The Jacobian of a game's field, or its block of one player, $\partial v_i/\partial x_i$; see `player_block`.

    Args:
        game, key: as in `dynamics.stability`.
        players: where.
        player: whose block; `None`: all of it.
    """

    game: Game
    players: Players
    key: PRNGKeyArray | None = None
    player: int | None = eqx.field(static=True, default=None)

    @property
    def size(self) -> int:
        return _trees.size(self.players if self.player is None else self.players[self.player])

    @property
    def dtype(self) -> Any:
        return _trees.float_dtype(self.players)

    def product(self) -> Product:
        moving = self.players if self.player is None else self.players[self.player]
        flat, unravel = ravel_pytree(moving)

        def field(vector: Array) -> Array:
            part = unravel(vector)
            players = part if self.player is None else _trees.replaced(self.players, self.player, part)
            value = self.game.field(players, self.key)
            return ravel_pytree(value if self.player is None else value[self.player])[0]

        return jax.linearize(released(field), flat)[1]


class SymmetricPart(WrappingOperator):
    r"""$(A + A^T)/2$, or with sign -1 the antisymmetric part $(A - A^T)/2$, of an operator."""

    operator: Operator
    sign: int = eqx.field(static=True, default=1)

    def product(self) -> Product:
        product, transposed = self.operator.product(), self.operator.transposed().product()
        return lambda vector: (product(vector) + self.sign * transposed(vector)) / 2


@dataclasses.dataclass(frozen=True)
class Leading:
    """What is asked of the leading eigenvalues of a large Jacobian.

    Attributes:
        count: how many; one more where that would part a conjugate pair.
        target: "outermost" (largest modulus for a map, largest real part for a flow), "rotation" (largest imaginary
            part), or a complex number: those nearest to it and to its conjugate. Inside of the spectrum of more than
            4,000 numbers that takes long, or they do not converge; that no other one is nearer is not proved.
        tolerance: of residuals, relative to the norm of the scaled Jacobian; default 1e-6 in float32, 1e-11 in float64,
            and 1e-7 for flows in which rotation dominates.
        basis: number of vectors kept at most; default from `count`.
        products: budget for the eigenvalues; default 3,000, and 30,000 for flows in which rotation dominates.
        conditions: whether left vectors and condition numbers are computed, at the same cost again; `None`: where the
            verdict needs them.
        bound: products with each of three random starts that bound all other eigenvalues at most; 0: no bound, and
            for flows no second look for what the first one missed.
        failure: probability with which the bound may be wrong.
        scaled: whether memory is scaled, see `dynamics.analysis.spectra.scaling`.
        seed: of the random starts.
        start: first vector of the eigenvalue solver, on the flat state with players first, shape (n,); `None`: random.
            That of a state nearby saves products.
        quotients: whether difference quotients show that the Jacobian is that of the step around the point, which takes
            some fifty steps. Without them there is no verdict, and `smoothness` is "none".
    """

    count: int = 6
    target: str | complex = "outermost"
    tolerance: float | None = None
    basis: int | None = None
    products: int | None = None
    conditions: bool | None = None
    bound: int = 1500
    failure: float = 1e-6
    scaled: bool = True
    seed: int = 0
    start: Any = dataclasses.field(default=None, compare=False)
    quotients: bool = True

    def __post_init__(self):
        as_whole("count", self.count)
        if self.products is not None:
            as_whole("products", self.products)
        as_whole("bound", self.bound, 0)
        if not 0 < self.failure < 1:
            raise ValueError(f"failure is {self.failure}; expected a probability between 0 and 1, such as 1e-6")
        if isinstance(self.target, str) and self.target not in ("outermost", "rotation"):
            raise ValueError(f"target is {self.target!r}; expected 'outermost', 'rotation' or a complex number")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}; expected a positive number, such as 1e-6")

    def measure(self, boundary: Boundary) -> Callable[[np.ndarray], np.ndarray]:
        """What is largest for the wanted eigenvalues."""
        if self.target == "rotation":
            return boundary.rotation
        if self.target == "outermost":
            return boundary.outward
        return nearness(complex(self.target))


@dataclasses.dataclass(frozen=True)
class LeadingStability(Described):
    """Local stability of a method at a large state, from products with its Jacobian alone.

    What is known is said: eigenvalues with their errors, and a bound on all others that holds with a known probability.

    Attributes:
        kind: "map" or "flow".
        eigenvalues: those that were asked for, complex, the outermost first.
        residuals: norms of $J x - \\lambda x$ for unit vectors x, in the scales of the memory.
        conditions: condition numbers $1/|y^* x|$ for unit left vectors y; NaN where none was computed.
        errors: condition times residual and rounding, of first order; infinite where the condition is not known.
        converged: which residuals are as small as was asked for.
        radius, abscissa: largest modulus and largest real part of these.
        margin: `1 - radius` for a map, `-abscissa` for a flow.
        lower: the spectral radius (maps) or abscissa (flows) is at least this, by the eigenvalues and their errors.
        upper: it is at most this, by these and by `others`; infinite where nothing is known.
        others: bound on all eigenvalues that are not among these, likewise; infinite where none was computed.
        failure: probability, over random starts, that the bound is wrong.
        verdict: unstable where an eigenvalue is outside by more than its error; stable where all are inside by more
            than that, and the bound is as well; else marginal: not decided between `lower` and `upper`.
        rate: log contraction per step, or per unit of time, of the outermost.
        rotation: angle per step, or per unit of time, of the outermost, >= 0.
        size: numbers in the state.
        norm: of the Jacobian in the scales of the memory, a lower bound on its spectral norm.
        smoothness: what difference quotients say of the Jacobian: "smooth", "kinked" or "inconsistent"; "none" where
            they were not asked for.
        products: products with the Jacobian or its transpose, in all.
        vectors: unit right vectors on the flat state, players first, shape (k, n).
        left_vectors: unit left vectors, or `None`.
        players: the point.
        residual: norm of the game's field there.
        moved: how far one step moves the state (maps), or the norm of the flow's field.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    eigenvalues: Complex[np.ndarray, " k"]
    residuals: Float[np.ndarray, " k"]
    conditions: Float[np.ndarray, " k"]
    errors: Float[np.ndarray, " k"]
    converged: np.ndarray
    radius: float
    abscissa: float
    margin: float
    lower: float
    upper: float
    others: float
    failure: float
    verdict: Any
    rate: float
    rotation: float
    size: int
    norm: float
    smoothness: str
    products: int
    vectors: Complex[np.ndarray, "k n"]
    left_vectors: Complex[np.ndarray, "k n"] | None
    players: Players
    residual: float
    moved: float
    notes: tuple[str, ...]

    @property
    def boundary(self) -> Boundary:
        """The curve that decides: the unit circle for a map, the imaginary axis for a flow."""
        return boundary_of(self.kind)

    def shares(self) -> Float[np.ndarray, "k parts"]:
        """How much of every right vector (squared norm) belongs to each player, and to the memory."""
        edges = np.cumsum([0, *(_trees.size(player) for player in self.players), 0])
        edges[-1] = self.size
        squares = np.abs(self.vectors) ** 2
        parts = [squares[:, a:b].sum(axis=1) for a, b in zip(edges, edges[1:], strict=False)]
        return np.stack(parts, axis=1) / squares.sum(axis=1, keepdims=True)

    def describe(self) -> str:
        """The report as text."""
        boundary = self.boundary
        lines = [f"{self.verdict}: {boundary.bound_name} {_range(self.lower, self.upper)}"]
        if math.isfinite(self.others):
            lines[0] += f" (no other eigenvalue above {self.others:.6g}, but with probability {self.failure:.0e})"
        lines.append(
            f"rate {self.rate:.6g} and rotation {self.rotation:.6g} per {boundary.unit}; {self.size} numbers, "
            f"{self.products} products"
        )
        for value, residual, error, done in zip(
            self.eigenvalues, self.residuals, self.errors, self.converged, strict=True
        ):
            known = f"error about {error:.1g}" if math.isfinite(error) else f"residual {residual:.1g}"
            lines.append(f"  {complex_text(value, 8)}  ({known}{'' if done else ', not converged'})")
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON; complex numbers are pairs, what is not finite is `None`."""
        return plain_fields(
            self,
            verdict=str(self.verdict),
            players=[np.asarray(leaf) for leaf in jax.tree.leaves(self.players)],
            vectors=None,
            left_vectors=None,
            eigenvalues=[[value.real, value.imag] for value in self.eigenvalues],
            notes=[str(note) for note in self.notes],
        )


def leading_stability(
    game: Game,
    method: Update | AbstractFlow,
    rest: Rest,
    leading: Leading,
    key: PRNGKeyArray | None = None,
    notes: tuple[str, ...] = (),
    require_equilibrium: bool = False,
) -> LeadingStability:
    """The leading eigenvalues of a method at a state, and what they decide.

    Args:
        game, method, key: as in `dynamics.stability`.
        rest: the state, and the memory that is held.
        leading: what is asked.
        notes: what is known already.
        require_equilibrium: raise where the step moves the state by more than rounding explains.
    """
    boundary = boundary_of(method)
    probing, solving, bounding, others = jax.random.split(jax.random.key(leading.seed), 4)
    point = _prepare(rest.at(game), method, rest, leading, probing, key, notes, require_equilibrium)
    solution = _solve(point, leading, boundary, solving)
    pairs, smooth = solution.pairs, Smoothness.none.label
    scaled, measure = solution.solver.scaled, solution.solver.measure
    if leading.quotients:
        pairs, smooth = _verified(point.operator, scaled, pairs, measure, others)
    else:
        pairs = pairs.verified(products_with(scaled, jnp.asarray(pairs.basis)), measure)
    solution = solution.with_pairs(pairs)
    bound = _bound(point, solution, leading, boundary, bounding)
    if bound.growth > np.min(boundary.outward(solution.values)):
        # Random starts without the known eigenvectors grow faster than these: something was missed.
        again, second = jax.random.split(bounding)
        spent = solution.products + bound.products
        solution = _solve(point, leading, boundary, again, solution, bound.vector)
        bound = _bound(point, solution, leading, boundary, second)
        bound = dataclasses.replace(bound, products=bound.products + spent)
    return _judge(point, solution, smooth, bound, leading, boundary, others)


class _Prepared(NamedTuple):
    """A state whose Jacobian is to be looked at.

    Attributes:
        operator: the Jacobian.
        scales: of the memory.
        field: norm of the game's field.
        moved: how far one step moves the state, or the norm of the flow's field.
        products: with the Jacobian so far.
        notes: what is to be said of it.
    """

    operator: StateOperator
    scales: Array
    field: float
    moved: float
    products: int
    notes: tuple[str, ...]


class _Solution(NamedTuple):
    """Eigenvalues of the Jacobian.

    Attributes:
        solver: of the Jacobian in the scales of the memory, less the neutral eigenvalue.
        pairs: of that matrix.
        values: eigenvalues of the Jacobian.
        norm: of the Jacobian in the scales of the memory.
        rounding: error of products, absolute.
        products: with the Jacobian.
    """

    solver: "_Solver"
    pairs: Eigenpairs
    values: np.ndarray
    norm: float
    rounding: float
    products: int

    def with_pairs(self, pairs: Eigenpairs) -> "_Solution":
        """The same with other pairs of the same matrix."""
        return self._replace(pairs=pairs, values=pairs.values + self.solver.boundary.neutral, products=pairs.products)


def _prepare(
    game: Game,
    method: Update | AbstractFlow,
    rest: Rest,
    leading: Leading,
    probing: PRNGKeyArray,
    key: PRNGKeyArray | None,
    notes: tuple[str, ...],
    require_equilibrium: bool,
) -> _Prepared:
    """The Jacobian, the scales in which it is small, and whether the state is at rest."""
    operator = StateOperator(game, rest.of(method), rest.state, key)
    scales, gain, field, moved, length = _prepared(operator, leading.scaled, probing)
    if not np.isfinite(gain):
        memory = jax.tree.map(above_zero, operator.state.memory)
        operator = StateOperator(game, operator.method, State(operator.state.players, memory), key)
        scales, gain, field, moved, length = _prepared(operator, leading.scaled, probing)
        notes = (*notes, Note.vanishing_memory.filled())
    if not np.isfinite(gain):
        raise FloatingPointError(
            "the Jacobian has entries that are not finite: the map is not differentiable at this state. Adam with "
            "eps=0 and eps_root=0 does this where a gradient vanishes; pass a positive eps."
        )
    at_rest = float(moved) <= float(jnp.finfo(operator.dtype).eps) ** 0.5 * (1 + float(length))
    if require_equilibrium and not at_rest:
        raise EquilibriumError(
            f"the point is no fixed point: one step moves the state by {moved:.3g}, the game's field has norm "
            f"{field:.3g}. Use find_equilibrium(game, start).players, require_equilibrium=False, or at=state."
        )
    if not at_rest:
        notes = (*notes, Note.given_state.filled(moved=float(moved)))
    products = PROBES + COMBINATIONS + len(copies(operator.state.players, operator.state.memory))
    return _Prepared(operator, scales, float(field), float(moved), products, notes)


@dataclasses.dataclass
class _Solver:
    """How the wanted eigenvalues of a matrix are computed; its transpose has them by the same way.

    The Krylov-Schur method on the matrix itself. Where few products do not find the wanted ones, the method goes on
    with shifted systems for those that are nearest to a point. For the rightmost ones of a flow in which rotation
    dominates, whose spectrum is a strip along the imaginary axis, it goes on with LAPACK where the matrix is small, and
    else with the exponential.
    """

    scaled: Scaled
    leading: Leading
    boundary: Boundary
    known: Eigenpairs | None = None  # what the method on the matrix itself shows, where that is not enough

    def measure(self, values: np.ndarray) -> np.ndarray:
        """What is largest for the wanted ones."""
        return self.leading.measure(self.boundary)(values + self.boundary.neutral)

    @property
    def rightmost(self) -> bool:
        """Whether it is the real part that counts."""
        return not self.boundary.discrete and self.leading.target == "outermost"

    @property
    def strip(self) -> Box | None:
        """Where the spectrum lies, if it is one in which the method on the matrix itself does not get far."""
        return Box.around(self.known.seen) if self.known is not None and self.rightmost else None

    def pairs(self, count: int, key: PRNGKeyArray, transposed: bool = False, start: Any = None) -> Eigenpairs:
        """The wanted eigenpairs; residuals may be those that the method itself estimates."""
        operator = self.scaled.transposed() if transposed else self.scaled
        basis, tolerance = self.leading.basis, self.leading.tolerance
        budget = PRODUCTS if self.leading.products is None else self.leading.products
        nearby, spent = not isinstance(self.leading.target, str), 0
        if self.known is None:

            def enough(seen: np.ndarray) -> int:
                soon = operator.size <= WRITTEN if nearby else self.rightmost and Box.around(seen).upright
                return min(budget, FEW) if soon else budget

            # What left vectors belong to is known, and what they miss shows: their residuals are looked at early.
            options: dict[str, Any] = dict(
                basis=basis,
                tolerance=tolerance,
                start=start,
                verify=False,
                quickly=operator.size <= QUICK,
                early=transposed,
            )
            known = krylov_schur(operator, count, self.measure, key=key, products=enough, **options)
            spent = known.products
            if np.all(known.converged) or not (nearby or (self.rightmost and Box.around(known.seen).upright)):
                return known
            self.known = known
            start = jnp.sum(jnp.asarray(np.real(known.vectors), operator.dtype), axis=0) if start is None else start
        budget = LONG * budget if self.leading.products is None else budget
        known = dataclasses.replace(self.known, products=spent)
        if nearby:
            target = complex(self.leading.target) - self.boundary.neutral
            return nearest(operator, count, target, known, key=key, tolerance=tolerance, products=budget)
        if operator.size <= min(DECOMPOSED, budget - spent):
            return decomposed(operator, count, self.measure, known)
        try:
            pairs = rightmost(
                operator, count, Box.around(known.seen), known.norm,
                key=key, basis=basis, tolerance=tolerance, products=budget - spent, start=start,
            )  # fmt: skip
        except FloatingPointError:
            if not spent:
                raise
            return known  # not converged, and says so
        return dataclasses.replace(pairs, products=pairs.products + spent)


def _solve(
    point: _Prepared,
    leading: Leading,
    boundary: Boundary,
    solving: PRNGKeyArray,
    known: _Solution | None = None,
    vector: Any = None,
) -> _Solution:
    """The eigenvalues that were asked for; with `known` once more, by the exponential, from those and a vector."""
    neutral, dtype = boundary.neutral, point.operator.dtype
    scaled = Scaled(point.operator, point.scales, jnp.asarray(neutral, dtype))
    solver = _Solver(scaled, leading, boundary)
    if known is None:
        start = None if leading.start is None else jnp.asarray(leading.start, dtype) / point.scales
    else:
        solver.known = known.solver.known or known.pairs
        start = vector + jnp.sum(jnp.asarray(np.real(known.pairs.vectors), dtype), axis=0)
    pairs = solver.pairs(leading.count, solving, start=start)
    norm = pairs.norm + abs(neutral)
    rounding = ROUNDING * float(jnp.finfo(dtype).eps) * norm
    return _Solution(solver, pairs, pairs.values + neutral, norm, rounding, pairs.products)


def _bound(
    point: _Prepared, solution: _Solution, leading: Leading, boundary: Boundary, bounding: PRNGKeyArray
) -> Bound:
    """A bound on all other eigenvalues, where it may decide."""
    values = solution.values
    inside = bool(np.all(boundary.distance(values) < 0))
    if not (leading.bound and inside and leading.target == "outermost"):
        return Bound(math.inf, leading.failure, 0)
    options: dict[str, Any] = dict(
        key=bounding,
        without=solution.pairs.basis,
        products=leading.bound,
        below=(boundary.neutral + float(boundary.bound(values))) / 2,
    )
    if boundary.discrete:
        return radius_bound(
            Scaled(point.operator, point.scales),
            failure=leading.failure,
            quickly=point.operator.size <= QUICK,
            **options,
        )
    box = solution.solver.strip or Box.around(solution.pairs.seen)
    # Two bounds may be computed, of which one is used: half of the probability for each.
    scaled = Scaled(point.operator, point.scales)
    bound = abscissa_bound(scaled, box, failure=leading.failure / 2, **options)
    return dataclasses.replace(bound, failure=leading.failure)


def _judge(
    point: _Prepared,
    solution: _Solution,
    smooth: str,
    bound: Bound,
    leading: Leading,
    boundary: Boundary,
    others: PRNGKeyArray,
) -> LeadingStability:
    """Errors of the eigenvalues, and what they and the bound decide."""
    pairs, values = solution.pairs, solution.values
    products = point.products + solution.products + (DIRECTIONS if leading.quotients else 0) + bound.products
    order = boundary.order(values)
    conditions, left = np.full(len(values), np.nan), None
    seems_unstable = bool(np.any(boundary.distance(values) > pairs.residuals + solution.rounding))
    wanted = leading.conditions or bound.value < boundary.neutral or (leading.conditions is None and seems_unstable)
    if wanted or (leading.conditions is None and solution.solver.strip is not None):
        players = point.operator.state.players
        conditions, left, spent = _conditions(solution.solver, pairs, players, others, symmetry=not wanted)
        products += spent
    errors = np.where(np.isnan(conditions), np.inf, conditions * (pairs.residuals + solution.rounding))
    outward = boundary.outward(values)
    certain = np.isfinite(errors)
    lower = float(np.max((outward - errors)[certain], initial=boundary.least))
    upper = max(float(np.max(outward + errors)), bound.value)
    remarks = [*point.notes]
    verdict = Verdict.marginal
    if smooth == Smoothness.none.label:
        remarks.append(Note.not_probed.filled())
    elif smooth != "smooth":
        remarks.append(Note[Smoothness.of(smooth).name].filled())
    elif lower > boundary.neutral:
        verdict = Verdict.unstable
    elif upper < boundary.neutral:
        verdict = Verdict.stable
    if verdict is Verdict.stable and (switches := point.operator.switches()):
        remarks.append(Note.thin_cones.filled(count=switches, directions=DIRECTIONS))
    if verdict is Verdict.marginal and smooth == "smooth":
        remarks.append(Note.undecided.filled(lower=lower, upper=upper, name=boundary.bound_name))
    if not np.all(pairs.converged):
        remarks.append(Note.not_converged.filled(count=int(np.sum(~pairs.converged)), products=pairs.products))
    worst = float(boundary.bound(values))
    vectors = _units(pairs.vectors * np.asarray(point.scales))
    left = None if left is None else _units(left / np.asarray(point.scales))
    with np.errstate(divide="ignore"):
        rate = float(boundary.rate(worst))
    return LeadingStability(
        kind=boundary.kind,
        eigenvalues=values[order],
        residuals=pairs.residuals[order],
        conditions=conditions[order],
        errors=errors[order],
        converged=pairs.converged[order],
        radius=float(np.max(np.abs(values))),
        abscissa=float(np.max(np.real(values))),
        margin=float(boundary.margin(worst)),
        lower=lower,
        upper=upper,
        others=bound.value,
        failure=bound.failure,
        verdict=verdict,
        rate=rate,
        rotation=float(boundary.rotation(values[order[0]])),
        size=point.operator.size,
        norm=solution.norm,
        smoothness=smooth,
        products=products,
        vectors=vectors[order],
        left_vectors=None if left is None else left[order],
        players=point.operator.state.players,
        residual=point.field,
        moved=point.moved,
        notes=tuple(remarks),
    )


def _conditions(
    solver: _Solver, pairs: Eigenpairs, players: Players, key: PRNGKeyArray, symmetry: bool
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Condition numbers of the eigenvalues (NaN where unknown), left vectors, and how many products they took.

    With `symmetry` only where that of a zero-sum game gives them at no great cost.
    Left vectors of the small matrix in the Krylov space of J would cost nothing, but their conditions are many times
    too small where J is far from normal, and errors made of them would not be admitted. As a start for the transpose
    they save hardly any products.
    """
    conditions, vectors = np.full(len(pairs.values), np.nan), np.full_like(pairs.vectors, np.nan)
    try:
        left = _mirrored(solver, pairs, players)
        if left is None and symmetry:
            return conditions, None, 0
        left = solver.pairs(len(pairs.values), key, transposed=True) if left is None else left
    except (NotImplementedError, ValueError, TypeError):  # a step whose program cannot be transposed
        return conditions, None, 0
    for place, value in enumerate(pairs.values):
        nearest = int(np.argmin(np.abs(left.values - value)))
        vector, right = left.vectors[nearest], pairs.vectors[place]
        near = 1e-2 * abs(value) + 1e3 * (left.residuals[nearest] + pairs.residuals[place])
        if abs(left.values[nearest] - value) <= near:
            # A left vector to a value is the conjugate of a right vector of the transpose to the same value.
            overlap = abs(np.sum(vector * right))
            lengths = np.linalg.norm(vector) * np.linalg.norm(right)
            conditions[place] = lengths / overlap if overlap > 0 else np.inf
            vectors[place] = vector.conj()
    return conditions, vectors, left.products


def _mirrored(solver: _Solver, pairs: Eigenpairs, players: Players) -> Eigenpairs | None:
    r"""Eigenpairs of the transpose that follow by a symmetry, or `None` where the game does not have it.

    In a zero-sum game of two players under a flow $J = D \Sigma S$: S symmetric, $\Sigma = \operatorname{diag}(1, -1)$
    and D positive by player. Where $J x = \lambda x$, then $J^T u = \lambda u$ for $u = (x_1, -c\,x_2)$ with one c for
    all; whether it is so shows in the products.
    """
    size = solver.scaled.size
    if solver.boundary.discrete or len(players) != 2 or _trees.size(players) != size:
        return None
    count = _trees.size(players[0])
    parts = np.stack([pairs.vectors, pairs.vectors])
    parts[0, :, count:], parts[1, :, :count] = 0, 0
    rows = np.concatenate([np.real(parts), np.imag(parts)]).reshape(-1, size).astype(solver.scaled.dtype)
    images = np.asarray(products_with(solver.scaled.transposed(), jnp.asarray(rows)), float).reshape(2, *parts.shape)
    defects = images[0] + 1j * images[1] - pairs.values[:, None] * parts  # of both halves, of every vector
    first, second = defects.reshape(2, -1)
    ratio = -float(np.vdot(second, first).real) / max(float(np.vdot(second, second).real), 1e-300)
    vectors = parts[0] + ratio * parts[1]
    lengths = np.linalg.norm(vectors, axis=1)
    residuals = np.linalg.norm(defects[0] + ratio * defects[1], axis=1) / np.where(lengths > 0, lengths, 1)
    if not np.all(residuals <= 4 * np.maximum(pairs.residuals, pairs.allowed * pairs.norm)) or not np.all(lengths > 0):
        return None
    units = vectors / lengths[:, None]
    return dataclasses.replace(pairs, vectors=units, residuals=residuals, products=len(rows))


@filter_jit_quickly
def _prepared(operator: StateOperator, scaled: bool, key: PRNGKeyArray) -> tuple[Array, ...]:
    """Scales, the norm of a product, that of the game's field, how far a step moves the state, and the state's norm."""
    flat, function = operator.function()
    value = function(flat)
    defect = value - flat if isinstance(operator.method, Update) else value
    field = operator.game.field(operator.state.players, operator.key)
    memory = eqx.filter(operator.state.memory, eqx.is_inexact_array)
    directions = jax.random.normal(key, (PROBES, flat.size), flat.dtype)
    scales, image = memory_scales(operator.product(), operator.state.players, memory, directions)
    scales = scales if scaled else jnp.ones_like(scales)
    return scales, jnp.linalg.norm(image), _trees.norm(field), jnp.linalg.norm(defect), jnp.linalg.norm(flat)


def _verified(
    operator: StateOperator, scaled: Scaled, pairs: Eigenpairs, measure: Measure, key: PRNGKeyArray
) -> tuple[Eigenpairs, str]:
    """The pairs from products with their vectors, and what difference quotients say of the Jacobian.

    Along the leading vector and random directions the quotients have to agree with the products at some distance,
    within a tenth; where rounding hides them at all distances nothing is said.
    """
    scales, vector = scaled.scales, pairs.vectors[0] * np.asarray(scaled.scales)
    players = _trees.size(operator.state.players)
    random = np.asarray(jax.random.normal(key, (DIRECTIONS - 2, operator.size), operator.dtype))
    directions = np.stack([vector.real, vector.imag if np.any(vector.imag) else vector.real, *random])
    directions[:, players:] = 0  # memory such as a mean square must not become negative
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = (directions / np.where(lengths > 0, lengths, 1)).astype(operator.dtype)
    size = float(_trees.norm(operator.state.players)) + 1
    distances = jnp.asarray(QUOTIENTS, operator.dtype) * size / math.sqrt(players)
    images, apart, wrong, noise = map(
        np.asarray, _quotients(operator, scales, scaled.shift, jnp.asarray(pairs.basis), directions, distances)
    )
    pairs = pairs.verified(images, measure)
    seen = (noise < 0.1) & (lengths[:, 0] > 0)
    judged = seen.any(axis=0)
    for name, disagreement in (("inconsistent", wrong), ("kinked", apart)):
        if np.any(judged & ~np.any(seen & (disagreement <= 0.1 + noise), axis=0)):
            return pairs, name
    return pairs, "smooth"


@filter_jit_quickly
def _quotients(
    operator: StateOperator, scales: Array, shift: Array, basis: Array, directions: Array, distances: Array
) -> tuple[Array, ...]:
    """Products of the scaled matrix with the rows of a basis, and difference quotients of the map on the players.

    By distance and direction, relative to the derivative: how far those ahead and back are apart, how far their mean
    is from the product, and what rounding makes of them. Where the derivative vanishes, as along the eigenvectors of 0
    of a flow, they are relative to a small share of the largest.
    """
    flat, function = operator.function()
    product, count = operator.product(), _trees.size(operator.state.players)
    epsilon, tiny, kept = float(jnp.finfo(flat.dtype).eps), jnp.finfo(flat.dtype).tiny, len(basis)

    def image(index: Array) -> Array:
        row = basis[jnp.minimum(index, kept - 1)]
        direction = directions[jnp.maximum(index - kept, 0)]
        answer = product(jnp.where(index < kept, row * scales, direction))
        return jnp.where(index < kept, answer / scales - shift * row, answer)

    images = jax.lax.map(image, jnp.arange(kept + len(directions)))
    slopes = images[kept:, :count]
    # The value at the point first, and then at two points for every distance and direction: no more than one value at
    # a time, and the program of the map once.
    number = len(distances) * len(directions)
    which = jnp.concatenate([jnp.zeros(1, int), jnp.repeat(jnp.arange(number), 2)])
    signs = jnp.concatenate([jnp.zeros(1), jnp.tile(jnp.asarray([1.0, -1.0]), number)]).astype(flat.dtype)

    def quotient(carry: tuple[Array, Array], place: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        value, ahead = carry
        place_of, sign = place
        distance, slope = distances[place_of // len(directions)], slopes[place_of % len(directions)]
        new = function(flat + sign * distance * directions[place_of % len(directions)])[:count]
        back = (value - new) / distance
        apart, wrong = jnp.linalg.norm(ahead - back), jnp.linalg.norm((ahead + back) / 2 - slope)
        return (jnp.where(sign == 0, new, value), (new - value) / distance), jnp.stack([apart, wrong])

    nothing = jnp.zeros(count, flat.dtype)
    (value, _), disagreements = jax.lax.scan(quotient, (nothing, nothing), (which, signs))
    apart, wrong = disagreements[2::2].T.reshape(2, len(distances), len(directions))
    lengths = jnp.linalg.norm(slopes, axis=1)
    largest = jnp.max(lengths)  # the point is rounded as well, and its derivative tells what that does to the value
    lengths = jnp.maximum(lengths, SMALL * largest) + tiny
    rounding = 8 * epsilon * (jnp.linalg.norm(value) + largest * jnp.linalg.norm(flat[:count]))
    noise = rounding / (distances[:, None] * lengths)
    return images[:kept], apart / lengths, wrong / lengths, noise


def _units(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors, row by row; NaN stays where no vector is known."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return vectors / np.where(lengths > 0, lengths, 1)


def _range(lower: float, upper: float) -> str:
    if not math.isfinite(upper):
        return f"at least {lower:.8g}" if math.isfinite(lower) else "not known"
    return f"between {lower:.8g} and {upper:.8g}"
