r"""What a hidden layer does to the covariance of a pair of Gaussian numbers: closed forms for wide networks.

For $(u, v)$ Gaussian with mean 0, variances a and b and covariance c, an activation $\phi$ gives the second moments
$E\phi(u)^2$, $E\phi(v)^2$, $E\phi(u)\phi(v)$ of what comes out, and $E\phi'(u)\phi'(v)$.
"""

import functools
import math
from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
from jaxtyping import Array

from dynamics._checks import as_leaf, check_number

_TOP = math.tan(math.pi / 8) ** 2
# arctan(sqrt w) / sqrt w for w in [0, tan(pi/8)^2], as a polynomial of 2 w / top - 1, highest power first.
_ARCTAN = tuple(
    float(number)
    for number in np.polynomial.Chebyshev.interpolate(lambda w: np.arctan(np.sqrt(w)) / np.sqrt(w), 11, [0, _TOP])
    .convert(kind=np.polynomial.Polynomial, domain=[0, _TOP], window=[-1, 1])
    .coef[::-1]
)


class Covariances(NamedTuple):
    r"""Second moments of a pair of numbers, in a form that tells nearby and opposite points apart to all digits.

    Attributes:
        first, second, product: $a = Eu^2$, $b = Ev^2$, $c = Euv$.
        difference: a - b.
        minus, plus: $2\sqrt{ab} - 2c$ and $2\sqrt{ab} + 2c$, so that $\tan^2(\theta/2)$ is their ratio for the angle
            with $\cos\theta = c/\sqrt{ab}$. From a, b and c half of the digits of a small angle would be lost.
    """

    first: Array
    second: Array
    product: Array
    difference: Array
    minus: Array
    plus: Array

    @classmethod
    def of_vectors(cls, u: Array, v: Array) -> "Covariances":
        """Sums of squares and of products of two vectors; the angle from the difference of their directions."""
        first, second = jnp.sum(jnp.square(u)), jnp.sum(jnp.square(v))
        norms = root(first), root(second)
        one, two = (vector / jnp.where(norm > 0, norm, 1) for vector, norm in zip((u, v), norms, strict=True))
        both = norms[0] * norms[1]
        return cls(
            first,
            second,
            jnp.sum(u * v),
            jnp.sum((u - v) * (u + v)),
            both * jnp.sum(jnp.square(one - two)),
            both * jnp.sum(jnp.square(one + two)),
        )

    @classmethod
    def of_moments(cls, first: Array, second: Array, product: Array) -> "Covariances":
        """From the three moments, where the activation is smooth and small angles do not matter."""
        twice = 2 * root(first) * root(second)
        return cls(first, second, product, first - second, twice - 2 * product, twice + 2 * product)

    def scaled(self, factor: Array) -> "Covariances":
        """Those of the numbers times the root of a factor."""
        return Covariances(*(factor * moment for moment in self))

    def shifted(self, variance: Array) -> "Covariances":
        """Those of the numbers plus one and the same independent number of this variance."""
        first, second = self.first + variance, self.second + variance
        before, after = (self.plus + self.minus) / 4, root(first) * root(second)  # the roots of ab
        # All terms are positive: nothing cancels. (sqrt a - sqrt b)^2 = (a - b)^2 / (sqrt a + sqrt b)^2
        apart = quotient(jnp.square(self.difference), self.first + self.second + 2 * before)
        minus = self.minus + 2 * variance * quotient(apart, after + variance + before)
        grown = variance * quotient(self.first + self.second + variance, after + before)
        plus = self.plus + 2 * grown + 2 * variance
        return Covariances(first, second, self.product + variance, self.difference, minus, plus)


def quotient(numerator: Array, denominator: Array) -> Array:
    """A quotient of numbers >= 0, and 0 with gradient 0 where the denominator is 0."""
    nonzero = denominator > 0
    return jnp.where(nonzero, numerator, 0) / jnp.where(nonzero, denominator, 1)


