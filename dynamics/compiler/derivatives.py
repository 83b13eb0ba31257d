"""Derivatives of what a function returns, whatever its author holds fixed or replaces by a rule of his own."""

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics.compiler._jax import (
    Scan,
    While,
    bind,
    branches,
    called,
    checkpoint_options,
    frames,
    function_source,
    is_closed,
    is_literal,
    opened,
    subjaxprs,
)
from dynamics.compiler.jaxprs import interpret

# Solvers that hold something fixed on their way to a solution, and bring the right derivative of it as a rule.
SOLVERS = ("lineax", "optimistix", "diffrax")
# Packages whose derivative rules (`custom_jvp`) are those of the values, often in a form that loses no digits.
TRUSTED = ("jax", "equinox", "lineax", "optimistix", "diffrax", "optax", "flax", "dynamics")


def released(function: Callable[..., Any]) -> Callable[..., Any]:
    r"""The same function for a derivative of its values: what it holds fixed with `stop_gradient` is free to vary.

    A loss that holds something fixed changes what a gradient is, and so the field of a game; the map that is iterated
    depends on it all the same. The function is traced, which resolves the gradients inside it, and evaluated again with
    `stop_gradient` as the identity, in loops, branches and calls too. Rules that their author wrote (`custom_jvp`,
    `custom_vjp`) need not be derivatives of the values (straight-through estimators, gradient reversal): what a
    gradient inside made of them stays; elsewhere the values are differentiated, and a `custom_jvp` rule counts only
    where that is not finite. The rules of JAX and of libraries around it are derivatives, and stay.

    Args:
        function: of pytrees of arrays.

    >>> def field(x):
    ...     return -jax.grad(lambda y: (y - jax.lax.stop_gradient(1.5 * y)) ** 2 / 2)(x)
    >>> float(jax.jacfwd(field)(0.0)), float(jax.jacfwd(released(field))(0.0))
    (-1.0, 0.5)
    """

    @functools.wraps(function)
    def free(*arguments: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        values = evaluate(program.jaxpr, program.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), values)

    return free


def coarsest_epsilon(jaxpr: Any, depends: Sequence[bool] | None = None) -> float:
    """The largest machine epsilon of the floating-point types through which a program's arguments go.

    Args:
        jaxpr: the program.
        depends: which of its arguments count; `None`: all.
    """
    marked = {
        variable for variable, one in zip(jaxpr.invars, depends or [True] * len(jaxpr.invars), strict=True) if one
    }
    types = [variable.aval.dtype for variable in marked]
    epsilon = 0.0
    for eqn in jaxpr.eqns:
        if not any(not is_literal(atom) and atom in marked for atom in eqn.invars):
            continue
        marked.update(eqn.outvars)
        types += [variable.aval.dtype for variable in eqn.outvars]
        epsilon = max([epsilon, *map(coarsest_epsilon, subjaxprs(eqn))])
    return max([epsilon, *(float(jnp.finfo(kind).eps) for kind in types if jnp.issubdtype(kind, jnp.inexact))])


