"""Metrics in JAX, in the precision of the samples: for many sets at once, and as measures within `dynamics.simulate`.

Each takes sets of samples of shape (..., n, d), with any leading axes, which are broadcast, and returns arrays of the
shape of these. They can be compiled, mapped with `jax.vmap`, and differentiated where they are smooth. Nothing is
checked but shapes; where numbers are not finite, results are NaN.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics._checks import as_whole
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.scalars import safe_norm


class ModeCoverage(NamedTuple):
    """Number of modes covered, and share of samples that are near a centre."""

    modes: Array
    high_quality: Array

    describe = described_fields
    to_dict = named_fields


def mode_coverage(
    samples: ArrayLike, centres: ArrayLike, spread: Any, within: Any = 3.0, least: Any = 1
) -> ModeCoverage:
    """As `dynamics.metrics.mode_coverage`, by the same rule.

    Args:
        samples: shape (..., n, d).
        centres: shape (modes, d).
        spread: standard deviation around a centre.
        within: how many of these a sample of high quality may be away.
        least: samples of high quality that make a mode covered.

    >>> rows = jnp.asarray([[[0.0], [0.1]], [[0.0], [5.0]]])
    >>> mode_coverage(rows, jnp.asarray([[0.0], [5.0]]), 0.1).modes.tolist()
    [1, 2]
    """
    samples, centres = _rows(samples, "samples"), _rows(centres, "centres")

    def one(samples: Array) -> tuple[Array, Array]:
        squared = jnp.sum(jnp.square(samples[:, None] - centres), axis=-1)
        good = jnp.sqrt(jnp.min(squared, axis=1)) <= within * spread
        nearest = jnp.argmin(squared, axis=1)
        counts = jnp.zeros(len(centres), jnp.int32).at[nearest].add(good)
        return jnp.sum(counts >= least), jnp.mean(good.astype(samples.dtype))

    return ModeCoverage(*jnp.vectorize(one, signature="(n,d)->(),()")(samples))


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> Array:
    """As `dynamics.metrics.frechet_distance`.

    Args:
        real, fake: shapes (..., n, d) and (..., m, d).

    >>> float(frechet_distance([[0.0], [2.0]], [[3.0], [5.0]]))
    9.0
    """

    def one(real: Array, fake: Array) -> Array:
        (mean, covariance), (other, second) = (
            (rows.mean(axis=0), jnp.atleast_2d(jnp.cov(rows, rowvar=False))) for rows in (real, fake)
        )
        values, vectors = jnp.linalg.eigh(covariance)
        root = _product(vectors * jnp.sqrt(jnp.clip(values, 0)), vectors.T)
        cross = jnp.sum(jnp.sqrt(jnp.clip(jnp.linalg.eigvalsh(_product(root, second, root)), 0)))
        distance = jnp.sum(jnp.square(mean - other)) + jnp.trace(covariance) + jnp.trace(second) - 2 * cross
        return jnp.maximum(distance, 0)

    return _of_pairs(one, real, fake)


def kernel_distance(real: ArrayLike, fake: ArrayLike, degree: int = 3, scale: Any = None, offset: Any = 1.0) -> Array:
    """As the value of `dynamics.metrics.kernel_distance`, unbiased.

    Args:
        real, fake: shapes (..., n, d) and (..., m, d).
        degree: of the kernel.
        scale: what inner products are divided by; `None`: d.
        offset: what is added.

    Returns:
        the squared distance, a scalar; unbiased, so that it may be negative.
    """
    degree = as_whole("degree", degree)

    def one(real: Array, fake: Array) -> Array:
        divisor = real.shape[1] if scale is None else scale

        def kernel(x: Array, y: Array) -> Array:
            return (_product(x, y.T) / divisor + offset) ** degree

        def within(x: Array) -> Array:
            diagonal = (jnp.sum(jnp.square(x), axis=1) / divisor + offset) ** degree
            return (jnp.sum(kernel(x, x)) - jnp.sum(diagonal)) / (len(x) * (len(x) - 1))

        return within(real) + within(fake) - 2 * jnp.mean(kernel(real, fake))

    return _of_pairs(one, real, fake)


def energy_distance(real: ArrayLike, fake: ArrayLike) -> Array:
    """As `dynamics.metrics.energy_distance`.

    Args:
        real, fake: shapes (..., n, d) and (..., m, d).

    >>> float(energy_distance([[0.0], [2.0]], [[1.0], [1.0]]))
    1.0
    """

    def one(real: Array, fake: Array) -> Array:
        def mean(x: Array, y: Array) -> Array:
            return jnp.mean(jax.vmap(lambda a: jax.vmap(lambda b: safe_norm(a - b))(y))(x))

        return 2 * mean(real, fake) - mean(real, real) - mean(fake, fake)

    return _of_pairs(one, real, fake)


def wasserstein_distance(real: ArrayLike, fake: ArrayLike, power: int = 1) -> Array:
    """As `dynamics.metrics.wasserstein_distance`, of equally many scalars: by sorting.

    Args:
        real, fake: shape (..., n), without an axis of coordinates.
        power: p of W_p.

    Raises:
        ValueError: different numbers of samples.

    >>> float(wasserstein_distance([0.0, 3.0], [4.0, 1.0]))
    1.0
    """
    power = as_whole("power", power)
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    if real.ndim < 1 or fake.ndim < 1 or real.shape[-1] != fake.shape[-1]:
        raise ValueError(
            f"real has shape {real.shape} and fake {fake.shape}; expected equally many scalars along the last axis"
        )
    distances = jnp.abs(jnp.sort(real) - jnp.sort(fake))
    return jnp.mean(distances**power, axis=-1) ** (1 / power)


def _rows(values: Any, name: str) -> Array:
    array = jnp.asarray(values)
    if array.ndim < 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (..., n, d), n samples of d numbers")
    return array


def _product(*matrices: Array) -> Array:
    """Of matrices, with all digits on every device."""
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def _of_pairs(one: Any, real: ArrayLike, fake: ArrayLike) -> Array:
    """A function of two sets of samples, for all of them."""
    real, fake = _rows(real, "real"), _rows(fake, "fake")
    if real.shape[-1] != fake.shape[-1]:
        raise ValueError(
            f"real has {real.shape[-1]} numbers per sample and fake {fake.shape[-1]}; expected the same features"
        )
    return jnp.vectorize(one, signature="(n,d),(m,d)->()")(real, fake)
