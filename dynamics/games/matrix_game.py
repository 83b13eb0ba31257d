from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import Numbers, as_leaf, check_finite, check_number, is_concrete
from dynamics._names import nearest
from dynamics.game import Game, Losses, Players, as_players
from dynamics.games._nash import NashEquilibria, nash_equilibria_of

Strategies = Literal["mixed", "logits"]


class MatrixGame(Game):
    r"""Two players mix finitely many actions and are paid by matrices, $L_0 = -x^\top A y$, $L_1 = -x^\top B y$.

    Payoffs are *maximised*: player 0 has the rows of A and B as actions, player 1 the columns. With
    `strategies="mixed"` the players are the probability vectors x and y themselves. Nothing here holds them on the
    simplex, and the field there is $(Ay, B^\top x)$: a method must project. With `"logits"` a player's numbers are
    turned into probabilities by softmax; equilibria then come in manifolds, because a constant added to all logits of
    a player changes nothing, and pure strategies lie at infinity.

    `equilibria()` lists points at which the field vanishes: those given, or else the equilibrium in which all actions
    are played, where there is just one such and its matrices' numbers are known (with mixed strategies: only if the
    field vanishes there). All Nash equilibria, pure, mixed and partly mixed: `nash_equilibria()`.

    Args:
        first: A, shape (m, n), the payoffs of player 0.
        second: B, shape (m, n), the payoffs of player 1; `None`: zero-sum, -A.
        strategies: "mixed" or "logits".
        equilibria: known points at which the field vanishes, for `equilibria()`.

    Raises:
        ValueError: a matrix has a wrong shape or an entry that is not finite, or the strategies are unknown.

    >>> game = MatrixGame([[3.0, 0.0], [5.0, 1.0]], [[3.0, 5.0], [0.0, 1.0]], strategies="mixed")
    >>> players = jnp.asarray([0.5, 0.5]), jnp.asarray([0.0, 1.0])
    >>> [float(loss) for loss in game.losses(players)], float(game.duality_gap(players))
    ([-0.5, -3.0], 0.5)
    """

    first: Array
    second: Array
    strategies: Strategies = eqx.field(static=True)
    known: tuple[Players, ...]

    def __init__(
        self,
        first: Numbers,
        second: Numbers | None = None,
        strategies: Strategies = "mixed",
        equilibria: Sequence[Players] = (),
    ):
        self.first = as_leaf(first)
        self.second = -self.first if second is None else as_leaf(second)
        self.strategies = strategies
        self.known = tuple(as_players(point) for point in equilibria)

    def __check_init__(self):
        _check_strategies(self)
        for name in ("first", "second"):
            shape = jnp.shape(getattr(self, name))
            if len(shape) != 2 or 0 in shape or shape != self.first.shape:
                expected = "(m, n)" if name == "first" else f"{self.first.shape}, that of `first`"
                raise ValueError(
                    f"MatrixGame.{name} has shape {shape}; expected {expected}: one row per action of player 0, one "
                    "column per action of player 1"
                )
            check_finite(getattr(self, name), f"MatrixGame.{name}")

    def mixture(self, players: Players) -> Players:
        """The players' probability vectors; with mixed strategies, the players themselves.

        Raises:
            ValueError: a player does not have one number per action.
        """
        given = tuple(jnp.shape(player) for player in players)
        expected = tuple((count,) for count in self.first.shape)
        if given != expected:
            raise ValueError(f"the players have shapes {given}; this game has players of shapes {expected}")
        if self.strategies == "mixed":
            return tuple(players)
        return tuple(jax.nn.softmax(player) for player in players)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = self.mixture(players)
        return -(x @ (self.first.astype(x.dtype) @ y)), -(x @ (self.second.astype(x.dtype) @ y))

    def duality_gap(self, players: Players) -> Array:
        r"""What the players would gain by best responses, added up; in zero-sum games the duality gap.

        $\max_i (Ay)_i - x^\top Ay + \max_j (B^\top x)_j - x^\top By$, zero exactly at the Nash equilibria.
        """
        x, y = self.mixture(players)
        first, second = self.first.astype(x.dtype) @ y, x @ self.second.astype(x.dtype)
        return jnp.max(first) - x @ first + jnp.max(second) - second @ y

    def nash_equilibria(self) -> NashEquilibria:
        """All Nash equilibria as pairs of probability vectors (whatever the strategies): pure, mixed, partly mixed.

        In a degenerate game equilibria come in connected sets; then the corners of these are returned.

        Raises:
            ValueError: more than about 10 x 10 actions, or matrices whose numbers are not known (under `jax.jit`).

        Source: Mangasarian, Equilibrium Points of Bimatrix Games, 1964.

        >>> chicken = MatrixGame([[0.0, 7.0], [2.0, 6.0]], [[0.0, 2.0], [7.0, 6.0]])
        >>> [(x.tolist(), y.tolist()) for x, y in chicken.nash_equilibria()][:2]
        [([1.0, 0.0], [0.0, 1.0]), ([0.0, 1.0], [1.0, 0.0])]
        >>> [round(float(x[0]), 6) for x, _ in chicken.nash_equilibria()][2:]
        [0.333333]
        """
        if not is_concrete((self.first, self.second)):
            raise ValueError("the matrices are not known while a program is traced; enumerate outside jit and vmap")
        return nash_equilibria_of(np.asarray(self.first), np.asarray(self.second))

    def equilibria(self) -> tuple[Players, ...]:
        if self.known or not is_concrete((self.first, self.second)):
            return self.known
        point = _fully_mixed(np.asarray(self.first, float), np.asarray(self.second, float))
        if point is None:
            return ()
        players = tuple(jnp.asarray(p, self.first.dtype) for p in point)
        if self.strategies == "logits":
            return (tuple(jnp.log(p) - jnp.mean(jnp.log(p)) for p in players),)
        rounding = 64 * float(np.finfo(self.first.dtype).eps)
        sizes = [float(np.max(np.abs(np.asarray(payoffs)), initial=0.0)) for payoffs in (self.first, self.second)]
        pushes = (np.asarray(self.first, float) @ point[1], point[0] @ np.asarray(self.second, float))
        rests = all(np.max(np.abs(p)) <= rounding * size for p, size in zip(pushes, sizes, strict=True))
        return (players,) if rests else ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        # Both are indifferent between all actions where player 0 plays (1/3, 2/3), player 1 (1/4, 1/2, 1/4).
        game = cls(
            [[1.0, -1.0, 3.0], [2.0, 0.0, 0.0]],
            [[2.0, 0.0, 4.0], [0.0, 1.0, -1.0]],
            "logits",
            [(jnp.log(jnp.asarray([1.0, 2.0])), jnp.log(jnp.asarray([1.0, 2.0, 1.0])))],
        )
        return game, (jnp.asarray([0.5, -0.5]), jnp.asarray([1.0, 0.0, -0.25]))


