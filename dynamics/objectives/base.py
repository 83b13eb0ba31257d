"""What each player is paid for the discriminator's scores."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics._printing import Printed
from dynamics.distributions import Sample


class Properties(NamedTuple):
    """What is known of an objective; `None` where it is not known, or has no meaning.

    Attributes:
        proper: the density ratio is among what the best score says, at every point.
        strictly_proper: every best score says the density ratio: `density_ratio` is known.
        symmetric: `divergence_value` is the same for data and model exchanged.
        bounded: `divergence_value` is finite for every two distributions, and less than one number for all of them.
    """

    proper: bool | None = None
    strictly_proper: bool | None = None
    symmetric: bool | None = None
    bounded: bool | None = None


class Objective(Printed):
    """Losses of generator and discriminator as functions of the scores of real and fake samples.

    Scores are the discriminator's raw outputs, high on real samples. `real` and `fake` are arrays of shape
    (n,), or `Sample`s with weights. Both losses are minimised.

    The losses, their ideal value and the divergence in words are an objective's part; all else has a default that says
    "not known": NaN, or `None` in `properties`. Densities p of the data and q of the model are arrays of values at the
    points of a grid, `weights` those of the quadrature on it; without weights, p and q are probabilities.
    """

    @abstractmethod
    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        """The discriminator's loss, a scalar: the sum of a mean over real and a mean over fake scores."""

    @abstractmethod
    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        """The generator's loss, a scalar."""

    @property
    @abstractmethod
    def ideal_discriminator_loss(self) -> Array:
        """The least loss that a discriminator can reach when model and data have the same distribution."""

    @property
    @abstractmethod
    def ideal_score(self) -> Array:
        """A constant score that reaches the ideal loss when model and data have the same distribution."""

    @property
    @abstractmethod
    def divergence(self) -> str:
        """What the generator minimises against an optimal discriminator, in words; empty where unknown."""

    @property
    def properties(self) -> Properties:
        """Whether it is proper, strictly proper, symmetric, bounded."""
        return Properties()

    @property
    def takes_vectors(self) -> bool:
        """Whether a score may be an array of any shape, a vector of features say, instead of one number."""
        return False

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        """The raw score of the best discriminator at each point, where densities are p (data) and q (model)."""
        return _unknown(p, q)

    def density_ratio(self, scores: ArrayLike) -> Array:
        """The ratio p/q of the densities of data and model that a best discriminator's raw scores tell."""
        return _unknown(scores)

    def divergence_value(
        self,
        p: ArrayLike,
        q: ArrayLike,
        weights: ArrayLike | None = None,
        points: ArrayLike | None = None,
    ) -> Array:
        """By how much the best discriminator's loss is below the ideal one: 0 for p = q, and never negative.

        Args:
            p, q: densities of data and model, shape (n,).
            weights: of the quadrature, shape (n,); `None`: p and q are probabilities.
            points: where the densities are, shape (n,) or (n, d), for objectives whose divergence depends on distances.
        """
        return jnp.asarray(jnp.nan)

    def generator_weight(self, ratio: ArrayLike) -> Array:
        r"""The weight w of the generator's gradient where the density ratio is r = p/q, for the best discriminator.

        A fake sample x moves the generator's loss by $-w(r)\,\nabla_x\log r$: a weight that vanishes for r near 0 is
        the vanishing gradient of fakes that the discriminator sees through, one that grows without bound an exploding
        one.
        """
        return _unknown(ratio)

    def descended_divergence(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        r"""The divergence that the generator goes downhill on while an optimal discriminator is held fixed.

        Its function f has $f'' = w(r)/r^2$ with w of `generator_weight`, $f(1) = f'(1) = 0$; it is no divergence where
        the weight is negative somewhere. For a zero-sum objective whose best score is smooth in r it is
        `divergence_value`.
        """
        return jnp.asarray(jnp.nan)


class Discrepancy(Objective):
    """An objective whose discriminator measures how far two distributions are apart: its ideal loss is 0.

    Any constant score is an ideal one.
    """

    @property
    def ideal_discriminator_loss(self) -> Array:
        return jnp.asarray(0.0)

    @property
    def ideal_score(self) -> Array:
        return jnp.asarray(0.0)


def _unknown(*arrays: ArrayLike) -> Array:
    return jnp.full(jnp.broadcast_shapes(*map(jnp.shape, arrays)), jnp.nan)


def log_ratio(p: ArrayLike, q: ArrayLike) -> Array:
    """Logarithm of p/q, infinite where one of them is 0; 0 where both are, and nothing depends on it.

    >>> [float(value) for value in log_ratio(jnp.asarray([1.0, 0.0, 0.0]), jnp.asarray([1.0, 2.0, 0.0]))]
    [0.0, -inf, 0.0]
    """
    p, q = jnp.asarray(p) * 1.0, jnp.asarray(q) * 1.0
    nowhere = (p == 0) & (q == 0)
    return jnp.log(jnp.where(nowhere, 1, p)) - jnp.log(jnp.where(nowhere, 1, q))


def masses(p: ArrayLike, q: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Probabilities of the points, from densities and the weights of a quadrature."""
    p, q = jnp.asarray(p) * 1.0, jnp.asarray(q) * 1.0
    return (p, q) if weights is None else (p * weights, q * weights)


def slope(function: Callable[[Array], Array], x: ArrayLike) -> Array:
    """Derivative of an elementwise function."""
    x = jnp.asarray(x) * 1.0
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]
