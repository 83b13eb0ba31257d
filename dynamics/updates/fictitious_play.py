from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._trees import replaced
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update, check_order


class FictitiousPlay(Update):
    r"""Fictitious play: every player answers the others' past plays with its best pure strategy.

    For games whose players are probability vectors and whose losses are linear in the player's own vector. The players
    are the empirical mixtures: $x_i \leftarrow x_i + (e_b - x_i)/(t + 1)$ after t plays, with b the largest component
    of the field of player i, the lowest index on ties. The start counts as the first play, so that after n steps a
    mixture is one of n + 1 plays. A player of any other shape counts as one vector, its parameters in order.

    In two-player zero-sum games the mixtures approach the equilibria (Robinson 1951); in Shapley's game they cycle for
    ever. The map jumps where two strategies are equally good: a linearisation at a mixed equilibrium says that it is
    not differentiable.
    Source: Brown, Iterative Solution of Games by Fictitious Play, 1951; one by one: Berger, Brown's original fictitious
    play, 2007.

    Args:
        order: `None` for simultaneous plays, or the order of the players; later ones then see the earlier ones' play.

    Raises:
        ValueError: the order is no permutation of the players.

    >>> from dynamics.games import Bilinear
    >>> game = Bilinear([[1.0, -1.0], [-1.0, 1.0]])  # player 0 wants to differ, player 1 to agree
    >>> update = FictitiousPlay()
    >>> state = update.init(game, (jnp.asarray([1.0, 0.0]), jnp.asarray([1.0, 0.0])))
    >>> [x.tolist() for x in update.step(game, state).players]
    [[0.5, 0.5], [1.0, 0.0]]
    """

    order: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, order: Sequence[int] | None = None):
        self.order = None if order is None else tuple(order)

    def __check_init__(self):
        if self.order is not None:
            check_order(self.order, (1,) * len(self.order), len(self.order))

    def init(self, game: Game, players: Players) -> State:
        if self.order is not None:
            check_order(self.order, (1,) * len(players), len(players))
        return State(players, jnp.asarray(1, jnp.int32))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        players, plays = state.players, state.memory
        if self.order is None:
            fields = game.field(players, key)
            players = tuple(_with_play(mixture, field, plays) for mixture, field in zip(players, fields, strict=True))
        else:
            for index, player in enumerate(self.order):
                own_key = None if key is None else jax.random.fold_in(key, index)
                field = game.field(players, own_key)[player]
                players = replaced(players, player, _with_play(players[player], field, plays))
        return State(players, plays + 1)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls()


def _with_play(mixture: PyTree, field: PyTree, plays: Array) -> PyTree:
    """The mixture with the best answer to the field as one more play."""
    flat, unravel = ravel_pytree(mixture)
    count = plays.astype(flat.dtype)
    # Sums that differ from whole numbers by rounding only are whole: otherwise rounding would break ties.
    total, near = count * flat, jnp.round(count * flat)
    tolerance = float(jnp.finfo(flat.dtype).eps) ** 0.5
    return unravel((_rounded(total, near, tolerance) + _best(ravel_pytree(field)[0])) / (count + 1))


@jax.custom_jvp
def _rounded(total: Array, near: Array, tolerance: float) -> Array:
    """`near` where the total differs from it by less than the tolerance, with the derivative of the total."""
    return jnp.where(jnp.abs(total - near) < tolerance, near, total)


@_rounded.defjvp
def _rounded_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    return _rounded(*primals), tangents[0]


@jax.custom_jvp
def _best(values: Array) -> Array:
    """The unit vector of the largest value, the first one on ties; its derivative is 0, and NaN at a tie."""
    return jax.nn.one_hot(jnp.argmax(values), values.size, dtype=values.dtype)


@_best.defjvp
def _best_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (values,) = primals
    width = 64 * float(jnp.finfo(values.dtype).eps) * (1 + jnp.max(jnp.abs(values)))
    tied = jnp.sum(values >= jnp.max(values) - width) > 1
    return _best(values), jnp.where(tied, jnp.nan, jnp.zeros_like(values))
