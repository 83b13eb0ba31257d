"""What an operation on one game becomes for a batch of them, where there is something better than `jax.vmap`."""

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import SAME
from dynamics.compiler.batch.values import BatchArray, SignedArray

MOST_TERMS = 128  # of a sum that is written out
MOST_PRODUCTS = 65_536  # of a matrix product that is written out

ODD = {"sin", "tan", "tanh", "asin", "atan", "sinh", "asinh", "atanh", "erf", "cbrt", "sign"}
EVEN = {"cos", "cosh", "abs", "square", "one_minus_square"}
ELEMENTWISE = (
    ODD
    | EVEN
    | {"acos", "acosh", "add", "add_any", "and", "atan2", "ceil", "clamp", "convert_element_type"}
    | {"div", "eq", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le"}
    | {"log", "log1p", "log2", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow"}
    | {"real", "rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical"}
    | {"sqrt", "stop_gradient", "sub", "threefry2x32", "xor", "eq_to", "le_to", "lt_to"}
)
BINARY = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_and": jax.lax.bitwise_and,
    "reduce_or": jax.lax.bitwise_or,
}


RULES: dict[str, Callable[[Any, Any, list[SignedArray]], list[SignedArray] | None]] = {}


def batching(*names: str) -> Callable[[Callable], Callable]:
    """Register a rule for primitives of these names.

    A rule gets the scope, the equation and its inputs, and returns the outputs, or `None` where it does not apply.
    """

    def register(rule: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def frozen(parameters: dict[str, Any]) -> tuple:
    return tuple((name, str(value)) for name, value in sorted(parameters.items()))


@batching(*sorted(SAME))
def _identity(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    """Also of a sharding constraint: each device holds all of its games."""
    return values


# Arithmetic: every rule gives the same bits as the operation it replaces, but for the sign of a zero. (Division by a
# constant is a product, as XLA makes of it.)


@batching("neg")
def _neg(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    return [values[0].negated()]


@batching("add", "add_any")
def _add(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    return [_sum(scope, *values)]


@batching("sub")
def _sub(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    return [_sum(scope, values[0], values[1].negated())]


def _sum(scope: Any, one: SignedArray, other: SignedArray) -> SignedArray:
    if other.equals(0) and other.fits(one):
        return one
    if one.equals(0) and one.fits(other):
        return other
    if one.negative and other.negative:
        return scope.binary("add", one, other).negated()
    if one.negative:
        one, other = other, one
    if not other.negative:
        return scope.binary("add", one, other)
    if ("sub", other.unsigned.serial, one.unsigned.serial) in scope.cse_table:
        return scope.binary("sub", other, one).negated()
    return scope.binary("sub", one, other)


@batching("mul")
def _mul(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    one, other = values
    for number, rest in ((one, other), (other, one)):
        if number.fits(rest) and (number.equals(1) or number.equals(-1)):
            return [rest if number.equals(1) else rest.negated()]
    negative = one.negative != other.negative
    for number, rest in ((one.unsigned, other.unsigned), (other.unsigned, one.unsigned)):
        if number.is_known_scalar:
            return [SignedArray(_multiple(scope, number, rest), negative)]
    return [SignedArray(scope.binary("mul", one, other).unsigned, negative)]


def _multiple(scope: Any, number: BatchArray, rest: BatchArray) -> BatchArray:
    """A product with a constant; of two such products, one of them with a power of two, one is made.

    Exact, unless the first product is too large or too small for its type.
    """
    base, factor = rest.multiple or (rest, None)
    if factor is not None and 0.5 in np.abs(np.frexp([number.constant, factor])[0]):
        product = np.asarray(number.constant * factor, number.dtype)
        if product == 1:
            return base
        number, rest = scope.literal(product, number.dtype).unsigned, base
    else:
        base = rest
    result = scope.binary("mul", SignedArray(number), SignedArray(rest)).unsigned
    result.multiple = base, number.constant
    return result


@batching("div")
def _div(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    one, other = values
    if other.fits(one) and (other.equals(1) or other.equals(-1)):
        return [one if other.equals(1) else one.negated()]
    negative = one.negative != other.negative
    if other.unsigned.is_known_scalar and not one.unsigned.is_known_scalar:
        with np.errstate(all="ignore"):
            inverse = np.asarray(1 / other.unsigned.constant, other.unsigned.dtype)
        if np.isfinite(inverse) and abs(inverse) >= np.finfo(inverse.dtype).tiny:  # as XLA does
            return [
                SignedArray(_multiple(scope, scope.literal(inverse, inverse.dtype).unsigned, one.unsigned), negative)
            ]
    return [SignedArray(scope.binary("div", one, other).unsigned, negative)]


@batching("max", "min")
def _extreme(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    name, (one, other) = eqn.primitive.name, values
    if one.unsigned is other.unsigned and one.negative != other.negative:
        size = scope.cse(
            ("abs",), (one.unsigned,), lambda: BatchArray(jax.lax.abs(one.unsigned.array), one.unsigned.batched)
        )
        return [SignedArray(size, name == "min")]
    if one.negative and other.negative:
        return [scope.binary("max" if name == "min" else "min", one, other).negated()]
    if one.negative or other.negative:
        return None
    return [scope.binary(name, one, other)]


@batching(*sorted(ODD | EVEN), "integer_pow")
def _parity(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    name, (value,) = eqn.primitive.name, values
    if name == "integer_pow" and eqn.params["y"] == 1:  # JAX 0.10.0 differentiates squares to it
        return values
    odd = name in ODD or (name == "integer_pow" and eqn.params["y"] % 2 == 1)
    (result,) = scope.elementwise(eqn, [SignedArray(value.unsigned)])
    return [SignedArray(result.unsigned, odd and value.negative)]


@batching("select_n")
def _select(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    which, *cases = values
    if not all(case.negative for case in cases):
        return None
    (result,) = scope.elementwise(eqn, [which, *[case.negated() for case in cases]])
    return [result.negated()]


@batching("convert_element_type")
def _convert(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    value, dtype = values[0], eqn.params["new_dtype"]
    if value.unsigned.dtype == dtype:
        return [value]
    if value.unsigned.constant is not None and not jnp.issubdtype(dtype, jax.dtypes.extended):
        number = scope.array(SignedArray(BatchArray(value.unsigned.constant, False), False)).astype(dtype)
        unsigned = scope.cse(
            ("constant", str(dtype)),
            (value.unsigned,),
            lambda: BatchArray(
                jax.lax.convert_element_type(value.unsigned.array, dtype), value.unsigned.batched, number
            ),
        )
        return [SignedArray(unsigned, value.negative)] if jnp.issubdtype(dtype, jnp.floating) else None
    return None


# Arranging: the games' axis stays the last one.


def _arranged(scope: Any, eqn: Any, value: SignedArray, move: Callable[[Any, bool], Any]) -> list[SignedArray]:
    unsigned = value.unsigned
    key = (eqn.primitive.name, frozen(eqn.params))
    made = scope.cse(
        key,
        (unsigned,),
        lambda: BatchArray(move(unsigned.array, unsigned.batched), unsigned.batched, unsigned.constant),
    )
    return [SignedArray(made, value.negative)]


@batching("broadcast_in_dim")
def _broadcast(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    if len(values) > 1:
        return None
    shape, dimensions = tuple(eqn.params["shape"]), tuple(eqn.params["broadcast_dimensions"])
    if np.prod(values[0].unsigned.shape, dtype=int) == np.prod(shape, dtype=int):
        return [scope.reshaped(values[0], shape)]

    def move(array: Any, batched: bool) -> Any:
        batch_size = ((scope.batch_size,), (len(shape),)) if batched else ((), ())
        return jax.lax.broadcast_in_dim(array, shape + batch_size[0], dimensions + batch_size[1])

    return _arranged(scope, eqn, values[0], move)


@batching("reshape", "squeeze", "expand_dims")
def _reshape(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    if len(values) > 1 or (eqn.primitive.name == "reshape" and eqn.params["dimensions"] is not None):
        return None
    return [scope.reshaped(values[0], tuple(eqn.outvars[0].aval.shape))]


@batching("transpose")
def _transpose(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    order = tuple(eqn.params["permutation"])
    return _arranged(
        scope, eqn, values[0], lambda array, batched: jax.lax.transpose(array, order + (len(order),) * batched)
    )


@batching("slice")
def _slice(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    low, high = tuple(eqn.params["start_indices"]), tuple(eqn.params["limit_indices"])
    strides = eqn.params["strides"]

    def move(array: Any, batched: bool) -> Any:
        more = ((0,), (scope.batch_size,), (1,)) if batched else ((), (), ())
        return jax.lax.slice(
            array, low + more[0], high + more[1], None if strides is None else tuple(strides) + more[2]
        )

    return _arranged(scope, eqn, values[0], move)


@batching("rev")
def _rev(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    return _arranged(scope, eqn, values[0], lambda array, _: jax.lax.rev(array, eqn.params["dimensions"]))


@batching("split")
def _split(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    array, axis = values[0].unsigned.array, eqn.params["axis"]
    ends = np.cumsum(eqn.params["sizes"])
    begins = ends - np.asarray(eqn.params["sizes"])
    parts = [jax.lax.slice_in_dim(array, int(a), int(b), axis=axis) for a, b in zip(begins, ends, strict=True)]
    return _cut(values[0], parts)


@batching("unstack")  # of newer versions of JAX
def _unstack(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    unsigned, axis = values[0].unsigned, eqn.params["axis"]
    return _cut(values[0], [scope.index(unsigned.array, axis, place) for place in range(unsigned.shape[axis])])


def _cut(value: SignedArray, parts: Sequence[Any]) -> list[SignedArray]:
    return [SignedArray(BatchArray(part, value.unsigned.batched), value.negative) for part in parts]


def _joined(scope: Any, values: Sequence[SignedArray], axis: int, lift: bool) -> list[SignedArray]:
    batched = any(value.unsigned.batched for value in values)
    negative = all(value.negative for value in values)
    values = [value.negated() for value in values] if negative else values
    arrays = [scope.batched_array(value) if batched else jnp.asarray(scope.array(value)) for value in values]
    if lift:
        arrays = [jnp.expand_dims(array, axis) for array in arrays]
    return [SignedArray(BatchArray(jax.lax.concatenate(arrays, axis), batched), negative)]


@batching("concatenate")
def _concatenate(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
    return _joined(scope, values, eqn.params["dimension"], False)


@batching("stack")  # of newer versions of JAX
def _stack(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    axis = eqn.params.get("axis")
    return None if axis is None else _joined(scope, values, axis, True)


@batching("pad")
def _pad(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    value, filling = values
    if not value.unsigned.batched or filling.unsigned.batched:
        return None
    widths = (*eqn.params["padding_config"], (0, 0, 0))
    return [SignedArray(BatchArray(jax.lax.pad(scope.array(value), scope.array(filling), widths), True))]


# Sums and products.


@batching(*BINARY)
def _reduced(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    name, (value,) = eqn.primitive.name, values
    axes = tuple(eqn.params["axes"])
    shape = value.unsigned.shape
    rest = tuple(length for axis, length in enumerate(shape) if axis not in axes)
    count = int(np.prod([shape[axis] for axis in axes], dtype=int))
    if count == 1:
        return [scope.reshaped(value, rest)]
    if not value.unsigned.batched or not 1 < count <= MOST_TERMS:
        return None
    negative = value.negative and name == "reduce_sum"
    array = value.unsigned.array if negative else scope.array(value)
    order = [axis for axis in range(len(shape)) if axis not in axes]

    def compute() -> BatchArray:
        terms = jax.lax.transpose(array, (*axes, *order, len(shape))) if axes != tuple(range(len(axes))) else array
        terms = jax.lax.reshape(terms, (count, *rest, scope.batch_size))
        return BatchArray(reduce(BINARY[name], [scope.index(terms, 0, place) for place in range(count)]), True)

    key = (name, axes, value.negative and not negative)
    return [SignedArray(scope.cse(key, (value.unsigned,), compute), negative)]


@batching("cumsum")
def _cumulated(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    (value,), axis, reverse = values, eqn.params["axis"], eqn.params["reverse"]
    count = value.unsigned.shape[axis] if value.unsigned.shape else 0
    if not value.unsigned.batched or not 0 < count <= MOST_TERMS:
        return None
    array = value.unsigned.array
    terms = [scope.index(array, axis, place) for place in range(count)]
    totals = list(accumulate(terms[::-1] if reverse else terms, jax.lax.add))
    totals = [jnp.expand_dims(total, axis) for total in (totals[::-1] if reverse else totals)]
    return [SignedArray(BatchArray(jax.lax.concatenate(totals, axis), True), value.negative)]


@batching("argmax", "argmin")
def _place(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    """The first place of the largest or smallest number along an axis; of a NaN, if there is one."""
    value, axes = values[0], eqn.params["axes"]
    if not value.unsigned.batched or len(axes) != 1 or not 0 < value.unsigned.shape[axes[0]] <= MOST_TERMS:
        return None
    array, kind = scope.array(value), eqn.params["index_dtype"]
    better = jax.lax.gt if eqn.primitive.name == "argmax" else jax.lax.lt

    best = scope.index(array, axes[0], 0)
    place = jax.lax.full_like(best, 0, dtype=kind)
    for index in range(1, value.unsigned.shape[axes[0]]):
        other = scope.index(array, axes[0], index)
        wins = better(other, best) | ((other != other) & (best == best))
        best = jax.lax.select(wins, other, best)
        place = jax.lax.select(wins, jax.lax.full_like(place, index), place)
    return [SignedArray(BatchArray(place, True))]


@batching("dot_general")
def _product(scope: Any, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    """A matrix product as a sum over columns, each a product elementwise."""
    (contracted, paired) = eqn.params["dimension_numbers"]
    one, other = values
    sizes = [one.unsigned.shape[axis] for axis in contracted[0]]
    count = int(np.prod(sizes, dtype=int))
    out = eqn.outvars[0].aval
    work = count * int(np.prod(out.shape, dtype=int))
    if not (one.unsigned.batched or other.unsigned.batched) or not 0 < count <= MOST_TERMS or work > MOST_PRODUCTS:
        return None
    if not jnp.issubdtype(out.dtype, jnp.inexact):
        return None

    def parts(unsigned: BatchArray, axes: Sequence[int], pairs: Sequence[int], first: bool, others: int) -> list[Any]:
        """The array at every index of the contracted axes: pairs first, then the free axes on this side or that."""
        array = unsigned.array if unsigned.batched else unsigned.array[..., None]
        rank = array.ndim - 1
        repeated = [axis for axis in range(rank) if axis not in axes and axis not in pairs]
        wanted = (*axes, *pairs, *repeated, rank)
        array = array if wanted == tuple(range(rank + 1)) or len(axes) == 1 else jnp.transpose(array, wanted)
        kept = [axis for axis in wanted[len(axes) :]]
        result = []
        for place in np.ndindex(*sizes):
            if len(axes) == 1:
                part = scope.index(array, axes[0], place[0])
                order = [axis - (axis > axes[0]) for axis in kept]
                part = part if order == list(range(len(order))) else jnp.transpose(part, order)
            else:
                part = reduce(lambda rest, index: scope.index(rest, 0, index), place, array)
            low = len(pairs) + (len(repeated) if first else 0)
            shape = part.shape[:low] + (1,) * others + part.shape[low:]
            result.append(part.reshape(shape).astype(out.dtype))
        return result

    free_one = len(one.unsigned.shape) - len(sizes) - len(paired[0])
    free_other = len(other.unsigned.shape) - len(sizes) - len(paired[0])

    def compute() -> BatchArray:
        left = parts(one.unsigned, contracted[0], paired[0], True, free_other)
        right = parts(other.unsigned, contracted[1], paired[1], False, free_one)
        return BatchArray(reduce(operator.add, [a * b for a, b in zip(left, right, strict=True)]), True)

    key = ("dot_general", frozen(eqn.params))
    made = scope.cse(key, (one.unsigned, other.unsigned), compute)
    return [SignedArray(made, one.negative != other.negative)]
