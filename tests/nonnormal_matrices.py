"""Matrices with eigenvectors far from orthogonal, and what is known of them by brute force."""

import numpy as np
import scipy.linalg

KINDS = ("flow", "map")


def stable(seed, size, kind):
    """A non-normal stable matrix, general in every respect."""
    rng = np.random.default_rng(seed)
    matrix = np.triu(rng.normal(size=(size, size)), 1) * 2 + 0.4 * rng.normal(size=(size, size))
    values = np.linalg.eigvals(matrix)
    if kind == "flow":
        return matrix - (values.real.max() + 0.15) * np.eye(size)
    return matrix * 0.9 / np.abs(values).max()


def smallest(matrix, points):
    points = np.asarray(points)[..., None, None]
    return np.linalg.svd(points * np.eye(len(matrix)) - matrix, compute_uv=False)[..., -1]


def boundary(kind, places):
    return 1j * places if kind == "flow" else np.exp(1j * places)


def certified_distance(matrix, kind, accuracy=1e-5):
    """The smallest singular value on the boundary, from below, as it changes no faster than the point moves."""
    end = 2 * np.linalg.norm(matrix, 2) + 1 if kind == "flow" else np.pi
    edges = np.linspace(-end, end, 201)
    left, right = edges[:-1], edges[1:]
    best = np.inf
    while len(left):
        middle, half = (left + right) / 2, (right - left) / 2
        values = smallest(matrix, boundary(kind, middle))
        best = min(best, values.min())
        keep = values - half < best * (1 - accuracy)
        left, middle, right = left[keep], middle[keep], right[keep]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    return best


def spectral_norms(matrix, kind, times):
    if kind == "flow":
        return np.linalg.norm(scipy.linalg.expm(np.asarray(times)[:, None, None] * matrix), 2, axis=(1, 2))
    return np.array([np.linalg.norm(np.linalg.matrix_power(matrix, int(k)), 2) for k in times])
