import jax.numpy as jnp
from jaxtyping import Array

from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Objective
from dynamics.scalars import softplus


class Minimax(Objective):
    r"""Saturating GAN: one value $E\log\sigma(C(x)) + E\log(1-\sigma(C(G)))$, maximised and minimised.

    Losses: $L_D = E_{real}\,\mathrm{softplus}(-C) + E_{fake}\,\mathrm{softplus}(C)$,
    $L_G = -E_{fake}\,\mathrm{softplus}(C)$, for raw scores $C$. Sum of means, no factor 1/2.
    Ideal discriminator loss: log 4. Source: Goodfellow et al., Generative Adversarial Nets, 2014, equation 1.

    >>> round(float(Minimax().discriminator(jnp.zeros(3), jnp.zeros(2))), 4)  # log 4
    1.3863
    """

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(real).mean(lambda score: softplus(-score)) + as_sample(fake).mean(softplus)

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return -as_sample(fake).mean(softplus)

    @property
    def ideal_discriminator_loss(self) -> Array:
        return 2 * jnp.log(jnp.asarray(2.0))

    @property
    def ideal_score(self) -> Array:
        return jnp.asarray(0.0)

    @property
    def divergence(self) -> str:
        return "2 JSD(data, model) - log 4"
