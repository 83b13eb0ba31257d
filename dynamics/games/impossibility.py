from jaxtyping import Array, PRNGKeyArray

from dynamics.game import Game, Losses, Players, as_players


class Market(Game):
    r"""A game whose losses grow in every direction, and whose only critical point is a maximum for both players.

    $L_0 = \frac{x^6}6 - \frac{x^2}2 + xy + g$ and $L_1 = \frac{y^6}6 - \frac{y^2}2 - xy - g$ with
    $g = \frac14\left(\frac{y^4}{1+x^2} - \frac{x^4}{1+y^2}\right)$; two scalars. A quarter turn of the plane
    exchanges the players. Each loss grows without bound in every direction, so that training stays bounded, yet the one
    critical point, (0, 0), is a strict local maximum of each player's loss in its own variable, with eigenvalues
    $1 \pm i$ of the flow: a method that avoids such points cannot converge.
    Source: Letcher, On the Impossibility of Global Convergence in Multi-Loss Optimization, 2021, with the author's
    code.

    >>> import jax.numpy as jnp
    >>> [float(v) for v in Market().field((jnp.asarray(1.0), jnp.asarray(0.0)))]
    [1.0, 1.0]
    """

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        shared = x * y + (y**4 / (1 + x**2) - x**4 / (1 + y**2)) / 4
        return _alone(x) + shared, _alone(y) - shared

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((1.0, 0.5))


class ZeroSumQuartic(Game):
    r"""A zero-sum game of two quartics whose only critical point is a maximum for both players.

    $f = xy - \frac{x^2}2 + \frac{y^2}2 + \frac{x^4}4 - \frac{y^4}4$: player 0 minimises f, player 1 maximises it; two
    scalars. Field: $(x - y - x^3,\ x + y - y^3)$. The one critical point, (0, 0), is a strict local maximum of each
    player's loss in its own variable, with eigenvalues $1 \pm i$ of the flow; everything else is attracted to a cycle
    around it, under all usual methods with small steps.
    Source: Letcher, On the Impossibility of Global Convergence in Multi-Loss Optimization, 2021, with the author's
    code.

    >>> import jax.numpy as jnp
    >>> [float(v) for v in ZeroSumQuartic().field((jnp.asarray(1.0), jnp.asarray(2.0)))]
    [-2.0, -5.0]
    """

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = x * y + (y**2 - x**2) / 2 + (x**4 - y**4) / 4
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((1.0, 0.5))


def _alone(z: Array) -> Array:
    return z**6 / 6 - z**2 / 2
