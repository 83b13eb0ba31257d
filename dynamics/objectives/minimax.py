from jaxtyping import Array

from dynamics.objectives.logistic import Logistic
from dynamics.scalars import softplus


class Minimax(Logistic):
    r"""Saturating GAN: one value $E\log\sigma(C(x)) + E\log(1-\sigma(C(G)))$, maximised and minimised.

    Losses: $L_D = E_{real}\,\mathrm{softplus}(-C) + E_{fake}\,\mathrm{softplus}(C)$,
    $L_G = -E_{fake}\,\mathrm{softplus}(C)$, for raw scores $C$. Sum of means, no factor 1/2.
    Ideal discriminator loss: log 4, at score 0; best score: $\log(p/q)$. It is the Bernoulli scoring rule, and the row
    "GAN" of f-GAN, $f = u\log u - (u+1)\log(u+1)$. Weight of the generator's gradient: $r/(1+r)$.
    Source: Goodfellow et al., Generative Adversarial Nets, 2014, equation 1.

    >>> import jax.numpy as jnp
    >>> round(float(Minimax().discriminator(jnp.zeros(3), jnp.zeros(2))), 4)  # log 4
    1.3863
    """

    def generator_loss(self, score: Array) -> Array:
        return -softplus(score)

    @property
    def divergence(self) -> str:
        return "2 JSD(data, model) - log 4"
