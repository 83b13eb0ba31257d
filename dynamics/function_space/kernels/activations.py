r"""What a hidden layer does to a pair of Gaussian numbers: closed forms for wide networks.

For $(u, v)$ Gaussian with mean 0, variances a and b and covariance c, an activation $\phi$ gives the second moments
$E\phi(u)^2$, $E\phi(v)^2$, $E\phi(u)\phi(v)$ of what comes out, and $E\phi'(u)\phi'(v)$. What depends on one of the two
alone is computed once per point (`first`, `after`), the rest once per pair (`meet`, `propagate`), with few divisions
and roots: there are many more pairs than points.
"""

import functools
from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.special
from jaxtyping import Array

from dynamics._checks import as_leaf, check_number

# arcsin(sqrt w) / sqrt w on [0, 1/2] by bytes per number, highest power first: `mpmath.chebyfit`, to 4e-9 and 2e-16.
_ARCSIN = {
    4: (
        0.12391349490512975,
        -0.13591627123984387,
        0.10740002130174647,
        -0.0070205791522944755,
        0.03581423928401177,
        0.04409161673371687,
        0.07502757316352404,
        0.16666614237824284,
        1.0000000016226234,
    ),
    8: (
        1.4326072705765098,
        -6.008042872156452,
        11.99054929620933,
        -14.884387574231052,
        12.830658050319302,
        -8.097162378402428,
        3.878312067627145,
        -1.4218180318389972,
        0.41616195625122965,
        -0.08458119964926274,
        0.02446902457333711,
        0.00758177172566054,
        0.011778012699157943,
        0.01394720494599378,
        0.017353770558111315,
        0.022372118687437575,
        0.03038194552436468,
        0.04464285712523146,
        0.075000000000152,
        0.16666666666666616,
        1.0,
    ),
}


def _arcsin(sine: Array) -> Array:
    """Of numbers in [-sqrt(1/2), sqrt(1/2)]: a polynomial, as that of JAX on the host is a call per number."""
    first, *rest = _ARCSIN[8 if sine.dtype == jnp.float64 else 4]
    square = jnp.square(sine)
    return sine * functools.reduce(lambda total, one: total * square + one, rest, jnp.full_like(square, first))


@jax.custom_jvp
def angle(sine: Array, cosine: Array) -> Array:
    r"""The angle in $[-\pi/2, \pi/2]$ of a sine, and a cosine >= 0, whose squares add up to 1; 0 where both are 0."""
    steep = jnp.abs(sine) > cosine
    half = _arcsin(jnp.where(steep, cosine, sine))
    return jnp.where(steep, jnp.where(sine < 0, half - jnp.pi / 2, jnp.pi / 2 - half), half)


@angle.defjvp
def _angle_jvp(primals, tangents):
    (sine, cosine), (dsine, dcosine) = primals, tangents
    return angle(sine, cosine), cosine * dsine - sine * dcosine


def quotient(numerator: Array, denominator: Array) -> Array:
    """A quotient of numbers >= 0, and 0 with gradient 0 where the denominator is 0."""
    nonzero = denominator > 0
    return jnp.where(nonzero, numerator, 0) / jnp.where(nonzero, denominator, 1)


