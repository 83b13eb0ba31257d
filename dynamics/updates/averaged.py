from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_kind, check_number
from dynamics.game import Game, Players
from dynamics.optimisers import sgd
from dynamics.updates.base import State, ThreadedUpdate, Update, threaded_step
from dynamics.updates.simultaneous import Simultaneous


class Averaged(ThreadedUpdate):
    r"""The average of the iterates of another update; the players that are reported and judged are the average.

    Without a decay the uniform average of all iterates, the start included: $\bar z_t = \frac1{t+1}\sum_{s=0}^t z_s$.
    With a decay $\beta$ the exponential moving average, $\bar z_{t+1} = \beta\,\bar z_t + (1-\beta)\, z_{t+1}$, which
    starts at the start. The average does not act back on the iterates: their state, and for the uniform average the
    number of iterates, are the memory. The eigenvalues are those of the inner update and the decay; those of the
    uniform average, whose weights fade, are next to 1: it approaches its limit like 1/t, not geometrically.
    Source: Yazici, Foo, Winkler, Yap, Piliouras, Chandrasekhar, The Unusual Effectiveness of Averaging in GAN Training,
    2019.

    Args:
        inner_update: the update whose iterates are averaged.
        decay: `None` for the uniform average, or beta, >= 0 and < 1.

    Raises:
        ValueError: the decay is out of bounds.
        TypeError: the inner update is none.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = Averaged(Simultaneous(optax.sgd(1.0), optax.sgd(1.0)))
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]  # the mean of (1, 0) and (1, 1)
    [1.0, 0.5]
    """

    inner_update: Update
    decay: Array | None

    def __init__(self, inner_update: Update, decay: Any = None):
        self.inner_update = inner_update
        self.decay = None if decay is None else as_leaf(decay)

    def __check_init__(self):
        check_kind(self, "inner_update", Update, "Simultaneous(optax.sgd(0.1), optax.sgd(0.1))")
        if self.decay is not None:
            check_number(self, "decay", minimum=0, below=1)

    def init(self, game: Game, players: Players) -> State:
        count = jnp.asarray(1, jnp.int32) if self.decay is None else None
        return State(players, _Memory(self.inner_update.init(game, players), count))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.threaded_step(game, state, key)[0]

    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        inner, game = threaded_step(self.inner_update, game, state.memory.inner, key)
        count = state.memory.count
        if self.decay is None:
            count = count + 1

        def average(mean: Array, new: Array) -> Array:
            weight = 1 / count.astype(mean.dtype) if self.decay is None else 1 - self.decay
            return mean + weight * (new - mean)

        return State(jax.tree.map(average, state.players, inner.players), _Memory(inner, count)), game

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Simultaneous(*(sgd(0.1 / (1 + player)) for player in range(players))))


class _Memory(eqx.Module):
    """The state of the inner update, and how many iterates have been averaged."""

    inner: State
    count: Array | None
