"""The program of a kernel, equation by equation, on numbers of the games."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import (
    SAME,
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Scan,
    Var,
    While,
    branches,
    called,
    is_literal,
    opened,
)
from dynamics.compiler.errors import Unsupported, naming
from dynamics.compiler.gpu.arrays import ARRAYS, Games, Memory, Value, each, joined, objects
from dynamics.compiler.gpu.scalars import ELEMENTWISE, TRITON_NUMBERS, WIDENED, Numbers, dtype_of
from dynamics.compiler.jaxprs import needed_eqns

LARGEST_STATE = 96  # 32-bit registers for the numbers that a loop carries, of the 255 that a thread has
LARGEST_STORE = 4_096  # entries per game that are written along the way
WRITTEN_OUT = 4  # iterations of a scan up to which it is unrolled
LOOPS = {"while", "scan"}


class Rewriter:
    """Evaluates a jaxpr over all games with values of shape () and (lanes,) only.

    Attributes:
        games: their axis, and what is computed of their numbers.
        constant: puts a known array into memory.
        store: writes a row: of its number, its place, its entries and what they are.
        stores: shape and dtype of what is written along the way.
    """

    def __init__(self, games: Games, constant: Callable[[np.ndarray], Memory], store: Callable[..., None]):
        self.games, self.constant, self.store = games, constant, store
        self.stores: list[tuple[tuple[int, ...], np.dtype]] = []
        self.state = 0  # registers of the largest loop
        self.in_loop = False
        self.used: set[Any] = set()  # variables that somebody reads

    # Programs

    def run(self, jaxpr: Jaxpr, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """The results of a program."""
        values: dict[Var, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> Value:
            return self.numbers(atom.val, atom.aval) if is_literal(atom) else values[atom]

        needed = needed_eqns(jaxpr)
        for atoms in (jaxpr.outvars, *(eqn.invars for eqn in needed)):
            self.used.update(atom for atom in atoms if not is_literal(atom))
        for eqn in needed:
            with naming(eqn):
                results = self.eqn(eqn, [read(atom) for atom in eqn.invars])
            for variable, value in zip(eqn.outvars, results, strict=True):
                if value.data is not None and value.data.shape != self.games.small(variable.aval.shape):
                    raise Unsupported(f"{eqn.primitive.name} made {value.data.shape} of {variable.aval.shape}")
                values[variable] = value
        return [read(atom) for atom in jaxpr.outvars]

    def closed(self, closed: ClosedJaxpr | Jaxpr, inputs: Sequence[Value]) -> list[Value]:
        jaxpr, constants = opened(closed)
        known = [self.numbers(one, variable.aval) for one, variable in zip(constants, jaxpr.constvars, strict=True)]
        return self.run(jaxpr, known, inputs)

    def numbers(self, known: Any, aval: Any) -> Value:
        """What is known when the kernel is made."""
        if isinstance(known, jax.core.Tracer) or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended):
            raise Unsupported(f"a constant of type {aval.dtype}")
        if self.games.axis(aval.shape) is not None:
            raise Unsupported(f"a constant of shape {aval.shape}, as long as there are games")
        return Value(np.asarray(known, aval.dtype), aval.shape)

    def eqn(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name, params = eqn.primitive.name, eqn.params
        shapes = [variable.aval.shape for variable in eqn.outvars]
        inner = called(eqn)
        if inner is not None:
            return self.closed(inner, inputs)
        if name in CONTROL_FLOW:
            return CONTROL_FLOW[name](self, eqn, inputs)
        if name in SAME:
            return inputs
        (shape, *_) = shapes
        if inputs and inputs[0].stored is not None:
            if name in {"reshape", "broadcast_in_dim", "squeeze", "expand_dims"}:
                if math.prod(self.games.small(shape)) == math.prod(self.games.small(inputs[0].shape)):
                    return [Value(None, shape, stored=inputs[0].stored)]
        for value in inputs:
            if value.data is None:
                raise Unsupported(f"{name} of an array that a loop has written, or that is too large for registers")
        if name in ELEMENTWISE:
            return [self._elementwise(eqn.primitive, params, shape, inputs)]
        if name not in ARRAYS:
            raise Unsupported(f"{name} is no operation of kernels")
        made = ARRAYS[name](self.games, params, inputs, shape)
        made = made if isinstance(made, list) else [made]
        return [Value(data, shape) for data, shape in zip(made, shapes, strict=True)]

    def _elementwise(self, primitive, params, shape, inputs: list[Value]) -> Value:
        small, own = self.games.small(shape), self.games.axis(shape)
        data = []
        for value in inputs:
            entries, axis = value.data, self.games.axis(value.shape)
            if value.shape and axis != own:
                if own is None or len(value.shape) != len(shape) or value.shape[own] != 1:
                    raise Unsupported(f"{primitive.name} of {value.shape} for {shape}")
                entries = entries.squeeze(own)
            data.append(np.broadcast_to(entries, small))
        if all(value.known for value in inputs):
            return Value(Numbers.fold(primitive, params, data), shape)
        made = np.empty(small, object)
        for place in np.ndindex(small):
            made[place] = self.games.apply(primitive, params, *(entries[place] for entries in data))
        return Value(made, shape)

    # Loops

    def flat(self, values: Sequence[Value], avals: Sequence[Any], before: Sequence[Any] = ()) -> list[Any]:
        """The entries that a loop carries, after an iteration or, without those from before it, at first."""
        entries = []
        for value, aval in zip(values, avals, strict=True):
            if value.data is None:
                raise Unsupported("a loop carries an array that is too large for registers")
            if np.dtype(aval.dtype) not in TRITON_NUMBERS | WIDENED:
                raise Unsupported(f"numbers of type {aval.dtype}")
            for entry in objects(value.data).ravel():
                with_lanes = self.games.axis(aval.shape) is not None
                if with_lanes:
                    entries.append(self.games.numbers.lane(entry))
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

    def unflat(self, entries: Sequence[Any], avals: Sequence[Any]) -> list[Value]:
        remaining, values = iter(entries), []
        for aval in avals:
            data = np.empty(self.games.small(aval.shape), object)
            for place in np.ndindex(data.shape):
                data[place] = next(remaining)
            values.append(Value(data, aval.shape))
        return values

    def _while(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        loop = While.of(eqn)
        for_condition, for_body, carry = loop.split(inputs)
        avals = [variable.aval for variable in eqn.outvars]
        outer_condition, outer_reduced = self.games.in_condition, self.games.reduced
        self.games.reduced = False

        def condition(entries: Sequence[Any]) -> Any:
            def work() -> Any:
                self.games.in_condition = True
                (results,) = self.closed(loop.condition, [*for_condition, *self.unflat(entries, avals)])
                self.games.in_condition = outer_condition
                answer = jnp.asarray(results.data[()])
                if answer.ndim:
                    raise Unsupported("a loop that ends for each game by itself")
                return answer

            return self.games.numbers.inside(work)

        def body(entries: Sequence[Any]) -> list[Any]:
            return self.games.numbers.inside(
                lambda: self.flat(self.closed(loop.body, [*for_body, *self.unflat(entries, avals)]), avals, entries)
            )

        outer, self.in_loop = self.in_loop, True
        results = self.unflat(jax.lax.while_loop(condition, body, self.flat(carry, avals)), avals)
        self.in_loop = outer
        if self.games.reduced:  # when a block ends depends on all its games, and so do its counters
            results = [
                value if self.games.axis(aval.shape) is not None else Value(None, aval.shape)
                for value, aval in zip(results, avals, strict=True)
            ]
        self.games.reduced = outer_reduced
        return results

    def _scan(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        loop = Scan.of(eqn)
        carries, length = loop.carries, loop.length
        fixed, carry, rows = loop.split(inputs)
        avals = [variable.aval for variable in eqn.outvars]
        if not length:
            raise Unsupported("a loop of no iterations")
        if length == self.games.count:
            raise Unsupported("a loop as long as there are games")
        inner = [variable.aval for variable in opened(loop.body)[0].outvars[carries:]]

        def iteration(carry: list[Value], row: list[Value]) -> tuple[list[Value], list[Value]]:
            results = self.closed(loop.body, [*fixed, *carry, *row])
            return results[:carries], results[carries:]

        if length <= WRITTEN_OUT:
            kept = []
            for at in reversed(range(length)) if loop.reverse else range(length):
                carry, made = iteration(carry, [self.row_of(value, at) for value in rows])
                kept.append(made)
            kept = kept[::-1] if loop.reverse else kept
            return [*carry, *(self.stacked(parts, aval) for parts, aval in zip(zip(*kept), avals[carries:]))]

        used = [variable in self.used for variable in eqn.outvars[carries:]]
        numbers: list[int | None] = []
        for aval, needed in zip(avals[carries:], used, strict=True):
            numbers.append(len(self.stores) if needed else None)
            if needed:
                if math.prod(self.games.small(aval.shape)) > LARGEST_STORE:
                    raise Unsupported(f"more than {LARGEST_STORE} numbers per game are kept along the way")
                self.stores.append((aval.shape, np.dtype(aval.dtype)))
        memories = [self.in_memory(value) for value in rows]

        def body(at: Any, entries: list[Any]) -> list[Any]:
            def work() -> list[Any]:
                place = np.int32(length - 1) - at if loop.reverse else at
                row = [
                    Value(memory.row(place), value.shape[1:]) if isinstance(memory, Memory) else memory
                    for memory, value in zip(memories, rows, strict=True)
                ]
                carry, made = iteration(self.unflat(entries, avals[:carries]), row)
                for number, value, aval in zip(numbers, made, inner, strict=True):
                    if number is not None:
                        if value.data is None:
                            raise Unsupported("loops within loops keep numbers along the way")
                        self.store(number, place, objects(value.data).ravel(), aval)
                return self.flat(carry, avals[:carries], entries)

            return self.games.numbers.inside(work)

        if self.in_loop and any(number is not None for number in numbers):
            raise Unsupported("loops within loops keep numbers along the way")
        outer, self.in_loop = self.in_loop, True
        results = jax.lax.fori_loop(np.int32(0), np.int32(length), body, self.flat(carry, avals[:carries]))
        self.in_loop = outer
        kept = [Value(None, aval.shape, stored=number) for number, aval in zip(numbers, avals[carries:], strict=True)]
        return [*self.unflat(results, avals[:carries]), *kept]

    def row_of(self, value: Value, at: int) -> Value:
        if value.data is not None:
            return Value(value.data[at, ...], value.shape[1:])
        if value.memory is None:
            raise Unsupported("a loop reads what another has written")
        return Value(value.memory.row(np.int32(at)), value.shape[1:])

    def stacked(self, parts: Sequence[Value], aval: Any) -> Value:
        if len(parts) == 1 and parts[0].stored is not None:
            return Value(None, aval.shape, stored=parts[0].stored)
        if any(part.data is None for part in parts):
            raise Unsupported("loops within loops keep numbers along the way")
        small = [np.broadcast_to(part.data, self.games.small(aval.shape)[1:]) for part in parts]
        return Value(joined(small, np.stack), aval.shape)

    def in_memory(self, value: Value) -> Memory | Value:
        """Where a loop finds the rows of an array; an array whose rows are equal is its row."""
        if value.memory is not None:
            return value.memory
        if value.known:
            if (value.data == value.data[:1]).all():
                return Value(value.data[0, ...], value.shape[1:])
            if self.games.axis(value.shape) is None:
                return self.constant(value.data)
        raise Unsupported("a loop reads the rows of an array that was computed")

    def _cond(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        index, *rest = inputs
        programs = branches(eqn)
        if index.known:
            return self.closed(programs[min(max(int(index.data), 0), len(programs) - 1)], rest)
        cases = [self.closed(branch, rest) for branch in programs]
        entry = index.data[()]
        ends = (np.asarray(number, dtype_of(entry))[()] for number in (0, len(programs) - 1))
        which = self.games.apply(jax.lax.clamp_p, {}, next(ends), entry, next(ends))
        results = []
        for values in zip(*cases, strict=True):
            if any(value.data is None for value in values):
                raise Unsupported("a branch keeps numbers along the way")
            chosen = objects(values[-1].data)
            for place in range(len(programs) - 2, -1, -1):
                here = self.games.apply(jax.lax.eq_p, {}, which, np.asarray(place, dtype_of(entry))[()])
                pick = partial(self.games.apply, jax.lax.select_n_p, {}, here)
                chosen = each(pick, chosen, objects(values[place].data))
            results.append(Value(chosen, values[0].shape))
        return results


CONTROL_FLOW: dict[str, Callable[[Rewriter, JaxprEqn, list[Value]], list[Value]]] = {
    "while": Rewriter._while,
    "scan": Rewriter._scan,
    "cond": Rewriter._cond,
}
