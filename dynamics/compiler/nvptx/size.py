"""Which programs are too large for a thread of a GPU."""

import math
from collections.abc import Sequence
from typing import Any

from dynamics.compiler._jax import Scan, While, is_literal, subjaxprs
from dynamics.compiler.errors import Unsupported

# Registers of 32 bits that a thread has. What a loop keeps of a game should have room there, more or less: with
# 218 the assembler spills less than half a kilobyte, with 278 nearly one, with 614 nearly five.
MOST_REGISTERS = 255
LARGEST_PARAMETERS = 500  # pointers; a kernel has 4 KB of parameters


def check_size(jaxpr: Any, batch_size: int) -> None:
    """Refuse what a kernel would be slow for.

    Args:
        jaxpr: an open program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.

    Raises:
        Unsupported: a loop keeps too many numbers of a game, or there are too many arrays, or empty ones.
    """
    arrays = [*jaxpr.invars, *jaxpr.outvars]
    if len(arrays) > LARGEST_PARAMETERS:
        raise Unsupported(f"{len(arrays)} arrays, more than {LARGEST_PARAMETERS}")
    if any(0 in variable.aval.shape for variable in arrays):
        raise Unsupported("an array without entries")
    count = registers(jaxpr, batch_size)
    if count > MOST_REGISTERS:
        raise Unsupported(f"a loop that keeps {count} registers of a game, more than {MOST_REGISTERS}")


def registers(jaxpr: Any, batch_size: int) -> int:
    """How many registers of 32 bits the numbers of a game take that a loop carries or reads in every iteration.

    Of the loop in which they are most.
    """
    most = 0
    for eqn in jaxpr.eqns:
        most = max([most, *(registers(inner, batch_size) for inner in subjaxprs(eqn))])
        if eqn.primitive.name == "while":
            of_condition, of_body, _ = While.of(eqn).split(eqn.invars)
            kept = [*of_condition, *of_body, *eqn.outvars]
        elif eqn.primitive.name == "scan":
            loop = Scan.of(eqn)
            kept = [*loop.split(eqn.invars)[0], *eqn.outvars[: loop.carries]]
        else:
            continue
        most = max(most, _words(kept, batch_size))
    return most


def _words(atoms: Sequence[Any], batch_size: int) -> int:
    """Those of numbers that differ from game to game; every variable counts once."""
    avals = [atom.aval for atom in dict.fromkeys(atom for atom in atoms if not is_literal(atom))]
    batched = [aval for aval in avals if aval.shape[-1:] == (batch_size,)]
    return sum(math.prod(aval.shape[:-1]) * max(1, aval.dtype.itemsize // 4) for aval in batched)
