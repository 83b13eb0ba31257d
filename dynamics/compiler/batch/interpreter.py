"""Functions of one game made functions of many, with the games in the last axis, where registers lie.

`jax.vmap` puts games first: a small matrix product per game then becomes a call per game. Here the program of one
game is read equation by equation: arithmetic stays as it is, small sums and products are written out, and what is not
known is left to `jax.vmap`. On the way equal terms are merged, signs are followed (so that the exponentials of $x$ and
of $-x$ are one), and what no step of a loop changes is taken out of it. A loop that is nothing but arithmetic becomes
machine code.

Results agree with `jax.vmap` to rounding: every single rewriting is exact, but the compiler contracts and orders sums
in its own way.
"""

from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import (
    CALLS,
    Scan,
    While,
    bind,
    branches,
    called,
    called_name,
    is_literal,
    opened,
    subjaxprs,
)
from dynamics.compiler.affine import STEP, as_affine, is_affine_step
from dynamics.compiler.batch.rules import ELEMENTWISE, RULES, batching, frozen
from dynamics.compiler.batch.values import Core, Value
from dynamics.compiler.errors import naming
from dynamics.compiler.jaxprs import Program, depends, live_equations, on_no_device
from dynamics.compiler.llvm.lowering import in_machine_code, is_known, is_machine_code

# Operations before and after loops that become machine code: fewer gain nothing, more take long to compile.
FEWEST, MOST_BEFORE, MOST_AFTER = 20, 1_000, 6_000
LONGEST = 400  # numbers of an array per game
FOLDED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}  # of known numbers, to the bit
MOVING = {"broadcast_in_dim", "concatenate", "iota", "reshape", "slice", "squeeze", "transpose"}


def in_lanes(function: Callable[..., Any], *, machine_code: bool = False) -> Callable[..., Any]:
    """What `jax.vmap(function, in_axes=-1, out_axes=-1)` computes, faster.

    Args:
        function: of pytrees of arrays, traceable.
        machine_code: whether loops of arithmetic become machine code (`machine_code`) on a CPU.

    Returns:
        a function of pytrees of arrays whose last axis, of one length, counts the games.

    >>> import jax.numpy as jnp
    >>> rows = in_lanes(lambda matrix, vector: matrix @ vector)(jnp.ones((2, 3, 5)), jnp.ones((3, 5)))
    >>> rows.shape, float(rows[0, 0])
    ((2, 5), 3.0)
    """

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        lanes = leaves[0].shape[-1]
        shapes = [jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype) for leaf in leaves]
        closed, outputs = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(structure, shapes))
        # The axis of the games is known by its length.
        translated = machine_code and lanes not in _lengths(closed.jaxpr)

        def all_games(*leaves: Any) -> list[Any]:
            scope = _Scope(lanes, translated, ChainMap())
            frame = _Frame.closed(closed)
            frame.enter([Value(Core(leaf, True)) for leaf in leaves])
            scope.advance(frame)
            return [scope.whole(value) for value in frame.outputs(scope)]

        if translated:
            leaves = _apart(leaves, lanes)
            found = _apart(_in_parts(Program(all_games, leaves), lanes, leaves), lanes)
        else:
            found = all_games(*leaves)
        return jax.tree.unflatten(jax.tree.structure(outputs), found)

    return run


class _Frame:
    """How far a program has been worked through: its known variables, and the frames of the calls in it."""

    def __init__(
        self, jaxpr: Any, inputs: Sequence[Any], wanted: Sequence[bool], live: dict[int, list[bool]], known: dict
    ):
        self.jaxpr, self.inputs, self.wanted, self.live, self.known = jaxpr, inputs, wanted, live, known
        self.inner: dict[int, Any] = {}
        self.done: set[int] = set()

    @staticmethod
    def of(jaxpr: Any, constants: Sequence[Value], wanted: Sequence[bool] | None = None) -> "_Frame":
        wanted = [True] * len(jaxpr.outvars) if wanted is None else wanted
        known = dict(zip(jaxpr.constvars, constants, strict=True))
        return _Frame(jaxpr, jaxpr.invars, wanted, live_equations(jaxpr, wanted), known)

    @staticmethod
    def closed(jaxpr: Any) -> "_Frame":
        """Of a program that has its constants with it."""
        return _Frame.of(jaxpr.jaxpr, [Value(Core(on_no_device(constant), False)) for constant in jaxpr.consts])

    def copy(self) -> "_Frame":
        copied = _Frame(self.jaxpr, self.inputs, self.wanted, self.live, dict(self.known))
        copied.inner = {index: frame.copy() for index, frame in self.inner.items()}
        copied.done = set(self.done)
        return copied

    def enter(self, values: Sequence[Value | None]) -> None:
        """Make arguments known; `None` stays unknown."""
        self.known |= {v: value for v, value in zip(self.inputs, values, strict=True) if value is not None}

    def read(self, scope: "_Scope", atom: Any) -> Value | None:
        if is_literal(atom):
            return scope.literal(atom.val, atom.aval.dtype)
        return self.known.get(atom)

    def outputs(self, scope: "_Scope") -> list[Value | None]:
        """What is known of the results, `None` for what is not known or not wanted."""
        pairs = zip(self.jaxpr.outvars, self.wanted, strict=True)
        return [self.read(scope, atom) if one else None for atom, one in pairs]


