r"""Loops over many games as machine code: the state of some registers full of games stays in registers for a whole run.

XLA compiles a loop over arrays operation by operation, and every step reads and writes the nearest cache. Here the
program of such a loop, as `lanes` leaves it, with the games in the last axis of its arrays, is translated to LLVM, one
number of the games at a time, for a strip of a few registers; a loop goes over the strips. XLA calls the result as a
foreign function (`foreign_functions`). What is not known here is left to XLA: the whole program then.

Every operation is that of JAX, elementwise, so that the numbers of a game do not depend on its neighbours; products
and sums may be contracted, as by XLA. Elementary functions are those of `elementary`, or of the library of C.
"""

import functools
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import numpy as np
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import mlir
from llvmlite import ir

from dynamics.compiler import fallback
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.jaxprs import CALLS, SAME, inner_programs, is_literal, needed_equations, scan_counts
from dynamics.compiler.llvm import jit
from dynamics.compiler.llvm.operations import (
    BOOL,
    ELEMENTWISE,
    FLOATS,
    TYPES,
    dtype_of,
    is_wide,
)
from dynamics.compiler.llvm.vector_width import strip_width

logger = logging.getLogger(__name__)

MOST_OPERATIONS = 20_000  # on numbers of a game; the compiler takes many seconds for so many
MOST_ENTRIES = 4_096  # of an array per game
MOST_STACK = 2**19  # bytes for rows that loops write for other loops


class _Memory(NamedTuple):
    """Numbers in memory, `stride` of which lie between two entries of a game.

    Attributes:
        pointer: to the first one.
        offset: of the first entry, in entries.
        stride: the number of games, or 1 of what is the same for all.
        lane: where the strip begins.
        constant: whether nobody writes there while the function runs.
    """

    pointer: Any
    offset: Any
    stride: int
    lane: Any
    constant: bool


class _Array(NamedTuple):
    """A variable of a program, without the axis of the games: its numbers, or where they lie."""

    dtype: np.dtype
    shape: tuple[int, ...]
    wide: bool
    entries: np.ndarray | None
    memory: _Memory | None = None


