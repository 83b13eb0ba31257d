"""What every question of this room asks of its argument: its matrix, its boundary, and whether it stays bounded."""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from dynamics.analysis.nonnormal.singular_values import nearest
from dynamics.analysis.stability.boundary import KINDS, Boundary, boundary_of
from dynamics.analysis.stability.certificates import neutral_cut, rounding_bound
from dynamics.analysis.stability.eigenvalues import eigenvalues_with_errors
from dynamics.analysis.stability.report import Stability

UNBOUNDED = "perturbations grow without bound, or so far that rounding errors hide the end"


def checked_matrix(report: Stability | ArrayLike) -> np.ndarray:
    """The Jacobian of a report, or the matrix, in its dtype.

    Raises:
        ValueError: it is not square or not finite, or the steps of the report depend on their number for ever.
        TypeError: it is not real.
    """
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


def square_matrix(report: Stability | ArrayLike) -> np.ndarray:
    """The same in double precision."""
    return checked_matrix(report).astype(float)


def matrix_and_boundary(report: Stability | ArrayLike, kind: str | None) -> tuple[np.ndarray, Boundary]:
    """The matrix in double precision, and the boundary of the report or of the kind that belongs to a bare matrix."""
    matrix = square_matrix(report)
    if isinstance(report, Stability):
        if kind not in (None, report.kind):
            raise ValueError(f"kind is {kind!r}, but the report is one of a {report.kind}; leave it out")
        return matrix, report.boundary
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected 'map' or 'flow' with a bare matrix")
    return matrix, boundary_of(kind)


def without_neutral(report: Stability | ArrayLike, kind: str | None) -> tuple[np.ndarray, Boundary, np.ndarray]:
    """The Jacobian in its dtype on the invariant subspace without neutral directions, its boundary, and a basis."""
    matrix, boundary = matrix_and_boundary(report, kind)
    raw, count = checked_matrix(report), report.neutral if isinstance(report, Stability) else 0
    if count in (0, len(matrix)):
        return raw, boundary, np.eye(len(matrix))
    neutral = boundary.neutral
    cut = neutral_cut(matrix, neutral, count)
    schur: Any = scipy.linalg.schur(matrix, sort=lambda x, y=0.0: abs(complex(x, y) - neutral) > cut)
    triangle, basis, dimension = schur  # with `sort` there are three
    return triangle[:dimension, :dimension].astype(raw.dtype), boundary, basis[:, :dimension]


def rounding_unit(report: Stability | ArrayLike) -> float:
    """Distance from 1 to the next number in the dtype of the matrix."""
    raw = checked_matrix(report)
    return float(np.finfo(raw.dtype if np.issubdtype(raw.dtype, np.floating) else float).eps)


def outermost(matrix: np.ndarray, boundary: Boundary) -> complex:
    """The eigenvalue of the largest `outward`."""
    values = np.linalg.eigvals(matrix).astype(complex)
    return complex(values[boundary.order(values)[0]])


def boundedness(report: Stability | ArrayLike, boundary: Boundary) -> str:
    """`stable`, `marginal` (bounded for ever, but no decay) or `unstable` (unbounded)."""
    # Rounding errors are judged by the precision in which the Jacobian was taken.
    raw = checked_matrix(report)
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
    rounding = rounding_unit(report) ** 0.5
    for value, error in zip(values[on_boundary], errors[on_boundary], strict=True):
        # A Jordan block on the boundary: fewer eigenvectors than eigenvalues.
        multiplicity = np.sum(np.abs(values - value) <= error + 16 * rounding * scale)
        singular = np.linalg.svd(matrix - value * np.eye(len(matrix)), compute_uv=False)
        if np.sum(singular <= 16 * rounding * scale) < multiplicity:
            return "unstable"
    return "marginal" if len(on_boundary) else "stable"
