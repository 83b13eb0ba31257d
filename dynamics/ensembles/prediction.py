"""Verdicts of many linearisations at once, by the rules of `dynamics.stability`; on the host, in NumPy."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from dynamics import _locks
from dynamics.analysis.equilibria.newton import EquilibriumError, Reach, accuracy_of, manifold_dimensions, vanishes
from dynamics.analysis.normal_forms.expansion import Task, together
from dynamics.analysis.stability.boundary import Boundary
from dynamics.analysis.stability.certificates import bauer_fike, frobenius, rounding_bound, scale_of, widest_gap
from dynamics.analysis.stability.eigenvalues import assess
from dynamics.analysis.stability.fixed_point import defect_vanishes
from dynamics.analysis.stability.kept_memory import may_keep_memory
from dynamics.analysis.stability.linearisation import (
    Closely,
    Linearisation,
    closer_smoothness,
    smoothness,
    without_limit,
)
from dynamics.analysis.stability.linearisation import Smoothness as Smoothness
from dynamics.analysis.stability.report import Stability
from dynamics.analysis.stability.verdict import FAINT

TOGETHER = 1024  # cells that are judged side by side beyond their linear part


class Predicted(enum.IntEnum):
    """What `predicted_verdict` holds: the names of `dynamics.analysis.Verdict`.

    `none`: no equilibrium is known, a kink whose pieces were not judged, or an update that neither comes to rest nor
    repeats.
    """

    none = -1
    stable = 0
    unstable = 1
    marginal = 2
    neutral = 3


class Predictions(NamedTuple):
    """Per cell: verdict and smoothness as numbers, radius (maps) or abscissa (flows), rate, rotation."""

    verdict: np.ndarray
    smoothness: np.ndarray
    reach: np.ndarray
    rate: np.ndarray
    rotation: np.ndarray


# From rows of cells and their Jacobians: difference quotients ever closer to the equilibria; see `cells.probe_cells`.
Closer = Callable[[np.ndarray, np.ndarray], Closely]


def judge(
    linear: Linearisation,
    vanishing: np.ndarray | Array,
    points: np.ndarray,
    boundary: Boundary,
    reach_along: Reach,
    closer: Closer,
    one_by_one: Callable[[int], Task[Stability]],
    period: int = 1,
    higher: bool = False,
) -> Predictions:
    """Verdicts of a batch of linearisations.

    Almost all cells are decided by the Bauer-Fike theorem, many at a time. Where it decides nothing, and on manifolds
    of equilibria, `assess` looks at the cell; where memory stays where it is put, or, if asked for, where eigenvalues
    on the boundary leave the decision to higher orders, `one_by_one` does.

    Args:
        linear: arrays with a leading axis.
        vanishing: whether the Jacobian was taken in the limit of vanishing memory.
        points: the equilibria, flattened, shape (cells, n).
        boundary: the unit circle for maps, the imaginary axis for flows.
        reach_along: see `Reach`.
        closer: see `Closer`.
        one_by_one: the full report on the cell of a row, as a task.
        period: steps of the method in what was linearised; rates are per step.
        higher: whether `one_by_one` looks at cells with eigenvalues on the boundary, or a jump.
    """
    with np.errstate(all="ignore"):
        return _judge(linear, vanishing, points, boundary, reach_along, closer, one_by_one, period, higher)


def _judge(linear, vanishing, points, boundary, reach_along, closer, one_by_one, period, higher) -> Predictions:
    jacobian = np.array(linear.jacobian)
    count, size, _ = jacobian.shape
    for index in np.flatnonzero(vanishing):
        if without_limit(jacobian[index]):
            jacobian[index] = np.nan
    finite = np.isfinite(jacobian).all(axis=(1, 2))
    names = smoothness(linear.kinks, linear.errors, finite)
    epsilon = float(np.max(linear.epsilon, initial=0))
    accuracy = accuracy_of(points)
    passes, allowed = vanishes(linear.residual, linear.game_jacobian, points, epsilon, accuracy)
    still, _ = defect_vanishes(linear._replace(jacobian=jacobian), allowed, epsilon, accuracy, boundary)
    known = passes.all(axis=1) & still.all(axis=1) & linear.rests
    unsure = np.flatnonzero(known & np.isin(names, ("stiff", "kinked", "discontinuous")))
    if len(unsure):
        closely = closer(unsure, jacobian[unsure])
        for row, *leaves in zip(unsure, *closely, strict=True):
            names[row] = closer_smoothness(Closely(*leaves), str(names[row]), bool(linear.switching[row] > 0))
    smooth = np.array([Smoothness.of(name) for name in names.tolist()], np.int8)

    verdict = np.full(count, Predicted.none, np.int8)
    reach, rate, rotation = np.full((3, count), np.nan)
    smooth[~known] = Smoothness.none
    verdict[known & ~finite] = Predicted.marginal
    kinked = (smooth == Smoothness.kinked) & ~vanishing
    rough = np.isin(smooth, (Smoothness.kinked, Smoothness.discontinuous, Smoothness.inconsistent))
    faint = kinked & (np.max(linear.kinks, axis=(1, 2)) < FAINT)
    usable = known & finite
    full = usable & (faint | (~kinked & may_keep_memory(jacobian, points.shape[-1], epsilon, boundary)))
    usable &= ~kinked & ~full
    dimension = np.zeros(count, int)
    rows = np.flatnonzero(usable)
    dimension[rows] = manifold_dimensions(
        np.asarray(linear.game_jacobian)[rows], lambda chosen, directions: reach_along(rows[chosen], directions)
    )

    open_ = usable & (dimension > 0)
    for index in np.array_split(np.flatnonzero(usable & ~open_), max(1, count // 8192)):
        proved, undecided, reach[index], rate[index], rotation[index] = _proved(jacobian[index], boundary, epsilon)
        decided = np.where(reach[index] < boundary.neutral, Predicted.stable, Predicted.unstable)
        verdict[index] = np.where(proved & ~rough[index], decided, Predicted.marginal)
        open_[index] = undecided & ~rough[index]

    def enter(row: int | np.intp, report: Stability) -> None:
        verdict[row] = Predicted[report.verdict]
        reach[row], rate[row] = boundary.bound_of(report), report.rate
        rotation[row] = report.rotation

    for row in np.flatnonzero(open_):
        of_cell = Linearisation(*(leaf[row] for leaf in linear))._replace(jacobian=jacobian[row])
        name = Smoothness(int(smooth[row])).label
        enter(row, assess(of_cell, boundary, int(dimension[row]), [len(of_cell.game_jacobian)], (), 0, name))
    if period > 1:
        reach, rate, rotation = reach ** (1 / period), rate / period, rotation / period
    asked = np.isin(smooth, (Smoothness.smooth, Smoothness.discontinuous))
    full |= higher & (verdict == Predicted.marginal) & usable & asked & ~vanishing
    rows = np.flatnonzero(full)
    for chosen in np.array_split(rows, -(-len(rows) // TOGETHER)) if len(rows) else []:
        with _locks.tracing:
            reports = together([one_by_one(int(row)) for row in chosen])
        for row, report in zip(chosen, reports, strict=True):
            if isinstance(report, EquilibriumError):
                smooth[row] = Smoothness.none
                continue
            if isinstance(report, Exception):
                raise report
            enter(row, report)
            smooth[row] = Smoothness.of(report.smoothness)
    return Predictions(verdict, smooth, reach, rate, rotation)


def _proved(jacobian: np.ndarray, boundary: Boundary, epsilon: float | None = None) -> tuple[np.ndarray, ...]:
    """Whether each verdict is proved, whether that is still open, radius or abscissa, rate, and rotation."""
    matrix = jacobian.astype(float)
    if not len(matrix):
        return np.zeros(0, bool), np.zeros(0, bool), *np.zeros((3, 0))
    if matrix.shape[-1] == 2:
        proved = proved_planar(matrix.reshape(-1, 4).T, rounding_bound(jacobian, epsilon), boundary, np)
        norms = frobenius(matrix)
        if extreme := np.flatnonzero((norms > 1e100) | (norms < 1e-100)).tolist():  # squares would over- or underflow
            for values, exact in zip(
                proved, _proved_by_eigenvectors(jacobian[extreme], boundary, epsilon), strict=True
            ):
                values[extreme] = exact
        return proved
    return _proved_by_eigenvectors(jacobian, boundary, epsilon)


def _proved_by_eigenvectors(
    jacobian: np.ndarray, boundary: Boundary, epsilon: float | None = None
) -> tuple[np.ndarray, ...]:
    neutral, matrix = boundary.neutral, jacobian.astype(float)
    scale = scale_of(matrix)[:, None]
    values, vectors = np.linalg.eig(matrix / scale[:, :, None])
    values = values * scale
    condition = np.linalg.cond(vectors)
    outward = boundary.outward(values)
    reach = np.max(outward, axis=1)
    leading = np.take_along_axis(values, np.argmax(outward, axis=1)[:, None], axis=1)[:, 0]
    rotation = boundary.rotation(leading)
    perturbation = rounding_bound(jacobian, epsilon)
    proved, refuted, _ = bauer_fike(values, condition, matrix, perturbation, boundary)
    # An unstable verdict may be proved on a curve outside the boundary that leaves eigenvalues beyond.
    unstable = reach > neutral
    curve = np.where(unstable, widest_gap(outward, neutral), neutral)
    shifted, values = boundary.relative(curve, matrix), boundary.value_relative(curve, values)
    perturbation = boundary.length_relative(curve, perturbation)
    proved_beyond, refuted_beyond, _ = bauer_fike(values, condition, shifted, perturbation, boundary)
    proved, refuted = proved | (unstable & proved_beyond), refuted & (~unstable | refuted_beyond)
    return proved, ~(proved | refuted), reach, boundary.rate(reach), rotation


def proved_planar(entries: Any, perturbation: Any, boundary: Boundary, xp: Any) -> tuple[Any, ...]:
    r"""`_proved` for matrices of two rows, in closed form and in real arithmetic.

    Half the trace m and the discriminant $\delta=((a-d)/2)^2+bc$ give the eigenvalues $m\pm\sqrt\delta$; the one that
    would be a difference of nearly equal numbers is the determinant over the other. Their eigenvectors have condition
    number $(n+\sqrt{n^2+4|\delta|})/(2\sqrt{|\delta|})$, with the departure from normality n, $|b-c|$ where they are
    real and $\sqrt{(a-d)^2+(b+c)^2}$ elsewhere. Where the Bauer-Fike theorem decides nothing,
    $\sigma_{min}(zI-A)\ge|\det(zI-A)|/\|zI-A\|_F$ may: it holds for double eigenvalues as well.

    Args:
        entries: a, b, c, d, arrays of one shape: the rows of A are (a, b) and (c, d).
        perturbation: bounds on the errors of A, likewise.
        boundary: the unit circle or the imaginary axis.
        xp: `numpy`, or `jax.numpy`, then traceable.
    """
    a, b, c, d = entries
    middle, half = (a + d) / 2, (a - d) / 2
    discriminant = half * half + b * c
    real = discriminant >= 0
    root = xp.sqrt(xp.abs(discriminant))
    larger = middle + xp.where(middle < 0, -root, root)
    smaller = xp.where(larger == 0, 0, (a * d - b * c) / xp.where(larger == 0, 1, larger))
    first, second, rotation = boundary.planar(larger, smaller, middle, root, real, xp)
    low, reach = xp.minimum(first, second), xp.maximum(first, second)
    apart = 2 * root
    departure = xp.where(real, xp.abs(b - c), xp.sqrt((2 * half) ** 2 + (b + c) ** 2))
    spread = departure + xp.sqrt(departure**2 + apart**2)
    rounding = 2 * float(xp.finfo(middle.dtype).eps)

    def side(curve: Any) -> tuple[Any, Any]:
        first, second = xp.abs(low - curve), xp.abs(reach - curve)
        norm, reached = boundary.planar_norms((a, b, c, d), curve, xp)
        needed = 2 * (perturbation + 4 * rounding * norm)
        gap = xp.minimum(first, second)
        refused = ~(gap > needed)
        proved = xp.where(departure == 0, True, gap * apart > spread * needed) | (first * second > 2 * needed * reached)
        return ~refused & proved, refused

    neutral = boundary.neutral
    proved, refuted = side(neutral)
    # An unstable verdict may be proved on a curve outside the boundary that leaves eigenvalues beyond.
    inner, outer = xp.maximum(low, neutral), xp.maximum(reach, neutral)
    curve = xp.where(inner - neutral >= outer - inner, (neutral + inner) / 2, (inner + outer) / 2)
    proved_beyond, refuted_beyond = side(curve)
    unstable = reach > neutral
    proved, refuted = proved | (unstable & proved_beyond), refuted & (~unstable | refuted_beyond)
    return proved, ~(proved | refuted), reach, boundary.rate(reach, xp), rotation
