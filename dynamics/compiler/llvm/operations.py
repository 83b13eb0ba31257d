"""What every elementwise operation of JAX is in LLVM, on a scalar or on a vector.

A rule here is a function of the context of the function that is written (`context`), the primitive's name and
parameters, the dtypes of the operands and the operands themselves: LLVM values, all of them vectors or none. Signs of
zeros aside they follow XLA, also where a result is NaN, where integers overflow, and where shifts are too long. They
are registered by `@elementwise`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from llvmlite import ir

from dynamics.compiler._jax import SAME, called, opened
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.jaxprs import interpret, needed_eqns
from dynamics.compiler.llvm.elementary import FUNCTIONS, LARGEST_ANGLE

FLOATS = {np.dtype("float32"): ir.FloatType(), np.dtype("float64"): ir.DoubleType()}
INTEGERS = {np.dtype(f"{sign}int{bits}"): ir.IntType(bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
BOOL = np.dtype(bool)
TYPES = {**FLOATS, **INTEGERS, BOOL: ir.IntType(1)}

B = ir.IRBuilder
FLOAT_ARITHMETIC = {"add": B.fadd, "sub": B.fsub, "mul": B.fmul}
INTEGER_ARITHMETIC = {"add": B.add, "sub": B.sub, "mul": B.mul}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
BITWISE = {"and": B.and_, "or": B.or_, "xor": B.xor}
# Functions of the library of C, a call per game.
LIBRARY = {name: name for name in ("exp2", "tan", "sinh", "cosh", "erf", "erfc", "cbrt", "pow", "atan2", "sin", "cos")}
LIBRARY |= {name: name for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh", "log2")} | {"rem": "fmod"}
SLOW = {*FUNCTIONS, *LIBRARY, "div", "sqrt", "rsqrt"} - {"rem"}  # a result takes many cycles
CONTRACT = ("contract",)  # a product and a sum may be one instruction

ELEMENTWISE: dict[str, Callable[..., Any]] = {}


def elementwise(*names: str) -> Callable[[Callable], Callable]:
    """Register a rule for primitives of these names, each of which has one."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        assert ELEMENTWISE.keys().isdisjoint(names), names
        ELEMENTWISE.update(dict.fromkeys(names, rule))
        return rule

    return register


@functools.cache  # asked for of every operation
def dtype_of(dtype: Any) -> np.dtype:
    """The dtype as NumPy has it.

    Raises:
        Unsupported: of random keys, for instance.
    """
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        raise Unsupported(f"numbers of type {dtype}")
    return np.dtype(dtype)


def is_vector(number: Any) -> bool:
    """Whether an LLVM value is a vector."""
    return isinstance(number.type, ir.VectorType)


def _is_floating(dtype: Any) -> bool:
    return dtype_of(dtype) in FLOATS


