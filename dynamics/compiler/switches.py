"""Where a program switches from one smooth piece to another: comparisons, maxima, absolute values, roundings."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.compiler._jax import Scan, bind, branches, called, opened, subjaxprs
from dynamics.compiler.derivatives import is_trusted, scanned, source
from dynamics.compiler.jaxprs import interpret

COMPARED = {"gt", "lt", "ge", "le", "eq", "ne", "max", "min"}
ROUNDED = {"floor", "ceil", "round"}
TIED = {"reduce_max", "reduce_min", "argmax", "argmin", "cummax", "cummin", "sort", "top_k"}
# Functions of JAX and of this library that are smooth, and compare only in order to lose no digits.
SMOOTH = {"sigmoid", "softplus", "logaddexp", "logaddexp2"}


def gaps(function: Callable[..., Any]) -> Callable[..., Float[Array, " switches"]]:
    """A function of the same arguments that returns how far each switch of the program is from switching.

    At a switch the program goes over from one smooth piece to another: where the two sides of a comparison, a maximum
    or a minimum are equal, where the argument of an absolute value or a sign vanishes, at the steps of a rounding, at
    ties of a sort. Each gives its distance, with a sign that tells the sides apart, one number per element of its
    arrays, in calls, branches (infinite in those not taken) and loops of known length. Switches that do not depend on
    the arguments, those inside of while loops and those of functions that are known to be smooth are left out.

    Args:
        function: of arrays, or pytrees of them.

    >>> gaps(lambda x: jax.nn.relu(x - 1.0) + jnp.abs(x))(3.0).tolist()
    [2.0, 3.0]
    """

    @functools.wraps(function)
    def distances(*arguments: Any) -> Float[Array, " switches"]:
        program = jax.make_jaxpr(function)(*arguments)
        leaves = jax.tree.leaves(arguments)
        _, parts = _evaluate(program.jaxpr, program.consts, leaves, [True] * len(leaves))
        return _joined(parts)

    return distances


def may_switch(jaxpr: Any) -> bool:
    """Whether a program holds an operation that may switch."""
    names = COMPARED | ROUNDED | TIED | {"abs", "sign", "clamp", "rem", "convert_element_type"}
    return any(
        (eqn.primitive.name in names and _is_real(eqn.invars[0]))
        or (not _is_smooth(eqn) and any(map(may_switch, subjaxprs(eqn))))
        for eqn in jaxpr.eqns
    )


def _is_smooth(eqn: Any) -> bool:
    """Whether an equation calls a function that is known to be smooth."""
    if eqn.primitive.name != "custom_jvp_call":
        return False
    return source(eqn).split(" at ")[0] in SMOOTH and is_trusted(eqn)


def _is_real(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, jnp.floating)


def _joined(parts: Sequence[Array]) -> Array:
    flat = [jnp.ravel(part) for part in parts]
    return jnp.concatenate(flat) if flat else jnp.zeros(0, jnp.result_type(float))


def _evaluate(
    jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], depends: Sequence[bool]
) -> tuple[list[tuple[Any, bool]], list[Array]]:
    """The results with whether they depend on the arguments that are marked, and the gaps."""
    parts: list[Array] = []

    def evaluate(eqn: Any, inputs: list[tuple[Any, bool]]) -> list[tuple[Any, bool]]:
        values, marks = [value for value, _ in inputs], [mark for _, mark in inputs]
        if not any(marks):
            return [(value, False) for value in bind(eqn, values)]
        results, more = _equation(eqn, values, marks)
        parts.extend(more)
        return results

    inputs = [*((value, False) for value in constants), *zip(arguments, depends, strict=True)]
    return interpret(jaxpr, inputs, evaluate, lambda atom: (atom.val, False)), parts


def _equation(eqn: Any, values: list[Any], marks: list[bool]) -> tuple[list[tuple[Any, bool]], list[Array]]:
    name, inner = eqn.primitive.name, called(eqn)
    if inner is not None and not _is_smooth(eqn):
        return _closed(inner, values, marks)
    if name == "scan" and may_switch(Scan.of(eqn).body.jaxpr):
        parts: list[Array] = []

        def body(row: list[Any], _: Any) -> list[Any]:
            results, more = _closed(Scan.of(eqn).body, row, [True] * len(row))
            return [*(value for value, _ in results), _joined(more)]

        *results, rows = scanned(eqn, values, body)
        return [(value, True) for value in results], [*parts, rows]
    if name == "cond" and any(may_switch(branch.jaxpr) for branch in branches(eqn)):
        return _branches(branches(eqn), values)
    return [(value, True) for value in bind(eqn, values)], _gaps(eqn, values)


def _closed(program: Any, values: Sequence[Any], marks: Sequence[bool]) -> tuple[list[tuple[Any, bool]], list[Array]]:
    return _evaluate(*opened(program), values, marks)


def _branches(cases: Sequence[Any], values: list[Any]) -> tuple[list[tuple[Any, bool]], list[Array]]:
    def taken(branch: Any, *operands: Any) -> tuple[list[Any], Array]:
        results, parts = _closed(branch, operands, [True] * len(operands))
        return [value for value, _ in results], _joined(parts)

    shapes = [jax.eval_shape(functools.partial(taken, branch), *values[1:])[1] for branch in cases]

    def padded(place: int, *operands: Any) -> tuple[list[Any], Array]:
        results, own = taken(cases[place], *operands)
        dtype = jnp.result_type(*shapes)
        parts = [jnp.full(shape.shape, jnp.inf, dtype) for shape in shapes]
        parts[place] = own.astype(dtype)
        return results, jnp.concatenate(parts)

    same_shapes = [functools.partial(padded, place) for place in range(len(cases))]
    results, part = jax.lax.switch(values[0], same_shapes, *values[1:])
    return [(value, True) for value in results], [part]


def _gaps(eqn: Any, values: list[Any]) -> list[Array]:
    name, parameters = eqn.primitive.name, eqn.params
    if not eqn.invars or not _is_real(eqn.invars[0]):
        return []
    first = values[0]
    if name in COMPARED:
        same = eqn.invars[0] is eqn.invars[1]  # a test for NaN
        return [] if same else [first - values[1]]
    if name in {"abs", "sign"}:
        return [first]
    if name == "clamp":  # of a number between two bounds
        return [values[1] - first, values[1] - values[2]]
    if name == "round":
        return [first - jnp.floor(first) - 0.5]
    if name in ROUNDED or (name == "convert_element_type" and not _is_real(eqn.outvars[0])):
        return [first - jnp.round(first)]
    if name == "rem":
        return [first - values[1] * jnp.round(first / values[1])]
    if name in TIED:
        axes = parameters.get("axes")
        if axes is None:
            axes = (parameters.get("axis", parameters.get("dimension", first.ndim - 1)),)
        ordered = jnp.moveaxis(first, axes, tuple(range(-len(axes), 0)))
        ordered = jnp.sort(ordered.reshape(*ordered.shape[: ordered.ndim - len(axes)], -1), axis=-1)
        steps = jnp.diff(ordered, axis=-1)
        if not steps.size:
            return []
        if name in {"reduce_max", "argmax"}:
            return [steps[..., -1]]
        return [steps[..., 0]] if name in {"reduce_min", "argmin"} else [steps]
    return []
