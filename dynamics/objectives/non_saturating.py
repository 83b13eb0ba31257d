from jaxtyping import Array

from dynamics.objectives.logistic import Logistic
from dynamics.scalars import softplus


class NonSaturating(Logistic):
    r"""Non-saturating GAN: the generator minimises $-E\log\sigma(C(G))$ instead of $E\log(1-\sigma(C(G)))$.

    Losses: $L_D = E_{real}\,\mathrm{softplus}(-C) + E_{fake}\,\mathrm{softplus}(C)$,
    $L_G = E_{fake}\,\mathrm{softplus}(-C)$, for raw scores $C$.
    Ideal discriminator loss: log 4, at score 0; best score: $\log(p/q)$. Weight of the generator's gradient:
    $1/(1+r)$. What it goes downhill on is KL(model, data) - 2 JSD(data, model), also written 2 KL(mixture, data) with
    the mixture of data and model in equal parts: Arjovsky and Bottou, 2017, theorem 2.5.
    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 3.

    >>> import jax.numpy as jnp
    >>> round(float(NonSaturating().generator(jnp.zeros(3), jnp.zeros(2))), 4)  # log 2
    0.6931
    """

    def generator_loss(self, score: Array) -> Array:
        return softplus(-score)

    @property
    def divergence(self) -> str:
        return "gradient of KL(model, data) - 2 JSD(data, model)"
