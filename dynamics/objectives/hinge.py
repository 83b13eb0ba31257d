import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics.objectives.base import Properties, log_ratio
from dynamics.objectives.pointwise import Pointwise
from dynamics.scalars import relu


class Hinge(Pointwise):
    r"""Hinge loss for the discriminator, mean score for the generator.

    Losses: $L_D = E_{real}\max(0, 1-C) + E_{fake}\max(0, 1+C)$, $L_G = -E_{fake} C$.
    Ideal discriminator loss: 2, at any score in [-1, 1]; best score: the sign of p - q, which does not tell the ratio:
    the rule is not proper. Where the best discriminator does not jump it gives the generator no gradient.
    Source: Lim and Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization, 2018, equations 16 and 17.

    >>> float(Hinge().discriminator(jnp.zeros(2), jnp.zeros(2)))
    2.0
    """

    def real_loss(self, score: Array) -> Array:
        return relu(1 - score)

    def fake_loss(self, score: Array) -> Array:
        return relu(1 + score)

    def generator_loss(self, score: Array) -> Array:
        return -score

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return jnp.sign(log_ratio(p, q))

    @property
    def divergence(self) -> str:
        return "2 TV(data, model)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=False, strictly_proper=False, symmetric=True, bounded=True)
