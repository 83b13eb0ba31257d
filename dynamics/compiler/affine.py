"""Steps that are affine: a matrix per game, made once, instead of the same derivatives at every step."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import called, called_name, is_literal, jaxpr_as_fun, subjaxprs, with_outputs
from dynamics.compiler.jaxprs import depends

STEP = "one_step"  # what `dynamics.simulation` calls the function that makes one step
FEWEST, MOST = 3, 64  # numbers in a state for which a matrix pays
FREE = {"broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "copy", "slice", "transpose", "concatenate"}


def is_affine_step(eqn: Any, invariant: Sequence[bool]) -> bool:
    r"""Whether an equation of a program is a step $z \mapsto Mz + c$, dearer than the product with the matrix.

    It is one if the derivative along any direction does not depend on the point, seen from the program alone.

    Args:
        equation: of a jaxpr.
        known: which of its arguments a loop does not change.
    """
    closed = called(eqn)
    if called_name(eqn) != STEP or all(invariant) or closed is None:
        return False
    changing = [atom.aval for atom, one in zip(eqn.invars, invariant, strict=True) if not one]
    changed = depends(closed.jaxpr, [not one for one in invariant])
    results = [atom.aval for atom, one in zip(eqn.outvars, changed, strict=True) if one]
    size = sum(aval.size for aval in changing)
    if [(a.shape, a.dtype) for a in results] != [(a.shape, a.dtype) for a in changing]:
        return False
    if not FEWEST <= size <= MOST or not all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in changing):
        return False
    if _work(closed.jaxpr) <= 2 * size**2:
        return False
    run = _with_invariant(jaxpr_as_fun(closed), invariant)

    def along(given: list[Any], point: list[Any], direction: list[Any]) -> list[Any]:
        def moved(*point: Any) -> list[Any]:
            return [end for end, one in zip(run(given, point), changed, strict=True) if one]

        return jax.jvp(moved, tuple(point), tuple(direction))[1]

    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in changing]
    given = [
        jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)
        for atom, one in zip(eqn.invars, invariant, strict=True)
        if one
    ]
    jaxpr = jax.make_jaxpr(along)(given, shapes, shapes).jaxpr
    flags = [len(given) <= index < len(given) + len(shapes) for index in range(len(jaxpr.invars))]
    return not any(depends(jaxpr, flags))


def as_affine(closed: Any, invariant: Sequence[bool]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    r"""What makes the matrix, and what makes a step with it.

    Where the step ends with $z + u$, as descent does, the matrix is that of $u$: rates far below 1 keep their digits.

    Args:
        closed: the program of the step.
        known: which of its arguments a loop does not change.

    Returns:
        `coefficients(*given)`, of the known arguments, and `step(coefficients, *changing)`.
    """
    jaxpr = closed.jaxpr
    moving = [variable for variable, one in zip(jaxpr.invars, invariant, strict=True) if not one]
    changed = depends(jaxpr, [not one for one in invariant])
    results = [result for result, one in zip(jaxpr.outvars, changed, strict=True) if one]
    rests = [_added_to(jaxpr, variable, result) for variable, result in zip(moving, results, strict=True)]
    replaced = iter([result if rest is None else rest for rest, result in zip(rests, results, strict=True)])
    ends = [next(replaced) if one else result for result, one in zip(jaxpr.outvars, changed, strict=True)]
    run = _with_invariant(jaxpr_as_fun(with_outputs(closed, ends)), invariant)
    shapes = [variable.aval.shape for variable in moving]
    sizes = [int(np.prod(shape, dtype=int)) for shape in shapes]
    ends_of = np.cumsum(sizes).tolist()
    dtypes = [variable.aval.dtype for variable in moving]

    def coefficients(*given: Any) -> list[Any]:
        def flat(*parts: Any) -> list[Any]:
            point = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
            return [jnp.reshape(end, -1) for end, one in zip(run(given, point), changed, strict=True) if one]

        origin = [jnp.zeros(size, dtype) for size, dtype in zip(sizes, dtypes, strict=True)]
        constants, tangent = jax.linearize(flat, *origin)
        # One direction after the other: a batch of them is no longer small.
        units = [np.eye(sum(sizes), dtype=dtype) for dtype in dtypes]
        units = [jnp.asarray(unit[:, end - size : end]) for unit, size, end in zip(units, sizes, ends_of, strict=True)]
        columns = jax.lax.map(lambda unit: tangent(*unit), units)
        at_origin = run(given, [part.reshape(shape) for part, shape in zip(origin, shapes, strict=True)])
        fixed = [jnp.asarray(end) for end, one in zip(at_origin, changed, strict=True) if not one]
        return [columns, constants, fixed]

    def step(made: list[Any], *changing: Any) -> list[Any]:
        columns, constants, fixed = made
        parts = [part.reshape(-1) for part in changing]
        results = []
        for rest, part, shape, matrix, constant in zip(rests, changing, shapes, columns, constants, strict=True):
            moved = constant
            for column, size, end in zip(parts, sizes, ends_of, strict=True):
                moved = moved + column @ matrix[end - size : end]
            moved = moved.reshape(shape)
            results.append(moved if rest is None else part + moved)
        same, other = iter(results), iter(fixed)
        return [next(same) if one else next(other) for one in changed]

    return coefficients, step


def _with_invariant(function: Callable[..., Any], invariant: Sequence[bool]) -> Callable[..., Any]:
    """The function of invariant and of changing arguments, two lists."""

    def run(given: Sequence[Any], changing: Sequence[Any]) -> list[Any]:
        first, second = iter(given), iter(changing)
        return function(*[next(first) if one else next(second) for one in invariant])

    return run


def _added_to(jaxpr: Any, variable: Any, result: Any) -> Any:
    """What is added to a variable to give a result, or `None`."""
    made_by = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}

    def same(atom: Any) -> Any:
        """Behind conversions that change nothing."""
        while not is_literal(atom) and atom in made_by:
            eqn = made_by[atom]
            if eqn.primitive.name not in ("convert_element_type", "copy"):
                break
            inner = eqn.invars[0]
            if inner.aval.dtype != atom.aval.dtype:
                break
            atom = inner
        return atom

    eqn = made_by.get(same(result)) if not is_literal(same(result)) else None
    if eqn is None or eqn.primitive.name not in ("add", "add_any"):
        return None
    one, other = eqn.invars
    if same(one) is variable:
        return other
    return one if same(other) is variable else None


def _work(jaxpr: Any) -> int:
    """Multiplications and additions, roughly."""
    count = 0
    for eqn in jaxpr.eqns:
        inner = subjaxprs(eqn)
        if inner:
            count += sum(map(_work, inner))
        elif eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            terms = int(np.prod([shape[axis] for axis in contracted], dtype=int))
            count += 2 * terms * eqn.outvars[0].aval.size
        elif eqn.primitive.name not in FREE:
            count += max(atom.aval.size for atom in eqn.outvars)
    return count
