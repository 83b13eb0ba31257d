import jax.numpy as jnp
from jaxtyping import Array

from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Objective


class Wasserstein(Objective):
    r"""Wasserstein GAN: the critic maximises the mean score of real minus that of fake samples.

    Losses: $L_D = E_{fake} C - E_{real} C$, $L_G = -E_{fake} C$.
    Ideal discriminator loss: 0. The critic has to be kept Lipschitz by clipping or by a penalty.
    Source: Arjovsky, Chintala, Bottou, Wasserstein Generative Adversarial Networks, 2017, equation 2.

    >>> float(Wasserstein().discriminator(jnp.asarray([1.0, 3.0]), jnp.asarray([0.5])))
    -1.5
    """

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(fake).mean() - as_sample(real).mean()

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return -as_sample(fake).mean()

    @property
    def ideal_discriminator_loss(self) -> Array:
        return jnp.asarray(0.0)

    @property
    def ideal_score(self) -> Array:
        return jnp.asarray(0.0)

    @property
    def divergence(self) -> str:
        return "integral probability metric of the critic's class; W1 for 1-Lipschitz critics"
