"""Functions of one game made functions of a batch of games, with the batch axis last: games lie side by side in memory.

`jax.vmap` puts games first: a small matrix product per game then becomes a call per game. Here the program of one
game is read equation by equation: arithmetic stays as it is, small sums and products are written out, and a primitive
without a rule is left to `jax.vmap`. On the way equal terms are merged (common subexpression elimination), signs are
propagated (so that the exponentials of $x$ and of $-x$ are one), and what no iteration of a loop changes is hoisted out
of it. A loop that is nothing but arithmetic becomes machine code.

Results agree with `jax.vmap` to rounding: every single rewriting is exact, but the compiler contracts and orders sums
in its own way.
"""

import logging
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
from dynamics.compiler.batch.values import BatchArray, SignedArray
from dynamics.compiler.errors import described, naming
from dynamics.compiler.jaxprs import Program, depends, live_eqns, on_no_device
from dynamics.compiler.llvm.lowering import in_machine_code, is_machine_code, is_supported

logger = logging.getLogger(__name__)

# Operations before and after loops that become machine code: fewer gain nothing, more take long to compile.
FEWEST, MOST_BEFORE, MOST_AFTER = 20, 1_000, 8_000
LONGEST = 400  # numbers of an array per game
FOLDED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}  # of constants, to the bit
MOVING = {"broadcast_in_dim", "concatenate", "iota", "reshape", "slice", "squeeze", "transpose"}


