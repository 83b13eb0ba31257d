"""Conserved quantities and reversing symmetries next to a fixed point, in many digits."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from dynamics.analysis.normal_forms.expansion import Expansion, Task
from dynamics.compiler.many_digits import DIGITS, NotEvaluated, exact

LARGEST_FORM = 8  # numbers in a state of which quadratic forms are sought
CHECKS = 5  # further points at which what was found is confirmed
DISTANCE = 0.25  # of the points from the fixed point, relative to 1 + the size of a coordinate
SINGULAR = 1e-30  # pivots below this share of the largest number count as zero
CONFIRMED = 1e-40  # largest change of a conserved quantity, relative to its terms
PROJECTIONS = 400


@dataclasses.dataclass(frozen=True)
class Invariant:
    r"""Why orbits neither come nor go.

    Attributes:
        kind: "quadratic form", a conserved $u^\top Pu$ of the displacement u from the point, positive in all critical
            directions; "reversibility", a reflection R of a planar field with $Rv(x+Ru)=-v(x+u)$, by which all
            orbits around a centre are closed; or "area", of a planar field, by which all orbits around a centre are
            closed, or of a planar map with twist, whose orbits stay between invariant curves.
        matrix: P or R, on the whole state, shape (n, n); of an area of density $\prod_i|x_i|^{c_i}e^{d_ix_i}$ the rows
            c and d.
        change: the largest change that was seen at random points, relative to the terms that it is a sum of.
    """

    kind: str
    matrix: np.ndarray
    change: float

    def describe(self) -> str:
        """The invariant in words."""
        if self.kind == "reversibility":
            signs = ", ".join(f"{value:+.0f}" for value in np.diag(self.matrix))
            return f"the reflection diag({signs}) turns the field back, so that orbits around the point are closed"
        if self.kind == "area":
            powers, slopes = self.matrix
            factors = [f"|x{place}|^{power:.6g}" for place, power in enumerate(powers) if power]
            factors += [f"exp({slope:.6g} x{place})" for place, slope in enumerate(slopes) if slope]
            return (
                f"the area of density {' '.join(factors) or 1} is kept, and orbits around the point are closed (flows) "
                "or, by the twist, between invariant curves (maps, Moser's theorem)"
            )
        rows = "; ".join(", ".join(f"{value:.6g}" for value in row) for row in self.matrix)
        return f"the quadratic form u^T P u of the displacement u, P = [{rows}], stays the same along every orbit"


def invariant_of(expansion: Expansion, critical: np.ndarray) -> Task[Invariant | None]:
    r"""A reason for which orbits near the point neither come nor go, if one of these is there.

    A quadratic form is conserved if $F(x+u)^\top PF(x+u)$ (maps, about the point) is $u^\top Pu$, or $u^\top Pv(x+u)=0$
    (flows), for all u: linear equations for P, of which as many as there are unknowns are taken at random points, and
    solved in many digits; the solution is confirmed at further points. If one is positive definite on the critical
    subspace the point is stable, in Lyapunov's sense, and attracts nothing there. A field with a reversing reflection
    has closed orbits around a centre in the plane.
    Source: Devaney, Reversible Diffeomorphisms and Flows, 1976; Lamb and Roberts, Time-Reversal Symmetry in Dynamical
    Systems: A Survey, 1998.

    Args:
        expansion: the map or field.
        critical: a basis of the critical subspace, real, shape (n, k).
    """
    try:
        return (yield from _quadratic(expansion, critical)) or (yield from _reversing(expansion, critical))
    except NotEvaluated:  # at a point away from the fixed one: in a loop, say
        return None


def _points(expansion: Expansion, count: int, seed: int) -> np.ndarray:
    reach = DISTANCE * (1 + np.abs(np.array(expansion.point, float)))
    return np.random.default_rng(seed).uniform(-1, 1, (count, expansion.size)) * reach


def _quadratic(expansion: Expansion, critical: np.ndarray) -> Task[Invariant | None]:
    size = expansion.size
    if size > LARGEST_FORM:
        return None
    places = list(itertools.combinations_with_replacement(range(size), 2))

    def equation(shift: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is multiplied with the entries of P, and the sizes of the terms."""
        if expansion.discrete:
            value = value - expansion.point
            pairs = [(value[i] * value[j], shift[i] * shift[j]) for i, j in places]
            parts = [(a - b, abs(a) + abs(b)) for a, b in pairs]
        else:
            pairs = [(shift[i] * value[j], shift[j] * value[i]) for i, j in places]
            parts = [(a + b, abs(a) + abs(b)) for a, b in pairs]
        weights = [1 if i == j else 2 for i, j in places] if expansion.discrete else [1] * len(places)
        row = np.array([weight * part for weight, (part, _) in zip(weights, parts, strict=True)], object)
        return row, np.array([weight * part for weight, (_, part) in zip(weights, parts, strict=True)], object)

    shifts = exact(_points(expansion, len(places) + 2 + CHECKS, 7))
    values = yield from expansion.values(shifts + expansion.point)
    equations = [equation(*pair) for pair in zip(shifts, values, strict=True)]
    rows = [row for row, _ in equations[:-CHECKS]]
    basis = _null_space(np.array(rows, object), expansion.context)
    if not basis:
        return None
    forms = np.zeros((len(basis), size, size))
    for form, vector in zip(forms, basis, strict=True):
        for (i, j), value in zip(places, vector, strict=True):
            form[i, j] = form[j, i] = float(value)
    weights = _positive(forms, critical)
    if weights is None:
        return None
    chosen: Any = sum(exact(weight) * vector for weight, vector in zip(weights, basis, strict=True))
    worst = 0.0
    for row, sizes in equations[-CHECKS:]:
        total = sum(abs(part) * abs(number) for part, number in zip(sizes, chosen, strict=True))
        worst = max(worst, float(abs(row @ chosen) / total) if total else 0.0)
    form = np.einsum("k,kij->ij", weights, forms)
    form[np.abs(form) <= 1e-14 * np.max(np.abs(form))] = 0.0
    return Invariant("quadratic form", form, worst) if worst <= CONFIRMED else None


