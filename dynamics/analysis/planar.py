"""What a picture of the plane needs of a game of two numbers: field, equilibria, and of what kind these are."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics.analysis.concepts import Answer, classify
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.equilibria.search import find_equilibria
from dynamics.game import Game, Players

NEITHER = "not strictly Nash or minimax"
KINDS: tuple[str, ...] = ("strict Nash", "strict minimax", f"{NEITHER}, attracts", NEITHER)
POINTS = 61  # of the grid in each direction


@dataclasses.dataclass(frozen=True)
class PlanarField:
    """A game's field in a window.

    Attributes:
        x, y: coordinates of the grid.
        u, v: the field's components there.
        equilibria: those that a search of the window has come to, one row each.
        kinds: of each, one of `KINDS`: strict local Nash, strict local minimax (Stackelberg), only stable for the
            gradient flow, or any other.
    """

    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    u: Float[np.ndarray, "ny nx"]
    v: Float[np.ndarray, "ny nx"]
    equilibria: Float[np.ndarray, "k 2"]
    kinds: tuple[str, ...]


def field_on_grid(
    game: Game, unravel: Callable[[Array], Players], key: PRNGKeyArray | None = None
) -> Callable[[Float[Array, "ny nx 2"]], Float[Array, "ny nx 2"]]:
    """The field of a game of two numbers as a function of a grid of points; traceable."""
    return jax.vmap(jax.vmap(lambda point: ravel_pytree(game.field(unravel(point), key))[0]))


def planar_field(
    game: Game,
    players: Players,
    window: tuple[tuple[float, float], tuple[float, float]],
    *,
    key: PRNGKeyArray | None = None,
) -> PlanarField:
    """The field of a game of two numbers on a grid, and the equilibria in the window.

    Args:
        game: the game.
        players: any point, for its structure.
        window: `((x_low, x_high), (y_low, y_high))`.
        key: for a game that can only be sampled.

    Raises:
        ValueError: the game has other than two numbers.
    """
    flat, unravel = ravel_pytree(players)
    if flat.size != 2:
        raise ValueError(f"the players have {flat.size} numbers; expected 2 for a picture of the plane")
    x, y = (np.linspace(*side, POINTS) for side in window)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1), flat.dtype)
    field = np.asarray(jax.jit(field_on_grid(game, unravel, key))(grid), float)
    low, high = (unravel(jnp.asarray(corner, flat.dtype)) for corner in zip(*window, strict=True))
    equilibria = find_equilibria(game, (low, high), starts=64, key=key)
    points = np.array([np.asarray(ravel_pytree(e.players)[0], float) for e in equilibria]).reshape(-1, 2)
    kinds = tuple(_kind(game, e.players, key) for e in equilibria)
    return PlanarField(x, y, field[..., 0], field[..., 1], points, kinds)


def _kind(game: Game, players: Any, key: PRNGKeyArray | None) -> str:
    try:
        known = classify(game, players, key=key)
    except EquilibriumError:
        return KINDS[-1]
    if known.nash is Answer.yes:
        return KINDS[0]
    if any(leadership.answer is Answer.yes for leadership in known.leaderships):
        return KINDS[1]
    return KINDS[2] if str(known.flow) == "stable" else KINDS[3]
