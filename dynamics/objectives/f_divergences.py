"""f-GAN: variational lower bounds of f-divergences, those of the paper's table and any user's."""

import math
from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics.game import as_callable
from dynamics.objectives.base import Properties, log_ratio, masses, slope
from dynamics.objectives.pointwise import FURTHEST, TwoSided
from dynamics.scalars import half_square, sigmoid, softplus

LOG_2 = math.log(2)


class FDivergence(TwoSided):
    r"""The bound $D_f(p\|q) = \int q\,f(p/q) \ge E_{real}\,T - E_{fake}\,f^*(T)$, with outputs T = g(C).

    The output activation g maps all numbers into the domain of the conjugate f*. The bound is attained at
    $T = f'(p/q)$; at p = q it is f(1), at T = f'(1). A non-saturating generator minimises $-E_{fake}\,T$; its gradient
    is that of another divergence, with $\tilde f'' = f''(u)/u$.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016; Shannon, Properties of f-Divergences and f-GAN Training, 2020 (the
    gradient). The rows for reverse KL, Pearson, squared Hellinger and Jensen-Shannon are often printed with errors;
    those here are checked by quadrature. The first paper was not read: the activations are those that code of others
    has under its name, and that they are valid ones is checked.
    """

    @abstractmethod
    def function(self, ratio: Array) -> Array:
        """f, convex, of the density ratio u = p/q."""

    @abstractmethod
    def output(self, score: Array) -> Array:
        """T = g(C), the discriminator's output for a raw score."""

    @abstractmethod
    def conjugate(self, score: Array) -> Array:
        """f*(g(C)), of a raw score, in a form that no rounding spoils."""

    def real_loss(self, score: Array) -> Array:
        return -self.output(score)

    def fake_loss(self, score: Array) -> Array:
        return self.conjugate(score)


class KL(FDivergence):
    r"""Kullback-Leibler divergence of the data from the model, $f = u\log u$, with T = C.

    Losses: $L_D = -E_{real} C + E_{fake} \exp(C - 1)$, $L_G = -E_{fake} \exp(C - 1)$; non-saturating: $L_G = -E_{fake}
    C$. Ideal discriminator loss: 0, at score 1; best score: $1 + \log(p/q)$. Weight of the generator's gradient: r (it
    explodes where the model has too little), non-saturating: 1.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> round(float(KL().divergence_value([0.5, 0.5], [0.25, 0.75])), 6)  # log(2) / 2 + log(2/3) / 2
    0.143841
    """

    def function(self, ratio: Array) -> Array:
        return ratio * jnp.log(ratio)

    def output(self, score: Array) -> Array:
        return score

    def conjugate(self, score: Array) -> Array:
        return jnp.exp(score - 1)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return 1 + log_ratio(p, q)

    @property
    def divergence(self) -> str:
        return "KL(data, model)" if self.saturating else "KL(model, data)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=False, bounded=False)


class ReverseKL(FDivergence):
    r"""Kullback-Leibler divergence of the model from the data, $f = -\log u$, with $T = -\exp(-C)$.

    Losses: $L_D = E_{real} \exp(-C) + E_{fake} C - 1$, $L_G = 1 - E_{fake} C$; non-saturating:
    $L_G = E_{fake} \exp(-C)$. Ideal discriminator loss: 0, at score 0; best score: $\log(p/q)$, T = -q/p, often printed
    without the inverse. Weight of the generator's gradient: 1, non-saturating: 1/r.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> round(float(ReverseKL().divergence_value([0.5, 0.5], [0.25, 0.75])), 6)
    0.130812
    """

    def function(self, ratio: Array) -> Array:
        return -jnp.log(ratio)

    def output(self, score: Array) -> Array:
        return -jnp.exp(-score)

    def conjugate(self, score: Array) -> Array:
        return score - 1

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return log_ratio(p, q)

    @property
    def divergence(self) -> str:
        return "KL(model, data)" if self.saturating else "half of Neyman's chi-squared, 1/2 ∫ (p - q)^2 / p"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=False, bounded=False)


