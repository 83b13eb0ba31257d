"""Reading the programs that JAX traces: what depends on what, and what nobody needs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dynamics.compiler._jax import ClosedJaxpr, Jaxpr, bind, called, opened
from dynamics.compiler._jax import is_literal as is_literal
from dynamics.compiler._jax import jaxpr_as_fun as jaxpr_as_fun
from dynamics.compiler._jax import subjaxprs as subjaxprs


def primitives(jaxpr: Any) -> set[str]:
    """Names of all operations of a program and of the programs that it holds."""
    names = {equation.primitive.name for equation in jaxpr.eqns}
    return names.union(*(primitives(inner) for equation in jaxpr.eqns for inner in subjaxprs(equation)))


def depends(jaxpr: Any, flags: Sequence[bool]) -> list[bool]:
    """Which results depend on the arguments that are marked, or may do so."""
    found = dict(zip(jaxpr.invars, flags, strict=True))

    def one(atom: Any) -> bool:
        return not is_literal(atom) and found.get(atom, False)

    for equation in jaxpr.eqns:
        given = [one(atom) for atom in equation.invars]
        inner = called(equation)
        if inner is not None and any(given):
            results = depends(opened(inner)[0], given)
        else:
            results = [any(given)] * len(equation.outvars)
        found |= dict(zip(equation.outvars, results, strict=True))
    return [one(atom) for atom in jaxpr.outvars]


def live_equations(jaxpr: Any, wanted: Sequence[bool]) -> dict[int, list[bool]]:
    """The equations that somebody needs, in their order, and which of their results."""
    used = {atom for atom, one in zip(jaxpr.outvars, wanted, strict=True) if one and not is_literal(atom)}
    found = {}
    for index in reversed(range(len(jaxpr.eqns))):
        equation = jaxpr.eqns[index]
        needed = [variable in used for variable in equation.outvars]
        if equation.effects or any(needed):
            found[index] = needed
            used.update(atom for atom in equation.invars if not is_literal(atom))
    return dict(reversed(found.items()))


def needed_equations(jaxpr: Any) -> list[Any]:
    """The equations on which the results depend, in their order."""
    return [jaxpr.eqns[index] for index in live_equations(jaxpr, [True] * len(jaxpr.outvars))]


def inlined(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The program with its calls written out, without what nobody needs; constants not yet known become inputs."""

    def evaluated(jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if is_literal(atom) else values[atom]

        for equation in needed_equations(jaxpr):
            arguments = [read(atom) for atom in equation.invars]
            inner = called(equation)
            found = bind(equation, arguments) if inner is None else evaluated(*opened(inner), arguments)
            values.update(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    avals = [variable.aval for variable in (*closed.jaxpr.constvars, *closed.jaxpr.invars)]
    count = len(closed.jaxpr.constvars)
    return jax.make_jaxpr(lambda *given: evaluated(closed.jaxpr, given[:count], given[count:]))(*map(same_type, avals))


def same_type(aval: Any) -> jax.ShapeDtypeStruct:
    """Shape and type of a variable, for tracing."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


class Program:
    """A traced function without the equations that nobody needs.

    Attributes:
        needed: which of its arguments are needed.
        forwarded: for each result the place of the argument that it is, or `None`.
        equations: what is left.
    """

    def __init__(self, function: Callable[..., Sequence[Any]], arguments: Sequence[Any]):
        closed = jax.make_jaxpr(function)(*arguments)
        jaxpr = closed.jaxpr
        self.equations = needed_equations(jaxpr)
        self.constants = dict(zip(jaxpr.constvars, map(on_no_device, closed.consts), strict=True))
        self.inputs, self.outputs = list(jaxpr.invars), list(jaxpr.outvars)
        places = {variable: place for place, variable in enumerate(self.inputs)}
        self.forwarded = [None if is_literal(atom) else places.get(atom) for atom in self.outputs]
        self._read = {atom for equation in self.equations for atom in equation.invars if not is_literal(atom)}
        self.needed = [variable in self._read for variable in self.inputs]

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        """Run the equations again."""
        return self._run(arguments, self.constants)

    def _run(self, arguments: Sequence[Any], constants: dict[Any, Any]) -> tuple[Any, ...]:
        known = dict(zip(self.inputs, arguments, strict=True)) | constants

        def read(atom: Any) -> Any:
            return atom.val if is_literal(atom) else known[atom]

        for equation in self.equations:
            found = bind(equation, map(read, equation.invars))
            known |= dict(zip(equation.outvars, found, strict=True))
        return tuple(np.asarray(atom.val, atom.aval.dtype) if is_literal(atom) else read(atom) for atom in self.outputs)

    def closed(self) -> tuple[Any, list[Any]]:
        """The program without arguments that are not needed and with its constants first, and the values of those.

        The results that are arguments handed on are left out, too.
        """
        names = [variable for variable in self.constants if variable in self._read]

        def run(constants: list[Any], given: list[Any]) -> list[Any]:
            rest = iter(given)
            whole = [next(rest) if one else None for one in self.needed]
            found = self._run(whole, dict(zip(names, constants, strict=True)))
            return [array for array, source in zip(found, self.forwarded, strict=True) if source is None]

        constants = [self.constants[name] for name in names]
        given = [variable.aval for variable, one in zip(self.inputs, self.needed, strict=True) if one]
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in given]
        return jax.make_jaxpr(run)([jax.ShapeDtypeStruct(n.aval.shape, n.aval.dtype) for n in names], shapes), constants

    def forwarding(self, arguments: Sequence[Any], found: Sequence[Any]) -> tuple[Any, ...]:
        """All results, given those of the closed program."""
        made = iter(found)
        return tuple(next(made) if source is None else arguments[source] for source in self.forwarded)


def on_no_device(constant: Any) -> Any:
    """A constant as an array of NumPy: one that lies on a device would have to be moved to those of a mesh."""
    known = isinstance(constant, jax.Array) and not isinstance(constant, jax.core.Tracer)
    return (
        np.asarray(constant) if known and not jax.dtypes.issubdtype(constant.dtype, jax.dtypes.extended) else constant
    )
