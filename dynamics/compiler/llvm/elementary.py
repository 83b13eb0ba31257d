r"""Elementary functions as arithmetic: a register of games at a time; a library computes one number after another.

All are written for arrays of float32 or float64, elementwise, and are right to about two units in the last place. What
is below the normal numbers counts as zero, as in the compiled code of XLA. They are for `operations`, which lowers
them as they stand here; XLA takes $(1 + x) - 1$ for $x$, and must not compile them.

The exponential is $e^x = 2^n (1 + r + r^2 q(r))$ with $x = n \log 2 + r$, $|r| \le \log(2)/2$, and $q$ interpolated at
Chebyshev points (their error relative to $e^x$: 1.0e-8 in float32, 1.7e-17 in float64); likewise the sine up to
$\pi/2$. The polynomials of the logarithm are those of FreeBSD's mathematical library.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


class Constants(NamedTuple):
    """Of a type of numbers: its layout in memory, parts of log 2 and pi, and polynomials, lowest power first."""

    integer: type
    mantissa: int
    bias: int
    log2: tuple[float, float]
    pi: tuple[float, float, float]
    exponential: tuple[float, ...]
    logarithm: tuple[float, ...]
    sine: tuple[float, ...]


CONSTANTS = {
    "float32": Constants(
        integer=np.int32,
        mantissa=23,
        bias=127,
        log2=(0.693145751953125, 1.4286068203094172e-6),
        pi=tuple(map(float.fromhex, ("0x1.92p1", "0x1.fb4p-11", "0x1.4442d2p-23"))),
        exponential=(
            *(0.5, 0.16666576989698776, 0.041666554617204574, 0.0083631790527225774),
            *(0.0013926183587713495,),
        ),
        logarithm=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
        sine=(-0.166666659632631614, 0.0083332420809321065, -0.00019822732180693118, 2.6347327387187e-6),
    ),
    "float64": Constants(
        integer=np.int64,
        mantissa=52,
        bias=1023,
        log2=(float.fromhex("0x1.62e42fefa2p-1"), 7.37100256516779890e-13),
        pi=tuple(map(float.fromhex, ("0x1.921fb544p1", "0x1.0b4611a6p-33", "0x1.3198a2e037073p-68"))),
        exponential=(
            *(0.5000000000000001, 0.16666666666666667, 0.041666666666624128, 0.0083333333333300618),
            *(0.0013888888917213717, 0.00019841269863053617, 2.4801521295954375e-5, 2.7557268459997065e-6),
            *(2.7620088445409748e-7, 2.5100385495510319e-8),
        ),
        logarithm=(
            *(6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01),
            *(1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01),
        ),
        sine=(
            *(-0.166666666666666666329, 0.00833333333333331584444, -0.000198412698412549559872),
            *(2.75573192191584305707e-6, -2.5052107616384595278e-8, 1.60589772728155060702e-10),
            *(-7.64396903105276904269e-13, 2.73142898612261585355e-15),
        ),
    ),
}


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + _number(coefficient, x)
    return value


def _number(value: float, like: Array) -> np.ndarray:
    return np.asarray(value, like.dtype)


def _reduced(x: Array) -> tuple[Array, Array]:
    r"""$2^n$ as what is to be added to the bits of a number, and $e^r - 1$, where $x = n \log 2 + r$."""
    constants = CONSTANTS[x.dtype.name]
    # Added to such a number, another one is rounded to an integer, which then lies in the last bits.
    rounder = _number(1.5 * 2**constants.mantissa, x)
    shifted = x * _number(1 / np.log(2), x) + rounder
    count = shifted - rounder
    rest = x
    for part in constants.log2:
        rest = rest - count * _number(part, x)
    bits = jax.lax.bitcast_convert_type(shifted, constants.integer) << constants.mantissa
    return bits, (_polynomial(rest, constants.exponential) * rest) * rest + rest


def _times_power(x: Array, bits: Array) -> Array:
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, bits.dtype) + bits, x.dtype)


def power_of_two_and_rest(x: Array, count: Array) -> Array:
    r"""$2^n x$ for whole numbers n, where the result is a normal number, or $2^{n - 1}$ is."""
    constants = CONSTANTS[x.dtype.name]
    bits = (count - 1).astype(constants.integer) << constants.mantissa
    return _times_power(x + x, bits)


def exponential(x: Array) -> Array:
    r"""$e^x$."""
    limits = jnp.finfo(x.dtype)
    bits, moved = _reduced(x)
    result = _times_power(moved + 1, bits)
    result = jnp.where(x < _number(np.log(float(limits.tiny)), x), 0, result)
    return jnp.where(x > _number(np.log(float(limits.max)), x), jnp.inf, result)


def exponential_minus_one(x: Array) -> Array:
    r"""$e^x - 1$, accurate near 0."""
    bits, moved = _reduced(x)
    power = _times_power(jnp.ones_like(x), bits)
    large = _number(60, x)
    result = jnp.where(x > large, exponential(x), moved * power + (power - 1))
    return jnp.where(x < -large, -1, result)


def exponent_and_fraction(x: Array) -> tuple[Array, Array]:
    r"""n and f with $x = 2^n (1 + f)$ and 1 + f in [sqrt(1/2), sqrt(2)), of positive normal numbers."""
    constants = CONSTANTS[x.dtype.name]
    half = constants.integer((constants.bias - 1) << constants.mantissa)
    mask = constants.integer((1 << constants.mantissa) - 1)
    bits = jax.lax.bitcast_convert_type(x, constants.integer)
    exponent = (bits >> constants.mantissa) - constants.integer(constants.bias - 1)
    part = jax.lax.bitcast_convert_type((bits & mask) | half, x.dtype)  # in [1/2, 1)
    small = part < _number(np.sqrt(0.5), x)
    part = jnp.where(small, part + part, part)
    count = (exponent - small.astype(constants.integer)).astype(x.dtype)
    return count, part - 1


def _logarithm(x: Array, correction: Array) -> Array:
    r"""$\log x$ + correction, for positive normal numbers."""
    constants = CONSTANTS[x.dtype.name]
    count, moved = exponent_and_fraction(x)
    s = moved / (moved + 2)
    z = s * s
    square = moved * moved * _number(0.5, x)
    high, low = (_number(part, x) for part in constants.log2)
    rest = s * (square + _polynomial(z, constants.logarithm) * z) + (count * low + correction)
    return count * high - ((square - rest) - moved)


def logarithm(x: Array) -> Array:
    r"""$\log x$."""
    result = _logarithm(x, jnp.zeros_like(x))
    result = jnp.where(x < _number(jnp.finfo(x.dtype).tiny, x), -jnp.inf, result)
    result = jnp.where(x < 0, jnp.nan, result)
    return jnp.where(x < jnp.inf, result, x)  # of infinity, and of what is no number


def logarithm_of_one_plus(x: Array) -> Array:
    r"""$\log(1 + x)$, accurate near 0."""
    whole = 1 + x
    lost = jnp.where(x < 1, x - (whole - 1), 1 - (whole - x))
    result = _logarithm(whole, lost / whole)
    result = jnp.where(jnp.abs(x) < _number(jnp.finfo(x.dtype).eps / 4, x), x, result)
    result = jnp.where(x == -1, -jnp.inf, result)
    result = jnp.where(x < -1, jnp.nan, result)
    return jnp.where(x < jnp.inf, result, x)


def hyperbolic_tangent(x: Array) -> Array:
    r"""$\tanh x$, from $e^{-2|x|} - 1$."""
    size = jnp.abs(x)
    least = _number(-60, x)
    twice = size * -2
    bits, moved = _reduced(jnp.where(twice < least, least, twice))
    power = _times_power(jnp.ones_like(x), bits)
    moved = moved * power + (power - 1)
    result = moved / (moved + 2)
    return jnp.where(x < 0, result, -result)


def logistic(x: Array) -> Array:
    r"""$1 / (1 + e^{-x})$."""
    return 1 / (1 + exponential(-x))


def sine_of_rest(x: Array, count: Array, bits: Array) -> Array:
    r"""$\sin(x - c \pi)$ with the sign of the last bit; the angle is at most $\pi/2$."""
    constants = CONSTANTS[x.dtype.name]
    rest = x
    for part in constants.pi:
        rest = rest - count * _number(part, x)
    square = rest * rest
    result = (_polynomial(square, constants.sine) * square) * rest + rest
    bits = jax.lax.bitcast_convert_type(result, constants.integer) ^ (bits << (8 * x.dtype.itemsize - 1))
    return jax.lax.bitcast_convert_type(bits, x.dtype)


def sine(x: Array) -> Array:
    r"""$\sin x$ for $|x|$ up to `LARGEST_ANGLE`."""
    constants = CONSTANTS[x.dtype.name]
    rounder = _number(1.5 * 2**constants.mantissa, x)
    shifted = x * _number(1 / np.pi, x) + rounder
    return sine_of_rest(x, shifted - rounder, jax.lax.bitcast_convert_type(shifted, constants.integer))


def cosine(x: Array) -> Array:
    r"""$\cos x$ for $|x|$ up to `LARGEST_ANGLE`."""
    constants = CONSTANTS[x.dtype.name]
    rounder, half = _number(1.5 * 2**constants.mantissa, x), _number(0.5, x)
    shifted = (x * _number(1 / np.pi, x) - half) + rounder
    bits = ~jax.lax.bitcast_convert_type(shifted, constants.integer)
    return sine_of_rest(x, (shifted - rounder) + half, bits)


LARGEST_ANGLE = {"float32": 1e3, "float64": 1e5}
# Under the names of JAX's operations.
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": exponential,
    "expm1": exponential_minus_one,
    "log": logarithm,
    "log1p": logarithm_of_one_plus,
    "tanh": hyperbolic_tangent,
    "logistic": logistic,
    "sin": sine,
    "cos": cosine,
}
