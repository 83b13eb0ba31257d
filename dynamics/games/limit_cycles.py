import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.game import Game, Losses, Players, as_players


class Forsaken(Game):
    r"""A weakly attracting critical point, an unstable cycle around it and an attracting cycle around both.

    $f = x(y - 0.45) + \varphi(x) - \varphi(y)$, $\varphi(z) = \frac{z^2}4 - \frac{z^4}2 + \frac{z^6}6$:
    player 0 minimises it, player 1 maximises it; two scalars. The one equilibrium, near (0.078, 0.412),
    has $f_{xx} > 0$ and $f_{yy} > 0$: it is stable for the flow and neither a local Nash nor a local
    minimax point.
    Source: Hsieh, Mertikopoulos, Cevher, The Limits of Min-Max Optimization Algorithms: Convergence to
    Spurious Non-Critical Sets, 2021; the formula is confirmed by code of the same group, the equilibrium
    was computed.

    >>> import jax.numpy as jnp
    >>> game = Forsaken()
    >>> [round(float(v), 6) for v in game.field((jnp.asarray(1.0), jnp.asarray(0.0)))]
    [0.95, 1.0]
    """

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = x * (y - 0.45) + _well(x) - _well(y)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.07802666873846009, 0.41193385136581984)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((1.0, 0.5))


class AlmostBilinear(Game):
    r"""The bilinear game with a small term that repels from the equilibrium and attracts to a cycle.

    $f = xy + \epsilon(\frac{y^2}2 - \frac{y^4}4)$: player 0 minimises f, player 1 maximises it; two
    scalars. Field: $(-y,\ x + \epsilon(y - y^3))$. For $\epsilon > 0$ the equilibrium (0, 0) is unstable
    and a cycle of radius close to $\sqrt{4/3}$ attracts everything else.
    Source: Hsieh, Mertikopoulos, Cevher, The Limits of Min-Max Optimization Algorithms, 2021. That paper
    was not read, so its formula may differ; the cycle was verified numerically.

    Args:
        epsilon: size of the perturbation.

    Raises:
        ValueError: epsilon is not finite.

    >>> import jax.numpy as jnp
    >>> game = AlmostBilinear(0.5)
    >>> [float(v) for v in game.field((jnp.asarray(1.0), jnp.asarray(2.0)))]
    [-2.0, -2.0]
    """

    epsilon: Array = eqx.field(converter=as_leaf, default=0.01)

    def __check_init__(self):
        check_number(self, "epsilon")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = x * y + self.epsilon * (y**2 / 2 - y**4 / 4)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((0.5, 0.5))


def _well(z: Array) -> Array:
    return z**2 / 4 - z**4 / 2 + z**6 / 6
