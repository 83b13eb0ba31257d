"""Programs evaluated in decimal digits far beyond those of float64, on the host."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import Scan, While, bind, branches, called, opened
from dynamics.compiler.derivatives import is_trusted, source
from dynamics.compiler.jaxprs import interpret

DIGITS = 60
MOST_ITERATIONS = 10_000  # of all loops of a program together


class NotEvaluated(ValueError):
    """A program holds something that cannot be evaluated in many digits; the message says what."""


@functools.cache
def context(digits: int = DIGITS) -> Any:
    """The arithmetic: an `mpmath` context of its own, so that threads do not share a precision."""
    import mpmath  # takes a tenth of a second

    arithmetic = mpmath.MPContext()
    arithmetic.dps = digits
    return arithmetic


def exact(array: Any, digits: int = DIGITS) -> np.ndarray:
    """An array of floats or integers as one of the same numbers in many digits (dtype `object`)."""
    number, array = context(digits).mpf, np.asarray(array)
    return _each(lambda value: number(float(value)), array)


def evaluated(closed: Any, arguments: Sequence[Any], digits: int = DIGITS) -> list[Any]:
    """The outputs of a closed jaxpr, floats in many digits.

    Numbers in the program count as the floats that they are; operations on them are exact up to the digits. Arguments
    and outputs that are floats are arrays of `object`, see `exact`; others are NumPy arrays.

    Raises:
        NotEvaluated: there is a primitive in it that is not known here (linear solvers, random numbers, sorting), or
            one that computes in less than double precision.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     program = jax.make_jaxpr(lambda x: jnp.exp(x) - 1.0)(jnp.zeros((), "float64"))
    >>> value = evaluated(program, [exact(1e-30)])[0]
    >>> import mpmath
    >>> mpmath.nstr(value.item(), 3), abs(float(value.item() - mpmath.mpf(1e-30))) < 1e-60
    ('1.0e-30', True)
    """
    jaxpr, constants = opened(closed)
    return _Evaluation(digits)(jaxpr, constants, arguments)


class Specialised:
    """A closed jaxpr whose first arguments are known.

    What follows from these is computed once, and 0 times anything is 0. Derivatives along directions at a point are
    such: most of the program is about the point alone.

    Args:
        closed: the program.
        known: its first arguments, as for `evaluated`.
        rules: leave calls of functions with derivative rules as they are, so that `function` may be differentiated.
        digits: of the arithmetic.
        zeros: whether 0 times anything is 0; otherwise 0 times what is not finite is not a number, as in `evaluated`.
        watches: look out for numbers that are lost in sums, see `absorbed`; takes as long as the sums.

    Raises:
        NotEvaluated: as `evaluated`.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     program = jax.make_jaxpr(lambda x, y: jnp.sin(x) * y)(*[jnp.zeros((), "float64")] * 2)
    >>> specialised = Specialised(program, [exact(0.5)])
    >>> len(specialised.steps), round(float(specialised([exact(2.0)])[0]), 12)
    (1, 0.958851077208)
    """

    def __init__(
        self,
        closed: Any,
        known: Sequence[Any],
        *,
        rules: bool = False,
        digits: int = DIGITS,
        zeros: bool = True,
        watches: bool = False,
    ):
        self.rules, self.zeros = rules, zeros
        self.evaluation = _Evaluation(digits, watches)
        jaxpr, constants = opened(closed)
        self.steps: list[tuple[Any, list[Any], list[_Slot]]] = []
        self.count = 0
        self.inputs = [self._slot() for _ in jaxpr.invars[len(known) :]]
        values = [
            self.evaluation.value(value, variable.aval) for value, variable in zip(known, jaxpr.invars, strict=False)
        ]
        self.outputs = self._read(jaxpr, constants, [*values, *self.inputs])
        self.avals = [variable.aval for variable in jaxpr.outvars]
        needed = {atom for atom in self.outputs if isinstance(atom, _Slot)}
        kept = []
        for eqn, atoms, slots in reversed(self.steps):
            if needed.intersection(slots):
                kept.append((eqn, atoms, slots))
                needed.update(atom for atom in atoms if isinstance(atom, _Slot))
        self.steps = kept[::-1]

    @property
    def absorbed(self) -> bool:
        """Whether somewhere a number that is not 0 was lost in a sum: the digits are too few for such scales."""
        return self.evaluation.absorbed

    def __call__(self, arguments: Sequence[Any]) -> list[Any]:
        """The outputs for the other arguments."""
        env: dict[Any, Any] = dict(zip(self.inputs, arguments, strict=True))
        self.evaluation.left = MOST_ITERATIONS
        for eqn, atoms, slots in self.steps:
            values = [env[atom] if isinstance(atom, _Slot) else atom for atom in atoms]
            for slot, variable, value in zip(slots, eqn.outvars, self.evaluation.outputs(eqn, values), strict=True):
                env[slot] = self.evaluation.value(value, variable.aval)
        return [env[atom] if isinstance(atom, _Slot) else atom for atom in self.outputs]

    def constants(self) -> list[np.ndarray]:
        """The floats that are known, in the order in which `function` takes them."""
        return [atom for _, atom in self._atoms() if _is_known_float(atom)]

    def function(self, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """What is left of the program in JAX, as a function of its `constants` and of the other arguments."""
        known = iter(constants)
        env: dict[Any, Any] = dict(zip(self.inputs, arguments, strict=True))

        def of(atom: Any) -> Any:
            return next(known) if _is_known_float(atom) else env[atom] if isinstance(atom, _Slot) else atom

        for eqn, atoms, slots in self.steps:
            env.update(zip(slots, bind(eqn, [of(atom) for atom in atoms]), strict=True))
        return [of(atom) for atom in self.outputs]

    def structure(self) -> Any:
        """Equal for programs that differ in the numbers of `constants` alone; `None` where that is not known."""
        parts = []
        for eqn, atoms, slots in self.steps:
            if eqn.primitive.name.startswith("custom_") and not is_trusted(eqn):
                return None  # its rule may hold numbers of its own
            params = {name: str(value) for name, value in eqn.params.items() if not callable(value)}
            places = tuple(map(_place, atoms))
            parts.append((eqn.primitive.name, source(eqn), str(params), places, tuple(map(int, slots))))
        return tuple(parts), tuple(map(_place, self.outputs)), tuple(map(int, self.inputs))

    def placeholders(self) -> list[np.ndarray]:
        """Arrays of the shapes and types of `constants`."""
        return [np.zeros(atom.shape, aval.dtype) for aval, atom in self._atoms() if _is_known_float(atom)]

    def _atoms(self) -> list[tuple[Any, Any]]:
        pairs = [(variable.aval, atom) for eqn, atoms, _ in self.steps for variable, atom in zip(eqn.invars, atoms)]
        return [*pairs, *zip(self.avals, self.outputs, strict=True)]

    def _slot(self) -> "_Slot":
        self.count += 1
        return _Slot(self.count)

    def _read(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        constants = [
            value if isinstance(value, _Slot) else self.evaluation.value(value, variable.aval)
            for variable, value in zip(jaxpr.constvars, constants, strict=True)
        ]
        inputs = [*constants, *arguments]
        return interpret(jaxpr, inputs, self._equation, lambda atom: self.evaluation.value(atom.val, atom.aval))

    def _equation(self, eqn: Any, atoms: list[Any]) -> list[Any]:
        name, inner = eqn.primitive.name, called(eqn)
        if not any(isinstance(atom, _Slot) for atom in atoms):
            outputs = self.evaluation.outputs(eqn, atoms)
            return [self.evaluation.value(value, v.aval) for value, v in zip(outputs, eqn.outvars, strict=True)]
        if inner is not None and not (self.rules and name.startswith("custom_")):
            jaxpr, constants = opened(inner)
            return self._read(jaxpr, constants, atoms)
        if name == "cond" and not isinstance(atoms[0], _Slot):
            jaxpr, constants = opened(self.evaluation.branch(eqn, atoms[0]))
            return self._read(jaxpr, constants, atoms[1:])
        aval = eqn.outvars[0].aval
        if self.zeros and name in ("mul", "div", "dot_general") and _is_float(aval):
            if any(_is_zero(atom) for atom in (atoms if name != "div" else atoms[:1])):
                return [_zeros(aval.shape, self.evaluation.digits)]
        if name in ("add", "add_any", "sub"):
            for first, second in ((0, 1), (1, 0)):
                if _is_zero(atoms[second]) and not (name == "sub" and second == 0):
                    if isinstance(atoms[first], _Slot) and eqn.invars[first].aval.shape == aval.shape:
                        return [atoms[first]]
        slots = [self._slot() for _ in eqn.outvars]
        self.steps.append((eqn, atoms, slots))
        return slots


def _place(atom: Any) -> Any:
    if isinstance(atom, _Slot):
        return int(atom)
    return ("known", atom.shape) if _is_known_float(atom) else repr(np.asarray(atom).tolist())


class _Slot(int):
    """The place of a number that is not known yet."""


def _is_known_float(atom: Any) -> bool:
    return isinstance(atom, np.ndarray) and atom.dtype.hasobject


def _zeros(shape: tuple[int, ...], digits: int) -> np.ndarray:
    """One and the same 0 at all places, which `_is_zero` sees at once."""
    return np.broadcast_to(exact(0.0, digits), shape)


def _is_zero(atom: Any) -> bool:
    if not _is_known_float(atom):
        return False
    if atom.size and not any(atom.strides):
        atom = atom[(0,) * atom.ndim]
    return not np.any(atom != 0)


def _each(function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    if all(not np.ndim(array) for array in arrays):  # by far the most, and NumPy takes its time
        return _objects(function(*(array[()] if isinstance(array, np.ndarray) else array for array in arrays)))
    return _objects(np.frompyfunc(function, len(arrays), 1)(*arrays))


def _objects(value: Any) -> np.ndarray:
    """What NumPy makes of arrays without axes are numbers; as an array again."""
    if isinstance(value, np.ndarray):
        return value
    single = np.empty((), object)
    single[()] = value
    return single


def _is_float(aval: Any) -> bool:
    return _is_floating(aval.dtype)


@functools.cache  # asked of every equation, many times
def _is_floating(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


@functools.cache
def _is_coarse(dtype: Any) -> bool:
    """Whether numbers of this type are less precise than in double precision."""
    return bool(jnp.finfo(dtype).eps > jnp.finfo(jnp.float64).eps)


_ARITHMETIC = {"add": operator.add, "add_any": operator.add, "sub": operator.sub, "mul": operator.mul}
_COMPARED = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "not": np.invert, "xor": np.bitwise_xor}
# Names of functions of the context, of one argument
_FUNCTIONS = {
    "exp": "exp", "log": "log", "log1p": "log1p", "expm1": "expm1", "sqrt": "sqrt", "cbrt": "cbrt", "sin": "sin",
    "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "erf": "erf", "erfc": "erfc",
    "erf_inv": "erfinv", "lgamma": "loggamma", "digamma": "digamma", "floor": "floor", "ceil": "ceil",
}  # fmt: skip
_BITS = 50  # of a float that count exactly
_MOVED = {"gather", "dynamic_slice", "dynamic_update_slice", "pad", "scatter", "select_and_gather_add"}


class _Evaluation:
    def __init__(self, digits: int, watches: bool = False):
        self.digits, self.context, self.left = digits, context(digits), MOST_ITERATIONS
        self.watches, self.absorbed = watches, False  # whether a number that is not 0 was lost in a sum

    def __call__(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        given = zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True)

        def evaluate(eqn: Any, values: list[Any]) -> list[Any]:
            outputs = zip(eqn.outvars, self.outputs(eqn, values), strict=True)
            return [self.value(value, variable.aval) for variable, value in outputs]

        inputs = [self.value(value, variable.aval) for variable, value in given]
        return interpret(jaxpr, inputs, evaluate, lambda atom: self.value(atom.val, atom.aval))

    def value(self, value: Any, aval: Any) -> Any:
        if not hasattr(aval, "dtype") or not _is_float(aval):
            return value
        if _is_coarse(aval.dtype):
            raise NotEvaluated(f"it computes in {aval.dtype}")
        return value if _is_known_float(value) else exact(value, self.digits)

    def outputs(self, eqn: Any, values: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if name == "scan":
            return self.scanned(eqn, values)
        if name == "while":
            return self.looped(eqn, values)
        if name == "cond":
            return self(*opened(self.branch(eqn, values[0])), values[1:])
        inner = called(eqn)
        if inner is not None:
            return self(*opened(inner), values)
        if any(_is_known_float(value) for value in values):
            return self.of_floats(eqn, name, values)
        if name in _LOGIC:
            return [_LOGIC[name](*map(np.asarray, values))]
        return [np.asarray(value) for value in bind(eqn, values)]

    def branch(self, eqn: Any, index: Any) -> Any:
        return branches(eqn)[int(np.clip(np.asarray(index), 0, len(branches(eqn)) - 1))]

    def of_floats(self, eqn: Any, name: str, values: list[Any]) -> list[Any]:
        arithmetic, params, first = self.context, eqn.params, values[0]
        if name in _ARITHMETIC:
            result = _objects(_ARITHMETIC[name](*values))
            if name != "mul" and self.watches and not self.absorbed:
                second = values[1]
                opposite = -second if name == "sub" else second
                lost = ((second != 0) & (result == first)) | ((first != 0) & (result == opposite))
                self.absorbed = bool(np.any(lost))
            return [result]
        if name in _COMPARED:
            return [_each(_COMPARED[name], *values).astype(bool)]
        if name in _FUNCTIONS:
            return [_each(getattr(arithmetic, _FUNCTIONS[name]), first)]
        match name:
            case "neg":
                return [_objects(-first)]
            case "div":
                return [_each(self.quotient, *values)]
            case "integer_pow":
                return [_each(lambda x: x ** params["y"], first)]
            case "pow":
                exponent = values[1]
                if exponent.dtype != object:
                    exponent = _each(int, exponent)
                return [_each(lambda x, y: x**y, first, exponent)]
            case "square":
                return [_objects(first * first)]
            case "one_minus_square":  # from JAX 0.12 on
                return [_objects(1 - first * first)]
            case "polynomial":  # likewise; the coefficients from the lowest to the highest
                return [
                    _objects(
                        functools.reduce(lambda total, coefficient: total * first + coefficient, reversed(values[1:]))
                    )
                ]
            case "log2":
                return [_each(lambda x: arithmetic.log(x, 2), first)]
            case "rsqrt":
                return [_each(lambda x: 1 / arithmetic.sqrt(x), first)]
            case "exp2":
                return [_each(lambda x: arithmetic.mpf(2) ** x, first)]
            case "logistic":
                return [_each(lambda x: 1 / (1 + arithmetic.exp(-x)), first)]
            case "atan2":
                return [_each(arithmetic.atan2, *values)]
            case "abs" | "sign":
                return [_each(abs if name == "abs" else arithmetic.sign, first)]
            case "max" | "min":
                return [_each(max if name == "max" else min, *values)]
            case "clamp":
                return [_each(lambda low, x, high: min(max(x, low), high), *values)]
            case "is_finite":
                return [_each(arithmetic.isfinite, first).astype(bool)]
            case "round":
                return [_each(arithmetic.nint, first)]
            case "copy" | "copy_p" | "stop_gradient" | "optimization_barrier" | "reduce_precision":
                return values
            case "convert_element_type":
                if _is_float(eqn.outvars[0].aval):
                    return [first]
                kind = eqn.outvars[0].aval.dtype
                return [
                    _each((lambda x: x != 0) if eqn.outvars[0].aval.dtype == jnp.bool_ else int, first).astype(kind)
                ]
            case "reshape":
                return [first.reshape(params["new_sizes"])]
            case "squeeze":
                return [first.reshape(eqn.outvars[0].aval.shape)]
            case "expand_dims":
                return [first.reshape(eqn.outvars[0].aval.shape)]
            case "transpose":
                return [first.transpose(params["permutation"])]
            case "broadcast_in_dim":
                shape, along = params["shape"], params["broadcast_dimensions"]
                sizes = [1] * len(shape)
                for axis, place in enumerate(along):
                    sizes[place] = first.shape[axis]
                return [np.broadcast_to(first.reshape(sizes), shape)]
            case "slice":
                steps = params["strides"] or (1,) * first.ndim
                parts = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
                return [_objects(first[tuple(slice(*part) for part in parts)])]
            case "concatenate":
                return [np.concatenate(values, axis=params["dimension"])]
            case "stack":
                return [np.stack(values, axis=params["axis"])]
            case "unstack":
                return [_objects(part) for part in np.moveaxis(first, params["axis"], 0)]
            case "rev":
                return [np.flip(first, params["dimensions"])]
            case "split":
                return list(np.split(first, np.cumsum(params["sizes"])[:-1], axis=params["axis"]))
            case "select_n":
                which, *cases = values
                which = np.broadcast_to(np.asarray(which, int), cases[0].shape)
                return [_objects(np.choose(which, cases))]
            case "reduce_sum" | "reduce_prod" | "reduce_max" | "reduce_min":
                reduce = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[name[7:]].reduce
                return [_objects(reduce(first, axis=tuple(params["axes"])))] if params["axes"] else [first]
            case "cumsum" | "cumprod":
                accumulate = (np.add if name == "cumsum" else np.multiply).accumulate
                along = params["axis"]
                turned = np.flip(first, along) if params["reverse"] else first
                result = accumulate(turned, axis=along)
                return [np.flip(result, along) if params["reverse"] else result]
            case "dot_general":
                left, right = values
                return [self.product(left, right, params["dimension_numbers"])]
        if name in _MOVED:
            return self.moved(eqn, values)
        if name in ("scatter-add", "scatter_add"):
            return [self.added(eqn, *values)]
        raise NotEvaluated(f"it uses {name}")

    def quotient(self, above: Any, below: Any) -> Any:
        if below == 0:
            return self.context.nan if above == 0 or above != above else above * self.context.inf
        return above / below

    def product(self, left: np.ndarray, right: np.ndarray, numbers: Any) -> np.ndarray:
        (summed_left, summed_right), (batch_left, batch_right) = numbers
        free_left = [axis for axis in range(left.ndim) if axis not in (*summed_left, *batch_left)]
        free_right = [axis for axis in range(right.ndim) if axis not in (*summed_right, *batch_right)]
        batch = tuple(left.shape[axis] for axis in batch_left)
        rows, columns = (
            tuple(array.shape[axis] for axis in free) for array, free in ((left, free_left), (right, free_right))
        )
        inner = int(np.prod([left.shape[axis] for axis in summed_left], dtype=int))
        count = int(np.prod(batch, dtype=int))
        a = left.transpose((*batch_left, *free_left, *summed_left)).reshape(count, -1, inner)
        b = right.transpose((*batch_right, *summed_right, *free_right)).reshape(count, inner, -1)
        shape = (*batch, *rows, *columns)
        return np.matmul(a, b).reshape(shape) if inner else exact(np.zeros(shape))

    def moved(self, eqn: Any, values: list[Any]) -> list[Any]:
        """What only moves numbers, done with their places: JAX moves these."""
        places, parts, begin = [], [], 0
        for value in values:
            if _is_known_float(value):
                places.append(np.arange(begin, begin + value.size).reshape(value.shape))
                parts.append(value.reshape(-1))
                begin += value.size
            else:
                places.append(value)
        numbers = np.concatenate(parts)
        results = [np.asarray(result) for result in bind(eqn, places)]
        if any(np.any((result < 0) | (result >= begin)) for result in results):  # filled in, out of bounds
            raise NotEvaluated(f"it uses {eqn.primitive.name} beyond the bounds of an array")
        return [_objects(numbers[result]) for result in results]

    def added(self, eqn: Any, target: np.ndarray, indices: Any, updates: np.ndarray) -> np.ndarray:
        """Updates added where JAX adds them: sums of different powers of 2 tell which went where."""
        result, parts = target.copy().reshape(-1), updates.reshape(-1)
        for begin in range(0, parts.size, _BITS):
            marks = np.zeros(parts.size)
            marks[begin : begin + _BITS] = 2.0 ** np.arange(min(_BITS, parts.size - begin))
            (sums,) = bind(eqn, [np.zeros(target.shape), indices, marks.reshape(updates.shape)])
            for place, total in enumerate(np.asarray(sums).reshape(-1).astype(np.int64).tolist()):
                for bit in range(_BITS):
                    if total >> bit & 1:
                        result[place] = result[place] + parts[begin + bit]
        return result.reshape(target.shape)

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise NotEvaluated(f"its loops take more than {MOST_ITERATIONS} iterations")

    def scanned(self, eqn: Any, values: list[Any]) -> list[Any]:
        scan = Scan.of(eqn)
        constants, carry, rows = scan.split(values)
        order = range(scan.length)[::-1] if scan.reverse else range(scan.length)
        stacked: list[Any] = [None] * scan.length
        for index in order:
            self.count()
            results = self(*opened(scan.body), [*constants, *carry, *(_objects_at(row, index) for row in rows)])
            carry, stacked[index] = results[: scan.carries], results[scan.carries :]
        if not scan.length:
            raise NotEvaluated("it has a loop without iterations")
        return [*carry, *(np.stack(column) for column in zip(*stacked, strict=True))]

    def looped(self, eqn: Any, values: list[Any]) -> list[Any]:
        loop = While.of(eqn)
        of_condition, of_body, carry = loop.split(values)
        while bool(np.asarray(self(*opened(loop.condition), [*of_condition, *carry])[0])):
            self.count()
            carry = self(*opened(loop.body), [*of_body, *carry])
        return list(carry)


def _objects_at(rows: Any, index: int) -> Any:
    return _objects(rows[index]) if _is_known_float(rows) else np.asarray(rows)[index]
