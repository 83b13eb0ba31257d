"""Reading the programs that JAX traces: what depends on what, and what nobody needs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from dynamics.compiler._jax import ClosedJaxpr, Jaxpr, bind, called, called_name, opened
from dynamics.compiler._jax import is_literal as is_literal
from dynamics.compiler._jax import jaxpr_as_fun as jaxpr_as_fun
from dynamics.compiler._jax import subjaxprs as subjaxprs


def primitives(jaxpr: Any) -> set[str]:
    """Names of all operations of a program and of the programs that it holds."""
    names = {eqn.primitive.name for eqn in jaxpr.eqns}
    return names.union(*(primitives(inner) for eqn in jaxpr.eqns for inner in subjaxprs(eqn)))


def has_loops(jaxpr: Any) -> bool:
    """Whether there is a loop in a program, or in one that it holds."""
    return not primitives(jaxpr).isdisjoint(("while", "scan"))


def largest_array(jaxpr: Any) -> int:
    """Numbers in the largest array that a program computes, or one of those that it holds."""
    computed = (getattr(variable.aval, "size", 0) for eqn in jaxpr.eqns for variable in eqn.outvars)
    held = (largest_array(inner) for eqn in jaxpr.eqns for inner in subjaxprs(eqn))
    return max([0, *computed, *held])


def calls(jaxpr: Any, name: str) -> int:
    """How often a program calls the function of this name; bodies of loops of unknown length count once."""
    count = 0
    for eqn in jaxpr.eqns:
        times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
        count += called_name(eqn) == name or times * sum(calls(inner, name) for inner in subjaxprs(eqn))
    return count


def interpret(
    jaxpr: Jaxpr,
    inputs: Sequence[Any],
    evaluate: Callable[[Any, list[Any]], Sequence[Any]],
    literal: Callable[[Any], Any] = lambda atom: atom.val,
    eqns: Sequence[Any] | None = None,
) -> list[Any]:
    """The outputs of a program whose equations are evaluated by a function: values, marks, LLVM, whatever it returns.

    Args:
        jaxpr: an open program.
        inputs: for its constants, then for its arguments.
        evaluate: given an equation and its inputs, returns its outputs.
        literal: what stands for a literal; its value by default.
        eqns: the equations to evaluate, in their order; all of them by default.

    >>> square = jax.make_jaxpr(lambda x, y: (x * y, x + 2))(1.0, 2.0)
    >>> interpret(square.jaxpr, ["x", "y"], lambda eqn, inputs: [f"{eqn.primitive}({', '.join(map(str, inputs))})"])
    ['mul(x, y)', 'add(x, 2.0)']
    """
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def read(atom: Any) -> Any:
        return literal(atom) if is_literal(atom) else env[atom]

    for eqn in jaxpr.eqns if eqns is None else eqns:
        env.update(zip(eqn.outvars, evaluate(eqn, [read(atom) for atom in eqn.invars]), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def depends(jaxpr: Any, flags: Sequence[bool]) -> list[bool]:
    """Which results depend on the arguments that are marked, or may do so."""

    def evaluate(eqn: Any, marks: list[bool]) -> list[bool]:
        inner = called(eqn)
        if inner is not None and any(marks):
            return depends(opened(inner)[0], marks)
        return [any(marks)] * len(eqn.outvars)

    return interpret(jaxpr, [*[False] * len(jaxpr.constvars), *flags], evaluate, lambda _: False)


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
    avals = [variable.aval for variable in (*closed.jaxpr.constvars, *closed.jaxpr.invars)]
    return jax.make_jaxpr(partial(_written_out, closed.jaxpr, bind, _never))(*map(same_type, avals))


def simplified(closed: ClosedJaxpr, keep: Callable[[Any], bool] | None = None) -> ClosedJaxpr:
    """The program inlined, with equal equations computed once, without equations that change nothing.

    To merge equal equations is exact; so is to leave out a product with 1, a second change of sign, and a sum, a
    reshape, a broadcast or a conversion of an array that is like its result already.

    Args:
        closed: the program; its constants stay constants.
        keep: which calls are kept as they are, with their rules of derivatives; by default none.

    >>> program = jax.make_jaxpr(lambda x: jax.numpy.exp(x) + 1.0 * jax.numpy.exp(x))(0.0)
    >>> [eqn.primitive.name for eqn in simplified(program).jaxpr.eqns]
    ['exp', 'add']
    """

    def run(*inputs: Any) -> list[Any]:
        merged = _Merging()
        return _written_out(closed.jaxpr, merged.outputs, keep or _never, *closed.consts, *inputs)

    return jax.make_jaxpr(run)(*(same_type(variable.aval) for variable in closed.jaxpr.invars))


def _never(eqn: Any) -> bool:
    return False


def _written_out(jaxpr: Jaxpr, evaluate: Callable[[Any, list[Any]], Any], keep: Any, *inputs: Any) -> list[Any]:
    """The outputs of a program, without what nobody needs; calls that are not kept are written out."""

    def outputs(eqn: Any, values: list[Any]) -> Sequence[Any]:
        inner = called(eqn)
        if inner is None or keep(eqn):
            return evaluate(eqn, values)
        inner_jaxpr, constants = opened(inner)
        return _written_out(inner_jaxpr, evaluate, keep, *constants, *values)

    return interpret(jaxpr, inputs, outputs, eqns=needed_eqns(jaxpr))


class _Merging:
    """Evaluates equations, those that are equal once."""

    def __init__(self) -> None:
        self.known: dict[Any, Sequence[Any]] = {}
        self.negated: dict[int, Any] = {}  # by the place of a result, what it is the negative of
        self.alive: list[Any] = []  # whose places are keys, and must not be used again

    def outputs(self, eqn: Any, values: list[Any]) -> Sequence[Any]:
        """Those of an equation for these inputs."""
        unchanged = self.unchanged(eqn, values)
        if unchanged is not None:
            return [unchanged]
        key = None if eqn.effects else self.key(eqn, values)
        if key in self.known and key is not None:
            return self.known[key]
        results = bind(eqn, values)
        self.alive += [*values, *results]
        if key is not None:
            self.known[key] = results
        if eqn.primitive.name == "neg":
            self.negated[id(results[0])] = values[0]
        return results

    def key(self, eqn: Any, values: list[Any]) -> Any:
        """Equal for equal equations; `None` where that is not known."""
        key = eqn.primitive, tuple(sorted(eqn.params.items())), tuple(map(_identity, values))
        try:
            hash(key)
        except TypeError:
            return None
        return key

    def unchanged(self, eqn: Any, values: list[Any]) -> Any:
        """The input that an equation returns as it is, or `None`."""
        name = eqn.primitive.name
        if name == "neg" and id(values[0]) in self.negated:
            return self.negated[id(values[0])]
        places: tuple[int, ...] = ()
        if name in UNCHANGING or (name in SUMS and not eqn.params["axes"]):
            places = (0,) if len(values) == 1 else ()
        elif name == "mul":
            places = tuple(1 - place for place in (0, 1) if _is_one(values[place]))
        for place in places:
            aval, wanted = eqn.invars[place].aval, eqn.outvars[0].aval
            if (aval.shape, aval.dtype, aval.weak_type) == (wanted.shape, wanted.dtype, wanted.weak_type):
                return values[place]
        return None


UNCHANGING = {"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "copy"}
SUMS = {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min"}


def _is_one(value: Any) -> bool:
    return not isinstance(value, Tracer) and np.shape(value) == () and bool(np.asarray(value) == 1)


def _identity(value: Any) -> Any:
    """Equal for one and the same array, and for equal numbers."""
    if not isinstance(value, Tracer) and np.shape(value) == ():
        number = np.asarray(value)
        if number.dtype.kind in "bifu":
            return number.dtype, number.tobytes(), getattr(value, "weak_type", False)
    return id(value)


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
    env = isinstance(constant, jax.Array) and not isinstance(constant, Tracer)
    return np.asarray(constant) if env and not jnp.issubdtype(constant.dtype, jax.dtypes.extended) else constant
