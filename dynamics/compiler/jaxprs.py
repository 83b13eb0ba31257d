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
    names = {eqn.primitive.name for eqn in jaxpr.eqns}
    return names.union(*(primitives(inner) for eqn in jaxpr.eqns for inner in subjaxprs(eqn)))


def largest_array(jaxpr: Any) -> int:
    """Numbers in the largest array that a program computes, or one of those that it holds."""
    computed = (getattr(variable.aval, "size", 0) for eqn in jaxpr.eqns for variable in eqn.outvars)
    held = (largest_array(inner) for eqn in jaxpr.eqns for inner in subjaxprs(eqn))
    return max([0, *computed, *held])


def depends(jaxpr: Any, flags: Sequence[bool]) -> list[bool]:
    """Which results depend on the arguments that are marked, or may do so."""
    depending = dict(zip(jaxpr.invars, flags, strict=True))

    def one(atom: Any) -> bool:
        return not is_literal(atom) and depending.get(atom, False)

    for eqn in jaxpr.eqns:
        given = [one(atom) for atom in eqn.invars]
        inner = called(eqn)
        if inner is not None and any(given):
            results = depends(opened(inner)[0], given)
        else:
            results = [any(given)] * len(eqn.outvars)
        depending |= dict(zip(eqn.outvars, results, strict=True))
    return [one(atom) for atom in jaxpr.outvars]


def live_eqns(jaxpr: Any, wanted: Sequence[bool]) -> dict[int, list[bool]]:
    """The equations that somebody needs, in their order, and which of their results."""
    used = {atom for atom, one in zip(jaxpr.outvars, wanted, strict=True) if one and not is_literal(atom)}
    live = {}
    for index in reversed(range(len(jaxpr.eqns))):
        eqn = jaxpr.eqns[index]
        needed = [variable in used for variable in eqn.outvars]
        if eqn.effects or any(needed):
            live[index] = needed
            used.update(atom for atom in eqn.invars if not is_literal(atom))
    return dict(reversed(live.items()))


def needed_eqns(jaxpr: Any) -> list[Any]:
    """The equations on which the results depend, in their order."""
    return [jaxpr.eqns[index] for index in live_eqns(jaxpr, [True] * len(jaxpr.outvars))]


def inlined(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The program with its calls written out, without what nobody needs; constants not yet known become inputs."""

    def evaluated(jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if is_literal(atom) else values[atom]

        for eqn in needed_eqns(jaxpr):
            arguments = [read(atom) for atom in eqn.invars]
            inner = called(eqn)
            outputs = bind(eqn, arguments) if inner is None else evaluated(*opened(inner), arguments)
            values.update(zip(eqn.outvars, outputs, strict=True))
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
        self.eqns = needed_eqns(jaxpr)
        self.constants = dict(zip(jaxpr.constvars, map(on_no_device, closed.consts), strict=True))
        self.inputs, self.outputs = list(jaxpr.invars), list(jaxpr.outvars)
        places = {variable: place for place, variable in enumerate(self.inputs)}
        self.forwarded = [None if is_literal(atom) else places.get(atom) for atom in self.outputs]
        self._read = {atom for eqn in self.eqns for atom in eqn.invars if not is_literal(atom)}
        self.needed = [variable in self._read for variable in self.inputs]

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        """Run the equations again."""
        return self._run(arguments, self.constants)

    def _run(self, arguments: Sequence[Any], constants: dict[Any, Any]) -> tuple[Any, ...]:
        env = dict(zip(self.inputs, arguments, strict=True)) | constants

        def read(atom: Any) -> Any:
            return atom.val if is_literal(atom) else env[atom]

        for eqn in self.eqns:
            outputs = bind(eqn, map(read, eqn.invars))
            env |= dict(zip(eqn.outvars, outputs, strict=True))
        return tuple(np.asarray(atom.val, atom.aval.dtype) if is_literal(atom) else read(atom) for atom in self.outputs)

    def closed(self) -> tuple[Any, list[Any]]:
        """The program without arguments that are not needed and with its constants first, and the values of those.

        The results that are arguments handed on are left out, too.
        """
        names = [variable for variable in self.constants if variable in self._read]

        def run(constants: list[Any], given: list[Any]) -> list[Any]:
            rest = iter(given)
            whole = [next(rest) if one else None for one in self.needed]
            outputs = self._run(whole, dict(zip(names, constants, strict=True)))
            return [array for array, source in zip(outputs, self.forwarded, strict=True) if source is None]

        constants = [self.constants[name] for name in names]
        given = [variable.aval for variable, one in zip(self.inputs, self.needed, strict=True) if one]
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in given]
        return jax.make_jaxpr(run)([jax.ShapeDtypeStruct(n.aval.shape, n.aval.dtype) for n in names], shapes), constants

    def forwarding(self, arguments: Sequence[Any], outputs: Sequence[Any]) -> tuple[Any, ...]:
        """All results, given those of the closed program."""
        made = iter(outputs)
        return tuple(next(made) if source is None else arguments[source] for source in self.forwarded)


def on_no_device(constant: Any) -> Any:
    """A constant as an array of NumPy: one that lies on a device would have to be moved to those of a mesh."""
    env = isinstance(constant, jax.Array) and not isinstance(constant, jax.core.Tracer)
    return np.asarray(constant) if env and not jax.dtypes.issubdtype(constant.dtype, jax.dtypes.extended) else constant
