"""Numerical abscissa and radius: how far the numerical range goes to the right, and from zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dynamics.analysis.nonnormal.matrices import square_matrix
from dynamics.analysis.nonnormal.maximum import refined_maximum
from dynamics.analysis.stability.boundary import Boundary
from dynamics.analysis.stability.report import Stability


def numerical_abscissa(report: Stability | ArrayLike) -> float:
    r"""The largest eigenvalue of $(J + J^\top)/2$: the fastest growth at the start of a flow.

    $\frac{d}{dt}\|e^{tJ}\|$ at t = 0. Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, equation 17.4.

    Args:
        report: a report of `dynamics.stability`, or a square matrix of real numbers.

    Raises:
        ValueError: no square matrix of finite numbers.

    >>> round(numerical_abscissa([[-1.0, 4.0], [0.0, -1.0]]), 12)
    1.0
    """
    matrix = square_matrix(report)
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])


def numerical_radius(report: Stability | ArrayLike) -> float:
    r"""The largest modulus $|x^* J x|$ over unit vectors x: $\max_\theta \lambda_{max}(\mathrm{Re}\,e^{i\theta}J)$.

    $\|J^k\| \le 2 w^k$ for the numerical radius w. The angle is searched on a grid, whose best value is less than 1e-4
    too low, and refined around every maximum of the grid.
    Source: Horn and Johnson, Topics in Matrix Analysis, 1991, sections 1.3 and 1.5.

    Args:
        report: a report of `dynamics.stability`, or a square matrix of real numbers.

    Raises:
        ValueError: no square matrix of finite numbers.

    >>> round(numerical_radius([[0.0, 1.0], [0.0, 0.0]]), 12)
    0.5
    """
    matrix = square_matrix(report)

    def support(angles: np.ndarray | float) -> np.ndarray:
        rotated = np.exp(1j * np.asarray(angles))[..., None, None] * matrix
        return np.linalg.eigvalsh((rotated + np.swapaxes(rotated.conj(), -1, -2)) / 2)[..., -1]

    # The Jacobian is real: the numerical range is symmetric.
    angles = np.linspace(0, np.pi, 181)
    values = support(angles)
    return max(refined_maximum(lambda angle: float(support(angle)), angles, values)[1], float(values.max()))


def numerical_bound(matrix: np.ndarray, boundary: Boundary) -> float:
    """The largest `outward` of the numerical range."""
    return numerical_radius(matrix) if boundary.discrete else numerical_abscissa(matrix)
