import jax
from jaxtyping import PRNGKeyArray

from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class CrossingTheCurl(Direction):
    r"""Crossing the curl: across the rotation of the field alone, without the gradient.

    With $F = -v$ and $J = DF$: $d = -\tfrac12(J^\top - J)F$. At an equilibrium with Jacobian A of v the Jacobian of d
    is $\tfrac12(A - A^\top)A$; in a bilinear game $d = -\sigma^2 z$, so that each pair of coordinates shrinks by
    $1 - h\sigma^2$. In a game where nothing rotates it is 0 everywhere. The gradient plus so much of it is
    `SymplecticAdjustment(weight, align=False)`.
    Source: Gemp and Mahadevan, Global Convergence to the Equilibrium of GANs using Variational Inequalities, 2018.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in CrossingTheCurl()(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-4.0, -12.0]
    """

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        def gradients(point: Players) -> Players:
            return jax.tree.map(lambda leaf: -leaf, game.field(point, key))

        value, pullback = jax.vjp(gradients, players)
        (transposed,) = pullback(value)
        _, forward = jax.jvp(gradients, (players,), (value,))
        return jax.tree.map(lambda a, b: (b - a) / 2, transposed, forward)
