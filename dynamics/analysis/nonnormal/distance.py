"""The distance to instability: the smallest perturbation that puts an eigenvalue on the boundary."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.nonnormal.matrices import boundedness, outermost, square_matrix, without_neutral
from dynamics.analysis.nonnormal.singular_values import nearest
from dynamics.analysis.stability.report import Stability


@dataclasses.dataclass(frozen=True)
class Distance(Described, PlainFields):
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


def distance_to_instability(report: Stability | ArrayLike, *, kind: str | None = None) -> Distance:
    r"""The smallest complex E, in spectral norm, that puts an eigenvalue of J + E on the stability boundary.

    $\min_y \sigma_{min}(iy - J)$ for a flow, the same over the unit circle for a map. A level below the minimum is
    recognised by a Hamiltonian matrix (a symplectic pencil) without eigenvalues on the boundary; other levels are
    lowered to the smallest value half-way between such eigenvalues, until none is left.
    Source: Byers, A Bisection Method for Measuring the Distance of a Stable Matrix to the Unstable Matrices, 1988;
    Boyd and Balakrishnan 1990; Bruinsma and Steinbuch 1990.

    Args:
        report: of `dynamics.stability`, or a matrix of shape (n, n).
        kind: "map" or "flow", with a matrix.

    Raises:
        ValueError: no square matrix of finite numbers, or the kind is missing with a matrix.
        TypeError: it has other than real numbers.

    >>> result = distance_to_instability([[-1.0, 0.0], [0.0, -2.0]], kind="flow")
    >>> round(result.distance, 12)
    1.0
    """
    report, boundary, basis = without_neutral(report, kind)
    matrix = square_matrix(report)
    if boundedness(report, boundary) != "stable":
        return Distance(boundary.kind, 0.0, outermost(matrix, boundary), np.zeros((len(basis),) * 2))
    distance, point = nearest(matrix, boundary)
    left, values, right = np.linalg.svd(point * np.eye(len(matrix)) - matrix)
    return Distance(boundary.kind, distance, point, values[-1] * basis @ np.outer(left[:, -1], right[-1]) @ basis.T)
