"""Games: losses over players, and the field that training follows.

Sign convention, stated here and nowhere else: every player *minimises* its own loss; the field is
`v = -(grad_1 L_1, ..., grad_n L_n)`; the flow is `x' = v(x)`; an equilibrium has `v = 0`, and it is a stable
equilibrium of the flow when every eigenvalue of the Jacobian of `v` has a negative real part.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import check_no_memory, described
from dynamics._methods import WithMethods

Players = tuple[PyTree, ...]
Losses = tuple[Array, ...]


class Game(WithMethods):
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
    def from_losses(
        losses: Callable[..., Any], equilibria: Sequence[Players] = (), has_aux: bool = False
    ) -> "FunctionGame":
        """A game from one function `losses(players, key=None) -> (loss_0, loss_1, ...)`.

        Args:
            losses: function of a tuple of players and of a random key (which it may ignore).
            equilibria: known equilibria, a sequence of tuples of players.
            has_aux: it returns `((loss_0, loss_1, ...), aux)`; the second entry, anything, is dropped. What should be
                recorded along a run is a measure of `dynamics.simulate`.

        Raises:
            TypeError: no function of players and a key.

        >>> game = Game.from_losses(lambda xy, key=None: (xy[0] * xy[1], -xy[0] * xy[1]))
        >>> [float(v) for v in game.field((jnp.asarray(2.0), jnp.asarray(3.0)))]
        [-3.0, 2.0]

        Two losses of somebody's own training loop, their batch, and what optax has in its memory by now:

        >>> import optax
        >>> from dynamics.updates import Simultaneous, State
        >>> def generator_loss(mine, other, batch, key):
        ...     return jnp.sum(mine["w"] * other)
        >>> def discriminator_loss(mine, other, batch, key):
        ...     return jnp.mean(batch) * mine**2 - jnp.sum(other["w"] * mine)
        >>> params, optimisers = ({"w": jnp.ones(2)}, jnp.asarray(1.0)), (optax.adam(1e-3), optax.sgd(1e-2))
        >>> memory, batch = tuple(o.init(p) for o, p in zip(optimisers, params)), jnp.ones(8)
        >>> game = Game.from_losses(
        ...     lambda p, key=None: (generator_loss(*p, batch, key), discriminator_loss(p[1], p[0], batch, key))
        ... )
        >>> state = State(params, memory)  # for dynamics.stability(game, Simultaneous(*optimisers), state)
        >>> float(Simultaneous(*optimisers).step(game, state).players[1])
        1.0
        """
        return FunctionGame(losses, equilibria, has_aux)


class StatefulGame(Game):
    """A game that keeps values from one step to the next: running means, the vectors of a power iteration.

    These variables are memory of the update that plays the game (`dynamics.updates.WithVariables`): part of the map
    that is iterated, and of its Jacobian. No optimiser moves them.
    """

    @property
    @abstractmethod
    def variables(self) -> PyTree:
        """A pytree of arrays, as they are before the next step; without leaves: the game keeps nothing."""

    @abstractmethod
    def with_variables(self, variables: PyTree) -> "StatefulGame":
        """The same game with other variables, of the same structure, shapes and dtypes."""

    @abstractmethod
    def advanced(self, players: Players, key: PRNGKeyArray | None = None) -> "StatefulGame":
        """The game after the computation of its losses at the players, with this key, has updated its variables."""


def has_variables(game: Game) -> bool:
    """Whether a game keeps values from one step to the next."""
    return isinstance(game, StatefulGame) and bool(jax.tree.leaves(game.variables))


def variables_of(game: Game) -> PyTree:
    """The variables of a game, `()` for a game that keeps nothing."""
    return game.variables if isinstance(game, StatefulGame) and has_variables(game) else ()


def with_variables(game: Game, variables: PyTree) -> Game:
    """The game with these variables, or as it is where there are none."""
    return game.with_variables(variables) if isinstance(game, StatefulGame) and jax.tree.leaves(variables) else game


def advanced(game: Game, players: Players, key: PRNGKeyArray | None = None) -> Game:
    """The game after the computation of its losses has updated its variables; as it is where it has none."""
    return game.advanced(players, key) if isinstance(game, StatefulGame) and has_variables(game) else game


class FunctionGame(Game):
    """A game given by one function of all players; made by `Game.from_losses`."""

    function: Callable[..., Any]
    known: tuple[Players, ...]
    has_aux: bool = eqx.field(static=True)

    def __init__(self, losses: Callable[..., Any], equilibria: Sequence[Players] = (), has_aux: bool = False):
        self.function = as_callable(losses, "losses")
        check_takes(losses, "losses", "(players, key=None)", 2)
        self.known = tuple(as_players(point, "equilibria") for point in equilibria)
        self.has_aux = bool(has_aux)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        returned = self.function(players, key)
        if self.has_aux:
            returned = without_aux(returned, "losses", f"(({_expected(len(players))}), aux)")
        return as_losses(returned, len(players), "losses")

    def equilibria(self) -> tuple[Players, ...]:
        return self.known

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        def losses(players, key=None):
            x, y = players
            return x**2 / 2 + 3 * x * y["b"], y["b"] ** 2 - x * y["b"]

        return cls(losses, [(0.0, {"b": 0.0})]), as_players((1.0, {"b": 0.5}))


class ShiftedGradients(StatefulGame):
    """The same losses at a point, all gradients moved by a constant: what is at rest at an equilibrium may move.

    Args:
        game: the game.
        point: where the losses stay the same.
        shift: that of the gradients, one number per player.
        sign: times this.
    """

    game: Game
    point: Players
    shift: tuple[Any, ...]
    sign: int = eqx.field(static=True, default=1)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        def pull(player: int) -> Array:
            moved = jax.tree.map(lambda a, b: jnp.sum(a - b), players[player], self.point[player])
            return self.sign * self.shift[player] * sum(jax.tree.leaves(moved))

        return tuple(loss + pull(player) for player, loss in enumerate(self.game.losses(players, key)))

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @property
    def variables(self) -> PyTree:
        return variables_of(self.game)

    def with_variables(self, variables: PyTree) -> "ShiftedGradients":
        return ShiftedGradients(with_variables(self.game, variables), self.point, self.shift, self.sign)

    def advanced(self, players: Players, key: PRNGKeyArray | None = None) -> "ShiftedGradients":
        return ShiftedGradients(advanced(self.game, players, key), self.point, self.shift, self.sign)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game, players = FunctionGame.example()
        return cls(game, players, (jnp.asarray(0.1),) * len(players)), players


class ZeroSum(Game):
    """A two-player zero-sum game: player 0 minimises the value, player 1 maximises it.

    Losses: `(value(x, y), -value(x, y))`. With `has_aux` the function returns `(value, aux)`, and the second entry,
    anything, is dropped.

    Raises:
        TypeError: no function of the two players.

    >>> game = ZeroSum(lambda x, y: x * y)
    >>> [float(v) for v in game.field((jnp.asarray(2.0), jnp.asarray(3.0)))]
    [-3.0, 2.0]
    """

    value: Callable[[PyTree, PyTree], Any]
    known: tuple[Players, ...]
    has_aux: bool = eqx.field(static=True)

    def __init__(
        self, value: Callable[[PyTree, PyTree], Any], equilibria: Sequence[Players] = (), has_aux: bool = False
    ):
        self.value = as_callable(value, "value")
        check_takes(value, "value", "(x, y)", 2)
        self.known = tuple(as_players(point, "equilibria") for point in equilibria)
        self.has_aux = bool(has_aux)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 2:
            raise ValueError(f"ZeroSum is a game of two players; got {len(players)}")
        value = self.value(*players)
        if self.has_aux:
            value = without_aux(value, "value", "(value, aux)")
        check_scalar(value, "value returned")
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
        def own_loss(parameters: PyTree) -> Array:
            try:
                losses = game.losses(players[:player] + (parameters,) + players[player + 1 :], key)
            except (TypeError, ValueError, AttributeError) as error:
                if advice := advice_on_lists(players):
                    error.add_note(advice)
                raise
            return as_losses(losses, len(players), f"{type(game).__name__}.losses")[player]

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
    check_numbers(players, name)

    def leaf(value: Any) -> Any:
        if isinstance(value, (int, float)):
            with np.errstate(over="ignore"):  # infinite in single precision
                return jnp.asarray(np.asarray(value, jax.dtypes.canonicalize_dtype(float)))
        array = jnp.asarray(value)
        kind = array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else jnp.result_type(float)
        if kind == array.dtype and not (isinstance(array, Tracer) or array.weak_type):
            return array
        return jax.lax.convert_element_type(array, kind)  # never weakly typed: a state keeps its dtype

    return tuple(jax.tree.map(leaf, tuple(players)))


def check_numbers(players: Any, name: str = "players") -> None:
    """Raise what `as_players` raises.

    Args:
        players: what somebody may have meant for players.
        name: of them, in messages.

    Raises:
        TypeError: not a tuple or list, a leaf is no real number, or it is memory of a layer (running means).
        ValueError: a leaf holds NaN or an infinity.
    """
    if not isinstance(players, (tuple, list)):
        raise TypeError(f"{name} is {players!r}; expected a tuple with one entry (any pytree) per player")
    players = tuple(players)
    check_no_memory(players, name)

    def label(number: int) -> str:
        return name + jax.tree_util.keystr(jax.tree_util.tree_leaves_with_path(players)[number][0])

    for number, value in enumerate(jax.tree.leaves(players)):
        if not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)) or isinstance(value, bool):
            raise TypeError(
                f"{label(number)} is {value!r}, of type {type(value).__name__}; expected an array "
                "of real numbers. For an equinox module, split off what is no parameter with dynamics.split_module."
            )
        if not isinstance(value, Tracer):
            kind = value.dtype if isinstance(value, (np.generic, np.ndarray, jax.Array)) else np.asarray(value).dtype
            if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
                raise TypeError(f"{label(number)} has dtype {kind}; expected real numbers")
            if not np.isfinite(np.asarray(value)).all():
                raise ValueError(f"{label(number)} is {value}; expected finite numbers")


def advice_on_lists(players: Players) -> str:
    """What to do where a player is a list of plain numbers, whom somebody may have meant for a vector; else empty.

    >>> advice_on_lists(([1.0, 2.0], jnp.ones(3)))
    'Player 0 is a list of 2 numbers, each a parameter of its own; a vector is an array, jnp.array([...]).'
    """
    for number, player in enumerate(players):
        if isinstance(player, list) and player and all(jnp.ndim(entry) == 0 for entry in jax.tree.leaves(player)):
            return (
                f"Player {number} is a list of {len(jax.tree.leaves(player))} numbers, each a parameter of its own; a "
                "vector is an array, jnp.array([...])."
            )
    return ""


def check_takes(function: Callable, name: str, parameters: str, count: int) -> None:
    """Raise `TypeError` where a function's signature shows that it does not take so many positional arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it has none
        return
    try:
        signature.bind(*(None,) * count)
    except TypeError as error:
        raise TypeError(
            f"{name} is a function of {signature}; it is called with {count} arguments, as {name}{parameters} ({error})"
        ) from None


