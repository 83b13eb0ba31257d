"""Verdicts of many linearisations at once, by the rules of `dynamics.stability`; on the host, in NumPy."""

import enum
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dynamics.analysis.equilibria import EquilibriumError
from dynamics.analysis.linearisation import Linearisation, without_limit
from dynamics.analysis.report import FAINT, Stability, Verdict


class Predicted(enum.IntEnum):
    """What `predicted_verdict` holds; `none`: no equilibrium is known, or a kink whose pieces were not judged."""

    none = -1
    stable = 0
    unstable = 1
    marginal = 2


class Smoothness(enum.IntEnum):
    """What `predicted_smoothness` holds; see `dynamics.analysis.Stability`."""

    none = -1
    smooth = 0
    stiff = 1
    kinked = 2
    discontinuous = 3
    not_differentiable = 4


class Predictions(NamedTuple):
    """Per cell: verdict and smoothness as numbers, radius (maps) or abscissa (flows), rate."""

    verdict: np.ndarray
    smoothness: np.ndarray
    reach: np.ndarray
    rate: np.ndarray


def judge(
    linear: Linearisation,
    vanishing: np.ndarray,
    sizes: np.ndarray,
    kind: str,
    one_by_one: Callable[[int], Stability],
) -> Predictions:
    """Verdicts of a batch of linearisations.

    Almost all cells are decided by the Bauer-Fike theorem, many at a time. The others are handed to `one_by_one`: a
    verdict that needs more than that theorem, a manifold of equilibria, memory that stays where it is put.

    Args:
        linear: arrays with a leading axis.
        vanishing: whether the Jacobian was taken in the limit of vanishing memory.
        sizes: largest coordinate of each equilibrium in absolute value.
        kind: "map" or "flow".
        one_by_one: the report on one cell.
    """
    with np.errstate(all="ignore"):
        return _judge(linear, vanishing, sizes, kind, one_by_one)


