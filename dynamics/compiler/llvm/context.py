"""What the rules of a lowering write LLVM with: types, constants, memory, loops and branches.

An array of the program is a NumPy array of LLVM values here, one per entry of one game. On a CPU an entry that differs
from game to game is a vector, a few games of the batch wide (the vector tile), on a GPU a scalar (`targets`); one that
is the same for all games is a scalar.
"""

import itertools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer
from llvmlite import ir

from dynamics.compiler.errors import Unsupported
from dynamics.compiler.llvm import jit
from dynamics.compiler.llvm.operations import BOOL, FLOATS, TYPES, dtype_of, is_vector
from dynamics.compiler.llvm.targets import Target

MOST_ENTRIES = 4_096  # of an array per game
FEW_ENTRIES = 64  # of an array that is read from memory as a whole


class Memory(NamedTuple):
    """Where an array lies in memory: entry after entry, each of them for all games of the batch.

    Attributes:
        pointer: to the first entry of the first game.
        offset: of the first entry of this array, in entries.
        stride: from an entry to the next one: the batch size, or 1 of what is the same for all games.
        lane: the first game of the vector tile.
        constant: whether nobody writes there while the function runs.
    """

    pointer: Any
    offset: Any
    stride: int
    lane: Any
    constant: bool


class LoweredArray(NamedTuple):
    """A variable of the program, without the batch axis: its entries as LLVM values, or where they lie in memory."""

    dtype: np.dtype
    shape: tuple[int, ...]
    batched: bool
    entries: np.ndarray | None
    memory: Memory | None = None