class _NamedGame(Game):
    """A matrix game with given matrices."""

    @abstractmethod
    def matrix_game(self) -> MatrixGame:
        """The same game with its matrices written out."""

    def mixture(self, players: Players) -> Players:
        """The players' probability vectors, see `MatrixGame.mixture`."""
        return self.matrix_game().mixture(players)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        return self.matrix_game().losses(players, key)

    def duality_gap(self, players: Players) -> Array:
        """What the players would gain by best responses, see `MatrixGame.duality_gap`."""
        return self.matrix_game().duality_gap(players)

    def nash_equilibria(self) -> NashEquilibria:
        """All Nash equilibria, see `MatrixGame.nash_equilibria`."""
        return self.matrix_game().nash_equilibria()

    def equilibria(self) -> tuple[Players, ...]:
        return self.matrix_game().equilibria()


class MatchingPennies(_NamedGame):
    r"""Matching pennies: player 0 wins 1 when both choose the same side, and loses 1 otherwise.

    A `MatrixGame` with $A = \begin{pmatrix}1&-1\\-1&1\end{pmatrix}$, $B = -A$; the equilibrium is even chances.

    Args:
        strategies: "mixed" or "logits", see `MatrixGame`.

    Raises:
        ValueError: the strategies are unknown.

    >>> game = MatchingPennies("mixed")
    >>> [v.tolist() for v in game.field((jnp.asarray([1.0, 0.0]), jnp.asarray([0.5, 0.5])))]
    [[0.0, 0.0], [-1.0, 1.0]]
    """

    strategies: Strategies = eqx.field(static=True, default="logits")

    def __check_init__(self):
        _check_strategies(self)

    def matrix_game(self) -> MatrixGame:
        """The same game with its matrices written out."""
        point = (jnp.full(2, 0.5),) * 2 if self.strategies == "mixed" else (jnp.zeros(2),) * 2
        return MatrixGame([[1.0, -1.0], [-1.0, 1.0]], None, self.strategies, [point])

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), (jnp.asarray([1.0, -0.5]), jnp.asarray([0.0, 0.25]))


