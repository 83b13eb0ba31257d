"""Terms beyond the third order of a single pair of critical eigenvalues, for where that one vanishes."""

from typing import Any, NamedTuple

import numpy as np

from dynamics.analysis.normal_forms.expansion import Expansion, NotDecided, Task
from dynamics.analysis.normal_forms.spectrum import Mode
from dynamics.compiler.many_digits import NotEvaluated, exact

RADIUS = 1e-4  # of the smallest circle on which values are taken
CIRCLES, ANGLES = 6, 32
HIGHEST = 9  # order up to which terms are computed
# What rounding of a game's numbers in double precision leaves of a coefficient, relative to its terms.
ERROR = 1e-12
NEAR = 1e-6


class Term(NamedTuple):
    r"""The first term that decides: $\dot r=cr^n$, or $r\mapsto r\,e^{cr^{n-1}}$ per step.

    Attributes:
        order: n, odd; the highest one that was computed where none stands out of its error.
        coefficient: c.
        error: a bound on the error of c.
    """

    order: int
    coefficient: float
    error: float


def terms_of(expansion: Expansion, mode: Mode, highest: int = HIGHEST) -> Task[list[Term]]:
    r"""The terms of third, fifth, ... order, up to the first one that decides: Lyapunov coefficients, but for scales.

    The centre manifold $x(z)=\sum h_{ab}z^a\bar z^b$ and the motion $g(z)=\lambda z+g_3z|z|^2+g_5z|z|^4+\dots$ on it
    solve $F(x(z))=x(g(z))$ (maps) or $F(x(z))=\partial_zx\,g+\partial_{\bar z}x\,\bar g$ (flows), order by order:
    what is left of an order, $c_{ab}$, gives $(\lambda^a\bar\lambda^b-J)h_{ab}=c_{ab}$, for flows with
    $a\lambda+b\bar\lambda$, and $g_{a+b}=p\,c_{ab}$ where that is singular. The $c_{ab}$ are Fourier
    coefficients of values on circles of several radii, in many digits; no derivatives are needed.
    Source: Kuznetsov, Elements of Applied Bifurcation Theory, 3rd edition, section 8.7; Haro et al., The
    Parameterization Method for Invariant Manifolds, 2016, section 2.

    Args:
        expansion: the map or field.
        mode: the eigenvalue of the pair with positive imaginary part.
        highest: order after which to give up, odd.

    Raises:
        NotDecided: a resonance up to that order whose term does not vanish.
    """
    try:
        return (yield from _Reduction(expansion, mode).terms(highest))
    except NotEvaluated as error:
        raise NotDecided(f"values next to the point cannot be evaluated: {error}") from error