def _null_space(matrix: np.ndarray, arithmetic: Any) -> list[np.ndarray]:
    """Vectors that a matrix of many digits takes to 0, by elimination with full pivots in the rows."""
    rows, count = [row.copy() for row in matrix], matrix.shape[1]
    largest = max((abs(number) for row in rows for number in row), default=arithmetic.mpf(0))
    pivots: list[int] = []
    for _ in range(count):
        done = len(pivots)
        left = [(abs(rows[i][j]), i, j) for i in range(done, len(rows)) for j in range(count) if j not in pivots]
        if not left:
            break
        size, i, j = max(left)
        if size <= SINGULAR * largest:
            break
        rows[done], rows[i] = rows[i], rows[done]
        rows[done] = rows[done] / rows[done][j]
        for other in range(len(rows)):
            if other != done and rows[other][j] != 0:
                rows[other] = rows[other] - rows[other][j] * rows[done]
        pivots.append(j)
    basis = []
    for free in (j for j in range(count) if j not in pivots):
        vector = exact(np.zeros(count))
        vector[free] = arithmetic.mpf(1)
        for place, j in enumerate(pivots):
            vector[j] = -rows[place][free]
        basis.append(vector)
    return basis


def _positive(forms: np.ndarray, critical: np.ndarray) -> np.ndarray | None:
    """Weights of forms whose sum is positive definite on a subspace; `None` where none was found."""
    if not critical.shape[1]:
        return None
    directions = np.linalg.qr(critical)[0]
    flat = np.array([(directions.T @ form @ directions).ravel() for form in forms])
    size = directions.shape[1]
    wanted, weights, values = np.eye(size), np.zeros(len(forms)), np.zeros(size)
    for _ in range(PROJECTIONS):
        weights = np.linalg.lstsq(flat.T, wanted.ravel(), rcond=None)[0]
        nearest = (weights @ flat).reshape(size, size)
        values, vectors = np.linalg.eigh((nearest + nearest.T) / 2)
        if values[0] > 1e-3 * values[-1] > 0:
            return weights
        wanted = (vectors * np.maximum(values, 0.1)) @ vectors.T
    return weights if values[0] > 1e-9 * values[-1] > 0 else None


