r"""Functions that a library of C has, for a GPU that has none, from the elementary functions that both targets share.

All are right to a few units in the last place. Sine and cosine of large angles are in `large_angles`. What is not here
(the error function, remainders) is left to XLA with the whole program.

The arctangent is $x + x^3 q(x^2)$ for $|x| \le \tan(\pi/8)$, with $q$ interpolated at Chebyshev points (error relative
to the result: 2.4e-9 in float32, 1.7e-19 in float64). A power is $e^{y \log x}$, with the logarithm and its product
with y to twice the digits (Dekker, A floating-point technique for extending the available precision, 1971); there no
product and sum may become one instruction (`EXACT`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics.compiler.llvm.elementary import (
    CONSTANTS,
    exponent_and_fraction,
    exponential,
    exponential_minus_one,
    logarithm,
    logarithm_of_one_plus,
    power_of_two_and_rest,
)


class Constants(NamedTuple):
    """Of a type of numbers: a polynomial, lowest power first, what splits a number in two halves, and a large exponent.

    Attributes:
        arctangent: that of q.
        splitter: $2^k + 1$, where k is half of the number of digits, rounded up.
        largest_exponent: a power to it, or to a larger number, is 0, 1 or infinite.
        large: a number beside whose square 1 does not count.
    """

    arctangent: tuple[float, ...]
    splitter: float
    largest_exponent: float
    large: float


LIBRARY_CONSTANTS = {
    "float32": Constants(
        arctangent=(-0.3333333176, 0.1999954031, -0.1426394975, 0.1074366832, -0.06451718869),
        splitter=2.0**12 + 1,
        largest_exponent=2.0**40,
        large=2.0**14,
    ),
    "float64": Constants(
        arctangent=(
            *(-0.3333333333333333322, 0.1999999999999980433, -0.1428571428565977776, 0.1111111110515058789),
            *(-0.09090908753259112942, 0.07692296368042297118, -0.06666424760200520142, 0.05878927554473806765),
            *(-0.05230443640686947707, 0.04551544734022161652, -0.03456931506332608981, 0.01628437505004339444),
        ),
        splitter=2.0**27 + 1,
        largest_exponent=2.0**70,
        large=2.0**28,
    ),
}


def _number(value: float, like: Array) -> np.ndarray:
    return np.asarray(value, like.dtype)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + _number(coefficient, x)
    return value


def _signed(size: Array, like: Array) -> Array:
    """A size with the sign of another number, also that of zero."""
    return jnp.where(jax.lax.bitcast_convert_type(like, CONSTANTS[like.dtype.name].integer) < 0, -size, size)


def exponential_of_base_two(x: Array) -> Array:
    r"""$2^x$."""
    limits = jnp.finfo(x.dtype)
    whole = jax.lax.round(x, jax.lax.RoundingMethod.TO_NEAREST_EVEN)
    # Of a power far out the logarithm is too coarse: what is not whole is small, and the rest exact.
    rest = exponential((x - whole) * _number(np.log(2), x))
    bounded = jnp.clip(whole, limits.minexp - 1, limits.maxexp)
    result = power_of_two_and_rest(rest, bounded)
    result = jnp.where(x < limits.minexp, 0, result)
    return jnp.where(x >= limits.maxexp, jnp.inf, jnp.where(x == x, result, x))


def hyperbolic_sine(x: Array) -> Array:
    r"""$\sinh x$, from $e^{|x|} - 1$."""
    size = jnp.abs(x)
    moved = exponential_minus_one(size)
    half = exponential(size * _number(0.5, x))
    result = jnp.where(size > 20, half * _number(0.5, x) * half, (moved + moved / (moved + 1)) * _number(0.5, x))
    return _signed(result, x)


def hyperbolic_cosine(x: Array) -> Array:
    r"""$\cosh x$."""
    size = jnp.abs(x)
    power, half = exponential(size), exponential(size * _number(0.5, x))
    return jnp.where(size > 20, half * _number(0.5, x) * half, (power + 1 / power) * _number(0.5, x))


def inverse_hyperbolic_sine(x: Array) -> Array:
    r"""$\log(|x| + \sqrt{x^2 + 1})$ with the sign of x."""
    size = jnp.abs(x)
    square = size * size
    near = logarithm_of_one_plus(size + square / (1 + jnp.sqrt(square + 1)))
    far = logarithm(size) + _number(np.log(2), x)
    return _signed(jnp.where(size > LIBRARY_CONSTANTS[x.dtype.name].large, far, near), x)


def inverse_hyperbolic_cosine(x: Array) -> Array:
    r"""$\log(x + \sqrt{x^2 - 1})$ for $x \ge 1$."""
    moved = x - 1
    near = logarithm_of_one_plus(moved + jnp.sqrt(moved * (moved + 2)))
    far = logarithm(x) + _number(np.log(2), x)
    result = jnp.where(x > LIBRARY_CONSTANTS[x.dtype.name].large, far, near)
    return jnp.where(x < 1, jnp.nan, result)


def inverse_hyperbolic_tangent(x: Array) -> Array:
    r"""$\frac12 \log\frac{1 + x}{1 - x}$ for $|x| \le 1$."""
    size = jnp.abs(x)
    return _signed(logarithm_of_one_plus(2 * size / (1 - size)) * _number(0.5, x), x)


def cube_root(x: Array) -> Array:
    r"""$\sqrt[3]{x}$: a power, and a step of Newton's method."""
    size = jnp.abs(x)
    root = exponential(logarithm(size) * _number(1 / 3, x))
    better = root - (root - size / (root * root)) * _number(1 / 3, x)
    better = jnp.where((size > 0) & (size < jnp.inf), better, size)  # of 0, infinity, and what is no number
    return _signed(better, x)