def root(x: Array) -> Array:
    """The square root, and 0 with gradient 0 for x <= 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


@jax.custom_jvp
def inverse_root(x: Array) -> Array:
    """One over the square root, of x > 0."""
    return 1 / jnp.sqrt(x)


@inverse_root.defjvp
def _inverse_root_jvp(primals, tangents):
    inverse = inverse_root(*primals)
    return inverse, -inverse * jnp.square(inverse) / 2 * tangents[0]


class Shares(NamedTuple):
    r"""The angle $\theta$ of two vectors or numbers, in a form that tells nearby and opposite ones apart to all digits.

    Attributes:
        sine, cosine: $\sin^2(\theta/2)$ and $\cos^2(\theta/2)$, which add up to 1; both 0 where one of the two is 0.
            From a, b and c half of the digits of a small angle would be lost.
    """

    sine: Array
    cosine: Array


def _halves(shares: Shares) -> tuple[Array, Array]:
    """Sine and cosine of half the angle, the smaller one first; what is below rounding is 0, with gradient 0."""
    sine, cosine = shares
    obtuse = sine > cosine
    low, high = jnp.where(obtuse, cosine, sine), jnp.where(obtuse, sine, cosine)
    return root(jnp.where(low > jnp.finfo(low.dtype).eps ** 2, low, 0)), root(high)


@jax.custom_jvp
def arc(shares: Shares) -> tuple[Array, Array]:
    r"""The angle $\theta$, and $\frac12 - \frac{E|uv|}{2\sqrt{ab}}$, which vanishes at 0 and at $\pi$.

    $E|uv| = \frac2\pi\sqrt{ab}\,(\sin\theta + (\frac\pi2-\theta)\cos\theta)$. Derivatives without poles: those of the
    second are linear in the angle; those of the first, one over the sine, are 0 at both ends.
    """
    low, high = _halves(shares)
    acute = 2 * _arcsin(low)
    gap = jnp.square(low) + (acute * (jnp.square(high) - jnp.square(low)) - 2 * low * high) / jnp.pi
    return jnp.where(shares.sine > shares.cosine, jnp.pi - acute, acute), gap


@arc.defjvp
def _arc_jvp(primals, tangents):
    (shares,), (changes,) = primals, tangents
    theta, gap = arc(shares)
    obtuse = shares.sine > shares.cosine
    change = jnp.where(obtuse, changes.cosine, changes.sine)  # of the smaller share
    low, high = _halves(shares)
    product, acute = low * high, jnp.where(obtuse, jnp.pi - theta, theta)
    turned = jnp.where(product > 0, change, 0) / jnp.where(product > 0, product, 1)
    return (theta, gap), (jnp.where(obtuse, -turned, turned), (1 - 2 / jnp.pi * acute) * change)


class Activation(eqx.Module):
    """An elementwise function whose second moments under Gaussian pairs are known.

    What is needed of a point at every layer, and of a pair of points, is for each activation to say; weight and bias
    are the variances $\\sigma_w^2$ and $\\sigma_b^2$, a bias of `None` that of a layer without one.
    """

    @abstractmethod
    def __call__(self, values: Array) -> Array:
        """The function itself, elementwise."""

    @abstractmethod
    def first(self, vector: Array) -> Any:
        """What is needed of a point at the first layer, whose numbers have the covariances of vectors' products."""

    @abstractmethod
    def after(self, point: Any, weight: Array, bias: Array | None) -> Any:
        """The same one layer further."""

    @abstractmethod
    def meet(self, one: Any, two: Any) -> Any:
        """What is needed of a pair at the first layer."""

    @abstractmethod
    def propagate(
        self, pair: Any, before: tuple[Any, Any], after: tuple[Any, Any], weight: Array, bias: Array | None
    ) -> tuple[Any, Array]:
        r"""The same one layer further, and $E\phi'(u)\phi'(v)$."""

    @abstractmethod
    def product(self, pair: Any, one: Any, two: Any) -> Array:
        """The covariance of the pair."""


class Radius(NamedTuple):
    r"""A point at a layer, for activations that need the angle.

    Attributes:
        direction: unit vector, at the first layer; else empty.
        radius: r, the standard deviation, the bias included.
        ratio: $r'/r$, with the deviation r' without the bias.
        sum: $r + r'$.
        scale: $\frac{1}{2 r (r + r')}$.
    """

    direction: Array
    radius: Array
    ratio: Array
    sum: Array
    scale: Array


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

    def first(self, vector: Array) -> Radius:
        radius = root(jnp.sum(jnp.square(vector)))
        direction = vector / jnp.where(radius > 0, radius, 1)
        none = jnp.zeros_like(radius)
        return Radius(direction, radius, none, none, none)

    def after(self, point: Radius, weight: Array, bias: Array | None) -> Radius:
        variance = weight * (1 + jnp.square(self.slope)) / 2 * jnp.square(point.radius)
        without, none = root(variance), jnp.zeros_like(point.radius)
        empty = jnp.zeros((0,), none.dtype)
        if bias is None:
            return Radius(empty, without, none, none, none)
        radius = root(variance + bias)
        both = 2 * radius * (radius + without)
        # Without a bias the scale counts for nothing, and its derivatives next to 0 would be infinite.
        counts = (both > 0) & ((bias > 0) | (both > jnp.finfo(both.dtype).tiny ** 0.125))
        scale = jnp.where(counts, 1 / jnp.where(counts, both, 1), 0)
        return Radius(empty, radius, quotient(without, radius), radius + without, scale)

    def meet(self, one: Radius, two: Radius) -> Shares:
        apart, together = one.direction - two.direction, one.direction + two.direction
        return Shares(jnp.sum(jnp.square(apart)) / 4, jnp.sum(jnp.square(together)) / 4)

    def propagate(
        self, pair: Shares, before: tuple[Any, Any], after: tuple[Any, Any], weight: Array, bias: Array | None
    ) -> tuple[Shares, Array]:
        odd, even = jnp.square((1 + self.slope) / 2), jnp.square((1 - self.slope) / 2)
        theta, gap = arc(pair)
        sine = odd / (odd + even) * pair.sine + even / (odd + even) * gap
        slopes = odd + even - 2 / jnp.pi * even * theta
        if bias is not None:
            one, two = after
            # The angle between (r'_x, b) and (r'_y, b), in the sum of squares of two terms: nothing cancels.
            unequal = jnp.square(one.sum - two.sum) * (one.scale * two.scale) * bias
            sine = one.ratio * two.ratio * sine + unequal
        # Its digits next to 0, at opposite points, are needed at the first layer alone.
        return Shares(sine, 1 - sine), slopes

    def product(self, pair: Shares, one: Radius, two: Radius) -> Array:
        return one.radius * two.radius * (pair.cosine - pair.sine)


