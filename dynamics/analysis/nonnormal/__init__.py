"""Beyond eigenvalues: what a Jacobian whose eigenvectors are far from orthogonal does before it decays.

Every function takes a `Stability` report, or a real square matrix with `kind="map"` or `kind="flow"`. Of a report with
neutral directions (along a manifold of equilibria, or of memory that stays where it is put) transient growth, the
Kreiss constant and the distance to instability are those on the invariant subspace of all others.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike

from dynamics._checks import as_whole
from dynamics._plain import PlainFields
from dynamics.analysis.nonnormal.growth import growth_of_flow, growth_of_map, refined
from dynamics.analysis.nonnormal.singular_values import nearest, smallest_at, smallest_on
from dynamics.analysis.stability.boundary import KINDS, Boundary, boundary_of
from dynamics.analysis.stability.certificates import neutral_cut, rounding_bound
from dynamics.analysis.stability.verdict import Stability, eigenvalues_with_errors


@dataclasses.dataclass(frozen=True)
class Kreiss(PlainFields):
    """The Kreiss constant K of a matrix: transient growth is at least K and at most e n K.

    Attributes:
        kind: "map" or "flow".
        constant: K, attained at `point` up to rounding; infinite when powers or exponentials are unbounded.
        upper: a bound that K is certain not to exceed, at most a hundredth above it.
        point: where the supremum is attained; infinite when it is approached at infinity only (then K = 1).
        size: n.
    """

    kind: str
    constant: float
    upper: float
    point: complex
    size: int

    def describe(self) -> str:
        """The result as text."""
        if not np.isfinite(self.constant):
            return f"Kreiss constant infinite: {_UNBOUNDED}"
        most = np.e * self.size * self.constant
        return f"Kreiss constant {self.constant:.6g}: transient growth at least that, at most {most:.6g}"


@dataclasses.dataclass(frozen=True)
class Growth(PlainFields):
    """How far a perturbation of length 1 can grow before it decays.

    Attributes:
        kind: "map" or "flow".
        growth: the largest norm of a power or an exponential of the Jacobian; infinite when there is no bound.
        bound: a bound that it is certain not to exceed; equal to it for most maps.
        time: the number of steps, or the time, at which it is reached.
        initial: the perturbation of length 1 that grows most, on players and memory.
        final: where it has gone at that time.
        rate: log contraction per step, or abscissa: the slope of the logarithm of the norm in the long run.
        slope: the same at the start: numerical abscissa for a flow, log of the Jacobian's norm for a map.
        times, norms: the norm over time, from the start until it has come down to 1 or below.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    growth: float
    bound: float
    time: float
    initial: np.ndarray
    final: np.ndarray
    rate: float
    slope: float
    times: np.ndarray
    norms: np.ndarray
    notes: tuple[str, ...]

    def describe(self) -> str:
        """The result as text."""
        if not np.isfinite(self.growth):
            first = _UNBOUNDED
        elif self.time == 0:
            first = "no transient growth: every perturbation shrinks from the start"
        else:
            when = boundary_of(self.kind).when(self.time)
            first = f"transient growth {self.growth:.6g} {when} (at most {self.bound:.6g})"
        return "\n".join([first, f"rate {self.slope:.6g} at the start, {self.rate:.6g} in the long run", *self.notes])


@dataclasses.dataclass(frozen=True)
class Distance(PlainFields):
    """The smallest perturbation that makes a stable Jacobian unstable.

    Attributes:
        kind: "map" or "flow".
        distance: spectral norm of the smallest complex perturbation; 0 when the Jacobian is not stable.
        point: where the perturbed eigenvalue meets the imaginary axis or the unit circle.
        perturbation: one that does it, of rank one and complex; a real one may have to be larger.
    """

    kind: str
    distance: float
    point: complex
    perturbation: np.ndarray

    def describe(self) -> str:
        """The result as text."""
        return f"distance to instability {self.distance:.6g}, at {self.point:.6g}"


