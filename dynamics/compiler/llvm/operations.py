"""What every elementwise operation of JAX is in LLVM, on a number or on a strip of them.

Every function here gets a translator (`machine_code`), the operation's name and parameters, the types of the arguments
and the arguments themselves: values of LLVM, all of them vectors or none. Signs of zeros aside they follow XLA, also
where there is no number, where integers overflow, and where shifts are too long.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from llvmlite import ir

from dynamics.compiler.errors import Unsupported
from dynamics.compiler.jaxprs import CALLS, SAME, is_literal, needed_equations
from dynamics.compiler.llvm.elementary import FUNCTIONS, LARGEST_ANGLE
from dynamics.compiler.llvm.jit import has_function

FLOATS = {np.dtype("float32"): ir.FloatType(), np.dtype("float64"): ir.DoubleType()}
INTEGERS = {np.dtype(f"{sign}int{bits}"): ir.IntType(bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
BOOL = np.dtype(bool)
TYPES = {**FLOATS, **INTEGERS, BOOL: ir.IntType(1)}

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
BITWISE = {"and": "and_", "or": "or_", "xor": "xor"}
# Functions of the library of C, a call per game.
LIBRARY = {name: name for name in ("exp2", "tan", "sinh", "cosh", "erf", "erfc", "cbrt", "pow", "atan2", "sin", "cos")}
LIBRARY |= {name: name for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")} | {"rem": "fmod"}
SLOW = {*FUNCTIONS, *LIBRARY, "div", "sqrt", "rsqrt"} - {"rem"}  # a result takes many cycles
CONTRACT = ("contract",)  # a product and a sum may be one instruction


def dtype_of(dtype: Any) -> np.dtype:
    """The type of numbers.

    Raises:
        Unsupported: of random keys, for instance.
    """
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        raise Unsupported(f"numbers of type {dtype}")
    return np.dtype(dtype)


def is_wide(number: Any) -> bool:
    """Whether a value of LLVM is a strip of numbers."""
    return isinstance(number.type, ir.VectorType)


def _floating(dtype: Any) -> bool:
    return dtype_of(dtype) in FLOATS


def _arithmetic(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    if _floating(dtypes[0]):
        return getattr(t.builder, f"f{name}")(a, b, flags=CONTRACT)
    if dtypes[0] == BOOL:
        raise Unsupported(f"{name} of truth values")
    return getattr(t.builder, name)(a, b)


def _divided(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    """A quotient or, of integers, a remainder."""
    dtype = dtypes[0]
    if _floating(dtype):
        return t.builder.fdiv(a, b) if name == "div" else _by_library(t, name, params, dtypes, a, b)
    signed = dtype.kind == "i"
    nought, one, minus = (t.like(number, a, dtype) for number in (0, 1, -1 if signed else 1))
    by_nought, by_minus = t.builder.icmp_unsigned("==", b, nought), t.builder.icmp_unsigned("==", b, minus)
    operation = {"div": "sdiv" if signed else "udiv", "rem": "srem" if signed else "urem"}[name]
    divisor = t.builder.select(t.builder.or_(by_nought, by_minus), one, b)  # no trap
    found = getattr(t.builder, operation)(a, divisor)
    if name == "rem":
        return t.builder.select(by_nought, a, t.builder.select(by_minus, nought, found))
    found = t.builder.select(by_minus, t.builder.neg(a), found) if signed else found
    return t.builder.select(by_nought, t.builder.not_(nought), found)


def _negative(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    return t.builder.fneg(a, flags=CONTRACT) if _floating(dtypes[0]) else t.builder.neg(a)


def _compared(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    sign = COMPARISONS[name]
    if _floating(dtypes[0]):
        return (t.builder.fcmp_unordered if sign == "!=" else t.builder.fcmp_ordered)(sign, a, b)
    return (t.builder.icmp_signed if dtypes[0].kind == "i" else t.builder.icmp_unsigned)(sign, a, b)


def _extreme(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    ahead = _compared(t, "gt" if name == "max" else "lt", {}, dtypes, a, b)
    chosen = t.builder.select(ahead, a, b)
    if not _floating(dtypes[0]):
        return chosen
    return t.builder.select(t.builder.fcmp_unordered("uno", a, a), a, chosen)  # what is no number stays


def _clamped(t: Any, name: str, params: Any, dtypes: Any, low: Any, number: Any, high: Any) -> Any:
    kinds = dtypes[1:2] * 2
    return _extreme(t, "min", {}, kinds, _extreme(t, "max", {}, kinds, number, low), high)


def _selected(t: Any, name: str, params: Any, dtypes: Any, which: Any, *cases: Any) -> Any:
    if dtypes[0] == BOOL:
        return t.builder.select(which, cases[1], cases[0])
    chosen = cases[-1]
    for place in range(len(cases) - 2, -1, -1):
        here = t.builder.icmp_signed("<=", which, t.like(place, which, dtypes[0]))
        chosen = t.builder.select(here, cases[place], chosen)
    return chosen


def _absolute(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    if _floating(dtypes[0]):
        return _intrinsic(t, "fabs", a)
    if dtypes[0].kind == "u":
        return a
    return t.builder.select(t.builder.icmp_signed("<", a, t.like(0, a, dtypes[0])), t.builder.neg(a), a)


def _sign(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    nought, one = t.like(0, a, dtypes[0]), t.like(1, a, dtypes[0])
    above = _compared(t, "gt", {}, dtypes, a, nought)
    if dtypes[0].kind == "u":
        return t.builder.select(above, one, nought)
    below = _compared(t, "lt", {}, dtypes, a, nought)
    return t.builder.select(above, one, t.builder.select(below, t.like(-1, a, dtypes[0]), a))


def _intrinsic(t: Any, name: str, *numbers: Any) -> Any:
    kind = numbers[0].type
    return t.builder.call(t.function(f"llvm.{name}.{_suffix(kind)}", kind, [kind] * len(numbers)), numbers)


def _suffix(kind: Any) -> str:
    """How LLVM names its own functions of such numbers."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{kind.element.intrinsic_name}"
    return kind.intrinsic_name


