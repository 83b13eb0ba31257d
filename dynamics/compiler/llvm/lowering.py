"""Programs of a batch of games as machine code: the state of some games stays in registers for a whole run.

XLA compiles a loop over arrays operation by operation, and every step reads and writes the nearest cache. Here the
jaxpr of such a loop, as `batch/` leaves it, with the games in the last axis of its arrays, is lowered to LLVM, one
entry of a game at a time, for a vector tile: a few registers, each with a few games. A loop goes over the tiles. XLA
calls the result as a foreign function (`jit`). What has no rule (`rules`) is left to XLA: the whole program then.

Every operation is that of JAX, elementwise, so that the numbers of a game do not depend on its neighbours; products
and sums may be contracted, as by XLA. Elementary functions are those of `elementary`, or of the library of C.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from dynamics.compiler import errors, fallback
from dynamics.compiler._jax import (
    CALLS,
    ClosedJaxpr,
    jaxpr_as_fun,
    lower_ffi_call,
    lower_function,
    new_primitive,
    register_lowering,
    subjaxprs,
)
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.jaxprs import has_loops
from dynamics.compiler.llvm import jit
from dynamics.compiler.llvm.context import FunctionContext, LoweredArray
from dynamics.compiler.llvm.programs import write_program
from dynamics.compiler.llvm.rules import RULES, RuleContext, lower_jaxpr, lowering
from dynamics.compiler.llvm.targets import Host
from dynamics.compiler.llvm.vector_width import tile_width

logger = logging.getLogger(__name__)


def write_function(closed: ClosedJaxpr, batch_size: int, width: int) -> tuple[FunctionContext, Callable[..., None]]:
    """What writes the function of a program for the processor of this machine.

    The function is a loop over the vector tiles of the batch; the program is in its body:

        for tile in range(batch_size // width):
            outputs[..., tile * width : (tile + 1) * width] = program(inputs[..., tile * width : (tile + 1) * width])

    Args:
        closed: the program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.
        width: games of a vector tile.

    Returns:
        the context, and `write(builder, inputs, outputs)` of a builder of LLVM and pointers to the arrays.
    """
    function = FunctionContext(batch_size, Host(width))

    def write(builder: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        function.builder = builder

        def tile(at: Any, _: list[Any]) -> list[Any]:
            write_program(function, closed, inputs, outputs, builder.mul(at, function.index(width)))
            return []

        function.write_for(batch_size // width, [], tile)

    return function, write


def compile_program(closed: ClosedJaxpr, batch_size: int) -> str:
    """The name of a function for XLA that runs a program.

    Args:
        closed: the program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.

    Raises:
        Unsupported: there is no rule for an operation, or there are too many of them.
    """
    function, write = write_function(closed, batch_size, tile_width(closed.jaxpr, batch_size))
    counts = len(closed.jaxpr.invars), len(closed.jaxpr.outvars)
    return jit.compiled(function.module, *counts, write, has_loops(closed.jaxpr))


_in_machine_code = new_primitive("games_in_machine_code", lambda *avals, program, batch_size: list(program.out_avals))


@lowering(_in_machine_code.name)
def _lower_within(ctx: RuleContext, *inputs: LoweredArray, program: ClosedJaxpr, **_: Any) -> list[LoweredArray]:
    """Within a program that becomes machine code as a whole."""
    return lower_jaxpr(ctx.function, program, inputs, ctx.targets)


def _lower_by_xla(context, *arrays, program, batch_size):
    return lower_function(context, jaxpr_as_fun(program), arrays)


def _as_function(context: Any, arrays: Sequence[Any], program: ClosedJaxpr, batch_size: int) -> tuple[str, Any]:
    name = compile_program(program, batch_size)
    return name, lower_ffi_call(context, name, arrays)


def _as_kernel(context: Any, arrays: Sequence[Any], program: ClosedJaxpr, batch_size: int) -> tuple[str, Any]:
    from dynamics.compiler.nvptx import launching  # what those do not need who have no GPU

    return launching.lower(context, arrays, program, batch_size)


def _lower_by(compile_and_call: Callable[..., tuple[str, Any]], context, *arrays, program, batch_size):
    """What a program is as machine code; what it is to XLA, if it cannot become such."""
    try:
        name, lowered = compile_and_call(context, arrays, program, batch_size)
    except Unsupported as reason:
        logger.info("left to XLA: %s", errors.text(reason))
    except Exception as error:  # of a JAX, a processor or a version of LLVM that is not known here
        fallback.report(error)
    else:
        logger.info(
            "machine code: %s, of %d equations, for blocks of %d games", name, len(program.jaxpr.eqns), batch_size
        )
        return lowered
    return _lower_by_xla(context, *arrays, program=program, batch_size=batch_size)


register_lowering(_in_machine_code, _lower_by_xla)
register_lowering(_in_machine_code, functools.partial(_lower_by, _as_function), platform="cpu")
register_lowering(_in_machine_code, functools.partial(_lower_by, _as_kernel), platform="cuda")


def in_machine_code(closed: ClosedJaxpr, batch_size: int) -> Callable[..., list[Any]]:
    """A function of arrays that runs a program, on a CPU or a GPU as machine code where it can be.

    Args:
        closed: the program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.
    """
    return functools.partial(_in_machine_code.bind, program=closed, batch_size=batch_size)


def is_machine_code(eqn: Any) -> bool:
    """Whether an equation calls a program that `in_machine_code` has taken."""
    return eqn.primitive is _in_machine_code


def compiled_programs(jaxpr: Any) -> list[ClosedJaxpr]:
    """The programs that `in_machine_code` has taken, among the equations of another one."""
    return [eqn.params["program"] for eqn in jaxpr.eqns if is_machine_code(eqn)]


def is_supported(eqn: Any) -> bool:
    """Whether there are rules for an equation and for all that it holds, by their names."""
    if is_machine_code(eqn):
        return False  # it is lowered already
    name = eqn.primitive.name
    if name in CALLS or name in ("while", "scan", "cond"):
        return all(is_supported(inner) for program in subjaxprs(eqn) for inner in program.eqns)
    return name in RULES