@elementwise("add", "sub", "mul")
def _arithmetic(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    if _is_floating(dtypes[0]):
        return FLOAT_ARITHMETIC[name](ctx.builder, a, b, flags=CONTRACT if ctx.contracts else ())
    if dtypes[0] == BOOL:
        raise Unsupported(f"{name} of truth values")
    return INTEGER_ARITHMETIC[name](ctx.builder, a, b)


@elementwise("div", "rem")
def _divide(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    """A quotient or, of integers, a remainder."""
    dtype = dtypes[0]
    if _is_floating(dtype):
        return ctx.builder.fdiv(a, b) if name == "div" else _library_call(ctx, name, params, dtypes, a, b)
    signed = dtype.kind == "i"
    zero, one, minus = (ctx.constant_like(number, a, dtype) for number in (0, 1, -1 if signed else 1))
    # The processor traps where a divisor is 0, or where the quotient overflows: it gets another divisor there.
    by_zero, by_minus = ctx.builder.icmp_unsigned("==", b, zero), ctx.builder.icmp_unsigned("==", b, minus)
    operation = {"div": (B.udiv, B.sdiv), "rem": (B.urem, B.srem)}[name][signed]
    divisor = ctx.builder.select(ctx.builder.or_(by_zero, by_minus), one, b)
    result = operation(ctx.builder, a, divisor)
    if name == "rem":
        return ctx.builder.select(by_zero, a, ctx.builder.select(by_minus, zero, result))
    result = ctx.builder.select(by_minus, ctx.builder.neg(a), result) if signed else result
    return ctx.builder.select(by_zero, ctx.builder.not_(zero), result)


@elementwise("neg")
def _negate(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    return ctx.builder.fneg(a, flags=CONTRACT) if _is_floating(dtypes[0]) else ctx.builder.neg(a)


@elementwise(*COMPARISONS)
def _compare(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    sign = COMPARISONS[name]
    if _is_floating(dtypes[0]):
        return (ctx.builder.fcmp_unordered if sign == "!=" else ctx.builder.fcmp_ordered)(sign, a, b)
    return (ctx.builder.icmp_signed if dtypes[0].kind == "i" else ctx.builder.icmp_unsigned)(sign, a, b)


@elementwise("max", "min")
def _max_or_min(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    ahead = _compare(ctx, "gt" if name == "max" else "lt", {}, dtypes, a, b)
    chosen = ctx.builder.select(ahead, a, b)
    if not _is_floating(dtypes[0]):
        return chosen
    return ctx.builder.select(ctx.builder.fcmp_unordered("uno", a, a), a, chosen)  # a NaN stays


@elementwise("clamp")
def _clamp(ctx: Any, name: str, params: Any, dtypes: Any, low: Any, number: Any, high: Any) -> Any:
    kinds = dtypes[1:2] * 2
    return _max_or_min(ctx, "min", {}, kinds, _max_or_min(ctx, "max", {}, kinds, number, low), high)


@elementwise("select_n")
def _select(ctx: Any, name: str, params: Any, dtypes: Any, which: Any, *cases: Any) -> Any:
    if dtypes[0] == BOOL:
        return ctx.builder.select(which, cases[1], cases[0])
    chosen = cases[-1]
    for place in range(len(cases) - 2, -1, -1):
        here = ctx.builder.icmp_signed("<=", which, ctx.constant_like(place, which, dtypes[0]))
        chosen = ctx.builder.select(here, cases[place], chosen)
    return chosen


@elementwise("abs")
def _abs(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    if _is_floating(dtypes[0]):
        return _intrinsic(ctx, "fabs", a)
    if dtypes[0].kind == "u":
        return a
    below = ctx.builder.icmp_signed("<", a, ctx.constant_like(0, a, dtypes[0]))
    return ctx.builder.select(below, ctx.builder.neg(a), a)


@elementwise("sign")
def _sign(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    zero, one = ctx.constant_like(0, a, dtypes[0]), ctx.constant_like(1, a, dtypes[0])
    above = _compare(ctx, "gt", {}, dtypes, a, zero)
    if dtypes[0].kind == "u":
        return ctx.builder.select(above, one, zero)
    below = _compare(ctx, "lt", {}, dtypes, a, zero)
    return ctx.builder.select(above, one, ctx.builder.select(below, ctx.constant_like(-1, a, dtypes[0]), a))


def _intrinsic(ctx: Any, name: str, *numbers: Any) -> Any:
    kind = numbers[0].type
    return ctx.builder.call(ctx.declare(f"llvm.{name}.{_suffix(kind)}", kind, [kind] * len(numbers)), numbers)


def _suffix(kind: Any) -> str:
    """How LLVM names its own functions of such numbers."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{kind.element.intrinsic_name}"
    return kind.intrinsic_name


@elementwise("sqrt", "rsqrt")
def _root(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    root = _intrinsic(ctx, "sqrt", a)
    return root if name == "sqrt" else ctx.builder.fdiv(ctx.constant_like(1, a, dtypes[0]), root)


@elementwise("floor", "ceil", "round")
def _round(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    if name != "round":
        return _intrinsic(ctx, name, a)
    even = params["rounding_method"] == jax.lax.RoundingMethod.TO_NEAREST_EVEN
    return _intrinsic(ctx, "roundeven" if even else "round", a)


@elementwise("integer_pow", "square")
def _power(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    exponent = 2 if name == "square" else params["y"]
    if exponent == 0:
        return ctx.constant_like(1, a, dtypes[0])
    if exponent < 0 and not _is_floating(dtypes[0]):
        raise Unsupported("the reciprocal of an integer")
    result, factor, left = None, a, abs(exponent)
    while left:
        if left & 1:
            result = factor if result is None else _arithmetic(ctx, "mul", {}, dtypes, result, factor)
        left >>= 1
        factor = _arithmetic(ctx, "mul", {}, dtypes, factor, factor) if left else factor
    return result if exponent > 0 else ctx.builder.fdiv(ctx.constant_like(1, a, dtypes[0]), result)


@elementwise("one_minus_square")  # from JAX 0.12 on, in derivatives of tanh
def _one_minus_square(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    one = ctx.constant_like(1, a, dtypes[0])
    factors = [_arithmetic(ctx, sign, {}, dtypes, one, a) for sign in ("add", "sub")]
    return _arithmetic(ctx, "mul", {}, dtypes, *factors)


@elementwise("is_finite")
def _is_finite(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    return ctx.builder.fcmp_ordered("<", _intrinsic(ctx, "fabs", a), ctx.constant_like(np.inf, a, dtypes[0]))


@elementwise(*BITWISE)
def _bitwise(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    return BITWISE[name](ctx.builder, a, b)


@elementwise("not")
def _not(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    return ctx.builder.not_(a)


@elementwise("shift_left", "shift_right_logical", "shift_right_arithmetic")
def _shift(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    bits = 8 * dtypes[0].itemsize
    shift = {"shift_left": ctx.builder.shl, "shift_right_logical": ctx.builder.lshr}.get(name, ctx.builder.ashr)
    inside = ctx.builder.icmp_unsigned("<", b, ctx.constant_like(bits, b, dtypes[0]))
    zero = ctx.constant_like(0, a, dtypes[0])
    if name == "shift_right_arithmetic":
        return shift(a, ctx.builder.select(inside, b, ctx.constant_like(bits - 1, b, dtypes[0])))
    return ctx.builder.select(inside, shift(a, ctx.builder.select(inside, b, zero)), zero)


@elementwise("convert_element_type")
def _convert(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    old, new = dtypes[0], np.dtype(params["new_dtype"])
    if old == new:
        return a
    kind = ctx.type_of(new, is_vector(a))
    if new == BOOL:
        return _compare(ctx, "ne", {}, [old], a, ctx.constant_like(0, a, old))
    if _is_floating(old) and _is_floating(new):
        return (ctx.builder.fpext if new.itemsize > old.itemsize else ctx.builder.fptrunc)(a, kind)
    if _is_floating(new):
        return (ctx.builder.sitofp if old.kind == "i" else ctx.builder.uitofp)(a, kind)
    if _is_floating(old):
        convert = "fptosi" if new.kind == "i" else "fptoui"
        name = f"llvm.{convert}.sat.{_suffix(kind)}.{_suffix(a.type)}"
        return ctx.builder.call(ctx.declare(name, kind, [a.type]), [a])
    if new.itemsize < old.itemsize:
        return ctx.builder.trunc(a, kind)
    if new.itemsize == old.itemsize and old != BOOL:
        return a
    return (ctx.builder.sext if old.kind == "i" else ctx.builder.zext)(a, kind)


@elementwise("bitcast_convert_type")
def _bitcast(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    new = np.dtype(params["new_dtype"])
    if new.itemsize != dtypes[0].itemsize or BOOL in (new, dtypes[0]):
        raise Unsupported("numbers are taken for others of another size")
    return ctx.builder.bitcast(a, ctx.type_of(new, is_vector(a)))


@functools.cache
def scalar_jaxpr(function: Callable, *dtypes: np.dtype) -> Any:
    """A function of scalars as a program."""
    return jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct((), dtype) for dtype in dtypes]).jaxpr


@elementwise(*[name for name in FUNCTIONS if name not in ("sin", "cos")])
def _elementary(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    (result,) = lower_scalar_jaxpr(ctx, scalar_jaxpr(FUNCTIONS[name], dtypes[0]), [(a, dtypes[0])])
    return result


@elementwise("sin", "cos")
def _sine_or_cosine(ctx: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    """Sine or cosine; where an angle is large, from the library."""
    size = _intrinsic(ctx, "fabs", a)
    largest = ctx.constant_like(LARGEST_ANGLE[dtypes[0].name], a, dtypes[0])
    far = ctx.any_lane(ctx.builder.fcmp_ordered(">", size, largest))
    (result,) = ctx.write_if(
        far,
        lambda: [_library_call(ctx, name, params, dtypes, a)],
        lambda: [_elementary(ctx, name, params, dtypes, a)],
    )
    return result


def lower_scalar_jaxpr(ctx: Any, jaxpr: Any, inputs: list[tuple[Any, np.dtype]]) -> list[Any]:
    """A jaxpr of scalars, on scalars or on vectors, given with their dtypes."""

    def literal(atom: Any) -> tuple[Any, np.dtype]:
        dtype = dtype_of(atom.aval.dtype)
        return ctx.constant(atom.val, dtype), dtype

    def evaluate(eqn: Any, given: list[tuple[Any, np.dtype]]) -> list[tuple[Any, np.dtype]]:
        name, inner = eqn.primitive.name, called(eqn)
        if inner is not None:
            result = lower_scalar_jaxpr(ctx, opened(inner)[0], given)
        elif name in SAME or name == "broadcast_in_dim":
            result = [number for number, _ in given]
        else:
            numbers = [number for number, _ in given]
            if any(map(is_vector, numbers)):
                numbers = [ctx.splat(number) for number in numbers]
            result = [ELEMENTWISE[name](ctx, name, eqn.params, [dtype for _, dtype in given], *numbers)]
        return [(number, dtype_of(v.aval.dtype)) for v, number in zip(eqn.outvars, result, strict=True)]

    return [number for number, _ in interpret(jaxpr, inputs, evaluate, literal, _needed_of_scalars(jaxpr))]


_needed_of_scalars = functools.lru_cache(maxsize=256)(needed_eqns)  # elementary functions are few, and used often


@elementwise(*[name for name in LIBRARY if name not in FUNCTIONS and name != "rem"])
def _library_call(ctx: Any, name: str, params: Any, dtypes: Any, *numbers: Any) -> Any:
    dtype, numbers = dtypes[0], list(numbers)
    if name == "pow" and dtypes[1].kind in "iu":
        numbers[1] = _convert(ctx, "", {"new_dtype": dtype}, dtypes[1:], numbers[1])
    elif len(set(dtypes)) > 1:
        raise Unsupported(f"{name} of {', '.join(map(str, dtypes))}")
    if dtype not in FLOATS:
        raise Unsupported(f"{name} of {dtype}")
    return ctx.target.library(ctx, LIBRARY[name], dtype, numbers)


@elementwise("add_any")
def _add_any(ctx: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    return _arithmetic(ctx, "add", params, dtypes, a, b)
