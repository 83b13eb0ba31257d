"""The width of a vector tile: how many games side by side, so how many registers an entry of a program gets."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dynamics.compiler._jax import CALLS, Scan, While, called, opened, subjaxprs
from dynamics.compiler.jaxprs import interpret
from dynamics.compiler.llvm import jit
from dynamics.compiler.llvm.operations import FLOATS, SLOW

REGISTERS_PER_NUMBER = 0  # if not 0, whatever a loop does
SLOW_CYCLES = 30
CYCLES = dict.fromkeys(("add", "add_any", "sub", "mul"), 4)
CYCLES |= dict.fromkeys(("select_n", "max", "min", "lt", "le", "gt", "ge", "and", "or"), 1)


class _Loop(NamedTuple):
    """An innermost loop.

    Attributes:
        carried: numbers of a game.
        latency: cycles until the results of an iteration are there, more or less.
        slow: whether it divides, or computes elementary functions.
    """

    carried: int
    latency: int
    slow: bool


def _loops(jaxpr: Any, batch_size: int) -> Iterator[_Loop]:
    for eqn in jaxpr.eqns:
        inner = [loop for program in subjaxprs(eqn) for loop in _loops(program, batch_size)]
        yield from inner
        name = eqn.primitive.name
        if inner or name not in ("while", "scan"):
            continue
        loop = While.of(eqn) if name == "while" else Scan.of(eqn)
        body = loop.body.jaxpr
        carried = eqn.outvars if name == "while" else eqn.outvars[: loop.carries]
        batched = [v.aval.shape[:-1] for v in carried if v.aval.shape[-1:] == (batch_size,)]
        if batched:
            latency = max(_delays(body, [0] * len(body.invars)), default=0)
            yield _Loop(sum(map(math.prod, batched)), latency, latency >= SLOW_CYCLES and _is_slow(body))


def _is_slow(jaxpr: Any) -> bool:
    return any(
        eqn.primitive.name in SLOW or (eqn.primitive.name in CALLS and any(map(_is_slow, subjaxprs(eqn))))
        for eqn in jaxpr.eqns
    )


def _delays(jaxpr: Any, begins: Sequence[int]) -> list[int]:
    """Cycles until the results of a program are there, more or less, branches not taken."""

    def evaluate(eqn: Any, begins: list[int]) -> list[int]:
        name, inner = eqn.primitive.name, called(eqn)
        if inner is not None:
            return _delays(opened(inner)[0], begins)
        cycles = SLOW_CYCLES if name in SLOW else CYCLES.get(name, 0)
        return [max(begins, default=0) + cycles] * len(eqn.outvars)

    return interpret(jaxpr, [*[0] * len(jaxpr.constvars), *begins], evaluate, lambda _: 0)


def _registers_per_number(jaxpr: Any, batch_size: int) -> int:
    """Registers per number: several hide latencies, as long as there are registers for what is carried.

    The loop that carries least decides; those that watch more have fewer iterations. (By trial.)
    """
    loops = sorted(_loops(jaxpr, batch_size))
    if REGISTERS_PER_NUMBER or not loops:
        return REGISTERS_PER_NUMBER or 1
    carried, latency, slow = loops[0]
    if (carried <= 8 and latency >= 20) or (carried <= 10 and slow):
        return 4
    return 2 if carried <= 20 else 1


def tile_width(jaxpr: Any, batch_size: int) -> int:
    """How many games go through a program side by side: full registers, and some of them per number."""
    sizes = [v.aval.dtype.itemsize for v in (*jaxpr.invars, *jaxpr.outvars) if v.aval.dtype in FLOATS]
    per_register = jit.register_bytes() // max(sizes, default=8)
    return math.gcd(batch_size, per_register * _registers_per_number(jaxpr, batch_size))
