import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_kind, check_number, check_whole
from dynamics.game import Game, Players, variables_of, with_variables
from dynamics.optimisers import sgd
from dynamics.updates.alternating import Alternating
from dynamics.updates.base import State, ThreadedUpdate, Update, threaded_step


class Lookahead(ThreadedUpdate):
    r"""Lookahead: some steps of another update, then all players go back part of the way, together.

    One step is one whole cycle: k steps of the inner update from z to $z_k$, then $z^+ = z + a\,(z_k - z)$. The memory
    of the inner update is kept as it is after the k steps, as in the authors' code, and so are a game's variables: only
    the players go back. With M the Jacobian of the inner update on players and memory, that of a cycle is
    $(I-S) + S M^k$, where S is a on the players and 1 on the memory. Without memory an eigenvalue $\mu$ of M becomes
    $1 - a + a\mu^k$; with memory there is no such rule for single eigenvalues. Wraps any update, itself too (nested
    lookahead).

    With a key every inner step draws its own minibatch.
    Source: Zhang, Lucas, Hinton, Ba, Lookahead Optimizer, 2019; for games Chavdarova, Pagliardini, Stich, Fleuret,
    Jaggi, Taming GANs with Lookahead-Minmax, 2021, algorithm 1.

    Args:
        inner_update: the update that is wrapped.
        steps: k, a whole number >= 1; fixed in the compiled program.
        weight: a, >= 0 and <= 1; with 1 nothing goes back.

    Raises:
        ValueError: the number of steps is no positive whole number, or the weight is out of bounds.
        TypeError: the inner update is none.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = Lookahead(Simultaneous(optax.sgd(1.0), optax.sgd(1.0)), steps=2, weight=0.5)
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]  # two steps lead to (0, 2)
    [0.5, 1.0]
    """

    inner_update: Update
    steps: int = eqx.field(static=True, default=5)
    weight: Array = eqx.field(converter=as_leaf, default=0.5)

    def __check_init__(self):
        check_kind(self, "inner_update", Update, "Simultaneous(optax.sgd(0.1), optax.sgd(0.1))")
        check_whole(self, "steps")
        check_number(self, "weight", minimum=0, maximum=1)

    def init(self, game: Game, players: Players) -> State:
        return self.inner_update.init(game, players)

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.threaded_step(game, state, key)[0]

    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        def body(carry: tuple[State, PyTree], index: Array) -> tuple[tuple[State, PyTree], None]:
            state, variables = carry
            own_key = None if key is None else jax.random.fold_in(key, index)
            state, after = threaded_step(self.inner_update, with_variables(game, variables), state, own_key)
            return (state, variables_of(after)), None

        (fast, variables), _ = jax.lax.scan(body, (state, variables_of(game)), jnp.arange(self.steps))
        players = jax.tree.map(lambda slow, new: slow + self.weight * (new - slow), state.players, fast.players)
        return State(players, fast.memory), with_variables(game, variables)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Alternating(*(sgd(0.1 / (1 + player)) for player in range(players))), steps=3, weight=0.6)
