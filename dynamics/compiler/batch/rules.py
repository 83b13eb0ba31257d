"""What every operation on one game becomes in lanes, where something better is known than `jax.vmap`."""

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import SAME
from dynamics.compiler.batch.values import Core, Value

MOST_TERMS = 128  # of a sum that is written out
MOST_PRODUCTS = 65_536  # of a matrix product that is written out

ODD = {"sin", "tan", "tanh", "asin", "atan", "sinh", "asinh", "atanh", "erf", "cbrt", "sign"}
EVEN = {"cos", "cosh", "abs", "square"}
ELEMENTWISE = (
    ODD
    | EVEN
    | {"acos", "acosh", "add", "add_any", "and", "atan2", "ceil", "clamp", "convert_element_type"}
    | {"div", "eq", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le"}
    | {"log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "real"}
    | {"rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sqrt"}
    | {"stop_gradient", "sub", "threefry2x32", "xor", "eq_to", "le_to", "lt_to"}
)
BINARY = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_and": jax.lax.bitwise_and,
    "reduce_or": jax.lax.bitwise_or,
}


RULES: dict[str, Callable[[Any, Any, list[Value]], list[Value] | None]] = {}


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
def _identity(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    """Also of a sharding constraint: each device holds all of its games."""
    return values


# Arithmetic: every rule gives the same bits as the operation it replaces, but for the sign of a zero. (Division by a
# known number is a product, as XLA makes of it.)


@batching("neg")
def _neg(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    return [values[0].negated()]


@batching("add", "add_any")
def _add(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    return [_sum(scope, *values)]


@batching("sub")
def _sub(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    return [_sum(scope, values[0], values[1].negated())]


def _sum(scope: Any, one: Value, other: Value) -> Value:
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
    if ("sub", other.core.number, one.core.number) in scope.memory:
        return scope.binary("sub", other, one).negated()
    return scope.binary("sub", one, other)


@batching("mul")
def _mul(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    one, other = values
    for number, rest in ((one, other), (other, one)):
        if number.fits(rest) and (number.equals(1) or number.equals(-1)):
            return [rest if number.equals(1) else rest.negated()]
    negative = one.negative != other.negative
    for number, rest in ((one.core, other.core), (other.core, one.core)):
        if number.is_number:
            return [Value(_multiple(scope, number, rest), negative)]
    return [Value(scope.binary("mul", one, other).core, negative)]


def _multiple(scope: Any, number: Core, rest: Core) -> Core:
    """A product with a known number; of two such products, one of them with a power of two, one is made.

    Exact, unless the first product is too large or too small for its type.
    """
    base, factor = rest.multiple or (rest, None)
    if factor is not None and 0.5 in np.abs(np.frexp([number.constant, factor])[0]):
        product = np.asarray(number.constant * factor, number.dtype)
        if product == 1:
            return base
        number, rest = scope.literal(product, number.dtype).core, base
    else:
        base = rest
    found = scope.binary("mul", Value(number), Value(rest)).core
    found.multiple = base, number.constant
    return found


@batching("div")
def _div(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    one, other = values
    if other.fits(one) and (other.equals(1) or other.equals(-1)):
        return [one if other.equals(1) else one.negated()]
    negative = one.negative != other.negative
    if other.core.is_number and not one.core.is_number:
        with np.errstate(all="ignore"):
            inverse = np.asarray(1 / other.core.constant, other.core.dtype)
        if np.isfinite(inverse) and abs(inverse) >= np.finfo(inverse.dtype).tiny:  # as XLA does
            return [Value(_multiple(scope, scope.literal(inverse, inverse.dtype).core, one.core), negative)]
    return [Value(scope.binary("div", one, other).core, negative)]


@batching("max", "min")
def _extreme(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    name, (one, other) = equation.primitive.name, values
    if one.core is other.core and one.negative != other.negative:
        size = scope.remembered(("abs",), (one.core,), lambda: Core(jax.lax.abs(one.core.array), one.core.batched))
        return [Value(size, name == "min")]
    if one.negative and other.negative:
        return [scope.binary("max" if name == "min" else "min", one, other).negated()]
    if one.negative or other.negative:
        return None
    return [scope.binary(name, one, other)]


@batching(*sorted(ODD | EVEN), "integer_pow")
def _parity(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    name, (value,) = equation.primitive.name, values
    odd = name in ODD or (name == "integer_pow" and equation.params["y"] % 2 == 1)
    (found,) = scope.elementwise(equation, [Value(value.core)])
    return [Value(found.core, odd and value.negative)]


@batching("select_n")
def _select(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    which, *cases = values
    if not all(case.negative for case in cases):
        return None
    (found,) = scope.elementwise(equation, [which, *[case.negated() for case in cases]])
    return [found.negated()]


@batching("convert_element_type")
def _convert(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    value, dtype = values[0], equation.params["new_dtype"]
    if value.core.dtype == dtype:
        return [value]
    if value.core.constant is not None and not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        number = scope.array(Value(Core(value.core.constant, False), False)).astype(dtype)
        core = scope.remembered(
            ("constant", str(dtype)),
            (value.core,),
            lambda: Core(jax.lax.convert_element_type(value.core.array, dtype), value.core.batched, number),
        )
        return [Value(core, value.negative)] if jnp.issubdtype(dtype, jnp.floating) else None
    return None


# Arranging: the games' axis stays the last one.


def _arranged(scope: Any, equation: Any, value: Value, move: Callable[[Any, bool], Any]) -> list[Value]:
    core = value.core
    key = (equation.primitive.name, frozen(equation.params))
    made = scope.remembered(key, (core,), lambda: Core(move(core.array, core.batched), core.batched, core.constant))
    return [Value(made, value.negative)]


@batching("broadcast_in_dim")
def _broadcast(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    if len(values) > 1:
        return None
    shape, dimensions = tuple(equation.params["shape"]), tuple(equation.params["broadcast_dimensions"])
    if np.prod(values[0].core.shape, dtype=int) == np.prod(shape, dtype=int):
        return [scope.reshaped(values[0], shape)]

    def move(array: Any, batched: bool) -> Any:
        lanes = ((scope.lanes,), (len(shape),)) if batched else ((), ())
        return jax.lax.broadcast_in_dim(array, shape + lanes[0], dimensions + lanes[1])

    return _arranged(scope, equation, values[0], move)


@batching("reshape", "squeeze", "expand_dims")
def _reshape(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    if len(values) > 1 or (equation.primitive.name == "reshape" and equation.params["dimensions"] is not None):
        return None
    return [scope.reshaped(values[0], tuple(equation.outvars[0].aval.shape))]


@batching("transpose")
def _transpose(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    order = tuple(equation.params["permutation"])
    return _arranged(
        scope, equation, values[0], lambda array, batched: jax.lax.transpose(array, order + (len(order),) * batched)
    )


@batching("slice")
def _slice(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    low, high = tuple(equation.params["start_indices"]), tuple(equation.params["limit_indices"])
    strides = equation.params["strides"]

    def move(array: Any, batched: bool) -> Any:
        more = ((0,), (scope.lanes,), (1,)) if batched else ((), (), ())
        return jax.lax.slice(
            array, low + more[0], high + more[1], None if strides is None else tuple(strides) + more[2]
        )

    return _arranged(scope, equation, values[0], move)


@batching("rev")
def _rev(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    return _arranged(scope, equation, values[0], lambda array, _: jax.lax.rev(array, equation.params["dimensions"]))


@batching("split")
def _split(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    array, axis = values[0].core.array, equation.params["axis"]
    ends = np.cumsum(equation.params["sizes"])
    begins = ends - np.asarray(equation.params["sizes"])
    parts = [jax.lax.slice_in_dim(array, int(a), int(b), axis=axis) for a, b in zip(begins, ends, strict=True)]
    return _cut(values[0], parts)


@batching("unstack")  # of newer versions of JAX
def _unstack(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    core, axis = values[0].core, equation.params["axis"]
    return _cut(values[0], [scope.index(core.array, axis, place) for place in range(core.shape[axis])])


def _cut(value: Value, parts: Sequence[Any]) -> list[Value]:
    return [Value(Core(part, value.core.batched), value.negative) for part in parts]


def _joined(scope: Any, values: Sequence[Value], axis: int, lift: bool) -> list[Value]:
    batched = any(value.core.batched for value in values)
    negative = all(value.negative for value in values)
    values = [value.negated() for value in values] if negative else values
    arrays = [scope.whole(value) if batched else jnp.asarray(scope.array(value)) for value in values]
    if lift:
        arrays = [jnp.expand_dims(array, axis) for array in arrays]
    return [Value(Core(jax.lax.concatenate(arrays, axis), batched), negative)]


@batching("concatenate")
def _concatenate(scope: Any, equation: Any, values: list[Value]) -> list[Value]:
    return _joined(scope, values, equation.params["dimension"], False)


@batching("stack")  # of newer versions of JAX
def _stack(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    axis = equation.params.get("axis")
    return None if axis is None else _joined(scope, values, axis, True)


@batching("pad")
def _pad(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    value, filling = values
    if not value.core.batched or filling.core.batched:
        return None
    widths = (*equation.params["padding_config"], (0, 0, 0))
    return [Value(Core(jax.lax.pad(scope.array(value), scope.array(filling), widths), True))]


# Sums and products.


@batching(*BINARY)
def _reduced(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    name, (value,) = equation.primitive.name, values
    axes = tuple(equation.params["axes"])
    shape = value.core.shape
    rest = tuple(length for axis, length in enumerate(shape) if axis not in axes)
    count = int(np.prod([shape[axis] for axis in axes], dtype=int))
    if count == 1:
        return [scope.reshaped(value, rest)]
    if not value.core.batched or not 1 < count <= MOST_TERMS:
        return None
    negative = value.negative and name == "reduce_sum"
    array = value.core.array if negative else scope.array(value)
    order = [axis for axis in range(len(shape)) if axis not in axes]

    def compute() -> Core:
        terms = jax.lax.transpose(array, (*axes, *order, len(shape))) if axes != tuple(range(len(axes))) else array
        terms = jax.lax.reshape(terms, (count, *rest, scope.lanes))
        return Core(reduce(BINARY[name], [scope.index(terms, 0, place) for place in range(count)]), True)

    key = (name, axes, value.negative and not negative)
    return [Value(scope.remembered(key, (value.core,), compute), negative)]


@batching("argmax", "argmin")
def _place(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    """The first place of the largest or smallest number along an axis; of a NaN, if there is one."""
    value, axes = values[0], equation.params["axes"]
    if not value.core.batched or len(axes) != 1 or not 0 < value.core.shape[axes[0]] <= MOST_TERMS:
        return None
    array, kind = scope.array(value), equation.params["index_dtype"]
    better = jax.lax.gt if equation.primitive.name == "argmax" else jax.lax.lt

    best = scope.index(array, axes[0], 0)
    place = jax.lax.full_like(best, 0, dtype=kind)
    for index in range(1, value.core.shape[axes[0]]):
        other = scope.index(array, axes[0], index)
        wins = better(other, best) | ((other != other) & (best == best))
        best = jax.lax.select(wins, other, best)
        place = jax.lax.select(wins, jax.lax.full_like(place, index), place)
    return [Value(Core(place, True))]


@batching("dot_general")
def _product(scope: Any, equation: Any, values: list[Value]) -> list[Value] | None:
    """A matrix product as a sum over columns, each a product elementwise."""
    (contracted, paired) = equation.params["dimension_numbers"]
    one, other = values
    sizes = [one.core.shape[axis] for axis in contracted[0]]
    count = int(np.prod(sizes, dtype=int))
    out = equation.outvars[0].aval
    work = count * int(np.prod(out.shape, dtype=int))
    if not (one.core.batched or other.core.batched) or not 0 < count <= MOST_TERMS or work > MOST_PRODUCTS:
        return None
    if not jnp.issubdtype(out.dtype, jnp.inexact):
        return None

    def parts(core: Core, axes: Sequence[int], pairs: Sequence[int], first: bool, others: int) -> list[Any]:
        """The array at every index of the contracted axes: pairs first, then the free axes on this side or that."""
        array = core.array if core.batched else core.array[..., None]
        rank = array.ndim - 1
        free = [axis for axis in range(rank) if axis not in axes and axis not in pairs]
        wanted = (*axes, *pairs, *free, rank)
        array = array if wanted == tuple(range(rank + 1)) or len(axes) == 1 else jnp.transpose(array, wanted)
        kept = [axis for axis in wanted[len(axes) :]]
        found = []
        for place in np.ndindex(*sizes):
            if len(axes) == 1:
                part = scope.index(array, axes[0], place[0])
                order = [axis - (axis > axes[0]) for axis in kept]
                part = part if order == list(range(len(order))) else jnp.transpose(part, order)
            else:
                part = reduce(lambda rest, index: scope.index(rest, 0, index), place, array)
            low = len(pairs) + (len(free) if first else 0)
            shape = part.shape[:low] + (1,) * others + part.shape[low:]
            found.append(part.reshape(shape).astype(out.dtype))
        return found

    free_one = len(one.core.shape) - len(sizes) - len(paired[0])
    free_other = len(other.core.shape) - len(sizes) - len(paired[0])

    def compute() -> Core:
        left = parts(one.core, contracted[0], paired[0], True, free_other)
        right = parts(other.core, contracted[1], paired[1], False, free_one)
        return Core(reduce(operator.add, [a * b for a, b in zip(left, right, strict=True)]), True)

    key = ("dot_general", frozen(equation.params))
    made = scope.remembered(key, (one.core, other.core), compute)
    return [Value(made, one.negative != other.negative)]
