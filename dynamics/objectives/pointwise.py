"""Objectives whose losses are means of functions of single scores: all about them follows from three functions."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Objective, Properties, log_ratio, masses, slope
from dynamics.scalars import sigmoid

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
FURTHEST = 80.0  # logarithm of a ratio, within the range of float32
LEVEL = 1e-3  # a power of the ratio below which a function counts as level


class Pointwise(Objective):
    r"""Losses $L_D = E_{real}\,a(C) + E_{fake}\,b(C)$ and $L_G = E_{fake}\,h(C)$.

    The best score where the densities are p and q minimises $p\,a(C) + q\,b(C)$, and the ratio that it tells is
    $p/q = -b'(C)/a'(C)$. The weight of the generator's gradient is $w = -\mathrm{d}h(C^*)/\mathrm{d}\log r$.
    """

    @abstractmethod
    def real_loss(self, score: Array) -> Array:
        """a, what the discriminator pays for the score of a real sample, elementwise."""

    @abstractmethod
    def fake_loss(self, score: Array) -> Array:
        """b, what the discriminator pays for the score of a fake sample, elementwise."""

    @abstractmethod
    def generator_loss(self, score: Array) -> Array:
        """h, what the generator pays for the score of a fake sample, elementwise."""

    @property
    @abstractmethod
    def properties(self) -> Properties:
        """Whether it is proper, strictly proper, symmetric, bounded."""

    @abstractmethod
    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        """The raw score of the best discriminator at each point, where densities are p (data) and q (model)."""

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(real).mean(self.real_loss) + as_sample(fake).mean(self.fake_loss)

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(fake).mean(self.generator_loss)

    @property
    def ideal_score(self) -> Array:
        return self.optimal_score(1.0, 1.0)

    @property
    def ideal_discriminator_loss(self) -> Array:
        score = self.ideal_score
        return self.real_loss(score) + self.fake_loss(score)

    def density_ratio(self, scores: ArrayLike) -> Array:
        if not self.properties.strictly_proper:
            return super().density_ratio(scores)
        on_real, on_fake = slope(self.real_loss, scores), slope(self.fake_loss, scores)
        nothing = (on_real == 0) & (on_fake != 0)  # infinite, of either sign of 0
        return jnp.where(nothing, jnp.inf, -on_fake / jnp.where(nothing, 1, on_real))

    def divergence_value(
        self,
        p: ArrayLike,
        q: ArrayLike,
        weights: ArrayLike | None = None,
        points: ArrayLike | None = None,
    ) -> Array:
        real, fake = masses(p, q, weights)
        scores = self.optimal_score(p, q, weights)
        # What has no mass counts nothing, also where the best score is infinite.
        on_real = jnp.where(real == 0, 0, real * self.real_loss(scores))
        on_fake = jnp.where(fake == 0, 0, fake * self.fake_loss(scores))
        return self.ideal_discriminator_loss - jnp.sum(on_real + on_fake)

    def generator_weight(self, ratio: ArrayLike) -> Array:
        log_of_ratio = jnp.log(jnp.asarray(ratio) * 1.0)
        far = _far(log_of_ratio.dtype)
        ends = self._weight(far * jnp.asarray([-1.0, 1.0, -0.5, 0.5], log_of_ratio.dtype))
        power = _power(ends[:2], ends[2:], far)
        limits = jnp.where(power > LEVEL, jnp.inf, jnp.where(power < -LEVEL, 0, ends[:2]))
        infinite = jnp.isinf(log_of_ratio)
        limit = jnp.where(log_of_ratio > 0, limits[1], limits[0])
        return jnp.where(infinite, limit, self._weight(jnp.where(infinite, 0, log_of_ratio)))

    def _weight(self, log_of_ratio: Array) -> Array:
        def paid(log_of_ratio: Array) -> Array:
            return self.generator_loss(self.optimal_score(sigmoid(log_of_ratio), sigmoid(-log_of_ratio)))

        return -slope(paid, log_of_ratio)

    def descended_divergence(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        # With l = log r and t = l x: f = integral from 0 to l of (e^(l - t) - 1) w(e^t) dt.
        real, fake = masses(p, q, weights)
        log_of_ratio, x = log_ratio(real, fake), (NODES + 1) / 2
        whole = jnp.where(jnp.isinf(log_of_ratio), 0, log_of_ratio)[..., None]
        terms = whole * jnp.expm1(whole * (1 - x)) * self._weight(whole * x)
        total = fake * jnp.sum(WEIGHTS / 2 * terms, axis=-1)
        # Where the model is alone its mass pays f(0), where the data are theirs pays the slope of f at infinity.
        of_model, of_data = self._integrals(real.dtype)
        total = total + fake * jnp.where(jnp.isneginf(log_of_ratio), of_model, 0)
        return jnp.sum(total + real * jnp.where(jnp.isposinf(log_of_ratio), of_data, 0))

    def _integrals(self, dtype: Any) -> Array:
        """Of w(e^-t) and of e^-t w(e^t) from 0 to infinity; far out they go on like a power of the ratio."""
        far = _far(dtype)
        places = far * jnp.asarray(np.append((NODES + 1) / 2, [1, 0.5]), dtype)
        weights = jnp.reshape(self._weight(jnp.concatenate([-places, places])), (2, -1))
        values = weights * jnp.stack([jnp.ones_like(places), jnp.exp(-places)])
        last, before = values[:, -2], values[:, -1]
        power = _power(last, before, far)
        falls = (power < -LEVEL) | (last == 0)
        rest = jnp.where(last == 0, 0, last / -jnp.where(falls, power, -1))
        inner = jnp.sum(jnp.asarray(WEIGHTS * far / 2, dtype) * values[:, :-2], axis=1)
        return jnp.where(falls, inner + rest, jnp.inf * last)


def _far(dtype: Any) -> float:
    """How far out functions are looked at: squares of the ratio stay finite."""
    return FURTHEST if jnp.finfo(dtype).bits >= 64 else FURTHEST / 2


def _power(last: Array, before: Array, far: float) -> Array:
    """The power of the ratio, or of its inverse, that a function is like, from its values far out and half as far."""
    return jnp.log(jnp.abs(last / before)) / (far / 2)


class TwoSided(Pointwise):
    r"""A pointwise objective whose generator is paid with the discriminator's functions.

    Saturating: $h = -b$, the zero-sum game, in which the generator minimises what the discriminator maximises.
    Non-saturating: $h = a$, as if its samples were real.

    Args:
        saturating: which of them.
    """

    saturating: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if not isinstance(self.saturating, bool):
            raise TypeError(f"{type(self).__name__}.saturating is {self.saturating!r}; expected True or False")

    def generator_loss(self, score: Array) -> Array:
        return -self.fake_loss(score) if self.saturating else self.real_loss(score)