class RockPaperScissors(_NamedGame):
    r"""Rock, paper, scissors; rock's win over scissors is worth 1 + bias, every other win 1.

    A zero-sum `MatrixGame` with $A = \begin{pmatrix}0&-1&1+b\\1&0&-1\\-1-b&1&0\end{pmatrix}$ for the bias b, actions in
    the order of the name. At the equilibrium both play $(1, 1+b, 1)/(3+b)$ and win nothing on average.

    Args:
        bias: b, > -1.
        strategies: "mixed" or "logits", see `MatrixGame`.

    Raises:
        ValueError: the bias is not finite or at most -1, or the strategies are unknown.

    >>> RockPaperScissors(1.0, "mixed").equilibria()[0][0].tolist()
    [0.25, 0.5, 0.25]
    """

    bias: Array = eqx.field(converter=as_leaf, default=0.0)
    strategies: Strategies = eqx.field(static=True, default="logits")

    def __check_init__(self):
        check_number(self, "bias", above=-1)
        _check_strategies(self)

    def matrix_game(self) -> MatrixGame:
        """The same game with its matrices written out."""
        win = 1 + self.bias
        first = jnp.asarray([[0.0, -1.0, win], [1.0, 0.0, -1.0], [-win, 1.0, 0.0]])
        chances = jnp.asarray([1.0, win, 1.0]) / (2 + win)
        point = chances if self.strategies == "mixed" else jnp.log(chances) - jnp.mean(jnp.log(chances))
        return MatrixGame(first, None, self.strategies, [(point, point)])

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(0.5), (jnp.asarray([1.0, -0.5, 0.0]), jnp.asarray([0.0, 0.25, 0.75]))


class Shapley(_NamedGame):
    r"""Shapley's game, in which fictitious play goes round for ever: player 0 wants to match, player 1 to be one ahead.

    A general-sum `MatrixGame` of three actions each, $A = I$ and B with ones at (0, 1), (1, 2), (2, 0). The only Nash
    equilibrium is uniform. With mixed strategies none is listed: there the field is (1/3, 1/3, 1/3) for each player,
    which vanishes only on the simplex.
    Source: Shapley, Some Topics in Two-Person Games, 1964.

    Args:
        strategies: "mixed" or "logits", see `MatrixGame`.

    Raises:
        ValueError: the strategies are unknown.

    >>> game = Shapley("mixed")
    >>> float(game.duality_gap((jnp.asarray([1.0, 0.0, 0.0]), jnp.asarray([0.0, 1.0, 0.0]))))
    1.0
    """

    strategies: Strategies = eqx.field(static=True, default="logits")

    def __check_init__(self):
        _check_strategies(self)

    def matrix_game(self) -> MatrixGame:
        """The same game with its matrices written out."""
        known = [] if self.strategies == "mixed" else [(jnp.zeros(3), jnp.zeros(3))]
        return MatrixGame(jnp.eye(3), jnp.roll(jnp.eye(3), 1, axis=1), self.strategies, known)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), (jnp.asarray([1.0, -0.5, 0.0]), jnp.asarray([0.0, 0.25, 0.75]))


def _fully_mixed(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The equilibrium in which both players play all their actions, where there is just one."""
    size = len(first)
    if first.shape != (size, size):  # none, or infinitely many
        return None
    mixtures = []
    for payoffs in (second.T, first):  # each makes the other indifferent
        scale = max(float(np.max(np.abs(payoffs))), np.finfo(float).tiny)
        system = np.block([[payoffs / scale, -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
        singular = np.linalg.svd(system, compute_uv=False)
        if not singular[-1] > 1e-9 * singular[0]:
            return None
        chances = np.linalg.solve(system, np.eye(size + 1)[-1])[:-1]
        if not np.min(chances) > 1e-9:
            return None
        mixtures.append(chances / chances.sum())
    return mixtures[0], mixtures[1]


def _check_strategies(game: Any) -> None:
    known = ("mixed", "logits")
    if game.strategies not in known:
        name = str(game.strategies)
        raise ValueError(f"{type(game).__name__}.strategies is {game.strategies!r}{nearest(name, known)}")
