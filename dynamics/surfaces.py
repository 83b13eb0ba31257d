r"""Surfaces at which a field jumps: which switches are on one, the sides of all of them, and the mean that slides.

Next to a point the space is cut by the surfaces of the switches of a field, $g_k(x)=0$, and on each combination of
their sides the velocity is a smooth field. The rules are those of arrays, whoever has computed these: in floats along a
run (`simulation/sliding.py`), or in many digits at a point at rest (`analysis/stability/sliding.py`).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

MOST_SURFACES = 4  # that meet in one point: all combinations of their sides are looked at
JUMP = 1e-9  # share of the largest velocity that counts as a jump, or as a speed
INDEPENDENT = 1e-6  # smallest singular value of normals that are independent


class NoSurfaces(ValueError):
    """Why the switches at a point are on no surfaces whose sides could be looked at."""


def gathered(numbers: Sequence[int], normals: Float[np.ndarray, "switches n"], same: float) -> list[list[int]]:
    """The switches that may be on one surface: those whose normals are equal up to the sign.

    Args:
        numbers: of the switches at the point.
        normals: of all switches, of unit length.
        same: distance up to which normals are equal.

    Raises:
        NoSurfaces: more surfaces meet than are looked at.

    >>> gathered([0, 1, 2], np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), 1e-9)
    [[0, 2], [1]]
    """
    groups: list[list[int]] = []
    for number in map(int, numbers):
        for group in groups:
            first = normals[group[0]]
            if min(np.linalg.norm(normals[number] - sign * first) for sign in (1, -1)) <= same:
                group.append(number)
                break
        else:
            groups.append([number])
    if len(groups) > MOST_SURFACES:
        raise NoSurfaces(f"{len(groups)} surfaces of switches meet, and up to {MOST_SURFACES} are looked at")
    return groups


def are_independent(normals: Float[np.ndarray, "surfaces n"]) -> bool:
    """Whether the normals are so, as far as a space of n dimensions has room for them."""
    return not len(normals) or bool(np.linalg.svd(normals, compute_uv=False)[-1] >= INDEPENDENT)


def sides_of(count: int) -> Int[np.ndarray, "sides surfaces"]:
    """All combinations of the sides of some surfaces, as signs.

    >>> sides_of(2).tolist()
    [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    """
    return np.array(list(itertools.product((1, -1), repeat=count)), int).reshape(2**count, count)


def row_of(sides: np.ndarray, side: np.ndarray) -> int:
    """The row of one combination of sides."""
    return int(np.flatnonzero(np.all(sides == side, axis=1))[0])


def flipped(side: np.ndarray, k: int) -> np.ndarray:
    """The combination of sides beyond the k-th surface."""
    return np.where(np.arange(len(side)) == k, -side, side)


def jump_across(values: np.ndarray, sides: np.ndarray, k: int) -> float:
    """By how much the velocity differs from one side of a surface to the other, at most; values of shape (sides, n)."""
    other = values[[row_of(sides, flipped(side, k)) for side in sides]]
    return float(np.max(np.linalg.norm(values - other, axis=1)))


def steps_down(values: np.ndarray, sides: np.ndarray, upper: np.ndarray, along: Sequence[int] | np.ndarray) -> Any:
    """What is lost from a combination of sides to those beyond one of some surfaces each, shape (surfaces, ...)."""
    beyond = [row_of(sides, flipped(upper, k)) for k in along]
    return values[row_of(sides, upper)] - values[beyond]


def is_sum(values: np.ndarray, sides: np.ndarray, upper: np.ndarray, along: np.ndarray, tolerance: float) -> bool:
    """Whether, of some surfaces, values are a sum of one term each, so that the mean which slides is unique.

    Args:
        values: on all sides, shape (sides, ...).
        sides: the combinations of signs.
        upper: those of them on which the surfaces that are not meant stay, and the others begin.
        along: the numbers of the surfaces that are meant.
        tolerance: on the norm of what is left.
    """
    meant = np.isin(np.arange(sides.shape[1]), along)
    rows = np.all(sides[:, ~meant] == upper[~meant], axis=1)
    below = (sides[rows][:, along] != upper[along]).astype(float)
    steps = steps_down(values, sides, upper, along)
    left = values[rows] - (values[row_of(sides, upper)] - np.tensordot(below, steps, 1))
    return bool(np.all(np.linalg.norm(left.reshape(len(left), -1), axis=1) <= tolerance))


def tangent_mean(value: Any, steps: Any, slopes: Any, ahead: Any, solve: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    r"""The mean $v-D\lambda$ of velocities that is tangent to surfaces, $N(v-D\lambda)+a=0$, and its shares.

    Source: Filippov, Differential Equations with Discontinuous Righthand Sides, 1988; for several surfaces Utkin,
    Sliding Modes in Control and Optimization, 1992.

    Args:
        value: a velocity v, shape (n,).
        steps: rows of D, what is lost from there beyond each surface, shape (m, n).
        slopes: N, of the gaps of the surfaces, shape (m, n).
        ahead: a, the rates of the gaps where the state stands still, shape (m,) or 0.
        solve: how linear equations are solved, of a matrix and the right side.

    >>> tangent_mean(np.array([1.0, -1.0]), np.array([[0.0, -4.0]]), np.array([[0.0, 1.0]]), 0, np.linalg.solve)
    (array([1., 0.]), array([0.25]))
    """
    shares = solve(slopes @ steps.T, ahead + slopes @ value)
    return value - shares @ steps, shares


def way_back(slopes: Any, gaps: Any, solve: Callable[[Any, Any], Any]) -> Any:
    """The shortest vector whose subtraction from the state makes linear gaps vanish, shape (n,)."""
    return slopes.T @ solve(slopes @ slopes.T, gaps)
