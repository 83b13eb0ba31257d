"""The Kreiss constant: from below and above how far perturbations can grow."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import ArrayLike

from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.nonnormal.matrices import (
    UNBOUNDED,
    boundedness,
    outermost,
    rounding_unit,
    square_matrix,
    without_neutral,
)
from dynamics.analysis.nonnormal.maximum import refined_maximum
from dynamics.analysis.nonnormal.numerical_range import numerical_bound
from dynamics.analysis.nonnormal.singular_values import nearest, smallest_on
from dynamics.analysis.stability.report import Stability


@dataclasses.dataclass(frozen=True)
class Kreiss(Described, PlainFields):
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
            return f"Kreiss constant infinite: {UNBOUNDED}"
        most = np.e * self.size * self.constant
        return f"Kreiss constant {self.constant:.6g}: transient growth at least that, at most {most:.6g}"


def kreiss_constant(report: Stability | ArrayLike, *, kind: str | None = None) -> Kreiss:
    r"""The Kreiss constant: $\sup_{Re z > 0} Re z\,\|(z-J)^{-1}\|$, for maps $\sup_{|z|>1}(|z|-1)\|(z-J)^{-1}\|$.

    On every line Re z = x (circle |z| = 1 + x) the smallest singular value of z - J is found as for
    `distance_to_instability`; it rises with x, so that the best quotient between two lines is bounded. Lines are put
    between those whose bound is more than a hundredth above the best quotient, which is then refined.
    Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, theorems 18.1 and 18.5; the search over lines is
    in the manner of Mitchell, Computing the Kreiss Constant of a Matrix, 2020.

    Args:
        report: of `dynamics.stability`, or a matrix of shape (n, n).
        kind: "map" or "flow", with a matrix.

    Raises:
        ValueError: no square matrix of finite numbers, or the kind is missing with a matrix.
        TypeError: it has other than real numbers.

    >>> kreiss_constant([[-1.0, 2.0], [-2.0, -1.0]], kind="flow").constant  # a normal matrix
    1.0
    >>> kreiss_constant([[-1.0, 20.0], [0.0, -1.0]], kind="flow").constant > 4
    True
    """
    report, boundary, _ = without_neutral(report, kind)
    matrix = square_matrix(report)
    kind, size = boundary.kind, len(matrix)
    side = boundedness(report, boundary)
    if side == "unstable":
        return Kreiss(kind, np.inf, np.inf, outermost(matrix, boundary), size)
    # sigma_min(z - J) is at least the distance of z from the numerical range.
    excess = numerical_bound(matrix, boundary) - boundary.neutral
    scale = float(np.linalg.norm(matrix, 2))
    rounding = rounding_unit(report)
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
    at, value = refined_maximum(
        lambda u: np.exp(u) / on_line(float(np.exp(u))), np.log(lines), np.array(lines) / values
    )
    if value <= 1:
        return Kreiss(kind, 1.0, max(1.0, upper), complex(np.inf), size)
    x = float(np.exp(at))
    return Kreiss(kind, value, max(upper, value), smallest_on(matrix, boundary, boundary.neutral + x)[1], size)
