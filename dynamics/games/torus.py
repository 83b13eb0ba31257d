import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number, is_concrete
from dynamics.game import Game, Losses, Players, as_players


class Torus(Game):
    r"""Two angles and $f = -a\cos x + \cos(x-y) + b\cos y$: player 0 minimises it, player 1 maximises it.

    Field: $(-a\sin x + \sin(x-y),\ \sin(x-y) - b\sin y)$. Players: x and y, two scalars; angles are not
    wrapped. Equilibria in $(-\pi, \pi]^2$: (0, 0), $(\pi, \pi)$, $(0, \pi)$, $(\pi, 0)$, and when
    $|c| < 1$ for $c = (b^2 - a^2 - a^2b^2)/(2a^2b)$, the two points with $\cos x = c$,
    $\sin y = \frac ab\sin x$, $\cos y = a + \frac ab\cos x$ (left out while tracing, and for a = 0 or b = 0).
    For a = b = 0.15 the first two are strict local minimax but not Nash: with player 1 faster by tau, they
    are stable iff tau > 0.85 / 1.15 and iff tau > 1.15 / 0.85.
    Source: Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale
    Separation, 2021, with the authors' code.

    Args:
        a: weight of the minimiser's own term.
        b: weight of the maximiser's own term.

    Raises:
        ValueError: a weight is not finite.

    >>> game = Torus()
    >>> [round(float(v), 6) for v in game.field((jnp.asarray(0.5), jnp.asarray(0.0)))]
    [0.407512, 0.479426]
    """

    a: Array = eqx.field(converter=as_leaf, default=0.15)
    b: Array = eqx.field(converter=as_leaf, default=0.15)

    def __check_init__(self):
        check_number(self, "a")
        check_number(self, "b")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = -self.a * jnp.cos(x) + jnp.cos(x - y) + self.b * jnp.cos(y)
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        pi = jnp.pi
        points = [(0.0, 0.0), (pi, pi), (0.0, pi), (pi, 0.0)]
        if is_concrete((self.a, self.b)):
            # In NumPy: within a traced function JAX would make tracers of known numbers.
            a, b = np.asarray(self.a), np.asarray(self.b)
            cosine = (b**2 - a**2 - a**2 * b**2) / (2 * a**2 * b) if a * b else np.inf
            if abs(cosine) < 1:
                x = np.arccos(cosine)
                y = np.arctan2(a / b * np.sin(x), a + a / b * cosine)
                points += [(x, y), (-x, -y)]
        return tuple(as_players(point) for point in points)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), as_players((2.0, -1.0))
