from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import check_kind
from dynamics.game import Game, Players, has_variables, variables_of, with_variables
from dynamics.optimisers import sgd
from dynamics.updates.alternating import Alternating
from dynamics.updates.base import State, Update, threaded_step


class VariablesMemory(eqx.Module):
    """What the inner update remembers, and the game's variables.

    Attributes:
        inner: the memory of the inner update.
        variables: those of the game before the next step; `()` for a game without.
    """

    inner: PyTree
    variables: PyTree


class WithVariables(Update):
    r"""An update of a game that keeps values between steps (`dynamics.game.StatefulGame`): they are part of its memory.

    With players x, the inner update's memory m and the game's variables v, such as running means and the vectors of a
    power iteration: $(x, m, v)^+ = F(x, m, v)$, where v changes as the computation of the losses changes it. So v is in
    the state, and in the Jacobian of the map; no optimiser moves it. `Alternating` (and `Extragradient` with an order,
    `Lookahead`, `Averaged`) hand on to each part of a step the variables that the part before has left, as a training
    loop does; of any other update they stay the same throughout a step and are updated once, by the losses at the
    players before the step. `dynamics.simulate`, `stability`, `lyapunov_exponents` and `sweep` wrap an update in this
    one where the game has variables. For any other game it is the inner update.

    Args:
        inner_update: the update.

    Raises:
        TypeError: the inner update is none.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = WithVariables(Simultaneous(optax.sgd(0.5), optax.sgd(0.25)))
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players], state.memory.variables
    ([0.0, 2.25], ())
    """

    inner_update: Update

    def __check_init__(self):
        check_kind(self, "inner_update", Update, "Simultaneous(optax.sgd(0.1), optax.sgd(0.1))")

    def init(self, game: Game, players: Players) -> State:
        state = self.inner_update.init(game, players)
        variables = _trees.cast(variables_of(game), _trees.float_dtype(players))
        return State(state.players, VariablesMemory(state.memory, jax.tree.map(jnp.asarray, variables)))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        memory = state.memory
        game = with_variables(game, memory.variables)
        new, game = threaded_step(self.inner_update, game, State(state.players, memory.inner), key)
        return State(new.players, VariablesMemory(new.memory, variables_of(game)))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Alternating(*(sgd(0.1 / (1 + player)) for player in range(players))))


def for_game(game: Game, method: Any) -> Any:
    """The method, or the update within `WithVariables` where the game has variables and nothing keeps them yet."""
    if not isinstance(method, Update) or not has_variables(game):
        return method
    nodes = jax.tree.leaves(method, is_leaf=_keeps)
    return method if any(map(_keeps, nodes)) else WithVariables(method)


def game_at(game: Game, state: State) -> Game:
    """The game with the variables that a state holds; as it is where it holds none."""

    def holds(node: object) -> bool:
        return isinstance(node, VariablesMemory)

    held = [node for node in jax.tree.leaves(state.memory, is_leaf=holds) if holds(node)]
    return with_variables(game, held[0].variables) if held else game


def _keeps(node: object) -> bool:
    return isinstance(node, WithVariables)
