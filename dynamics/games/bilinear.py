import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics.game import Game, Losses, Players


class Bilinear(Game):
    r"""The bilinear game $f(x, y) = x^\top A y$: player 0 minimises it, player 1 maximises it.

    Field: $(-A y,\ A^\top x)$. Players: x of shape (m,), y of shape (n,); for a scalar A both are scalars.
    Equilibria: $A^\top x = 0$, $A y = 0$; a manifold when A is not square or singular. Every singular value of A is a
    planar game of its own, with eigenvalues $\pm i\sigma$ of the flow.

    Args:
        matrix: A, shape (m, n) or ().

    Raises:
        ValueError: the matrix has another number of dimensions.

    >>> game = Bilinear([[1.0, 2.0, 0.0]])
    >>> [v.tolist() for v in game.field((jnp.asarray([1.0]), jnp.asarray([1.0, 1.0, 1.0])))]
    [[-3.0], [1.0, 2.0, 0.0]]
    """

    matrix: Array = eqx.field(converter=lambda matrix: jnp.asarray(matrix) * 1.0, default=1.0)

    def __check_init__(self):
        if jnp.ndim(self.matrix) not in (0, 2):
            raise ValueError(f"Bilinear.matrix has shape {jnp.shape(self.matrix)}; expected (m, n), or () for scalars")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        x, y = players
        value = jnp.sum(x * (self.matrix @ y)) if self.matrix.ndim else x * self.matrix * y
        return value, -value

    def equilibria(self) -> tuple[Players, ...]:
        shape = self.matrix.shape
        return ((jnp.zeros(shape[:1], self.matrix.dtype), jnp.zeros(shape[1:], self.matrix.dtype)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]]), (jnp.asarray([1.0, -0.5]), jnp.asarray([0.5, 1.0, 2.0]))
