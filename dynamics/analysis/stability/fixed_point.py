"""Whether a point is an equilibrium of a game and a fixed point of a method, and what to say if not."""

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dynamics import _trees
from dynamics.analysis.equilibria.newton import EquilibriumError, players_text, vanishes
from dynamics.analysis.equilibria.precision import as_point
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.certificates import SMALLEST, frobenius
from dynamics.analysis.stability.linearisation import Linearisation
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import Update


def equilibrium_of(game: Game) -> Players:
    """The game's first known equilibrium, as players.

    Raises:
        EquilibriumError: none is known.
    """
    known = game.equilibria()
    if not known:
        raise EquilibriumError(
            f"{type(game).__name__} knows none of its equilibria; pass at=players, for example "
            "at=find_equilibrium(game, start).players"
        )
    return as_point(known[0], "equilibria")


def residual_vanishes(linear: Linearisation, players: Players, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    """Which coordinates of the game's field pass for 0, and what each may be at most; see `vanishes`."""
    flat = np.asarray(ravel_pytree(players)[0], float)
    return vanishes(linear.residual, linear.game_jacobian, flat, float(linear.epsilon), accuracy)


def not_an_equilibrium(linear: Linearisation, players: Players, passes: np.ndarray, allowed: np.ndarray) -> str:
    """What to tell about a point at which the field does not vanish: where it is largest, player by player."""
    residual = np.abs(np.asarray(linear.residual, float))
    excess = np.where(passes, -1, residual / np.maximum(allowed, SMALLEST))
    begin, parts = 0, []
    for number, player in enumerate(players):
        size = _trees.size(player)
        part = slice(begin, begin + size)
        begin += size
        if not np.all(passes[part]):
            worst = part.start + int(np.argmax(np.where(np.isnan(residual[part]), np.inf, excess[part])))
            parts.append(
                f"that of player {number} is {residual[worst]:.3g} at {_coordinate(players, worst)}, where "
                f"{allowed[worst]:.1g} counts as zero"
            )
    return (
        f"{players_text(players)} is no equilibrium: the field has norm {norm(residual):.3g} there; "
        f"{'; '.join(parts)}. Use find_equilibrium(game, start).players, or require_equilibrium=False to "
        "linearise anyway."
    )


def _coordinate(players: Players, place: int) -> str:
    """The name of a coordinate of the flattened players."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(players):
        size = int(np.size(leaf))
        if place < size:
            index = "" if np.ndim(leaf) == 0 else str(list(map(int, np.unravel_index(place, np.shape(leaf)))))
            return f"players{jax.tree_util.keystr(path)}{index}"
        place -= size
    raise IndexError(place)


def norm(vector: np.ndarray | Array) -> float:
    """The Euclidean norm, by which neither large nor tiny numbers are lost; see `frobenius`."""
    return float(frobenius(np.asarray(vector, float).reshape(1, -1)))


def check_fixed_point(linear: Linearisation, method: Update | AbstractFlow, players: Players, accuracy: float) -> None:
    """Raise where one step of a method moves the state.

    Raises:
        EquilibriumError: it does; the message says how far, and which coordinate most.
    """
    _, allowed = residual_vanishes(linear, players, accuracy)
    passes, most = defect_vanishes(linear, allowed, float(linear.epsilon), accuracy, boundary_of(method))
    if not np.all(passes):
        worst = int(np.argmax(np.where(passes, -1, np.abs(linear.defect) / np.maximum(most, SMALLEST))))
        raise EquilibriumError(
            f"{players_text(players)} is an equilibrium of the game but no fixed point of the method: one step moves "
            f"the state by {norm(linear.defect):.3g}, its coordinate {worst} by {abs(linear.defect[worst]):.3g}. Use "
            "require_equilibrium=False to linearise anyway."
        )


def defect_vanishes(
    linear: Linearisation, allowed: np.ndarray, epsilon: float, accuracy: float, boundary: Boundary
) -> tuple[np.ndarray, np.ndarray]:
    """Which coordinates of the state stay where they are, and how far each may move at most; of one or many points.

    Args:
        linear: with or without a leading axis.
        allowed: what a coordinate of the game's field may be at most to pass for 0.
        epsilon: of the arithmetic.
        accuracy: as for `equilibria.newton.vanishes`.
        boundary: of the method.
    """
    jacobian, position = np.asarray(linear.jacobian, float), np.asarray(linear.position, float)
    rounding = boundary.defect_rounding(jacobian, position, epsilon)
    passes, most = vanishes(linear.defect, boundary.change(jacobian), position, epsilon, accuracy, rounding)
    if position.shape[-1] != allowed.shape[-1]:
        # A field that passes for 0 moves the state by as much as the Jacobian makes of it.
        passes |= np.abs(linear.defect) <= np.linalg.norm(allowed, axis=-1, keepdims=True)
    return passes, most
