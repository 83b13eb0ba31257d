import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class JacobianRegularisation(Direction):
    r"""Jacobian regularisation (JARE): every player also wants the others' gradients to be small.

    $d_i = -\nabla_i\left(L_i + \tfrac\gamma2\sum_{j\ne i}\|\nabla_j L_j\|^2\right)
    = v_i - \gamma\sum_{j\ne i}(D_i v_j)^\top v_j$: each loss gets the squared norm of the other players' gradients, and
    nobody that of the own one, as `Consensus` has it. The factor 1/2 is part of the definition. In a two-player
    zero-sum game it is `SymplecticAdjustment(weight, align=False)`.
    Source: Nie and Patel, Towards a Better Understanding and Regularization of GAN Training Dynamics, 2019, with two
    players; the sum over the others is the extension to more.

    Args:
        weight: gamma, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in JacobianRegularisation(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-8.0, -4.0]
    """

    weight: Array = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        field, pullback = jax.vjp(lambda point: game.field(point, key), players)

        def pull(player: int) -> PyTree:
            (gradient,) = pullback(_blocks.without(field, player))
            return gradient[player]

        penalty = tuple(pull(player) for player in range(len(players)))
        return _trees.add_scaled(field, -self.weight, penalty)