def as_losses(returned: Any, count: int, name: str) -> Losses:
    """What a function of losses returned, one real scalar per player.

    Raises:
        TypeError: no sequence, or a loss is no real number.
        ValueError: a wrong number of losses, or one that is no scalar.
    """
    expected = f"expected a tuple of {count} scalars, one loss per player: ({_expected(count)})"
    array = isinstance(returned, (np.ndarray, jax.Array))
    if not (isinstance(returned, (tuple, list)) or (array and returned.ndim > 0)):
        hint = " Is a `return` missing?" if returned is None else ""
        raise TypeError(f"{name} returned {described(returned)}; {expected}.{hint}")
    if len(returned) and isinstance(returned[0], (tuple, list)):
        raise TypeError(
            f"{name} returned {described(returned)}; {expected}. If it returns (losses, aux), say so: "
            "Game.from_losses(losses, has_aux=True)."
        )
    if len(returned) != count:
        raise ValueError(
            f"{name} returned {len(returned)} losses for {count} players, {described(returned)}; {expected}"
        )
    for player in range(count):
        check_scalar(returned[player], f"the loss of player {player} is")
    return tuple(returned)


def check_scalar(loss: Any, label: str) -> None:
    """Raise unless this is one real number of floating type, on which a gradient can be taken.

    Raises:
        TypeError: no real number.
        ValueError: an array with a shape.
    """
    numeric = isinstance(loss, (int, float, complex, np.generic, np.ndarray, jax.Array)) and not isinstance(loss, bool)
    if not numeric:
        aux = " If the second entry is auxiliary, say has_aux=True." if isinstance(loss, (tuple, list)) else ""
        missing = " Is a `return` missing?" if loss is None else ""
        raise TypeError(f"{label} {described(loss)}; expected a scalar, an array of shape ().{aux}{missing}")
    if jnp.shape(loss) != ():
        raise ValueError(f"{label} {described(loss)}; expected a scalar, of shape (). Take a mean or a sum over it.")
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        cure = "its real part or modulus" if jnp.iscomplexobj(loss) else "an array of floating type, e.g. 1.0 * loss"
        raise TypeError(f"{label} {described(loss)}; expected a real number of floating type. Return {cure}.")


def without_aux(returned: Any, name: str, expected: str) -> Any:
    """The first entry of a pair.

    Raises:
        TypeError: no pair.
    """
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise TypeError(f"{name} returned {described(returned)}; with has_aux=True expected a pair, {expected}")
    return returned[0]


def _expected(count: int) -> str:
    return ", ".join(f"loss_{player}" for player in range(count)) + ("," if count == 1 else "")
