"""A training step that somebody wrote, as an update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import described
from dynamics.game import Game, Losses, Players, as_callable, as_players, check_takes
from dynamics.updates.base import State, Update


class TrainingLoop(NamedTuple):
    """What `from_step` makes, in the order in which `dynamics.stability` and its relatives take it.

    Attributes:
        game: a game whose field is how far a step moves each player.
        update: the step.
        state: where training is.
    """

    game: "StepGame"
    update: "TrainingStep"
    state: State

    def whole(self, state: State) -> PyTree:
        """A state in the form that the training step knows."""
        return self.update.join(state.players, state.memory)


class TrainingStep(Update):
    """A function of the whole training state as an update; made by `from_step`.

    Args:
        function: `(state, batch, key) -> state`.
        players_of: `state -> (player, player, ...)`, the entries of the state that are players; `None`: all of it.
        batch: what the function gets as such, a pytree of arrays.
        start: a state, whose memory `init` begins with.
    """

    function: Callable[..., PyTree]
    players_of: Callable[[PyTree], Any] | None
    batch: PyTree
    start: PyTree

    def init(self, game: Game, players: Players) -> State:
        return State(players, self.split(self.start).memory)

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        whole = self.join(state.players, state.memory)
        moved = self.function(whole, self.batch, key)
        if jax.tree.structure(moved) != jax.tree.structure(whole):
            raise ValueError(
                f"the training step returned {described(moved)} for a state {described(whole)}; expected the same "
                "structure. Return the new state alone, without losses or metrics"
            )
        return self.split(moved)

    def split(self, whole: PyTree) -> State:
        """The players and the rest of a training state."""
        if self.players_of is None:
            players, memory = eqx.partition(whole, eqx.is_inexact_array)
            return State((players,), memory)
        players = self.players_of(whole)
        memory = eqx.tree_at(self._places, whole, [None] * len(players))
        return State(tuple(players), memory)

    def join(self, players: Players, memory: PyTree) -> PyTree:
        """The training state of these players and this memory."""
        if self.players_of is None:
            return eqx.combine(players[0], memory)
        return eqx.tree_at(self._places, memory, list(players), is_leaf=lambda node: node is None)

    def _places(self, whole: PyTree) -> list[PyTree]:
        assert self.players_of is not None
        return list(self.players_of(whole))

    @classmethod
    def example(cls, players: int = 2) -> Update:
        """Gradient descent on half the square of one number; it knows no other game."""
        del players
        return cls(lambda state, batch, key: {"x": state["x"] - 0.1 * state["x"]}, None, None, {"x": jnp.asarray(1.0)})


class StepGame(Game):
    r"""A game known by a training step alone: its field is how far a step moves each player, $v_i = x_i^+ - x_i$.

    It vanishes where the step rests, and says nothing of the losses that the step goes down: their values here are
    $-\langle v_i, x_i\rangle$ with v held fixed. The memory is that of the update's start.
    """

    update: TrainingStep

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        moved = self.update.step(self, State(players, self.update.init(self, players).memory), key).players
        change = jax.lax.stop_gradient(jax.tree.map(jnp.subtract, tuple(moved), tuple(players)))
        return tuple(-_dot(one, other) for one, other in zip(change, players, strict=True))

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        update = TrainingStep.example()
        assert isinstance(update, TrainingStep)
        return cls(update), update.split(update.start).players


def _dot(change: PyTree, player: PyTree) -> Array:
    return _trees.dot(eqx.filter(change, eqx.is_inexact_array), eqx.filter(player, eqx.is_inexact_array))


def from_step(
    train_step: Callable[..., PyTree],
    state: PyTree,
    *,
    players: Callable[[PyTree], Any] | None = None,
    batch: PyTree = None,
) -> TrainingLoop:
    """Any training step as an update: its Jacobian at this state, its Lyapunov exponents, its simulation.

    Args:
        train_step: `(state, batch, key) -> state`, written in JAX, with the state as one pytree of any kind: parameters
            of all networks, optax states in mid-training, batch statistics, averages.
        state: where training is.
        players: which entries of the state are the players, `lambda state: (state.generator, state.discriminator)`; all
            else is memory. It decides what reports call a player, and which memory belongs to whom. Default: all
            floating arrays are one player.
        batch: what the step gets as its second argument; another batch of the same shapes compiles nothing.

    Returns:
        `(game, update, state)`, to be unpacked into `dynamics.stability`, `simulate` or `lyapunov_exponents`.

    Raises:
        TypeError: no function of a state, a batch and a key; players that are no arrays of real numbers.
        ValueError: the step returns something of another structure.

    >>> import optax, dynamics as dy
    >>> optimiser = optax.sgd(0.1, 0.9)
    >>> def train_step(state, batch, key):
    ...     x, y = state["x"], state["y"]
    ...     move_x, memory_x = optimiser.update(y, state["memory_x"])
    ...     move_y, memory_y = optimiser.update(-x, state["memory_y"])
    ...     return {"x": x + move_x, "y": y + move_y, "memory_x": memory_x, "memory_y": memory_y}
    >>> x = jnp.asarray(1.0)
    >>> state = {"x": x, "y": x, "memory_x": optimiser.init(x), "memory_y": optimiser.init(x)}
    >>> loop = dy.from_step(train_step, state, players=lambda state: (state["x"], state["y"]))
    >>> report = dy.stability(*loop)
    >>> str(report.verdict), round(report.radius, 6)
    ('unstable', 1.198286)
    """
    function = as_callable(train_step, "train_step")
    check_takes(train_step, "train_step", "(state, batch, key)", 3)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, float) else leaf, state)
    update = TrainingStep(function, players, batch, state)
    start = update.split(state)
    start = State(as_players(start.players, "players"), start.memory)
    game = StepGame(update)
    eqx.filter_eval_shape(update.step, game, start, None)
    return TrainingLoop(game, update, start)