def batch_last_axis(function: Callable[..., Any], *, machine_code: bool = False) -> Callable[..., Any]:
    """What `jax.vmap(function, in_axes=-1, out_axes=-1)` computes, faster.

    Args:
        function: of pytrees of arrays, traceable.
        machine_code: whether loops of arithmetic become machine code (`llvm/`) on a CPU.

    Returns:
        a function of pytrees of arrays whose last axis, of one length, counts the games.

    >>> import jax.numpy as jnp
    >>> rows = batch_last_axis(lambda matrix, vector: matrix @ vector)(jnp.ones((2, 3, 5)), jnp.ones((3, 5)))
    >>> rows.shape, float(rows[0, 0])
    ((2, 5), 3.0)
    """

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        batch_size = leaves[0].shape[-1]
        shapes = [jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype) for leaf in leaves]
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(structure, shapes))
        # The axis of the games is known by its length.
        compiles = machine_code and batch_size not in _lengths(closed.jaxpr)

        def all_games(*leaves: Any) -> list[Any]:
            scope = _Scope(batch_size, compiles, ChainMap())
            frame = _Frame.closed(closed)
            frame.bind_inputs([SignedArray(BatchArray(leaf, True)) for leaf in leaves])
            scope.evaluate(frame)
            return [scope.batched_array(value) for value in frame.outputs(scope)]

        if compiles:
            leaves = _opaque_copies(leaves, batch_size)
            results = _opaque_copies(_compile_parts(Program(all_games, leaves), batch_size, leaves), batch_size)
        else:
            results = all_games(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return run


class _Frame:
    """A jaxpr that is evaluated as far as its inputs are there: environment, and frames of the calls and loops in it.

    Attributes:
        jaxpr: the program.
        inputs: its variables that are bound from outside.
        wanted: which of its outputs somebody needs.
        live: the equations that these need, with which of their outputs.
        env: arrays by variable, as far as there are.
        inner: frames of calls, and loops, by the number of their equation.
        done: the equations that have been evaluated.
    """

    def __init__(
        self, jaxpr: Any, inputs: Sequence[Any], wanted: Sequence[bool], live: dict[int, list[bool]], env: dict
    ):
        self.jaxpr, self.inputs, self.wanted, self.live, self.env = jaxpr, inputs, wanted, live, env
        self.inner: dict[int, Any] = {}
        self.done: set[int] = set()

    @staticmethod
    def of(jaxpr: Any, constants: Sequence[SignedArray], wanted: Sequence[bool] | None = None) -> "_Frame":
        wanted = [True] * len(jaxpr.outvars) if wanted is None else wanted
        env = dict(zip(jaxpr.constvars, constants, strict=True))
        return _Frame(jaxpr, jaxpr.invars, wanted, live_eqns(jaxpr, wanted), env)

    @staticmethod
    def closed(jaxpr: Any) -> "_Frame":
        """Of a program that has its constants with it."""
        return _Frame.of(
            jaxpr.jaxpr, [SignedArray(BatchArray(on_no_device(constant), False)) for constant in jaxpr.consts]
        )

    def copy(self) -> "_Frame":
        copied = _Frame(self.jaxpr, self.inputs, self.wanted, self.live, dict(self.env))
        copied.inner = {index: frame.copy() for index, frame in self.inner.items()}
        copied.done = set(self.done)
        return copied

    def bind_inputs(self, values: Sequence[SignedArray | None]) -> None:
        """Put inputs into the environment; `None` is not there yet."""
        self.env |= {v: value for v, value in zip(self.inputs, values, strict=True) if value is not None}

    def read(self, scope: "_Scope", atom: Any) -> SignedArray | None:
        if is_literal(atom):
            return scope.literal(atom.val, atom.aval.dtype)
        return self.env.get(atom)

    def outputs(self, scope: "_Scope") -> list[SignedArray | None]:
        """The outputs, `None` for those that are not there yet or not wanted."""
        pairs = zip(self.jaxpr.outvars, self.wanted, strict=True)
        return [self.read(scope, atom) if one else None for atom, one in pairs]


class _Scope:
    """One level of a program: what has been computed there or further out is never computed again.

    Attributes:
        batch_size: length of the last axis of batched arrays.
        machine_code: whether loops become machine code.
        cse_table: results by operation and operands (common subexpression elimination); a map per level.
    """

    def __init__(self, batch_size: int, machine_code: bool, cse_table: ChainMap):
        self.batch_size, self.machine_code, self.cse_table = batch_size, machine_code, cse_table

    def child(self) -> "_Scope":
        """The scope of a loop's body: what is computed there does not exist outside."""
        return _Scope(self.batch_size, self.machine_code, self.cse_table.new_child())

    def cse(self, key: tuple, operands: Sequence[BatchArray], compute: Callable[[], Any]) -> Any:
        """Common subexpression elimination: the result of a computation on these operands, made once."""
        key = (*key, *[unsigned.serial for unsigned in operands])
        if key not in self.cse_table:
            self.cse_table[key] = compute()
        return self.cse_table[key]

    def literal(self, value: Any, dtype: Any) -> SignedArray:
        if np.ndim(value) or jnp.issubdtype(dtype, jax.dtypes.extended):
            return SignedArray(BatchArray(on_no_device(value), False))
        number = np.asarray(value, dtype)
        key = ("literal", str(dtype), number.tobytes())
        return self.cse(key, (), lambda: SignedArray(BatchArray(number, False, number)))

    # A signed array as an array of JAX.

    def array(self, value: SignedArray) -> Any:
        """With its sign, batched or not."""
        if not value.negative:
            return value.unsigned.array
        return self.cse(("neg",), (value.unsigned,), lambda: jax.lax.neg(value.unsigned.array))

    def batched_array(self, value: SignedArray) -> Any:
        """With its sign, and the games in the last axis."""
        array = self.array(value)
        return array if value.unsigned.batched else self.broadcast(array)

    def broadcast(self, array: Any) -> Any:
        shape = np.shape(array)
        return jax.lax.broadcast_in_dim(array, (*shape, self.batch_size), range(len(shape)))

    def broadcast_together(self, values: Sequence[SignedArray], batched: bool) -> list[Any]:
        """Arrays of one shape: scalars, and axes of length 1, may stand beside longer ones."""
        arrays = [self.batched_array(value) if batched else self.array(value) for value in values]
        shape = np.broadcast_shapes(*map(np.shape, arrays))

        def broadcast_one(array: Any) -> Any:
            axes = range(len(shape) - np.ndim(array), len(shape))
            return array if np.shape(array) == shape else jax.lax.broadcast_in_dim(array, shape, axes)

        return [broadcast_one(array) for array in arrays]

    # Evaluating a program.

    def evaluate(self, frame: _Frame) -> None:
        """Evaluate all equations whose inputs are there."""
        for index, wanted in frame.live.items():
            if index in frame.done:
                continue
            eqn = frame.jaxpr.eqns[index]
            values = [frame.read(self, atom) for atom in eqn.invars]
            name = eqn.primitive.name
            if name in CALLS:
                self._call(frame, index, eqn, values, wanted)
            elif name in LOOPS:
                self._loop(frame, index, eqn, values)
            elif None not in values:
                frame.env |= dict(zip(eqn.outvars, self.apply_rule(eqn, values), strict=True))
                frame.done.add(index)

    def _call(
        self, frame: _Frame, index: int, eqn: Any, values: Sequence[SignedArray | None], wanted: Sequence[bool]
    ) -> None:
        program = called(eqn)
        is_step = called_name(eqn) == STEP
        if index not in frame.inner:
            if is_step and is_affine_step(eqn, [value is not None for value in values]):
                frame.inner[index] = self._affine(eqn, values, program)
            else:
                jaxpr, constants = opened(program)
                constants = [SignedArray(BatchArray(on_no_device(one), False)) for one in constants]
                frame.inner[index] = _Frame.of(jaxpr, constants, wanted)
        inner = frame.inner[index]
        inner.bind_inputs(values)
        self.evaluate(inner)
        results = inner.outputs(self)
        frame.env |= {v: value for v, value in zip(eqn.outvars, results, strict=True) if value is not None}
        if all(value is not None for value, one in zip(results, wanted, strict=True) if one):
            frame.done.add(index)

    def _loop(self, frame: _Frame, index: int, eqn: Any, values: Sequence[SignedArray | None]) -> None:
        if index not in frame.inner:
            frame.inner[index] = LOOPS[eqn.primitive.name].of(eqn)
        loop = frame.inner[index]
        loop.hoist(self, values)
        if None not in values:
            results = loop.run(self, values)
            results = self.apply_vmap(eqn, values) if results is None else results
            frame.env |= dict(zip(eqn.outvars, results, strict=True))
            frame.done.add(index)

    def _affine(self, eqn: Any, values: Sequence[SignedArray | None], program: Any) -> _Frame:
        """A frame that multiplies by a matrix what the loop changes; the matrix is made here, before the loop."""
        invariant = [value is not None for value in values]
        coefficients, step = as_affine(program, invariant)
        given = [value for value in values if value is not None]
        batched = any(value.unsigned.batched for value in given)
        if batched:
            made = batch_last_axis(coefficients, machine_code=False)(*[self.batched_array(value) for value in given])
        else:
            made = coefficients(*[self.array(value) for value in given])
        leaves, structure = jax.tree.flatten(made)
        shapes = [jax.ShapeDtypeStruct(leaf.shape[:-1] if batched else leaf.shape, leaf.dtype) for leaf in leaves]

        def run(made: Any, *arguments: Any) -> Any:
            changing = [argument for argument, one in zip(arguments, invariant, strict=True) if not one]
            return step(jax.tree.unflatten(structure, made), *changing)

        arguments = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in eqn.invars]
        frame = _Frame.closed(jax.make_jaxpr(run)(shapes, *arguments))
        coefficients = [SignedArray(BatchArray(leaf, batched)) for leaf in leaves]
        frame.env |= dict(zip(frame.inputs, coefficients, strict=False))
        frame.inputs = frame.inputs[len(leaves) :]
        return frame

    def apply_rule(self, eqn: Any, values: list[SignedArray]) -> list[SignedArray]:
        name = eqn.primitive.name
        rule = RULES.get(name)
        with naming(eqn, "batching"):
            results = None if rule is None else rule(self, eqn, values)
            if results is None and name in ELEMENTWISE:
                results = self.elementwise(eqn, values)
            return self.apply_vmap(eqn, values) if results is None else results

    def elementwise(self, eqn: Any, values: Sequence[SignedArray]) -> list[SignedArray]:
        batched = any(value.unsigned.batched for value in values)

        def compute() -> list[BatchArray]:
            arrays = self.broadcast_together(values, batched)
            return [BatchArray(array, batched) for array in bind(eqn, arrays)]

        key = (eqn.primitive.name, frozen(eqn.params), tuple(value.negative for value in values))
        return [SignedArray(unsigned) for unsigned in self.cse(key, [value.unsigned for value in values], compute)]

    def apply_vmap(self, eqn: Any, values: Sequence[SignedArray]) -> list[SignedArray]:
        """For a primitive without a rule."""
        logger.debug("left to jax.vmap: %s", described(eqn))

        def one(*arrays: Any) -> list[Any]:
            return bind(eqn, arrays)

        batched = any(value.unsigned.batched for value in values)
        if batched:
            one = jax.vmap(one, in_axes=[-1 if value.unsigned.batched else None for value in values], out_axes=-1)
        results = one(*[self.array(value) for value in values])
        return [SignedArray(BatchArray(array, batched)) for array in results]

    # Building blocks of rules.

    def binary(self, name: str, one: SignedArray, other: SignedArray) -> SignedArray:
        """An operation on two arrays without their signs."""
        operation = {"add": jax.lax.add, "sub": jax.lax.sub, "mul": jax.lax.mul, "div": jax.lax.div}
        operation |= {"max": jax.lax.max, "min": jax.lax.min}
        operands = [one.unsigned, other.unsigned]
        if name in ("add", "mul", "max", "min"):
            operands.sort(key=lambda unsigned: unsigned.serial)
        if name in FOLDED and one.unsigned.is_known_scalar and other.unsigned.is_known_scalar:
            with np.errstate(all="ignore"):
                return self.literal(FOLDED[name](one.unsigned.constant, other.unsigned.constant), one.unsigned.dtype)
        batched = one.unsigned.batched or other.unsigned.batched

        def compute() -> BatchArray:
            arrays = self.broadcast_together([SignedArray(unsigned) for unsigned in operands], batched)
            return BatchArray(operation[name](*arrays), batched)

        return SignedArray(self.cse((name,), operands, compute))

    def reshaped(self, value: SignedArray, shape: tuple[int, ...]) -> SignedArray:
        unsigned = value.unsigned
        base = unsigned if unsigned.origin is None else unsigned.origin
        if base.shape == shape:
            return SignedArray(base, value.negative)

        def compute() -> BatchArray:
            array = jax.lax.reshape(base.array, (*shape, self.batch_size) if base.batched else shape)
            return BatchArray(array, base.batched, base.constant, base)

        return SignedArray(self.cse(("reshape", shape), (base,), compute), value.negative)

    def index(self, array: Any, axis: int, place: int) -> Any:
        return jax.lax.index_in_dim(array, place, axis, keepdims=False)