def tangent(x: Array) -> Array:
    r"""$\tan x$, from sine and cosine as they are lowered, also of large angles."""
    return jnp.sin(x) / jnp.cos(x)


def arctangent_of_two(y: Array, x: Array) -> Array:
    """The angle of the point (x, y)."""
    above, right = jnp.abs(y), jnp.abs(x)
    small, large = jnp.minimum(above, right), jnp.maximum(above, right)
    steep = small > large * _number(np.tan(np.pi / 8), x)
    part = jnp.where(large > 1, _number(0.5, x), 1)  # so that the sum does not overflow
    ratio = jnp.where(steep, (small * part - large * part) / (small * part + large * part), small / large)
    ratio = jnp.where(small == large, 0, ratio)  # also of two infinite numbers, and of two that are 0
    start = jnp.where(steep | ((small == large) & (large > 0)), _number(np.pi / 4, x), 0)
    square = ratio * ratio
    polynomial = _polynomial(square, LIBRARY_CONSTANTS[x.dtype.name].arctangent)
    angle = start + (ratio + ratio * (square * polynomial))
    angle = jnp.where(above > right, _number(np.pi / 2, x) - angle, angle)
    behind = jax.lax.bitcast_convert_type(x, CONSTANTS[x.dtype.name].integer) < 0
    angle = _signed(jnp.where(behind, _number(np.pi, x) - angle, angle), y)
    return jnp.where((x == x) & (y == y), angle, x + y)


def arctangent(x: Array) -> Array:
    r"""$\arctan x$."""
    return arctangent_of_two(x, jnp.ones_like(x))


def arcsine(x: Array) -> Array:
    r"""$\arcsin x$ for $|x| \le 1$."""
    return arctangent_of_two(x, jnp.sqrt((1 - x) * (1 + x)))


def arccosine(x: Array) -> Array:
    r"""$\arccos x$ for $|x| \le 1$."""
    return 2 * arctangent_of_two(jnp.sqrt(1 - x), jnp.sqrt(1 + x))


def _exact_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The product, and what is lost by rounding it."""
    splitter = _number(LIBRARY_CONSTANTS[a.dtype.name].splitter, a)

    def halves(number: Array) -> tuple[Array, Array]:
        spread = splitter * number
        high = spread - (spread - number)
        return high, number - high

    product, (a1, a2), (b1, b2) = a * b, halves(a), halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _exact_logarithm(x: Array) -> tuple[Array, Array]:
    r"""$\log x$ of positive normal numbers, in two parts; relative error about an eightieth of a unit."""
    constants = CONSTANTS[x.dtype.name]
    count, moved = exponent_and_fraction(x)
    # log(1 + f) = 2 s + s R(s^2) with s = f / (2 + f), to twice the digits as far as it is not small.
    divisor = moved + 2
    lost_of_divisor = moved - (divisor - 2)
    s = moved / divisor
    product, lost = _exact_product(s, divisor)
    rest_of_s = (((moved - product) - lost) - s * lost_of_divisor) / divisor
    z = s * s
    high, low = 2 * s, 2 * rest_of_s + s * (_polynomial(z, constants.logarithm) * z)
    first, second = (count * _number(one, x) for one in constants.log2)
    total = first + high
    low = (high - (total - first)) + (low + second)
    result = total + low
    return result, low - (result - total)


def power(x: Array, y: Array) -> Array:
    r"""$x^y$, as the library of C has it also where a number is 0, infinite or none."""
    size = jnp.abs(x)
    ordinary = (size > 0) & (size < jnp.inf)
    most = _number(LIBRARY_CONSTANTS[x.dtype.name].largest_exponent, x)
    bounded = jnp.clip(y, -most, most)
    high, low = _exact_logarithm(jnp.where(ordinary, size, 1))
    product, lost = _exact_product(bounded, high)
    result = exponential(product)
    result = jnp.where((result > 0) & (result < jnp.inf), result * (1 + (lost + bounded * low)), result)
    at_zero, at_infinity = jnp.where(y > 0, 0, jnp.inf), jnp.where(y > 0, jnp.inf, 0)
    result = jnp.where(size == 0, at_zero, jnp.where(size == jnp.inf, at_infinity, result)).astype(x.dtype)
    whole = jnp.floor(y) == y
    half = y * _number(0.5, x)
    odd = whole & (jnp.floor(half) != half)
    negative = jax.lax.bitcast_convert_type(x, CONSTANTS[x.dtype.name].integer) < 0
    result = jnp.where(negative & odd, -result, result)
    result = jnp.where((x < 0) & ordinary & ~whole, jnp.nan, result)
    result = jnp.where((x == x) & (y == y), result, x + y)
    return jnp.where((y == 0) | (x == 1), 1, result)


# By the names of the library of C.
LIBRARY_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "exp2": exponential_of_base_two,
    "sinh": hyperbolic_sine,
    "cosh": hyperbolic_cosine,
    "asinh": inverse_hyperbolic_sine,
    "acosh": inverse_hyperbolic_cosine,
    "atanh": inverse_hyperbolic_tangent,
    "cbrt": cube_root,
    "tan": tangent,
    "atan2": arctangent_of_two,
    "atan": arctangent,
    "asin": arcsine,
    "acos": arccosine,
    "pow": power,
}
EXACT = {"pow"}
