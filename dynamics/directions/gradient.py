from jaxtyping import PRNGKeyArray

from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class Gradient(Direction):
    r"""Every player goes straight downhill on its own loss: $v = -(\nabla_1 L_1, \dots, \nabla_n L_n)$.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in Gradient()(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-6.0, 2.0]
    """

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        return game.field(players, key)
