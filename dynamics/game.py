"""Games: losses over players, and the field that training follows.

Sign convention, stated here and nowhere else: every player *minimises* its own loss; the field is
`v = -(grad_1 L_1, ..., grad_n L_n)`; the flow is `x' = v(x)`; an equilibrium has `v = 0`, and it is a stable
equilibrium of the flow when every eigenvalue of the Jacobian of `v` has a negative real part.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import check_no_memory

Players = tuple[PyTree, ...]
Losses = tuple[Array, ...]


class Game(eqx.Module):
    r"""A differentiable game: n players, each with parameters (any pytree) and a loss of all parameters.

    Field: $v(x) = -(\nabla_{x_1} L_1(x), \dots, \nabla_{x_n} L_n(x))$, by automatic differentiation.

    A concrete game defines `losses`, `equilibria` and `example`; nothing else is ever overridden.
    """

    @abstractmethod
    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        """The players' losses, a tuple of scalars; `key=None`: the exact expectation where there is one."""

    @abstractmethod
    def equilibria(self) -> tuple[Players, ...]:
        """The known equilibria, a tuple of players; may be empty."""

    @classmethod
    @abstractmethod
    def example(cls) -> "tuple[Game, Players]":
        """A small instance and a starting point, for the catalogue, the documentation and the tests."""

    def field(self, players: Players, key: PRNGKeyArray | None = None) -> Players:
        r"""The field $v = -(\nabla_1 L_1, \dots, \nabla_n L_n)$ at the players.

        Args:
            players: a tuple of pytrees of floating arrays, one per player.
            key: random key of the minibatch; every player sees the same one.

        Returns:
            a tuple of the shape of `players`.

        Raises:
            ValueError: the number of losses is not the number of players, or a loss is no scalar.
        """

        return _field(self, players, key)

    @staticmethod
    def from_losses(losses: Callable[..., Sequence[Array]], equilibria: Sequence[Players] = ()) -> "FunctionGame":
        """A game from one function `losses(players, key=None) -> (loss_0, loss_1, ...)`.

        Args:
            losses: function of a tuple of players and of a random key (which it may ignore).
            equilibria: known equilibria, a sequence of tuples of players.

        >>> game = Game.from_losses(lambda xy, key=None: (xy[0] * xy[1], -xy[0] * xy[1]))
        >>> [float(v) for v in game.field((jnp.asarray(2.0), jnp.asarray(3.0)))]
        [-3.0, 2.0]
        """
        return FunctionGame(losses, equilibria)


class FunctionGame(Game):
    """A game given by one function of all players; made by `Game.from_losses`."""

    function: Callable[..., Sequence[Array]]
    known: tuple[Players, ...]

    def __init__(self, losses: Callable[..., Sequence[Array]], equilibria: Sequence[Players] = ()):
        self.function = as_callable(losses, "losses")
        self.known = tuple(as_players(point) for point in equilibria)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        return tuple(self.function(players, key))

    def equilibria(self) -> tuple[Players, ...]:
        return self.known

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        def losses(players, key=None):
            x, y = players
            return x**2 / 2 + 3 * x * y["b"], y["b"] ** 2 - x * y["b"]

        return cls(losses, [(0.0, {"b": 0.0})]), as_players((1.0, {"b": 0.5}))


class ZeroSum(Game):
    """A two-player zero-sum game: player 0 minimises the value, player 1 maximises it.

    Losses: `(value(x, y), -value(x, y))`.

    >>> game = ZeroSum(lambda x, y: x * y)
    >>> [float(v) for v in game.field((jnp.asarray(2.0), jnp.asarray(3.0)))]
    [-3.0, 2.0]
    """

    value: Callable[[PyTree, PyTree], Array]
    known: tuple[Players, ...]

    def __init__(self, value: Callable[[PyTree, PyTree], Array], equilibria: Sequence[Players] = ()):
        self.value = as_callable(value, "value")
        self.known = tuple(as_players(point) for point in equilibria)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        value = self.value(*players)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return self.known

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        def value(x, y):
            return 2 * x * y + x**2 / 2 - y**2 / 4

        return cls(value, [(0.0, 0.0)]), as_players((1.0, -0.5))


@eqx.filter_jit
def _field(game: Game, players: Players, key: PRNGKeyArray | None) -> Players:
    # Compiled on its own, so that a program that needs the field in many places traces it once.
    def gradient(player: int) -> PyTree:
        def own_loss(own: PyTree) -> Array:
            losses = game.losses(players[:player] + (own,) + players[player + 1 :], key)
            return _one_loss(game, losses, player, len(players))

        return jax.grad(own_loss)(players[player])

    return tuple(jax.tree.map(jnp.negative, gradient(player)) for player in range(len(players)))


def as_callable(function: Callable, name: str) -> Callable:
    """Wrap a plain function so that a game that holds it is a pytree of arrays; modules stay as they are."""
    if not callable(function):
        raise TypeError(f"{name} is {function!r}; expected a function")
    if jax.tree_util.all_leaves([function]):
        return jax.tree_util.Partial(function)
    return function


def as_players(players: Any, name: str = "players") -> Players:
    """Turn numbers and NumPy arrays into a tuple of pytrees of floating arrays.

    Raises:
        TypeError: not a tuple or list, a leaf is no real number, or it is memory of a layer (running means).
        ValueError: a leaf holds NaN or an infinity.

    >>> as_players((1, [2.0, 3.0]))[1][0].dtype == jnp.asarray(1.0).dtype
    True
    """
    if not isinstance(players, (tuple, list)):
        raise TypeError(f"{name} is {players!r}; expected a tuple with one entry (any pytree) per player")

    check_no_memory(tuple(players), name)

    def leaf(path, value):
        if not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)) or isinstance(value, bool):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} is {value!r}, of type {type(value).__name__}; expected an array "
                "of real numbers. For an equinox module, split off what is no parameter with dynamics.split_module."
            )
        if not isinstance(value, jax.core.Tracer):
            kind = np.asarray(value).dtype if not hasattr(value, "dtype") else value.dtype
            if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
                raise TypeError(f"{name}{jax.tree_util.keystr(path)} has dtype {kind}; expected real numbers")
            if not np.isfinite(np.asarray(value)).all():
                raise ValueError(f"{name}{jax.tree_util.keystr(path)} is {value}; expected finite numbers")
        if isinstance(value, (int, float)):
            with np.errstate(over="ignore"):  # infinite in single precision
                return jnp.asarray(np.asarray(value, jax.dtypes.canonicalize_dtype(float)))
        array = jnp.asarray(value)
        kind = array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else jnp.result_type(float)
        if kind == array.dtype and not (isinstance(array, jax.core.Tracer) or array.weak_type):
            return array
        return jax.lax.convert_element_type(array, kind)  # never weakly typed: a state keeps its dtype

    return tuple(jax.tree_util.tree_map_with_path(leaf, tuple(players)))


def _one_loss(game: Game, losses: Losses, player: int, count: int) -> Array:
    if len(losses) != count:
        raise ValueError(
            f"{type(game).__name__}.losses returned {len(losses)} losses for {count} players; "
            "expected one loss per player"
        )
    loss = losses[player]
    if jnp.shape(loss) != ():
        raise ValueError(
            f"the loss of player {player} has shape {jnp.shape(loss)}; expected a scalar. Take a mean or a sum over it."
        )
    return loss
