"""Pseudospectra: where the eigenvalues of all matrices near to a Jacobian are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from dynamics._checks import as_whole
from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.nonnormal.distance import distance_to_instability
from dynamics.analysis.nonnormal.matrices import matrix_and_boundary, outermost
from dynamics.analysis.nonnormal.numerical_range import numerical_bound
from dynamics.analysis.nonnormal.singular_values import smallest_at, smallest_on
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.report import Stability

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class Pseudospectrum(Described, PlainFields):
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

    def to_xarray(self) -> xr.Dataset:
        """The smallest singular value along the axes `imaginary` and `real`, as an `xarray.Dataset`."""
        import xarray as xr

        variables = {"smallest": (("imaginary", "real"), self.smallest), "eigenvalue": ("index", self.eigenvalues)}
        return xr.Dataset(variables, {"imaginary": self.imaginary, "real": self.real}, {"kind": self.kind})

    def describe(self) -> str:
        """The result as text."""
        name = boundary_of(self.kind).bound_name
        reached = [f"{name} {value:.6g} within {size:g}" for size, value in zip(self.epsilons, self.reach, strict=True)]
        return "\n".join(["pseudospectral " + ", ".join(reached), f"distance to instability {self.distance:.6g}"])


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
    matrix, boundary = matrix_and_boundary(report, kind)
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


def _window(values: np.ndarray, boundary: Boundary) -> tuple[complex, complex]:
    around = [*values, *boundary.corners]
    around = np.array([*around, *np.conj(around)])
    real, imaginary = np.real(around), np.imag(around)
    side = 0.75 * max(float(np.ptp(real)), float(np.ptp(imaginary)), 1e-3)
    middle = complex(real.min() + real.max(), imaginary.min() + imaginary.max()) / 2
    return middle - side * (1 + 1j), middle + side * (1 + 1j)


def _reach(matrix: np.ndarray, boundary: Boundary, epsilon: float) -> float:
    """Pseudospectral abscissa or radius: where the least smallest singular value has risen to epsilon."""
    low = boundary.outward(outermost(matrix, boundary)) + epsilon
    high = numerical_bound(matrix, boundary) + epsilon

    def above(place: float) -> float:
        return smallest_on(matrix, boundary, place)[0] - epsilon

    high += 1e-9 * (1 + abs(high))
    if high <= low or above(low) >= 0:  # normal, up to rounding
        return float(low)
    root: Any = scipy.optimize.brentq(above, low, high, xtol=1e-13 * (1 + abs(high)), rtol=np.float64(1e-13))
    return float(root)
