"""Where a program switches from one smooth piece to another: comparisons, maxima, absolute values, roundings."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dynamics.compiler._jax import Scan, bind, branches, called, opened, subjaxprs, with_outputs
from dynamics.compiler.derivatives import is_trusted, scanned, source
from dynamics.compiler.jaxprs import interpret, simplified

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


class NoSide(ValueError):
    """A switch has no two sides that are known here; the message says which."""


def on_sides(
    function: Callable[..., Any], signs: np.ndarray | Array
) -> Callable[..., tuple[Any, Float[Array, " switches"]]]:
    """A function of the same arguments that returns its values and gaps, with some switches held on one of their sides.

    It is the smooth piece that the program follows on these sides, continued across the switches: a comparison has the
    same answer, a maximum takes the same argument, an absolute value is the number or its negative, on either side.

    Args:
        function: of arrays, or pytrees of them.
        signs: for each switch, as `gaps` counts them, the sign of the gap on its side; 0 leaves it as it is.

    Raises:
        NoSide: when called, where a switch that is held is the step of a rounding, or a tie of more than two numbers.

    >>> value, _ = on_sides(lambda x: jax.nn.relu(x) + 2 * jnp.abs(x), np.array([-1, -1]))(3.0)
    >>> float(value)
    -6.0
    """

    @functools.wraps(function)
    def held(*arguments: Any) -> tuple[Any, Array]:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        leaves = jax.tree.leaves(arguments)
        results, parts = _evaluate(program.jaxpr, program.consts, leaves, [True] * len(leaves), _Sides(signs))
        return jax.tree.unflatten(jax.tree.structure(shape), [value for value, _ in results]), _joined(parts)

    return held


class _Sides:
    """The signs of switches, handed out in the order in which a program comes to them."""

    def __init__(self, signs: Any):
        self.signs, self.place = signs, 0

    def next(self, count: int) -> Any:
        """The signs of so many switches."""
        self.place += count
        return self.signs[self.place - count : self.place]


def shortened(function: Callable[[Array], Array], position: Array) -> Callable[[Array], Array]:
    """A function of an array as a program that is as short as it can be with the same values, gaps and pieces.

    It is traced once. `gaps` and `on_sides` look into calls, except into those of functions known to be smooth:
    only these are left. Of equal switches one remains, so that their numbers are those of the short function.

    Args:
        function: of one array, that returns one.
        position: an array like its argument.
    """
    return _without_calls(jax.make_jaxpr(function)(position))


def short_gaps(function: Callable[[Array], Array], position: Array) -> Callable[[Array], Array]:
    """`gaps` as such a program: gaps mostly take a small part of what a function computes."""
    return shortened(gaps(function), position)


def short_on_sides(
    function: Callable[[Array], Array], signs: np.ndarray, position: Array
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """`on_sides` as two such programs, of the values and of the gaps.

    Raises:
        NoSide: as `on_sides`.
    """
    program = jax.make_jaxpr(on_sides(function, signs))(position)
    value, gap = (_without_calls(with_outputs(program, [output])) for output in program.jaxpr.outvars)
    return value, gap


def _without_calls(closed: Any) -> Callable[[Array], Array]:
    short = simplified(closed, keep=_is_smooth)
    return lambda vector: interpret(short.jaxpr, [*short.consts, vector], bind)[0]


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
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    depends: Sequence[bool],
    sides: _Sides | None = None,
) -> tuple[list[tuple[Any, bool]], list[Array]]:
    """The results with whether they depend on the arguments that are marked, and the gaps; on sides where given."""
    parts: list[Array] = []

    def evaluate(eqn: Any, inputs: list[tuple[Any, bool]]) -> list[tuple[Any, bool]]:
        values, marks = [value for value, _ in inputs], [mark for _, mark in inputs]
        if not any(marks):
            return [(value, False) for value in bind(eqn, values)]
        results, more = _equation(eqn, values, marks, sides)
        parts.extend(more)
        return results

    inputs = [*((value, False) for value in constants), *zip(arguments, depends, strict=True)]
    return interpret(jaxpr, inputs, evaluate, lambda atom: (atom.val, False)), parts


def _equation(
    eqn: Any, values: list[Any], marks: list[bool], sides: _Sides | None
) -> tuple[list[tuple[Any, bool]], list[Array]]:
    name, inner = eqn.primitive.name, called(eqn)
    if inner is not None and not _is_smooth(eqn):
        return _closed(inner, values, marks, sides)
    if name == "scan" and may_switch(Scan.of(eqn).body.jaxpr):
        return _scanned(eqn, values, sides)
    if name == "cond" and any(may_switch(branch.jaxpr) for branch in branches(eqn)):
        return _branches(branches(eqn), values, sides)
    parts = _gaps(eqn, values)
    if sides is not None and parts:
        signs = [sides.next(np.size(part)).reshape(np.shape(part)) for part in parts]  # NumPy arrays, unless in a loop
        if any(map(_holds, signs)):
            return [(_on_side(eqn, values, signs), True)], parts
    return [(value, True) for value in bind(eqn, values)], parts


def _holds(signs: Any) -> bool:
    """Whether a switch is held; of signs that are traced nothing is known."""
    return isinstance(signs, Tracer) or bool(np.any(np.asarray(signs) != 0))


def _closed(
    program: Any, values: Sequence[Any], marks: Sequence[bool], sides: _Sides | None = None
) -> tuple[list[tuple[Any, bool]], list[Array]]:
    return _evaluate(*opened(program), values, marks, sides)


def _scanned(eqn: Any, values: list[Any], sides: _Sides | None) -> tuple[list[tuple[Any, bool]], list[Array]]:
    def body(row: list[Any], signs: Any) -> list[Any]:
        held = None if sides is None else _Sides(signs)
        results, more = _closed(Scan.of(eqn).body, row, [True] * len(row), held)
        return [*(value for value, _ in results), _joined(more)]

    extra: Any = ()
    if sides is not None:
        scan = Scan.of(eqn)
        plain = jax.eval_shape(lambda: scanned(eqn, values, lambda row, _: _plain_row(scan, row)))
        shape = plain[-1].shape
        extra = sides.next(int(np.prod(shape))).reshape(shape)
    *results, rows = scanned(eqn, values, body, extra)
    return [(value, True) for value in results], [rows]


def _plain_row(scan: Scan, row: list[Any]) -> list[Any]:
    results, more = _closed(scan.body, row, [True] * len(row))
    return [*(value for value, _ in results), _joined(more)]


def _branches(
    cases: Sequence[Any], values: list[Any], sides: _Sides | None
) -> tuple[list[tuple[Any, bool]], list[Array]]:
    def taken(branch: Any, *operands: Any, signs: Any = None) -> tuple[list[Any], Array]:
        held = None if signs is None else _Sides(signs)
        results, parts = _closed(branch, operands, [True] * len(operands), held)
        return [value for value, _ in results], _joined(parts)

    shapes = [jax.eval_shape(functools.partial(taken, branch), *values[1:])[1] for branch in cases]
    signs = [None if sides is None else sides.next(shape.size) for shape in shapes]

    def padded(place: int, *operands: Any) -> tuple[list[Any], Array]:
        results, taken_gaps = taken(cases[place], *operands, signs=signs[place])
        dtype = jnp.result_type(*shapes)
        parts = [jnp.full(shape.shape, jnp.inf, dtype) for shape in shapes]
        parts[place] = taken_gaps.astype(dtype)
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


def _on_side(eqn: Any, values: list[Any], signs: list[Any]) -> Any:
    """The result of an equation that switches, on the sides with these signs, one array of them per gap."""
    name = eqn.primitive.name
    side = signs[0]
    usual = bind(eqn, values)[0]
    above, held = side > 0, side != 0
    if name in ("gt", "ge", "lt", "le", "eq", "ne"):
        answer = {"gt": above, "ge": above, "lt": ~above, "le": ~above, "eq": above & ~above, "ne": above | ~above}
        return jnp.where(held, answer[name], usual)
    if name in ("max", "min"):
        first, second = values if name == "max" else values[::-1]
        return jnp.where(held, jnp.where(above, first, second), usual)
    if name == "abs":
        return jnp.where(held, jnp.where(above, values[0], -values[0]), usual)
    if name == "sign":
        return jnp.where(held, side.astype(usual.dtype), usual)
    if name == "clamp":
        low, number, high = values
        from_low, from_high = signs
        inside = jnp.where(from_low < 0, low, jnp.where(from_high > 0, high, number))
        return jnp.where((from_low != 0) | (from_high != 0), inside, usual)
    raise NoSide(f"the program switches in {name}, the sides of which are not told apart")