class _Scope:
    """One level of a program: what has been computed there or further out is never computed again."""

    def __init__(self, lanes: int, machine_code: bool, memory: ChainMap):
        self.lanes, self.machine_code, self.memory = lanes, machine_code, memory

    def inside(self) -> "_Scope":
        """The scope of a loop's body: what is computed there is not known outside."""
        return _Scope(self.lanes, self.machine_code, self.memory.new_child())

    def remembered(self, key: tuple, cores: Sequence[Core], compute: Callable[[], Any]) -> Any:
        """The result of a computation, made once."""
        key = (*key, *[core.number for core in cores])
        if key not in self.memory:
            self.memory[key] = compute()
        return self.memory[key]

    def literal(self, value: Any, dtype: Any) -> Value:
        if np.ndim(value) or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
            return Value(Core(on_no_device(value), False))
        number = np.asarray(value, dtype)
        key = ("literal", str(dtype), number.tobytes())
        return self.remembered(key, (), lambda: Value(Core(number, False, number)))

    # What a value is as an array.

    def array(self, value: Value) -> Any:
        """With its sign, batched or not."""
        if not value.negative:
            return value.core.array
        return self.remembered(("neg",), (value.core,), lambda: jax.lax.neg(value.core.array))

    def whole(self, value: Value) -> Any:
        """With its sign, and the games in the last axis."""
        array = self.array(value)
        return array if value.core.batched else self.spread(array)

    def spread(self, array: Any) -> Any:
        shape = np.shape(array)
        return jax.lax.broadcast_in_dim(array, (*shape, self.lanes), range(len(shape)))

    def aligned(self, values: Sequence[Value], batched: bool) -> list[Any]:
        """Arrays of one shape: scalars, and axes of length 1, may stand beside longer ones."""
        arrays = [self.whole(value) if batched else self.array(value) for value in values]
        shape = np.broadcast_shapes(*map(np.shape, arrays))

        def widened(array: Any) -> Any:
            axes = range(len(shape) - np.ndim(array), len(shape))
            return array if np.shape(array) == shape else jax.lax.broadcast_in_dim(array, shape, axes)

        return [widened(array) for array in arrays]

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
        self, frame: _Frame, index: int, equation: Any, values: Sequence[Value | None], wanted: Sequence[bool]
    ) -> None:
        program = called(equation)
        is_step = called_name(equation) == STEP
        if index not in frame.inner:
            if is_step and is_affine_step(equation, [value is not None for value in values]):
                frame.inner[index] = self._affine(equation, values, program)
            else:
                jaxpr, constants = opened(program)
                constants = [Value(Core(on_no_device(one), False)) for one in constants]
                frame.inner[index] = _Frame.of(jaxpr, constants, wanted)
        inner = frame.inner[index]
        inner.enter(values)
        self.advance(inner)
        found = inner.outputs(self)
        frame.known |= {v: value for v, value in zip(equation.outvars, found, strict=True) if value is not None}
        if all(value is not None for value, one in zip(found, wanted, strict=True) if one):
            frame.done.add(index)

    def _loop(self, frame: _Frame, index: int, equation: Any, values: Sequence[Value | None]) -> None:
        if index not in frame.inner:
            frame.inner[index] = LOOPS[equation.primitive.name].of(equation)
        loop = frame.inner[index]
        loop.open(self, values)
        if None not in values:
            found = loop.run(self, values)
            found = self.by_vmap(equation, values) if found is None else found
            frame.known |= dict(zip(equation.outvars, found, strict=True))
            frame.done.add(index)

    def _affine(self, equation: Any, values: Sequence[Value | None], program: Any) -> _Frame:
        """A frame that multiplies by a matrix what the loop changes; the matrix is made here, outside the loop."""
        known = [value is not None for value in values]
        coefficients, step = as_affine(program, known)
        given = [value for value in values if value is not None]
        batched = any(value.core.batched for value in given)
        if batched:
            made = in_lanes(coefficients, machine_code=False)(*[self.whole(value) for value in given])
        else:
            made = coefficients(*[self.array(value) for value in given])
        leaves, structure = jax.tree.flatten(made)
        shapes = [jax.ShapeDtypeStruct(leaf.shape[:-1] if batched else leaf.shape, leaf.dtype) for leaf in leaves]

        def run(made: Any, *arguments: Any) -> Any:
            changing = [argument for argument, one in zip(arguments, known, strict=True) if not one]
            return step(jax.tree.unflatten(structure, made), *changing)

        arguments = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
        frame = _Frame.closed(jax.make_jaxpr(run)(shapes, *arguments))
        coefficients = [Value(Core(leaf, batched)) for leaf in leaves]
        frame.known |= dict(zip(frame.inputs, coefficients, strict=False))
        frame.inputs = frame.inputs[len(leaves) :]
        return frame

    def apply(self, equation: Any, values: list[Value]) -> list[Value]:
        name = equation.primitive.name
        rule = RULES.get(name)
        with naming(equation, "batching"):
            found = None if rule is None else rule(self, equation, values)
            if found is None and name in ELEMENTWISE:
                found = self.elementwise(equation, values)
            return self.by_vmap(equation, values) if found is None else found

    def elementwise(self, equation: Any, values: Sequence[Value]) -> list[Value]:
        batched = any(value.core.batched for value in values)

        def compute() -> list[Core]:
            arrays = self.aligned(values, batched)
            return [Core(array, batched) for array in bind(equation, arrays)]

        key = (equation.primitive.name, frozen(equation.params), tuple(value.negative for value in values))
        return [Value(core) for core in self.remembered(key, [value.core for value in values], compute)]

    def by_vmap(self, equation: Any, values: Sequence[Value]) -> list[Value]:
        """What no rule knows."""

        def one(*arrays: Any) -> list[Any]:
            return bind(equation, arrays)

        batched = any(value.core.batched for value in values)
        if batched:
            one = jax.vmap(one, in_axes=[-1 if value.core.batched else None for value in values], out_axes=-1)
        found = one(*[self.array(value) for value in values])
        return [Value(Core(array, batched)) for array in found]

    # Building blocks of rules.

    def binary(self, name: str, one: Value, other: Value) -> Value:
        """A positive core from two positive ones."""
        operation = {"add": jax.lax.add, "sub": jax.lax.sub, "mul": jax.lax.mul, "div": jax.lax.div}
        operation |= {"max": jax.lax.max, "min": jax.lax.min}
        cores = [one.core, other.core]
        if name in ("add", "mul", "max", "min"):
            cores.sort(key=lambda core: core.number)
        if name in FOLDED and one.core.is_number and other.core.is_number:
            with np.errstate(all="ignore"):
                return self.literal(FOLDED[name](one.core.constant, other.core.constant), one.core.dtype)
        batched = one.core.batched or other.core.batched

        def compute() -> Core:
            arrays = self.aligned([Value(core) for core in cores], batched)
            return Core(operation[name](*arrays), batched)

        return Value(self.remembered((name,), cores, compute))

    def reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        core = value.core
        base = core if core.origin is None else core.origin
        if base.shape == shape:
            return Value(base, value.negative)

        def compute() -> Core:
            array = jax.lax.reshape(base.array, (*shape, self.lanes) if base.batched else shape)
            return Core(array, base.batched, base.constant, base)

        return Value(self.remembered(("reshape", shape), (base,), compute), value.negative)

    def index(self, array: Any, axis: int, place: int) -> Any:
        return jax.lax.index_in_dim(array, place, axis, keepdims=False)


