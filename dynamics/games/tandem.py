from jaxtyping import PRNGKeyArray

from dynamics.game import Game, Losses, Players, as_players


class Tandem(Game):
    r"""Two riders who both pay for speed, each enjoying its own push: $L_0 = (x+y)^2 - 2x$, $L_1 = (x+y)^2 - 2y$.

    Two scalars. Field: $2(1 - x - y)$ for both, so that every point of the line $x + y = 1$ is an equilibrium, with
    losses that add up to 0; three of them are listed. Players that expect the other to give way push on: LOLA with
    look-ahead $\alpha$ rests on $x + y = (1-2\alpha)/(1-4\alpha)$, where the losses add up to more.
    Source: Letcher, Foerster, Balduzzi, Rocktaschel, Whiteson, Stable Opponent Shaping in Differentiable Games, 2019,
    with the authors' code.

    >>> import jax.numpy as jnp
    >>> [float(v) for v in Tandem().field((jnp.asarray(2.0), jnp.asarray(0.5)))]
    [-3.0, -3.0]
    """

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        return (x + y) ** 2 - 2 * x, (x + y) ** 2 - 2 * y

    def equilibria(self) -> tuple[Players, ...]:
        return tuple(as_players(point) for point in ((0.5, 0.5), (0.0, 1.0), (1.0, 0.0)))

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((2.0, 0.5))
