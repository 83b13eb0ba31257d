import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class Consensus(Direction):
    r"""Consensus optimisation: downhill on the own loss and, all together, on the squared norm of the field.

    $d = v - \gamma\,\nabla\tfrac12\|v\|^2 = v - \gamma\, (Dv)^\top v$. At an equilibrium with Jacobian A the Jacobian
    of the direction is $A - \gamma A^\top A$. The factor 1/2 is part of the definition.
    Source: Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, equation 11.

    Args:
        weight: gamma, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in Consensus(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-8.0, -4.0]
    """

    weight: Array = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        field, pullback = jax.vjp(lambda point: game.field(point, key), players)
        (gradient,) = pullback(field)
        return _trees.add_scaled(field, -self.weight, gradient)
