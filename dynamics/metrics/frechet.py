"""The distance of two Gaussians with the moments of the samples."""

from typing import Any

import numpy as np

from dynamics.metrics.reference import as_reference


def frechet_distance(real: Any, fake: Any) -> float:
    r"""Squared Fréchet distance of the Gaussians that have the means and covariances of two sets of features.

    $|m - m'|^2 + \mathrm{tr}(S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2})$ with unbiased covariances, in float64. Of features
    of a network that is trained on the data this is the FID; its value depends on the network, and, upwards, on how few
    samples there are: compare only values of equal features and equal numbers of samples.
    Source: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, GANs Trained by a Two Time-Scale Update Rule Converge to
    a Local Nash Equilibrium, 2017, eq. 6.

    Args:
        real, fake: features, shape (n, ...) and (m, ...), all axes but the first being flattened; n, m >= 2. A
            `Reference` as real.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: features of different sizes, fewer than two samples, or a number that is not finite.

    >>> frechet_distance([[0.0], [2.0]], [[3.0], [5.0]])  # equal variances, means apart by 3
    9.0
    """
    reference, fake = as_reference(real, fake, 2)
    mean, covariance = reference.once("moments", lambda: _moments(reference.features))
    return frechet_distance_of_moments(mean, covariance, *_moments(fake))


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))


def frechet_distance_of_moments(mean: Any, covariance: Any, other_mean: Any, other_covariance: Any) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance of two Gaussians.

    $|m - m'|^2 + \mathrm{tr}(S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2})$; both roots by eigenvalues of symmetric matrices,
    so that singular covariances are no difficulty.
    Source: Dowson, Landau, The Fréchet Distance between Multivariate Normal Distributions, 1982, eq. 4.

    Args:
        mean, other_mean: shape (d,).
        covariance, other_covariance: symmetric and positive semidefinite, shape (d, d).

    Raises:
        ValueError: the shapes do not fit, a covariance is not symmetric, or a number is not finite.

    >>> frechet_distance_of_moments([0.0, 0.0], np.diag([4.0, 1.0]), [0.0, 1.0], np.diag([9.0, 1.0]))
    2.0
    """
    given = {"mean": mean, "covariance": covariance, "other_mean": other_mean, "other_covariance": other_covariance}
    arrays = {name: np.asarray(value, np.float64) for name, value in given.items()}
    size = arrays["mean"].size
    for name, array in arrays.items():
        expected = (size,) if name.endswith("mean") else (size, size)
        if array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}; expected {expected}, that of the other moments")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has numbers that are not finite; expected finite ones")
        if array.ndim == 2 and not np.allclose(array, array.T, rtol=1e-8, atol=1e-10 * (1 + np.abs(array).max())):
            raise ValueError(f"{name} is not symmetric; expected a covariance matrix")
    one, two = arrays["covariance"], arrays["other_covariance"]
    root = _root(one)
    values = np.linalg.eigvalsh(root @ two @ root)
    cross = np.sqrt(np.clip(values, 0, None)).sum()
    shift = arrays["mean"] - arrays["other_mean"]
    return max(0.0, float(shift @ shift + np.trace(one) + np.trace(two) - 2 * cross))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The positive semidefinite square root of a symmetric matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