class _Translator:
    """Writes the function that runs a program for all games of a block."""

    def __init__(self, lanes: int, width: int):
        self.lanes, self.width = lanes, width
        self.module = ir.Module()
        self.builder: Any = None
        self.operations = itertools.count()
        self.stack = 0

    # Types

    def type_of(self, dtype: Any, wide: bool) -> Any:
        kind = TYPES.get(dtype_of(dtype))
        if kind is None:
            raise Unsupported(f"numbers of type {dtype}")
        return ir.VectorType(kind, self.width) if wide else kind

    def has_games(self, aval: Any) -> bool:
        return aval.shape[-1:] == (self.lanes,)

    def small(self, aval: Any) -> tuple[int, ...]:
        return aval.shape[:-1] if self.has_games(aval) else aval.shape

    def widened(self, number: Any) -> Any:
        """A number for all games of the strip."""
        if is_wide(number):
            return number
        kind = ir.VectorType(number.type, self.width)
        if isinstance(number, ir.Constant):
            made = ir.FormattedConstant(kind, "")
            made.constant = f"splat ({number.type} {number.get_reference()})"
            return made
        first = ir.VectorType(ir.IntType(32), self.width)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(first, None))

    def constant(self, number: Any, dtype: Any, wide: bool = False) -> Any:
        dtype = np.dtype(dtype)
        kind = self.type_of(dtype, False)
        number = float(number) if dtype in FLOATS else int(number)
        made = ir.Constant(kind, number)
        return self.widened(made) if wide else made

    def like(self, number: Any, other: Any, dtype: Any) -> Any:
        return self.constant(number, dtype, is_wide(other))

    def index(self, number: int) -> Any:
        return ir.Constant(ir.IntType(64), number)

    def known(self, value: Any, aval: Any) -> _Array:
        """What is known when the program is compiled."""
        if isinstance(value, jax.core.Tracer):
            raise Unsupported("a constant that is not known")
        data = np.asarray(value, dtype_of(aval.dtype))
        if self.has_games(aval) or data.size > MOST_ENTRIES:
            raise Unsupported(f"a constant of shape {data.shape}")
        made = np.empty(data.shape, object)
        for place in np.ndindex(data.shape):
            made[place] = self.constant(data[place], data.dtype)
        return _Array(data.dtype, data.shape, False, made)

    def function(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """One that is found elsewhere."""
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    # Memory

    def address(self, memory: _Memory, dtype: np.dtype, entry: int) -> Any:
        place = self.builder.add(memory.offset, self.index(entry))
        place = self.builder.add(self.builder.mul(place, self.index(memory.stride)), memory.lane)
        kind = self.stored(dtype)
        return self.builder.gep(memory.pointer, [place], source_etype=kind), kind

    def stored(self, dtype: np.dtype) -> Any:
        return ir.IntType(8) if dtype == BOOL else self.type_of(dtype, False)

    def load(self, array: _Array, entry: int) -> Any:
        address, kind = self.address(array.memory, array.dtype, entry)
        kind = ir.VectorType(kind, self.width) if array.wide else kind
        made = self.builder.load(address, align=max(1, array.dtype.itemsize), typ=kind)
        if array.memory.constant:
            made.set_metadata("invariant.load", self.module.add_metadata([]))
        if array.dtype == BOOL:
            return self.builder.icmp_unsigned("!=", made, ir.Constant(kind, None))
        return made

    def store(self, number: Any, memory: _Memory, dtype: np.dtype, entry: int) -> None:
        address, kind = self.address(memory, dtype, entry)
        if dtype == BOOL:
            number = self.builder.zext(number, ir.VectorType(kind, self.width) if is_wide(number) else kind)
        self.builder.store(number, address, align=max(1, dtype.itemsize))

    def entries(self, array: _Array) -> np.ndarray:
        """The numbers of an array, read where it lies in memory."""
        if array.entries is not None:
            return array.entries
        if math.prod(array.shape) > MOST_ENTRIES:
            raise Unsupported(f"an array of shape {array.shape} per game")
        made = np.empty(array.shape, object)
        for number, place in enumerate(np.ndindex(array.shape)):
            made[place] = self.load(array, number)
        return made

    def row(self, array: _Array, at: Any) -> _Array:
        """A row of an array, by a number that is known when the program runs."""
        shape = array.shape[1:]
        if array.memory is None:
            raise Unsupported("a loop over the rows of an array that was computed")
        step = self.builder.mul(at, self.index(math.prod(shape)))
        memory = array.memory._replace(offset=self.builder.add(array.memory.offset, step))
        found = _Array(array.dtype, shape, array.wide, None, memory)
        return found if math.prod(shape) > 64 else found._replace(entries=self.entries(found))

    def spilled(self, array: _Array) -> _Array:
        """An array with a place in memory, so that a loop may read its rows."""
        if array.memory is not None:
            return array
        made = self.room(array.dtype, array.shape, array.wide)
        self.written(array, made.memory)
        return made

    def room(self, dtype: np.dtype, shape: tuple[int, ...], wide: bool) -> _Array:
        """Memory that is nobody else's."""
        stride = self.width if wide else 1
        count = math.prod(shape) * stride
        self.stack += count * dtype.itemsize
        if self.stack > MOST_STACK:
            raise Unsupported("much memory for what loops write")
        with self.builder.goto_entry_block():
            pointer = self.builder.alloca(self.stored(dtype), self.index(count))
            pointer.align = 64
            pointer.type = jit.POINTER  # to whatever is stored there: numbers or strips of them
        memory = _Memory(pointer, self.index(0), stride, self.index(0), False)
        return _Array(dtype, shape, wide, None, memory)

    def written(self, array: _Array, target: _Memory) -> None:
        """Copy an array to its place."""
        if array.memory is target:
            return
        count = math.prod(array.shape)
        if array.entries is not None or count <= 16:
            for number, entry in enumerate(self.entries(array).ravel()):
                self.store(self.widened(entry) if array.wide else entry, target, array.dtype, number)
            return

        def one(at: Any, _: list[Any]) -> list[Any]:
            source = array.memory._replace(offset=self.builder.add(array.memory.offset, at))
            entry = self.load(array._replace(memory=source), 0)
            self.store(entry, target._replace(offset=self.builder.add(target.offset, at)), array.dtype, 0)
            return []

        self.counted(count, [], one)

    # Programs

    def closed(self, program: Any, inputs: Sequence[_Array], targets: Sequence[_Memory | None] = ()) -> list[_Array]:
        jaxpr, constants = getattr(program, "jaxpr", program), getattr(program, "consts", ())
        known = [self.known(one, variable.aval) for one, variable in zip(constants, jaxpr.constvars, strict=True)]
        return self.run(jaxpr, [*known, *inputs], targets)

    def run(self, jaxpr: Any, inputs: Sequence[_Array], targets: Sequence[_Memory | None] = ()) -> list[_Array]:
        """The results of a program; rows of its results are written to the targets, where there are such."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))
        wanted = {v: place for v, place in zip(jaxpr.outvars, targets) if place is not None and not is_literal(v)}

        def read(atom: Any) -> _Array:
            return self.known(atom.val, atom.aval) if is_literal(atom) else values[atom]

        for equation in needed_equations(jaxpr):
            given = [read(atom) for atom in equation.invars]
            places = [wanted.get(variable) for variable in equation.outvars]
            found = self.equation(equation, given, places)
            for variable, array in zip(equation.outvars, found, strict=True):
                values[variable] = array
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, inputs: list[_Array], targets: list[_Memory | None]) -> list[_Array]:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            return self.closed(params[CALLS[name]], inputs, targets)
        if name == _in_machine_code.name:
            return self.closed(params["jaxpr"], inputs, targets)
        if name == "while":
            return self.over_turns(equation, inputs)
        if name == "scan":
            return self.over_rows(equation, inputs, targets)
        if name == "cond":
            return self.cond(equation, inputs)
        if name in SAME:
            return inputs
        method = getattr(self, f"arrange_{name}", None)
        if method is None and name not in ELEMENTWISE:
            raise Unsupported(f"{name} is not known here")
        (aval,) = [variable.aval for variable in equation.outvars]
        wide, shape = self.has_games(aval), self.small(aval)
        if not wide and name != "reduce_or" and any(array.wide for array in inputs):
            raise Unsupported(f"{name} takes games together or apart")
        if method is None:
            entries = self.elementwise(equation, inputs, shape, wide)
        else:
            entries = method(params, inputs, shape, wide)
        if entries.shape != shape:
            raise Unsupported(f"{name} made {entries.shape} of {shape}")
        return [_Array(dtype_of(aval.dtype), shape, wide, entries)]

    def elementwise(self, equation: Any, inputs: list[_Array], shape: tuple[int, ...], wide: bool) -> np.ndarray:
        made = np.empty(shape, object)
        name, params = equation.primitive.name, equation.params
        sources = []
        for array in inputs:
            entries = self.entries(array)
            if wide and not array.wide and entries.ndim == len(shape) + 1 and entries.shape[-1] == 1:
                entries = entries[..., 0]  # an axis of length 1 stands beside that of the games
            if array.wide and not wide or entries.ndim not in (len(shape), 0):
                raise Unsupported(f"{name} of {array.shape} for {shape}")
            sources.append(np.broadcast_to(entries, shape))
        dtypes = [array.dtype for array in inputs]
        compute = ELEMENTWISE[name]
        for place in np.ndindex(shape):
            if next(self.operations) > MOST_OPERATIONS:
                raise Unsupported(f"more than {MOST_OPERATIONS} operations")
            numbers = [source[place] for source in sources]
            if any(map(is_wide, numbers)):
                numbers = [self.widened(number) for number in numbers]
            made[place] = compute(self, name, params, dtypes, *numbers)
        return made

    # Shapes: the axis of the games is the last one, and stays it

    def arrange_broadcast_in_dim(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        array = inputs[0]
        places = list(params["broadcast_dimensions"])
        if array.wide and (not wide or places.pop() != len(shape)):
            raise Unsupported("the axis of the games is moved")
        full = [1] * len(shape)
        for place, size in zip(places, array.shape, strict=True):
            if place >= len(shape):  # an axis of length 1 becomes that of the games
                if size != 1:
                    raise Unsupported("an axis becomes that of the games")
                continue
            full[place] = size
        return np.broadcast_to(self.entries(array).reshape(full), shape)

    def arrange_reshape(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        if inputs[0].wide != wide or params.get("dimensions") is not None:
            raise Unsupported("the axis of the games is reshaped")
        return self.entries(inputs[0]).reshape(shape)

    arrange_squeeze = arrange_expand_dims = lambda self, params, inputs, shape, wide: self.arrange_reshape(
        {}, inputs, shape, wide
    )

    def arrange_transpose(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        order = list(params["permutation"])
        if inputs[0].wide and order.pop() != len(shape):
            raise Unsupported("the axis of the games is moved")
        return self.entries(inputs[0]).transpose(order)

    def arrange_rev(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        if wide and len(shape) in params["dimensions"]:
            raise Unsupported("the games are turned round")
        return np.flip(self.entries(inputs[0]), params["dimensions"])

    def arrange_slice(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        array = inputs[0]
        if array.wide != wide:
            raise Unsupported("some of the games are taken out")
        strides = params["strides"] or [1] * (len(shape) + wide)
        cuts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        own = tuple(slice(*cut) for cut in itertools.islice(cuts, len(shape)))
        return self.entries(array)[own]

    def arrange_concatenate(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        if wide and params["dimension"] == len(shape):
            raise Unsupported("games are put together")
        return np.concatenate([self.entries(array) for array in inputs], params["dimension"])

    def arrange_stack(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        if params["axis"] >= len(shape):
            raise Unsupported("games are put together")
        return np.stack([self.entries(array) for array in inputs], params["axis"])

    def arrange_pad(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        array, filling = inputs
        widths = params["padding_config"]
        if any(low < 0 or high < 0 for low, high, _ in widths) or (wide and any(widths[-1])):
            raise Unsupported("an array is cut by padding")
        made = np.empty(shape, object)
        made[...] = self.entries(filling)[()]
        own = [slice(low, low + size + max(0, size - 1) * between, between + 1)
               for size, (low, _, between) in zip(array.shape, widths)]  # fmt: skip
        made[tuple(own)] = self.entries(array)
        return made

    def arrange_iota(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        if wide:
            raise Unsupported("the games are counted")
        made = np.empty(shape, object)
        for place in np.ndindex(shape):
            made[place] = self.constant(place[params["dimension"]], params["dtype"])
        return made

    def arrange_reduce_or(self, params: Any, inputs: list[_Array], shape: Any, wide: bool) -> np.ndarray:
        """Whether it is so for any game: of a strip, which is all that `lanes` asks."""
        array = inputs[0]
        if wide or not array.wide or array.shape or array.dtype != BOOL:
            raise Unsupported("games are combined")
        made = np.empty((), object)
        made[()] = self.any(self.entries(array)[()])
        return made

    def any(self, flags: Any) -> Any:
        if not is_wide(flags):
            return flags
        kind = ir.IntType(self.width)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(flags, kind), ir.Constant(kind, 0))

    # Loops and branches

    def flat(self, arrays: Sequence[_Array], avals: Sequence[Any]) -> list[Any]:
        """The numbers that a loop or branch hands on."""
        found = []
        for array, aval in zip(arrays, avals, strict=True):
            entries = self.entries(array).ravel()
            found += [self.widened(entry) if self.has_games(aval) else entry for entry in entries]
        return found

    def unflat(self, numbers: Sequence[Any], avals: Sequence[Any]) -> list[_Array]:
        remaining, found = iter(numbers), []
        for aval in avals:
            shape = self.small(aval)
            entries = np.empty(shape, object)
            for place in np.ndindex(shape):
                entries[place] = next(remaining)
            found.append(_Array(dtype_of(aval.dtype), shape, self.has_games(aval), entries))
        return found

    def either(self, flag: Any, one: Callable[[], list[Any]], other: Callable[[], list[Any]]) -> list[Any]:
        """What one function computes where the flag is set, or the other one."""
        blocks = [self.builder.append_basic_block(name) for name in ("one", "other", "end")]
        self.builder.cbranch(flag, *blocks[:2])
        arrivals = []
        for block, work in zip(blocks[:2], (one, other), strict=True):
            self.builder.position_at_end(block)
            numbers = work()
            arrivals.append((self.builder.block, numbers))
            self.builder.branch(blocks[2])
        self.builder.position_at_end(blocks[2])
        found = []
        for place, number in enumerate(arrivals[0][1]):
            phi = self.builder.phi(number.type)
            for block, numbers in arrivals:
                phi.add_incoming(numbers[place], block)
            found.append(phi)
        return found

    def loop(self, start: Sequence[Any], goes_on: Callable[[list[Any]], Any], turn: Callable[[list[Any]], list[Any]]):
        """Numbers after a loop."""
        before = self.builder.block
        head, body, end = (self.builder.append_basic_block(name) for name in ("head", "body", "end"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        carried = [self.builder.phi(number.type) for number in start]
        for phi, number in zip(carried, start, strict=True):
            phi.add_incoming(number, before)
        self.builder.cbranch(goes_on(carried), body, end)
        self.builder.position_at_end(body)
        found = turn(carried)
        last = self.builder.block
        self.builder.branch(head)
        for phi, number in zip(carried, found, strict=True):
            phi.add_incoming(number, last)
        self.builder.position_at_end(end)
        return carried

    def counted(self, length: int, start: Sequence[Any], turn: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Numbers after so many turns, each of which gets its number."""

        def goes_on(carried: list[Any]) -> Any:
            return self.builder.icmp_unsigned("<", carried[0], self.index(length))

        def one(carried: list[Any]) -> list[Any]:
            found = turn(carried[0], carried[1:])
            return [self.builder.add(carried[0], self.index(1)), *found]

        return self.loop([self.index(0), *start], goes_on, one)[1:]

    def over_turns(self, equation: Any, inputs: list[_Array]) -> list[_Array]:
        params = equation.params
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        for_test, for_body, carry = inputs[:first], inputs[first:second], inputs[second:]
        avals = [variable.aval for variable in equation.outvars]

        def goes_on(numbers: list[Any]) -> Any:
            (found,) = self.closed(params["cond_jaxpr"], [*for_test, *self.unflat(numbers, avals)])
            if found.wide:
                raise Unsupported("every game stops when it likes")
            return self.entries(found)[()]

        def turn(numbers: list[Any]) -> list[Any]:
            return self.flat(self.closed(params["body_jaxpr"], [*for_body, *self.unflat(numbers, avals)]), avals)

        return self.unflat(self.loop(self.flat(carry, avals), goes_on, turn), avals)

    def over_rows(self, equation: Any, inputs: list[_Array], targets: list[_Memory | None]) -> list[_Array]:
        params = equation.params
        (constants, carries), length = scan_counts(equation), params["length"]
        fixed, carry, rows = inputs[:constants], inputs[constants : constants + carries], inputs[constants + carries :]
        avals = [variable.aval for variable in equation.outvars]
        rows = [self.spilled(array) for array in rows]
        kept = []
        for aval, target in zip(avals[carries:], targets[carries:], strict=True):
            shape, wide = self.small(aval), self.has_games(aval)
            if target is None:
                kept.append(self.room(dtype_of(aval.dtype), shape, wide))
            else:
                kept.append(_Array(dtype_of(aval.dtype), shape, wide, None, target))

        def turn(at: Any, numbers: list[Any]) -> list[Any]:
            at = self.builder.sub(self.index(length - 1), at) if params["reverse"] else at
            places = []
            for array in kept:
                step = self.builder.mul(at, self.index(math.prod(array.shape[1:])))
                places.append(array.memory._replace(offset=self.builder.add(array.memory.offset, step)))
            given = [*fixed, *self.unflat(numbers, avals[:carries]), *[self.row(array, at) for array in rows]]
            found = self.closed(params["jaxpr"], given, [*[None] * carries, *places])
            for array, place, whole in zip(found[carries:], places, kept, strict=True):
                self.written(array._replace(wide=whole.wide), place)
            return self.flat(found[:carries], avals[:carries])

        numbers = self.counted(length, self.flat(carry, avals[:carries]), turn)
        return [*self.unflat(numbers, avals[:carries]), *kept]

    def cond(self, equation: Any, inputs: list[_Array]) -> list[_Array]:
        which, *given = inputs
        branches = equation.params["branches"]
        avals = [variable.aval for variable in equation.outvars]
        if which.wide:
            raise Unsupported("games take different branches")
        number = self.entries(which)[()]
        # What a branch reads must be there whichever is taken.
        given = [array._replace(entries=self.entries(array)) if array.entries is None and math.prod(array.shape) <= 64
                 else array for array in given]  # fmt: skip
        signed = which.dtype.kind == "i"
        compare = self.builder.icmp_signed if signed else self.builder.icmp_unsigned

        def taken(place: int) -> list[Any]:
            """The numbers of this branch or a later one."""

            def own() -> list[Any]:
                return self.flat(self.closed(branches[place], given), avals)

            if place == len(branches) - 1:
                return own()
            here = compare("<=", number, ir.Constant(number.type, place))
            return self.either(here, own, lambda: taken(place + 1))

        return self.unflat(taken(0), avals)


# From a program to a function that XLA calls


def translated(closed: ClosedJaxpr, lanes: int) -> str:
    """The name of a function for XLA that is the program.

    Args:
        closed: the games are the last axis of every array whose last axis is as long as there are lanes.
        lanes: how many games there are.

    Raises:
        Unsupported: it has an operation that is not known here, or is too long.
    """
    jaxpr = closed.jaxpr
    width = strip_width(jaxpr, lanes)
    t = _Translator(lanes, width)

    def body(builder: Any, arguments: Sequence[Any], results: Sequence[Any]) -> None:
        t.builder = builder

        def strip(at: Any, _: list[Any]) -> list[Any]:
            lane = builder.mul(at, t.index(width))

            def place(pointer: Any, aval: Any, constant: bool) -> _Memory:
                wide = t.has_games(aval)
                return _Memory(pointer, t.index(0), lanes if wide else 1, lane if wide else t.index(0), constant)

            inputs = [
                _Array(dtype_of(v.aval.dtype), t.small(v.aval), t.has_games(v.aval), None, place(pointer, v.aval, True))
                for v, pointer in zip(jaxpr.invars, arguments, strict=True)
            ]
            targets = [place(pointer, v.aval, False) for v, pointer in zip(jaxpr.outvars, results, strict=True)]
            found = t.closed(closed, inputs, targets)
            for array, target, variable in zip(found, targets, jaxpr.outvars, strict=True):
                t.written(array._replace(wide=t.has_games(variable.aval)), target)
            return []

        t.counted(lanes // width, [], strip)

    return jit.compiled(t.module, len(jaxpr.invars), len(jaxpr.outvars), body)


_in_machine_code = Primitive("games_in_machine_code")
_in_machine_code.multiple_results = True


@_in_machine_code.def_abstract_eval
def _shapes_of_results(*avals, jaxpr, lanes):
    return list(jaxpr.out_avals)


@_in_machine_code.def_impl
def _at_once(*arrays, **params):
    return jax.jit(functools.partial(_in_machine_code.bind, **params))(*arrays)


def _lowered_plainly(context, *arrays, jaxpr, lanes):
    return mlir.lower_fun(jaxpr_as_fun(jaxpr), multiple_results=True)(context, *arrays)


def _lowered(context, *arrays, jaxpr, lanes):
    try:
        name = translated(jaxpr, lanes)
        lowered = jax.ffi.ffi_lowering(name)(context, *arrays)
    except Unsupported as reason:
        logger.info("left to XLA: %s", reason)
    except Exception as error:  # of a JAX, a processor or a version of LLVM that is not known here
        fallback.report(error)
    else:
        logger.info("machine code: %s, of %d equations, for blocks of %d games", name, len(jaxpr.jaxpr.eqns), lanes)
        return lowered
    return _lowered_plainly(context, *arrays, jaxpr=jaxpr, lanes=lanes)


mlir.register_lowering(_in_machine_code, _lowered_plainly)
mlir.register_lowering(_in_machine_code, _lowered, platform="cpu")


def in_machine_code(closed: ClosedJaxpr, lanes: int) -> Callable[..., list[Any]]:
    """A function of arrays that runs a program, on a CPU as machine code where it can be.

    Args:
        closed: the games are the last axis of every array whose last axis is as long as there are lanes.
        lanes: how many games there are.
    """
    return functools.partial(_in_machine_code.bind, jaxpr=closed, lanes=lanes)


def is_machine_code(equation: Any) -> bool:
    """Whether an equation calls a program that `in_machine_code` has taken."""
    return equation.primitive is _in_machine_code


def is_known(equation: Any) -> bool:
    """Whether the operations of an equation are such as can become machine code, by their names."""
    name = equation.primitive.name
    if name in CALLS or name in ("while", "scan", "cond"):
        return all(is_known(inner) for program in inner_programs(equation) for inner in program.eqns)
    return name in ELEMENTWISE or name in SAME or hasattr(_Translator, f"arrange_{name}")
