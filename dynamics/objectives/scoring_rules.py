"""Proper scoring rules on D = sigmoid(C); the logarithmic one is `Minimax`, the hinge (not proper) is `Hinge`."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics.objectives.base import Properties, log_ratio
from dynamics.objectives.f_divergences import SquaredHellinger
from dynamics.objectives.pointwise import TwoSided
from dynamics.scalars import sigmoid, softplus


class OfProbability(TwoSided):
    r"""A strictly proper score of the probability $D = \sigma(C)$, the same for both kinds of samples."""

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return log_ratio(p, q)

    def density_ratio(self, scores: ArrayLike) -> Array:
        return jnp.exp(jnp.asarray(scores) * 1.0)  # the quotient of slopes, without their tails

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)


class Brier(OfProbability):
    r"""Square loss on sigmoid outputs, the Brier score: $(1-D)^2$ on real and $D^2$ on fake samples, $D = \sigma(C)$.

    Losses: $L_D = E_{real}\,\sigma(-C)^2 + E_{fake}\,\sigma(C)^2$, $L_G = -E_{fake}\,\sigma(C)^2$; non-saturating:
    $L_G = E_{fake}\,\sigma(-C)^2$. Ideal discriminator loss: 1/2, at score 0; best score: $\log(p/q)$. Weight of the
    generator's gradient: $2 r^2/(1+r)^3$, non-saturating: $2 r/(1+r)^3$; it vanishes on both sides.
    Source: Mohamed and Lakshminarayanan, Learning in Implicit Generative Models, 2016 (proper scoring rules); Gneiting
    and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> float(Brier().discriminator(jnp.zeros(1), jnp.zeros(1)))
    0.5
    """

    def real_loss(self, score: Array) -> Array:
        return jnp.square(sigmoid(-score))

    def fake_loss(self, score: Array) -> Array:
        return jnp.square(sigmoid(score))

    @property
    def divergence(self) -> str:
        if self.saturating:
            return "1/4 of the triangular discrimination, ∫ (p - q)^2 / (p + q)"
        return "2 KL(data, mixture) - 1/4 of the triangular discrimination"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)


class Exponential(TwoSided):
    r"""Exponential (boosting) score: $\sqrt{(1-D)/D}$ on real and $\sqrt{D/(1-D)}$ on fake samples, $D = \sigma(C)$.

    Losses: $L_D = E_{real} \exp(-C/2) + E_{fake} \exp(C/2)$, $L_G = -E_{fake} \exp(C/2)$; non-saturating:
    $L_G = E_{fake} \exp(-C/2)$. Ideal discriminator loss: 2, at score 0; best score: $\log(p/q)$. Weight of the
    generator's gradient: $\sqrt{r}/2$, non-saturating: $1/(2\sqrt{r})$, which explodes on fakes that are seen through.
    Where the minus sign is printed under the root, it belongs outside.
    Source: Mohamed and Lakshminarayanan, Learning in Implicit Generative Models, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> float(Exponential().discriminator(jnp.zeros(1), jnp.zeros(1)))
    2.0
    """

    def real_loss(self, score: Array) -> Array:
        return jnp.exp(-score / 2)

    def fake_loss(self, score: Array) -> Array:
        return jnp.exp(score / 2)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return log_ratio(p, q)

    @property
    def divergence(self) -> str:
        return SquaredHellinger(self.saturating).divergence  # the same, of scores of half the size

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)


class Misclassification(TwoSided):
    r"""The share of wrong decisions at score 0, whose gradient is zero: nobody learns from it.

    Losses: $L_D = E_{real}\,1[C \le 0] + E_{fake}\,1[C > 0]$, $L_G = -E_{fake}\,1[C > 0]$; non-saturating:
    $L_G = E_{fake}\,1[C \le 0]$. Ideal discriminator loss: 1, at any score; best score: any with the sign of p - q: the
    rule is proper, not strictly, and no ratio can be read. All gradients are 0, and every point is an equilibrium.
    Source: Mohamed and Lakshminarayanan, Learning in Implicit Generative Models, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> float(Misclassification().discriminator(jnp.asarray([-0.5, 2.0]), jnp.asarray([-1.0])))
    0.5
    """

    def real_loss(self, score: Array) -> Array:
        return jnp.where(score > 0, jnp.zeros_like(score), jnp.ones_like(score))

    def fake_loss(self, score: Array) -> Array:
        return jnp.where(score > 0, jnp.ones_like(score), jnp.zeros_like(score))

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return jnp.sign(log_ratio(p, q))

    @property
    def divergence(self) -> str:
        return "TV(data, model)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=False, symmetric=True, bounded=True)


class Spherical(OfProbability):
    r"""Spherical score: $D/\sqrt{D^2+(1-D)^2}$ for real and $(1-D)/\sqrt{D^2+(1-D)^2}$ for fake samples.

    Losses: $L_D = -E_{real} \sqrt{\sigma(2C)} - E_{fake} \sqrt{\sigma(-2C)}$, $L_G = E_{fake} \sqrt{\sigma(-2C)}$;
    non-saturating: $L_G = -E_{fake} \sqrt{\sigma(2C)}$, for $D = \sigma(C)$. Ideal discriminator loss: $-\sqrt{2}$, at
    score 0; best score: $\log(p/q)$. Weight of the generator's gradient: $r^2/(1+r^2)^{3/2}$, non-saturating:
    $r/(1+r^2)^{3/2}$.
    Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007; as an
    objective: Mohamed and Lakshminarayanan, Learning in Implicit Generative Models, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> round(float(Spherical().discriminator(jnp.zeros(1), jnp.zeros(1))), 6)
    -1.414214
    """

    def real_loss(self, score: Array) -> Array:
        return -jnp.exp(-softplus(-2 * score) / 2)

    def fake_loss(self, score: Array) -> Array:
        return -jnp.exp(-softplus(2 * score) / 2)

    @property
    def divergence(self) -> str:
        if self.saturating:
            return "∫ √(p^2 + q^2) - √2"
        return "∫ q f(p / q) with f'' = 1 / (u (1 + u^2)^(3/2))"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)