def _judge(linear, vanishing, sizes, kind, one_by_one) -> Predictions:
    is_map = kind == "map"
    neutral = 1.0 if is_map else 0.0
    jacobian = np.array(linear.jacobian)
    count, size, _ = jacobian.shape
    for index in np.flatnonzero(vanishing):
        if without_limit(jacobian[index]):
            jacobian[index] = np.nan
    finite = np.isfinite(jacobian).all(axis=(1, 2))
    smoothness = _smoothness(linear, finite)
    identity = np.eye(size, dtype=jacobian.dtype)
    allowed = _tolerance(linear.game_jacobian, sizes)
    still = _tolerance(jacobian - identity if is_map else jacobian, sizes)
    known = (linear.residual <= allowed) & (linear.defect <= np.maximum(still, allowed))

    verdict = np.full(count, Predicted.none, np.int8)
    reach, rate = np.full(count, np.nan), np.full(count, np.nan)
    smoothness[~known] = Smoothness.none
    verdict[known & ~finite] = Predicted.marginal
    sharp = (smoothness == Smoothness.kinked) & ~vanishing
    faint = sharp & (np.max(linear.kinks, axis=(1, 2)) < FAINT)
    alone = known & finite & (faint | (~sharp & _neutral(linear, jacobian, is_map)))

    for index in np.array_split(np.flatnonzero(known & finite & ~sharp & ~alone), max(1, count // 8192)):
        proved, open_, reach[index], rate[index] = _proved(jacobian[index], is_map)
        rough = np.isin(smoothness[index], (Smoothness.kinked, Smoothness.discontinuous))
        decided = np.where(reach[index] < neutral, Predicted.stable, Predicted.unstable)
        verdict[index] = np.where(proved & ~rough, decided, Predicted.marginal)
        alone[index] |= open_ & ~rough
    smoothness[known & vanishing & np.isin(smoothness, (Smoothness.kinked, Smoothness.discontinuous))] = (
        Smoothness.stiff
    )
    for index in np.flatnonzero(alone):
        try:
            report = one_by_one(int(index))
        except EquilibriumError:
            verdict[index], smoothness[index] = Predicted.none, Smoothness.none
            reach[index] = rate[index] = np.nan
            continue
        verdict[index] = Predicted[Verdict(report.verdict).value]
        smoothness[index] = Smoothness[report.smoothness.replace(" ", "_")]
        reach[index], rate[index] = report.radius if is_map else report.abscissa, report.rate
    return Predictions(verdict, smoothness, reach, rate)


def _smoothness(linear: Linearisation, finite: np.ndarray) -> np.ndarray:
    """`dynamics.analysis.linearisation.is_smooth`, cell by cell."""
    coarse, fine = np.moveaxis(np.asarray(linear.kinks), 1, 0)
    wrong, still_wrong = np.moveaxis(np.asarray(linear.errors), 1, 0)
    jumps = ((fine > 1) & (fine > 4 * coarse)).any(axis=1)
    jumps |= ((still_wrong > 1) & (still_wrong > 4 * wrong)).any(axis=1)
    kinks = ((fine > 1) & (fine > coarse / 4)).any(axis=1)
    stiff = ((still_wrong > 1) & (still_wrong > wrong / 4)).any(axis=1)
    names = (Smoothness.not_differentiable, Smoothness.discontinuous, Smoothness.kinked, Smoothness.stiff)
    return np.select([~finite, jumps, kinks, stiff], names, Smoothness.smooth).astype(np.int8)


def _tolerance(jacobian: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The largest norm of a field that passes for 0, as in `dynamics.stability`."""
    norms = np.linalg.norm(jacobian.astype(float), axis=(1, 2))
    return float(np.finfo(jacobian.dtype).eps) ** 0.5 * (1 + sizes) * np.where(np.isfinite(norms), norms, 1.0)


def _rounding_bound(jacobian: np.ndarray) -> np.ndarray:
    """`dynamics.analysis.certificates.rounding_bound`, matrix by matrix."""
    norms = np.maximum(np.linalg.norm(jacobian, axis=(1, 2)).astype(float), 1e-300)
    return 8 * np.sqrt(jacobian.shape[-1]) * float(np.finfo(jacobian.dtype).eps) * norms


def _neutral(linear: Linearisation, jacobian: np.ndarray, is_map: bool) -> np.ndarray:
    """Where there may be directions that decide nothing: along a manifold of equilibria, or of memory that stays."""
    game = np.asarray(linear.game_jacobian)
    size = game.shape[-1]
    usable = np.isfinite(game).all(axis=(1, 2))
    singular = np.linalg.svd(np.where(usable[:, None, None], game, 0), compute_uv=False)
    scale = np.where(singular[:, 0] > 0, singular[:, 0], 1)
    found = usable & (singular[:, -1] <= 64 * size * float(np.finfo(game.dtype).eps) * scale)
    if is_map and jacobian.shape[-1] > size:
        usable = np.isfinite(jacobian).all(axis=(1, 2))
        rest = np.where(usable[:, None, None], jacobian - np.eye(jacobian.shape[-1], dtype=jacobian.dtype), 0)
        singular = np.linalg.svd(rest[:, :, size:], compute_uv=False)
        found |= usable & (singular[:, -1] <= _rounding_bound(jacobian))
    return found


def _proved(jacobian: np.ndarray, is_map: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether each verdict is proved, whether that is still open, radius or abscissa, and rate."""
    neutral = 1.0 if is_map else 0.0
    matrix = jacobian.astype(float)
    if not len(matrix):
        return np.zeros(0, bool), np.zeros(0, bool), np.zeros(0), np.zeros(0)
    values, vectors = np.linalg.eig(matrix)
    condition = np.linalg.cond(vectors)
    outward = np.abs(values) if is_map else values.real
    reach = np.max(outward, axis=1)
    perturbation = _rounding_bound(jacobian)
    proved, refuted = _side(values, matrix, perturbation, condition, is_map)
    # An unstable verdict may be proved on a curve outside the boundary that leaves eigenvalues beyond.
    beyond = np.sort(np.maximum(outward, neutral), axis=1)
    gaps = np.diff(beyond, prepend=neutral, axis=1)
    upper = np.argmax(gaps, axis=1)
    curve = np.take_along_axis(beyond - gaps / 2, upper[:, None], axis=1)
    unstable = reach > neutral
    curve = np.where(unstable[:, None], curve, 1.0 if is_map else 0.0)
    if is_map:
        shifted, values, perturbation = matrix / curve[:, :, None], values / curve, perturbation / curve[:, 0]
    else:
        shifted, values = matrix - curve[:, :, None] * np.eye(matrix.shape[-1]), values - curve
    proved_beyond, refuted_beyond = _side(values, shifted, perturbation, condition, is_map)
    proved, refuted = proved | (unstable & proved_beyond), refuted & (~unstable | refuted_beyond)
    return proved, ~(proved | refuted), reach, np.log(reach) if is_map else reach


def _side(values, matrix, perturbation, condition, is_map: bool) -> tuple[np.ndarray, np.ndarray]:
    """The first steps of `certificates.keeps_its_side`: proved by the Bauer-Fike theorem, refused at once, neither."""
    gaps = np.min(np.abs(np.abs(values) - 1) if is_map else np.abs(values.real), axis=1)
    rounding = matrix.shape[-1] * np.finfo(float).eps * np.linalg.norm(matrix, axis=(1, 2))
    needed = 2 * (perturbation + 4 * rounding)
    refused = ~(gaps > needed)
    return ~refused & (gaps > condition * needed), refused