def evaluate(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """The results of a program, with `stop_gradient` as the identity and rules that are not trusted by the values."""
    return interpret(jaxpr, [*constants, *arguments], _evaluated)


def _evaluated(eqn: Any, values: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if name == "stop_gradient" and not of_a_solver(eqn):
        return values
    if not holds(eqn):
        return bind(eqn, values)
    if name == "custom_jvp_call" and not is_trusted(eqn):
        return _by_values(eqn, values)
    if name == "custom_jvp_call":
        return bind(eqn, values)
    results = through(eqn, values, _closed)
    if results is not None:
        return results
    # Anything else that holds a program (a linear system, say) gets it rewritten.
    return bind(eqn.replace(params=jax.tree.map(_rewritten, eqn.params, is_leaf=is_closed)), values)


def _rewritten(tree: Any) -> Any:
    return jax.make_jaxpr(functools.partial(_branch, tree))(*tree.in_avals) if is_closed(tree) else tree


def _closed(program: Any, values: Sequence[Any]) -> list[Any]:
    return evaluate(*opened(program), values)


def _branch(program: Any, *values: Any) -> list[Any]:
    return _closed(program, values)


def through(eqn: Any, values: list[Any], closed: Callable[[Any, Sequence[Any]], list[Any]]) -> list[Any] | None:
    """The results of a call, a loop or a choice whose programs `closed` evaluates; `None` of any other equation."""
    inner, name = called(eqn), eqn.primitive.name
    options = checkpoint_options(eqn)
    if inner is not None and options is not None:  # computed again in derivatives, or their memory would grow
        return list(jax.checkpoint(functools.partial(_called_again, closed, inner), **options)(*values))
    if inner is not None:
        return closed(inner, values)
    if name == "scan":
        return scanned(eqn, values, lambda row, *_: closed(Scan.of(eqn).body, row))
    if name == "while":
        return looped(eqn, values, closed)
    if name == "cond":
        cases = [lambda *given, branch=branch: closed(branch, given) for branch in branches(eqn)]
        return list(jax.lax.switch(values[0], cases, *values[1:]))
    return None


def _called_again(closed: Callable[[Any, Sequence[Any]], list[Any]], inner: Any, *values: Any) -> list[Any]:
    return closed(inner, values)


def scanned(eqn: Any, values: list[Any], body: Callable[..., list[Any]], extra: Any = ()) -> list[Any]:
    """The results of a scan with another body, which gets its arguments and a row of `extra`."""
    scan = Scan.of(eqn)
    constants, first, rows = scan.split(values)

    def step(carry: list[Any], row: Any) -> tuple[list[Any], list[Any]]:
        rows, more = row
        results = body([*constants, *carry, *rows], more)
        return results[: scan.carries], results[scan.carries :]

    first = [jnp.asarray(value) for value in first]
    end, stacked = jax.lax.scan(step, first, (rows, extra), scan.length, reverse=scan.reverse, unroll=scan.unroll)
    return [*end, *stacked]


def looped(eqn: Any, values: list[Any], closed: Callable[[Any, Sequence[Any]], list[Any]]) -> list[Any]:
    """The results of a while loop whose condition and body are evaluated by `closed`."""
    loop = While.of(eqn)
    of_condition, of_body, start = loop.split(values)
    end = jax.lax.while_loop(
        lambda carry: closed(loop.condition, [*of_condition, *carry])[0],
        lambda carry: closed(loop.body, [*of_body, *carry]),
        [jnp.asarray(value) for value in start],
    )
    return list(end)


def holds(eqn: Any) -> bool:
    """Whether there is something in an equation that this module evaluates in a way of its own."""
    name = eqn.primitive.name
    if name == "stop_gradient":
        return not of_a_solver(eqn)
    if name.startswith("custom_vjp_call"):
        return True
    if name == "custom_jvp_call":
        return not is_trusted(eqn)
    return any(any(map(holds, inner.eqns)) for inner in subjaxprs(eqn))


def rules(jaxpr: Any) -> set[str]:
    """Names of the functions in a program whose derivative rules are neither JAX's nor those of a known library."""
    names = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call")) and not is_trusted(eqn):
            names.add(source(eqn))
        names |= set().union(*map(rules, subjaxprs(eqn)))
    return names


def source(eqn: Any) -> str:
    """Name and place of the function that an equation calls."""
    return function_source(eqn) or eqn.primitive.name


def is_trusted(eqn: Any) -> bool:
    """Whether the derivative rule of a called function is one of JAX's or of a known library."""
    place = source(eqn)
    return any(folder in place for folder in _folders(*TRUSTED))


def of_a_solver(eqn: Any) -> bool:
    """Whether an equation was written by a solver's own code: the innermost file outside of JAX says so."""
    for file_name in frames(eqn):
        if not file_name.startswith(_folders("jax")):
            return file_name.startswith(_folders(*SOLVERS))
    return False


@functools.cache
def _folders(*packages: str) -> tuple[str, ...]:
    folders = []
    for package in packages:
        known = importlib.util.find_spec(package)
        for folder in (known and known.submodule_search_locations) or ():
            folders.append(os.path.abspath(folder) + os.sep)
    return tuple(folders)


def _by_values(eqn: Any, values: list[Any]) -> list[Any]:
    """A function with a rule that is not trusted: the values' own derivative where that is finite."""
    program = called(eqn)

    @jax.custom_jvp
    def call(*values: Any) -> list[Any]:
        return _closed(program, values)

    @call.defjvp
    def derivative(primals: Any, tangents: Any) -> tuple[list[Any], list[Any]]:
        results, slopes = jax.jvp(lambda *values: _closed(program, values), primals, tangents)
        _, by_rule = jax.jvp(lambda *values: bind(eqn, values), primals, tangents)
        return results, [_first_finite(*pair) for pair in zip(slopes, by_rule, strict=True)]

    return call(*values)


def _first_finite(slope: Array, by_rule: Array) -> Array:
    if slope.dtype == jax.dtypes.float0:
        return slope
    return jnp.where(jnp.isfinite(slope), slope, by_rule)
