"""Functions of one game made functions of many, with the games in the last axis, where registers lie.

`jax.vmap` puts games first: a small matrix product per game then becomes a call per game. Here the program of one
game is read equation by equation: arithmetic stays as it is, small sums and products are written out, and what is not
known is left to `jax.vmap`. On the way equal terms are merged, signs are followed (so that the exponentials of $x$ and
of $-x$ are one), and what no step of a loop changes is taken out of it. A loop that is nothing but arithmetic becomes
one kernel.

Results agree with `jax.vmap` to rounding: every single rewriting is exact, but the compiler contracts and orders sums
in its own way.
"""

import itertools
import operator
from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from dynamics.ensembles.affine import STEP, as_affine, is_affine_step
from dynamics.ensembles.programs import CALLS, Program, bind, depends, is_literal, live_equations, may_be_one_kernel
from dynamics.ensembles.trigonometry import PARTS, sine_and_cosine

FEWEST_WALLED = 12  # equations of a call that is looked at
MOST_MERGED = 120  # equations, after sums are written out, of a call that the compiler may merge with others
MOST_TERMS = 128  # of a sum that is written out
MOST_PRODUCTS = 65_536  # of a matrix product that is written out

ODD = {"sin", "tan", "tanh", "asin", "atan", "sinh", "asinh", "atanh", "erf", "cbrt", "sign"}
EVEN = {"cos", "cosh", "abs", "square"}
ELEMENTWISE = (
    ODD
    | EVEN
    | {"acos", "acosh", "add", "add_any", "and", "atan2", "ceil", "clamp", "convert_element_type", "copy", "copy_p"}
    | {"div", "eq", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le"}
    | {"log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "real"}
    | {"rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sqrt"}
    | {"stop_gradient", "sub", "threefry2x32", "xor", "eq_to", "le_to", "lt_to"}
)
ARRANGING = {"broadcast_in_dim", "concatenate", "iota", "pad", "reshape", "rev", "slice", "squeeze", "transpose"}
# What the compiler can make one kernel of. (Its own rules for the rest need calls to a library.)
ONE_KERNEL = (ELEMENTWISE | ARRANGING | {"while", "scan", "jit", "pjit", "optimization_barrier"}) - {"threefry2x32"}
BINARY = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_and": jax.lax.bitwise_and,
    "reduce_or": jax.lax.bitwise_or,
}


def in_lanes(function: Callable[..., Any], *, one_kernel: bool = False) -> Callable[..., Any]:
    """What `jax.vmap(function, in_axes=-1, out_axes=-1)` computes, faster.

    Args:
        function: of pytrees of arrays, traceable.
        one_kernel: whether loops of arithmetic alone are compiled into one function each (CPUs; elsewhere it has no
            effect). The compiler may refuse it: `one_kernel=False` always compiles.

    Returns:
        a function of pytrees of arrays whose last axis, of one length, counts the games.

    >>> rows = in_lanes(lambda matrix, vector: matrix @ vector)(jnp.ones((2, 3, 5)), jnp.ones((3, 5)))
    >>> rows.shape, float(rows[0, 0])
    ((2, 5), 3.0)
    """

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        lanes = leaves[0].shape[-1]
        shapes = [jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype) for leaf in leaves]
        closed, outputs = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(structure, shapes))
        scope = _Scope(lanes, one_kernel, ChainMap())
        frame = _Frame.closed(closed)
        frame.enter([_Value(_Core(leaf, True)) for leaf in leaves])
        scope.advance(frame)
        found = [scope.whole(value) for value in frame.outputs(scope)]
        return jax.tree.unflatten(jax.tree.structure(outputs), found)

    return run


