"""What a program is written for on a GPU: a thread that has one game, its numbers in registers of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from dynamics.compiler.errors import Unsupported
from dynamics.compiler.llvm.operations import lower_scalar_jaxpr, scalar_jaxpr
from dynamics.compiler.llvm.targets import Target
from dynamics.compiler.nvptx.large_angles import sine_or_cosine
from dynamics.compiler.nvptx.library import EXACT, LIBRARY_FUNCTIONS


class Thread(Target):
    """A thread of a GPU.

    It has no library of C, but functions of ours in place of most; with any other one a program is left to XLA. What
    loops spill lies in the memory of a thread, which is slow.
    """

    width = 1
    most_operations = 20_000
    most_stack = 2**12

    def batched(self, kind: Any) -> Any:
        return kind

    def splat(self, builder: Any, number: Any) -> Any:
        return number

    def any_lane(self, builder: Any, flags: Any) -> Any:
        return flags

    def library(self, ctx: Any, name: str, dtype: np.dtype, numbers: Sequence[Any]) -> Any:
        if name in ("sin", "cos"):  # of angles that are too large for `llvm.elementary`
            double = ir.DoubleType()
            narrow = dtype.itemsize == 4
            angle = ctx.builder.fpext(numbers[0], double) if narrow else numbers[0]
            result = sine_or_cosine(ctx, name, angle)
            return ctx.builder.fptrunc(result, ir.FloatType()) if narrow else result
        function = LIBRARY_FUNCTIONS.get(name)
        if function is None:
            raise Unsupported(f"a GPU has no function {name}")
        jaxpr = scalar_jaxpr(function, *[dtype] * len(numbers))
        before, ctx.contracts = ctx.contracts, name not in EXACT
        try:
            (result,) = lower_scalar_jaxpr(ctx, jaxpr, [(number, dtype) for number in numbers])
        finally:
            ctx.contracts = before
        return result
