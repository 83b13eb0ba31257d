r"""Sine and cosine of any number, for a GPU: the angle less a multiple of $\pi$, as exactly as it takes.

With $x = M 2^E$ the number of half turns $x / \pi$ is needed modulo 2 only, so of $1/\pi$ no more than the bits from
the one of weight $2^{-E}$ on: 192 of them, of which an exact product with M (53 bits) leaves some 75 where the angle is
next to a multiple of $\pi$ (Payne and Hanek, Radian reduction for trigonometric functions, 1983).
"""

import functools
import itertools
from typing import Any

import mpmath
import numpy as np
from llvmlite import ir

from dynamics.compiler.llvm.elementary import sine_of_rest
from dynamics.compiler.llvm.operations import lower_scalar_jaxpr, scalar_jaxpr

LONG, TWICE = ir.IntType(64), ir.IntType(128)
WORDS = 21  # of 64 bits: the first one is 0, and the largest number needs bits up to the 1227th
TABLE = "bits_of_one_over_pi"
DOUBLE = np.dtype("float64")


@functools.cache
def table() -> tuple[int, ...]:
    r"""The bits of $1/\pi$ after 64 zeros, in words, the first bits first."""
    bits = 64 * (WORDS - 1)
    with mpmath.workprec(bits + 64):
        number = int(mpmath.floor(mpmath.ldexp(1 / mpmath.pi, bits)))
    return tuple(number >> 64 * place & (2**64 - 1) for place in reversed(range(WORDS)))


def sine_or_cosine(ctx: Any, name: str, angle: Any) -> Any:
    """`sin` or `cos` of a scalar of float64, 1e3 or more in size."""
    builder = ctx.builder
    bits = builder.bitcast(angle, LONG)
    exponent = builder.and_(builder.lshr(bits, LONG(52)), LONG(2047))
    mantissa = builder.or_(builder.and_(bits, LONG(2**52 - 1)), LONG(2**52))
    # The first of the bits that count is that of weight 1 in the product.
    window = _window(ctx, builder.sub(exponent, LONG(1075 - 63)))
    high, middle, low = _product(builder, mantissa, window)  # half turns modulo 2, in units of 2^-191
    if name == "cos":
        high = builder.add(high, LONG(2**62))
    # To the nearest whole number: what is beyond it is between -1/2 and 1/2, in units of 2^-192.
    beyond = [_shifted(ctx, high, middle, LONG(1)), _shifted(ctx, middle, low, LONG(1))]
    below = builder.icmp_signed("<", beyond[0], LONG(0))
    odd = builder.xor(builder.icmp_signed("<", high, LONG(0)), below)
    mask = builder.sext(below, LONG)
    first, second = (builder.xor(word, mask) for word in beyond)
    third = builder.xor(builder.shl(low, LONG(1)), mask)
    # No number of 53 bits comes nearer to a multiple of pi than 2^-64 of a half turn, or not much.
    empty = builder.icmp_unsigned("==", first, LONG(0))
    first, second = builder.select(empty, second, first), builder.select(empty, third, second)
    count_zeros = ctx.declare("llvm.ctlz.i64", LONG, [LONG, ir.IntType(1)])
    zeros = builder.call(count_zeros, [first, ir.IntType(1)(0)])
    leading = _shifted(ctx, first, second, zeros)
    zeros = builder.add(zeros, builder.select(empty, LONG(64), LONG(0)))
    scale = builder.shl(builder.sub(LONG(1023 - 64), zeros), LONG(52))
    double = ir.DoubleType()
    rest = builder.fmul(builder.uitofp(leading, double), builder.bitcast(scale, double))
    rest = builder.fmul(rest, double(np.pi))
    negative = builder.icmp_signed("<", bits, LONG(0))
    sign = builder.xor(below, negative) if name == "sin" else below
    rest = builder.select(sign, builder.fneg(rest), rest)
    kinds = DOUBLE, DOUBLE, np.dtype("int64")
    given = rest, double(0.0), builder.zext(odd, LONG)
    (result,) = lower_scalar_jaxpr(ctx, scalar_jaxpr(sine_of_rest, *kinds), list(zip(given, kinds, strict=True)))
    finite = builder.icmp_unsigned("<", exponent, LONG(2047))
    return builder.select(finite, result, double(np.nan))


def _window(ctx: Any, first: Any) -> list[Any]:
    """Three words of the table, from one bit on."""
    builder = ctx.builder
    known = ctx.module.globals.get(TABLE)
    if known is None:
        kind = ir.ArrayType(LONG, WORDS)
        known = ir.GlobalVariable(ctx.module, kind, TABLE)
        known.global_constant, known.linkage = True, "internal"
        known.initializer = ir.Constant(kind, [LONG(word) for word in table()])
    word, shift = builder.lshr(first, LONG(6)), builder.and_(first, LONG(63))
    places = [builder.gep(known, [builder.add(word, LONG(place))], source_etype=LONG) for place in range(4)]
    words = [builder.load(place, typ=LONG) for place in places]
    return [_shifted(ctx, one, following, shift) for one, following in itertools.pairwise(words)]


def _shifted(ctx: Any, word: Any, following: Any, count: Any) -> Any:
    """The upper of two words, after both together are shifted to the left."""
    shift = ctx.declare("llvm.fshl.i64", LONG, [LONG] * 3)
    return ctx.builder.call(shift, [word, following, count])


def _product(builder: Any, number: Any, words: list[Any]) -> list[Any]:
    """A word times three words, modulo 2^192."""
    number, carry, made = builder.zext(number, TWICE), TWICE(0), []
    for word in reversed(words):
        total = builder.add(builder.mul(number, builder.zext(word, TWICE)), carry)
        made.append(builder.trunc(total, LONG))
        carry = builder.lshr(total, TWICE(64))
    return made[::-1]
