r"""Tier B of sweeps on a GPU: the whole run of many games in one kernel, their state in registers.

Plain XLA (tier A) starts kernels at every turn of a loop and writes the state to memory between them. Here the program
of a block of games is rewritten so that every number of a game is a value of its own, held by the one thread that owns
the game; all loops run inside one kernel (`jax.experimental.pallas`, compiled by Triton), which reads every array
once and writes every result once. A loop that ends when all games of a block are decided ends for each block by itself.

What is rewritten is the jaxpr, so that games and methods need to know nothing of it. Small arrays (a player with three
numbers, a 2 x 2 matrix) are taken apart, sums and products over them written out. What the language of kernels lacks
(linear algebra, random numbers, gathers) stays outside: when only a part of a program can be rewritten, its loops
become the kernel and the rest is plain XLA, block after block, so that the bits of a game do not depend on how many
blocks there are; when no loop can be, `run_blocks` is `jax.lax.map`, and `choose` says why.

How to call it, in place of `jax.lax.map(block, arrays)` with arrays of shape (blocks, ..., lanes):

    run_blocks(block, arrays, platform=devices[0].platform)

inside the compiled function of a chunk (also inside `jax.shard_map` with `check_vma=False`). `block` gets one argument,
as under `jax.lax.map`, with leaves of shape (..., lanes), for *any* number of lanes: it may not have a number of lanes
built in, and a game must not depend on its neighbours, except in the condition of a loop (`until_decided`). On any
other platform than a GPU it is `jax.lax.map`, to the bit.

Triton under Pallas is deprecated from JAX 0.11 on, and Mosaic, its successor, knows no float64. Where it is gone, or
fails, the same program is compiled as plain XLA, and a warning is logged.

For arrays that are not cut into blocks there is `in_one_kernel`.
"""

import dataclasses
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Primitive, Var, jaxpr_as_fun
from jax.interpreters import mlir
from jaxtyping import Array, PyTree

from dynamics.ensembles.programs import bind, needed_equations, scan_counts

logger = logging.getLogger(__name__)

LANES = 128  # games of a program instance: one per thread of four warps
FEWEST_GAMES = 1_000  # below, starting the kernel costs more than the run
LARGEST_STATE = 96  # 32-bit registers for the numbers that a loop carries, of the 255 that a thread has
LARGEST_PROGRAM = 6_000  # operations; Triton compiles some thousand of them in seconds
LARGEST_ARRAY = 64  # entries of an array that are read into registers
LARGEST_STORE = 4_096  # entries per game that are written along the way
WRITTEN_OUT = 4  # turns of a scan up to which it is written out

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
SAME = {"copy", "copy_p", "optimization_barrier", "sharding_constraint", "reshard", "device_put"}
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
CALLS |= {"remat", "remat2", "checkpoint"}
LOOPS = {"while", "scan"}
TRITON_NUMBERS = {np.dtype(kind) for kind in ("float32", "float64", "int32", "int64", "uint32", "uint64")}
WIDENED = {np.dtype(kind) for kind in ("bool", "int8", "uint8", "int16", "uint16")}  # kept in memory as int32


class Unsupported(Exception):
    """A program that cannot become a kernel; the text says why."""


class Choice(NamedTuple):
    """How a program runs.

    Attributes:
        tier: "A", plain XLA, or "B", in kernels.
        reason: why not in one kernel: empty when all of the program is in it.
    """

    tier: Literal["A", "B"]
    reason: str


# The rewriting of a program, one number of a game at a time


@dataclasses.dataclass(frozen=True)
class _Memory:
    """An array that stays in memory and of which a loop reads a row per turn."""

    row: Callable[[Any], np.ndarray]  # from an index to the entries of a row
    length: int


@dataclasses.dataclass(frozen=True)
class _Value:
    """A variable of the program inside a kernel.

    Attributes:
        data: its entries without the axis of the games: numbers that are known, an array of them, or an array of
            objects: scalars, the same for all games, and arrays of one number per game.
        shape: with the axis of the games.
        memory: where a loop finds its rows.
        stored: number of the store to which a loop has written it, when there is no data.
    """

    data: np.ndarray | None
    shape: tuple[int, ...]
    memory: _Memory | None = None
    stored: int | None = None

    @property
    def known(self) -> bool:
        return self.data is not None and self.data.dtype != object


