"""How many registers a number of a program gets when it becomes machine code."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dynamics.compiler._jax import CALLS, Scan, While, called, is_literal, opened, subjaxprs
from dynamics.compiler.llvm import jit
from dynamics.compiler.llvm.operations import FLOATS, SLOW

UNITS = 0  # registers per number, if not chosen by what a loop does
SLOW_CYCLES = 30
CYCLES = dict.fromkeys(("add", "add_any", "sub", "mul"), 4)
CYCLES |= dict.fromkeys(("select_n", "max", "min", "lt", "le", "gt", "ge", "and", "or"), 1)


class _Loop(NamedTuple):
    """An innermost loop.

    Attributes:
        carried: numbers of a game.
        latency: cycles until the results of a turn are there, more or less.
        slow: whether it divides, or computes elementary functions.
    """

    carried: int
    latency: int
    slow: bool


def _loops(jaxpr: Any, lanes: int) -> Iterator[_Loop]:
    for equation in jaxpr.eqns:
        inner = [loop for program in subjaxprs(equation) for loop in _loops(program, lanes)]
        yield from inner
        name = equation.primitive.name
        if inner or name not in ("while", "scan"):
            continue
        loop = While.of(equation) if name == "while" else Scan.of(equation)
        body = loop.body.jaxpr
        carried = equation.outvars if name == "while" else equation.outvars[: loop.carries]
        wide = [v.aval.shape[:-1] for v in carried if v.aval.shape[-1:] == (lanes,)]
        if wide:
            latency = max(_delays(body, [0] * len(body.invars)), default=0)
            yield _Loop(sum(map(math.prod, wide)), latency, latency >= SLOW_CYCLES and _is_slow(body))


def _is_slow(jaxpr: Any) -> bool:
    return any(
        equation.primitive.name in SLOW
        or (equation.primitive.name in CALLS and any(map(_is_slow, subjaxprs(equation))))
        for equation in jaxpr.eqns
    )


def _delays(jaxpr: Any, begins: Sequence[int]) -> list[int]:
    """Cycles until the results of a program are there, more or less, branches not taken."""
    known = dict(zip(jaxpr.invars, begins, strict=True))

    def read(atom: Any) -> int:
        return 0 if is_literal(atom) else known.get(atom, 0)

    for equation in jaxpr.eqns:
        name, begins = equation.primitive.name, [read(atom) for atom in equation.invars]
        inner = called(equation)
        if inner is not None:
            ends = _delays(opened(inner)[0], begins)
        else:
            cycles = SLOW_CYCLES if name in SLOW else CYCLES.get(name, 0)
            ends = [max(begins, default=0) + cycles] * len(equation.outvars)
        known |= dict(zip(equation.outvars, ends, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _units(jaxpr: Any, lanes: int) -> int:
    """Registers per number: several hide latencies, as long as there are registers for what is carried.

    The loop that carries least decides; those that watch more take fewer turns. (Found by trial.)
    """
    loops = sorted(_loops(jaxpr, lanes))
    if UNITS or not loops:
        return UNITS or 1
    carried, latency, slow = loops[0]
    if (carried <= 8 and latency >= 20) or (carried <= 10 and slow):
        return 4
    return 2 if carried <= 20 else 1


def strip_width(jaxpr: Any, lanes: int) -> int:
    """How many games go through a program side by side: full registers, and some of them per number."""
    sizes = [v.aval.dtype.itemsize for v in (*jaxpr.invars, *jaxpr.outvars) if v.aval.dtype in FLOATS]
    own = jit.register_bytes() // max(sizes, default=8)
    return math.gcd(lanes, own * _units(jaxpr, lanes))