# Loops and branches.


def _carried(jaxpr: Any, constants: list[bool], carry: list[bool], rest: list[bool]) -> tuple[list[bool], list[bool]]:
    """Which parts of what a loop carries differ from game to game, and which of its further results."""
    while True:
        found = depends(jaxpr, [*constants, *carry, *rest])
        wider = [a or b for a, b in zip(carry, found, strict=False)]
        if wider == carry:
            return carry, found[len(carry) :]
        carry = wider


def _lengths(jaxpr: Any) -> set[int]:
    """Lengths of all axes in a program."""
    variables = (*jaxpr.constvars, *jaxpr.invars, *(one for equation in jaxpr.eqns for one in equation.outvars))
    found = {length for variable in variables for length in variable.aval.shape}
    return found.union(*(_lengths(inner) for equation in jaxpr.eqns for inner in subjaxprs(equation)))


def _start(scope: _Scope, values: Sequence[Value], batched: Sequence[bool]) -> tuple[Any, ...]:
    return tuple(scope.whole(value) if one else scope.array(value) for value, one in zip(values, batched, strict=True))


def _inside(
    scope: _Scope, frame: _Frame, constants: int, arrays: Sequence[Any], batched: Sequence[bool], wanted: Sequence[bool]
) -> tuple[Any, ...]:
    inner, frame = scope.inside(), frame.copy()
    values = [Value(Core(array, one)) for array, one in zip(arrays, batched, strict=True)]
    frame.enter([*[None] * constants, *values])
    inner.advance(frame)
    return _start(inner, frame.outputs(inner), wanted)


