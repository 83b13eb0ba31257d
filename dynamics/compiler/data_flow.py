"""What of a traced program moves by itself, whatever some of its arguments are, and what of that reaches the rest."""

import enum
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics.compiler._jax import Scan, While, bind, branches, called, is_literal, opened
from dynamics.compiler.jaxprs import interpret


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
    env = dict(zip(jaxpr.invars, given, strict=True))
    for eqn in jaxpr.eqns:
        inputs = [_kind(env, atom) for atom in eqn.invars]
        env |= dict(zip(eqn.outvars, _results(eqn, inputs, preserving), strict=True))
    return [_kind(env, atom) for atom in jaxpr.outvars]


def _kind(env: dict[Any, Kind], atom: Any) -> Kind:
    return Kind.constant if is_literal(atom) else env.get(atom, Kind.constant)


def _results(eqn: Any, inputs: Sequence[Kind], preserving: Collection[str] | None = None) -> list[Kind]:
    worst = max(inputs, default=Kind.constant)
    mixed = worst is Kind.coupled and Kind.autonomous in inputs
    if worst is Kind.constant or not (mixed or preserving is not None):
        return [worst] * len(eqn.outvars)
    name = eqn.primitive.name
    inner = called(eqn)
    if inner is not None:
        return kinds(opened(inner)[0], inputs, preserving)
    if name == "cond":
        cases = [kinds(branch.jaxpr, inputs[1:], preserving) for branch in branches(eqn)]
        index = inputs[0] if preserving is None or inputs[0] is Kind.constant else Kind.coupled
        return [max(index, *column) for column in zip(*cases, strict=True)]
    if name == "scan":
        return _scan_kinds(eqn, inputs, preserving)[1]
    if name == "while":
        _, _, carry = While.of(eqn).split(inputs)
        return [own if same else Kind.coupled for own, same in zip(carry, _unchanged(eqn), strict=True)]
    keeps = preserving is not None and name in preserving
    return [worst if keeps else Kind.coupled] * len(eqn.outvars)


def _scan_kinds(
    eqn: Any, inputs: Sequence[Kind], preserving: Collection[str] | None = None
) -> tuple[list[Kind], list[Kind]]:
    """The kinds of what a scan carries, and of its results."""
    scan = Scan.of(eqn)
    fixed, carry, rows = scan.split(inputs)
    while True:
        results = kinds(scan.body.jaxpr, [*fixed, *carry, *rows], preserving)
        grown = [max(old, new) for old, new in zip(carry, results, strict=False)]
        if grown == carry:
            return carry, [*carry, *results[scan.carries :]]
        carry = grown


def _unchanged(eqn: Any) -> list[bool]:
    """Which carried values of a while loop its body hands on."""
    loop = While.of(eqn)
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
    results = _evaluate(closed.jaxpr, closed.consts, given, frontier)
    return [None if one is None else one[0] for one in results]


def _evaluate(jaxpr: Any, constants: Sequence[Any], given: Sequence[Any], frontier: list[Array]) -> list[Any]:

    def evaluate(eqn: Any, inputs: list[Any]) -> list[Any]:
        moving = [value[0] for value in inputs if value is not None and value[1]]
        if None not in inputs:
            return [(array, bool(moving)) for array in bind(eqn, [value[0] for value in inputs])]
        if not moving:
            return [None] * len(eqn.outvars)
        return _mixed(eqn, inputs, moving, frontier)

    inputs = [*((array, False) for array in constants), *given]
    return interpret(jaxpr, inputs, evaluate, lambda atom: (atom.val, False))


def _mixed(eqn: Any, inputs: list[Any], moving: list[Array], frontier: list[Array]) -> list[Any]:
    """The results of an equation some of whose arguments are coupled and some autonomous."""
    name, inner = eqn.primitive.name, called(eqn)
    if inner is not None:
        return _evaluate(*opened(inner), inputs, frontier)
    if name == "cond":
        return _branches(branches(eqn), inputs, frontier)
    if name == "scan":
        return _scan(eqn, inputs, frontier)
    if name == "while":
        return _while(eqn, inputs, frontier)
    frontier += moving
    return [None] * len(eqn.outvars)


def _branches(cases: Sequence[Any], inputs: list[Any], frontier: list[Array]) -> list[Any]:
    index, *operands = inputs
    if index is not None and index[1]:
        frontier.append(index[0])
    outputs = [_evaluate(branch.jaxpr, branch.consts, operands, frontier) for branch in cases]
    results = []
    for column in zip(*outputs, strict=True):
        if index is None or None in column:
            results.append(None)
            continue
        place = jnp.clip(index[0], 0, len(cases) - 1)
        moves = index[1] or any(one[1] for one in column)
        results.append((jax.lax.select_n(place, *(jnp.asarray(one[0]) for one in column)), moves))
    return results


def _scan(eqn: Any, inputs: list[Any], frontier: list[Array]) -> list[Any]:
    scan = Scan.of(eqn)
    constants, start, stacked = scan.split(inputs)
    given = [Kind.coupled if one is None else Kind.autonomous if one[1] else Kind.constant for one in inputs]
    carry, results = _scan_kinds(eqn, given)

    def step(values: list[Any], rows: list[Any]) -> tuple[list[Any], Any]:
        values, rows, inner = iter(values), iter(rows), []
        arguments = [
            *constants,
            *(None if kind is Kind.coupled else (next(values), kind is Kind.autonomous) for kind in carry),
            *(None if one is None else (next(rows), one[1]) for one in stacked),
        ]
        outputs = _evaluate(scan.body.jaxpr, scan.body.consts, arguments, inner)
        after = [one[0] for one, kind in zip(outputs, carry, strict=False) if kind is not Kind.coupled]
        made = zip(outputs[scan.carries :], results[scan.carries :], strict=True)
        return after, ([one[0] for one, kind in made if kind is not Kind.coupled], inner)

    first = [one[0] for one, kind in zip(start, carry, strict=True) if kind is not Kind.coupled]
    rows = [one[0] for one in stacked if one is not None]
    last, (rows, inner) = jax.lax.scan(step, first, rows, length=scan.length, reverse=scan.reverse)
    frontier += inner
    left = iter([*last, *rows])
    return [None if kind is Kind.coupled else (next(left), kind is Kind.autonomous) for kind in results]


def _while(eqn: Any, inputs: list[Any], frontier: list[Array]) -> list[Any]:
    """A loop whose length is not known: what it does not change is looked at in its body, the rest as it goes in."""
    loop, same = While.of(eqn), _unchanged(eqn)
    of_condition, of_body, start = loop.split(inputs)
    carry = [one if kept else None for one, kept in zip(start, same, strict=True)]
    frontier += [one[0] for one, kept in zip(start, same, strict=True) if not kept and one and one[1]]
    for inner, own in ((loop.condition, of_condition), (loop.body, of_body)):
        _evaluate(inner.jaxpr, inner.consts, [*own, *carry], frontier)
    return carry