@dataclasses.dataclass(frozen=True)
class Pseudospectrum(PlainFields):
    """How near to an eigenvalue every point of a window of the complex plane is.

    Attributes:
        kind: "map" or "flow".
        real, imaginary: coordinates of the grid.
        smallest: smallest singular value of z - J; `smallest[i, j]` belongs to `real[j] + 1j * imaginary[i]`. The
            points where it is below epsilon are the eigenvalues of all J + E with a norm of E below epsilon.
        eigenvalues: of J.
        epsilons: the sizes of perturbation asked for.
        reach: for each of them the largest real part (flows) or modulus (maps) of an eigenvalue of a matrix so near.
        distance: distance to instability, 0 when J is not stable; neutral directions of a report left out.
    """

    kind: str
    real: np.ndarray
    imaginary: np.ndarray
    smallest: np.ndarray
    eigenvalues: np.ndarray
    epsilons: tuple[float, ...]
    reach: np.ndarray
    distance: float

    def describe(self) -> str:
        """The result as text."""
        name = boundary_of(self.kind).bound_name
        reached = [f"{name} {value:.6g} within {size:g}" for size, value in zip(self.epsilons, self.reach, strict=True)]
        return "\n".join(["pseudospectral " + ", ".join(reached), f"distance to instability {self.distance:.6g}"])


@dataclasses.dataclass(frozen=True)
class PotentialAndHamiltonian(PlainFields):
    """The Jacobian of a game's field as a descent and a rotation.

    Attributes:
        potential: its symmetric part, that of a potential game.
        hamiltonian: its antisymmetric part, that of a Hamiltonian game.
        potential_norm, hamiltonian_norm: Frobenius norms of the two.
        rotation: the share of the antisymmetric part in the sum of squares: 0 for a potential game, 1 for a
            Hamiltonian one; NaN where the Jacobian is 0.
    """

    potential: np.ndarray
    hamiltonian: np.ndarray
    potential_norm: float
    hamiltonian_norm: float
    rotation: float

    def describe(self) -> str:
        """The result as text."""
        return (
            f"potential part {self.potential_norm:.6g}, Hamiltonian part {self.hamiltonian_norm:.6g}: "
            f"{100 * self.rotation:.4g} per cent rotation"
        )


@dataclasses.dataclass(frozen=True)
class Alignment(PlainFields):
    """How much of every eigenvector belongs to every player and to the memory.

    Attributes:
        eigenvalues: the outermost first.
        fractions: one row per eigenvalue, one column per player and a last one for the memory; rows add up to 1. Rows
            of a multiple eigenvalue depend on the choice of its eigenvectors.
        names: of the columns.
    """

    eigenvalues: np.ndarray
    fractions: np.ndarray
    names: tuple[str, ...]

    def describe(self) -> str:
        """The result as text, a line per eigenvalue."""
        return "\n".join(
            f"{value:.6g}: " + ", ".join(f"{name} {100 * share:.4g}%" for name, share in zip(self.names, row))
            for value, row in zip(self.eigenvalues, self.fractions, strict=True)
        )


def numerical_abscissa(report: Stability | ArrayLike) -> float:
    r"""The largest eigenvalue of $(J + J^\top)/2$: the fastest growth at the start of a flow.

    $\frac{d}{dt}\|e^{tJ}\|$ at t = 0. Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, equation 17.4.

    >>> round(numerical_abscissa([[-1.0, 4.0], [0.0, -1.0]]), 12)
    1.0
    """
    matrix = _square(report)
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])


def numerical_radius(report: Stability | ArrayLike) -> float:
    r"""The largest modulus $|x^* J x|$ over unit vectors x: $\max_\theta \lambda_{max}(\mathrm{Re}\,e^{i\theta}J)$.

    $\|J^k\| \le 2 w^k$ for the numerical radius w. The angle is searched on a grid, whose best value is less than 1e-4
    too low, and refined around every maximum of the grid.
    Source: Horn and Johnson, Topics in Matrix Analysis, 1991, sections 1.3 and 1.5.

    >>> round(numerical_radius([[0.0, 1.0], [0.0, 0.0]]), 12)
    0.5
    """
    matrix = _square(report)

    def support(angles: np.ndarray | float) -> np.ndarray:
        turned = np.exp(1j * np.asarray(angles))[..., None, None] * matrix
        return np.linalg.eigvalsh((turned + np.swapaxes(turned.conj(), -1, -2)) / 2)[..., -1]

    # The Jacobian is real: the numerical range is symmetric.
    angles = np.linspace(0, np.pi, 181)
    values = support(angles)
    return max(refined(lambda angle: float(support(angle)), angles, values)[1], float(values.max()))