class Pearson(FDivergence):
    r"""Pearson's chi-squared, $f = (u-1)^2$ and $\int (p-q)^2/q$, with T = C.

    Losses: $L_D = -E_{real} C + E_{fake} (C^2/4 + C)$, $L_G = -E_{fake} (C^2/4 + C)$; non-saturating:
    $L_G = -E_{fake} C$. Ideal discriminator loss: 0, at score 0; best score: 2 (p/q - 1). Weight of the generator's
    gradient: $2 r^2$, non-saturating: 2 r.
    The conjugate is exact for C >= -2, where every best score lies. Below, the supremum over u >= 0 is -1; the square
    is a bound still, smooth, and what is commonly used. In often printed tables the integral is that of Neyman's.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> round(float(Pearson().divergence_value([0.5, 0.5], [0.25, 0.75])), 6)  # 1/4 + 1/12
    0.333333
    """

    def function(self, ratio: Array) -> Array:
        return jnp.square(ratio - 1)

    def output(self, score: Array) -> Array:
        return score

    def conjugate(self, score: Array) -> Array:
        return half_square(score) / 2 + score

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return 2 * jnp.expm1(log_ratio(p, q))

    @property
    def divergence(self) -> str:
        return "Pearson's chi-squared, ∫ (p - q)^2 / q" if self.saturating else "2 KL(data, model)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=False, bounded=False)


class Neyman(FDivergence):
    r"""Neyman's chi-squared, $f = (1-u)^2/u$ and $\int (p-q)^2/p$, with $T = 1 - \exp(-C)$.

    Losses: $L_D = E_{real} (\exp(-C) - 1) + E_{fake} (2 - 2 \exp(-C/2))$, $L_G = E_{fake} (2 \exp(-C/2) - 2)$;
    non-saturating: $L_G = E_{fake} (\exp(-C) - 1)$. Ideal discriminator loss: 0, at score 0; best score:
    $2 \log(p/q)$, $T = 1 - (q/p)^2$. Weight of the generator's gradient: 2/r, non-saturating: $2/r^2$.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016, with the first author's code of 2018.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> round(float(Neyman().divergence_value([0.5, 0.5], [0.25, 0.75])), 6)  # 1/8 + 1/8
    0.25
    """

    def function(self, ratio: Array) -> Array:
        return jnp.square(1 - ratio) / ratio

    def output(self, score: Array) -> Array:
        return 1 - jnp.exp(-score)  # not expm1, whose derivative loses the tail

    def conjugate(self, score: Array) -> Array:
        return 2 - 2 * jnp.exp(-score / 2)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return 2 * log_ratio(p, q)

    def density_ratio(self, scores: ArrayLike) -> Array:
        return jnp.exp(jnp.asarray(scores) / 2)  # the quotient of slopes, without their tails

    @property
    def divergence(self) -> str:
        return "Neyman's chi-squared, ∫ (p - q)^2 / p" if self.saturating else "1/3 (∫ q^3 / p^2 - 1)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=False, bounded=False)


class SquaredHellinger(FDivergence):
    r"""Squared Hellinger distance, $f = (\sqrt{u}-1)^2$ and $\int (\sqrt{p}-\sqrt{q})^2$, with $T = 1 - \exp(-C)$.

    Losses: $L_D = E_{real} (\exp(-C) - 1) + E_{fake} (\exp(C) - 1)$, $L_G = E_{fake} (1 - \exp(C))$; non-saturating:
    $L_G = E_{fake} (\exp(-C) - 1)$. Ideal discriminator loss: 0, at score 0; best score: $\log(p/q)/2$,
    $T = 1 - \sqrt{q/p}$. Weight of the generator's gradient: $\sqrt{r}/2$, non-saturating: $1/(2\sqrt{r})$.
    As often printed, T has another factor. With the scores doubled it is `Exponential`, the exponential scoring rule.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> round(float(SquaredHellinger().divergence_value([1.0, 0.0], [0.0, 1.0])), 6)  # the largest
    2.0
    """

    def function(self, ratio: Array) -> Array:
        return jnp.square(jnp.sqrt(ratio) - 1)

    def output(self, score: Array) -> Array:
        return 1 - jnp.exp(-score)  # not expm1, whose derivative loses the tail

    def conjugate(self, score: Array) -> Array:
        return jnp.exp(score) - 1

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return log_ratio(p, q) / 2

    @property
    def divergence(self) -> str:
        if self.saturating:
            return "squared Hellinger, ∫ (√p - √q)^2"
        return "2/3 (∫ q^(3/2) p^(-1/2) - 1)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)


