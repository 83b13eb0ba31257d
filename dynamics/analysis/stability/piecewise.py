"""Maps and flows with a kink at the equilibrium: the Jacobians of the pieces, and a verdict from all of them."""

import dataclasses
import functools
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize

from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, Boundary
from dynamics.analysis.stability.certificates import rounding_bound

SAMPLES = 48  # directions in which pieces are looked for
PRODUCTS = 36  # of two pieces whose eigenvectors are looked at
WORDS = 256  # products of pieces from which a common norm is built


@dataclasses.dataclass(frozen=True)
class Pieces:
    r"""The Jacobians of a map or flow that is smooth on each of several cones around an equilibrium.

    Attributes:
        jacobians: of the pieces found, shape (pieces, n, n).
        lower, upper: bounds of the joint spectral radius (maps), or of the largest joint Lyapunov exponent (flows):
            training contracts whatever the order in which the pieces follow each other when the upper bound is below 1
            (0); some order of the pieces, perhaps not one that occurs, expands when the lower bound is above.
        invariant: an eigenvector that expands lies within its own piece: the point is unstable.
    """

    jacobians: np.ndarray
    lower: float
    upper: float
    invariant: bool


def sample_directions(size: int, memory_at_zero: np.ndarray, dtype: Any) -> np.ndarray:
    """Directions in which to look for pieces: along the axes, to both sides, and random ones.

    Memory that rests at 0 (momentum, squared gradients) is left there: parts of it must not be negative.
    """
    axes = np.eye(size)[: SAMPLES // 2]
    random = np.random.default_rng(1).standard_normal((SAMPLES - len(axes), size))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    directions = np.concatenate([axes, -axes, random])
    return np.where(memory_at_zero, 0, directions).astype(dtype)


def distinct(jacobians: np.ndarray, boundary: Boundary = IMAGINARY_AXIS) -> np.ndarray:
    """One of each of the Jacobians that differ by more than their extrapolation from nearby points explains.

    Row by row, and for maps beside what differs from the identity: a kink counts beside its own coordinate's rate.
    """
    kept: list[np.ndarray] = []
    tolerance = 1e-5 if jacobians.dtype == np.float64 else 2e-2
    for jacobian in jacobians[np.all(np.isfinite(jacobians), axis=(1, 2))]:
        rows = tolerance * np.linalg.norm(boundary.change(jacobian), axis=1)
        rows = rows + 64 * np.finfo(jacobians.dtype).eps * np.linalg.norm(jacobian, axis=1)
        if all(np.any(np.linalg.norm(jacobian - earlier, axis=1) > rows) for earlier in kept):
            kept.append(jacobian)
    return np.array(kept)


def expanding_directions(jacobians: np.ndarray, boundary: Boundary) -> list[list[tuple[int, np.ndarray]]]:
    """Rays that come back longer: sequences of a piece's number and a direction, each of which has to lie in its piece.

    Real eigenvectors of the pieces with an eigenvalue beyond 1 (maps) or 0 (flows); of maps also those of the products
    of two pieces, which a ray passes in turn.
    """
    matrices = jacobians.astype(float)
    numbers = range(len(matrices))
    words: list[tuple[int, ...]] = [(number,) for number in numbers]
    if boundary.discrete:
        words += [(first, second) for first in numbers for second in numbers][:PRODUCTS]
    rays = []
    for word in words:
        product = functools.reduce(lambda before, number: matrices[number] @ before, word, np.eye(matrices.shape[1]))
        values, vectors = np.linalg.eig(product)
        error = sum(rounding_bound(jacobians[number]) for number in word) * max(np.abs(matrices).max(), 1)
        for value, vector in zip(values, vectors.T, strict=True):
            if abs(value.imag) <= error and value.real > boundary.neutral + error:
                for sign in (1, -1):
                    ray, passed = sign * vector.real, []
                    for number in word:
                        ray = ray / np.linalg.norm(ray)
                        passed.append((number, ray))
                        ray = matrices[number] @ ray
                    rays.append(passed)
    return rays


def joint_bounds(jacobians: np.ndarray, boundary: Boundary) -> tuple[float, float]:
    r"""Bounds of the joint spectral radius of matrices (maps) or of their largest joint Lyapunov exponent (flows).

    Lower bound: the largest $\rho(A_w)^{1/|w|}$ over products (maps), the largest abscissa (flows). Upper bound: the
    norm of all matrices in one ellipsoidal norm $\|P^{1/2}x\|$, of products $A_w$ to the power $1/|w|$ for maps, the
    logarithmic norm for flows; P comes from a sum over products, improved by a search where it is small.
    Source: Jungers, The Joint Spectral Radius, 2009, sections 2.1 and 2.3.

    >>> from dynamics.analysis.stability.boundary import UNIT_CIRCLE
    >>> low, high = joint_bounds(np.array([[[0.5]], [[-0.8]]]), UNIT_CIRCLE)
    >>> round(low, 10), round(high, 10)
    (0.8, 0.8)
    """
    matrices = jacobians.astype(float)
    size = matrices.shape[1]
    if boundary.discrete:
        maps = matrices
    else:
        scale = max(np.linalg.norm(matrices, axis=(1, 2)).max(), 1e-300)
        maps = np.array([scipy.linalg.expm(matrix / (2 * scale)) for matrix in matrices])
    depth = max(1, int(np.log(WORDS) / np.log(max(2, len(maps)))))
    levels = [np.eye(size)[None]]
    for _ in range(depth):
        levels.append(np.concatenate([matrix @ levels[-1] for matrix in maps]))
    products = list(enumerate(levels))[1:]
    radii = [float(np.abs(np.linalg.eigvals(level)).max()) ** (1 / length) for length, level in products]
    growth = max(max(radii), 1e-300)
    lower = max(radii) if boundary.discrete else float(boundary.bound(np.linalg.eigvals(matrices)).max())
    weight = sum(
        np.einsum("kij,kil->jl", level, level) / (1.02 * growth) ** (2 * length) for length, level in enumerate(levels)
    )

    def upper(root: np.ndarray) -> float:
        inverse = np.linalg.inv(root)
        if not boundary.discrete:
            moved = root @ matrices @ inverse
            return float(np.linalg.eigvalsh((moved + moved.transpose(0, 2, 1)) / 2).max())
        return min(
            float(np.linalg.norm(root @ level @ inverse, 2, axis=(1, 2)).max()) ** (1 / length)
            for length, level in products
            if length in {1, 2, depth}
        )

    roots = [np.eye(size), scipy.linalg.cholesky(weight / np.trace(weight) + 1e-12 * np.eye(size))]
    best = min(roots, key=upper)
    if size <= 6:
        rows, columns = np.triu_indices(size)

        def objective(entries: np.ndarray) -> float:
            root = np.zeros((size, size))
            root[rows, columns] = entries
            return upper(root) if abs(np.prod(np.diag(root))) > 1e-12 else 1e6

        result = scipy.optimize.minimize(
            objective, best[rows, columns], method="Nelder-Mead", options=dict(maxiter=400, xatol=1e-10, fatol=1e-12)
        )
        return float(lower), float(min(upper(best), result.fun))
    return float(lower), upper(best)