def _reversing(expansion: Expansion, critical: np.ndarray) -> Task[Invariant | None]:
    if expansion.size != 2 or critical.shape[1] != 2 or expansion.discrete:
        return None
    allowed = expansion.context.mpf(10) ** (10 - DIGITS)
    for signs in (np.array([1, -1]), np.array([-1, 1])):
        worst, shifts = 0.0, exact(_points(expansion, CHECKS, 9))
        values = yield from expansion.values(np.concatenate([shifts, signs * shifts]) + expansion.point)
        for ahead, reflected in zip(values[:CHECKS], values[CHECKS:], strict=True):
            back = signs * reflected
            size = max(abs(number) for number in (*ahead, *back, expansion.context.mpf(10) ** -DIGITS))
            worst = max(worst, float(max(abs(number) for number in ahead + back) / size))
        if worst <= allowed:
            return Invariant("reversibility", np.diag(signs.astype(float)), worst)
    return None


def area_preserved(expansion: Expansion) -> Task[Invariant | None]:
    r"""Whether a planar map or field keeps an area of density $\rho(x)=\prod_i|x_i|^{c_i}e^{d_ix_i}$.

    That is $\log|\det DF(x)|=\log\rho(x)-\log\rho(F(x))$ for a map and $\mathrm{div}\,v+v\cdot\nabla\log\rho=0$ for a
    field, for all x: linear equations for c and d. A fixed point of a map with eigenvalues $e^{\pm i\theta}$, without
    resonance up to order 4 and with a twist (the angle changes with the distance, to third order), is then stable, and
    attracts nothing; a centre of such a field has closed orbits, on which H with $\rho v=(\partial_yH,-\partial_xH)$ is
    constant.
    Source: Moser, On Invariant Curves of Area-Preserving Mappings of an Annulus, 1962; Siegel and Moser, Lectures on
    Celestial Mechanics, 1971, section 34.
    """
    arithmetic, size = expansion.context, expansion.size

    def equation(shift: np.ndarray) -> Task[np.ndarray]:
        """What is multiplied with c, d and 1."""
        point = expansion.point + shift
        (a, b), (c, d) = yield from expansion.jacobian_at(point)
        value = yield from expansion.value(point)
        if any(x == 0 or (expansion.discrete and y == 0) for x, y in zip(point, value, strict=True)):
            return np.array([arithmetic.nan] * (2 * size + 1), object)
        if expansion.discrete:
            powers = [arithmetic.log(abs(y / x)) for x, y in zip(point, value, strict=True)]
            return np.array([*powers, *(value - point), arithmetic.log(abs(a * d - b * c))], object)
        return np.array([*(y / x for x, y in zip(point, value, strict=True)), *value, a + d], object)

    rows = []
    for shift in exact(_points(expansion, 2 * size + 3, 11)):
        rows.append((yield from equation(shift)))
    rows = np.array(rows, object)
    if not all(arithmetic.isfinite(number) for number in rows.ravel()):
        return None
    basis = [vector for vector in _null_space(rows, arithmetic) if vector[-1] != 0]
    if not basis:
        return None
    chosen = basis[-1] / basis[-1][-1]
    worst = 0.0
    for point in _points(expansion, CHECKS, 12):
        row = yield from equation(exact(point))
        total = sum(abs(part * number) for part, number in zip(row, chosen, strict=True))
        worst = max(worst, float(abs(row @ chosen) / total) if total else 0.0)
    matrix = np.array(chosen[:-1], float).reshape(2, size)
    matrix[np.abs(matrix) <= 1e-14] = 0.0
    return Invariant("area", matrix, worst) if worst <= CONFIRMED else None