class JensenShannon(FDivergence):
    r"""Jensen-Shannon divergence JSD by $T = (\log 2 - \mathrm{softplus}(-C))/2$; or twice it, the row of the paper.

    Losses: $L_D = E_{real}\,(\mathrm{softplus}(-C) - \log 2)/2 + E_{fake}\,(\mathrm{softplus}(C) - \log 2)/2$,
    $L_G = -E_{fake}\,(\mathrm{softplus}(C) - \log 2)/2$; non-saturating:
    $L_G = E_{fake}\,(\mathrm{softplus}(-C) - \log 2)/2$. Ideal discriminator loss: 0, at score 0; best score:
    $\log(p/q)$. Weight of the generator's gradient: r/(1+r)/2, non-saturating: 1/(1+r)/2. Doubled: all twice that, and
    the losses of `Minimax` or `NonSaturating` but for the constant log 4.
    The row "JS" of the paper, $f = u\log u - (u+1)\log((1+u)/2)$, is twice the divergence.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.
        doubled: 2 JSD, as in the paper.

    >>> round(float(JensenShannon().divergence_value([1.0, 0.0], [0.0, 1.0])), 6)  # log 2
    0.693147
    """

    doubled: bool = eqx.field(static=True, default=False)

    def function(self, ratio: Array) -> Array:
        return self._scale * (ratio * jnp.log(ratio) - (ratio + 1) * jnp.log((1 + ratio) / 2))

    @property
    def _scale(self) -> float:
        return 1.0 if self.doubled else 0.5

    def output(self, score: Array) -> Array:
        return self._scale * (LOG_2 - softplus(-score))

    def conjugate(self, score: Array) -> Array:
        return self._scale * (softplus(score) - LOG_2)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return log_ratio(p, q)

    @property
    def divergence(self) -> str:
        if self.saturating:
            return "2 JSD(data, model)" if self.doubled else "JSD(data, model)"
        return "KL(model, data) - 2 JSD(data, model)" + ("" if self.doubled else ", halved")

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)


class TotalVariation(FDivergence):
    r"""Total variation distance, $f = |u-1|/2$ and $\frac12\int|p-q|$, with $T = \tanh(C)/2$.

    Losses: $L_D = -E_{real} \tanh(C)/2 + E_{fake} \tanh(C)/2$, $L_G = -E_{fake} \tanh(C)/2$, saturating or not. Ideal
    discriminator loss: 0, at any score; best score: infinite, with the sign of p - q, which does not tell the ratio,
    and leaves the generator no gradient.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016.

    Args:
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.

    >>> float(TotalVariation().divergence_value([0.5, 0.5], [0.25, 0.75]))
    0.25
    """

    def function(self, ratio: Array) -> Array:
        return jnp.abs(ratio - 1) / 2

    def output(self, score: Array) -> Array:
        return sigmoid(2 * score) - 0.5

    def conjugate(self, score: Array) -> Array:
        return sigmoid(2 * score) - 0.5

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        ratio = log_ratio(p, q)
        return jnp.where(ratio == 0, 0, jnp.where(ratio > 0, jnp.inf, -jnp.inf))

    @property
    def divergence(self) -> str:
        return "TV(data, model)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=False, strictly_proper=False, symmetric=True, bounded=True)