class _Core:
    """An array of one game, or of all of them in its last axis.

    `constant` is the number that fills it, where one is known; `origin` the array that it is a reshaping of.
    """

    __slots__ = ("array", "batched", "constant", "number", "origin")
    numbers = itertools.count()

    def __init__(self, array: Any, batched: bool, constant: Any = None, origin: "_Core | None" = None):
        self.array, self.batched, self.constant, self.origin = array, batched, constant, origin
        self.number = next(_Core.numbers)  # of operands in either order the older one comes first

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one game."""
        return np.shape(self.array)[:-1] if self.batched else np.shape(self.array)

    @property
    def dtype(self) -> Any:
        return self.array.dtype


class _Value(NamedTuple):
    """An array and its sign, which is carried along until somebody needs it."""

    core: _Core
    negative: bool = False

    def negated(self) -> "_Value":
        return _Value(self.core, not self.negative)

    def fits(self, other: "_Value") -> bool:
        """Whether the result of an operation of both has the shape of the other one."""
        return np.broadcast_shapes(self.core.shape, other.core.shape) == other.core.shape

    def equals(self, number: float) -> bool:
        """Whether it is known to be this number everywhere."""
        constant = self.core.constant
        return constant is not None and bool(constant == (-number if self.negative else number))


class _Frame:
    """How far a program has been worked through: its known variables, and the frames of the calls in it."""

    def __init__(
        self, jaxpr: Any, inputs: Sequence[Any], wanted: Sequence[bool], live: dict[int, list[bool]], known: dict
    ):
        self.jaxpr, self.inputs, self.wanted, self.live, self.known = jaxpr, inputs, wanted, live, known
        self.inner: dict[int, Any] = {}
        self.done: set[int] = set()

    @staticmethod
    def of(jaxpr: Any, constants: Sequence[_Value], wanted: Sequence[bool] | None = None) -> "_Frame":
        wanted = [True] * len(jaxpr.outvars) if wanted is None else wanted
        known = dict(zip(jaxpr.constvars, constants, strict=True))
        return _Frame(jaxpr, jaxpr.invars, wanted, live_equations(jaxpr, wanted), known)

    @staticmethod
    def closed(jaxpr: Any) -> "_Frame":
        """Of a program that has its constants with it."""
        return _Frame.of(jaxpr.jaxpr, [_Value(_Core(constant, False)) for constant in jaxpr.consts])

    def copy(self) -> "_Frame":
        copied = _Frame(self.jaxpr, self.inputs, self.wanted, self.live, dict(self.known))
        copied.inner = {index: frame.copy() for index, frame in self.inner.items()}
        copied.done = set(self.done)
        return copied

    @property
    def left(self) -> int:
        """Number of equations that are still to be computed."""
        count = len(self.live) - len(self.done)
        frames = [one for place, one in self.inner.items() if place not in self.done and isinstance(one, _Frame)]
        return count + sum(one.left for one in frames)

    def enter(self, values: Sequence[_Value | None]) -> None:
        """Make arguments known; `None` stays unknown."""
        self.known |= {v: value for v, value in zip(self.inputs, values, strict=True) if value is not None}

    def read(self, scope: "_Scope", atom: Any) -> _Value | None:
        if is_literal(atom):
            return scope.literal(atom.val, atom.aval.dtype)
        return self.known.get(atom)

    def outputs(self, scope: "_Scope") -> list[_Value | None]:
        """What is known of the results, `None` for what is not known or not wanted."""
        pairs = zip(self.jaxpr.outvars, self.wanted, strict=True)
        return [self.read(scope, atom) if one else None for atom, one in pairs]


class _Scope:
    """One level of a program: what has been computed there or further out is never computed again."""

    def __init__(self, lanes: int, one_kernel: bool, memory: ChainMap, in_loop: bool = False):
        self.lanes, self.one_kernel, self.memory, self.in_loop = lanes, one_kernel, memory, in_loop

    def inside(self) -> "_Scope":
        """The scope of a loop's body: what is computed there is not known outside."""
        return _Scope(self.lanes, self.one_kernel, self.memory.new_child(), True)

    def remembered(self, key: tuple, cores: Sequence[_Core], compute: Callable[[], Any]) -> Any:
        """The result of a computation, made once."""
        key = (*key, *[core.number for core in cores])
        if key not in self.memory:
            self.memory[key] = compute()
        return self.memory[key]

    def literal(self, value: Any, dtype: Any) -> _Value:
        if np.ndim(value) or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
            return _Value(_Core(jnp.asarray(value), False))
        number = np.asarray(value, dtype)
        key = ("literal", str(dtype), number.tobytes())
        return self.remembered(key, (), lambda: _Value(_Core(number, False, number)))

    # What a value is as an array.

    def array(self, value: _Value) -> Any:
        """With its sign, batched or not."""
        if not value.negative:
            return value.core.array
        return self.remembered(("neg",), (value.core,), lambda: jax.lax.neg(value.core.array))

    def whole(self, value: _Value) -> Any:
        """With its sign, and the games in the last axis."""
        array = self.array(value)
        return array if value.core.batched else self.spread(array)

    def spread(self, array: Any) -> Any:
        array = jnp.asarray(array)
        return jax.lax.broadcast_in_dim(array, (*array.shape, self.lanes), range(array.ndim))

    def aligned(self, values: Sequence[_Value], batched: bool) -> list[Any]:
        """Arrays of one shape: scalars, and axes of length 1, may stand beside longer ones."""
        arrays = [self.whole(value) if batched else self.array(value) for value in values]
        shape = np.broadcast_shapes(*map(np.shape, arrays))
        return [array if np.shape(array) == shape else jnp.broadcast_to(array, shape) for array in arrays]

    # Working through a program.

    def advance(self, frame: _Frame) -> None:
        """Compute all that can be computed from what is known."""
        for index, wanted in frame.live.items():
            if index in frame.done:
                continue
            equation = frame.jaxpr.eqns[index]
            values = [frame.read(self, atom) for atom in equation.invars]
            name = equation.primitive.name
            if name in CALLS:
                self._call(frame, index, equation, values, wanted)
            elif name in LOOPS:
                self._loop(frame, index, equation, values)
            elif None not in values:
                frame.known |= dict(zip(equation.outvars, self.apply(equation, values), strict=True))
                frame.done.add(index)

    def _call(
        self, frame: _Frame, index: int, equation: Any, values: Sequence[_Value | None], wanted: Sequence[bool]
    ) -> None:
        called = equation.params[CALLS[equation.primitive.name]]
        is_step = equation.params.get("name") == STEP
        if index not in frame.inner:
            if is_step and is_affine_step(equation, [value is not None for value in values]):
                frame.inner[index] = self._affine(equation, values, called)
            else:
                jaxpr = getattr(called, "jaxpr", called)
                constants = [_Value(_Core(constant, False)) for constant in getattr(called, "consts", ())]
                frame.inner[index] = _Frame.of(jaxpr, constants, wanted)
        inner = frame.inner[index]
        found = None
        if self.one_kernel and self.in_loop and None not in values and not is_step and inner.left > FEWEST_WALLED:
            found = self._walled(inner, values)
        if found is None:
            inner.enter(values)
            self.advance(inner)
            found = inner.outputs(self)
        frame.known |= {v: value for v, value in zip(equation.outvars, found, strict=True) if value is not None}
        if all(value is not None for value, one in zip(found, wanted, strict=True) if one):
            frame.done.add(index)

    def _walled(self, inner: _Frame, values: Sequence[_Value]) -> list[_Value | None] | None:
        """The results of a long call that stays a call, or `None` if it is short.

        The compiler merges what is elementwise and computes anew for every user what a chain of stages shares: the
        stages of a Runge-Kutta method would be computed many times over. It does not look into a call.
        """
        flags = [value.core.batched for value in values]
        batched: list[bool] = []

        def run(*arrays: Any) -> list[Any]:
            scope, frame = self.inside(), inner.copy()
            frame.enter([_Value(_Core(array, one)) for array, one in zip(arrays, flags, strict=True)])
            scope.advance(frame)
            found = [value for value in frame.outputs(scope) if value is not None]
            batched[:] = [value.core.batched for value in found]
            return [jnp.asarray(scope.array(value)) for value in found]

        arrays = [jnp.asarray(self.array(value)) for value in values]
        program = Program(run, arrays)
        if len(program.equations) <= MOST_MERGED or not may_be_one_kernel(program.equations, ONE_KERNEL):
            return None
        found = iter(zip(program.in_one_kernel(keep=False)(*arrays), batched, strict=True))
        return [_Value(_Core(*next(found))) if one else None for one in inner.wanted]

    def _loop(self, frame: _Frame, index: int, equation: Any, values: Sequence[_Value | None]) -> None:
        if index not in frame.inner:
            frame.inner[index] = LOOPS[equation.primitive.name].of(equation)
        loop = frame.inner[index]
        loop.open(self, values)
        if None not in values:
            found = loop.run(self, values)
            found = self.by_vmap(equation, values) if found is None else found
            frame.known |= dict(zip(equation.outvars, found, strict=True))
            frame.done.add(index)

    def _affine(self, equation: Any, values: Sequence[_Value | None], called: Any) -> _Frame:
        """A frame that multiplies by a matrix what the loop changes; the matrix is made here, outside the loop."""
        known = [value is not None for value in values]
        coefficients, step = as_affine(called, known)
        given = [value for value in values if value is not None]
        batched = any(value.core.batched for value in given)
        if batched:
            made = in_lanes(coefficients, one_kernel=False)(*[self.whole(value) for value in given])
        else:
            made = coefficients(*[self.array(value) for value in given])
        leaves, structure = jax.tree.flatten(made)
        shapes = [jax.ShapeDtypeStruct(leaf.shape[:-1] if batched else leaf.shape, leaf.dtype) for leaf in leaves]

        def run(made: Any, *arguments: Any) -> Any:
            changing = [argument for argument, one in zip(arguments, known, strict=True) if not one]
            return step(jax.tree.unflatten(structure, made), *changing)

        arguments = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
        frame = _Frame.closed(jax.make_jaxpr(run)(shapes, *arguments))
        coefficients = [_Value(_Core(leaf, batched)) for leaf in leaves]
        frame.known |= dict(zip(frame.inputs, coefficients, strict=False))
        frame.inputs = frame.inputs[len(leaves) :]
        return frame

    def apply(self, equation: Any, values: list[_Value]) -> list[_Value]:
        name = equation.primitive.name
        rule = RULES.get(name)
        found = None if rule is None else rule(self, equation, values)
        if found is None and name in ELEMENTWISE:
            found = self.elementwise(equation, values)
        return self.by_vmap(equation, values) if found is None else found

    def elementwise(self, equation: Any, values: Sequence[_Value]) -> list[_Value]:
        batched = any(value.core.batched for value in values)

        def compute() -> list[_Core]:
            arrays = self.aligned(values, batched)
            return [_Core(array, batched) for array in bind(equation, arrays)]

        key = (equation.primitive.name, _frozen(equation.params), tuple(value.negative for value in values))
        return [_Value(core) for core in self.remembered(key, [value.core for value in values], compute)]

    def by_vmap(self, equation: Any, values: Sequence[_Value]) -> list[_Value]:
        """What no rule knows."""

        def one(*arrays: Any) -> list[Any]:
            return bind(equation, arrays)

        batched = any(value.core.batched for value in values)
        if batched:
            one = jax.vmap(one, in_axes=[-1 if value.core.batched else None for value in values], out_axes=-1)
        found = one(*[self.array(value) for value in values])
        return [_Value(_Core(array, batched)) for array in found]

    # Building blocks of rules.

    def binary(self, name: str, one: _Value, other: _Value) -> _Value:
        """A positive core from two positive ones."""
        operation = {"add": jax.lax.add, "sub": jax.lax.sub, "mul": jax.lax.mul, "div": jax.lax.div}
        operation |= {"max": jax.lax.max, "min": jax.lax.min}
        cores = [one.core, other.core]
        if name in ("add", "mul", "max", "min"):
            cores.sort(key=lambda core: core.number)
        batched = one.core.batched or other.core.batched

        def compute() -> _Core:
            arrays = self.aligned([_Value(core) for core in cores], batched)
            return _Core(operation[name](*arrays), batched)

        return _Value(self.remembered((name,), cores, compute))

    def reshaped(self, value: _Value, shape: tuple[int, ...]) -> _Value:
        core = value.core
        base = core if core.origin is None else core.origin
        if base.shape == shape:
            return _Value(base, value.negative)

        def compute() -> _Core:
            array = jax.lax.reshape(base.array, (*shape, self.lanes) if base.batched else shape)
            return _Core(array, base.batched, base.constant, base)

        return _Value(self.remembered(("reshape", shape), (base,), compute), value.negative)

    def index(self, array: Any, axis: int, place: int) -> Any:
        return jax.lax.index_in_dim(array, place, axis, keepdims=False)


