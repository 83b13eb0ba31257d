"""The smallest singular value of z - J: over many points, and its least value over an axis or a circle."""

import numpy as np
import scipy.linalg

from dynamics.analysis.stability.boundary import Boundary


def smallest_at(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The smallest singular value of z - J at every point z."""
    size = len(matrix)
    chunk = max(1, 2_000_000 // size**2) if size <= 30 else 4096
    compute = _by_svd if size <= 30 else _by_lanczos
    parts = [compute(matrix, points[start : start + chunk]) for start in range(0, len(points), chunk)]
    return np.concatenate(parts)


def _by_svd(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.linalg.svd(points[:, None, None] * np.eye(len(matrix)) - matrix, compute_uv=False)[:, -1]


def _by_lanczos(matrix: np.ndarray, points: np.ndarray, steps: int = 24) -> np.ndarray:
    r"""From the largest eigenvalue of $(z-T)^{-*}(z-T)^{-1}$, T the triangular Schur form, all points at once."""
    size = len(matrix)
    triangle = scipy.linalg.schur(matrix.astype(complex), output="complex")[0]
    floor = np.finfo(float).eps * max(float(np.linalg.norm(matrix)), 1e-300)
    pivots = points[:, None] - np.diag(triangle)
    pivots = np.where(np.abs(pivots) < floor, floor, pivots)

    def solve(right: np.ndarray) -> np.ndarray:
        solution = np.zeros_like(right)
        for i in reversed(range(size)):
            solution[:, i] = (right[:, i] + solution[:, i + 1 :] @ triangle[i, i + 1 :]) / pivots[:, i]
        return solution

    def solve_adjoint(right: np.ndarray) -> np.ndarray:
        solution = np.zeros_like(right)
        for i in range(size):
            solution[:, i] = (right[:, i] + solution[:, :i] @ triangle[:i, i].conj()) / pivots[:, i].conj()
        return solution

    rng = np.random.default_rng(0)
    start = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    now = np.broadcast_to(start / np.linalg.norm(start), (len(points), size))
    before, beta = np.zeros_like(now), np.zeros(len(points))
    steps = min(steps, size)
    small = np.zeros((len(points), steps, steps))
    for k in range(steps):
        # The inverse is applied to unit vectors: nothing overflows before 1e308.
        new = solve_adjoint(solve(now)) - beta[:, None] * before
        alpha = np.sum(now.conj() * new, axis=1).real
        new = new - alpha[:, None] * now
        beta = np.linalg.norm(new, axis=1)
        small[:, k, k] = alpha
        if k + 1 < steps:
            small[:, k, k + 1] = small[:, k + 1, k] = beta
        before, now = now, new / np.maximum(beta, 1e-300)[:, None]
    return 1 / np.sqrt(np.linalg.eigvalsh(small)[:, -1])


def smallest_on(matrix: np.ndarray, boundary: Boundary, curve: float) -> tuple[float, complex]:
    """The least smallest singular value of z - J on the line Re z = curve, or on the circle of that radius; and z."""
    return boundary.from_relative(curve, *nearest(boundary.relative(curve, matrix), boundary))


def nearest(matrix: np.ndarray, boundary: Boundary) -> tuple[float, complex]:
    """The least smallest singular value of z - J over the imaginary axis or the unit circle, and where it is."""
    matrix = matrix.astype(float)
    places = np.concatenate([boundary.real_positions, boundary.position(np.linalg.eigvals(matrix))])
    best, at = np.inf, 0.0
    for _ in range(60):
        level = _by_svd(matrix, boundary.points(places))
        lowest = int(np.argmin(level))
        gained = level[lowest] < best * (1 - 1e-10)
        if level[lowest] < best:
            best, at = float(level[lowest]), float(places[lowest])
        if not gained or best == 0:
            break
        places = boundary.crossings(matrix, best * (1 - 1e-11))
        if not len(places):
            break
        # Midpoints, and the crossings themselves: there rounding can only help.
        places = boundary.closed(places)
        places = np.concatenate([(places[1:] + places[:-1]) / 2, places])
    return best, complex(boundary.points(at))