def root(x: Array) -> Array:
    """The square root, and 0 with gradient 0 for x <= 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _halves(minus: Array, plus: Array) -> tuple[Array, Array]:
    """Numbers in the ratio of sin(theta/2) to cos(theta/2); what is below rounding is 0, with gradient 0."""
    least = jnp.square(jnp.finfo(jnp.result_type(minus, plus)).eps) * jnp.maximum(minus, plus)
    least = jax.lax.stop_gradient(least)
    return root(jnp.where(minus > least, minus, 0)), root(jnp.where(plus > least, plus, 0))


@jax.custom_jvp
def angle(minus: Array, plus: Array) -> Array:
    r"""The angle $\theta = 2\arctan\sqrt{minus/plus}$ in $[0, \pi]$; its gradient is 0 at both ends, and at 0/0."""
    sine, cosine = _halves(minus, plus)
    low, high = jnp.minimum(sine, cosine), jnp.maximum(sine, cosine)
    # A polynomial, as that of JAX on the host is a call per number: the matrix of a kernel of three layers takes a
    # third of the time. arctan t = 2 arctan(t / (1 + sqrt(1 + t^2))).
    ratio = low / jnp.where(high > 0, high, 1)
    ratio = ratio / (1 + jnp.sqrt(1 + jnp.square(ratio)))
    place = 2 / _TOP * jnp.square(ratio) - 1
    series = functools.reduce(lambda total, one: total * place + one, _ARCTAN[1:], jnp.full_like(place, _ARCTAN[0]))
    half = 2 * ratio * series
    return 2 * jnp.where(sine > cosine, jnp.pi / 2 - half, half)


@angle.defjvp
def _angle_jvp(primals, tangents):
    (minus, plus), (dminus, dplus) = primals, tangents
    sine, cosine = _halves(minus, plus)
    change = quotient(cosine, sine) * dminus - quotient(sine, cosine) * dplus
    nonzero = (sine > 0) & (cosine > 0)
    return angle(minus, plus), jnp.where(nonzero, change, 0) / jnp.where(nonzero, minus + plus, 1)


def sine_of_angle(minus: Array, plus: Array) -> Array:
    """The sine of the angle; its gradient is 0 at both ends."""
    sine, cosine = _halves(minus, plus)
    return quotient(2 * sine * cosine, minus + plus)


@jax.custom_jvp
def absolute_gap(minus: Array, plus: Array) -> Array:
    r"""$2\sqrt{ab} - 2E|uv|$, which vanishes with the angle and with $\pi$ less the angle.

    $E|uv| = \frac2\pi\sqrt{ab}\,(\sin\theta + (\frac\pi2-\theta)\cos\theta)$. With derivatives without poles.
    """
    low, high = jnp.minimum(minus, plus), jnp.maximum(minus, plus)
    sine, cosine = _halves(low, high)
    return low + (angle(low, high) * (high - low) - 2 * sine * cosine) / jnp.pi


@absolute_gap.defjvp
def _absolute_gap_jvp(primals, tangents):
    (minus, plus), (dminus, dplus) = primals, tangents
    sine, between = sine_of_angle(minus, plus), angle(minus, plus)
    change = (jnp.pi - sine - between) * dminus + (between - sine) * dplus
    return absolute_gap(minus, plus), change / jnp.pi


class Activation(eqx.Module):
    """An elementwise function whose second moments under Gaussian pairs are known."""

    @abstractmethod
    def __call__(self, values: Array) -> Array:
        """The function itself, elementwise."""

    @abstractmethod
    def propagate(self, pair: Covariances) -> tuple[Covariances, Array]:
        r"""Second moments of $(\phi(u), \phi(v))$, and $E\phi'(u)\phi'(v)$."""


class ReLU(Activation):
    r"""The rectifier $\max(u, 0) + s \min(u, 0)$; with a slope s other than 0 the leaky one.

    With $\theta$ = arccos$(c/\sqrt{ab})$, for s = 0: $E\phi\phi = \frac{\sqrt{ab}}{2\pi}(\sin\theta +
    (\pi-\theta)\cos\theta)$, $E\phi'\phi' = \frac{\pi-\theta}{2\pi}$. No factor of $\sqrt2$.
    Source: Cho and Saul, Kernel Methods for Deep Learning, 2009, equation 6 (s = 0). Any slope: $\phi(u) =
    \frac{1+s}{2}u + \frac{1-s}{2}|u|$, whose two parts are uncorrelated.

    Args:
        slope: s, for negative numbers.

    Raises:
        ValueError: the slope is no finite number.
    """

    slope: Array = eqx.field(converter=as_leaf, default=0.0)

    def __check_init__(self):
        check_number(self, "slope")

    def __call__(self, values: Array) -> Array:
        return jnp.where(values > 0, values, self.slope * values)

    def propagate(self, pair: Covariances) -> tuple[Covariances, Array]:
        odd, even = jnp.square((1 + self.slope) / 2), jnp.square((1 - self.slope) / 2)
        gap = absolute_gap(pair.minus, pair.plus)
        absolute = (pair.minus + pair.plus) / 4 - gap / 2  # E|uv|
        moments = Covariances(
            (odd + even) * pair.first,
            (odd + even) * pair.second,
            odd * pair.product + even * absolute,
            (odd + even) * pair.difference,
            odd * pair.minus + even * gap,
            odd * pair.plus + even * (pair.minus + pair.plus - gap),
        )
        return moments, odd + even * (1 - 2 / jnp.pi * angle(pair.minus, pair.plus))


class Erf(Activation):
    r"""The error function, a smooth sigmoid between -1 and 1.

    $E\phi\phi = \frac2\pi\arcsin\frac{2c}{\sqrt{(1+2a)(1+2b)}}$, $E\phi'\phi' =
    \frac4\pi\big/\sqrt{(1+2a)(1+2b)-4c^2}$.
    Source: Williams, Computing with Infinite Networks, 1997, equation 11.
    """

    def __call__(self, values: Array) -> Array:
        return jax.scipy.special.erf(values)

    def propagate(self, pair: Covariances) -> tuple[Covariances, Array]:
        a, b, c = pair.first, pair.second, pair.product

        def rest(a: Array, b: Array, c: Array) -> Array:
            # At least 1, as the determinant ab - c^2 is not negative.
            return jnp.sqrt(jnp.maximum(1, 1 + 2 * (a + b) + 4 * (a * b - jnp.square(c))))

        # arcsin(x / sqrt(x^2 + y^2)) as arctan(x / y), which keeps its digits next to 1.
        first, second, product = (
            2 / jnp.pi * jnp.arctan2(2 * moment, rest(*which))
            for moment, which in ((a, (a, a, a)), (b, (b, b, b)), (c, (a, b, c)))
        )
        return Covariances.of_moments(first, second, product), 4 / jnp.pi / rest(a, b, c)


class Sine(Activation):
    r"""A wave $A\sin(\omega u + p)$.

    $E\phi\phi = \frac{A^2}{2}(e^{-\omega^2 s/2} - \cos(2p)\,e^{-\omega^2 t/2})$ with $s = a+b-2c$ and $t = a+b+2c$;
    $E\phi'\phi'$ has a plus and a factor of $\omega^2$. With the phase $\pi/4$ the second term is gone: the Gaussian
    process of one hidden layer without bias is the Gaussian kernel, for $A^2 = 2$ and $\omega^2 = 2\gamma$
    $\exp(-\gamma\|x-y\|^2/d)$.
    Source: from the characteristic function of a Gaussian; the features of Rahimi and Recht, Random Features for
    Large-Scale Kernel Machines, 2007.

    Args:
        frequency: omega.
        phase: p.
        amplitude: A.

    Raises:
        ValueError: one of them is no finite number.
    """

    frequency: Array = eqx.field(converter=as_leaf, default=1.0)
    phase: Array = eqx.field(converter=as_leaf, default=0.0)
    amplitude: Array = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        for name in ("frequency", "phase", "amplitude"):
            check_number(self, name)

    def __call__(self, values: Array) -> Array:
        return self.amplitude * jnp.sin(self.frequency * values + self.phase)

    def propagate(self, pair: Covariances) -> tuple[Covariances, Array]:
        half, squared = jnp.square(self.amplitude) / 2, jnp.square(self.frequency)
        cosine = jnp.cos(2 * self.phase)

        def waves(a: Array, b: Array, c: Array, sign: int) -> Array:
            near = jnp.exp(-squared * (a + b - 2 * c) / 2)
            return half * (near + sign * cosine * jnp.exp(-squared * (a + b + 2 * c) / 2))

        a, b, c = pair.first, pair.second, pair.product
        moments = Covariances.of_moments(waves(a, a, a, -1), waves(b, b, b, -1), waves(a, b, c, -1))
        return moments, squared * waves(a, b, c, 1)
