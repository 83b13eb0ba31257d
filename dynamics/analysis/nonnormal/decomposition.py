"""The Jacobian of a game's field as the sum of its potential and its Hamiltonian part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.nonnormal.matrices import square_matrix
from dynamics.analysis.stability.report import Stability


@dataclasses.dataclass(frozen=True)
class PotentialAndHamiltonian(Described, PlainFields):
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


def potential_and_hamiltonian(report: Stability | Sequence[Sequence[ArrayLike]] | ArrayLike) -> PotentialAndHamiltonian:
    r"""Symmetric and antisymmetric part of the Jacobian of the game's field, and how much of it is rotation.

    Source: Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018, section 2.

    Args:
        report: a report, whose blocks count and not the method's Jacobian; or blocks, or a matrix.

    Raises:
        ValueError: no square matrix of finite numbers.
        TypeError: it has other than real numbers.

    >>> potential_and_hamiltonian([[-1.0, 2.0], [-2.0, -1.0]]).rotation
    0.8
    """
    if isinstance(report, Stability):
        matrix = np.block([list(row) for row in report.blocks])
    elif isinstance(report, np.ndarray) and report.ndim == 2:
        matrix = report
    else:
        matrix = np.block([[np.asarray(block) for block in row] for row in cast(Sequence[Sequence[ArrayLike]], report)])
    matrix = square_matrix(matrix)
    potential, hamiltonian = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
    sizes = float(np.linalg.norm(potential)), float(np.linalg.norm(hamiltonian))
    total = sizes[0] ** 2 + sizes[1] ** 2
    return PotentialAndHamiltonian(potential, hamiltonian, *sizes, sizes[1] ** 2 / total if total else float("nan"))
