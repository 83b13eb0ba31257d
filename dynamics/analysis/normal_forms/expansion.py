"""The Taylor expansion of a map or field at a point, in many digits."""

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Array

from dynamics.compiler.alike import constants_of, of_many, structure_of
from dynamics.compiler.many_digits import DIGITS, NotEvaluated, Specialised, context, exact

LARGEST = 24  # numbers in a state that is expanded
REFINEMENTS = 6
MOVED = 1e-6  # how far the fixed point in many digits may be from the point that was given, relative to 1 + its size
PROBE = 1e-11  # distance at which values are held against the expansion
SMALL = 1e-25  # numbers of a program below this, or above its inverse, are of another scale
PROBES = 3  # directions at random
ROWS = 8  # points or directions of an expansion that are evaluated at once: reading a program takes longest
POINTS = (64, 8, 1)  # of how many expansions
SHARE = 4  # these are evaluated together if one in so many asks for values


class NotDecided(ValueError):
    """Why the terms beyond the linear part say nothing; the message is for a reader of a report."""


class Request(NamedTuple):
    """Values that an expansion needs: of the program of an order, at its fixed point for derivatives.

    Attributes:
        expansion: whose program.
        order: of the derivative; 0 for values.
        point: where the derivatives are taken; `None` for values.
        rows: points, of `object`, shape (rows, 1, n), or directions, shape (rows, order, n).
    """

    expansion: "Expansion"
    order: int
    point: np.ndarray | None
    rows: np.ndarray


Result = TypeVar("Result")
# A computation that asks for values and goes on when it gets them, of shape (rows, n), so that those that many
# computations ask for can be evaluated at once: `alone` runs one of them, `together` many.
Task = Generator[Request, np.ndarray, Result]


