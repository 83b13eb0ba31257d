"""Rules for calls, loops and branches."""

import math
from typing import Any

from llvmlite import ir

from dynamics.compiler._jax import CALLS, Scan, While, branches, called
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.llvm.context import FEW_ENTRIES, LoweredArray
from dynamics.compiler.llvm.operations import dtype_of
from dynamics.compiler.llvm.rules import RuleContext, lower_jaxpr, lowering


@lowering(*CALLS)
def lower_call(ctx: RuleContext, *inputs: LoweredArray, **_: Any) -> list[LoweredArray]:
    """Calls are inlined."""
    return lower_jaxpr(ctx.function, called(ctx.eqn), inputs, ctx.targets)


@lowering("while")
def lower_while(ctx: RuleContext, *inputs: LoweredArray, **_: Any) -> list[LoweredArray]:
    function, avals, loop = ctx.function, ctx.avals_out, While.of(ctx.eqn)
    cond_consts, body_consts, init = loop.split(inputs)

    def condition(carried: list[Any]) -> Any:
        (flag,) = lower_jaxpr(function, loop.condition, [*cond_consts, *function.unflatten(carried, avals)])
        if flag.batched:
            raise Unsupported("every game stops when it likes")
        return function.entries(flag)[()]

    def body(carried: list[Any]) -> list[Any]:
        outputs = lower_jaxpr(function, loop.body, [*body_consts, *function.unflatten(carried, avals)])
        return function.flatten(outputs, avals)

    return function.unflatten(function.write_while(function.flatten(init, avals), condition, body), avals)


@lowering("scan")
def lower_scan(ctx: RuleContext, *inputs: LoweredArray, **_: Any) -> list[LoweredArray]:
    """A loop that reads a row of some inputs in every iteration, and writes a row of some outputs, both in memory."""
    function, builder, loop = ctx.function, ctx.function.builder, Scan.of(ctx.eqn)
    carries = loop.carries
    consts, init, stacked_in = loop.split(inputs)
    stacked_in = [function.spill(array) for array in stacked_in]
    carry_avals, stacked_avals = ctx.avals_out[:carries], ctx.avals_out[carries:]
    stacked_out = []
    for aval, target in zip(stacked_avals, ctx.targets[carries:], strict=True):
        dtype, shape, batched = dtype_of(aval.dtype), function.shape_of(aval), function.is_batched(aval)
        if target is None:
            stacked_out.append(function.allocate(dtype, shape, batched))
        else:
            stacked_out.append(LoweredArray(dtype, shape, batched, None, target))

    def body(at: Any, carried: list[Any]) -> list[Any]:
        at = builder.sub(function.index(loop.length - 1), at) if loop.reverse else at
        row_targets = [function.row_memory(array, at) for array in stacked_out]
        carry = function.unflatten(carried, carry_avals)
        rows = [function.row(array, at) for array in stacked_in]
        outputs = lower_jaxpr(function, loop.body, [*consts, *carry, *rows], [*[None] * carries, *row_targets])
        for row, target, whole in zip(outputs[carries:], row_targets, stacked_out, strict=True):
            function.copy_to(row._replace(batched=whole.batched), target)
        return function.flatten(outputs[:carries], carry_avals)

    carried = function.write_for(loop.length, function.flatten(init, carry_avals), body)
    return [*function.unflatten(carried, carry_avals), *stacked_out]


@lowering("cond")
def lower_cond(ctx: RuleContext, which: LoweredArray, *operands: LoweredArray, **_: Any) -> list[LoweredArray]:
    function, builder, avals = ctx.function, ctx.function.builder, ctx.avals_out
    cases = branches(ctx.eqn)
    if which.batched:
        raise Unsupported("games take different branches")
    index = function.entries(which)[()]
    # What is loaded in one branch is not there in another one, so that small arrays are read before.
    operands = [
        array._replace(entries=function.entries(array))
        if array.entries is None and math.prod(array.shape) <= FEW_ENTRIES
        else array
        for array in operands
    ]
    compare = builder.icmp_signed if which.dtype.kind == "i" else builder.icmp_unsigned

    def lower_branch(place: int) -> list[Any]:
        return function.flatten(lower_jaxpr(function, cases[place], operands), avals)

    def lower_from(place: int) -> list[Any]:
        """This branch where the index is not larger, or a later one."""
        if place == len(cases) - 1:
            return lower_branch(place)
        here = compare("<=", index, ir.Constant(index.type, place))
        return function.write_if(here, lambda: lower_branch(place), lambda: lower_from(place + 1))

    return function.unflatten(lower_from(0), avals)