class _Rewriter:
    """Evaluates a jaxpr over all games with values of shape () and (lanes,) only.

    An axis of the program is that of the games when it is as long as there are games. An axis of this length that does
    not come from the inputs is refused, and so is an array with two of them: nothing is mistaken for the games.
    """

    def __init__(self, games: int, lanes: int, constant: Callable[[np.ndarray], _Memory], store: Callable[..., None]):
        self.games, self.lanes = games, lanes
        self.constant = constant  # a known array, put into memory
        self.store = store  # (number, row, entries): write a row
        self.stores: list[tuple[tuple[int, ...], np.dtype]] = []  # shape and dtype of what is written along the way
        self.operations = 0
        self.state = 0  # registers of the largest loop
        self.fuse: Callable[..., Any] | None = None
        self.in_loop = False
        self.used: set[Any] = set()  # variables that somebody reads
        self.made: dict[Any, Any] = {}  # equal operations on equal entries are done once
        self.in_condition = False
        self.reduced = False  # whether a condition looked at all games of a block

    # Shapes

    def axis(self, shape: Sequence[int]) -> int | None:
        found = [axis for axis, size in enumerate(shape) if size == self.games]
        if len(found) > 1:
            raise Unsupported(f"an array of shape {tuple(shape)} has two axes as long as there are games")
        return found[0] if found else None

    def small(self, shape: Sequence[int]) -> tuple[int, ...]:
        axis = self.axis(shape)
        return tuple(size for place, size in enumerate(shape) if place != axis)

    def axes(self, wanted: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
        """Axes of a shape as axes of the entries."""
        own = self.axis(shape)
        if own in wanted:
            raise Unsupported("games are combined with one another")
        return tuple(axis - (own is not None and axis > own) for axis in wanted)

    # Entries

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
            if found is None or _dtype(product) not in FUSED:
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
                nought = self.like(0, number)
                one = jax.lax.select(jax.lax.gt(number, nought), self.like(1, number), self.like(-1, number))
                return jax.lax.select(jax.lax.gt(jax.lax.abs(number), nought), one, number)  # of 0 and not-a-number
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

    # Programs

    def run(self, jaxpr: Jaxpr, constants: Sequence[_Value], inputs: Sequence[_Value]) -> list[_Value]:
        """The results of a program."""
        values: dict[Var, _Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> _Value:
            return values[atom] if isinstance(atom, Var) else self.numbers(atom.val, atom.aval)

        needed = needed_equations(jaxpr)
        for atoms in (jaxpr.outvars, *(equation.invars for equation in needed)):
            self.used.update(atom for atom in atoms if isinstance(atom, Var))
        for equation in needed:
            found = self.equation(equation, [read(atom) for atom in equation.invars])
            for variable, value in zip(equation.outvars, found, strict=True):
                if value.data is not None and value.data.shape != self.small(variable.aval.shape):
                    raise Unsupported(f"{equation.primitive.name} made {value.data.shape} of {variable.aval.shape}")
                values[variable] = value
        return [read(atom) for atom in jaxpr.outvars]

    def closed(self, closed: ClosedJaxpr | Jaxpr, inputs: Sequence[_Value]) -> list[_Value]:
        jaxpr, constants = (closed.jaxpr, closed.consts) if isinstance(closed, ClosedJaxpr) else (closed, ())
        known = [self.numbers(one, variable.aval) for one, variable in zip(constants, jaxpr.constvars, strict=True)]
        return self.run(jaxpr, known, inputs)

    def numbers(self, known: Any, aval: Any) -> _Value:
        """What is known when the kernel is made."""
        if isinstance(known, jax.core.Tracer) or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended):
            raise Unsupported(f"a constant of type {aval.dtype}")
        if self.axis(aval.shape) is not None:
            raise Unsupported(f"a constant of shape {aval.shape}, as long as there are games")
        return _Value(np.asarray(known, aval.dtype), aval.shape)

    def equation(self, equation: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        name, params = equation.primitive.name, equation.params
        shapes = [variable.aval.shape for variable in equation.outvars]
        if name in CALLS:
            return self.closed(_inner(equation), inputs)
        if name in LOOPS or name == "cond":
            return getattr(self, f"_{name}")(equation, inputs)
        if name in SAME:
            return inputs
        (shape, *_) = shapes
        if inputs and inputs[0].stored is not None:
            if name in {"reshape", "broadcast_in_dim", "squeeze", "expand_dims"}:
                if math.prod(self.small(shape)) == math.prod(self.small(inputs[0].shape)):
                    return [_Value(None, shape, stored=inputs[0].stored)]
        for value in inputs:
            if value.data is None:
                raise Unsupported(f"{name} of an array that a loop has written, or that is too large for registers")
        if name in ELEMENTWISE:
            return [self._elementwise(equation.primitive, params, shape, inputs)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise Unsupported(f"{name} is no operation of kernels")
        made = method(params, inputs, shape)
        made = made if isinstance(made, list) else [made]
        return [_Value(data, shape) for data, shape in zip(made, shapes, strict=True)]

    def _elementwise(self, primitive, params, shape, inputs: list[_Value]) -> _Value:
        small, own = self.small(shape), self.axis(shape)
        data = []
        for value in inputs:
            entries, axis = value.data, self.axis(value.shape)
            if value.shape and axis != own:
                if own is None or len(value.shape) != len(shape) or value.shape[own] != 1:
                    raise Unsupported(f"{primitive.name} of {value.shape} for {shape}")
                entries = entries.squeeze(own)
            data.append(np.broadcast_to(entries, small))
        if all(value.known for value in inputs):
            return _Value(self.fold(primitive, params, data), shape)
        made = np.empty(small, object)
        for place in np.ndindex(small):
            made[place] = self.apply(primitive, params, *(entries[place] for entries in data))
        return _Value(made, shape)

    # Shapes of arrays

    def _broadcast_in_dim(self, params, inputs, shape):
        value, target, own = inputs[0], self.axis(shape), self.axis(inputs[0].shape)
        kept, sizes = [], []
        for axis, place in enumerate(params["broadcast_dimensions"]):
            if axis == own and place != target:
                raise Unsupported("games are moved along another axis")
            if place != target:
                kept.append(place - (target is not None and place > target))
                sizes.append(value.shape[axis])
        small = self.small(shape)
        full = [1] * len(small)
        for place, size in zip(kept, sizes, strict=True):
            full[place] = size
        return np.broadcast_to(value.data.reshape(full), small)

    def _reshape(self, params, inputs, shape):
        old = inputs[0].shape
        before, after = self.axis(old), self.axis(shape)
        if (before is None) != (after is None) or params.get("dimensions") is not None:
            raise Unsupported("the axis of the games is reshaped")
        if before is not None and math.prod(old[:before]) != math.prod(shape[:after]):
            raise Unsupported("the axis of the games is reshaped")
        return inputs[0].data.reshape(self.small(shape))

    def _squeeze(self, params, inputs, shape):
        return inputs[0].data.reshape(self.small(shape))

    _expand_dims = _squeeze

    def _transpose(self, params, inputs, shape):
        order = [axis for axis in params["permutation"] if axis != self.axis(inputs[0].shape)]
        return inputs[0].data.transpose(self.axes(order, inputs[0].shape))

    def _rev(self, params, inputs, shape):
        return np.flip(inputs[0].data, self.axes(params["dimensions"], inputs[0].shape))

    def _slice(self, params, inputs, shape):
        own = self.axis(inputs[0].shape)
        if own is not None and shape[own] != self.games:
            raise Unsupported("some of the games are taken out")
        strides = params["strides"] or [1] * len(shape)
        cut = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        return inputs[0].data[tuple(slice(*one) for axis, one in enumerate(cut) if axis != own)]

    def _concatenate(self, params, inputs, shape):
        if self.axis(shape) is not None and any(self.axis(value.shape) is None for value in inputs):
            raise Unsupported("an axis as long as there are games is put together")
        (axis,) = self.axes([params["dimension"]], shape)
        return self.joined([value.data for value in inputs], partial(np.concatenate, axis=axis))

    def _stack(self, params, inputs, shape):
        (axis,) = self.axes([params["axis"]], shape)
        return self.joined([value.data for value in inputs], partial(np.stack, axis=axis))

    def _unstack(self, params, inputs, shape):
        (axis,) = self.axes([params["axis"]], inputs[0].shape)
        return _rows(np.moveaxis(inputs[0].data, axis, 0))

    def _split(self, params, inputs, shape):
        (axis,) = self.axes([params["axis"]], inputs[0].shape)
        return np.split(inputs[0].data, np.cumsum(params["sizes"])[:-1], axis)

    def _pad(self, params, inputs, shape):
        value, filling = inputs
        own = self.axis(shape)
        if own != self.axis(value.shape):
            raise Unsupported("games are padded")
        made = np.empty(self.small(shape), object)
        made[...] = filling.data[()]
        target, source = [], []
        for axis, (low, high, between) in enumerate(params["padding_config"]):
            if axis == own:
                if low or high or between:
                    raise Unsupported("games are padded")
                continue
            if low < 0 or high < 0:
                raise Unsupported("an array is cut by padding")
            size = value.shape[axis]
            target.append(slice(low, low + max(0, (size - 1) * (between + 1) + 1), between + 1))
            source.append(slice(None))
        made[tuple(target)] = self.objects(value.data)[tuple(source)]
        return made

    def _iota(self, params, inputs, shape):
        if params["dimension"] == self.axis(shape):
            raise Unsupported("the games are counted")
        (axis,) = self.axes([params["dimension"]], shape)
        small = self.small(shape)
        counted = np.arange(small[axis], dtype=params["dtype"]).reshape(
            [-1 if a == axis else 1 for a in range(len(small))]
        )
        return np.broadcast_to(counted, small)

    @staticmethod
    def objects(data: np.ndarray) -> np.ndarray:
        """The entries one by one, as numbers that keep their type."""
        if data.dtype == object:
            return data
        made = np.empty(data.shape, object)
        for place in np.ndindex(data.shape):
            made[place] = data[place]
        return made

    def joined(self, parts: list[np.ndarray], join: Callable) -> np.ndarray:
        return join(parts if all(part.dtype != object for part in parts) else [self.objects(part) for part in parts])

    def _dynamic_slice(self, params, inputs, shape):
        value, *starts = inputs
        sizes = [size for axis, size in enumerate(params["slice_sizes"]) if axis != self.axis(value.shape)]
        starts = [start for axis, start in enumerate(starts) if axis != self.axis(value.shape)]
        made = value.data
        for axis, (size, start) in enumerate(zip(sizes, starts, strict=True)):
            most = made.shape[axis] - size
            if most == 0:
                continue
            if start.known:
                at = min(max(int(start.data), 0), most)
                made = made[(slice(None),) * axis + (slice(at, at + size),)]
                continue
            if most > 16:
                raise Unsupported("an entry of a large array is looked up")
            rows = [self.objects(made[(slice(None),) * axis + (slice(at, at + size),)]) for at in range(most + 1)]
            made = rows[-1]
            for at in range(most - 1, -1, -1):
                here = self.apply(jax.lax.le_p, {}, start.data[()], np.asarray(at, _dtype(start.data[()]))[()])
                made = self.each(lambda a, b, here=here: self.apply(jax.lax.select_n_p, {}, here, b, a), rows[at], made)
        return made

    @staticmethod
    def each(function: Callable, *arrays: np.ndarray) -> np.ndarray:
        made = np.empty(arrays[0].shape, object)
        for place in np.ndindex(made.shape):
            made[place] = function(*(array[place] for array in arrays))
        return made

    # Sums and products over small arrays

    def _reduce(self, primitive, params, inputs, shape):
        value = inputs[0]
        axes = self.axes(params["axes"], value.shape)
        rest = [axis for axis in range(value.data.ndim) if axis not in axes]
        rows = self.objects(value.data).transpose([*axes, *rest])
        rows = rows.reshape(-1, *rows.shape[len(axes) :])
        if not len(rows):
            raise Unsupported("a sum over nothing")
        return self.each(lambda *entries: reduce(partial(self.apply, primitive, {}), entries), *_rows(rows))

    def _reduce_sum(self, params, inputs, shape):
        return self._reduce(jax.lax.add_p, params, inputs, shape)

    def _reduce_prod(self, params, inputs, shape):
        return self._reduce(jax.lax.mul_p, params, inputs, shape)

    def _reduce_max(self, params, inputs, shape):
        return self._reduce(jax.lax.max_p, params, inputs, shape)

    def _reduce_min(self, params, inputs, shape):
        return self._reduce(jax.lax.min_p, params, inputs, shape)

    def _reduce_or(self, params, inputs, shape):
        return self._over_games(jax.lax.or_p, jnp.max, params, inputs, shape)

    def _reduce_and(self, params, inputs, shape):
        return self._over_games(jax.lax.and_p, jnp.min, params, inputs, shape)

    def _over_games(self, primitive, over, params, inputs, shape):
        value = inputs[0]
        own = self.axis(value.shape)
        if own not in params["axes"] or not self.in_condition:
            return self._reduce(primitive, params, inputs, shape)
        self.reduced = True
        if value.data.ndim:
            raise Unsupported("games are combined with one another")
        entry = jax.lax.convert_element_type(self.lane(value.data[()]), jnp.int32)
        made = np.empty((), object)
        made[()] = jax.lax.ne(over(entry), np.int32(0))
        return made

    def _argmax(self, params, inputs, shape, ahead=jax.lax.gt_p):
        value = inputs[0]
        (axis,) = self.axes(params["axes"], value.shape)
        rows = _rows(np.moveaxis(self.objects(value.data), axis, 0))
        kind = np.dtype(params["index_dtype"])

        def one(*entries: Any) -> Any:
            best, found = entries[0], np.zeros((), kind)[()]
            for place, entry in enumerate(entries[1:], 1):
                better = self.apply(ahead, {}, entry, best)
                if jnp.issubdtype(_dtype(entry), jnp.floating):  # not-a-number comes before all
                    nan, fine = self.apply(jax.lax.ne_p, {}, entry, entry), self.apply(jax.lax.eq_p, {}, best, best)
                    better = self.apply(jax.lax.and_p, {}, self.apply(jax.lax.or_p, {}, better, nan), fine)
                best = self.apply(jax.lax.select_n_p, {}, better, best, entry)
                found = self.apply(jax.lax.select_n_p, {}, better, found, np.asarray(place, kind)[()])
            return found

        return self.each(one, *rows)

    def _argmin(self, params, inputs, shape):
        return self._argmax(params, inputs, shape, jax.lax.lt_p)

    def _cumsum(self, params, inputs, shape, primitive=jax.lax.add_p):
        (axis,) = self.axes([params["axis"]], shape)
        rows = _rows(np.moveaxis(self.objects(inputs[0].data), axis, 0))
        rows = rows[::-1] if params["reverse"] else rows
        sums = list(itertools.accumulate(rows, partial(self.each, partial(self.apply, primitive, {}))))
        return np.stack(sums[::-1] if params["reverse"] else sums, axis)

    def _dot_general(self, params, inputs, shape):
        (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
        kinds = {_dtype(value.data.ravel()[0]) if value.data.size else None for value in inputs}
        wanted = params.get("preferred_element_type")
        if len(kinds) > 1 or (wanted is not None and np.dtype(wanted) not in kinds):
            raise Unsupported("a product of different types")
        arranged, free = [], []
        for value, summed, batch in zip(inputs, (left_sum, right_sum), (left_batch, right_batch), strict=True):
            own = self.axis(value.shape)
            summed = self.axes(summed, value.shape)
            batch = self.axes([axis for axis in batch if axis != own], value.shape)
            rest = [axis for axis in range(value.data.ndim) if axis not in (*summed, *batch)]
            data = self.objects(value.data).transpose([*batch, *rest, *summed])
            sizes = data.shape[: len(batch)], data.shape[len(batch) : len(batch) + len(rest)]
            arranged.append(data.reshape(math.prod(sizes[0]), math.prod(sizes[1]), -1))
            free.append(sizes)
        # In the result the axes are those of the batch, of the left and of the right one.
        made = np.empty((arranged[0].shape[0], arranged[0].shape[1], arranged[1].shape[1]), object)
        for b, i, j in np.ndindex(made.shape):
            pairs = zip(arranged[0][b, i], arranged[1][b, j], strict=True)
            made[b, i, j] = reduce(partial(self.apply, jax.lax.add_p, {}), (self._product(*pair) for pair in pairs))
        return made.reshape(self.small(shape))

    def _product(self, left: Any, right: Any) -> Any:
        return self.apply(jax.lax.mul_p, {}, left, right)

    # Loops

    def flat(self, values: Sequence[_Value], avals: Sequence[Any], before: Sequence[Any] = ()) -> list[Any]:
        """The entries that a loop carries, after a turn or, without those from before the turn, at first."""
        entries = []
        for value, aval in zip(values, avals, strict=True):
            if value.data is None:
                raise Unsupported("a loop carries an array that is too large for registers")
            if np.dtype(aval.dtype) not in TRITON_NUMBERS | WIDENED:
                raise Unsupported(f"numbers of type {aval.dtype}")
            for entry in self.objects(value.data).ravel():
                with_lanes = self.axis(aval.shape) is not None
                if with_lanes:
                    entries.append(self.lane(entry))
                elif before and isinstance(entry, np.generic):  # Triton's loops carry no constants
                    entries.append(self.from_constant(entry, before[len(entries)]))
                else:
                    entries.append(jnp.asarray(entry, aval.dtype))
        registers = sum(max(1, entry.dtype.itemsize // 4) for entry in entries if np.ndim(entry))
        self.state = max(self.state, registers)
        if self.state > LARGEST_STATE:
            raise Unsupported(f"a loop carries more than {LARGEST_STATE} registers per game")
        return entries

    @staticmethod
    def from_constant(number: np.generic, old: Any) -> Any:
        """A known number as the result of an operation."""
        if number.dtype == bool:
            return (jax.lax.eq if number else jax.lax.ne)(old, old)
        return jax.lax.select(jax.lax.eq(old, old), number, number)

    def unflat(self, entries: Sequence[Any], avals: Sequence[Any]) -> list[_Value]:
        remaining, values = iter(entries), []
        for aval in avals:
            data = np.empty(self.small(aval.shape), object)
            for place in np.ndindex(data.shape):
                data[place] = next(remaining)
            values.append(_Value(data, aval.shape))
        return values

    def inside(self, work: Callable[[], Any]) -> Any:
        """Work in the body of a loop: what is made there does not exist outside."""
        outer, self.made = self.made, dict(self.made)
        try:
            return work()
        finally:
            self.made = outer

    def _while(self, equation: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        params = equation.params
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        for_condition, for_body, carry = inputs[:first], inputs[first:second], inputs[second:]
        avals = [variable.aval for variable in equation.outvars]
        outer_condition, outer_reduced = self.in_condition, self.reduced
        self.reduced = False

        def condition(entries: Sequence[Any]) -> Any:
            def work() -> Any:
                self.in_condition = True
                (found,) = self.closed(params["cond_jaxpr"], [*for_condition, *self.unflat(entries, avals)])
                self.in_condition = outer_condition
                return jnp.asarray(found.data[()])

            return self.inside(work)

        def body(entries: Sequence[Any]) -> list[Any]:
            return self.inside(
                lambda: self.flat(
                    self.closed(params["body_jaxpr"], [*for_body, *self.unflat(entries, avals)]), avals, entries
                )
            )

        outer, self.in_loop = self.in_loop, True
        found = self.unflat(jax.lax.while_loop(condition, body, self.flat(carry, avals)), avals)
        self.in_loop = outer
        if self.reduced:  # when a block ends depends on all its games, and so do its counters
            found = [
                value if self.axis(aval.shape) is not None else _Value(None, aval.shape)
                for value, aval in zip(found, avals, strict=True)
            ]
        self.reduced = outer_reduced
        return found

    def _scan(self, equation: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        params = equation.params
        (constants, carries), length = scan_counts(equation), params["length"]
        fixed, carry, rows = inputs[:constants], inputs[constants : constants + carries], inputs[constants + carries :]
        avals = [variable.aval for variable in equation.outvars]
        if not length:
            raise Unsupported("a loop of no turns")
        if length == self.games:
            raise Unsupported("a loop as long as there are games")
        inner = [variable.aval for variable in _open(params["jaxpr"]).outvars[carries:]]

        def turn(carry: list[_Value], row: list[_Value]) -> tuple[list[_Value], list[_Value]]:
            found = self.closed(params["jaxpr"], [*fixed, *carry, *row])
            return found[:carries], found[carries:]

        if length <= WRITTEN_OUT:
            kept = []
            for at in reversed(range(length)) if params["reverse"] else range(length):
                carry, made = turn(carry, [self.row_of(value, at) for value in rows])
                kept.append(made)
            kept = kept[::-1] if params["reverse"] else kept
            return [*carry, *(self.stacked(parts, aval) for parts, aval in zip(zip(*kept), avals[carries:]))]

        used = [variable in self.used for variable in equation.outvars[carries:]]
        numbers: list[int | None] = []
        for aval, needed in zip(avals[carries:], used, strict=True):
            numbers.append(len(self.stores) if needed else None)
            if needed:
                if math.prod(self.small(aval.shape)) > LARGEST_STORE:
                    raise Unsupported(f"more than {LARGEST_STORE} numbers per game are kept along the way")
                self.stores.append((aval.shape, np.dtype(aval.dtype)))
        memories = [self.in_memory(value) for value in rows]

        def body(at: Any, entries: list[Any]) -> list[Any]:
            def work() -> list[Any]:
                place = np.int32(length - 1) - at if params["reverse"] else at
                row = [
                    _Value(memory.row(place), value.shape[1:]) if isinstance(memory, _Memory) else memory
                    for memory, value in zip(memories, rows, strict=True)
                ]
                carry, made = turn(self.unflat(entries, avals[:carries]), row)
                for number, value, aval in zip(numbers, made, inner, strict=True):
                    if number is not None:
                        if value.data is None:
                            raise Unsupported("loops within loops keep numbers along the way")
                        self.store(number, place, self.objects(value.data).ravel(), aval)
                return self.flat(carry, avals[:carries], entries)

            return self.inside(work)

        if self.in_loop and any(number is not None for number in numbers):
            raise Unsupported("loops within loops keep numbers along the way")
        outer, self.in_loop = self.in_loop, True
        found = jax.lax.fori_loop(np.int32(0), np.int32(length), body, self.flat(carry, avals[:carries]))
        self.in_loop = outer
        kept = [_Value(None, aval.shape, stored=number) for number, aval in zip(numbers, avals[carries:], strict=True)]
        return [*self.unflat(found, avals[:carries]), *kept]

    def row_of(self, value: _Value, at: int) -> _Value:
        if value.data is not None:
            return _Value(value.data[at, ...], value.shape[1:])
        if value.memory is None:
            raise Unsupported("a loop reads what another has written")
        return _Value(value.memory.row(np.int32(at)), value.shape[1:])

    def stacked(self, parts: Sequence[_Value], aval: Any) -> _Value:
        if len(parts) == 1 and parts[0].stored is not None:
            return _Value(None, aval.shape, stored=parts[0].stored)
        if any(part.data is None for part in parts):
            raise Unsupported("loops within loops keep numbers along the way")
        small = [np.broadcast_to(part.data, self.small(aval.shape)[1:]) for part in parts]
        return _Value(self.joined(small, np.stack), aval.shape)

    def in_memory(self, value: _Value) -> _Memory | _Value:
        """Where a loop finds the rows of an array; an array whose rows are equal is its row."""
        if value.memory is not None:
            return value.memory
        if value.known:
            if (value.data == value.data[:1]).all():
                return _Value(value.data[0, ...], value.shape[1:])
            if self.axis(value.shape) is None:
                return self.constant(value.data)
        raise Unsupported("a loop reads the rows of an array that was computed")

    def _cond(self, equation: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        index, *rest = inputs
        branches = equation.params["branches"]
        if index.known:
            return self.closed(branches[min(max(int(index.data), 0), len(branches) - 1)], rest)
        cases = [self.closed(branch, rest) for branch in branches]
        entry = index.data[()]
        ends = (np.asarray(number, _dtype(entry))[()] for number in (0, len(branches) - 1))
        which = self.apply(jax.lax.clamp_p, {}, next(ends), entry, next(ends))
        found = []
        for values in zip(*cases, strict=True):
            if any(value.data is None for value in values):
                raise Unsupported("a branch keeps numbers along the way")
            chosen = self.objects(values[-1].data)
            for place in range(len(branches) - 2, -1, -1):
                here = self.apply(jax.lax.eq_p, {}, which, np.asarray(place, _dtype(entry))[()])
                pick = partial(self.apply, jax.lax.select_n_p, {}, here)
                chosen = self.each(pick, chosen, self.objects(values[place].data))
            found.append(_Value(chosen, values[0].shape))
        return found


def _is_power_of_two(number: np.floating) -> bool:
    return bool(np.isfinite(number)) and abs(np.frexp(number)[0]) == 0.5 and 1e-30 < abs(number) < 1e30


def _open(program: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _rows(data: np.ndarray) -> list[np.ndarray]:
    return [data[place, ...] for place in range(len(data))]  # those of a vector are arrays, too


def _dtype(entry: Any) -> np.dtype:
    return np.dtype(entry.dtype)


def _inner(equation: JaxprEqn) -> ClosedJaxpr | Jaxpr:
    """The program that an equation calls."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in equation.params:
            return equation.params[name]
    raise Unsupported(f"{equation.primitive.name} does not show its program")


# From a program to a kernel


class _Plan(NamedTuple):
    """What the kernel of a program needs besides its inputs.

    Attributes:
        constants: arrays that are read along the way.
        stores: shapes and types of what is written along the way.
        outputs: for every result the known array, the number of its store, or `None`.
    """

    constants: list[np.ndarray]
    stores: list[tuple[tuple[int, ...], np.dtype]]
    outputs: list[np.ndarray | int | None]


def _rewritten(
    closed: ClosedJaxpr, games: int, lanes: int, load: Callable[[int, Any], Any], constant, store, fuse=None
) -> tuple[_Rewriter, list[_Value]]:
    """Evaluate a program on entries that are loaded by (input, place)."""
    rewriter = _Rewriter(games, lanes, constant, store)
    rewriter.fuse = fuse
    inputs = []
    for number, variable in enumerate(closed.jaxpr.invars):
        shape, kind = variable.aval.shape, np.dtype(variable.aval.dtype)
        if kind not in TRITON_NUMBERS | WIDENED:
            raise Unsupported(f"numbers of type {kind}")
        small, memory, data = rewriter.small(shape), None, None
        if small and rewriter.axis(shape) != 0:

            def row(at: Any, number=number, inner=small[1:]) -> np.ndarray:
                size = math.prod(inner)
                return _filled(inner, lambda place: load(number, at * size + place))

            memory = _Memory(row, small[0])
        if math.prod(small) <= LARGEST_ARRAY:
            data = _filled(small, partial(load, number))
        inputs.append(_Value(data, shape, memory))
    found = rewriter.closed(closed, inputs)
    for value in found:
        if value.data is None and value.stored is None:
            raise Unsupported("a result that stays in memory, or that depends on the block")
        if value.data is not None and value.data.size > LARGEST_STORE:
            raise Unsupported(f"a result of more than {LARGEST_STORE} numbers per game")
    return rewriter, found


def _filled(shape: tuple[int, ...], entry: Callable[[int], Any]) -> np.ndarray:
    data = np.empty(shape, object)
    for number, place in enumerate(np.ndindex(shape)):
        data[place] = entry(number)
    return data


def _stored_type(kind: Any) -> np.dtype:
    return np.dtype(np.int32) if np.dtype(kind) in WIDENED else np.dtype(kind)


def _narrowed(entry: Any, kind: Any) -> Any:
    if np.dtype(kind) == bool:
        return jax.lax.ne(entry, jnp.zeros_like(entry))
    return entry if np.dtype(kind) == entry.dtype else jax.lax.convert_element_type(entry, kind)


def _widened(entry: Any) -> Any:
    wanted = _stored_type(entry.dtype)
    return entry if wanted == entry.dtype else jax.lax.convert_element_type(entry, wanted)


def _plan(closed: ClosedJaxpr, games: int, lanes: int) -> _Plan:
    """Try to rewrite a program.

    Raises:
        Unsupported: it cannot become a kernel.
    """
    constants: dict[Any, np.ndarray] = {}
    avals = [variable.aval for variable in closed.jaxpr.invars]
    found: list[Any] = []

    def traced(*arrays: Array) -> list[Any]:
        def constant(array: np.ndarray) -> _Memory:
            constants.setdefault((array.dtype, array.shape, array.tobytes()), array)
            flat = jnp.asarray(array).ravel()
            size = math.prod(array.shape[1:])
            return _Memory(lambda at: _filled(array.shape[1:], lambda place: flat[at * size + place]), len(array))

        def load(number: int, place: Any) -> Any:
            return _narrowed(arrays[number][place], avals[number].dtype)

        rewriter, values = _rewritten(closed, games, lanes, load, constant, lambda *_: None)
        found[:] = rewriter.stores, values
        return [entry for value in values if value.data is not None and not value.known for entry in value.data.ravel()]

    shapes = [
        jax.ShapeDtypeStruct(
            (_entries(aval, games), *((lanes,) if games in aval.shape else ())), _stored_type(aval.dtype)
        )
        for aval in avals
    ]
    jax.eval_shape(traced, *shapes)
    sizes = [_entries(variable.aval, games) for variable in (*closed.jaxpr.invars, *closed.jaxpr.outvars)]
    if max(sizes, default=1) * games >= 2**31:
        raise Unsupported("an array of more than 2^31 numbers")
    stores, values = found
    outputs = [value.data if value.known else value.stored for value in values]
    return _Plan(list(constants.values()), stores, outputs)


def _entries(aval: Any, games: int) -> int:
    return math.prod(size for size in aval.shape if size != games)


def _kernel(closed: ClosedJaxpr, games: int, lanes: int, interpret: bool, *arrays: Array) -> list[Array]:
    """Run a program in one kernel over blocks of `lanes` games each."""
    from jax.experimental import pallas as pl

    plan = _plan(closed, games, lanes)
    operands, inputs = [], []
    for array, variable in zip(arrays, closed.jaxpr.invars, strict=True):
        operands.append(_flat(_widened(array), games))
        inputs.append(variable.aval)
    for array in plan.constants:
        operands.append(jnp.asarray(array.astype(_stored_type(array.dtype)).ravel()))
    keys = [(array.dtype, array.shape, array.tobytes()) for array in plan.constants]

    def spec(shape: tuple[int, ...]) -> Any:
        if len(shape) == 2:
            return pl.BlockSpec((shape[0], lanes), lambda block: (0, block))
        return pl.BlockSpec(shape, lambda block: (0,))

    avals = [variable.aval for variable in closed.jaxpr.outvars]
    written = [n for n, output in enumerate(plan.outputs) if output is None]
    shapes = [(_entries(avals[n], games), avals[n].dtype) for n in written]
    shapes += [(math.prod(size for size in shape if size != games), kind) for shape, kind in plan.stores]
    results = [jax.ShapeDtypeStruct((size, games), _stored_type(kind)) for size, kind in shapes]

    def run(*references: Any) -> None:
        sources, targets = references[: len(operands)], references[len(operands) :]

        def load(number: int, place: Any) -> Any:
            return _narrowed(sources[number][place], inputs[number].dtype)

        def constant(array: np.ndarray) -> _Memory:
            source = sources[len(inputs) + keys.index((array.dtype, array.shape, array.tobytes()))]
            size = math.prod(array.shape[1:])

            def row(at: Any) -> np.ndarray:
                return _filled(array.shape[1:], lambda place: _narrowed(source[at * size + place], array.dtype))

            return _Memory(row, len(array))

        def store(number: int, row: Any, entries: np.ndarray, aval: Any) -> None:
            for place, entry in enumerate(entries):
                targets[len(written) + number][row * len(entries) + place] = _widened(rewriter_lane(entry, aval.dtype))

        def rewriter_lane(entry: Any, kind: Any) -> Any:
            return entry if np.ndim(entry) else jax.lax.broadcast(_widened(jnp.asarray(entry, kind)), (lanes,))

        _, values = _rewritten(closed, games, lanes, load, constant, store, None if interpret else _multiply_add)
        for target, number in zip(targets, written, strict=False):
            for place, entry in enumerate(_Rewriter.objects(values[number].data).ravel()):
                target[place] = _widened(rewriter_lane(entry, avals[number].dtype))

    options = (
        {} if interpret else {"compiler_params": _triton().CompilerParams(num_warps=max(1, lanes // 32), num_stages=1)}
    )
    run.__name__ = run.__qualname__ = "games_in_one_kernel"
    found = pl.pallas_call(
        run,
        grid=(games // lanes,),
        in_specs=[spec(operand.shape) for operand in operands],
        out_specs=[spec(result.shape) for result in results],
        out_shape=results,
        interpret=interpret,
        name="games_in_one_kernel",
        **options,
    )(*operands)
    made = []
    for number, (aval, output) in enumerate(zip(avals, plan.outputs, strict=True)):
        if isinstance(output, np.ndarray):
            made.append(jnp.broadcast_to(jnp.asarray(_with_games(output, aval.shape, games)), aval.shape))
        else:
            place = written.index(number) if output is None else len(written) + output
            made.append(_narrowed(_shaped(found[place], aval.shape, games), aval.dtype))
    return made


def _flat(array: Array, games: int) -> Array:
    """Entries first, games last; what is the same for all games as a vector."""
    if games not in array.shape:
        size = 1 << max(0, (array.size - 1).bit_length())
        return jnp.pad(array.ravel(), (0, size - array.size))
    return jnp.moveaxis(array, array.shape.index(games), -1).reshape(-1, games)


def _shaped(rows: Array, shape: tuple[int, ...], games: int) -> Array:
    if games not in shape:
        return rows[:, 0].reshape(shape)
    small = tuple(size for size in shape if size != games)
    return jnp.moveaxis(rows.reshape(*small, games), -1, shape.index(games))


def _with_games(data: np.ndarray, shape: tuple[int, ...], games: int) -> np.ndarray:
    return np.expand_dims(data, shape.index(games)) if games in shape else data


def _triton() -> Any:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        from jax.experimental.pallas import triton
    return triton


def _multiply_add(one: Array, another: Array, other: Array, minus: bool, minus_other: bool) -> Array:
    """`one * another + other`, or with the signs of the product or of what is added turned round."""
    kind, register = FUSED[np.dtype(other.dtype)]
    signs = f"neg.{kind} p, $1; " if minus else f"mov.{kind} p, $1; "
    signs += f"neg.{kind} s, $3; " if minus_other else f"mov.{kind} s, $3; "
    (made,) = _triton().elementwise_inline_asm(
        f"{{ .reg .{kind} p, s; {signs}fma.rn.{kind} $0, p, $2, s; }}",
        args=[one, another, other],
        constraints=",".join([f"={register}", *[register] * 3]),
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(other.shape, other.dtype)],
    )
    return made


# The program, once for all platforms: a kernel where there is Triton, plain XLA elsewhere.
_in_kernel = Primitive("games_in_one_kernel")
_in_kernel.multiple_results = True


@_in_kernel.def_abstract_eval
def _shapes_of_results(*avals, jaxpr, games, lanes, interpret):
    return list(jaxpr.out_avals)


@_in_kernel.def_impl
def _at_once(*arrays, **params):
    return jax.jit(partial(_in_kernel.bind, **params))(*arrays)


def _plain(*arrays, jaxpr, games, lanes, interpret):
    return jaxpr_as_fun(jaxpr)(*arrays)


def _lowered_plainly(context, *arrays, **params):
    run = partial(_kernel, params["jaxpr"], params["games"], params["lanes"], True) if params["interpret"] else None
    return mlir.lower_fun(run or partial(_plain, **params), multiple_results=True)(context, *arrays)


def _lowered_by_triton(context, *arrays, jaxpr, games, lanes, interpret):
    if interpret:
        return _lowered_plainly(context, *arrays, jaxpr=jaxpr, games=games, lanes=lanes, interpret=interpret)
    try:
        # Triton announces its end at every use, which is no concern of those who run a sweep.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            run = partial(_kernel, jaxpr, games, lanes, False)
            return mlir.lower_fun(run, multiple_results=True)(context, *arrays)
    except Exception as error:  # whatever a version of Triton does not know
        logger.warning("plain XLA instead of one kernel: %s: %s", type(error).__name__, error)
        return _lowered_plainly(context, *arrays, jaxpr=jaxpr, games=games, lanes=lanes, interpret=interpret)


mlir.register_lowering(_in_kernel, _lowered_plainly)
mlir.register_lowering(_in_kernel, _lowered_by_triton, platform="cuda")


# Which part of a program becomes a kernel


def _flattened(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The program with its calls written out; constants that are not yet known become inputs."""

    def evaluated(jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> Any:
            return values[atom] if isinstance(atom, Var) else atom.val

        for equation in needed_equations(jaxpr):
            arguments = [read(atom) for atom in equation.invars]
            if equation.primitive.name in CALLS:
                inner = _inner(equation)
                own = inner if isinstance(inner, ClosedJaxpr) else None
                found = evaluated(own.jaxpr if own else inner, own.consts if own else (), arguments)
            else:
                found = bind(equation, arguments)
            values.update(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    avals = [variable.aval for variable in (*closed.jaxpr.constvars, *closed.jaxpr.invars)]
    count = len(closed.jaxpr.constvars)
    return jax.make_jaxpr(lambda *given: evaluated(closed.jaxpr, given[:count], given[count:]))(*map(_struct, avals))


def _struct(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


class _Part(NamedTuple):
    """Equations of a program that become a kernel."""

    numbers: frozenset[int]
    inputs: list[Var]
    outputs: list[Var]
    program: ClosedJaxpr


def _part(jaxpr: Jaxpr, known: dict[Var, np.ndarray], numbers: frozenset[int]) -> _Part:
    """Some equations as a program of their own."""
    chosen = [jaxpr.eqns[number] for number in sorted(numbers)]
    made = {variable for equation in chosen for variable in equation.outvars}
    used = dict.fromkeys(atom for equation in chosen for atom in equation.invars if isinstance(atom, Var))
    inputs = [variable for variable in used if variable not in made and variable not in known]
    others = [jaxpr.eqns[number].invars for number in range(len(jaxpr.eqns)) if number not in numbers]
    wanted = {atom for atoms in (*others, jaxpr.outvars) for atom in atoms if isinstance(atom, Var)}
    outputs = [variable for variable in dict.fromkeys(v for e in chosen for v in e.outvars) if variable in wanted]

    def evaluated(*arrays: Any) -> list[Any]:
        values = {**known, **dict(zip(inputs, arrays, strict=True))}
        for equation in chosen:
            found = bind(equation, [values[a] if isinstance(a, Var) else a.val for a in equation.invars])
            values.update(zip(equation.outvars, found, strict=True))
        return [values[variable] for variable in outputs]

    program = jax.make_jaxpr(evaluated)(*(_struct(variable.aval) for variable in inputs))
    return _Part(numbers, inputs, outputs, program)


def _parts(flat: ClosedJaxpr, known: dict[Var, np.ndarray], games: int, lanes: int) -> tuple[list[_Part], str]:
    """The parts of a program that become kernels, and why not all of it is one."""
    jaxpr = flat.jaxpr
    loops = [number for number, equation in enumerate(jaxpr.eqns) if equation.primitive.name in LOOPS]
    if not loops:
        return [], "there is no loop"

    def attempt(numbers: frozenset[int]) -> _Part | str:
        try:
            part = _part(jaxpr, known, numbers)
            _plan(part.program, games, lanes)
            return part
        except Unsupported as unsupported:
            return str(unsupported)

    whole = attempt(frozenset(range(len(jaxpr.eqns))))
    if isinstance(whole, _Part):
        return [whole], ""
    single = [attempt(frozenset({number})) for number in loops]
    fine = [part for part in single if isinstance(part, _Part)]
    if not fine:
        return [], next(part for part in single if isinstance(part, str))
    if len(fine) > 1:
        between = attempt(_between(jaxpr, frozenset().union(*(part.numbers for part in fine))))
        if isinstance(between, _Part):
            return [between], whole
    return fine, whole


def _between(jaxpr: Jaxpr, numbers: frozenset[int]) -> frozenset[int]:
    """These equations and all that lie on the way from one to another."""
    after, makers = set(numbers), {}
    reached: set[Var] = set()
    for number, equation in enumerate(jaxpr.eqns):
        makers.update((variable, number) for variable in equation.outvars)
        if number in numbers or reached.intersection(a for a in equation.invars if isinstance(a, Var)):
            after.add(number)
            reached.update(equation.outvars)
    before, needed = set(), set()
    for number in range(len(jaxpr.eqns) - 1, -1, -1):
        if number in numbers or number in needed:
            before.add(number)
            needed.update(makers[a] for a in jaxpr.eqns[number].invars if isinstance(a, Var) and a in makers)
    return frozenset(after & before)


def can_run(jaxpr: ClosedJaxpr, *, games: int, platform: str = "cuda", lanes: int = LANES) -> str | None:
    """Why a whole program cannot become one kernel, or `None` if it can.

    Args:
        jaxpr: of all games at once; their axis is the one as long as there are games.
        games: a multiple of `lanes`.
        platform: "gpu" or "cuda".
        lanes: games of a program instance.
    """
    if platform not in ("gpu", "cuda"):
        return f"the platform is {platform}"
    try:
        _plan(jaxpr, games, lanes)
    except Unsupported as unsupported:
        return str(unsupported)
    return None


def choose(block: Callable, arrays: PyTree, *, platform: str, tier: Literal["A", "B"] | None = None) -> Choice:
    """The tier in which `run_blocks` runs a block, and why.

    Args:
        block, arrays, platform: as for `run_blocks`; shapes and types of the arrays are enough.
        tier: override the choice by size; what cannot become a kernel is plain XLA nevertheless.
    """
    return _chosen(block, arrays, platform, tier, LANES)[0]


def _chosen(block: Callable, arrays: PyTree, platform: str, tier, lanes: int) -> tuple[Choice, Any]:
    leaves = jax.tree.leaves(arrays)
    blocks, own = leaves[0].shape[0], leaves[0].shape[-1]
    if tier == "A" or platform not in ("gpu", "cuda"):
        return Choice("A", "as wished" if tier == "A" else f"the platform is {platform}"), None
    if tier is None and blocks * own < FEWEST_GAMES:
        return Choice("A", f"{blocks * own} games, fewer than {FEWEST_GAMES}"), None
    if any(leaf.ndim < 2 or (leaf.shape[0], leaf.shape[-1]) != (blocks, own) for leaf in leaves):
        return Choice("A", "arrays that are not of shape (blocks, ..., lanes)"), None
    games = -(-blocks * own // lanes) * lanes
    if any(games in leaf.shape[1:-1] for leaf in leaves):
        return Choice("A", "an axis as long as there are games"), None
    try:
        closed, results = _traced(block, arrays, games)
    except Exception as error:  # a block that has its number of lanes built in
        return Choice("A", f"the block does not take {games} lanes: {type(error).__name__}: {error}"), None
    flat = _flattened(closed)
    given = itertools.zip_longest(flat.jaxpr.invars, closed.consts)
    fixed = [*zip(flat.jaxpr.constvars, flat.consts, strict=True), *given]
    known = {variable: np.asarray(constant) for variable, constant in fixed if _is_known(constant)}
    parts, reason = _parts(flat, known, games, lanes)
    if not parts:
        return Choice("A", reason), None
    work = _Work(flat, flat, parts, closed.consts, results, games)
    if reason:
        narrow = _flattened(_traced(block, arrays, own)[0])
        if not _correspond(flat, narrow, games, own):
            return Choice("A", "a block whose program depends on the number of lanes"), None
        work = work._replace(narrow=narrow)
    return Choice("B", reason), work


class _Work(NamedTuple):
    """A program whose loops become kernels.

    Attributes:
        wide: of all games at once, from which the kernels are made.
        narrow: of a block, from which the rest is: a game's numbers may not depend on how many blocks there are.
        parts: the kernels.
        constants: the first inputs.
        results: shapes of the results of all games.
        games: how many, filled up to a multiple of the lanes of a kernel.
    """

    wide: ClosedJaxpr
    narrow: ClosedJaxpr
    parts: list[_Part]
    constants: list[Any]
    results: PyTree
    games: int


def _traced(block: Callable, arrays: PyTree, lanes: int) -> tuple[ClosedJaxpr, PyTree]:
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leaf.shape[1:-1], lanes), leaf.dtype), arrays)
    return jax.make_jaxpr(block, return_shape=True)(shapes)


def _is_known(constant: Any) -> bool:
    if constant is None or isinstance(constant, jax.core.Tracer):
        return False
    return not jax.dtypes.issubdtype(constant.dtype, jax.dtypes.extended)


def _correspond(wide: ClosedJaxpr, narrow: ClosedJaxpr, games: int, own: int) -> bool:
    """Whether two programs are the same but for the number of games."""

    def lines(closed: ClosedJaxpr, count: int) -> list[Any]:
        jaxpr = closed.jaxpr
        heads = [(None, jaxpr.constvars), (None, jaxpr.invars)]
        equations = [(equation.primitive, equation.outvars) for equation in jaxpr.eqns]
        return [
            (primitive, [(tuple(-1 if n == count else n for n in v.aval.shape), v.aval.dtype) for v in variables])
            for primitive, variables in (*heads, *equations)
        ]

    return lines(wide, games) == lines(narrow, own)


def run_blocks(
    block: Callable[[PyTree], PyTree],
    arrays: PyTree,
    *,
    platform: str,
    tier: Literal["A", "B"] | None = None,
    lanes: int = LANES,
    interpret: bool = False,
) -> PyTree:
    """`jax.lax.map(block, arrays)`, on a GPU in one kernel where that can be.

    Args:
        block: a function of one argument with leaves of shape (..., lanes), for any number of lanes; its results have
            an axis as long as there are lanes, or are the same for all.
        arrays: leaves of shape (blocks, ..., lanes).
        platform: of the devices, "gpu" for instance, known when the program is traced.
        tier: override the choice: "A" is `jax.lax.map`, "B" a kernel however few games there are.
        lanes: games of a program instance, a power of two.
        interpret: run the kernel on any platform, slowly, to look at its numbers.

    Returns:
        what `jax.lax.map` returns.

    >>> rates = jnp.linspace(0.1, 0.2, 6).reshape(2, 3)
    >>> def block(rate):
    ...     return jax.lax.fori_loop(0, 10, lambda _, x: x - rate * x, jnp.ones_like(rate))
    >>> found = run_blocks(block, rates, platform="gpu", tier="B", interpret=True)
    >>> bool(jnp.allclose(found, jax.lax.map(block, rates)))
    True
    """
    choice, work = _chosen(block, arrays, "gpu" if interpret else platform, tier, lanes)
    logger.debug("tier %s: %s", *choice)
    found = None if work is None else _evaluated(work, jax.tree.leaves(arrays), lanes, interpret)
    return jax.lax.map(block, arrays) if found is None else jax.tree.unflatten(jax.tree.structure(work.results), found)


def _evaluated(work: _Work, leaves: list[Array], lanes: int, interpret: bool) -> list[Array] | None:
    """The program with its parts in kernels over all games, each as soon as all it needs is there.

    `None` where what a kernel needs is not the same in all blocks: something was taken over the games of a block.
    """
    wide, narrow = work.wide.jaxpr, work.narrow.jaxpr
    blocks, own = leaves[0].shape[0], leaves[0].shape[-1]
    places = dict(zip([*wide.constvars, *wide.invars], [*narrow.constvars, *narrow.invars], strict=True))
    for first, second in zip(wide.eqns, narrow.eqns, strict=True):
        places.update(zip(first.outvars, second.outvars, strict=True))
    constants = [*narrow.constvars, *narrow.invars[: len(work.constants)]]
    shared: dict[Var, Any] = dict(zip(constants, [*work.narrow.consts, *work.constants], strict=True))
    stacked: dict[Var, Array] = dict(zip(narrow.invars[len(work.constants) :], leaves, strict=True))
    shapes: dict[Var, tuple[int, ...]] = {places[v]: v.aval.shape for v in places}

    def everywhere(variable: Var) -> Any:
        """A value for all games."""
        shape = shapes[variable]
        if work.games not in shape:
            return shared[variable]
        if variable in shared:
            value = shared[variable]
            leaf = jnp.broadcast_to(value, (blocks, *jnp.shape(value)))
        else:
            leaf = stacked[variable]
        axis = shape.index(work.games)
        leaf = jnp.moveaxis(leaf, 0, axis)
        leaf = leaf.reshape(*leaf.shape[:axis], blocks * own, *leaf.shape[axis + 2 :])
        widths = [(0, work.games - blocks * own if place == axis else 0) for place in range(leaf.ndim)]
        return jnp.pad(leaf, widths, mode="edge")  # copies of the last game

    def in_blocks(variable: Var, leaf: Array) -> None:
        shape = shapes[variable]
        if work.games not in shape:
            shared[variable] = leaf
            return
        axis = shape.index(work.games)
        leaf = jax.lax.slice_in_dim(leaf, 0, blocks * own, axis=axis)
        leaf = leaf.reshape(*leaf.shape[:axis], blocks, own, *leaf.shape[axis + 1 :])
        stacked[variable] = jnp.moveaxis(leaf, axis, 0)

    def read(atom: Any, values: dict[Var, Any]) -> Any:
        if not isinstance(atom, Var):
            return atom.val
        return values[atom] if atom in values else shared[atom]

    def plainly(numbers: list[int]) -> None:
        """Equations that are no part of a kernel, block after block."""
        chosen = [narrow.eqns[number] for number in numbers]
        needs = {atom for equation in chosen for atom in equation.invars if isinstance(atom, Var)}
        makes = {variable for equation in chosen for variable in equation.outvars}
        rest = [narrow.eqns[n].invars for n in range(len(narrow.eqns)) if n not in numbers]
        wanted = {atom for atoms in (*rest, narrow.outvars) for atom in atoms if isinstance(atom, Var)}
        kept = [variable for e in chosen for variable in e.outvars if variable in wanted & makes]

        def one(values: dict[Var, Any]) -> list[Any]:
            values = dict(zip(inputs, values, strict=True))
            for equation in chosen:
                found = bind(equation, [read(atom, values) for atom in equation.invars])
                values.update(zip(equation.outvars, found, strict=True))
            return [values[variable] for variable in kept]

        inputs = [variable for variable in stacked if variable in needs]
        if inputs:
            stacked.update(zip(kept, jax.lax.map(one, [stacked[variable] for variable in inputs]), strict=True))
        else:
            shared.update(zip(kept, one([]), strict=True))

    def there(variables: Sequence[Any], also: set[Var]) -> bool:
        return all(v in shared or v in stacked or v in also for v in variables if isinstance(v, Var))

    inside = {number for part in work.parts for number in part.numbers}
    waiting, parts = [number for number in range(len(narrow.eqns)) if number not in inside], list(work.parts)
    while waiting or parts:
        fixed: list[int] = []
        ready: list[int] = []
        alike: set[Var] = set()  # the same in all blocks
        makes: set[Var] = set()
        for number in waiting:
            atoms = narrow.eqns[number].invars
            if all(atom in shared or atom in alike for atom in atoms if isinstance(atom, Var)):
                fixed.append(number)
                alike.update(narrow.eqns[number].outvars)
            elif there(atoms, alike | makes):
                ready.append(number)
                makes.update(narrow.eqns[number].outvars)
        for numbers in (fixed, ready):
            if numbers:
                plainly(numbers)
        waiting = [number for number in waiting if number not in {*fixed, *ready}]
        for part in [part for part in parts if there([places[v] for v in part.inputs], set())]:
            inputs = [places[variable] for variable in part.inputs]
            if any(variable in stacked and work.games not in shapes[variable] for variable in inputs):
                return None
            arrays = [everywhere(variable) for variable in inputs]
            made = _in_kernel.bind(*arrays, jaxpr=part.program, games=work.games, lanes=lanes, interpret=interpret)
            for variable, leaf in zip(part.outputs, made, strict=True):
                in_blocks(places[variable], leaf)
            parts = [other for other in parts if other is not part]

    def result(atom: Any) -> Array:
        if isinstance(atom, Var) and atom in stacked:
            return stacked[atom]
        value = jnp.asarray(read(atom, {}))
        return jnp.broadcast_to(value, (blocks, *value.shape))

    return [result(atom) for atom in narrow.outvars]


def in_one_kernel(
    function: Callable[..., PyTree], *, lanes: int = LANES, interpret: bool = False
) -> Callable[..., PyTree]:
    """A function of arrays of shape (..., games), elementwise over games, as one kernel on a GPU.

    Args:
        function: of as many arrays as wished, for any number of games.
        lanes: games of a program instance, a power of two.
        interpret: run the kernel on any platform.

    Raises:
        Unsupported: when called with a function that cannot become one kernel, with the reason.
    """

    def call(*arrays: PyTree) -> PyTree:
        whole = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], arrays)
        choice, work = _chosen(lambda given: function(*given), whole, "gpu", "B", lanes)
        if choice != ("B", ""):
            raise Unsupported(choice.reason)
        found = run_blocks(
            lambda given: function(*given), whole, platform="gpu", tier="B", lanes=lanes, interpret=interpret
        )
        return jax.tree.map(lambda leaf: leaf[0], found)

    return call


def until_decided(
    step: Callable[[Any, PyTree], PyTree], decided: Callable[[PyTree], Array], state: PyTree, steps: Any
) -> PyTree:
    """Step a block of games until all are decided, or so many times; a decided game stays as it is.

    The result of a game depends on no other one, whatever the blocks.

    Args:
        step: from the number of the step, int32, and the state of a block to the next state.
        decided: from the state to booleans of shape (lanes,).
        state: leaves of shape (..., lanes).
        steps: the most there are.
    """

    def goes_on(carry: tuple[Any, PyTree, Array]) -> Array:
        number, _, finished = carry
        return (number < steps) & ~jnp.all(finished)

    def turn(carry: tuple[Any, PyTree, Array]) -> tuple[Any, PyTree, Array]:
        number, state, finished = carry
        state = jax.tree.map(lambda old, new: jnp.where(finished, old, new), state, step(number, state))
        return number + 1, state, decided(state)

    return jax.lax.while_loop(goes_on, turn, (jnp.int32(0), state, decided(state)))[1]
