import jax
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class HamiltonianDescent(Direction):
    r"""Hamiltonian gradient descent: all players descend, together, on the squared norm of the field.

    $d = -\nabla\tfrac12\|v\|^2 = -(Dv)^\top v$. At an equilibrium with Jacobian A the Jacobian of d is $-A^\top A$:
    with invertible A every equilibrium attracts, whatever its kind, and in a bilinear game each pair of coordinates
    shrinks by $1 - h\sigma^2$. It is what `Consensus` adds to the gradient.
    Source: Abernethy, Lai, Wibisono, Last-Iterate Convergence Rates for Min-Max Optimization, 2019; as the consensus
    term: Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in HamiltonianDescent()(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-4.0, -12.0]
    """

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        field, pullback = jax.vjp(lambda point: game.field(point, key), players)
        (gradient,) = pullback(field)
        return _trees.scaled(-1, gradient)