def distance_to_instability(report: Stability | ArrayLike, *, kind: str | None = None) -> Distance:
    r"""The smallest complex E, in spectral norm, that puts an eigenvalue of J + E on the stability boundary.

    $\min_y \sigma_{min}(iy - J)$ for a flow, the same over the unit circle for a map. A level below the minimum is
    recognised by a Hamiltonian matrix (a symplectic pencil) without eigenvalues on the boundary; other levels are
    lowered to the smallest value half-way between such eigenvalues, until none is left.
    Source: Byers, A Bisection Method for Measuring the Distance of a Stable Matrix to the Unstable Matrices, 1988;
    Boyd and Balakrishnan 1990; Bruinsma and Steinbuch 1990.

    Args:
        report: a report, or a matrix.
        kind: "map" or "flow", with a matrix.

    >>> result = distance_to_instability([[-1.0, 0.0], [0.0, -2.0]], kind="flow")
    >>> round(result.distance, 12)
    1.0
    """
    report, boundary, basis = _without_neutral(report, kind)
    matrix = _square(report)
    if _side(report, boundary) != "stable":
        return Distance(boundary.kind, 0.0, _outermost(matrix, boundary), np.zeros((len(basis),) * 2))
    distance, point = nearest(matrix, boundary)
    left, values, right = np.linalg.svd(point * np.eye(len(matrix)) - matrix)
    return Distance(boundary.kind, distance, point, values[-1] * basis @ np.outer(left[:, -1], right[-1]) @ basis.T)


def kreiss_constant(report: Stability | ArrayLike, *, kind: str | None = None) -> Kreiss:
    r"""The Kreiss constant: $\sup_{Re z > 0} Re z\,\|(z-J)^{-1}\|$, for maps $\sup_{|z|>1}(|z|-1)\|(z-J)^{-1}\|$.

    On every line Re z = x (circle |z| = 1 + x) the smallest singular value of z - J is found as for
    `distance_to_instability`; it rises with x, so that the best quotient between two lines is bounded. Lines are put
    between those whose bound is more than a hundredth above the best quotient, which is then refined.
    Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, theorems 18.1 and 18.5; the search over lines is
    in the manner of Mitchell, Computing the Kreiss Constant of a Matrix, 2020.

    Args:
        report: a report, or a matrix.
        kind: "map" or "flow", with a matrix.

    >>> kreiss_constant([[-1.0, 2.0], [-2.0, -1.0]], kind="flow").constant  # a normal matrix
    1.0
    >>> kreiss_constant([[-1.0, 20.0], [0.0, -1.0]], kind="flow").constant > 4
    True
    """
    report, boundary, _ = _without_neutral(report, kind)
    matrix = _square(report)
    kind, size = boundary.kind, len(matrix)
    side = _side(report, boundary)
    if side == "unstable":
        return Kreiss(kind, np.inf, np.inf, _outermost(matrix, boundary), size)
    # sigma_min(z - J) is at least the distance of z from the numerical range.
    excess = _numerical_bound(matrix, boundary) - boundary.neutral
    scale = float(np.linalg.norm(matrix, 2))
    rounding = _rounding(report)
    if excess <= 1e3 * rounding * max(scale, 1e-300):
        return Kreiss(kind, 1.0, 1.0, complex(np.inf), size)

    @functools.cache
    def on_line(x: float) -> float:
        return smallest_on(matrix, boundary, boundary.neutral + x)[0]

    # Below the first line the quotient is less than 1, above the last one less than 1.0001.
    # Where eigenvalues lie on the boundary up to rounding, it is left alone.
    low = max(nearest(matrix, boundary)[0] if side == "stable" else 0.0, 8 * rounding**0.5 * scale)
    high = max(1e4 * excess, 10 * low)
    lines = list(np.geomspace(low, high, max(17, round(6 * np.log10(high / low)))))
    for _ in range(12):
        values = np.array([on_line(x) for x in lines])
        best = max(1.0, float(np.max(np.array(lines) / values)))
        bounds = np.array(lines[1:]) / values[:-1]
        wide = np.flatnonzero(bounds > 1.01 * best)
        if not len(wide):
            break
        lines = sorted([*lines, *(float(np.sqrt(lines[i] * lines[i + 1])) for i in wide)])
    values = np.array([on_line(x) for x in lines])
    upper = max(float(np.max(np.array(lines[1:]) / values[:-1])), 1 / (1 - excess / high))
    at, value = refined(lambda u: np.exp(u) / on_line(float(np.exp(u))), np.log(lines), np.array(lines) / values)
    if value <= 1:
        return Kreiss(kind, 1.0, max(1.0, upper), complex(np.inf), size)
    x = float(np.exp(at))
    return Kreiss(kind, value, max(upper, value), smallest_on(matrix, boundary, boundary.neutral + x)[1], size)


