import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.game import Game, Losses, Players


class TimescaleQuadratic(Game):
    r"""A quadratic zero-sum game that is stable only when player 1 is more than twice as fast as player 0.

    $f = \frac v2\left(-x_1^2 + \tfrac12 x_2^2 - 2 x_1 y_1 + x_2 y_2 - \tfrac12 y_1^2 - y_2^2\right)$;
    player 0 minimises it, player 1 maximises it. Players: x and y, shape (2,). The equilibrium 0 is a
    strict local minimax point and no local Nash equilibrium. With player 1 faster by the factor tau, the
    eigenvalues of the field's Jacobian are the negatives of $\frac v4(\tau - 2 \pm\sqrt{\tau^2-12\tau+4})$
    and of $\frac v4(2\tau + 1\pm\sqrt{4\tau^2-8\tau+1})$: stable iff tau > 2, where a pair crosses the
    axis at $\pm i v$.
    Source: Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale
    Separation, 2021, with the authors' code (v = 4).

    Args:
        scale: v, > 0.

    Raises:
        ValueError: the scale is not positive.

    >>> game = TimescaleQuadratic()
    >>> [v.tolist() for v in game.field((jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 1.0])))]
    [[4.0, -2.0], [-4.0, -4.0]]
    """

    scale: Array = eqx.field(converter=as_leaf, default=4.0)

    def __check_init__(self):
        check_number(self, "scale", above=0)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        (x1, x2), (y1, y2) = players
        value = self.scale / 2 * (-(x1**2) + x2**2 / 2 - 2 * x1 * y1 + x2 * y2 - y1**2 / 2 - y2**2)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return ((jnp.zeros(2), jnp.zeros(2)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), (jnp.asarray([5.0, 4.0]), jnp.asarray([3.0, 2.0]))
