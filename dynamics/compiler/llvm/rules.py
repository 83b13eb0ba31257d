"""The table of lowering rules, by the names of primitives, and the walk through a jaxpr that applies them.

A rule is a function `rule(ctx, *inputs, **params)` of what is known of the equation, its lowered inputs and its
parameters, and is registered by a decorator:

    @lowering("cond")           returns a list of lowered arrays, one per output of the equation
    @array_lowering("reshape")  returns the entries of the only output

Rules for arrays are in `array_rules`, for loops and branches in `control_flow`, for scalars in `operations`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dynamics.compiler._jax import is_literal, opened
from dynamics.compiler.errors import Unsupported, naming
from dynamics.compiler.jaxprs import interpret, needed_eqns
from dynamics.compiler.llvm.context import FunctionContext, LoweredArray, Memory
from dynamics.compiler.llvm.operations import dtype_of

RULES: dict[str, Callable[..., list[LoweredArray]]] = {}


class RuleContext(NamedTuple):
    """What a rule gets besides inputs and parameters.

    Attributes:
        function: writes LLVM.
        eqn: the equation.
        targets: for each output where it is to be written, or `None`: a rule may write it there, or return entries.
    """

    function: FunctionContext
    eqn: Any
    targets: list[Memory | None]

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.eqn.primitive.name

    @property
    def avals_out(self) -> list[Any]:
        """Shapes and types of the outputs, with the batch axis."""
        return [variable.aval for variable in self.eqn.outvars]

    @property
    def batched(self) -> bool:
        """Whether the first output has a batch axis."""
        return self.function.is_batched(self.avals_out[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first output, without the batch axis."""
        return self.function.shape_of(self.avals_out[0])


def lowering(*names: str) -> Callable[[Callable], Callable]:
    """Register a rule for primitives of these names."""

    def register(rule: Callable[..., list[LoweredArray]]) -> Callable[..., list[LoweredArray]]:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def array_lowering(*names: str, across_batch: bool = False) -> Callable[[Callable], Callable]:
    """Register a rule that returns the entries of the only output.

    Args:
        names: of primitives.
        across_batch: whether the rule may make one result of all games.
    """

    def register(rule: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        @lowering(*names)
        def lower(ctx: RuleContext, *inputs: LoweredArray, **params: Any) -> list[LoweredArray]:
            (aval,) = ctx.avals_out
            if not ctx.batched and not across_batch and any(array.batched for array in inputs):
                raise Unsupported(f"{ctx.name} takes games together or apart")
            entries = rule(ctx, *inputs, **params)
            if entries.shape != ctx.shape:
                raise Unsupported(f"{ctx.name} made {entries.shape} of {ctx.shape}")
            return [LoweredArray(dtype_of(aval.dtype), ctx.shape, ctx.batched, entries)]

        return rule

    return register


def lower_jaxpr(
    function: FunctionContext, jaxpr: Any, inputs: Sequence[LoweredArray], targets: Sequence[Memory | None] = ()
) -> list[LoweredArray]:
    """The outputs of a jaxpr.

    Args:
        function: writes LLVM.
        jaxpr: open or closed.
        inputs: of an open one its constants first.
        targets: where outputs are to be written, as far as rules make use of it; may be shorter than these.

    Raises:
        Unsupported: there is no rule for an equation, or it has none for these shapes.
    """
    jaxpr, constants = opened(jaxpr)
    constants = [function.constant_array(value, v.aval) for value, v in zip(constants, jaxpr.constvars, strict=False)]
    target_of = {v: target for v, target in zip(jaxpr.outvars, targets) if target is not None and not is_literal(v)}

    def evaluate(eqn: Any, arrays: list[LoweredArray]) -> Sequence[LoweredArray]:
        with naming(eqn):
            rule = RULES.get(eqn.primitive.name)
            if rule is None:
                raise Unsupported(f"{eqn.primitive.name} is not known here")
            ctx = RuleContext(function, eqn, [target_of.get(v) for v in eqn.outvars])
            return rule(ctx, *arrays, **eqn.params)

    def literal(atom: Any) -> LoweredArray:
        return function.constant_array(atom.val, atom.aval)

    return interpret(jaxpr, [*constants, *inputs], evaluate, literal, needed_eqns(jaxpr))
