"""One point of a game and a method, with its memory at rest."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics.analysis.stability.linearisation import Linearisation, linearise
from dynamics.analysis.stability.rest import Rest, rest_state
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import Update


def linear_at_rest(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None,
    noise: tuple[jax.Array, ...] | None,
) -> tuple[Linearisation, Rest]:
    """The linearisation where the memory is at rest, as NumPy arrays, and that state."""
    rest = compiled_rest_state(game, method, players, key, noise)
    linear = compiled_linearise(game, method, players, key, gradient_noise=noise, limit=False, rest=rest)
    return jax.device_get(linear), rest


@dataclasses.dataclass(frozen=True)
class JudgedPoint:
    """What is judged: a method on a game, at a point; and how its memory is put to rest there, which takes long."""

    game: Game
    method: Update | AbstractFlow
    players: Players
    key: PRNGKeyArray | None
    noise: tuple[jax.Array, ...] | None
    at_rest_state: Callable[[], Rest]


compiled_linearise = eqx.filter_jit(linearise)


@eqx.filter_jit
def compiled_rest_state(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    noise: tuple[jax.Array, ...] | None = None,
) -> Rest:
    """`rest_state` in one program, in the dtype of the players."""
    dtype = _trees.float_dtype(players)
    game, method = _trees.cast((game, method), dtype)
    return rest_state(game, method, players, key, _trees.cast(noise, dtype))
