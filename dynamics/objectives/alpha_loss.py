"""The alpha-loss, one number between the exponential, the logarithmic and the 0-1 loss; one for each player."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from dynamics._checks import as_leaf, is_concrete
from dynamics.objectives.base import Properties, log_ratio, masses
from dynamics.objectives.pointwise import Pointwise
from dynamics.scalars import decayed, softplus


class AlphaLoss(Pointwise):
    r"""GAN of two numbers, (alpha_D, alpha_G): each player is paid with an alpha-loss of its own.

    Losses: $L_D = E_{real}\,l_D(D) + E_{fake}\,l_D(1-D)$ with $D = \sigma(C)$ and
    $l_D(D) = (1 - D^{1-1/\alpha_D})\,\alpha_D/(\alpha_D-1)$, likewise $l_G$; $L_G = -E_{fake}\,l_G(1-D)$;
    non-saturating: $L_G = E_{fake}\,l_G(D)$. Order 1/2 is the exponential loss 1/D - 1, 1 the log-loss, infinity 1 - D.
    Ideal discriminator loss: $\frac{\alpha}{\alpha-1}(2 - 2^{1/\alpha})$ of the discriminator's, at score 0; best
    score: $\alpha_D \log(p/q)$. Weight of the generator's gradient: $\alpha_D D (1-D)^{1-1/\alpha_G}$ at the best D;
    non-saturating: $\alpha_D (1-D) D^{1-1/\alpha_G}$.
    With one alpha for both: the squared Hellinger (1/2: $\int (\sqrt{p}-\sqrt{q})^2$), 2 JSD (1), TV (infinity), by the
    normalisation of here, `divergence_value`; in between the Arimoto divergences. With two, `value_divergence` is what
    the paper states of the generator's value, where `is_valid`; what it goes downhill on is `descended_divergence`.
    The bounds of validity are the published ones, checked numerically. The authors' code clamps D to [1e-7, 1 - 1e-7];
    nothing is clamped here.
    Source: Kurri, Sypherd, Sankar, Realizing GANs via a Tunable Loss Function, 2021 (one alpha); Welfert, Otstot,
    Kurri, Sankar, (alpha_D, alpha_G)-GANs: Addressing GAN Training Instabilities via Dual Objectives, 2023, with the
    code.

    Args:
        alpha_discriminator, alpha_generator: > 0; infinity is allowed.
        saturating: which of the two losses of the generator.

    Raises:
        ValueError: an alpha is not positive, or no number.

    >>> round(float(AlphaLoss(0.3).ideal_discriminator_loss), 6)
    3.462586
    """

    alpha_discriminator: Array = eqx.field(converter=as_leaf, default=1.0)
    alpha_generator: Array = eqx.field(converter=as_leaf, default=1.0)
    saturating: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        for name in ("alpha_discriminator", "alpha_generator"):
            value = getattr(self, name)
            if jnp.shape(value) != () or (is_concrete(value) and not float(value) > 0):
                shown = np.asarray(value).tolist() if is_concrete(value) else f"of shape {jnp.shape(value)}"
                raise ValueError(f"AlphaLoss.{name} is {shown}; expected one number > 0, or infinity")

    def real_loss(self, score: Array) -> Array:
        return _loss(score, self.alpha_discriminator)

    def fake_loss(self, score: Array) -> Array:
        return _loss(-score, self.alpha_discriminator)

    def generator_loss(self, score: Array) -> Array:
        return -_loss(-score, self.alpha_generator) if self.saturating else _loss(score, self.alpha_generator)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        ratio, alpha = log_ratio(p, q), self.alpha_discriminator
        undecided = jnp.isinf(alpha) & (ratio == 0)
        return jnp.where(undecided, 0, alpha * jnp.where(undecided, 1, ratio))

    def density_ratio(self, scores: ArrayLike) -> Array:
        """The ratio that scores tell; NaN for an infinite alpha, which is proper, but not strictly."""
        alpha = self.alpha_discriminator
        finite = jnp.isfinite(alpha)
        return jnp.where(finite, jnp.exp(jnp.asarray(scores) / jnp.where(finite, alpha, 1)), jnp.nan)

    @property
    def is_valid(self) -> Array:
        r"""Whether the theorems make a divergence of the generator's value, a truth value.

        Saturating: $\alpha_D \le 1$ and $\alpha_G > \alpha_D/(\alpha_D+1)$, or $\alpha_D > 1$ and
        $\alpha_D/2 < \alpha_G \le \alpha_D$. Non-saturating: $\alpha_D + \alpha_G > \alpha_D \alpha_G$. The lower
        bounds are sharp. Above $\alpha_G = \alpha_D > 1$ f is convex for ratios near 1, but not for large and small
        ones.
        """
        first, second = self.alpha_discriminator, self.alpha_generator
        if not self.saturating:
            return 1 / first + 1 / second > 1  # the same, and with a meaning for infinity
        small = (first <= 1) & (second > first / (first + 1))
        return small | ((first > 1) & (first / 2 < second) & (second <= first))

    def value_divergence(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        r"""The generator's value against the best discriminator, less its value for p = q.

        Saturating: $V_{\alpha_G}(D^*)$, the generator's loss with the term of the real samples added, as in the paper.
        """
        real, fake = masses(p, q, weights)
        scores = self.optimal_score(p, q)

        def value(real: Array, fake: Array, scores: Array) -> Array:
            on_fake = jnp.where(fake == 0, 0, fake * self.generator_loss(scores))
            if not self.saturating:
                return jnp.sum(on_fake)
            return jnp.sum(on_fake - jnp.where(real == 0, 0, real * _loss(scores, self.alpha_generator)))

        return value(real, fake, scores) - value(jnp.ones(1), jnp.ones(1), jnp.zeros(1))

    @property
    def divergence(self) -> str:
        return "Arimoto, for equal alphas" if self.saturating else "see descended_divergence"

    @property
    def properties(self) -> Properties:
        alpha = self.alpha_discriminator
        strictly = bool(np.isfinite(alpha)) if is_concrete(alpha) else None
        return Properties(proper=True, strictly_proper=strictly, symmetric=True, bounded=True)


def _loss(score: Array, alpha: Array) -> Array:
    """The alpha-loss of the probability sigmoid(score), with 1/D the exponential of softplus(-score)."""
    return decayed(softplus(-score), 1 - 1 / alpha)