class FunctionContext:
    """The function that is written: it runs a program for the games of a batch, one vector tile after another.

    Attributes:
        batch_size: the number of games; an array is batched if its last axis is as long.
        target: what the function is written for.
        module: the LLVM module.
        builder: writes instructions, at the place that the program has come to.
        contracts: whether a product and a sum may become one instruction.
    """

    def __init__(self, batch_size: int, target: Target):
        self.batch_size, self.target, self.contracts = batch_size, target, True
        self.module = ir.Module()
        self.builder: Any = None
        self._operations = itertools.count()
        self._stack = 0
        self._constants: dict[Any, Any] = {}  # llvmlite writes each of them once

    # Types and shapes

    def type_of(self, dtype: Any, batched: bool) -> Any:
        """The LLVM type of an entry.

        Raises:
            Unsupported: there is none.
        """
        kind = TYPES.get(dtype_of(dtype))
        if kind is None:
            raise Unsupported(f"numbers of type {dtype}")
        return self.target.batched(kind) if batched else kind

    def is_batched(self, aval: Any) -> bool:
        """Whether the last axis is that of the batch."""
        return aval.shape[-1:] == (self.batch_size,)

    def shape_of(self, aval: Any) -> tuple[int, ...]:
        """The shape without the batch axis."""
        return aval.shape[:-1] if self.is_batched(aval) else aval.shape

    def count_operation(self) -> None:
        """Called for every entry that is computed.

        Raises:
            Unsupported: there are too many.
        """
        if next(self._operations) > self.target.most_operations:
            raise Unsupported(f"more than {self.target.most_operations} operations")

    # Constants

    def splat(self, number: Any) -> Any:
        """A number of the type of those that differ from game to game: a vector with it in every lane."""
        return self.target.splat(self.builder, number)

    def constant(self, number: Any, dtype: Any, batched: bool = False) -> Any:
        """A known number as a scalar or vector."""
        dtype = np.dtype(dtype)
        number = float(number) if dtype in FLOATS else int(number)
        bits = struct.pack("d", number) if isinstance(number, float) else number  # 0.0 is not -0.0
        key = dtype, batched, bits
        if key not in self._constants:
            made = ir.Constant(self.type_of(dtype, False), number)
            self._constants[key] = self.splat(made) if batched else made
        return self._constants[key]

    def constant_like(self, number: Any, other: Any, dtype: Any) -> Any:
        """A known number, a vector where the other value is one."""
        return self.constant(number, dtype, is_vector(other))

    def index(self, number: int) -> Any:
        """A constant of the type of indices."""
        return ir.Constant(ir.IntType(64), number)

    def constant_array(self, value: Any, aval: Any) -> LoweredArray:
        """An array that is known when the program is compiled.

        Raises:
            Unsupported: it is a tracer, has a batch axis or is too large.
        """
        if isinstance(value, Tracer):
            raise Unsupported("a constant that is not known")
        data = np.asarray(value, dtype_of(aval.dtype))
        if self.is_batched(aval) or data.size > MOST_ENTRIES:
            raise Unsupported(f"a constant of shape {data.shape}")
        entries = np.empty(data.shape, object)
        for index in np.ndindex(data.shape):
            entries[index] = self.constant(data[index], data.dtype)
        return LoweredArray(data.dtype, data.shape, False, entries)

    def declare(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """A function that is defined elsewhere: by LLVM, or by the library of C."""
        declared = self.module.globals.get(name)
        return declared or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    # Memory

    def address(self, memory: Memory, dtype: np.dtype, entry: int) -> Any:
        """A pointer to an entry, in the first lane of the vector tile, and the type that is stored there."""
        place = self.builder.add(memory.offset, self.index(entry))
        place = self.builder.add(self.builder.mul(place, self.index(memory.stride)), memory.lane)
        kind = self.stored_type(dtype)
        return self.builder.gep(memory.pointer, [place], source_etype=kind), kind

    def stored_type(self, dtype: np.dtype) -> Any:
        """XLA keeps a truth value in a byte; in registers it is one bit."""
        return ir.IntType(8) if dtype == BOOL else self.type_of(dtype, False)

    def load(self, array: LoweredArray, entry: int) -> Any:
        """Read an entry of an array from memory."""
        address, kind = self.address(array.memory, array.dtype, entry)
        kind = self.target.batched(kind) if array.batched else kind
        # Aligned as one number is: a vector tile may begin anywhere.
        loaded = self.builder.load(address, align=max(1, array.dtype.itemsize), typ=kind)
        if array.memory.constant:  # lets LLVM move the load out of loops
            loaded.set_metadata("invariant.load", self.module.add_metadata([]))
        if array.dtype == BOOL:
            return self.builder.icmp_unsigned("!=", loaded, ir.Constant(kind, None))
        return loaded

    def store(self, number: Any, memory: Memory, dtype: np.dtype, entry: int) -> None:
        """Write an entry of an array to memory."""
        address, kind = self.address(memory, dtype, entry)
        if dtype == BOOL:
            number = self.builder.zext(number, self.target.batched(kind) if is_vector(number) else kind)
        self.builder.store(number, address, align=max(1, dtype.itemsize))

    def entries(self, array: LoweredArray) -> np.ndarray:
        """The entries of an array, read where it lies in memory.

        Raises:
            Unsupported: there are too many.
        """
        if array.entries is not None:
            return array.entries
        if math.prod(array.shape) > MOST_ENTRIES:
            raise Unsupported(f"an array of shape {array.shape} per game")
        entries = np.empty(array.shape, object)
        for number, index in enumerate(np.ndindex(array.shape)):
            entries[index] = self.load(array, number)
        return entries

    def row(self, array: LoweredArray, at: Any) -> LoweredArray:
        """A row of an array in memory, by an index that is known when the program runs."""
        shape = array.shape[1:]
        if array.memory is None:
            raise Unsupported("a loop over the rows of an array that was computed")
        row = LoweredArray(array.dtype, shape, array.batched, None, self.row_memory(array, at))
        return row if math.prod(shape) > FEW_ENTRIES else row._replace(entries=self.entries(row))

    def row_memory(self, array: LoweredArray, at: Any) -> Memory:
        """Where a row of an array lies."""
        step = self.builder.mul(at, self.index(math.prod(array.shape[1:])))
        return array.memory._replace(offset=self.builder.add(array.memory.offset, step))

    def spill(self, array: LoweredArray) -> LoweredArray:
        """The array with a place in memory, so that a loop may read its rows."""
        if array.memory is not None:
            return array
        spilled = self.allocate(array.dtype, array.shape, array.batched)
        self.copy_to(array, spilled.memory)
        return spilled

    def allocate(self, dtype: np.dtype, shape: tuple[int, ...], batched: bool) -> LoweredArray:
        """An array on the stack, for one vector tile.

        Raises:
            Unsupported: there is no more room.
        """
        stride = self.target.width if batched else 1
        count = math.prod(shape) * stride
        self._stack += count * dtype.itemsize
        if self._stack > self.target.most_stack:
            raise Unsupported("much memory for what loops write")
        with self.builder.goto_entry_block():  # elsewhere an alloca would take new memory at every iteration
            pointer = self.builder.alloca(self.stored_type(dtype), self.index(count))
            pointer.align = 64
            pointer.type = jit.POINTER  # opaque: scalars are stored there, or vectors of them
        memory = Memory(pointer, self.index(0), stride, self.index(0), False)
        return LoweredArray(dtype, shape, batched, None, memory)

    def copy_to(self, array: LoweredArray, target: Memory) -> None:
        """Copy an array to a place in memory."""
        if array.memory is target:
            return
        count = math.prod(array.shape)
        if array.entries is not None or count <= 16:
            for number, entry in enumerate(self.entries(array).ravel()):
                self.store(self.splat(entry) if array.batched else entry, target, array.dtype, number)
            return

        def body(at: Any, _: list[Any]) -> list[Any]:
            source = array.memory._replace(offset=self.builder.add(array.memory.offset, at))
            entry = self.load(array._replace(memory=source), 0)
            self.store(entry, target._replace(offset=self.builder.add(target.offset, at)), array.dtype, 0)
            return []

        self.write_for(count, [], body)

    # Loops and branches

    def any_lane(self, flags: Any) -> Any:
        """Whether a flag is set for any of the games side by side."""
        return self.target.any_lane(self.builder, flags)

    def flatten(self, arrays: Sequence[LoweredArray], avals: Sequence[Any]) -> list[Any]:
        """All entries as a list: what a loop carries, or what a branch returns."""
        flat = []
        for array, aval in zip(arrays, avals, strict=True):
            entries = self.entries(array).ravel()
            flat += [self.splat(entry) if self.is_batched(aval) else entry for entry in entries]
        return flat

    def unflatten(self, flat: Sequence[Any], avals: Sequence[Any]) -> list[LoweredArray]:
        """Arrays of these shapes from a list of their entries."""
        remaining, arrays = iter(flat), []
        for aval in avals:
            shape = self.shape_of(aval)
            entries = np.empty(shape, object)
            for index in np.ndindex(shape):
                entries[index] = next(remaining)
            arrays.append(LoweredArray(dtype_of(aval.dtype), shape, self.is_batched(aval), entries))
        return arrays

    def write_if(self, flag: Any, then: Callable[[], list[Any]], otherwise: Callable[[], list[Any]]) -> list[Any]:
        """The values of one function where a flag is set, of the other one where it is not; only that one runs.

            br i1 %flag, label %one, label %other
        one:                                            ; then, and branches of its own
            br label %end
        other:                                          ; otherwise
            br label %end
        end:
            %value = phi double [%then, %one], [%otherwise, %other]
        """
        blocks = [self.builder.append_basic_block(name) for name in ("one", "other", "end")]
        self.builder.cbranch(flag, *blocks[:2])
        branches = []
        for block, write in zip(blocks[:2], (then, otherwise), strict=True):
            self.builder.position_at_end(block)
            values = write()
            branches.append((self.builder.block, values))  # the block in which the branch ends, maybe another one
            self.builder.branch(blocks[2])
        self.builder.position_at_end(blocks[2])
        joined = []
        for place, value in enumerate(branches[0][1]):
            phi = self.builder.phi(value.type)
            for block, values in branches:
                phi.add_incoming(values[place], block)
            joined.append(phi)
        return joined

    def write_while(
        self, init: Sequence[Any], condition: Callable[[list[Any]], Any], body: Callable[[list[Any]], list[Any]]
    ) -> list[Any]:
        """The carried values after a loop. They stay in registers as long as there are enough of these.

            br label %head
        head:
            %carried = phi double [%init, %before], [%next, %body]
            br i1 %condition, label %body, label %end
        body:
            %next = ...
            br label %head
        end:
        """
        before = self.builder.block
        head, inside, end = (self.builder.append_basic_block(name) for name in ("head", "body", "end"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        carried = [self.builder.phi(value.type) for value in init]
        for phi, value in zip(carried, init, strict=True):
            phi.add_incoming(value, before)
        self.builder.cbranch(condition(carried), inside, end)
        self.builder.position_at_end(inside)
        following = body(carried)
        last = self.builder.block  # the block in which the body ends, which may hold loops of its own
        self.builder.branch(head)
        for phi, value in zip(carried, following, strict=True):
            phi.add_incoming(value, last)
        self.builder.position_at_end(end)
        return carried

    def write_for(self, length: int, init: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """The carried values after so many iterations; the body gets the index of each."""

        def condition(carried: list[Any]) -> Any:
            return self.builder.icmp_unsigned("<", carried[0], self.index(length))

        def step(carried: list[Any]) -> list[Any]:
            following = body(carried[0], carried[1:])
            return [self.builder.add(carried[0], self.index(1)), *following]

        return self.write_while([self.index(0), *init], condition, step)[1:]
