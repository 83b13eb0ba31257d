"""The verdict of eigenvalues, and how far rounding may have moved them."""

import numpy as np
import scipy.linalg
from jaxtyping import Array

from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, UNIT_CIRCLE, Boundary
from dynamics.analysis.stability.certificates import (
    SMALLEST,
    frobenius,
    keeps_its_side,
    rounding_bound,
    scale_of,
    widest_gap,
    without_neutral,
)
from dynamics.analysis.stability.linearisation import Linearisation, Smoothness, is_finite
from dynamics.analysis.stability.notes import Note, Verdict
from dynamics.analysis.stability.report import Judgement, Stability, report_of
from dynamics.game import Players

COMPUTED = 10  # a margin of so many computed errors decides without a proof


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
    judged = judge_eigenvalues(linear, boundary, dimension, kept, smoothness)
    return report_of(linear, boundary, dimension, sizes, players, judged, judged.notes)


def judge_nothing(linear: Linearisation, boundary: Boundary, dimension: int) -> Judgement:
    """Of a method that does not come to rest: eigenvalues, and no number, as none is that of a linear map."""
    smooth = "smooth" if is_finite(linear.jacobian) else "not differentiable"
    judged = judge_eigenvalues(linear, boundary, dimension, 0, smooth)
    return Judgement(judged.eigenvalues, smoothness=smooth, neutral=judged.neutral)


def judge_eigenvalues(
    linear: Linearisation,
    boundary: Boundary,
    dimension: int,
    kept: int,
    smoothness: str,
    scales: np.ndarray | None = None,
) -> Judgement:
    jacobian, epsilon = np.asarray(linear.jacobian), float(linear.epsilon)
    if scales is not None:  # powers of two: a similar matrix without rounding
        jacobian = jacobian * scales / scales[:, None]
    if smoothness == "not differentiable":
        nothing = np.full(len(jacobian), complex(float("nan"), float("nan")))
        return Judgement(nothing, smoothness=smoothness, notes=(Note.not_differentiable.filled(),))
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
    return Judgement(
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


def eigenvalues_with_errors(matrix: np.ndarray | Array, epsilon: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Eigenvalues with first-order bounds on their rounding errors, $\kappa_i\,\|\Delta\|$.

    $\kappa_i = 1/|y_i^* x_i|$ is the eigenvalue's condition number and $\|\Delta\|$ a bound on the error of a matrix
    that was computed in its dtype; an eigenvalue of an exact Jordan block of size m gets $\|\Delta\|^{1/m}$, with m at
    most n. Source: Golub and Van Loan, Matrix Computations, section 7.2.2.
    """
    matrix = np.asarray(matrix)
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
