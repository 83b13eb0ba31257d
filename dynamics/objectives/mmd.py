"""Maximum mean discrepancies: kernels on what the discriminator returns, one number or a vector of features."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from dynamics._checks import Numbers, as_leaf, check_finite, is_concrete
from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Discrepancy, Objective, Properties, masses


class RadialMMD(Discrepancy):
    r"""Squared maximum mean discrepancy of the features of real and of fake samples, for a kernel of their distance.

    $\mathrm{MMD}^2 = E\,k(X, X') + E\,k(Y, Y') - 2 E\,k(X, Y)$, which the discriminator maximises by its choice of
    features and the generator minimises. With a discriminator that returns the sample itself the kernel is fixed, and
    the generator trains alone. No density ratio can be read from the features. A penalty sees the features as well:
    `dynamics.penalties.OnWitness` puts it on the critic, `witness`.

    Args:
        unbiased: leave out the pairs of a point with itself: without bias for a batch, where it may be negative. As it
            is, the estimate is the exact discrepancy of the two samples as distributions.
    """

    unbiased: eqx.AbstractVar[bool]

    @abstractmethod
    def kernel(self, squared_distance: Array) -> Array:
        """k as a function of the squared Euclidean distance, elementwise."""

    def value(self, real: Sample | Array, fake: Sample | Array) -> Array:
        """The squared discrepancy of two samples of features."""
        real, fake = as_sample(real), as_sample(fake)
        return self._within(real) + self._within(fake) - 2 * self._between(real, fake)

    def witness(self, features: Array, real: Sample | Array, fake: Sample | Array) -> Array:
        """The mean kernel to real less that to fake features, at one point: a critic, high on real samples."""
        point = Sample(jnp.asarray(features)[None])
        return self._between(point, as_sample(real)) - self._between(point, as_sample(fake))

    def _kernels(self, first: Sample, second: Sample) -> Array:
        rows, columns = (jnp.reshape(sample.values, (sample.count, -1)) for sample in (first, second))
        return self.kernel(jnp.sum(jnp.square(rows[:, None] - columns[None]), axis=-1))

    def _between(self, first: Sample, second: Sample) -> Array:
        return jnp.sum(_weights(first)[:, None] * _weights(second) * self._kernels(first, second))

    def _within(self, sample: Sample) -> Array:
        if not self.unbiased:
            return self._between(sample, sample)
        if sample.count < 2:
            raise ValueError(
                f"{type(self).__name__} with unbiased=True needs pairs of different points, and a sample has "
                f"{sample.count}; expected 2 or more, or unbiased=False"
            )
        weights = _weights(sample)
        others = weights[:, None] * weights * (1 - jnp.eye(sample.count, dtype=weights.dtype))
        return jnp.sum(others * self._kernels(sample, sample)) / jnp.sum(others)

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return -self.value(real, fake)

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self.value(real, fake)

    @property
    def takes_vectors(self) -> bool:
        return True

    def divergence_value(
        self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None, points: ArrayLike | None = None
    ) -> Array:
        """The squared discrepancy of two distributions on the same points, with these as features."""
        if points is None:
            return super().divergence_value(p, q, weights, points)
        real, fake = masses(p, q, weights)
        everywhere = Sample(jnp.asarray(points) * 1.0)
        change = real - fake
        return jnp.sum(change[:, None] * change * self._kernels(everywhere, everywhere))


class GaussianMMD(RadialMMD):
    r"""Maximum mean discrepancy with a sum of Gaussian (RBF) kernels of several bandwidths.

    Losses: $L_G = -L_D = E\,k(X,X') + E\,k(Y,Y') - 2 E\,k(X,Y)$ for features X of real and Y of fake samples,
    $k = \sum_l \exp(-|x-y|^2/(2 l^2))$. Ideal discriminator loss: 0, at any constant features. For Gaussians on the
    line $E\,k(X, Y) = l\,\exp(-(m_1-m_2)^2/(2v))/\sqrt{v}$ with $v = l^2+s_1^2+s_2^2$.
    Source: Li, Swersky, Zemel, Generative Moment Matching Networks, 2015, and Dziugaite, Roy, Ghahramani, 2015 (fixed
    kernel); Li, Chang, Cheng, Yang, Poczos, MMD GAN, 2017 (learned features; without the root, the autoencoder and the
    one-sided penalty of its code).

    Args:
        bandwidths: l, one or several, > 0; the 2017 code has 1, 2, 4, 8, 16.
        unbiased: leave out the pairs of a point with itself.

    Raises:
        ValueError: a bandwidth is not positive or not finite.

    >>> round(float(GaussianMMD().value(jnp.asarray([0.0]), jnp.asarray([1.0]))), 6)  # 2 - 2 exp(-1/2)
    0.786939
    """

    bandwidths: Array
    unbiased: bool = eqx.field(static=True)

    def __init__(self, bandwidths: Numbers = 1.0, unbiased: bool = False):
        self.bandwidths = _scales(bandwidths)
        self.unbiased = unbiased

    def __check_init__(self):
        _check_positive(self, "bandwidths")

    def kernel(self, squared_distance: Array) -> Array:
        widths = self.bandwidths.astype(squared_distance.dtype)
        return jnp.sum(jnp.exp(-squared_distance[..., None] / (2 * jnp.square(widths))), axis=-1)

    @property
    def divergence(self) -> str:
        return "squared MMD, Gaussian kernels"

    @property
    def properties(self) -> Properties:
        return Properties(proper=False, strictly_proper=False, symmetric=True, bounded=True)


class RationalQuadraticMMD(RadialMMD):
    r"""Maximum mean discrepancy with a sum of rational quadratic kernels, whose tails are heavier.

    Losses: $L_G = -L_D = E\,k(X,X') + E\,k(Y,Y') - 2 E\,k(X,Y)$ for features X of real and Y of fake samples,
    $k = \sum_\alpha (1+|x-y|^2/(2\alpha))^{-\alpha}$. Ideal discriminator loss: 0, at any constant features.
    Source: Binkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, 2018, with the authors' code.

    Args:
        exponents: alpha, one or several, > 0. The paper was not read: the default is that of mixtures of this kernel in
            code of others; the authors' has 0.1, 1, 10.
        unbiased: leave out the pairs of a point with itself.

    Raises:
        ValueError: an exponent is not positive or not finite.

    >>> round(float(RationalQuadraticMMD(1.0).value(jnp.asarray([0.0]), jnp.asarray([1.0]))), 6)  # 2 - 2 / (1 + 1/2)
    0.666667
    """

    exponents: Array
    unbiased: bool = eqx.field(static=True)

    def __init__(self, exponents: Numbers = (0.2, 0.5, 1.0, 2.0, 5.0), unbiased: bool = False):
        self.exponents = _scales(exponents)
        self.unbiased = unbiased

    def __check_init__(self):
        _check_positive(self, "exponents")

    def kernel(self, squared_distance: Array) -> Array:
        exponents = self.exponents.astype(squared_distance.dtype)
        logs = jnp.log1p(squared_distance[..., None] / (2 * exponents))
        return jnp.sum(jnp.exp(-exponents * logs), axis=-1)

    @property
    def divergence(self) -> str:
        return "squared MMD, rational quadratic kernels"

    @property
    def properties(self) -> Properties:
        return Properties(proper=False, strictly_proper=False, symmetric=True, bounded=True)


class EnergyDistance(RadialMMD):
    r"""Energy distance of the features, as in Cramer GAN; twice the Cramer distance of numbers.

    Losses: $L_G = -L_D = 2 E|X-Y| - E|X-X'| - E|Y-Y'|$ for features X of real and Y of fake samples: the discrepancy of
    the kernel $k = -|x-y|$. Ideal discriminator loss: 0, at any constant features. For numbers it is
    $2\int (F_X-F_Y)^2$. At equal points the derivative of the distance is taken to be 0.
    Source: Szekely and Rizzo, Energy Statistics, 2013; as an objective: Bellemare et al., The Cramer
    Distance as a Solution to Biased Wasserstein Gradients, 2017 (its surrogate generator loss, and the penalty on the
    critic, are not part of it).

    Args:
        unbiased: leave out the pairs of a point with itself.

    >>> float(EnergyDistance().value(jnp.asarray([0.0, 2.0]), jnp.asarray([1.0])))  # 2 x 1 - 1
    1.0
    """

    unbiased: bool = eqx.field(static=True, default=False)

    def kernel(self, squared_distance: Array) -> Array:
        apart = squared_distance > 0
        return -jnp.where(apart, jnp.sqrt(jnp.where(apart, squared_distance, 1)), 0)

    @property
    def divergence(self) -> str:
        return "energy distance, 2 ∫ (F - G)^2 on the line"

    @property
    def properties(self) -> Properties:
        return Properties(proper=False, strictly_proper=False, symmetric=True, bounded=False)


def _weights(sample: Sample) -> Array:
    if sample.weights is not None:
        return sample.weights
    return jnp.full(sample.count, 1 / sample.count, jnp.result_type(sample.values))


def _scales(values: Numbers) -> Array:
    return jnp.atleast_1d(as_leaf(values))


def _check_positive(owner: Objective, name: str) -> None:
    values = getattr(owner, name)
    if jnp.ndim(values) != 1 or jnp.size(values) == 0:
        raise ValueError(
            f"{type(owner).__name__}.{name} has shape {jnp.shape(values)}; expected one or several numbers"
        )
    check_finite(values, f"{type(owner).__name__}.{name}")
    if is_concrete(values) and not np.all(np.asarray(values) > 0):
        raise ValueError(f"{type(owner).__name__}.{name} is {np.asarray(values).tolist()}; expected numbers > 0")
