"""Arithmetic of a kernel, one number of the games at a time.

A number is one that is known when the kernel is made (of NumPy), a scalar, the same for all games, or an array with one
number per game. Equal operations are done once, those on known numbers at once, and products are put into sums.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import Primitive
from dynamics.compiler.errors import Unsupported

LARGEST_PROGRAM = 6_000  # operations; Triton compiles some thousand of them in seconds

# What Triton computes for each entry by itself.
ELEMENTWISE = {
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "square", "integer_pow", "pow", "sqrt", "rsqrt", "cbrt"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "floor", "ceil", "nextafter", "add_any"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "max", "min", "clamp", "is_finite", "select_n"),
    *("shift_left", "shift_right_logical", "shift_right_arithmetic", "rem", "convert_element_type"),
}
# Of known numbers, to the bit what JAX computes.
EXACT = {name: getattr(np, name) for name in ("square", "sqrt", "abs", "sign", "floor", "ceil")}
EXACT |= dict(add=np.add, sub=np.subtract, mul=np.multiply, div=np.divide, neg=np.negative, add_any=np.add)
EXACT |= dict(eq=np.equal, ne=np.not_equal, lt=np.less, le=np.less_equal, gt=np.greater, ge=np.greater_equal)
EXACT |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "is_finite": np.isfinite}
EXACT |= dict(max=np.maximum, min=np.minimum, clamp=lambda low, number, high: np.minimum(np.maximum(low, number), high))
FUSED = {np.dtype("float32"): ("f32", "f"), np.dtype("float64"): ("f64", "d")}  # types and registers of the GPU
TRITON_NUMBERS = {np.dtype(kind) for kind in ("float32", "float64", "int32", "int64", "uint32", "uint64")}
WIDENED = {np.dtype(kind) for kind in ("bool", "int8", "uint8", "int16", "uint16")}  # kept in memory as int32


class Numbers:
    """What has been computed of the numbers of a kernel.

    Attributes:
        lanes: games of a program instance.
        fuse: writes a sum with a product as one instruction, where there is such.
        operations: how many there are so far.
    """

    def __init__(self, lanes: int, fuse: Callable[..., Any] | None):
        self.lanes, self.fuse = lanes, fuse
        self.operations = 0
        self.made: dict[Any, Any] = {}

    def inside(self, work: Callable[[], Any]) -> Any:
        """Work in the body of a loop: what is made there does not exist outside."""
        outer, self.made = self.made, dict(self.made)
        try:
            return work()
        finally:
            self.made = outer

    def lane(self, entry: Any) -> Any:
        """An entry as one number per game."""
        if np.ndim(entry):
            return entry
        key = "lane", self.key(entry)
        if key not in self.made:
            if isinstance(entry, np.bool_):  # Triton's constants are numbers
                made = jax.lax.ne(jax.lax.broadcast(np.int32(entry), (self.lanes,)), self.lane(np.int32(0)))
            else:
                made = jax.lax.broadcast(entry, (self.lanes,))
            self.made[key] = made, entry
        return self.made[key][0]

    @staticmethod
    def key(entry: Any) -> Any:
        return (entry.dtype, entry.tobytes()) if isinstance(entry, np.generic) else id(entry)

    def apply(self, primitive: Primitive, params: dict[str, Any], *entries: Any) -> Any:
        """An elementwise operation on entries."""
        if all(isinstance(entry, np.generic) for entry in entries):
            return self.fold(primitive, params, entries)[()]
        if primitive.name in ("mul", "div"):  # exact: to leave out a factor of 1, to divide by a power of 2
            first, second = entries
            if isinstance(second, np.generic) and second == 1:
                return first
            if primitive.name == "mul" and isinstance(first, np.generic) and first == 1:
                return second
            if primitive.name == "div" and isinstance(second, np.floating) and _is_power_of_two(second):
                return self.apply(jax.lax.mul_p, {}, first, 1 / second)
        key = primitive.name, str(sorted(params.items(), key=str)), *map(self.key, entries)
        if key not in self.made:
            self.operations += 1
            if self.operations > LARGEST_PROGRAM:
                raise Unsupported(f"more than {LARGEST_PROGRAM} operations")
            used = list(entries)
            if any(np.ndim(entry) for entry in entries):
                used = [self.lane(entry) for entry in entries]
            # Kept with its inputs, as otherwise their numbers could be given to others.
            made = self.fused(primitive.name, entries) if self.fuse else None
            made = self.bind(primitive, params, used) if made is None else made
            self.made[key] = made, (*entries, *used)
            if primitive.name == "neg":
                self.made["negative of", id(made)] = entries[0], made
            if self.fuse and np.ndim(made):
                self.remember_product(primitive.name, entries, made)
        return self.made[key][0]

    def fused(self, name: str, entries: Sequence[Any]) -> Any:
        """A sum with a product as one instruction: Triton under JAX leaves the two apart."""
        if name not in ("add", "add_any", "sub"):
            return None
        first, second = entries
        for product, other, is_second in ((first, second, False), (second, first, True)):
            found = self.made.get(("product", id(product)))
            if found is None or dtype_of(product) not in FUSED:
                continue
            one, another, minus = found[0]
            other, minus_other = self.without_sign(other)
            if name == "sub":
                minus, minus_other = minus ^ is_second, minus_other ^ (not is_second)
            return self.fuse(self.lane(one), self.lane(another), self.lane(other), minus, minus_other)
        return None

    def remember_product(self, name: str, entries: Sequence[Any], made: Any) -> None:
        if name == "mul":
            (one, minus), (another, also) = map(self.without_sign, entries)
            self.made["product", id(made)] = (one, another, minus ^ also), made
        elif name == "neg" and ("product", id(entries[0])) in self.made:
            one, another, minus = self.made["product", id(entries[0])][0]
            self.made["product", id(made)] = (one, another, not minus), made

    def without_sign(self, entry: Any) -> tuple[Any, bool]:
        """What an entry is the negative of, as signs cost nothing within an instruction."""
        minus = False
        while ("negative of", id(entry)) in self.made:
            entry, minus = self.made["negative of", id(entry)][0], not minus
        return entry, minus

    def bind(self, primitive: Primitive, params: dict[str, Any], entries: list[Any]) -> Any:
        kind = np.dtype(entries[-1].dtype)
        if kind not in TRITON_NUMBERS | WIDENED:
            raise Unsupported(f"numbers of type {kind}")
        match primitive.name:
            # Those of Triton ignore not-a-number, and a game that has blown up must not look as if it had not.
            case "max" | "min" if jnp.issubdtype(kind, jnp.floating):
                first, second = entries
                if self.opposite(first, second):
                    size = jax.lax.abs(first)
                    return size if primitive.name == "max" else self.bind(jax.lax.neg_p, {}, [size])
                ahead = (jax.lax.gt if primitive.name == "max" else jax.lax.lt)(first, second)
                return jax.lax.select(ahead | jax.lax.ne(first, first), first, second)
            case "neg" if jnp.issubdtype(kind, jnp.floating):  # Triton subtracts from 0, which costs an operation
                return jax.lax.mul(entries[0], self.like(-1, entries[0]))
            case "clamp":
                low, number, high = entries
                over = self.bind(jax.lax.max_p, {}, [low, number])
                return self.bind(jax.lax.min_p, {}, [over, high])
            case "is_finite":
                (number,) = entries
                return jax.lax.lt(jax.lax.abs(number), self.like(np.inf, number))
            case "select_n" if len(entries) > 3:
                which, *cases = entries
                chosen = cases[-1]
                for place, case in reversed(list(enumerate(cases[:-1]))):
                    chosen = jax.lax.select(jax.lax.eq(which, self.like(place, which)), case, chosen)
                return chosen
            case "rem" if jnp.issubdtype(kind, jnp.floating):
                raise Unsupported("the remainder of real numbers")
            case "sign" if jnp.issubdtype(kind, jnp.floating):
                (number,) = entries
                zero = self.like(0, number)
                one = jax.lax.select(jax.lax.gt(number, zero), self.like(1, number), self.like(-1, number))
                return jax.lax.select(jax.lax.gt(jax.lax.abs(number), zero), one, number)  # of 0 and not-a-number
        return primitive.bind(*entries, **params)

    def opposite(self, first: Any, second: Any) -> bool:
        return any(
            self.made.get(("negative of", id(one)), (None,))[0] is other
            for one, other in ((first, second), (second, first))
        )

    def like(self, number: Any, entry: Any) -> Any:
        made = np.asarray(number, entry.dtype)[()]
        return self.lane(made) if np.ndim(entry) else made

    @staticmethod
    def fold(primitive: Primitive, params: dict[str, Any], arrays: Sequence[Any]) -> np.ndarray:
        kind = np.dtype(arrays[-1].dtype)
        if primitive.name == "convert_element_type":
            return np.asarray(arrays[0]).astype(params["new_dtype"])
        if primitive.name == "select_n" and len(arrays) == 3:
            return np.where(arrays[0], arrays[2], arrays[1])
        if primitive.name in EXACT and (primitive.name != "div" or np.issubdtype(kind, np.floating)):
            with np.errstate(all="ignore"):
                return np.asarray(EXACT[primitive.name](*arrays))
        with jax.ensure_compile_time_eval():
            return np.asarray(primitive.bind(*map(jnp.asarray, arrays), **params))


def dtype_of(entry: Any) -> np.dtype:
    return np.dtype(entry.dtype)


def _is_power_of_two(number: np.floating) -> bool:
    return bool(np.isfinite(number)) and abs(np.frexp(number)[0]) == 0.5 and 1e-30 < abs(number) < 1e30