# Loops and branches.


def _batched_carry(
    jaxpr: Any, constants: list[bool], carry: list[bool], rest: list[bool]
) -> tuple[list[bool], list[bool]]:
    """Which parts of what a loop carries differ from game to game, and which of its further results."""
    while True:
        results = depends(jaxpr, [*constants, *carry, *rest])
        more_batched = [a or b for a, b in zip(carry, results, strict=False)]
        if more_batched == carry:
            return carry, results[len(carry) :]
        carry = more_batched


def _lengths(jaxpr: Any) -> set[int]:
    """Lengths of all axes in a program."""
    variables = (*jaxpr.constvars, *jaxpr.invars, *(one for eqn in jaxpr.eqns for one in eqn.outvars))
    results = {length for variable in variables for length in variable.aval.shape}
    return results.union(*(_lengths(inner) for eqn in jaxpr.eqns for inner in subjaxprs(eqn)))


def _as_arrays(scope: _Scope, values: Sequence[SignedArray], batched: Sequence[bool]) -> tuple[Any, ...]:
    return tuple(
        scope.batched_array(value) if one else scope.array(value) for value, one in zip(values, batched, strict=True)
    )


def _trace_body(
    scope: _Scope, frame: _Frame, constants: int, arrays: Sequence[Any], batched: Sequence[bool], wanted: Sequence[bool]
) -> tuple[Any, ...]:
    inner, frame = scope.child(), frame.copy()
    values = [SignedArray(BatchArray(array, one)) for array, one in zip(arrays, batched, strict=True)]
    frame.bind_inputs([*[None] * constants, *values])
    inner.evaluate(frame)
    return _as_arrays(inner, frame.outputs(inner), wanted)


