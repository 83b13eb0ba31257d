from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import check_kind, described
from dynamics.game import Game, Players, as_callable, variables_of, with_variables
from dynamics.optimisers import sgd
from dynamics.penalties import Penalty, Scaled
from dynamics.updates.base import State, ThreadedUpdate, Update, threaded_step
from dynamics.updates.simultaneous import Simultaneous

Place = Callable[[Game, Update], Any]


class Scheduled(ThreadedUpdate):
    r"""Another update, in which numbers of the game, or of the update, depend on the number of the step.

    At step t = 0, 1, ... the inner update plays the game in which what `where` picks is multiplied by `schedule(t)`:
    the weight of a penalty that is burnt in (`optax.cosine_decay_schedule(1.0, 5000, alpha=0.1)`) or lazy
    (`dynamics.schedules.Every(16)`), the decay of an average, the rate of an extrapolation. The step's number is
    memory. `dynamics.stability` judges the step in the limit of a schedule that settles, a whole period of one that
    repeats (so that lazy R1 has the product of its k Jacobians), and neither if it does neither. What an optimiser
    computes itself has schedules of optax: `Optimiser(optax.adam, schedule)` for a rate, `optax.inject_hyperparams` for
    b2. Several schedules: wrap several times.

    Args:
        inner_update: the update.
        schedule: a function of the number of steps done before, a whole number in an array; those of optax are.
        where: a function `(game, update)` that picks a number, an array or a penalty of one of the two, for instance
            `lambda game, update: game.noise` or `lambda game, update: update.decay`; default all penalties of the game.
        skip: whether penalties are left out, not computed, at steps at which the schedule is 0: saves the time of a
            lazy penalty in a single run.

    Raises:
        TypeError: the inner update is none, the schedule no function or returns no number, or what is picked cannot be
            multiplied.
        ValueError: the game has no penalty and `where` is not given.

    >>> import dynamics as dy
    >>> game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.5))
    >>> lazy = Scheduled(Simultaneous(sgd(1.0), sgd(1.0)), dy.schedules.Every(4))
    >>> state = lazy.init(game, (jnp.asarray(0.0), jnp.asarray(1.0)))
    >>> state = lazy.step(game, state)  # with weight 4 * 0.5
    >>> [round(float(player), 3) for player in state.players]
    [-0.5, -1.0]
    >>> float(lazy.step(game, state).players[1].round(3))  # without
    -1.189
    """

    inner_update: Update
    schedule: Callable[[Array], Any]
    where: Place | None
    skip: bool = eqx.field(static=True)

    def __init__(
        self, inner_update: Update, schedule: Callable[[Array], Any], where: Place | None = None, skip: bool = False
    ):
        self.skip = bool(skip)
        self.inner_update = inner_update
        self.schedule = as_callable(schedule, "schedule")
        self.where = None if where is None else as_callable(where, "where")

    def __check_init__(self):
        check_kind(self, "inner_update", Update, "Simultaneous(optax.sgd(0.1), optax.sgd(0.1))")

    def init(self, game: Game, players: Players) -> State:
        count = jnp.asarray(0, jnp.int32)
        game, update = self.at(game, count, _trees.float_dtype(players))
        return State(players, _Memory(update.init(game, players).memory, count))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.threaded_step(game, state, key)[0]

    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        memory = state.memory
        played, update = self.at(game, memory.count, _trees.float_dtype(state.players))
        new, after = threaded_step(update, played, State(state.players, memory.inner), key)
        return State(new.players, _Memory(new.memory, memory.count + 1)), with_variables(game, variables_of(after))

    def at(self, game: Game, count: Any, dtype: Any = None) -> tuple[Game, Update]:
        """The game and the inner update of one step.

        Args:
            game: the game.
            count: number of steps before this one.
            dtype: of the factor.
        """
        factor = self.schedule(count)
        if not isinstance(factor, (int, float, np.generic, jax.Array)) or jnp.shape(factor) != ():
            raise TypeError(
                f"the schedule returned {described(factor)}; expected one number, as optax.constant_schedule(1.0) does"
            )
        factor = jnp.asarray(factor, float if dtype is None else dtype)
        both = game, self.inner_update
        if self.where is not None:
            return self._multiplied(both, self.where, factor)
        if not any(map(_is_penalty, jax.tree.leaves(game, is_leaf=_is_penalty))):
            raise ValueError(
                f"{type(game).__name__} has no penalty for the schedule; give it one, or say which number is meant, "
                "e.g. where=lambda game, update: game.weight"
            )
        scaled = jax.tree.map(
            lambda node: self._times(node, factor) if _is_penalty(node) else node, game, is_leaf=_is_penalty
        )
        return scaled, self.inner_update

    def _multiplied(self, both: tuple[Game, Update], where: Place, factor: Array) -> tuple[Game, Update]:
        picked = where(*both)
        for node in picked if isinstance(picked, (tuple, list)) else [picked]:
            if not (_is_penalty(node) or eqx.is_inexact_array(node)):
                raise TypeError(
                    f"where picks {described(node)}; expected a number of the game or the update that is an array, or "
                    "a penalty, e.g. where=lambda game, update: game.penalty"
                )
        return eqx.tree_at(lambda both: where(*both), both, replace_fn=lambda node: self._times(node, factor))

    def _times(self, node: Any, factor: Array) -> Any:
        """A penalty or a number, times a number."""
        if _is_penalty(node):
            return Scaled(node, factor, self.skip)
        product = node * factor
        return product if node.weak_type else product.astype(node.dtype)  # weakly typed numbers follow the players

    @classmethod
    def example(cls, players: int = 2) -> Update:
        inner = Simultaneous(*(sgd(0.1 / (1 + player)) for player in range(players)))
        return cls(inner, optax.linear_schedule(0.5, 1.0, 2), _first_rate)


class _Memory(eqx.Module):
    """What the inner update remembers, and the number of steps."""

    inner: PyTree
    count: Array


def _first_rate(game: Game, update: Any) -> Array:
    """The rate of player 0 of an update with one optimiser per player."""
    del game
    return update.steppers.optimisers[0].positional[0]


def _is_penalty(node: Any) -> bool:
    return isinstance(node, Penalty)
