"""Double precision for a question about a game in single precision."""

import contextlib
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from dynamics import _trees
from dynamics.compiler.derivatives import coarsest_epsilon
from dynamics.compiler.jaxprs import primitives
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.updates.base import State, Update

# Random numbers of another type are other random numbers.
RANDOM = {"random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform", "random_gamma"}


def as_point(players: Any, name: str) -> Players:
    """Players as `dynamics.game.as_players` makes them, in a type for which there is linear algebra.

    Raises:
        TypeError: a leaf is neither float32 nor float64.
    """
    point = as_players(players, name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(point):
        if leaf.dtype not in (jnp.float32, jnp.float64):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} has dtype {leaf.dtype}; equilibria and eigenvalues need float32 "
                "or float64. Convert it, for example with jax.tree.map(lambda leaf: leaf.astype(float), players)."
            )
    return point


@contextlib.contextmanager
def precisely(
    game: Game, method: Update | AbstractFlow, players: Players, key: Any, others: Any
) -> Iterator[tuple[Game, Update | AbstractFlow, Players, Any]]:
    """Game, method, players and other arrays with the same numbers in float64, in a context in which JAX uses such.

    They stay as they are where that would change what is computed: where the game or the method casts to a coarser
    type or draws random numbers, or does not allow it. Only this thread's context changes, and only until it ends.
    """
    if all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(players)) or key is not None:
        yield game, method, players, others
        return
    with jax.enable_x64(True):
        exact = _exact(game, method, players, others)
        if exact is not None:
            yield exact
            return
    yield game, method, players, others


def _exact(game: Game, method: Update | AbstractFlow, players: Players, others: Any) -> tuple | None:
    exact = _trees.cast((game, method, players, others), jnp.float64)

    def run(players: Players) -> Any:
        game, method, _, _ = exact
        state: State = method.init(game, players)
        moved = (
            method.step(game, state, None)
            if isinstance(method, Update)
            else method.field(game, jnp.zeros((), jnp.float64), state)
        )
        return eqx.filter((moved, game.field(players)), eqx.is_inexact_array)

    try:
        program = jax.make_jaxpr(run)(exact[2])
    except Exception:  # whatever a user's code raises for numbers of another type
        return None
    if coarsest_epsilon(program.jaxpr) > float(jnp.finfo(jnp.float64).eps) or RANDOM & primitives(program.jaxpr):
        return None
    return exact