class Spread(NamedTuple):
    """A point at a layer, for activations that need the variance.

    Attributes:
        vector: at the first layer; else empty.
        variance: a.
        inverse: what the activation makes of the variance alone.
    """

    vector: Array
    variance: Array
    inverse: Array


class Smooth(Activation):
    """An activation whose moments are smooth functions of variances and covariance."""

    @abstractmethod
    def alone(self, variance: Array) -> Array:
        """What is needed of a point for its pairs besides the variance."""

    @abstractmethod
    def variance(self, variance: Array) -> Array:
        r"""$E\phi(u)^2$."""

    @abstractmethod
    def moments(self, one: Spread, two: Spread, product: Array) -> tuple[Array, Array]:
        r"""$E\phi(u)\phi(v)$ and $E\phi'(u)\phi'(v)$."""

    def first(self, vector: Array) -> Spread:
        variance = jnp.sum(jnp.square(vector))
        return Spread(vector, variance, self.alone(variance))

    def after(self, point: Spread, weight: Array, bias: Array | None) -> Spread:
        variance = weight * self.variance(point.variance)
        variance = variance if bias is None else variance + bias
        return Spread(jnp.zeros((0,), variance.dtype), variance, self.alone(variance))

    def meet(self, one: Spread, two: Spread) -> Array:
        return jnp.sum(one.vector * two.vector)

    def propagate(
        self, pair: Array, before: tuple[Any, Any], after: tuple[Any, Any], weight: Array, bias: Array | None
    ) -> tuple[Array, Array]:
        product, slopes = self.moments(*before, pair)
        product = weight * product
        return product if bias is None else product + bias, slopes

    def product(self, pair: Array, one: Spread, two: Spread) -> Array:
        return pair


class Erf(Smooth):
    r"""The error function, a smooth sigmoid between -1 and 1.

    $E\phi\phi = \frac2\pi\arcsin\frac{2c}{\sqrt{(1+2a)(1+2b)}}$, $E\phi'\phi' =
    \frac4\pi\big/\sqrt{(1+2a)(1+2b)-4c^2}$.
    Source: Williams, Computing with Infinite Networks, 1997, equation 11.
    """

    def __call__(self, values: Array) -> Array:
        return jax.scipy.special.erf(values)

    def alone(self, variance: Array) -> Array:
        return inverse_root(1 + 2 * variance)

    def variance(self, variance: Array) -> Array:
        norm = 1 / (1 + 2 * variance)
        return 2 / jnp.pi * angle(2 * variance * norm, jnp.sqrt(1 + 4 * variance) * norm)

    def moments(self, one: Spread, two: Spread, product: Array) -> tuple[Array, Array]:
        a, b, c = one.variance, two.variance, product
        # At least 1, as the determinant ab - c^2 is not negative.
        rest = jnp.maximum(1, 1 + 2 * (a + b) + 4 * (a * b - jnp.square(c)))
        inverse = inverse_root(rest)
        norm = one.inverse * two.inverse
        return 2 / jnp.pi * angle(2 * c * norm, rest * inverse * norm), 4 / jnp.pi * inverse


class Sine(Smooth):
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

    def alone(self, variance: Array) -> Array:
        return jnp.zeros_like(variance)

    def variance(self, variance: Array) -> Array:
        return self._waves(variance, variance, variance)[0]

    def moments(self, one: Spread, two: Spread, product: Array) -> tuple[Array, Array]:
        less, more = self._waves(one.variance, two.variance, product)
        return less, jnp.square(self.frequency) * more

    def _waves(self, a: Array, b: Array, c: Array) -> tuple[Array, Array]:
        half, squared = jnp.square(self.amplitude) / 2, jnp.square(self.frequency)
        near = half * jnp.exp(-squared * (a + b - 2 * c) / 2)
        far = half * jnp.cos(2 * self.phase) * jnp.exp(-squared * (a + b + 2 * c) / 2)
        return near - far, near + far
