"""What of a traced program moves by itself, whatever some of its arguments are, and what of that reaches the rest."""

import enum
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics.compiler._jax import Scan, While, bind, branches, called, is_literal, opened


class Kind(enum.IntEnum):
    """What a value depends on: on nothing, on autonomous arguments alone, or on coupled ones."""

    constant = 0
    autonomous = 1
    coupled = 2


def kinds(jaxpr: Any, given: Sequence[Kind], preserving: Collection[str] | None = None) -> list[Kind]:
    """The kinds of the results of a program, given those of its arguments; a constant of the program is constant.

    Args:
        jaxpr: the program.
        given: of its arguments.
        preserving: names of primitives; the results of all others count as coupled where an argument is autonomous.
            `None`: all preserve it.

    >>> closed = jax.make_jaxpr(lambda count, x: (count + 1, x / count))(1.0, 2.0)
    >>> [kind.name for kind in kinds(closed.jaxpr, [Kind.autonomous, Kind.coupled])]
    ['autonomous', 'coupled']
    """
    known = dict(zip(jaxpr.invars, given, strict=True))
    for equation in jaxpr.eqns:
        inputs = [_kind(known, atom) for atom in equation.invars]
        known |= dict(zip(equation.outvars, _results(equation, inputs, preserving), strict=True))
    return [_kind(known, atom) for atom in jaxpr.outvars]


def _kind(known: dict[Any, Kind], atom: Any) -> Kind:
    return Kind.constant if is_literal(atom) else known.get(atom, Kind.constant)


def _results(equation: Any, inputs: Sequence[Kind], preserving: Collection[str] | None = None) -> list[Kind]:
    worst = max(inputs, default=Kind.constant)
    mixed = worst is Kind.coupled and Kind.autonomous in inputs
    if worst is Kind.constant or not (mixed or preserving is not None):
        return [worst] * len(equation.outvars)
    name = equation.primitive.name
    inner = called(equation)
    if inner is not None:
        return kinds(opened(inner)[0], inputs, preserving)
    if name == "cond":
        cases = [kinds(branch.jaxpr, inputs[1:], preserving) for branch in branches(equation)]
        index = inputs[0] if preserving is None or inputs[0] is Kind.constant else Kind.coupled
        return [max(index, *column) for column in zip(*cases, strict=True)]
    if name == "scan":
        return _scan_kinds(equation, inputs, preserving)[1]
    if name == "while":
        _, _, carry = While.of(equation).split(inputs)
        return [own if same else Kind.coupled for own, same in zip(carry, _unchanged(equation), strict=True)]
    keeps = preserving is not None and name in preserving
    return [worst if keeps else Kind.coupled] * len(equation.outvars)


def _scan_kinds(
    equation: Any, inputs: Sequence[Kind], preserving: Collection[str] | None = None
) -> tuple[list[Kind], list[Kind]]:
    """The kinds of what a scan carries, and of its results."""
    scan = Scan.of(equation)
    fixed, carry, rows = scan.split(inputs)
    while True:
        found = kinds(scan.body.jaxpr, [*fixed, *carry, *rows], preserving)
        grown = [max(old, new) for old, new in zip(carry, found, strict=False)]
        if grown == carry:
            return carry, [*carry, *found[scan.carries :]]
        carry = grown


def _unchanged(equation: Any) -> list[bool]:
    """Which carried values of a while loop its body hands on."""
    loop = While.of(equation)
    body = loop.body.jaxpr
    return [a is b for a, b in zip(body.invars[loop.body_constants :], body.outvars, strict=True)]


def autonomous_inputs(closed: Any, given: Sequence[Any], frontier: list[Array]) -> list[Array | None]:
    """Evaluate what of a program is autonomous, and collect what of it goes into equations that are not.

    Whatever the coupled arguments are, the program does the same with them wherever the collected arrays agree.

    Args:
        closed: the traced program.
        given: its arguments: a pair of an array and whether it counts as autonomous (a constant otherwise), or `None`
            for a coupled argument.
        frontier: gets the arrays.

    Returns:
        the results that are autonomous or constant, `None` for the others.
    """
    found = _evaluate(closed.jaxpr, closed.consts, given, frontier)
    return [None if one is None else one[0] for one in found]


