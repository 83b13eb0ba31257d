"""Which eigenvalues are on the boundary of stability, with what certainty, and their vectors, in many digits."""

from typing import Any, NamedTuple

import numpy as np

from dynamics.analysis.normal_forms.expansion import Expansion, NotDecided
from dynamics.compiler.many_digits import DIGITS

SURE = 1e-25  # an eigenvalue is known if its error is below this share of the norm of the Jacobian
EPSILON = float(np.finfo(float).eps)


class Mode(NamedTuple):
    """A critical eigenvalue.

    Attributes:
        value: the eigenvalue, in many digits.
        right, left: vectors with left @ right = 1 (no conjugate), of `object`; real where the eigenvalue is.
        conjugate: number of the mode of the conjugate eigenvalue; its own for a real one.
    """

    value: Any
    right: np.ndarray
    left: np.ndarray
    conjugate: int


class Spectrum(NamedTuple):
    """The spectrum of an expansion.

    Attributes:
        critical: modes that double precision cannot tell from the boundary.
        beyond: how far outside the boundary the outermost critical eigenvalue is; where none is outside, minus how far
            the innermost is inside; 0 where none can be told from it.
        error: the largest error of a critical eigenvalue, of first order in its condition.
        inside: the largest signed distance of all others; negative where all of them are inside.
    """

    critical: tuple[Mode, ...]
    beyond: float
    error: float
    inside: float


def spectrum_of(expansion: Expansion, is_player: np.ndarray) -> Spectrum:
    """Eigenvalues, told from the boundary in many digits.

    Vectors are scaled so that the distance of the players from the point, its mean square over a turn where the
    eigenvalue is complex, is the modulus of the coordinate along the vector.

    Args:
        expansion: the map or field.
        is_player: which coordinates of the state are players.

    Raises:
        NotDecided: a critical eigenvalue is not known well enough (it is defective, say), or is a repeated one.
    """
    arithmetic, size = expansion.context, expansion.size
    matrix = arithmetic.matrix(expansion.jacobian.tolist())
    values, left, right = arithmetic.eig(matrix, left=True, right=True)
    norm = arithmetic.mnorm(matrix, "f")
    unit = arithmetic.mpf(10) ** (4 - DIGITS) * size * (norm + arithmetic.mpf(10) ** -DIGITS)
    chosen: list[tuple[Any, np.ndarray, np.ndarray]] = []
    beyond, largest, inside = arithmetic.mpf(0), arithmetic.mpf(0), -np.inf
    for number, value in enumerate(values):
        column = np.array([right[row, number] for row in range(size)], object)
        row = np.array([left[number, place] for place in range(size)], object)
        overlap = abs(row @ column) / (arithmetic.norm(list(row)) * arithmetic.norm(list(column)))
        condition = 1 / overlap if overlap else arithmetic.mpf(10) ** DIGITS
        error = unit * condition
        outward = abs(value) - 1 if expansion.discrete else arithmetic.re(value)
        if abs(outward) > max(error, 64 * size * EPSILON * float(norm) * min(condition, 1e6)):
            inside = max(inside, float(outward))
            continue
        if error > SURE * max(float(norm), 1e-300):
            raise NotDecided("an eigenvalue on the boundary is defective (a Jordan block), or nearly so")
        largest = max(largest, error)
        if abs(outward) > error:
            # One outside weighs more than any inside.
            beyond = max(beyond, outward) if max(beyond, outward) > 0 else min(beyond, outward)
        chosen.append((value, column, row))
    return Spectrum(_modes(expansion, chosen, is_player, norm), float(beyond), float(largest), inside)


def _modes(expansion: Expansion, chosen: list, is_player: np.ndarray, norm: Any) -> tuple[Mode, ...]:
    arithmetic = expansion.context
    apart = 1e-12 * max(float(norm), 1e-300)
    values = [value for value, *_ in chosen]
    for number, value in enumerate(values):
        if any(abs(value - other) <= apart for other in values[:number]):
            raise NotDecided(
                f"the eigenvalue {complex(value):.6g} on the boundary is a repeated one (resonance 1:1), which is not "
                "reduced to amplitude equations here"
            )
    modes: list[Mode] = []
    for value, column, row in chosen:
        real = abs(arithmetic.im(value)) <= apart
        if real:
            value = arithmetic.re(value)
            column, row = (_real(arithmetic, vector) for vector in (column, row))
        elif arithmetic.im(value) < 0:
            continue
        players = [number for number, counts in zip(column, is_player, strict=True) if counts]
        length = arithmetic.norm(players) if players else arithmetic.mpf(0)
        if length <= 1e-12 * arithmetic.norm(list(column)):
            length = arithmetic.norm(list(column))  # memory alone
        column = column / length if real else column / (length * arithmetic.sqrt(2))
        row = row / (row @ column)
        modes.append(Mode(value, column, row, len(modes) + (0 if real else 1)))
        if not real:
            conjugated = (np.array([arithmetic.conj(x) for x in vector], object) for vector in (column, row))
            modes.append(Mode(arithmetic.conj(value), *conjugated, len(modes) - 1))
    return tuple(modes)


def _real(arithmetic: Any, vector: np.ndarray) -> np.ndarray:
    largest = max(vector, key=abs)
    return np.array([arithmetic.re(number / largest) for number in vector], object)
