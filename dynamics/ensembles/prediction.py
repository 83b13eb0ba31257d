"""Verdicts of many linearisations at once, by the rules of `dynamics.stability`; on the host, in NumPy."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dynamics.analysis.equilibria import (
    EquilibriumError,
    eigenvalue_rounding,
    singular_rounding,
    stays_on_manifold,
)
from dynamics.analysis.linearisation import Linearisation, without_limit
from dynamics.analysis.report import FAINT, Stability, Verdict, assess


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
    """Per cell: verdict and smoothness as numbers, radius (maps) or abscissa (flows), rate, rotation."""

    verdict: np.ndarray
    smoothness: np.ndarray
    reach: np.ndarray
    rate: np.ndarray
    rotation: np.ndarray


# From rows of cells and directions from their equilibria, (cells, directions, n): where Newton's method ends from a
# point along each, (cells, directions, n), and the field there, (cells, directions, 4); see `cells.reach_along`.
Reach = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def judge(
    linear: Linearisation,
    vanishing: np.ndarray,
    sizes: np.ndarray,
    kind: str,
    reach_along: Reach,
    one_by_one: Callable[[int], Stability],
) -> Predictions:
    """Verdicts of a batch of linearisations.

    Almost all cells are decided by the Bauer-Fike theorem, many at a time. Where it decides nothing, and on manifolds
    of equilibria, `assess` looks at the cell; where memory stays where it is put, `one_by_one` does.

    Args:
        linear: arrays with a leading axis.
        vanishing: whether the Jacobian was taken in the limit of vanishing memory.
        sizes: largest coordinate of each equilibrium in absolute value.
        kind: "map" or "flow".
        reach_along: see `Reach`.
        one_by_one: the full report on the cell of a row.
    """
    with np.errstate(all="ignore"):
        return _judge(linear, vanishing, sizes, kind, reach_along, one_by_one)


def _judge(linear, vanishing, sizes, kind, reach_along, one_by_one) -> Predictions:
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
    reach, rate, rotation = np.full((3, count), np.nan)
    smoothness[~known] = Smoothness.none
    verdict[known & ~finite] = Predicted.marginal
    kinked = (smoothness == Smoothness.kinked) & ~vanishing
    rough = np.isin(smoothness, (Smoothness.kinked, Smoothness.discontinuous))
    faint = kinked & (np.max(linear.kinks, axis=(1, 2)) < FAINT)
    usable = known & finite
    full = usable & (faint | (~kinked & _keeps_memory(linear, jacobian, is_map)))
    usable &= ~kinked & ~full
    dimension = _dimensions(np.asarray(linear.game_jacobian), usable, reach_along)

    open_ = usable & (dimension > 0)
    for index in np.array_split(np.flatnonzero(usable & ~open_), max(1, count // 8192)):
        proved, undecided, reach[index], rate[index], rotation[index] = _proved(jacobian[index], is_map)
        decided = np.where(reach[index] < neutral, Predicted.stable, Predicted.unstable)
        verdict[index] = np.where(proved & ~rough[index], decided, Predicted.marginal)
        open_[index] = undecided & ~rough[index]
    smoothness[vanishing & rough] = Smoothness.stiff

    def enter(row: int, report: Stability) -> None:
        verdict[row] = Predicted[Verdict(report.verdict).value]
        reach[row], rate[row] = report.radius if is_map else report.abscissa, report.rate
        rotation[row] = report.rotation

    for row in np.flatnonzero(open_):
        own = Linearisation(*(leaf[row] for leaf in linear))._replace(jacobian=jacobian[row])
        enter(row, assess(own, kind, int(dimension[row]), [len(own.game_jacobian)], ()))
    for row in np.flatnonzero(full):
        try:
            report = one_by_one(int(row))
        except EquilibriumError:
            smoothness[row] = Smoothness.none
        else:
            enter(row, report)
            smoothness[row] = Smoothness[report.smoothness.replace(" ", "_")]
    return Predictions(verdict, smoothness, reach, rate, rotation)


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


def _keeps_memory(linear: Linearisation, jacobian: np.ndarray, is_map: bool) -> np.ndarray:
    """Where there may be memory that stays where it is put."""
    size = linear.game_jacobian.shape[-1]
    found = np.zeros(len(jacobian), bool)
    if is_map and jacobian.shape[-1] > size:
        usable = np.isfinite(jacobian).all(axis=(1, 2))
        rest = np.where(usable[:, None, None], jacobian - np.eye(jacobian.shape[-1], dtype=jacobian.dtype), 0)
        singular = np.linalg.svd(rest[:, :, size:], compute_uv=False)
        found = usable & (singular[:, -1] <= _rounding_bound(jacobian))
    return found


def _dimensions(game: np.ndarray, usable: np.ndarray, reach_along: Reach) -> np.ndarray:
    """`dynamics.analysis.equilibria.manifold_dimension` for many cells, by the same rules."""
    count, size, _ = game.shape
    epsilon = float(np.finfo(game.dtype).eps)
    usable = usable & np.isfinite(game).all(axis=(1, 2))
    dimension = np.zeros(count, int)
    singular = np.linalg.svd(np.where(usable[:, None, None], game, 0), compute_uv=False)
    scale = np.where(singular[:, 0] > 0, singular[:, 0], 1).astype(float)
    allowed = singular_rounding(size, game.dtype) * scale
    chosen = np.flatnonzero(usable & (singular[:, -1] <= allowed))
    if not len(chosen):
        return dimension
    scale, allowed = scale[chosen, None], allowed[chosen, None]
    _, singular, directions = np.linalg.svd(game[chosen])
    null = singular <= allowed
    most = min(size, 1 << int(null.sum(axis=1).max() - 1).bit_length())  # few numbers of directions, few programs
    null, directions = null[:, -most:], directions[:, -most:]
    moved, fields = reach_along(chosen, directions)
    on_it = null & stays_on_manifold(moved, fields, epsilon, scale, allowed)
    stayed = np.einsum("cji,cki->ckj", directions, moved)
    stayed = np.where(on_it[:, :, None] & null[:, None, :], stayed, 0)
    found = np.sum(np.linalg.svd(stayed, compute_uv=False) > 0.5, axis=1)
    # Eigenvalues that rounding alone does not explain belong to a slow direction, not to a manifold.
    sizes = np.sort(np.abs(np.linalg.eigvals(game[chosen].astype(float))), axis=1)
    explained = eigenvalue_rounding(size, game.dtype) * np.linalg.norm(game[chosen], axis=(1, 2))
    small = (sizes <= explained[:, None]) | (np.arange(size) >= found[:, None])
    dimension[chosen] = np.where(small.all(axis=1), found, 0)
    return dimension


def _proved(jacobian: np.ndarray, is_map: bool) -> tuple[np.ndarray, ...]:
    """Whether each verdict is proved, whether that is still open, radius or abscissa, rate, and rotation."""
    matrix = jacobian.astype(float)
    if not len(matrix):
        return np.zeros(0, bool), np.zeros(0, bool), *np.zeros((3, 0))
    if matrix.shape[-1] == 2:
        found = proved_planar(matrix.reshape(-1, 4).T, _rounding_bound(jacobian), is_map, np)
        norms = np.linalg.norm(matrix, axis=(1, 2))
        if extreme := np.flatnonzero((norms > 1e100) | (norms < 1e-100)).tolist():  # squares would over- or underflow
            for one, other in zip(found, _proved_by_eigenvectors(jacobian[extreme], is_map), strict=True):
                one[extreme] = other
        return found
    return _proved_by_eigenvectors(jacobian, is_map)


def _proved_by_eigenvectors(jacobian: np.ndarray, is_map: bool) -> tuple[np.ndarray, ...]:
    neutral, matrix = 1.0 if is_map else 0.0, jacobian.astype(float)
    values, vectors = np.linalg.eig(matrix)
    condition = np.linalg.cond(vectors)
    outward = np.abs(values) if is_map else values.real
    reach = np.max(outward, axis=1)
    leading = np.take_along_axis(values, np.argmax(outward, axis=1)[:, None], axis=1)[:, 0]
    rotation = np.abs(np.angle(leading) if is_map else leading.imag)
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
    return proved, ~(proved | refuted), reach, np.log(reach) if is_map else reach, rotation


def _side(values, matrix, perturbation, condition, is_map: bool) -> tuple[np.ndarray, np.ndarray]:
    """The first steps of `certificates.keeps_its_side`: proved by the Bauer-Fike theorem, refused at once, neither."""
    gaps = np.min(np.abs(np.abs(values) - 1) if is_map else np.abs(values.real), axis=1)
    rounding = matrix.shape[-1] * np.finfo(float).eps * np.linalg.norm(matrix, axis=(1, 2))
    needed = 2 * (perturbation + 4 * rounding)
    refused = ~(gaps > needed)
    return ~refused & (gaps > condition * needed), refused


def proved_planar(entries: Any, perturbation: Any, is_map: bool, xp: Any) -> tuple[Any, ...]:
    r"""`_proved` for matrices of two rows, in closed form and in real arithmetic.

    Half the trace m and the discriminant $\delta=((a-d)/2)^2+bc$ give the eigenvalues $m\pm\sqrt\delta$; the one that
    would be a difference of nearly equal numbers is the determinant over the other. Their eigenvectors have condition
    number $(n+\sqrt{n^2+4|\delta|})/(2\sqrt{|\delta|})$, with the departure from normality n, $|b-c|$ where they are
    real and $\sqrt{(a-d)^2+(b+c)^2}$ elsewhere. Where the Bauer-Fike theorem decides nothing,
    $\sigma_{min}(zI-A)\ge|\det(zI-A)|/\|zI-A\|_F$ may: it holds for double eigenvalues as well.

    Args:
        entries: a, b, c, d, arrays of one shape: the rows of A are (a, b) and (c, d).
        perturbation: bounds on the errors of A, likewise.
        is_map: whether the boundary is the unit circle, not the imaginary axis.
        xp: `numpy`, or `jax.numpy`, then traceable.
    """
    a, b, c, d = entries
    middle, half = (a + d) / 2, (a - d) / 2
    discriminant = half * half + b * c
    real = discriminant >= 0
    root = xp.sqrt(xp.abs(discriminant))
    larger = middle + xp.where(middle < 0, -root, root)
    smaller = xp.where(larger == 0, 0, (a * d - b * c) / xp.where(larger == 0, 1, larger))
    if is_map:
        modulus = xp.sqrt(middle * middle + xp.where(real, 0, root * root))
        outward = xp.where(real, xp.abs(larger), modulus), xp.where(real, xp.abs(smaller), modulus)
        rotation = xp.where(real, xp.where(middle < 0, np.pi, 0), xp.arctan2(root, middle))
    else:
        outward = xp.where(real, larger, middle), xp.where(real, smaller, middle)
        rotation = xp.where(real, 0, root)
    low, reach = xp.minimum(*outward), xp.maximum(*outward)
    apart = 2 * root
    departure = xp.where(real, xp.abs(b - c), xp.sqrt((2 * half) ** 2 + (b + c) ** 2))
    spread = departure + xp.sqrt(departure**2 + apart**2)
    rounding = 2 * float(xp.finfo(middle.dtype).eps)

    def side(curve: Any) -> tuple[Any, Any]:
        first, second = xp.abs(low - curve), xp.abs(reach - curve)
        if is_map:  # a circle of this radius: everything is that many times larger than at the unit circle
            norm = xp.sqrt(a * a + b * b + c * c + d * d)
            reached = norm + 1.5 * curve  # of the matrix less any point of the circle, Frobenius norm
        else:
            norm = xp.sqrt((a - curve) ** 2 + b * b + c * c + (d - curve) ** 2)
            reached = 4 * norm
        needed = 2 * (perturbation + 4 * rounding * norm)
        gap = xp.minimum(first, second)
        refused = ~(gap > needed)
        proved = xp.where(departure == 0, True, gap * apart > spread * needed) | (first * second > 2 * needed * reached)
        return ~refused & proved, refused

    neutral = 1.0 if is_map else 0.0
    proved, refuted = side(neutral)
    # An unstable verdict may be proved on a curve outside the boundary that leaves eigenvalues beyond.
    inner, outer = xp.maximum(low, neutral), xp.maximum(reach, neutral)
    curve = xp.where(inner - neutral >= outer - inner, (neutral + inner) / 2, (inner + outer) / 2)
    proved_beyond, refuted_beyond = side(curve)
    unstable = reach > neutral
    proved, refuted = proved | (unstable & proved_beyond), refuted & (~unstable | refuted_beyond)
    return proved, ~(proved | refuted), reach, xp.log(reach) if is_map else reach, rotation