class FGAN(FDivergence):
    r"""The divergence of any convex function f of the density ratio, its conjugate by automatic differentiation.

    Losses: $L_D = -E_{real} T + E_{fake} f^*(T)$, $L_G = -E_{fake} f^*(T)$; non-saturating: $L_G = -E_{fake} T$.
    Without an activation the output is $T = f'(u)$ with $u = \exp(C)$: that runs through all values that f' takes, and
    the conjugate is known there, $f^*(f'(u)) = u f'(u) - f(u)$, without a maximum to be sought. So the best score is
    $\log(p/q)$, whatever f is. With an activation g, T = g(C), the u of the maximum is found by bisection; derivatives
    of all orders are exact. Ideal discriminator loss: -f(1). Weight of the generator's gradient: $r^2 f''(r)$,
    non-saturating: $r f''(r)$.
    Source: Nowozin, Cseke, Tomioka, f-GAN, 2016; the parametrisation by the ratio itself is ours.

    Args:
        f: function of one positive number, twice differentiable and strictly convex there; f + c(u - 1) gives the same.
            Without one, $u \log u$, the divergence of `KL`.
        saturating: the zero-sum game; otherwise the generator is paid as if its samples were real.
        name: what the generator minimises, in words.
        activation: increasing function g of a score whose values are among those of f'.

    Far out, f may overflow where a difference of two of its terms would not; the named divergences do not.

    With f of the row "GAN", $u\log u - (u+1)\log(u+1)$, it is `Minimax`:

    >>> gan = FGAN(lambda u: u * jnp.log(u) - (u + 1) * jnp.log(u + 1))
    >>> round(float(gan.discriminator(jnp.asarray([0.3]), jnp.asarray([-1.2]))), 6)
    0.817638
    """

    # With an `__init__` of its own the class has no order of arguments from its fields.
    f: Callable[[Array], Array]  # pyright: ignore[reportGeneralTypeIssues]
    name: str = eqx.field(static=True)  # pyright: ignore[reportGeneralTypeIssues]
    activation: Callable[[Array], Array] | None  # pyright: ignore[reportGeneralTypeIssues]

    def __init__(
        self,
        f: Callable[[Array], Array] | None = None,
        saturating: bool = True,
        name: str = "",
        activation: Callable[[Array], Array] | None = None,
    ):
        self.f = as_callable(_entropy if f is None else f, "FGAN.f")
        self.saturating = saturating
        self.name = name or ("" if f is not None else KL(saturating).divergence)
        self.activation = None if activation is None else as_callable(activation, "FGAN.activation")

    def function(self, ratio: Array) -> Array:
        return self.f(ratio)

    def output(self, score: Array) -> Array:
        return self._slope_at(score) if self.activation is None else self.activation(score)

    def conjugate(self, score: Array) -> Array:
        output = self.output(score)
        ratio = jnp.exp(score if self.activation is None else _root(self._slope_at, output))
        return ratio * output - self.f(ratio)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        log_of_ratio = log_ratio(p, q)
        if self.activation is None:
            return log_of_ratio
        return _root(self.activation, self._slope_at(log_of_ratio))

    def density_ratio(self, scores: ArrayLike) -> Array:
        if self.activation is not None:
            return super().density_ratio(scores)
        return jnp.exp(jnp.asarray(scores) * 1.0)

    def divergence_value(
        self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None, points: ArrayLike | None = None
    ) -> Array:
        """As for all; where data or model are alone, by what f does far out: infinite if it grows on there."""
        real, fake = masses(p, q, weights)

        def paid(scores: Array) -> Array:
            on_real = jnp.where(real == 0, 0, real * self.real_loss(scores))
            return on_real + jnp.where(fake == 0, 0, fake * self.fake_loss(scores))

        alone = (real == 0) != (fake == 0)
        far = jnp.where(real > 0, FURTHEST, -FURTHEST)
        scores = self.optimal_score(jnp.where(alone, 1, p), jnp.where(alone, 1, q))
        last, before = (
            paid(self.optimal_score(*(jnp.exp(s * far / 2) for s in (share, -share)))) for share in (1.0, 0.5)
        )
        grows = jnp.abs(last) > 1.1 * jnp.abs(before) + 1e-6 * (real + fake)
        limit = jnp.where(grows, -jnp.inf, last)
        return self.ideal_discriminator_loss - jnp.sum(jnp.where(alone, limit, paid(scores)))

    def _slope_at(self, log_of_ratio: Array) -> Array:
        return slope(self.f, jnp.exp(log_of_ratio))

    @property
    def divergence(self) -> str:
        return self.name or "∫ q f(p / q)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True)


def _entropy(ratio: Array) -> Array:
    return ratio * jnp.log(ratio)


def _root(function: Callable[[Array], Array], value: Array) -> Array:
    """Where an increasing elementwise function has a value, elementwise; -80 or 80 where that is further out."""

    def halved(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        below = function(middle) < value
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    end = jnp.full_like(value, FURTHEST)
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 60, halved, (-end, end)))
    root = (low + high) / 2
    inside = jnp.abs(root) < 0.99 * FURTHEST
    root = jnp.where(inside, root, 0)
    for _ in range(3):  # every step of Newton's method doubles the order of the derivatives that are right
        root = root - (function(root) - value) / slope(function, root)
    return jnp.where(inside, root, jnp.where(high > 0, FURTHEST, -FURTHEST))
