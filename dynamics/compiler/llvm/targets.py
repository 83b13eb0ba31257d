"""What a program is written for. The rules are the same for all targets; what differs is here.

On a CPU (`Host`) the games of a vector tile lie side by side in a register, so a number that differs from game to game
is a vector. On a GPU (`dynamics.compiler.nvptx.target`) a thread has one game, and every number is a scalar.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from dynamics.compiler.errors import Unsupported
from dynamics.compiler.llvm.jit import has_function


class Target(abc.ABC):
    """What a function is written for.

    Attributes:
        width: games side by side: of a vector tile, or 1.
        most_operations: on entries of one game; LLVM takes many seconds for more.
        most_stack: bytes for what loops spill.
    """

    width: int
    most_operations: int
    most_stack: int

    @abc.abstractmethod
    def batched(self, kind: Any) -> Any:
        """The LLVM type of a number that differs from game to game, from the type of one number."""

    @abc.abstractmethod
    def splat(self, builder: Any, number: Any) -> Any:
        """A number that is the same for all games as one of that type; the latter as it is."""

    @abc.abstractmethod
    def any_lane(self, builder: Any, flags: Any) -> Any:
        """Whether a flag is set for any of the games side by side."""

    @abc.abstractmethod
    def library(self, ctx: Any, name: str, dtype: np.dtype, numbers: Sequence[Any]) -> Any:
        """A function of the library of C.

        Args:
            ctx: the function that is written (`context.FunctionContext`).
            name: its name there, for float64.
            dtype: float32 or float64.
            numbers: its arguments.

        Raises:
            Unsupported: the target has none of this name.
        """


class Host(Target):
    """The processor of this machine: vector tiles of so many games."""

    most_operations = 20_000
    most_stack = 2**19

    def __init__(self, width: int):
        self.width = width

    def batched(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.width)

    def splat(self, builder: Any, number: Any) -> Any:
        if isinstance(number.type, ir.VectorType):
            return number
        kind = self.batched(number.type)
        if isinstance(number, ir.Constant):  # llvmlite has no constant splat; LLVM's text has
            made = ir.FormattedConstant(kind, "")
            made.constant = f"splat ({number.type} {number.get_reference()})"
            return made
        # LLVM's idiom of a broadcast: the scalar into lane 0, and a shuffle that takes lane 0 everywhere.
        first = ir.VectorType(ir.IntType(32), self.width)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(first, None))

    def any_lane(self, builder: Any, flags: Any) -> Any:
        """A vector of bits is an integer, which is 0 or not."""
        if not isinstance(flags.type, ir.VectorType):
            return flags
        kind = ir.IntType(self.width)
        return builder.icmp_unsigned("!=", builder.bitcast(flags, kind), ir.Constant(kind, 0))

    def library(self, ctx: Any, name: str, dtype: np.dtype, numbers: Sequence[Any]) -> Any:
        """A call per game."""
        symbol = name + ("f" if dtype.itemsize == 4 else "")
        if not has_function(symbol):
            raise Unsupported(f"{name} is not in the library of this machine")
        kind = ctx.type_of(dtype, False)
        function = ctx.declare(symbol, kind, [kind] * len(numbers))
        if not any(isinstance(number.type, ir.VectorType) for number in numbers):
            return ctx.builder.call(function, numbers)
        result = ir.Constant(self.batched(kind), ir.Undefined)
        for lane in range(self.width):
            place = ir.IntType(32)(lane)
            one = ctx.builder.call(function, [ctx.builder.extract_element(number, place) for number in numbers])
            result = ctx.builder.insert_element(result, one, place)
        return result
