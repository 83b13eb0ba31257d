import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Discrepancy, Properties, masses


class Wasserstein(Discrepancy):
    r"""Wasserstein GAN: the critic maximises the mean score of real minus that of fake samples.

    Losses: $L_D = E_{fake} C - E_{real} C$, $L_G = -E_{fake} C$.
    Ideal discriminator loss: 0. The critic has to be kept Lipschitz by clipping or by a penalty. Which score is the
    best depends on all critics that are allowed; `divergence_value` is that of 1-Lipschitz ones, for points on the
    line.
    Source: Arjovsky, Chintala, Bottou, Wasserstein Generative Adversarial Networks, 2017, equation 2.

    >>> float(Wasserstein().discriminator(jnp.asarray([1.0, 3.0]), jnp.asarray([0.5])))
    -1.5
    """

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(fake).mean() - as_sample(real).mean()

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return -as_sample(fake).mean()

    @property
    def divergence(self) -> str:
        return "integral probability metric of the critic's class; W1 for 1-Lipschitz critics"

    @property
    def properties(self) -> Properties:
        return Properties(proper=False, strictly_proper=False, symmetric=True, bounded=False)

    def divergence_value(
        self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None, points: ArrayLike | None = None
    ) -> Array:
        if points is None or jnp.ndim(points) != 1:
            return super().divergence_value(p, q, weights, points)
        points = jnp.asarray(points) * 1.0
        order = jnp.argsort(points)
        real, fake = masses(p, q, weights)
        # W1 on the line: the area between the two distribution functions.
        return jnp.sum(jnp.abs(jnp.cumsum((real - fake)[order]))[:-1] * jnp.diff(points[order]))