def _evaluate(jaxpr: Any, constants: Sequence[Any], given: Sequence[Any], frontier: list[Array]) -> list[Any]:
    known = dict(zip(jaxpr.constvars, ((array, False) for array in constants), strict=True))
    known |= dict(zip(jaxpr.invars, given, strict=True))

    def read(atom: Any) -> Any:
        return (atom.val, False) if is_literal(atom) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        moving = [one[0] for one in inputs if one is not None and one[1]]
        if None not in inputs:
            results = [(array, bool(moving)) for array in bind(equation, [one[0] for one in inputs])]
        elif not moving:
            results = [None] * len(equation.outvars)
        else:
            results = _mixed(equation, inputs, moving, frontier)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _mixed(equation: Any, inputs: list[Any], moving: list[Array], frontier: list[Array]) -> list[Any]:
    """The results of an equation some of whose arguments are coupled and some autonomous."""
    name, inner = equation.primitive.name, called(equation)
    if inner is not None:
        return _evaluate(*opened(inner), inputs, frontier)
    if name == "cond":
        return _branches(branches(equation), inputs, frontier)
    if name == "scan":
        return _scan(equation, inputs, frontier)
    if name == "while":
        return _while(equation, inputs, frontier)
    frontier += moving
    return [None] * len(equation.outvars)


def _branches(cases: Sequence[Any], inputs: list[Any], frontier: list[Array]) -> list[Any]:
    index, *operands = inputs
    if index is not None and index[1]:
        frontier.append(index[0])
    found = [_evaluate(branch.jaxpr, branch.consts, operands, frontier) for branch in cases]
    results = []
    for column in zip(*found, strict=True):
        if index is None or None in column:
            results.append(None)
            continue
        place = jnp.clip(index[0], 0, len(cases) - 1)
        moves = index[1] or any(one[1] for one in column)
        results.append((jax.lax.select_n(place, *(jnp.asarray(one[0]) for one in column)), moves))
    return results


def _scan(equation: Any, inputs: list[Any], frontier: list[Array]) -> list[Any]:
    scan = Scan.of(equation)
    constants, start, stacked = scan.split(inputs)
    given = [Kind.coupled if one is None else Kind.autonomous if one[1] else Kind.constant for one in inputs]
    carry, results = _scan_kinds(equation, given)

    def step(values: list[Any], rows: list[Any]) -> tuple[list[Any], Any]:
        values, rows, inner = iter(values), iter(rows), []
        arguments = [
            *constants,
            *(None if kind is Kind.coupled else (next(values), kind is Kind.autonomous) for kind in carry),
            *(None if one is None else (next(rows), one[1]) for one in stacked),
        ]
        found = _evaluate(scan.body.jaxpr, scan.body.consts, arguments, inner)
        after = [one[0] for one, kind in zip(found, carry, strict=False) if kind is not Kind.coupled]
        made = zip(found[scan.carries :], results[scan.carries :], strict=True)
        return after, ([one[0] for one, kind in made if kind is not Kind.coupled], inner)

    first = [one[0] for one, kind in zip(start, carry, strict=True) if kind is not Kind.coupled]
    rows = [one[0] for one in stacked if one is not None]
    last, (rows, inner) = jax.lax.scan(step, first, rows, length=scan.length, reverse=scan.reverse)
    frontier += inner
    left = iter([*last, *rows])
    return [None if kind is Kind.coupled else (next(left), kind is Kind.autonomous) for kind in results]


def _while(equation: Any, inputs: list[Any], frontier: list[Array]) -> list[Any]:
    """A loop whose length is not known: what it does not change is looked at in its body, the rest as it goes in."""
    loop, same = While.of(equation), _unchanged(equation)
    of_condition, of_body, start = loop.split(inputs)
    carry = [one if kept else None for one, kept in zip(start, same, strict=True)]
    frontier += [one[0] for one, kept in zip(start, same, strict=True) if not kept and one and one[1]]
    for inner, own in ((loop.condition, of_condition), (loop.body, of_body)):
        _evaluate(inner.jaxpr, inner.consts, [*own, *carry], frontier)
    return carry
