"""A program for many games, written into a function: what the functions of a CPU and the kernels of a GPU share."""

from collections.abc import Sequence
from typing import Any

from dynamics.compiler._jax import ClosedJaxpr
from dynamics.compiler.llvm import array_rules, control_flow  # noqa: F401 (they register rules)
from dynamics.compiler.llvm.context import FunctionContext, LoweredArray, Memory
from dynamics.compiler.llvm.operations import dtype_of
from dynamics.compiler.llvm.rules import lower_jaxpr


def write_program(
    function: FunctionContext, closed: ClosedJaxpr, inputs: Sequence[Any], outputs: Sequence[Any], lane: Any
) -> None:
    """Write a program for the games side by side, from the one of this index on: a vector tile, or one game.

    Args:
        function: where its builder stands.
        closed: the program.
        inputs, outputs: pointers to its arrays.
        lane: the index, an LLVM value.
    """
    jaxpr = closed.jaxpr

    def memory(pointer: Any, aval: Any, constant: bool) -> Memory:
        if function.is_batched(aval):
            return Memory(pointer, function.index(0), function.batch_size, lane, constant)
        return Memory(pointer, function.index(0), 1, function.index(0), constant)

    def argument(pointer: Any, aval: Any) -> LoweredArray:
        shape, batched = function.shape_of(aval), function.is_batched(aval)
        return LoweredArray(dtype_of(aval.dtype), shape, batched, None, memory(pointer, aval, True))

    arrays = [argument(pointer, v.aval) for pointer, v in zip(inputs, jaxpr.invars, strict=True)]
    targets = [memory(pointer, v.aval, False) for pointer, v in zip(outputs, jaxpr.outvars, strict=True)]
    results = lower_jaxpr(function, closed, arrays, targets)
    for array, target, variable in zip(results, targets, jaxpr.outvars, strict=True):
        function.copy_to(array._replace(batched=function.is_batched(variable.aval)), target)
