"""Points at which a game's field or map jumps: the report on the jump, and the search for pseudo-equilibria."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.equilibria.precision import as_point, precisely
from dynamics.analysis.stability.fixed_point import equilibrium_of
from dynamics.analysis.stability.linearisation import function_at_rest
from dynamics.analysis.stability.sliding import Sliding, jump_at, pseudo_equilibrium_near
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import Update
from dynamics.updates.rounded import unrounded
from dynamics.updates.with_variables import for_game


def sliding(game: Game, method: Update | AbstractFlow, at: Any = None, *, key: PRNGKeyArray | None = None) -> Sliding:
    """What a flow or a map does next to a point at which it jumps, in the sense of Filippov.

    The switches of the program at the point are found in it, and its smooth pieces on their sides are continued across
    them, so that the sliding field is a smooth function whose Jacobian is that of automatic differentiation.

    Args:
        game: the game.
        method: an update or a flow.
        at: a tuple of players on the surfaces of the switches; default the game's first known equilibrium.
        key: for a game that can only be sampled: the batch is frozen.

    Raises:
        dynamics.analysis.stability.sliding.NotSliding: a `ValueError` that says why nothing is known: no switch is at
            the point, the velocity is the same on all sides, the switches are not on smooth surfaces.

    >>> import jax.numpy as jnp
    >>> from dynamics.flows import Flow
    >>> from dynamics.game import Game
    >>> game = Game.from_losses(lambda players, key=None: (jnp.abs(players[0]),))
    >>> sliding(game, Flow(), (0.0,)).motion
    'sliding'
    """
    method = unrounded(for_game(game, method))
    players = equilibrium_of(game) if at is None else as_point(at, "at")
    with precisely(game, method, players, key, None) as (game, method, exact, _):
        function, position, _ = function_at_rest(game, method, exact, key)
        return jump_at(function, position, isinstance(method, Update)).report


def find_pseudo_equilibrium(game: Game, flow: AbstractFlow, start: Any) -> Players:
    """The point near a start at which a flow that slides along its switches comes to rest.

    From the start Newton's method goes to the nearest surface at which the field jumps, and from there to where the
    sliding field vanishes, on the same surfaces. `dynamics.stability(game, flow, at=...)` tells whether it is stable.

    Args:
        game: the game.
        flow: a flow without memory.
        start: a tuple of players.

    Returns:
        the players there, of the shapes of the start.

    Raises:
        EquilibriumError: Newton's method does not settle, or the field does not slide at the end.
        TypeError: the method is no flow.
        ValueError: the flow has memory.
    """
    if not isinstance(flow, AbstractFlow):
        raise TypeError(f"flow is {flow!r}; expected a flow (dynamics.flows): a map has no pseudo-equilibria")
    players = jax.tree.map(jnp.asarray, as_point(start, "start"))
    if _trees.float_size(flow.init(game, players).memory):
        raise ValueError(f"{type(flow).__name__} has memory; expected a flow of the players alone")
    with precisely(game, flow, players, None, None) as (game, method, exact, _):
        function, position, _ = function_at_rest(game, method, exact, None)
        point = pseudo_equilibrium_near(function, np.asarray(position, float))
        if point is None:
            raise EquilibriumError(
                f"no pseudo-equilibrium was found from {np.asarray(position)}: Newton's method does not settle on a "
                "surface at which the field jumps and slides; try a start closer to it"
            )
        return ravel_pytree(exact)[1](jnp.asarray(point))
