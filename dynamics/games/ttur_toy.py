import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.game import Game, Losses, Players, as_players


class TTURToy(Game):
    r"""The toy of the two time-scale update rule, $f = (1+x^2)(100-y^2)$, with noisy gradients.

    Player 0 minimises f, player 1 maximises it; two scalars. Field: $(-2x(100-y^2),\ -2y(1+x^2))$. The
    only equilibrium is (0, 0), where the Jacobian is diag(-200, -2): x wants a hundred times smaller steps
    than y; |y| < 10 is needed. With a key each player's gradient gets Gaussian noise, added through the
    losses as a random slope; `key=None` is the exact expectation.
    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium, 2017, with the authors' code (x is updated first, start (0.5, -0.4), noise 1).

    Args:
        noise: standard deviation of the noise on each gradient, >= 0.

    Raises:
        ValueError: the noise is negative or not finite.

    >>> game = TTURToy()
    >>> [float(v) for v in game.field((jnp.asarray(0.5), jnp.asarray(2.0)))]
    [-96.0, -5.0]
    """

    noise: Array = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check_number(self, "noise", minimum=0)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = (1 + x**2) * (100 - y**2)
        if key is None:
            return value, -value
        slopes = self.noise * jax.random.normal(key, (2,), jnp.result_type(x, y))
        return value + slopes[0] * x, -value + slopes[1] * y

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((0.5, -0.4))
