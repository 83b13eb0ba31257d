import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.game import Game, Losses, Players, as_players


class PlanarQuadratic(Game):
    r"""The quadratic zero-sum game of two scalars, $f = \frac a2 x^2 + b x y - \frac c2 y^2$.

    Player 0 minimises f, player 1 maximises it. Field: $(-ax - by,\ bx - cy)$. The equilibrium (0, 0) is a
    strict local Nash equilibrium iff a > 0 and c > 0, a strict local minimax point iff c > 0 and $a +
    b^2/c > 0$, stable for the flow iff a + c > 0 and $ac + b^2 > 0$; with player 1 faster by tau, iff $a +
    \tau c > 0$ and $ac + b^2 > 0$. Well-known instances have constructors: `attracting_without_nash`,
    `minimax_without_nash`, `without_minimax`.

    Args:
        a: curvature of the minimiser's own term.
        b: coupling.
        c: curvature of the maximiser's own term, positive when f is concave in y.

    Raises:
        ValueError: a number is not finite.

    >>> game = PlanarQuadratic(0.5, 2.0, 0.3)
    >>> [round(float(v), 3) for v in game.field((jnp.asarray(1.0), jnp.asarray(1.0)))]
    [-2.5, 1.7]
    """

    a: Array = eqx.field(converter=as_leaf, default=0.5)
    b: Array = eqx.field(converter=as_leaf, default=2.0)
    c: Array = eqx.field(converter=as_leaf, default=0.3)

    def __check_init__(self):
        for name in ("a", "b", "c"):
            check_number(self, name)

    @classmethod
    def attracting_without_nash(cls) -> "PlanarQuadratic":
        """`f = -x^2/8 - y^2/2 + 0.6 x y`: descent-ascent is attracted by 0, no local Nash equilibrium.

        It is a local minimax point, with Schur complement 0.11. Source: Daskalakis and Panageas, The Limit
        Points of (Optimistic) Gradient Descent in Min-Max Optimization, 2018.
        """
        return cls(-0.25, 0.6, 1.0)

    @classmethod
    def minimax_without_nash(cls) -> "PlanarQuadratic":
        """`f = -x^2 + 5 x y - y^2`: 0 is a local minimax point and no local Nash equilibrium.

        Stable iff player 1 is faster than player 0. Source: Jin, Netrapalli, Jordan, What is Local
        Optimality in Nonconvex-Nonconcave Minimax Optimization?, 2020.
        """
        return cls(-2.0, 5.0, 2.0)

    @classmethod
    def without_minimax(cls) -> "PlanarQuadratic":
        r"""`f = y^2 - 2 x y`: no local minimax point on $[-1, 1]^2$, where the maximum over y is $1 + 2|x|$.

        Source: Jin, Netrapalli, Jordan, What is Local Optimality in Nonconvex-Nonconcave Minimax
        Optimization?, 2020.
        """
        return cls(0.0, -2.0, -2.0)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = self.a / 2 * x**2 + self.b * x * y - self.c / 2 * y**2
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((1.0, -0.5))


class SineMinimax(Game):
    r"""A game whose global minimax points are not stationary: $f = k x y - \cos y$ with k = 0.2.

    Player 0 minimises f, player 1 maximises it; two scalars, meant on $[-1, 1]\times[-2\pi, 2\pi]$ (which
    nothing here enforces). There $(0, \pm\pi)$ are global minimax points, of value 1, though $\partial_x f
    = \pm k\pi$. The only equilibrium is (0, 0), where f is convex in y: no local minimax point, and the
    flow leaves it.
    Source: Jin, Netrapalli, Jordan, What is Local Optimality in Nonconvex-Nonconcave Minimax
    Optimization?, 2020.

    Args:
        coupling: k.

    Raises:
        ValueError: the coupling is not finite.

    >>> game = SineMinimax()
    >>> [round(float(v), 3) for v in game.field((jnp.asarray(0.5), jnp.asarray(jnp.pi)))]
    [-0.628, 0.1]
    """

    coupling: Array = eqx.field(converter=as_leaf, default=0.2)

    def __check_init__(self):
        check_number(self, "coupling")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = self.coupling * x * y - jnp.cos(y)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((0.5, 1.0))


class SpuriousAttractor(Game):
    r"""A game in which gradient descent-ascent is attracted by a point that is no Nash equilibrium.

    $f = 2x^2 + y^2 + 4xy + \frac43 y^3 - \frac14 y^4$: player 0 minimises it, player 1 maximises it; two
    scalars. Equilibria have x = -y: the local Nash equilibrium $y = 2+\sqrt2$ (listed first), the spurious
    attractor y = 0, where f is convex in y and the eigenvalues of the flow are $-1\pm i\sqrt7$, and the
    unstable point $y = 2-\sqrt2$.
    Source: Adolphs, Daneshmand, Lucchi, Hofmann, Local Saddle Point Optimization: A Curvature Exploitation
    Approach, 2019, with the authors' code.

    >>> game = SpuriousAttractor()
    >>> [float(v) for v in game.field((jnp.asarray(1.0), jnp.asarray(1.0)))]
    [-8.0, 9.0]
    """

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = 2 * x**2 + y**2 + 4 * x * y + 4 / 3 * y**3 - y**4 / 4
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        return tuple(as_players((-y, y)) for y in (2 + 2**0.5, 0.0, 2 - 2**0.5))

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((-3.0, -1.0))