def _frozen(parameters: dict[str, Any]) -> tuple:
    return tuple((name, str(value)) for name, value in sorted(parameters.items()))


# Arithmetic: every rule gives the same bits as the operation it replaces, but for the sign of a zero.


def _neg(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    return [values[0].negated()]


def _add(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    return [_sum(scope, *values)]


def _sub(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    return [_sum(scope, values[0], values[1].negated())]


def _sum(scope: _Scope, one: _Value, other: _Value) -> _Value:
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


def _mul(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    one, other = values
    for number, rest in ((one, other), (other, one)):
        if number.fits(rest) and (number.equals(1) or number.equals(-1)):
            return [rest if number.equals(1) else rest.negated()]
    return [_Value(scope.binary("mul", one, other).core, one.negative != other.negative)]


def _div(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    one, other = values
    if other.fits(one) and (other.equals(1) or other.equals(-1)):
        return [one if other.equals(1) else one.negated()]
    return [_Value(scope.binary("div", one, other).core, one.negative != other.negative)]


def _extreme(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    name, (one, other) = equation.primitive.name, values
    if one.core is other.core and one.negative != other.negative:
        size = scope.remembered(("abs",), (one.core,), lambda: _Core(jax.lax.abs(one.core.array), one.core.batched))
        return [_Value(size, name == "min")]
    if one.negative and other.negative:
        return [scope.binary("max" if name == "min" else "min", one, other).negated()]
    if one.negative or other.negative:
        return None
    return [scope.binary(name, one, other)]


def _parity(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    name, (value,) = equation.primitive.name, values
    odd = name in ODD or (name == "integer_pow" and equation.params["y"] % 2 == 1)
    (found,) = scope.elementwise(equation, [_Value(value.core)])
    return [_Value(found.core, odd and value.negative)]


def _turned(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    (value,) = values
    core, is_sine = value.core, equation.primitive.name == "sin"
    if not (scope.one_kernel and core.batched and core.dtype.name in PARTS):
        return _parity(scope, equation, values)
    pair = scope.remembered(
        ("sine and cosine",), (core,), lambda: [_Core(found, True) for found in sine_and_cosine(core.array)]
    )
    return [_Value(pair[0], value.negative) if is_sine else _Value(pair[1])]


def _select(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    which, *cases = values
    if not all(case.negative for case in cases):
        return None
    (found,) = scope.elementwise(equation, [which, *[case.negated() for case in cases]])
    return [found.negated()]


def _convert(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    value, dtype = values[0], equation.params["new_dtype"]
    if value.core.dtype == dtype:
        return [value]
    if value.core.constant is not None and not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        number = scope.array(_Value(_Core(value.core.constant, False), False)).astype(dtype)
        core = scope.remembered(
            ("constant", str(dtype)),
            (value.core,),
            lambda: _Core(jax.lax.convert_element_type(value.core.array, dtype), value.core.batched, number),
        )
        return [_Value(core, value.negative)] if jnp.issubdtype(dtype, jnp.floating) else None
    return None


# Arranging: the games' axis stays the last one.


def _arranged(scope: _Scope, equation: Any, value: _Value, move: Callable[[Any, bool], Any]) -> list[_Value]:
    core = value.core
    key = (equation.primitive.name, _frozen(equation.params))
    made = scope.remembered(key, (core,), lambda: _Core(move(core.array, core.batched), core.batched, core.constant))
    return [_Value(made, value.negative)]


def _broadcast(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    if len(values) > 1:
        return None
    shape, dimensions = tuple(equation.params["shape"]), tuple(equation.params["broadcast_dimensions"])
    if np.prod(values[0].core.shape, dtype=int) == np.prod(shape, dtype=int):
        return [scope.reshaped(values[0], shape)]

    def move(array: Any, batched: bool) -> Any:
        lanes = ((scope.lanes,), (len(shape),)) if batched else ((), ())
        return jax.lax.broadcast_in_dim(array, shape + lanes[0], dimensions + lanes[1])

    return _arranged(scope, equation, values[0], move)


def _reshape(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    if len(values) > 1 or (equation.primitive.name == "reshape" and equation.params["dimensions"] is not None):
        return None
    return [scope.reshaped(values[0], tuple(equation.outvars[0].aval.shape))]


def _transpose(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    order = tuple(equation.params["permutation"])
    return _arranged(
        scope, equation, values[0], lambda array, batched: jax.lax.transpose(array, order + (len(order),) * batched)
    )


def _slice(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    low, high = tuple(equation.params["start_indices"]), tuple(equation.params["limit_indices"])
    strides = equation.params["strides"]

    def move(array: Any, batched: bool) -> Any:
        more = ((0,), (scope.lanes,), (1,)) if batched else ((), (), ())
        return jax.lax.slice(
            array, low + more[0], high + more[1], None if strides is None else tuple(strides) + more[2]
        )

    return _arranged(scope, equation, values[0], move)


def _rev(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    return _arranged(scope, equation, values[0], lambda array, _: jax.lax.rev(array, equation.params["dimensions"]))


def _split(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    array, axis = values[0].core.array, equation.params["axis"]
    ends = np.cumsum(equation.params["sizes"])
    begins = ends - np.asarray(equation.params["sizes"])
    parts = [jax.lax.slice_in_dim(array, int(a), int(b), axis=axis) for a, b in zip(begins, ends, strict=True)]
    return [_Value(_Core(part, values[0].core.batched), values[0].negative) for part in parts]


def _joined(scope: _Scope, values: Sequence[_Value], axis: int, lift: bool) -> list[_Value]:
    batched = any(value.core.batched for value in values)
    negative = all(value.negative for value in values)
    values = [value.negated() for value in values] if negative else values
    arrays = [scope.whole(value) if batched else jnp.asarray(scope.array(value)) for value in values]
    if lift:
        arrays = [jnp.expand_dims(array, axis) for array in arrays]
    return [_Value(_Core(jax.lax.concatenate(arrays, axis), batched), negative)]


def _concatenate(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value]:
    return _joined(scope, values, equation.params["dimension"], False)


def _stack(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    axis = equation.params.get("axis")
    return None if axis is None else _joined(scope, values, axis, True)


def _pad(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    value, filling = values
    if not value.core.batched or filling.core.batched:
        return None
    widths = (*equation.params["padding_config"], (0, 0, 0))
    return [_Value(_Core(jax.lax.pad(scope.array(value), scope.array(filling), widths), True))]


# Sums and products.


def _reduced(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
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

    def compute() -> _Core:
        terms = jax.lax.transpose(array, (*axes, *order, len(shape))) if axes != tuple(range(len(axes))) else array
        terms = jax.lax.reshape(terms, (count, *rest, scope.lanes))
        return _Core(reduce(BINARY[name], [scope.index(terms, 0, place) for place in range(count)]), True)

    key = (name, axes, value.negative and not negative)
    return [_Value(scope.remembered(key, (value.core,), compute), negative)]


def _place(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
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
    return [_Value(_Core(place, True))]


def _product(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
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

    def parts(core: _Core, axes: Sequence[int], pairs: Sequence[int], first: bool, others: int) -> list[Any]:
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

    def compute() -> _Core:
        left = parts(one.core, contracted[0], paired[0], True, free_other)
        right = parts(other.core, contracted[1], paired[1], False, free_one)
        return _Core(reduce(operator.add, [a * b for a, b in zip(left, right, strict=True)]), True)

    key = ("dot_general", _frozen(equation.params))
    made = scope.remembered(key, (one.core, other.core), compute)
    return [_Value(made, one.negative != other.negative)]


# Loops and branches.


def _carried(jaxpr: Any, constants: list[bool], carry: list[bool], rest: list[bool]) -> tuple[list[bool], list[bool]]:
    """Which parts of what a loop carries differ from game to game, and which of its further results."""
    while True:
        found = depends(jaxpr, [*constants, *carry, *rest])
        wider = [a or b for a, b in zip(carry, found, strict=False)]
        if wider == carry:
            return carry, found[len(carry) :]
        carry = wider


def _start(scope: _Scope, values: Sequence[_Value], batched: Sequence[bool]) -> tuple[Any, ...]:
    return tuple(
        scope.whole(value) if one else jnp.asarray(scope.array(value))
        for value, one in zip(values, batched, strict=True)
    )


def _inside(
    scope: _Scope, frame: _Frame, constants: int, arrays: Sequence[Any], batched: Sequence[bool], wanted: Sequence[bool]
) -> tuple[Any, ...]:
    inner, frame = scope.inside(), frame.copy()
    values = [_Value(_Core(array, one)) for array, one in zip(arrays, batched, strict=True)]
    frame.enter([*[None] * constants, *values])
    inner.advance(frame)
    return _start(inner, frame.outputs(inner), wanted)


class _While(NamedTuple):
    """A loop until a test fails, and how far test and body have been worked through."""

    parameters: dict[str, Any]
    test: _Frame
    body: _Frame

    @staticmethod
    def of(equation: Any) -> "_While":
        parameters = equation.params
        return _While(parameters, *map(_Frame.closed, (parameters["cond_jaxpr"], parameters["body_jaxpr"])))

    def copy(self) -> "_While":
        return _While(self.parameters, self.test.copy(), self.body.copy())

    def parts(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants of the test, constants of the body, and what is carried."""
        first = self.parameters["cond_nconsts"]
        second = first + self.parameters["body_nconsts"]
        return list(values[:first]), list(values[first:second]), list(values[second:])

    def open(self, scope: _Scope, values: Sequence[_Value | None]) -> None:
        """Compute what the constants decide, outside the loop."""
        of_test, of_body, carry = self.parts(values)
        for frame, constants in ((self.test, of_test), (self.body, of_body)):
            frame.enter([*constants, *[None] * len(carry)])
            scope.advance(frame)

    def run(self, scope: _Scope, values: Sequence[_Value]) -> list[_Value] | None:
        of_test, of_body, carry = self.parts(values)
        flags = [[value.core.batched for value in part] for part in (of_test, of_body, carry)]
        batched, _ = _carried(self.body.jaxpr, flags[1], flags[2], [])
        if depends(self.test.jaxpr, [*flags[0], *batched])[0]:
            return None  # every game stops when it likes

        start = _start(scope, carry, batched)
        test = Program(lambda *arrays: _inside(scope, self.test, len(of_test), arrays, batched, [False]), start)
        body = Program(lambda *arrays: _inside(scope, self.body, len(of_body), arrays, batched, batched), start)

        def loop(*arrays: Any) -> tuple[Any, ...]:
            return jax.lax.while_loop(lambda arrays: test(*arrays)[0], lambda arrays: body(*arrays), arrays)

        return _looped(scope, loop, start, batched)


class _Scan(NamedTuple):
    """A loop over rows, its numbers of constants and of parts carried, and how far its body has been worked through."""

    parameters: dict[str, Any]
    constants: int
    carried: int
    body: _Frame

    @staticmethod
    def of(equation: Any) -> "_Scan":
        closed = equation.params["jaxpr"]
        jaxpr = closed.jaxpr
        # Rows have an axis less in the body. (How the numbers are called differs between versions of JAX.)
        rows = [a.aval.ndim > b.aval.ndim for a, b in zip(equation.invars, jaxpr.invars, strict=True)]
        stacked = [a.aval.ndim > b.aval.ndim for a, b in zip(equation.outvars, jaxpr.outvars, strict=True)]
        carried = len(stacked) - sum(stacked)
        return _Scan(equation.params, len(rows) - sum(rows) - carried, carried, _Frame.closed(closed))

    def copy(self) -> "_Scan":
        return self._replace(body=self.body.copy())

    def open(self, scope: _Scope, values: Sequence[_Value | None]) -> None:
        """Compute what the constants decide, outside the loop."""
        constants = values[: self.constants]
        self.body.enter([*constants, *[None] * (len(values) - len(constants))])
        scope.advance(self.body)

    def run(self, scope: _Scope, values: Sequence[_Value]) -> list[_Value]:
        first, count = self.constants, self.carried
        constants, carry, rest = values[:first], values[first : first + count], values[first + count :]
        flags = [[value.core.batched for value in part] for part in (constants, carry, rest)]
        batched, stacked = _carried(self.body.jaxpr, *flags)

        start = _start(scope, [*carry, *rest], [*batched, *flags[2]])
        row = [*start[:count], *[jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for array in start[count:]]]
        own, wanted = [*batched, *flags[2]], [*batched, *stacked]
        body = Program(lambda *arrays: _inside(scope, self.body, first, arrays, own, wanted), row)

        def step(arrays: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            found = body(*arrays, *more)
            return found[:count], found[count:]

        def loop(*arrays: Any) -> tuple[Any, ...]:
            settings = {name: self.parameters[name] for name in ("length", "reverse", "unroll")}
            ended, collected = jax.lax.scan(step, arrays[:count], arrays[count:], **settings)
            return (*ended, *collected)

        return _looped(scope, loop, start, wanted)


LOOPS: dict[str, Any] = {"while": _While, "scan": _Scan}


def _looped(scope: _Scope, loop: Callable, arrays: Sequence[Any], batched: Sequence[bool]) -> list[_Value]:
    program = Program(loop, arrays)
    one_kernel = scope.one_kernel and may_be_one_kernel(program.equations, ONE_KERNEL)
    found = (program.in_one_kernel() if one_kernel else program)(*arrays)
    return [_Value(_Core(array, one)) for array, one in zip(found, batched, strict=True)]


def _cond(scope: _Scope, equation: Any, values: list[_Value]) -> list[_Value] | None:
    which, *operands = values
    if which.core.batched:
        return None
    branches = equation.params["branches"]
    flags = [value.core.batched for value in operands]
    batched = [any(one) for one in zip(*[depends(branch.jaxpr, flags) for branch in branches], strict=True)]
    arrays = tuple(jnp.asarray(scope.array(value)) for value in operands)

    def run(branch: Any, *arrays: Any) -> tuple[Any, ...]:
        return _inside(scope, _Frame.closed(branch), 0, arrays, flags, batched)

    programs = [Program(partial(run, branch), arrays) for branch in branches]
    found = jax.lax.switch(scope.array(which), programs, *arrays)
    return [_Value(_Core(array, one)) for array, one in zip(found, batched, strict=True)]


RULES: dict[str, Callable[[_Scope, Any, list[_Value]], list[_Value] | None]] = {
    **{name: _parity for name in (ODD | EVEN)},
    **{name: _reduced for name in BINARY},
    "sin": _turned,
    "cos": _turned,
    "argmax": _place,
    "argmin": _place,
    "integer_pow": _parity,
    "neg": _neg,
    "add": _add,
    "add_any": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "max": _extreme,
    "min": _extreme,
    "select_n": _select,
    "convert_element_type": _convert,
    "copy": lambda scope, equation, values: values,
    "copy_p": lambda scope, equation, values: values,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "rev": _rev,
    "split": _split,
    "concatenate": _concatenate,
    "stack": _stack,
    "pad": _pad,
    "dot_general": _product,
    "cond": _cond,
}