class _While(NamedTuple):
    """A loop until a test fails, and how far test and body have been worked through."""

    loop: While
    test: _Frame
    body: _Frame

    @staticmethod
    def of(eqn: Any) -> "_While":
        loop = While.of(eqn)
        return _While(loop, _Frame.closed(loop.condition), _Frame.closed(loop.body))

    def copy(self) -> "_While":
        return self._replace(test=self.test.copy(), body=self.body.copy())

    def hoist(self, scope: _Scope, values: Sequence[SignedArray | None]) -> None:
        """Compute what the constants decide, outside the loop."""
        of_test, of_body, carry = self.loop.split(values)
        for frame, constants in ((self.test, of_test), (self.body, of_body)):
            frame.bind_inputs([*constants, *[None] * len(carry)])
            scope.evaluate(frame)

    def run(self, scope: _Scope, values: Sequence[SignedArray]) -> list[SignedArray] | None:
        of_test, of_body, carry = self.loop.split(values)
        flags = [[value.unsigned.batched for value in part] for part in (of_test, of_body, carry)]
        batched, _ = _batched_carry(self.body.jaxpr, flags[1], flags[2], [])
        if depends(self.test.jaxpr, [*flags[0], *batched])[0]:
            return None  # every game stops when it likes

        start = _as_arrays(scope, carry, batched)
        test = Program(lambda *arrays: _trace_body(scope, self.test, len(of_test), arrays, batched, [False]), start)
        body = Program(lambda *arrays: _trace_body(scope, self.body, len(of_body), arrays, batched, batched), start)

        def loop(*arrays: Any) -> tuple[Any, ...]:
            return jax.lax.while_loop(lambda arrays: test(*arrays)[0], lambda arrays: body(*arrays), arrays)

        return _trace_loop(scope, loop, start, batched)


