"""The discriminator of the first GANs: logistic regression of real against fake."""

from jaxtyping import Array, ArrayLike

from dynamics.objectives.base import Properties, log_ratio
from dynamics.objectives.pointwise import Pointwise
from dynamics.scalars import softplus


class Logistic(Pointwise):
    r"""$L_D = E_{real}\,\mathrm{softplus}(-C) + E_{fake}\,\mathrm{softplus}(C)$, whatever the generator is paid.

    With $D = \sigma(C)$ it is the cross-entropy $-E_{real}\log D - E_{fake}\log(1-D)$: the logarithmic (Bernoulli)
    scoring rule, and the row "GAN" of f-GAN. Best score: $\log(p/q)$.
    """

    def real_loss(self, score: Array) -> Array:
        return softplus(-score)

    def fake_loss(self, score: Array) -> Array:
        return softplus(score)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return log_ratio(p, q)

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)
