from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from dynamics._checks import described
from dynamics.directions.base import Direction
from dynamics.directions.gradient import Gradient
from dynamics.game import Game, Players, as_callable, check_takes

Geometry = Callable[[PyTree, PyTree], PyTree]


class Natural(Direction):
    r"""Natural gradient: every player goes downhill in a geometry of its own, $d_i = G_i(x_i)^{-1} v_i$.

    A geometry is a function of a player's parameters $x_i$ and of the direction v that it is given, and returns
    $G_i(x_i)^{-1} v_i$; where G is positive definite the player's own loss falls along it as it does along v.
    `dynamics.function_space` has those of densities and of functions: `FisherRao`, `Transport`, `Weighted`. At an
    equilibrium the Jacobian is that of v with its rows multiplied by $G_i(x_i^*)^{-1}$: geometries change spectra, but
    no equilibria.
    Source: Amari, Natural Gradient Works Efficiently in Learning, 1998, theorem 1.

    Args:
        geometries: one per player, `None` for the Euclidean one; none at all: Euclidean for everybody.
        direction: what is given to the geometries; default the gradient.

    Raises:
        TypeError: a geometry is no function of parameters and a direction, or `direction` is no direction.
        ValueError: when called, not one geometry per player, or one returned something of another shape.

    >>> from dynamics.games import Bilinear
    >>> direction = Natural(None, lambda y, v: 4 * v)
    >>> [float(d) for d in direction(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-6.0, 8.0]
    """

    geometries: tuple[Geometry | None, ...]
    direction: Direction

    def __init__(self, *geometries: Geometry | None, direction: Direction | None = None):
        for player, geometry in enumerate(geometries):
            if geometry is not None:
                check_takes(as_callable(geometry, f"geometry {player}"), f"geometry {player}", "(parameters, v)", 2)
        self.geometries = tuple(g if g is None else as_callable(g, "geometry") for g in geometries)
        self.direction = Gradient() if direction is None else direction

    def __check_init__(self):
        if not isinstance(self.direction, Direction):
            raise TypeError(f"Natural.direction is {self.direction!r}; expected a direction, e.g. Gradient()")

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        directions = self.direction(game, players, key)
        if not self.geometries:
            return directions
        if len(self.geometries) != len(players):
            raise ValueError(
                f"Natural has {len(self.geometries)} geometries for {len(players)} players; expected one per player, "
                "None for a Euclidean one"
            )
        return tuple(
            direction if geometry is None else _same(geometry(parameters, direction), direction, player)
            for player, (geometry, parameters, direction) in enumerate(
                zip(self.geometries, players, directions, strict=True)
            )
        )


def _same(returned: Any, direction: PyTree, player: int) -> PyTree:
    """What a geometry returned, in the shapes and dtypes of a direction."""

    def shapes(tree: Any) -> Any:
        return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]

    if shapes(returned) != shapes(direction):
        raise ValueError(
            f"geometry {player} returned {described(returned)} for the direction {described(direction)}; expected "
            "the same structure and shapes"
        )
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), returned, direction)
