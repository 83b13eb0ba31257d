"""Programs that call one and the same function with other numbers, and many of them as one."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics.compiler._jax import bind, called, is_literal, opened
from dynamics.compiler.jaxprs import interpret


class Structure:
    """What a program is but for its numbers, to be compared and hashed.

    Attributes:
        program: one that is of this structure.
    """

    def __init__(self, key: tuple, program: Any):
        self._key, self.program = key, program  # the function that it calls is named by its identity, and held here

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def structure_of(program: Any) -> Structure | None:
    """The structure of a closed jaxpr that calls a compiled function and does nothing else; `None` for any other.

    JAX traces such a function once for all arguments of one kind, so that programs of one structure call one and the
    same jaxpr, with constants of their own.

    >>> import jax.numpy as jnp
    >>> double = jax.jit(lambda number, x: number * x)
    >>> two, three = (jax.make_jaxpr(lambda x, n=n: double(n, x))(1.0) for n in jnp.arange(2.0, 4.0))
    >>> structure_of(two) == structure_of(three), structure_of(jax.make_jaxpr(lambda x: 2 * x)(1.0))
    (True, None)
    """
    jaxpr, constants = opened(program)
    if len(jaxpr.eqns) != 1 or called(jaxpr.eqns[0]) is None or not all(map(_is_numeric, constants)):
        return None
    (eqn,) = jaxpr.eqns
    if not all(atom in eqn.outvars for atom in jaxpr.outvars):
        return None
    places = {variable: place for place, variable in enumerate((*jaxpr.constvars, *jaxpr.invars))}
    atoms = tuple(repr(atom.val) if is_literal(atom) else places[atom] for atom in eqn.invars)
    outputs = tuple(eqn.outvars.index(atom) for atom in jaxpr.outvars)
    types = tuple((np.shape(array), str(np.asarray(array).dtype)) for array in constants)
    return Structure((eqn.primitive.name, id(called(eqn)), atoms, outputs, types), program)


def constants_of(program: Any) -> Sequence[Any]:
    """The numbers in which programs of one structure differ."""
    return opened(program)[1]


@functools.lru_cache(maxsize=64)
def of_many(structure: Structure, count: int) -> Any:
    """One program for many of a structure: its inputs are their constants, then their arguments, all stacked.

    >>> import jax.numpy as jnp
    >>> double = jax.jit(lambda number, x: number * x)
    >>> two = jnp.asarray(2.0)
    >>> program = jax.make_jaxpr(lambda x: double(two, x))(1.0)
    >>> [variable.aval.shape for variable in of_many(structure_of(program), 5).jaxpr.invars][-1]
    (5,)
    """
    jaxpr, constants = opened(structure.program)

    def one(constants: Sequence[Array], arguments: Sequence[Array]) -> list[Array]:
        return interpret(jaxpr, [*constants, *arguments], bind)

    def stacked(array: Any, dtype: Any) -> np.ndarray:
        return np.zeros((count, *np.shape(array)), dtype)

    arguments = [stacked(variable.aval, variable.aval.dtype) for variable in jaxpr.invars]
    return jax.make_jaxpr(jax.vmap(one))([stacked(array, np.asarray(array).dtype) for array in constants], arguments)


def _is_numeric(array: Any) -> bool:
    return not jnp.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.extended)