class _Reduction:
    def __init__(self, expansion: Expansion, mode: Mode):
        self.expansion, self.mode, self.context = expansion, mode, expansion.context
        self.discrete = expansion.discrete
        conjugate = np.array([self.context.conj(number) for number in mode.right], object)
        self.shape: dict[tuple[int, int], np.ndarray] = {(1, 0): mode.right, (0, 1): conjugate}
        self.motion: dict[int, Any] = {1: mode.value}
        self.largest = 0.0

    def terms(self, highest: int) -> Task[list[Term]]:
        result = []
        for order in range(2, highest + 1):
            for (a, b), term in (yield from self.left_over(order)).items():
                self.solve(a, b, term)
            if order % 2:
                result.append(self.term(order))
                if abs(result[-1].coefficient) > result[-1].error:
                    break
        return result

    def term(self, order: int) -> Term:
        """By the series of the logarithm of g(z) / z for a map, of which real parts are what the modulus does."""
        motion = [self.motion.get(n, self.context.mpf(0)) for n in range(3, order + 1, 2)]
        if self.discrete:
            motion = [self.context.conj(self.mode.value) * coefficient for coefficient in motion]
            series: list[Any] = []
            for n, coefficient in enumerate(motion, 1):
                known = sum(k * series[k - 1] * motion[n - k - 1] for k in range(1, n))
                series.append(coefficient - known / n)
            motion = series
        return Term(order, float(self.context.re(motion[-1])), ERROR * max(self.largest, 1e-3))

    def moved(self, z: Any) -> Any:
        """g(z)."""
        return z * sum(coefficient * abs(z) ** (order - 1) for order, coefficient in self.motion.items())

    def manifold(self, z: Any) -> np.ndarray:
        """x(z), real."""
        bar, total = self.context.conj(z), exact(np.zeros(self.expansion.size))
        for (a, b), vector in self.shape.items():
            total = total + vector * (z**a * bar**b)
        return np.array([self.context.re(number) for number in total], object)

    def tangent(self, z: Any, velocity: Any) -> np.ndarray:
        """The velocity of x(z), real."""
        bar, total = self.context.conj(z), exact(np.zeros(self.expansion.size))
        for (a, b), vector in self.shape.items():
            along = (a * z ** (a - 1) * bar**b * velocity if a else 0) + (
                b * z**a * bar ** (b - 1) * self.context.conj(velocity) if b else 0
            )
            total = total + vector * along
        return np.array([self.context.re(number) for number in total], object)

    def left_over(self, order: int) -> Task[dict[tuple[int, int], np.ndarray]]:
        """The terms of an order that are left of the equation of the manifold."""
        root = self.context.expjpi(self.context.mpf(2) / ANGLES)
        harmonics = []
        radii = [self.context.mpf(RADIUS) * number for number in range(1, CIRCLES + 1)]
        circles = [[radius * root**place for place in range(ANGLES)] for radius in radii]
        points = [self.expansion.point + self.manifold(z) for circle in circles for z in circle]
        moved = iter((yield from self.expansion.values(points)))
        for circle in circles:
            values = []
            for z in circle:
                g = self.moved(z)
                expected = self.expansion.point + self.manifold(g) if self.discrete else self.tangent(z, g)
                values.append(next(moved) - expected)
            harmonics.append(
                {
                    k: sum(value * root ** (-k * place) for place, value in enumerate(values)) / ANGLES
                    for k in range(-order, order + 1, 2)
                }
            )
        # A harmonic is a polynomial: the powers `order`, `order` + 2, ... of the radius. The first one is wanted, and
        # those of lower orders are solved for already.
        matrix = self.context.matrix([[radius ** (order + 2 * j) for j in range(CIRCLES)] for radius in radii])
        weights = (self.context.inverse(matrix))[0, :]
        terms: dict[tuple[int, int], Any] = {
            ((order + k) // 2, (order - k) // 2): sum(
                weights[circle] * harmonic[k] for circle, harmonic in enumerate(harmonics)
            )
            for k in range(-order, order + 1, 2)
        }
        return terms

    def solve(self, a: int, b: int, term: np.ndarray) -> None:
        value, bar = self.mode.value, self.context.conj(self.mode.value)
        target = value**a * bar**b if self.discrete else a * value + b * bar
        size = self.expansion.size
        near = NEAR * (1 if self.discrete else abs(value))
        conjugate = np.array([self.context.conj(number) for number in self.mode.left], object)
        borders = []
        for left, right, eigenvalue in (
            (self.mode.left, self.shape[1, 0], value),
            (conjugate, self.shape[0, 1], bar),
        ):
            if abs(target - eigenvalue) > near:
                continue
            borders.append((left, right))
            coefficient = left @ term
            trivial = (a == b + 1) if eigenvalue is value else (b == a + 1)
            if trivial and eigenvalue is value:
                self.motion[a + b] = coefficient
            bound = ERROR * float(self.context.norm(list(left)) * self.context.norm(list(term)) + self.largest)
            if not trivial and float(abs(coefficient)) > max(bound, ERROR):
                raise NotDecided(
                    f"resonance: a power of the eigenvalue {complex(value):.6g} is 1, and a term of order {a + b} that "
                    "belongs to it does not vanish"
                )
        self.largest = max(self.largest, float(self.context.norm(list(term))))
        extra = len(borders)
        matrix, right = self.context.matrix(size + extra, size + extra), self.context.matrix(size + extra, 1)
        for row in range(size):
            right[row] = term[row]
            for column in range(size):
                matrix[row, column] = (target if row == column else 0) - self.expansion.jacobian[row, column]
            for place, (left, direction) in enumerate(borders):
                matrix[row, size + place], matrix[size + place, row] = direction[row], left[row]
        solution = self.context.lu_solve(matrix, right)
        self.shape[a, b] = np.array([solution[row] for row in range(size)], object)
