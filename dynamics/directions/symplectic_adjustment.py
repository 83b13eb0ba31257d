import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class SymplecticAdjustment(Direction):
    r"""Symplectic gradient adjustment: the gradient, turned by the antisymmetric part of the game's Hessian.

    With $\xi = -v$, $H = D\xi = S + A$ (symmetric and antisymmetric part): $d = -(\xi + \lambda A^\top\xi)$ with
    $A^\top\xi = \tfrac12(H^\top\xi - H\xi)$. With `align`, $\lambda$ is the weight times
    $\mathrm{sign}(\tfrac1d\langle\xi, H^\top\xi\rangle\langle A^\top\xi, H^\top\xi\rangle + \epsilon)$, d the number of
    parameters: the adjustment then pulls towards stable and away from unstable points.
    Source: Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018, algorithm 1 (JMLR 2019).

    Args:
        weight: size of lambda, >= 0.
        align: choose the sign of lambda by alignment. The direction then jumps where the sign does.
        epsilon: small number in the sign, >= 0; the paper has 1/10.

    Raises:
        ValueError: a number is negative or not finite.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in SymplecticAdjustment(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-8.0, -4.0]
    """

    weight: Array = eqx.field(converter=as_leaf, default=1.0)
    align: bool = eqx.field(static=True, default=True)
    epsilon: Array = eqx.field(converter=as_leaf, default=0.1)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_number(self, "epsilon", minimum=0)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        def gradients(point: Players) -> Players:
            return _trees.scaled(-1, game.field(point, key))

        xi, pullback = jax.vjp(gradients, players)
        (transposed,) = pullback(xi)  # H' xi
        _, forward = jax.jvp(gradients, (players,), (xi,))  # H xi
        adjustment = jax.tree.map(lambda a, b: (a - b) / 2, transposed, forward)
        weight = self.weight
        if self.align:
            alignment = _trees.dot(xi, transposed) * _trees.dot(adjustment, transposed) / _trees.size(players)
            weight = weight * jnp.sign(alignment + self.epsilon)
        return jax.tree.map(lambda a, b: -(a + weight * b), xi, adjustment)
