"""Distances that move samples to samples: Wasserstein distance, Sinkhorn divergence; and the energy distance."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.spatial.distance

from dynamics._checks import as_whole
from dynamics._extras import optional
from dynamics._memory import check_memory, counted
from dynamics.metrics._features import blocks
from dynamics.metrics.reference import as_pair, as_reference


def wasserstein_distance(real: Any, fake: Any, power: int = 1) -> float:
    r"""The Wasserstein distance $W_p$ of two sets of samples, exactly: $(\min \sum_{ij}\pi_{ij}|x_i-y_j|^p)^{1/p}$.

    Of scalars by sorting; of vectors, of which there have to be equally many, by the best assignment, n^3 steps at the
    worst: seconds for 2,000 samples. The distance of samples is larger than that of the distributions, by about
    $n^{-1/d}$ in d dimensions.
    Source: Peyre and Cuturi, Computational Optimal Transport, 2019, sections 2.2 (assignment) and 2.6 (scalars).

    Args:
        real, fake: samples, shape (n, ...) and (m, ...), all axes but the first being flattened.
        power: p, a whole number >= 1.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: samples of different sizes, or different numbers of vectors.
        MemoryError: a matrix of all distances would not fit.

    >>> wasserstein_distance([0.0, 3.0], [1.0, 1.0, 4.0, 4.0])
    1.0
    >>> wasserstein_distance([[0.0, 0.0], [3.0, 0.0]], [[3.0, 4.0], [0.0, 4.0]], power=2)
    4.0
    """
    power = as_whole("power", power)
    real, fake = as_pair(real, fake)
    if real.shape[1] == 1:
        return float(_of_scalars(np.sort(real[:, 0]), np.sort(fake[:, 0]), power) ** (1 / power))
    if len(real) != len(fake):
        raise ValueError(
            f"real has {len(real)} samples and fake {len(fake)}; expected equally many of them, as vectors are "
            "assigned one to one: leave some out"
        )
    check_memory(f"the distances of {counted(len(real))} samples", len(real) ** 2, 8, "expected fewer samples")
    costs = scipy.spatial.distance.cdist(real, fake) ** power
    return float(costs[scipy.optimize.linear_sum_assignment(costs)].mean() ** (1 / power))


def _of_scalars(real: np.ndarray, fake: np.ndarray, power: int) -> float:
    """The p-th power of the distance of sorted numbers: the quantiles of both, at all steps of either."""
    n, m = len(real), len(fake)
    # In units of 1/(n m), so that equal steps are equal.
    steps = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    widths = np.diff(steps, prepend=0) / (n * m)
    return float(np.sum(widths * np.abs(real[(steps - 1) // m] - fake[(steps - 1) // n]) ** power))


def energy_distance(real: Any, fake: Any, *, unbiased: bool = False) -> float:
    r"""The energy distance $2E|X-Y| - E|X-X'| - E|Y-Y'|$ of two sets of samples, Euclidean.

    Not negative, and 0 for equal distributions alone; the squared maximum mean discrepancy of the kernel $-|x-y|$. Of
    scalars it is twice the squared Cramer distance, and SciPy returns its root.
    Source: Szekely and Rizzo, Energy Statistics: A Class of Statistics Based on Distances, 2013.

    Args:
        real, fake: samples, shape (n, ...) and (m, ...), all axes but the first being flattened. A `Reference` as real.
        unbiased: leave out the distance of each sample to itself, so that the value is that of the distributions on
            average, and may be negative; needs two samples of each.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: samples of different sizes, or too few.

    >>> energy_distance([0.0, 2.0], [1.0, 1.0])  # 2 * 1 - 1 - 0
    1.0
    """
    reference, fake = as_reference(real, fake, 2 if unbiased else 1)
    real = reference.features

    def total(one: np.ndarray, two: np.ndarray) -> float:
        return sum(float(scipy.spatial.distance.cdist(one[part], two).sum()) for part in blocks(len(one)))

    n, m = len(real), len(fake)
    within = reference.once("distances", lambda: total(real, real))
    left = 1 if unbiased else 0
    return 2 * total(real, fake) / (n * m) - within / (n * (n - left)) - total(fake, fake) / (m * (m - left))


def sinkhorn_divergence(real: Any, fake: Any, epsilon: float, *, iterations: int = 10_000) -> float:
    r"""The Sinkhorn divergence of two sets of samples, for squared Euclidean distances.

    $S = T(x,y) - \frac12 T(x,x) - \frac12 T(y,y)$ with $T = \min_\pi\sum\pi_{ij}|x_i-y_j|^2 + \epsilon\,
    \mathrm{KL}(\pi\,\|\,1/(nm))$: from $W_2^2$ for a small $\epsilon$ to the squared distance of the means for a large
    one. Not negative, and smooth in the samples. In JAX, in its precision, by ott-jax: the extra `transport`; its first
    use takes some seconds.
    Source: Feydy, Sejourne, Vialard, Amari, Trouve, Peyre, Interpolating between Optimal Transport and MMD using
    Sinkhorn Divergences, 2019.

    Args:
        real, fake: samples, shape (n, ...) and (m, ...), all axes but the first being flattened.
        epsilon: of the regularisation, > 0, in units of squared distance.
        iterations: at most so many; a small epsilon needs many.

    Returns:
        the divergence, >= 0 up to the accuracy that is asked for; 0 for equal sets.

    Raises:
        ImportError: ott-jax is not installed.
        TypeError: no arrays of real numbers.
        ValueError: samples of different sizes, or a number out of bounds.
        RuntimeError: it has not converged.
    """
    iterations, epsilon = as_whole("iterations", iterations), float(epsilon)
    if not 0 < epsilon < np.inf:
        raise ValueError(f"epsilon is {epsilon}; expected a finite number > 0")
    real, fake = as_pair(real, fake)
    ott = optional("ott", "transport", "sinkhorn_divergence")
    points, others = jnp.asarray(real), jnp.asarray(fake)  # in JAX's precision
    threshold = max(1e-5, 100 * float(jnp.finfo(points.dtype).eps))
    value, output = ott.tools.sinkhorn_divergence.sinkhorn_divergence(
        ott.geometry.pointcloud.PointCloud,
        points,
        others,
        epsilon=epsilon,
        solve_kwargs={"max_iterations": iterations, "threshold": threshold},
    )
    if not all(map(bool, output.converged)):
        raise RuntimeError(
            f"the Sinkhorn divergence has not converged within {iterations} iterations; use a larger epsilon than "
            f"{epsilon:g}, or more iterations"
        )
    return float(value)