class _While(NamedTuple):
    """A loop until a test fails, and how far test and body have been worked through."""

    loop: While
    test: _Frame
    body: _Frame

    @staticmethod
    def of(equation: Any) -> "_While":
        loop = While.of(equation)
        return _While(loop, _Frame.closed(loop.condition), _Frame.closed(loop.body))

    def copy(self) -> "_While":
        return self._replace(test=self.test.copy(), body=self.body.copy())

    def open(self, scope: _Scope, values: Sequence[Value | None]) -> None:
        """Compute what the constants decide, outside the loop."""
        of_test, of_body, carry = self.loop.split(values)
        for frame, constants in ((self.test, of_test), (self.body, of_body)):
            frame.enter([*constants, *[None] * len(carry)])
            scope.advance(frame)

    def run(self, scope: _Scope, values: Sequence[Value]) -> list[Value] | None:
        of_test, of_body, carry = self.loop.split(values)
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
    """A loop over rows, and how far its body has been worked through."""

    loop: Scan
    body: _Frame

    @staticmethod
    def of(equation: Any) -> "_Scan":
        loop = Scan.of(equation)
        return _Scan(loop, _Frame.closed(loop.body))

    def copy(self) -> "_Scan":
        return self._replace(body=self.body.copy())

    def open(self, scope: _Scope, values: Sequence[Value | None]) -> None:
        """Compute what the constants decide, outside the loop."""
        constants, carry, rows = self.loop.split(values)
        self.body.enter([*constants, *[None] * len([*carry, *rows])])
        scope.advance(self.body)

    def run(self, scope: _Scope, values: Sequence[Value]) -> list[Value]:
        first, count = self.loop.constants, self.loop.carries
        constants, carry, rest = self.loop.split(values)
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
            length, reverse, unroll = self.loop[3:]
            ended, collected = jax.lax.scan(step, arrays[:count], arrays[count:], length, reverse, unroll)
            return (*ended, *collected)

        return _looped(scope, loop, start, wanted)


LOOPS: dict[str, Any] = {"while": _While, "scan": _Scan}


def _looped(scope: _Scope, loop: Callable, arrays: Sequence[Any], batched: Sequence[bool]) -> list[Value]:
    program = Program(loop, arrays)
    found = _translated(program, scope.lanes, arrays) if scope.machine_code else program(*arrays)
    return [Value(Core(array, one)) for array, one in zip(found, batched, strict=True)]


def _translated(program: Program, lanes: int, arrays: Sequence[Any]) -> Sequence[Any]:
    """The results of a program, on a CPU as machine code where it can be."""
    closed, constants = program.closed()
    given = [array for array, one in zip(arrays, program.needed, strict=True) if one]
    return program.forwarding(arrays, in_machine_code(closed, lanes)(*constants, *given))


def _apart(arrays: Sequence[Any], lanes: int) -> Sequence[Any]:
    """Copies by machine code, which XLA cannot see through.

    What it compiles on one side then knows nothing of the other one, and its bits not how many blocks there are.
    """
    shapes = [jax.ShapeDtypeStruct(np.shape(array), array.dtype) for array in arrays]
    return in_machine_code(jax.make_jaxpr(lambda *arrays: arrays)(*shapes), lanes)(*arrays)