class Expansion:
    r"""A map or field near a fixed point: $F(x+u) = F(x) + Ju + \tfrac12D^2F[u,u] + \tfrac16D^3F[u,u,u] + \dots$

    Derivatives along directions come from nested `jax.jvp`, no array of derivatives is formed beyond the first one.
    The program that this gives is evaluated in many digits, so that rounding has no part in what follows. `expanded`
    makes one.

    Attributes:
        discrete: whether it is a map, whose fixed points are those of F(x) = x, or a field, with F(x) = 0.
        point: the fixed point, refined in many digits, of `object`.
        jacobian: there, of `object`, shape (n, n).
        context: the arithmetic, of `mpmath`.
        program: the traced function.
        refined: whether the point is.
        absorbed: whether somewhere a number was lost in a sum, until then.
    """

    def __init__(self, function: Callable[[Array], Array], position: Array, discrete: bool):
        self.position, self.discrete = position, discrete
        self.context = context(DIGITS)
        self.program = jax.make_jaxpr(function)(position)
        self.refined = self.absorbed = False
        self.point = exact(np.asarray(position))
        self.jacobian = np.zeros((0, 0), object)

    @property
    def size(self) -> int:
        """Numbers in the state."""
        return self.position.size

    def value(self, point: np.ndarray) -> Task[np.ndarray]:
        """The map or field at a point, of `object`."""
        return (yield from self.values([point]))[0]

    def values(self, points: Iterable[np.ndarray]) -> Task[np.ndarray]:
        """The same at many points, of `object`, shape (points, n)."""
        return (yield Request(self, 0, None, np.array([*points], object)[:, None]))

    def derivative(self, *directions: np.ndarray) -> Task[np.ndarray]:
        """The derivative of the order of the number of directions, along them; real or complex, of `object`."""
        pairs = [self._real_and_imaginary(direction) for direction in directions]
        weights, chosen = [], []
        for choice in np.ndindex(*(2 if imaginary is not None else 1 for _, imaginary in pairs)):
            parts = [pair[which] for pair, which in zip(pairs, choice, strict=True)]
            if all(np.any(part != 0) for part in parts):
                weights.append((1, self.context.mpc(0, 1), -1, self.context.mpc(0, -1))[sum(choice) % 4])
                chosen.append(parts)
        total = exact(np.zeros(self.size))
        if chosen:
            terms = yield self._along(self.point, np.array(chosen, object))
            for weight, term in zip(weights, terms, strict=True):
                total = total + weight * term
        return total

    def jacobian_at(self, point: np.ndarray) -> Task[np.ndarray]:
        """The Jacobian at another point, of `object`, shape (n, n)."""
        return (yield self._along(point, exact(np.eye(self.size))[:, None])).T

    def confirm(self, directions: Sequence[np.ndarray]) -> Task[None]:
        """Hold values on both sides against the expansion up to third order, along these directions and at random.

        Raises:
            NotDecided: what is left does not shrink like the fourth power of the distance: the map is not smooth
                enough, or its derivatives are not those of its values to so many digits.
        """
        drawn = np.random.default_rng(5).standard_normal((PROBES, self.size))
        along = np.array([*directions, *map(exact, drawn)], object)
        start = yield from self.value(self.point)
        terms = []
        for order in (1, 2, 3):
            terms.append((yield self._along(self.point, np.stack([along] * order, axis=1))))
        distances = [sign * self.context.mpf(size) for size in (PROBE, PROBE / 10) for sign in (1, -1)]
        h = np.array(distances, object)[:, None]
        points = self.point + h * along[:, None]
        values = yield from self.values(points.reshape(-1, self.size))
        first, second, third = (term[:, None] for term in terms)
        expected = start + h * (first + h / 2 * (second + h / 3 * third))
        left = values.reshape(points.shape) - expected
        squares = (left * left).sum(axis=2)  # by direction and distance
        for row, slope in zip(squares, terms[0], strict=True):
            coarse, fine = self.context.sqrt(max(row[:2])), self.context.sqrt(max(row[2:]))
            scale = 1 + self._norm(start) + self._norm(slope)
            close = fine <= coarse / 10**3.5 or fine <= scale * self.context.mpf(10) ** (8 - DIGITS)
            if not (close and all(map(self.context.isfinite, row))):
                raise NotDecided(
                    "values next to the point do not follow its expansion to third order: it is not smooth enough "
                    "there, or its derivatives are not known to that many digits"
                )

    def newton(self) -> Task[tuple[np.ndarray, np.ndarray]]:
        """The fixed point by Newton's method with one and the same Jacobian, and the Jacobian at its end."""
        start, point = self.point, self.point
        jacobian = yield from self.jacobian_at(point)
        small = self.context.mpf(10) ** (8 - DIGITS)
        inverse = None
        for _ in range(REFINEMENTS):
            value = yield from self.value(point)
            defect = value - point if self.discrete else value
            if self._norm(defect) <= small:
                break
            if inverse is None:
                change = np.array(jacobian, float) - self.discrete * np.eye(self.size)
                if np.linalg.cond(change) > 1e10:
                    raise NotDecided("the point is not known to many digits, and is not isolated to first order")
                inverse = exact(np.linalg.inv(change))
            point = point - inverse @ defect
        else:
            raise NotDecided("the fixed point cannot be refined to many digits")
        moved, size = self._norm(point - start), self._norm(start)
        if moved > MOVED * (1 + size):
            raise NotDecided(f"the fixed point is not at the given point, but {float(moved):.1g} away")
        if point is not start:
            jacobian = yield from self.jacobian_at(point)
        return point, jacobian

    def _along(self, point: np.ndarray, directions: np.ndarray) -> Request:
        return Request(self, directions.shape[1], point, directions)

    def _norm(self, vector: np.ndarray) -> Any:
        return self.context.norm(list(vector), 2)

    def _real_and_imaginary(self, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if not any(isinstance(number, self.context.mpc) for number in direction):
            return direction, None
        real = np.array([self.context.re(number) for number in direction], object)
        return real, np.array([self.context.im(number) for number in direction], object)


def expanded(function: Callable[[Array], Array], position: Array, discrete: bool) -> Task[Expansion]:
    """The expansion of a map or field at a fixed point.

    Args:
        function: the map or field, on vectors.
        position: the point, in float64.
        discrete: whether it is a map.

    Raises:
        NotDecided: the state is too large, something in the program cannot be evaluated in many digits, or there is
            no fixed point at the position.
    """
    if position.size > LARGEST:
        raise NotDecided(f"the state has {position.size} numbers; that is done up to {LARGEST}")
    if position.dtype != np.float64:
        raise NotDecided(f"the state is in {position.dtype}; pass players in float64")
    try:
        expansion = Expansion(function, position, discrete)
        expansion.point, expansion.jacobian = yield from expansion.newton()
    except NotEvaluated as error:
        raise NotDecided(f"the step cannot be evaluated in {DIGITS} digits: {error}") from error
    if expansion.absorbed:
        raise NotDecided(f"numbers of very different scales meet, of which {DIGITS} digits lose some")
    expansion.refined = True
    return expansion


def alone(task: Task[Result]) -> Result:
    """The result of a task that asks for values."""
    result = together([task])[0]
    if isinstance(result, BaseException):
        raise result
    return result


def together(tasks: Sequence[Task[Result]]) -> list[Result | Exception]:
    """The results of many tasks, or the exceptions that they end with, side by side.

    In each round every task asks for values; requests of programs that differ in numbers alone are evaluated at once.
    The values do not depend on what is evaluated beside them.
    """
    results: list[Any] = [None] * len(tasks)
    answers: dict[int, Any] = dict.fromkeys(range(len(tasks)))
    programs = _Programs()
    while answers:
        requests: dict[int, Request] = {}
        for number, answer in answers.items():
            task = tasks[number]
            try:
                asked = task.throw(answer) if isinstance(answer, Exception) else task.send(answer)
                requests[number] = asked
            except StopIteration as stop:
                results[number] = stop.value
            except Exception as error:
                results[number] = error
        answers = dict(zip(requests, programs.answers(list(requests.values())), strict=True))
    return results


class _Group:
    """Expansions of functions that differ in numbers alone, evaluated at once; or a single one.

    A program is read once for all of them, and for many directions: reading takes far longer than arithmetic.
    """

    def __init__(self, expansions: Sequence[Expansion]):
        self.expansions, self.count, first = expansions, len(expansions), expansions[0]
        self.size = first.size
        self.in_rows = True  # whether the programs can be evaluated at many points at once
        # Without what vanishes and what is never used: derivatives of that would only take time.
        if self.count == 1:
            self.base = Specialised(first.program, [], rules=True)
        else:
            columns = zip(*(constants_of(expansion.program) for expansion in expansions), strict=True)
            constants = [np.stack([np.asarray(number) for number in column]) for column in columns]
            self.base = Specialised(of_many(structure_of(first.program), self.count), constants, rules=True)
        self.traced = _derivatives_of(self.base.structure(), self.size, self.count)
        sizes = [abs(number) for constant in self.base.constants() for number in constant.ravel() if number]
        self.scales_apart = any(not SMALL < x < 1 / SMALL for x in sizes)
        # By what is known; with the points, so that none of the objects that a key names goes.
        self.known: dict[tuple, tuple[Any, Specialised]] = {}

    def program(self, order: int, rows: int, points: Sequence[np.ndarray]) -> Specialised:
        """The program of an order at these points, for many rows; 0 rows: without an axis for them."""
        watches = not all(expansion.refined for expansion in self.expansions)
        key = order, rows, watches, *(map(id, points) if order else ())
        if key not in self.known:
            known = [*self.base.constants()]
            if order:
                known.append(np.stack(points) if self.count > 1 else points[0])
            program = Specialised(self._program(order, rows), known, watches=watches)
            self.known[key] = points, program
        return self.known[key][1]

    def values(self, order: int, points: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
        """The values of rows of arguments, of shape (expansions, rows, max(order, 1), n)."""
        program, parts = self.program(order, ROWS, points), []
        for begin in range(0, rows.shape[1], ROWS):
            places = np.minimum(begin + np.arange(ROWS), rows.shape[1] - 1)
            block = rows[:, places] if self.count > 1 else rows[0, places]
            parts.append(program([block[..., place, :] for place in range(rows.shape[2])])[0])
        if self.absorbs(program):
            raise NotEvaluated("a number is lost in a sum")
        values = np.concatenate(parts, axis=-2)
        return values[:, : rows.shape[1]] if self.count > 1 else values[None, : rows.shape[1]]

    def value(self, order: int, points: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
        """The same of a single expansion, row by row."""
        program = self.program(order, 0, points)
        values = np.stack([program(list(row))[0] for row in rows[0]])[None]
        self.absorbs(program)
        return values

    def absorbs(self, program: Specialised) -> bool:
        """Whether a number was lost in a sum, and it is not known of which of several expansions."""
        if self.count == 1:
            self.expansions[0].absorbed |= program.absorbed or self.scales_apart
            return False
        return program.absorbed or self.scales_apart

    def _program(self, order: int, rows: int) -> Any:
        if (order, rows) not in self.traced:
            axis = () if self.count == 1 else (self.count,)
            known = [*self.base.placeholders(), *[np.zeros((*axis, self.size))] * bool(order)]
            given, along = [np.zeros((*axis, self.size))] * max(order, 1), self._along
            if rows:
                place = len(axis)
                along = jax.vmap(along, (None, place), place)
                given = [np.zeros((*axis, rows, self.size))] * len(given)
            self.traced[order, rows] = jax.make_jaxpr(along)(known, given)
        return self.traced[order, rows]

    def _along(self, known: list[Array], given: list[Array]) -> Array:
        count = len(self.base.placeholders())

        def function(point: Array) -> Array:
            return self.base.function(known[:count], [point])[0]

        if len(known) == count:
            return function(given[0])
        return functools.reduce(_derived, given, function)(known[count])


class _Programs:
    """The groups of the expansions of several tasks."""

    def __init__(self) -> None:
        self.groups: dict[int, tuple[_Group | None, int]] = {}
        self.alone: dict[int, _Group] = {}
        self.expansions: list[Expansion] = []  # which are named by their identity

    def answers(self, requests: list[Request]) -> list[np.ndarray | NotEvaluated]:
        """What is asked for, or why it cannot be evaluated."""
        self._gather([request.expansion for request in requests])
        answers: list[Any] = [None] * len(requests)
        shared: dict[Any, list[int]] = {}
        for number, (expansion, order, _, rows) in enumerate(requests):
            group = self.groups[id(expansion)][0]
            shared.setdefault((id(group), order, -(-len(rows) // ROWS)), []).append(number)
        for members in shared.values():
            group = self.groups[id(requests[members[0]].expansion)][0]
            if group is not None and group.in_rows and len(members) * SHARE >= group.count:
                for number, answer in zip(members, self._together(group, [requests[i] for i in members]), strict=True):
                    answers[number] = answer
        pairs = zip(requests, answers, strict=True)
        return [self._single(request) if answer is None else answer for request, answer in pairs]

    def _gather(self, expansions: Sequence[Expansion]) -> None:
        alike: dict[Any, list[Expansion]] = {}
        for expansion in expansions:
            if id(expansion) not in self.groups:
                structure = structure_of(expansion.program) if len(expansions) > 1 else None
                alike.setdefault(id(expansion) if structure is None else structure, []).append(expansion)
                self.expansions.append(expansion)
        for members in alike.values():
            while members:
                size = next(size for size in POINTS if size <= len(members))
                chosen, members = members[:size], members[size:]
                try:
                    group = _Group(chosen) if size > 1 else None
                except (NotEvaluated, ZeroDivisionError, TypeError):
                    group = None
                for place, expansion in enumerate(chosen):
                    self.groups[id(expansion)] = group, place

    def _group_of(self, expansion: Expansion) -> _Group:
        if id(expansion) not in self.alone:
            self.alone[id(expansion)] = _Group([expansion])
        return self.alone[id(expansion)]

    def _together(self, group: _Group, requests: list[Request]) -> list[np.ndarray | None]:
        """The answers to requests of one group and order; `None` where they are to be looked at one by one."""
        by_place = {self.groups[id(request.expansion)][1]: request for request in requests}
        whole = [by_place.get(place, requests[0]) for place in range(group.count)]  # of the others nobody asks
        count = max(len(request.rows) for request in requests)
        rows = np.stack([request.rows[np.minimum(np.arange(count), len(request.rows) - 1)] for request in whole])
        points = [_point_of(by_place.get(place), expansion) for place, expansion in enumerate(group.expansions)]
        try:
            values = group.values(requests[0].order, points, rows)
        except (NotEvaluated, ZeroDivisionError, TypeError):
            # A branch that depends on the row, say, of which both are evaluated; or a single one of the expansions.
            group.in_rows = False
            return [None] * len(requests)
        return [values[self.groups[id(request.expansion)][1]][: len(request.rows)] for request in requests]

    def _single(self, request: Request) -> np.ndarray | NotEvaluated:
        expansion, order, _, rows = request
        points = [_point_of(request, expansion)]
        try:
            group = self._group_of(expansion)
            if group.in_rows and len(rows) > 2:
                try:
                    return group.values(order, points, rows[None])[0]
                except (NotEvaluated, ZeroDivisionError, TypeError):
                    group.in_rows = False
            return group.value(order, points, rows[None])[0]
        except (NotEvaluated, ZeroDivisionError) as error:
            return NotEvaluated(str(error))


def _point_of(request: Request | None, expansion: Expansion) -> np.ndarray:
    return expansion.point if request is None or request.point is None else request.point


@functools.lru_cache(maxsize=64)
def _shared_derivatives(structure: Any, size: int, count: int) -> dict[tuple[int, int], Any]:
    return {}


def _derivatives_of(structure: Any, size: int, count: int) -> dict[tuple[int, int], Any]:
    """Traced derivatives, the same for programs that differ in numbers alone: tracing takes longest."""
    return {} if structure is None else _shared_derivatives(structure, size, count)


def _derived(function: Callable[[Array], Array], direction: Array) -> Callable[[Array], Array]:
    return lambda point: jax.jvp(function, (point,), (direction,))[1]
