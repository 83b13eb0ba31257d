"""Proof that no matrix near a computed one has an eigenvalue on the boundary of stability."""

from typing import Any

import numpy as np
import scipy.linalg

from dynamics.analysis.stability.boundary import Boundary

EVALUATIONS = 20_000  # resolvents a certificate may cost at most, for matrices up to 8 x 8; fewer for larger ones
POWERS = 8
SMALLEST = float(np.finfo(float).tiny)


def rounding_bound(matrix: np.ndarray, epsilon: float | None = None) -> np.ndarray | float:
    """A bound on the norm of the error of a computed matrix, and of its eigenvalues' solver.

    Args:
        matrix: one or many, shape (..., n, n).
        epsilon: of the arithmetic it was computed in; `None`: that of its dtype.
    """
    epsilon = float(np.finfo(matrix.dtype).eps) if epsilon is None else epsilon
    return 8 * np.sqrt(matrix.shape[-1]) * epsilon * np.maximum(frobenius(matrix), SMALLEST)


def frobenius(matrix: np.ndarray) -> np.ndarray | float:
    """Frobenius norms of one or many matrices, shape (..., n, n), of any scale: no square over- or underflows."""
    matrix = np.asarray(matrix, float)
    largest = np.max(np.abs(matrix), axis=(-2, -1), initial=0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    norms = scale * np.sqrt(np.sum((matrix / scale[..., None, None]) ** 2, axis=(-2, -1)))
    return norms if matrix.ndim > 2 else float(norms)


def scale_of(matrix: np.ndarray) -> np.ndarray:
    """A power of two by which to divide matrices, shape (..., n, n), before LAPACK sees them; 1 for usual sizes.

    Eigenvalue solvers that scale extreme matrices themselves need not scale the eigenvalues back.
    """
    largest = np.max(np.abs(np.asarray(matrix, float)), axis=(-2, -1), initial=0)
    extreme = ((largest > 1e100) | (largest < 1e-100)) & (largest > 0) & np.isfinite(largest)
    return np.where(extreme, np.exp2(np.round(np.log2(np.where(extreme, largest, 1.0)))), 1.0)


def keeps_its_side(matrix: np.ndarray, perturbation: np.ndarray | float, boundary: Boundary) -> bool:
    r"""Whether every matrix within `perturbation` (spectral norm) has as many eigenvalues on each side of the boundary.

    An eigenvalue can cross the boundary at z only where the resolvent $R = (zI - A)^{-1}$ is as large as
    1/`perturbation`. Where eigenvectors are well conditioned the Bauer-Fike theorem shows that it is not. Otherwise the
    boundary is subdivided, and on a piece of radius w around z $\|R\|\le 2\sum_{k<m} w^k\|R(z)^{k+1}\|$ as soon as
    $w^m\|R(z)^m\|\le\frac12$. `False` means: not proved.
    Source: Bauer and Fike 1960; Van Loan, How near is a stable matrix to an unstable matrix?, 1985.

    Args:
        matrix: A, shape (n, n).
        perturbation: the radius of the ball of matrices, > 0.
        boundary: the unit circle or the imaginary axis.

    >>> from dynamics.analysis.stability.boundary import UNIT_CIRCLE
    >>> jordan = np.array([[0.9, 1.0], [0.0, 0.9]])
    >>> keeps_its_side(jordan, 1e-3, UNIT_CIRCLE), keeps_its_side(jordan, 0.05, UNIT_CIRCLE)  # distance about 0.01
    (True, False)
    """
    if len(matrix) == 0:
        return True
    try:
        with np.errstate(all="ignore"):
            return _keeps_its_side(np.asarray(matrix, float), perturbation, boundary)
    except np.linalg.LinAlgError:  # a resolvent that does not exist in floating point
        return False


def bauer_fike(
    values: np.ndarray, condition: Any, matrix: np.ndarray, perturbation: Any, boundary: Boundary
) -> tuple[Any, Any, Any]:
    """What the Bauer-Fike theorem says of `keeps_its_side`: proved, refused, or neither; of any number of matrices.

    Args:
        values: eigenvalues, shape (..., n).
        condition: number of the matrix of eigenvectors, shape (...).
        matrix: shape (..., n, n).
        perturbation: shape (...).
        boundary: as for `keeps_its_side`.

    Returns:
        whether it is proved, whether it is refused, and by how much a gap has to exceed 0, each of shape (...).
    """
    gaps = np.min(np.abs(boundary.distance(values)), axis=-1)
    rounding = matrix.shape[-1] * np.finfo(float).eps * frobenius(matrix)
    needed = 2 * (perturbation + 4 * rounding)
    refused = ~(gaps > needed)
    return ~refused & (gaps > condition * needed), refused, needed


def widest_gap(outward: np.ndarray, neutral: float) -> Any:
    """A curve outside the boundary that leaves eigenvalues beyond: half-way in the widest gap between them.

    Args:
        outward: of eigenvalues, see `Boundary.outward`, shape (..., n).
        neutral: that of the boundary.

    Returns:
        the curve's `outward`, shape (...); `neutral` where no eigenvalue is outside.
    """
    beyond = np.sort(np.maximum(outward, neutral), axis=-1)
    gaps = np.diff(beyond, prepend=neutral, axis=-1)
    middles = beyond - gaps / 2
    return np.take_along_axis(middles, np.argmax(gaps, axis=-1)[..., None], axis=-1)[..., 0]


def _keeps_its_side(matrix: np.ndarray, perturbation: np.ndarray | float, boundary: Boundary) -> bool:
    size, scale = len(matrix), float(scale_of(matrix))
    if boundary.scale_free:
        matrix, perturbation, scale = matrix / scale, perturbation / scale, 1.0
    values, vectors = np.linalg.eig(matrix / scale)
    values = values * scale
    _, refused, needed = bauer_fike(values, np.inf, matrix, perturbation, boundary)
    if refused:
        return False
    for condition in (_condition_bound, np.linalg.cond):
        if bauer_fike(values, condition(vectors), matrix, perturbation, boundary)[0]:
            return True
    if size > 200:  # too many large inverses
        return False
    triangle = scipy.linalg.schur(matrix, output="complex")[0]

    def radii(positions: np.ndarray) -> np.ndarray:
        """How far to both sides the boundary is free of crossings; 0 where that is not shown."""
        points = boundary.points(positions)
        resolvents = np.linalg.inv(points[:, None, None] * np.eye(size) - triangle)
        power, norms = resolvents, []
        for _ in range(POWERS):
            norms.append(np.linalg.norm(power, axis=(1, 2)))
            power = power @ resolvents
        norms = np.array(norms)
        low, high = np.zeros(len(points)), (2 * norms[-1]) ** (-1 / POWERS)
        exponents = np.arange(POWERS)[:, None]
        for _ in range(20):
            middle = (low + high) / 2
            fits = 2 * np.sum(middle**exponents * norms, axis=0) * needed < 1
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return low

    left = EVALUATIONS if size <= 8 else int(EVALUATIONS * (8 / size) ** 2.5)
    end = boundary.end(matrix, 2 * needed)  # a real matrix: the upper half of the boundary is enough
    # Where the matrix comes nearest to an eigenvalue on the boundary, usually: a quick refusal.
    nearest = np.abs(boundary.position(values))
    if not np.all(radii(nearest[np.argsort(np.abs(boundary.distance(values)), kind="stable")[:8]]) > 0):
        return False
    edges = np.linspace(0, end, 17)
    centres, halves = (edges[1:] + edges[:-1]) / 2, np.full(16, end / 32)
    while len(centres):
        left -= len(centres)
        if left < 0:
            return False
        free = radii(centres)
        if not np.all(free > 0):
            return False
        rest = free < halves
        # As many parts as the radius found suggests, so that few rounds are needed.
        parts = np.clip(np.ceil(halves[rest] / free[rest]), 2, 8).astype(int)
        fine = [
            (centre + half * (2 * np.arange(n) + 1 - n) / n, np.full(n, half / n))
            for centre, half, n in zip(centres[rest], halves[rest], parts, strict=True)
        ]
        centres = np.concatenate([part for part, _ in fine]) if fine else np.zeros(0)
        halves = np.concatenate([part for _, part in fine]) if fine else np.zeros(0)
    return True


def _condition_bound(vectors: np.ndarray) -> float:
    """A bound on the condition number, at a tenth of the cost of singular values."""
    try:
        return float(np.linalg.norm(vectors) * np.linalg.norm(np.linalg.inv(vectors)))
    except np.linalg.LinAlgError:
        return np.inf


def neutral_cut(matrix: np.ndarray, neutral: float, dimension: int) -> float:
    """A distance from `neutral` within which so many eigenvalues lie, fewer than all, half-way to the next one."""
    apart = np.sort(np.abs(np.linalg.eigvals(matrix) - neutral))
    return (apart[dimension - 1] + apart[dimension]) / 2


def without_neutral(matrix: np.ndarray, neutral: float, dimension: int) -> tuple[np.ndarray, float]:
    """The matrix on the complement of the eigenvectors nearest to `neutral`, and how much it amplifies perturbations.

    The complement comes from an ordered real Schur form, block-diagonalised by a Sylvester equation; a perturbation E
    of the matrix perturbs the remaining block by at most the returned factor times the norm of E, to first order.
    """
    if dimension == 0:
        return matrix, 1.0
    if dimension >= len(matrix):
        return np.zeros((0, 0)), 1.0
    cut = neutral_cut(matrix, neutral, dimension)
    triangle, _, count = scipy.linalg.schur(matrix, sort=lambda x, y=0.0: abs(complex(x, y) - neutral) < cut)
    if count != dimension:  # ties at the cut
        return np.asarray(matrix), np.inf
    neutral_block, rest, coupling = triangle[:count, :count], triangle[count:, count:], triangle[:count, count:]
    solution = scipy.linalg.solve_sylvester(neutral_block, -rest, -coupling)
    return rest, float((1 + np.linalg.norm(solution, 2)) ** 2)
