"""Alignment: how much of every eigenvector belongs to every player."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.nonnormal.matrices import matrix_and_boundary
from dynamics.analysis.stability.report import Stability


@dataclasses.dataclass(frozen=True)
class Alignment(Described, PlainFields):
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
    matrix, boundary = matrix_and_boundary(report, kind)
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