def _root(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    root = _intrinsic(t, "sqrt", a)
    return root if name == "sqrt" else t.builder.fdiv(t.like(1, a, dtypes[0]), root)


def _rounded(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    if name != "round":
        return _intrinsic(t, name, a)
    even = params["rounding_method"] == jax.lax.RoundingMethod.TO_NEAREST_EVEN
    return _intrinsic(t, "roundeven" if even else "round", a)


def _power(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    exponent = 2 if name == "square" else params["y"]
    if exponent == 0:
        return t.like(1, a, dtypes[0])
    if exponent < 0 and not _floating(dtypes[0]):
        raise Unsupported("the reciprocal of an integer")
    found, factor, left = None, a, abs(exponent)
    while left:
        if left & 1:
            found = factor if found is None else _arithmetic(t, "mul", {}, dtypes, found, factor)
        left >>= 1
        factor = _arithmetic(t, "mul", {}, dtypes, factor, factor) if left else factor
    return found if exponent > 0 else t.builder.fdiv(t.like(1, a, dtypes[0]), found)


def _is_finite(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    return t.builder.fcmp_ordered("<", _intrinsic(t, "fabs", a), t.like(np.inf, a, dtypes[0]))


def _bitwise(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    return getattr(t.builder, BITWISE[name])(a, b)


def _inverted(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    return t.builder.not_(a)


def _shifted(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    bits = 8 * dtypes[0].itemsize
    shift = {"shift_left": t.builder.shl, "shift_right_logical": t.builder.lshr}.get(name, t.builder.ashr)
    inside = t.builder.icmp_unsigned("<", b, t.like(bits, b, dtypes[0]))
    nought = t.like(0, a, dtypes[0])
    if name == "shift_right_arithmetic":
        return shift(a, t.builder.select(inside, b, t.like(bits - 1, b, dtypes[0])))
    return t.builder.select(inside, shift(a, t.builder.select(inside, b, nought)), nought)


def _converted(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    old, new = dtypes[0], np.dtype(params["new_dtype"])
    if old == new:
        return a
    kind = t.type_of(new, is_wide(a))
    if new == BOOL:
        return _compared(t, "ne", {}, [old], a, t.like(0, a, old))
    if _floating(old) and _floating(new):
        return (t.builder.fpext if new.itemsize > old.itemsize else t.builder.fptrunc)(a, kind)
    if _floating(new):
        return (t.builder.sitofp if old.kind == "i" else t.builder.uitofp)(a, kind)
    if _floating(old):
        convert = "fptosi" if new.kind == "i" else "fptoui"
        name = f"llvm.{convert}.sat.{_suffix(kind)}.{_suffix(a.type)}"
        return t.builder.call(t.function(name, kind, [a.type]), [a])
    if new.itemsize < old.itemsize:
        return t.builder.trunc(a, kind)
    if new.itemsize == old.itemsize and old != BOOL:
        return a
    return (t.builder.sext if old.kind == "i" else t.builder.zext)(a, kind)


def _reinterpreted(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    new = np.dtype(params["new_dtype"])
    if new.itemsize != dtypes[0].itemsize or BOOL in (new, dtypes[0]):
        raise Unsupported("numbers are taken for others of another size")
    return t.builder.bitcast(a, t.type_of(new, is_wide(a)))


@functools.cache
def _written_out(function: Callable, dtype: np.dtype) -> Any:
    return jax.make_jaxpr(function)(jax.ShapeDtypeStruct((), dtype)).jaxpr


def _elementary(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    (found,) = evaluated(t, _written_out(FUNCTIONS[name], dtypes[0]), [(a, dtypes[0])])
    return found


def _turned(t: Any, name: str, params: Any, dtypes: Any, a: Any) -> Any:
    """Sine or cosine; where an angle is large, from the library."""
    size = _intrinsic(t, "fabs", a)
    far = t.any(t.builder.fcmp_ordered(">", size, t.like(LARGEST_ANGLE[dtypes[0].name], a, dtypes[0])))
    (found,) = t.either(
        far,
        lambda: [_by_library(t, name, params, dtypes, a)],
        lambda: [_elementary(t, name, params, dtypes, a)],
    )
    return found


def evaluated(t: Any, jaxpr: Any, inputs: list[tuple[Any, np.dtype]]) -> list[Any]:
    """A program of scalars on numbers of one game or of a strip."""
    values = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> tuple[Any, np.dtype]:
        dtype = dtype_of(atom.aval.dtype)
        return (t.constant(atom.val, dtype), dtype) if is_literal(atom) else values[atom]

    for equation in needed_equations(jaxpr):
        name, given = equation.primitive.name, [read(atom) for atom in equation.invars]
        if name in CALLS:
            inner = equation.params[CALLS[name]].jaxpr
            found = evaluated(t, inner, given)
        elif name in SAME or name == "broadcast_in_dim":
            found = [number for number, _ in given]
        else:
            numbers = [number for number, _ in given]
            if any(map(is_wide, numbers)):
                numbers = [t.widened(number) for number in numbers]
            found = [ELEMENTWISE[name](t, name, equation.params, [dtype for _, dtype in given], *numbers)]
        for variable, number in zip(equation.outvars, found, strict=True):
            values[variable] = number, dtype_of(variable.aval.dtype)
    return [read(atom)[0] for atom in jaxpr.outvars]


def _by_library(t: Any, name: str, params: Any, dtypes: Any, *numbers: Any) -> Any:
    dtype, numbers = dtypes[0], list(numbers)
    if name == "pow" and dtypes[1].kind in "iu":
        numbers[1] = _converted(t, "", {"new_dtype": dtype}, dtypes[1:], numbers[1])
    elif len(set(dtypes)) > 1:
        raise Unsupported(f"{name} of {', '.join(map(str, dtypes))}")
    if dtype not in FLOATS:
        raise Unsupported(f"{name} of {dtype}")
    kind = FLOATS[dtype]
    symbol = LIBRARY[name] + ("f" if dtype.itemsize == 4 else "")
    if not has_function(symbol):
        raise Unsupported(f"{name} is not in the library of this machine")
    function = t.function(symbol, kind, [kind] * len(numbers))
    if not any(map(is_wide, numbers)):
        return t.builder.call(function, numbers)
    found = ir.Constant(ir.VectorType(kind, t.width), ir.Undefined)
    for lane in range(t.width):
        place = ir.IntType(32)(lane)
        one = t.builder.call(function, [t.builder.extract_element(number, place) for number in numbers])
        found = t.builder.insert_element(found, one, place)
    return found


def _sum(t: Any, name: str, params: Any, dtypes: Any, a: Any, b: Any) -> Any:
    return _arithmetic(t, "add", params, dtypes, a, b)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(LIBRARY, _by_library),
    **dict.fromkeys(FUNCTIONS, _elementary),
    **dict.fromkeys(("sin", "cos"), _turned),
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    **dict.fromkeys(COMPARISONS, _compared),
    **dict.fromkeys(BITWISE, _bitwise),
    **dict.fromkeys(("floor", "ceil", "round"), _rounded),
    **dict.fromkeys(("shift_left", "shift_right_logical", "shift_right_arithmetic"), _shifted),
    **dict.fromkeys(("integer_pow", "square"), _power),
    **dict.fromkeys(("sqrt", "rsqrt"), _root),
    **dict.fromkeys(("max", "min"), _extreme),
    "add_any": _sum,
    **dict.fromkeys(("div", "rem"), _divided),
    "neg": _negative,
    "clamp": _clamped,
    "select_n": _selected,
    "abs": _absolute,
    "sign": _sign,
    "is_finite": _is_finite,
    "not": _inverted,
    "convert_element_type": _converted,
    "bitcast_convert_type": _reinterpreted,
}