def transient_growth(report: Stability | ArrayLike, *, kind: str | None = None) -> Growth:
    r"""The largest $\|J^k\|$ (maps) or $\|e^{tJ}\|$ (flows), when it is reached, and by which perturbation.

    Once a power or an exponential has norm 1 or less, all later norms are below the largest before. For a flow the time
    until then is sampled and the largest samples are refined; `bound` follows from the largest slopes in between.
    Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, chapters 14 and 16.

    Args:
        report: a report, or a matrix.
        kind: "map" or "flow", with a matrix.

    >>> result = transient_growth([[0.5, 10.0], [0.0, 0.5]], kind="map")
    >>> int(result.time), round(result.growth, 3)
    (1, 10.025)
    """
    report, boundary, basis = _without_neutral(report, kind)
    matrix, kind = _square(report), boundary.kind
    with np.errstate(divide="ignore"):
        rate = float(boundary.rate(boundary.outward(_outermost(matrix, boundary))))
        slope = boundary.initial_rate(matrix)
    side = _side(report, boundary)
    if side == "unstable":
        nothing, ends = np.full(len(basis), np.nan), np.array([0.0])
        return Growth(kind, np.inf, np.inf, np.inf, nothing, nothing, rate, slope, ends, ends + 1, ())
    if boundary.discrete:
        time, bound, times, norms = growth_of_map(matrix, side)
    else:
        time, bound, times, norms = growth_of_flow(matrix, rate, slope, numerical_abscissa(-matrix), side)
    left, values, right = np.linalg.svd(boundary.propagator(matrix, time))
    notes = () if side == "stable" else (_MARGINAL,)
    growth = float(values[0]) if time else 1.0
    initial, final = basis @ right[0], basis @ (values[0] * left[:, 0])
    return Growth(kind, growth, max(bound, growth), time, initial, final, rate, slope, times, norms, notes)


def pseudospectrum(
    report: Stability | ArrayLike,
    low: complex | None = None,
    high: complex | None = None,
    points: int = 101,
    *,
    epsilons: Sequence[float] = (1e-3, 1e-2, 1e-1),
    kind: str | None = None,
) -> Pseudospectrum:
    r"""The smallest singular value of $z - J$ over a window of the complex plane.

    Up to 30 rows by singular value decompositions, above by inverse Lanczos iterations with the Schur form. The reach
    of the pseudospectra comes from `distance_to_instability`'s search and not from the grid.
    Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, chapters 2 and 39.

    Args:
        report: a report, or a matrix.
        low, high: lower left and upper right corner of the window; default: room around the eigenvalues and the
            stability boundary.
        points: grid points along each side.
        epsilons: sizes of perturbation for `reach`.
        kind: "map" or "flow", with a matrix.

    Raises:
        ValueError: the window is empty, there are too few points, or a size is not positive.

    >>> result = pseudospectrum([[-1.0, 0.0], [0.0, -1.0]], points=5, epsilons=[0.25], kind="flow")
    >>> float(round(result.reach[0], 9)), round(result.distance, 9)  # disks around the eigenvalues
    (-0.75, 1.0)
    """
    matrix, boundary = _matrix(report, kind)
    values = np.linalg.eigvals(matrix).astype(complex)
    values = values[boundary.order(values)]
    corners = _window(values, boundary)
    low = corners[0] if low is None else complex(low)
    high = corners[1] if high is None else complex(high)
    if not (np.isfinite([low, high]).all() and low.real < high.real and low.imag < high.imag):
        raise ValueError(f"the window is {low} to {high}; expected its lower left and its upper right corner")
    points = as_whole("points", points, 2)
    epsilons = tuple(float(size) for size in epsilons)
    if any(not 0 < size < np.inf for size in epsilons):
        raise ValueError(f"epsilons is {epsilons}; expected positive sizes of perturbation")
    real, imaginary = np.linspace(low.real, high.real, points), np.linspace(low.imag, high.imag, points)
    smallest = smallest_at(matrix, (real + 1j * imaginary[:, None]).ravel()).reshape(points, points)
    distance = distance_to_instability(report, kind=kind).distance
    reach = np.array([_reach(matrix, boundary, size) for size in epsilons])
    return Pseudospectrum(boundary.kind, real, imaginary, smallest, values, epsilons, reach, distance)