class _Scan(NamedTuple):
    """A loop over rows, and how far its body has been worked through."""

    loop: Scan
    body: _Frame

    @staticmethod
    def of(eqn: Any) -> "_Scan":
        loop = Scan.of(eqn)
        return _Scan(loop, _Frame.closed(loop.body))

    def copy(self) -> "_Scan":
        return self._replace(body=self.body.copy())

    def hoist(self, scope: _Scope, values: Sequence[SignedArray | None]) -> None:
        """Compute what the constants decide, outside the loop."""
        constants, carry, rows = self.loop.split(values)
        self.body.bind_inputs([*constants, *[None] * len([*carry, *rows])])
        scope.evaluate(self.body)

    def run(self, scope: _Scope, values: Sequence[SignedArray]) -> list[SignedArray]:
        first, count = self.loop.constants, self.loop.carries
        constants, carry, rest = self.loop.split(values)
        flags = [[value.unsigned.batched for value in part] for part in (constants, carry, rest)]
        batched, stacked = _batched_carry(self.body.jaxpr, *flags)

        start = _as_arrays(scope, [*carry, *rest], [*batched, *flags[2]])
        row = [*start[:count], *[jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for array in start[count:]]]
        own, wanted = [*batched, *flags[2]], [*batched, *stacked]
        body = Program(lambda *arrays: _trace_body(scope, self.body, first, arrays, own, wanted), row)

        def step(arrays: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            results = body(*arrays, *more)
            return results[:count], results[count:]

        def loop(*arrays: Any) -> tuple[Any, ...]:
            length, reverse, unroll = self.loop[3:]
            ended, collected = jax.lax.scan(step, arrays[:count], arrays[count:], length, reverse, unroll)
            return (*ended, *collected)

        return _trace_loop(scope, loop, start, wanted)


LOOPS: dict[str, Any] = {"while": _While, "scan": _Scan}


def _trace_loop(scope: _Scope, loop: Callable, arrays: Sequence[Any], batched: Sequence[bool]) -> list[SignedArray]:
    program = Program(loop, arrays)
    results = _as_machine_code(program, scope.batch_size, arrays) if scope.machine_code else program(*arrays)
    return [SignedArray(BatchArray(array, one)) for array, one in zip(results, batched, strict=True)]


def _as_machine_code(program: Program, batch_size: int, arrays: Sequence[Any]) -> Sequence[Any]:
    """The results of a program, on a CPU as machine code where it can be."""
    closed, constants = program.closed()
    given = [array for array, one in zip(arrays, program.needed, strict=True) if one]
    return program.forwarding(arrays, in_machine_code(closed, batch_size)(*constants, *given))


def _opaque_copies(arrays: Sequence[Any], batch_size: int) -> Sequence[Any]:
    """Copies by machine code, which XLA cannot see through.

    What it compiles on one side then knows nothing of the other one, and its bits not how many blocks there are.
    """
    shapes = [jax.ShapeDtypeStruct(np.shape(array), array.dtype) for array in arrays]
    return in_machine_code(jax.make_jaxpr(lambda *arrays: arrays)(*shapes), batch_size)(*arrays)


def _is_worth_it(eqns: Sequence[Any], batch_size: int, most: int) -> bool:
    """Whether some equations outside of loops are better machine code, and compiled in reasonable time."""

    def size(shape: Sequence[int]) -> int:
        return int(np.prod([length for length in shape if length != batch_size], dtype=int))

    sizes = {one: size(one.aval.shape) for eqn in eqns for one in eqn.outvars}
    work = [sizes[eqn.outvars[0]] for eqn in eqns if eqn.primitive.name not in MOVING]
    return FEWEST <= sum(work) <= most and max(sizes.values()) <= LONGEST


def _compile_parts(program: Program, batch_size: int, arrays: Sequence[Any]) -> Sequence[Any]:
    """The results of a program whose loops are machine code already; of the rest, what can be becomes such.

    Apart from the loops: tiles of several registers are good for those, and make long code of what is written out.
    """
    levels: dict[Any, int] = {}
    parts: dict[int, list[Any]] = {}
    repeated: dict[Any, Any] = {}  # what spreads a number is repeated where it is needed
    for eqn in program.eqns:
        level = max((levels.get(atom, 0) for atom in eqn.invars if not is_literal(atom)), default=0)
        if eqn.primitive.name in ("broadcast_in_dim", "iota"):
            repeated |= dict.fromkeys(eqn.outvars, eqn)
        else:
            level += level % 2 != (is_machine_code(eqn) or not is_supported(eqn))
            parts.setdefault(level, []).append(eqn)
        levels |= dict.fromkeys(eqn.outvars, level)

    def read(atom: Any, env: dict[Any, Any]) -> Any:
        if is_literal(atom):
            return np.asarray(atom.val, atom.aval.dtype)
        if atom not in env:
            env |= execute([repeated[atom]], env)
        return env[atom]

    def execute(eqns: Sequence[Any], env: dict[Any, Any]) -> dict[Any, Any]:
        env = dict(env)
        for eqn in eqns:
            results = bind(eqn, [read(atom, env) for atom in eqn.invars])
            env |= dict(zip(eqn.outvars, results, strict=True))
        return env

    def sources(atoms: Sequence[Any]) -> list[Any]:
        """These variables, or those that they spread."""
        results, pending = {}, [atom for atom in atoms if not is_literal(atom)]
        while pending:
            atom = pending.pop()
            if atom in repeated:
                pending += [one for one in repeated[atom].invars if not is_literal(one)]
            else:
                results[atom] = None
        return list(results)

    env = dict(zip(program.inputs, arrays, strict=True)) | program.constants
    for level, eqns in sorted(parts.items()):
        if level % 2 or not _is_worth_it(eqns, batch_size, MOST_AFTER if level else MOST_BEFORE):
            env = execute(eqns, env)
            continue
        later = [one.invars for other, own in parts.items() if other > level for one in own]
        wanted = set(sources([atom for atoms in (*later, program.outputs) for atom in atoms]))
        made = [variable for one in eqns for variable in one.outvars if variable in wanted]
        used = [atom for atom in sources([atom for one in eqns for atom in one.invars]) if atom in env]

        def run(*given: Any, eqns=eqns, used=used, made=made) -> list[Any]:
            results = execute(eqns, dict(zip(used, given, strict=True)))
            return [results[variable] for variable in made]

        given = [env[variable] for variable in used]
        env |= dict(zip(made, _as_machine_code(Program(run, given), batch_size, given), strict=True))
    return [read(atom, env) for atom in program.outputs]


@batching("cond")
def _cond(scope: _Scope, eqn: Any, values: list[SignedArray]) -> list[SignedArray] | None:
    which, *operands = values
    cases = branches(eqn)
    if which.unsigned.batched and not (scope.machine_code and len(cases) == 2):
        return None
    flags = [value.unsigned.batched for value in operands]
    batched = [any(one) for one in zip(*[depends(branch.jaxpr, flags) for branch in cases], strict=True)]
    batched = [which.unsigned.batched or one for one in batched]
    arrays = tuple(scope.array(value) for value in operands)

    def run(branch: Any, *arrays: Any) -> tuple[Any, ...]:
        return _trace_body(scope, _Frame.closed(branch), 0, arrays, flags, batched)

    programs = [Program(partial(run, branch), arrays) for branch in cases]
    if which.unsigned.batched:  # what no game of a vector tile wants is not computed
        usual, other = programs
        wanted = scope.array(which) > 0

        def both(*arrays: Any) -> tuple[Any, ...]:
            pairs = zip(other(*arrays), usual(*arrays), strict=True)
            return tuple(jnp.where(wanted, *pair) for pair in pairs)

        results = jax.lax.cond(jnp.any(wanted), both, usual, *arrays)
    else:
        results = jax.lax.switch(scope.array(which), programs, *arrays)
    return [SignedArray(BatchArray(array, one)) for array, one in zip(results, batched, strict=True)]
