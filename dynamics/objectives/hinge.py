import jax.numpy as jnp
from jaxtyping import Array

from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Objective
from dynamics.scalars import relu


class Hinge(Objective):
    r"""Hinge loss for the discriminator, mean score for the generator.

    Losses: $L_D = E_{real}\max(0, 1-C) + E_{fake}\max(0, 1+C)$, $L_G = -E_{fake} C$.
    Ideal discriminator loss: 2, at any score in [-1, 1].
    Source: Lim and Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization, 2018, equations 16 and 17.

    >>> float(Hinge().discriminator(jnp.zeros(2), jnp.zeros(2)))
    2.0
    """

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        on_real = as_sample(real).mean(lambda score: relu(1 - score))
        return on_real + as_sample(fake).mean(lambda score: relu(1 + score))

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return -as_sample(fake).mean()

    @property
    def ideal_discriminator_loss(self) -> Array:
        return jnp.asarray(2.0)

    @property
    def ideal_score(self) -> Array:
        return jnp.asarray(0.0)

    @property
    def divergence(self) -> str:
        return "2 TV(data, model)"