def potential_and_hamiltonian(report: Stability | Sequence[Sequence[ArrayLike]] | ArrayLike) -> PotentialAndHamiltonian:
    r"""Symmetric and antisymmetric part of the Jacobian of the game's field, and how much of it is rotation.

    Source: Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018, section 2.

    Args:
        report: a report, whose blocks count and not the method's Jacobian; or blocks, or a matrix.

    >>> potential_and_hamiltonian([[-1.0, 2.0], [-2.0, -1.0]]).rotation
    0.8
    """
    if isinstance(report, Stability):
        matrix = np.block([list(row) for row in report.blocks])
    elif isinstance(report, np.ndarray) and report.ndim == 2:
        matrix = report
    else:
        matrix = np.block([[np.asarray(block) for block in row] for row in cast(Sequence[Sequence[ArrayLike]], report)])
    matrix = _square(matrix)
    potential, hamiltonian = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
    sizes = float(np.linalg.norm(potential)), float(np.linalg.norm(hamiltonian))
    total = sizes[0] ** 2 + sizes[1] ** 2
    return PotentialAndHamiltonian(potential, hamiltonian, *sizes, sizes[1] ** 2 / total if total else float("nan"))


def alignment(
    report: Stability | ArrayLike, sizes: Sequence[int] | None = None, *, kind: str | None = None
) -> Alignment:
    """How much of every eigenvector belongs to every player and to the memory, as shares of its squared length.

    Args:
        report: a report, or a matrix.
        sizes: number of coordinates of every player; needed with a matrix. What is left belongs to the memory.
        kind: "map" or "flow", with a matrix.

    Raises:
        ValueError: the sizes do not fit the Jacobian.

    >>> alignment([[-1.0, 0.0], [0.0, -2.0]], (1, 1), kind="flow").fractions.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    matrix, boundary = _matrix(report, kind)
    if sizes is None:
        if not isinstance(report, Stability):
            raise ValueError("sizes is None; expected the number of coordinates of every player with a bare matrix")
        sizes = [len(row[0]) for row in report.blocks]
    sizes = [int(size) for size in sizes]
    if min(sizes, default=0) < 0 or sum(sizes) > len(matrix):
        raise ValueError(f"sizes is {tuple(sizes)} for a Jacobian of {len(matrix)} rows; expected at most as many")
    values, vectors = np.linalg.eig(matrix)
    order = boundary.order(values)
    squares = np.abs(vectors.T[order]) ** 2
    edges = np.cumsum([0, *sizes, len(matrix) - sum(sizes)])
    parts = [squares[:, a:b].sum(axis=1) for a, b in zip(edges, edges[1:], strict=False)]
    fractions = np.stack(parts, axis=1) / squares.sum(axis=1, keepdims=True)
    names = (*(f"player {i}" for i in range(len(sizes))), "memory")
    return Alignment(values[order].astype(complex), fractions, names)


_UNBOUNDED = "perturbations grow without bound, or so far that rounding errors hide the end"
_MARGINAL = (
    "Eigenvalues on the stability boundary never decay: the norm is searched over a finite time, and the bound holds "
    "there only."
)


# Input validation


def _raw(report: Stability | ArrayLike) -> np.ndarray:
    if isinstance(report, Stability) and report.period != 1:
        raise ValueError(
            "the steps of the method depend on their number for ever (a schedule that goes round, say), so that it has "
            f"no one Jacobian; pass report.jacobian, kind='map' for the {report.period} steps of a period together"
            if report.period
            else "the method neither comes to rest nor repeats, so that it has no Jacobian: " + report.notes[-1]
        )
    matrix = np.asarray(report.jacobian if isinstance(report, Stability) else report)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"the matrix has shape {matrix.shape}; expected a square one, or a stability report")
    if not (np.issubdtype(matrix.dtype, np.floating) or np.issubdtype(matrix.dtype, np.integer)):
        raise TypeError(f"the matrix has dtype {matrix.dtype}; expected real numbers")
    if not np.all(np.isfinite(matrix)):
        raise ValueError("the Jacobian is not finite: the method is not differentiable at the point")
    return matrix


def _square(report: Stability | ArrayLike) -> np.ndarray:
    return _raw(report).astype(float)


def _matrix(report: Stability | ArrayLike, kind: str | None) -> tuple[np.ndarray, Boundary]:
    matrix = _square(report)
    if isinstance(report, Stability):
        if kind not in (None, report.kind):
            raise ValueError(f"kind is {kind!r}, but the report is one of a {report.kind}; leave it out")
        return matrix, report.boundary
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected 'map' or 'flow' with a bare matrix")
    return matrix, boundary_of(kind)


def _without_neutral(report: Stability | ArrayLike, kind: str | None) -> tuple[np.ndarray, Boundary, np.ndarray]:
    """The Jacobian in its dtype on the invariant subspace without neutral directions, its boundary, and a basis."""
    matrix, boundary = _matrix(report, kind)
    raw, count = _raw(report), report.neutral if isinstance(report, Stability) else 0
    if count in (0, len(matrix)):
        return raw, boundary, np.eye(len(matrix))
    neutral = boundary.neutral
    cut = neutral_cut(matrix, neutral, count)
    schur: Any = scipy.linalg.schur(matrix, sort=lambda x, y=0.0: abs(complex(x, y) - neutral) > cut)
    triangle, basis, found = schur  # with `sort` there are three
    return triangle[:found, :found].astype(raw.dtype), boundary, basis[:, :found]


def _rounding(report: Stability | ArrayLike) -> float:
    raw = _raw(report)
    return float(np.finfo(raw.dtype if np.issubdtype(raw.dtype, np.floating) else float).eps)


# Eigenvalues


def _outermost(matrix: np.ndarray, boundary: Boundary) -> complex:
    values = np.linalg.eigvals(matrix).astype(complex)
    return complex(values[boundary.order(values)[0]])


def _numerical_bound(matrix: np.ndarray, boundary: Boundary) -> float:
    """The largest `outward` of the numerical range."""
    return numerical_radius(matrix) if boundary.discrete else numerical_abscissa(matrix)


def _side(report: Stability | ArrayLike, boundary: Boundary) -> str:
    """`stable`, `marginal` (bounded for ever, but no decay) or `unstable` (unbounded)."""
    # Rounding errors are judged by the precision in which the Jacobian was taken.
    raw = _raw(report)
    raw = raw if np.issubdtype(raw.dtype, np.floating) else raw.astype(float)
    values, errors = eigenvalues_with_errors(raw)
    matrix = raw.astype(float)
    outward = boundary.distance(values)
    if np.any(outward > errors):
        return "unstable"
    on_boundary = np.flatnonzero(outward >= -errors)
    if np.all(outward < 0) and len(on_boundary) and nearest(matrix, boundary)[0] > 2 * rounding_bound(raw):
        return "stable"  # the bounds on single eigenvalues are wider than need be
    scale = max(float(np.linalg.norm(matrix, 2)), 1e-300)
    rounding = _rounding(report) ** 0.5
    for value, error in zip(values[on_boundary], errors[on_boundary], strict=True):
        # A Jordan block on the boundary: fewer eigenvectors than eigenvalues.
        multiplicity = np.sum(np.abs(values - value) <= error + 16 * rounding * scale)
        singular = np.linalg.svd(matrix - value * np.eye(len(matrix)), compute_uv=False)
        if np.sum(singular <= 16 * rounding * scale) < multiplicity:
            return "unstable"
    return "marginal" if len(on_boundary) else "stable"


def _window(values: np.ndarray, boundary: Boundary) -> tuple[complex, complex]:
    around = [*values, *boundary.corners]
    around = np.array([*around, *np.conj(around)])
    real, imaginary = np.real(around), np.imag(around)
    side = 0.75 * max(float(np.ptp(real)), float(np.ptp(imaginary)), 1e-3)
    middle = complex(real.min() + real.max(), imaginary.min() + imaginary.max()) / 2
    return middle - side * (1 + 1j), middle + side * (1 + 1j)


def _reach(matrix: np.ndarray, boundary: Boundary, epsilon: float) -> float:
    """Pseudospectral abscissa or radius: where the least smallest singular value has risen to epsilon."""
    low = boundary.outward(_outermost(matrix, boundary)) + epsilon
    high = _numerical_bound(matrix, boundary) + epsilon

    def above(place: float) -> float:
        return smallest_on(matrix, boundary, place)[0] - epsilon

    high += 1e-9 * (1 + abs(high))
    if high <= low or above(low) >= 0:  # normal, up to rounding
        return float(low)
    root: Any = scipy.optimize.brentq(above, low, high, xtol=1e-13 * (1 + abs(high)), rtol=np.float64(1e-13))
    return float(root)
