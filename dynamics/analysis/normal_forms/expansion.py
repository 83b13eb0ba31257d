"""The Taylor expansion of a map or field at a point, in many digits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from dynamics.compiler.many_digits import DIGITS, NotEvaluated, Specialised, context, exact

LARGEST = 24  # numbers in a state that is expanded
REFINEMENTS = 6
MOVED = 1e-6  # how far the fixed point in many digits may be from the point that was given, relative to 1 + its size
PROBE = 1e-11  # distance at which values are held against the expansion
SMALL = 1e-25  # numbers of a program below this, or above its inverse, are of another scale
PROBES = 3  # directions at random


class NotDecided(ValueError):
    """Why the terms beyond the linear part say nothing; the message is for a reader of a report."""


class Expansion:
    r"""A map or field near a fixed point: $F(x+u) = F(x) + Ju + \tfrac12D^2F[u,u] + \tfrac16D^3F[u,u,u] + \dots$

    Derivatives along directions come from nested `jax.jvp`, no array of derivatives is formed beyond the first one.
    The program that this gives is evaluated in many digits, so that rounding has no part in what follows.

    Attributes:
        discrete: whether it is a map, whose fixed points are those of F(x) = x, or a field, with F(x) = 0.
        point: the fixed point, refined in many digits, of `object`.
        jacobian: there, of `object`, shape (n, n).
        context: the arithmetic, of `mpmath`.

    Args:
        function: the map or field, on vectors.
        position: the point, in float64.
        discrete: see above.

    Raises:
        NotDecided: the state is too large, something in the program cannot be evaluated in many digits, or there is
            no fixed point at the position.
    """

    def __init__(self, function: Callable[[Array], Array], position: Array, discrete: bool):
        if position.size > LARGEST:
            raise NotDecided(f"the state has {position.size} numbers; that is done up to {LARGEST}")
        if position.dtype != np.float64:
            raise NotDecided(f"the state is in {position.dtype}; pass players in float64")
        self.position, self.discrete = position, discrete
        self.context = context(DIGITS)
        self._specialised: dict[tuple[int, tuple], Specialised] = {}
        try:
            # Without what vanishes and what is never used: derivatives of that would only take time.
            self._program = Specialised(jax.make_jaxpr(function)(position), [], rules=True)
            self._programs = _derivatives_of(self._program.structure(), position.size)
            self.point = exact(np.asarray(position))
            self.point, self.jacobian = self._refined()
            sizes = [abs(number) for constant in self._program.constants() for number in constant.ravel() if number]
            if any(part.absorbed for part in self._specialised.values()) or any(
                not SMALL < x < 1 / SMALL for x in sizes
            ):
                raise NotDecided(f"numbers of very different scales meet, of which {DIGITS} digits lose some")
        except NotEvaluated as error:
            raise NotDecided(f"the step cannot be evaluated in {DIGITS} digits: {error}") from error

    @property
    def size(self) -> int:
        """Numbers in the state."""
        return self.position.size

    def value(self, point: np.ndarray) -> np.ndarray:
        """The map or field at a point, of `object`."""
        return self._run(point)

    def derivative(self, *directions: np.ndarray) -> np.ndarray:
        """The derivative of the order of the number of directions, along them; real or complex, of `object`."""
        pairs = [self._real_and_imaginary(direction) for direction in directions]
        total = self._zeros()
        for choice in np.ndindex(*(2 if imaginary is not None else 1 for _, imaginary in pairs)):
            parts = [pair[which] for pair, which in zip(pairs, choice, strict=True)]
            if any(not np.any(part != 0) for part in parts):
                continue
            total = total + (1, self.context.mpc(0, 1), -1, self.context.mpc(0, -1))[sum(choice) % 4] * self._run(
                self.point, *parts
            )
        return total

    def confirm(self, directions: Sequence[np.ndarray]) -> None:
        """Hold values on both sides against the expansion up to third order, along these directions and at random.

        Raises:
            NotDecided: what is left does not shrink like the fourth power of the distance: the map is not smooth
                enough, or its derivatives are not those of its values to so many digits.
        """
        drawn = np.random.default_rng(5).standard_normal((PROBES, self.size))
        start = self.value(self.point)
        for direction in (*directions, *map(exact, drawn)):
            first, second, third = (self.derivative(*[direction] * order) for order in (1, 2, 3))
            left = []
            for distance in (PROBE, PROBE / 10):
                for sign in (1, -1):
                    h = sign * self.context.mpf(distance)
                    expected = start + h * (first + h / 2 * (second + h / 3 * third))
                    left.append(self._norm(self.value(self.point + h * direction) - expected))
            coarse, fine = max(left[:2]), max(left[2:])
            scale = 1 + self._norm(start) + self._norm(first)
            if not (fine <= coarse / 10**3.5 or fine <= scale * self.context.mpf(10) ** (8 - DIGITS)):
                raise NotDecided(
                    "values next to the point do not follow its expansion to third order: it is not smooth enough "
                    "there, or its derivatives are not known to that many digits"
                )

    def _norm(self, vector: np.ndarray) -> Any:
        return self.context.norm(list(vector), 2)

    def _zeros(self) -> np.ndarray:
        return exact(np.zeros(self.size))

    def _real_and_imaginary(self, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if not any(isinstance(number, self.context.mpc) for number in direction):
            return direction, None
        real = np.array([self.context.re(number) for number in direction], object)
        return real, np.array([self.context.im(number) for number in direction], object)

    def _run(self, point: np.ndarray, *directions: np.ndarray) -> np.ndarray:
        order = len(directions)
        where = tuple(point) if order else ()  # derivatives are wanted along many directions at few points
        try:
            if (order, where) not in self._specialised:
                if order not in self._programs:
                    arguments = self._program.placeholders(), self.position, *[self.position] * order
                    self._programs[order] = jax.make_jaxpr(self._along)(*arguments)
                known = [*self._program.constants(), *([point] if order else [])]
                self._specialised[order, where] = Specialised(self._programs[order], known)
            return self._specialised[order, where](directions or [point])[0]
        except (NotEvaluated, ZeroDivisionError) as error:
            raise NotEvaluated(str(error)) from error

    def _along(self, constants: Sequence[Array], point: Array, *directions: Array) -> Array:
        def function(point: Array) -> Array:
            return self._program.function(constants, [point])[0]

        return functools.reduce(_derived, directions, function)(point)

    def jacobian_at(self, point: np.ndarray) -> np.ndarray:
        """The Jacobian at another point, of `object`, shape (n, n)."""
        columns = exact(np.eye(self.size))
        return np.stack([self._run(point, column) for column in columns], axis=1)

    def _refined(self) -> tuple[np.ndarray, np.ndarray]:
        """The fixed point by Newton's method with one and the same Jacobian, and the Jacobian at its end."""
        start, point = self.point, self.point
        jacobian = self.jacobian_at(point)
        small = self.context.mpf(10) ** (8 - DIGITS)
        inverse = None
        for _ in range(REFINEMENTS):
            defect = self.value(point) - point if self.discrete else self.value(point)
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
        return point, jacobian if point is start else self.jacobian_at(point)


@functools.lru_cache(maxsize=64)
def _shared_derivatives(structure: Any, size: int) -> dict[int, Any]:
    return {}


def _derivatives_of(structure: Any, size: int) -> dict[int, Any]:
    """Traced derivatives by order, the same for programs that differ in numbers alone: tracing takes longest."""
    return {} if structure is None else _shared_derivatives(structure, size)


def _derived(function: Callable[[Array], Array], direction: Array) -> Callable[[Array], Array]:
    return lambda point: jax.jvp(function, (point,), (direction,))[1]
