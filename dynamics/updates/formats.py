"""Formats of floating-point numbers: numbers as a coarser arithmetic has them, and functions as it computes them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number, is_concrete
from dynamics._names import nearest
from dynamics.compiler.results import with_results

# Significand bits, the hidden one among them, and the exponents of the least and largest normal numbers.
KNOWN = {
    "bfloat16": (8, -126, 127),
    "float16": (11, -14, 15),
    "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}


class Format(eqx.Module):
    r"""A format of floating-point numbers: $\pm m\,2^{e-p+1}$ with integers $m < 2^p$ and e from emin to emax.

    As in IEEE 754: numbers below $2^{emin}$ lose digits gradually, those beyond the largest are infinite. All three
    numbers are array leaves: the precision can be an axis of a sweep, and changing it compiles nothing.

    Args:
        precision: p, significand bits with the hidden one, >= 1 and whole; rounded to a whole number while traced.
        least_exponent, largest_exponent: emin and emax; by default those of float64, so that only digits are lost.

    Raises:
        ValueError: the precision is no whole number from 1 to 53, or emin is not below emax.

    >>> float(round_to(0.1, Format(4)))  # 13/128
    0.1015625
    """

    precision: Array = eqx.field(converter=as_leaf)
    least_exponent: Array = eqx.field(converter=as_leaf, default=-1022.0)
    largest_exponent: Array = eqx.field(converter=as_leaf, default=1023.0)

    def __check_init__(self):
        check_number(self, "precision", minimum=1, maximum=53)
        check_number(self, "least_exponent", minimum=-1022)
        check_number(self, "largest_exponent", maximum=1023)
        for name in ("precision", "least_exponent", "largest_exponent"):
            value = getattr(self, name)
            if is_concrete(value) and float(value) != round(float(value)):
                raise ValueError(f"Format.{name} is {float(value):g}; expected a whole number")
        ends = self.least_exponent, self.largest_exponent
        if is_concrete(ends) and not float(ends[0]) < float(ends[1]):
            raise ValueError(
                f"Format has exponents from {float(ends[0]):g} to {float(ends[1]):g}; expected emin < emax"
            )

    @property
    def largest(self) -> Array:
        """The largest finite number."""
        return (2 - _power(1 - self.precision)) * _power(self.largest_exponent)

    @property
    def least(self) -> Array:
        """The least positive number."""
        return _power(self.least_exponent) * _power(1 - self.precision)

    def spacing(self, x: Any) -> Array:
        """The distance of neighbours around numbers of this size.

        >>> float(as_format("bfloat16").spacing(1.5)) == 2**-7
        True
        """
        x = jnp.asarray(x) * 1.0
        _, exponent = jnp.frexp(jnp.abs(x))
        exponent = jnp.maximum(jnp.where(x == 0, -5000, exponent - 1), jnp.round(self.least_exponent).astype(jnp.int32))
        return jnp.ldexp(jnp.ones_like(x), exponent - jnp.round(self.precision).astype(jnp.int32) + 1)


def as_format(value: Any) -> Format:
    """A format as it is, by its name, or from a number of significand bits.

    Raises:
        ValueError: no format has this name.

    >>> float(as_format("float16").largest)
    65504.0
    """
    if isinstance(value, Format):
        return value
    if isinstance(value, str):
        if value not in KNOWN:
            raise ValueError(f"the format is {value!r}{nearest(value, KNOWN)}, a number of bits or a Format")
        return Format(*KNOWN[value])
    return Format(value)


def round_to(x: Any, format: Format, key: PRNGKeyArray | None = None) -> Array:
    """Numbers rounded to a format: to the nearest, to even on ties; with a key up or down, right on average.

    The derivative is that of the identity: that of rounding itself is 0 or infinite, and says nothing. Not-a-number and
    infinite stay as they are. A format that is finer than the array's own changes nothing; numbers that are subnormal
    in the array's own type may be flushed to 0.

    Args:
        x: array of floating type.
        format: the format.
        key: of stochastic rounding: a number between two neighbours goes up with the probability that is its share of
            the way.

    >>> float(round_to(1 + 1 / 256, as_format("bfloat16"))), float(round_to(1 + 3 / 256, as_format("bfloat16")))
    (1.0, 1.015625)
    """
    x = jnp.asarray(x) * 1.0
    return _straight(x, _rounded(jax.lax.stop_gradient(x), format, key))


@jax.custom_jvp
def _straight(x: Array, image: Array) -> Array:
    return image


@_straight.defjvp
def _straight_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[1], tangents[0]


@jax.jit
def _rounded(x: Array, format: Format, key: PRNGKeyArray | None) -> Array:
    """By whole numbers: the bits of a number are in the order of its size, and a carry goes into the exponent."""
    info, finite = jnp.finfo(x.dtype), jnp.isfinite(x)
    whole = jnp.uint32 if info.bits == 32 else jnp.uint64
    bits = jax.lax.bitcast_convert_type(jnp.where(finite, x, 0), whole)
    lost = jnp.clip(info.nmant + 1 - jnp.round(format.precision), 0, info.nmant).astype(whole)
    one = jnp.ones((), whole)
    if key is None:
        up = jnp.where(lost > 0, (one << (jnp.maximum(lost, 1) - one)) - one + ((bits >> lost) & one), 0)
        share = 0.5
    else:
        share = jax.random.uniform(key, x.shape, x.dtype)
        up = jnp.floor(share * (one << lost).astype(x.dtype)).astype(whole)
    image = jax.lax.bitcast_convert_type(((bits + up) >> lost) << lost, x.dtype)
    # Below the least normal number of the format the distance of neighbours is the same for all.
    least = format.least.astype(x.dtype)
    wide = least >= info.tiny  # else it may count as 0 in a division, and not in a comparison with 0
    units = x / jnp.where(wide, least, 1)
    units = jnp.round(units) if key is None else jnp.floor(units + share)
    image = jnp.where((jnp.abs(x) < _power(format.least_exponent).astype(x.dtype)) & wide, units * least, image)
    image = jnp.where(jnp.abs(image) > format.largest.astype(x.dtype), jnp.sign(x) * jnp.inf, image)
    return jnp.where(finite, image, x)


def _power(exponent: Any) -> Array:
    exponent = jnp.asarray(exponent)
    return jnp.ldexp(jnp.ones((), exponent.dtype), jnp.round(exponent).astype(jnp.int32))


def with_arithmetic(function: Callable[..., Any], format: Format) -> Callable[..., Any]:
    """The same function, with every result of an operation on floating-point numbers rounded to the nearest.

    Gradients inside the function are part of its program, and are computed in this arithmetic as well; so are the
    iterations of loops. Sums and products of matrices are added up in the array's own arithmetic and rounded once, as
    hardware with wide accumulators does; a custom elementary function is rounded operation by operation. Arguments and
    constants are not rounded.

    Args:
        function: of pytrees of arrays.
        format: of the results.

    >>> third = with_arithmetic(lambda x: x / 3 + 1, as_format(4))
    >>> float(third(jnp.asarray(1.0)))  # 1/3 is 11/32, and 1 + 11/32 is 1.375 with four bits
    1.375
    """
    return with_results(function, lambda value: round_to(value, format))
