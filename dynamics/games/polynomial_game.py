import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics.game import Game, Losses, Players, as_players

# The field vanishes here to the last digits of float64. First the strict Nash equilibrium, then the two strict
# local minimax points that are not Nash, then the eight others.
_CRITICAL = np.array(
    [
        [10.572163992478098, -8.95173917676807],
        [-1.6216535911507022, -1.6216535911507022],
        [-11.029738508573407, -11.029738508573407],
        [0.0, 0.0],
        [-10 / 3, -10 / 3],
        [9.318058766390777, 9.318058766390777],
        [-8.95173917676807, 10.572163992478098],
        [-13.820094037878517, 1.3290523981301106],
        [1.3290523981301106, -13.820094037878517],
        [2.1578773928584454, 13.643388740325724],
        [13.643388740325724, 2.1578773928584454],
    ]
)


class PolynomialGame(Game):
    r"""A planar zero-sum game with eleven critical points.

    $f = -e^{-(x^2+y^2)/100}\left((0.3x^2+y)^2+(0.3y^2+x)^2\right)$;
    player 0 minimises f, player 1 maximises it; two scalars. Of the eleven critical points one is a strict
    local Nash equilibrium, stable for every ratio of rates; two more, on the diagonal, are strict local
    minimax points and stable iff player 1 is faster than player 0 (a pair of eigenvalues sits on the axis
    at equal rates). `equilibria()` lists these three first. Far away the field is numerically zero.
    Source: Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale
    Separation, 2021, with the authors' code; the points were found by Newton's method from a grid over
    $[-30, 30]^2$.

    >>> game = PolynomialGame()
    >>> [round(float(v), 3) for v in game.field((jnp.asarray(1.0), jnp.asarray(0.0)))]
    [2.315, -0.594]
    """

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = -jnp.exp(-(x**2 + y**2) / 100) * ((0.3 * x**2 + y) ** 2 + (0.3 * y**2 + x) ** 2)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return tuple(as_players(tuple(point)) for point in _CRITICAL.tolist())

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((-9.0, -9.0))