def _is_worth_it(equations: Sequence[Any], lanes: int, most: int) -> bool:
    """Whether some equations outside of loops are better machine code, and compiled in reasonable time."""

    def size(shape: Sequence[int]) -> int:
        return int(np.prod([length for length in shape if length != lanes], dtype=int))

    sizes = {one: size(one.aval.shape) for equation in equations for one in equation.outvars}
    work = [sizes[equation.outvars[0]] for equation in equations if equation.primitive.name not in MOVING]
    return FEWEST <= sum(work) <= most and max(sizes.values()) <= LONGEST


def _in_parts(program: Program, lanes: int, arrays: Sequence[Any]) -> Sequence[Any]:
    """The results of a program whose loops are machine code already; of the rest, what can be becomes such.

    Apart from the loops, because strips of a few registers are good for those, but swell what is written out.
    """
    levels: dict[Any, int] = {}
    parts: dict[int, list[Any]] = {}
    free: dict[Any, Any] = {}  # what spreads a number is repeated where it is needed
    for equation in program.equations:
        level = max((levels.get(atom, 0) for atom in equation.invars if not is_literal(atom)), default=0)
        if equation.primitive.name in ("broadcast_in_dim", "iota"):
            free |= dict.fromkeys(equation.outvars, equation)
        else:
            level += level % 2 != (is_machine_code(equation) or not is_known(equation))
            parts.setdefault(level, []).append(equation)
        levels |= dict.fromkeys(equation.outvars, level)

    def read(atom: Any, known: dict[Any, Any]) -> Any:
        if is_literal(atom):
            return np.asarray(atom.val, atom.aval.dtype)
        if atom not in known:
            known |= carried_out([free[atom]], known)
        return known[atom]

    def carried_out(equations: Sequence[Any], known: dict[Any, Any]) -> dict[Any, Any]:
        known = dict(known)
        for equation in equations:
            found = bind(equation, [read(atom, known) for atom in equation.invars])
            known |= dict(zip(equation.outvars, found, strict=True))
        return known

    def behind(atoms: Sequence[Any]) -> list[Any]:
        """These variables, or those that they spread."""
        found, pending = {}, [atom for atom in atoms if not is_literal(atom)]
        while pending:
            atom = pending.pop()
            if atom in free:
                pending += [one for one in free[atom].invars if not is_literal(one)]
            else:
                found[atom] = None
        return list(found)

    known = dict(zip(program.inputs, arrays, strict=True)) | program.constants
    for level, equations in sorted(parts.items()):
        if level % 2 or not _is_worth_it(equations, lanes, MOST_AFTER if level else MOST_BEFORE):
            known = carried_out(equations, known)
            continue
        later = [one.invars for other, own in parts.items() if other > level for one in own]
        wanted = set(behind([atom for atoms in (*later, program.outputs) for atom in atoms]))
        made = [variable for one in equations for variable in one.outvars if variable in wanted]
        used = [atom for atom in behind([atom for one in equations for atom in one.invars]) if atom in known]

        def run(*given: Any, equations=equations, used=used, made=made) -> list[Any]:
            found = carried_out(equations, dict(zip(used, given, strict=True)))
            return [found[variable] for variable in made]

        given = [known[variable] for variable in used]
        known |= dict(zip(made, _translated(Program(run, given), lanes, given), strict=True))
    return [read(atom, known) for atom in program.outputs]


@batching("cond")
def _cond(scope: _Scope, equation: Any, values: list[Value]) -> list[Value] | None:
    which, *operands = values
    cases = branches(equation)
    if which.core.batched and not (scope.machine_code and len(cases) == 2):
        return None
    flags = [value.core.batched for value in operands]
    batched = [any(one) for one in zip(*[depends(branch.jaxpr, flags) for branch in cases], strict=True)]
    batched = [which.core.batched or one for one in batched]
    arrays = tuple(scope.array(value) for value in operands)

    def run(branch: Any, *arrays: Any) -> tuple[Any, ...]:
        return _inside(scope, _Frame.closed(branch), 0, arrays, flags, batched)

    programs = [Program(partial(run, branch), arrays) for branch in cases]
    if which.core.batched:  # what no game of a strip wants is not computed
        usual, other = programs
        wanted = scope.array(which) > 0

        def both(*arrays: Any) -> tuple[Any, ...]:
            pairs = zip(other(*arrays), usual(*arrays), strict=True)
            return tuple(jnp.where(wanted, *pair) for pair in pairs)

        found = jax.lax.cond(jnp.any(wanted), both, usual, *arrays)
    else:
        found = jax.lax.switch(scope.array(which), programs, *arrays)
    return [Value(Core(array, one)) for array, one in zip(found, batched, strict=True)]
