import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import PointMass, Points, normal
from dynamics.game import Game, Losses, Players, as_players
from dynamics.gan import GAN
from dynamics.objectives import NonSaturating, Objective
from dynamics.penalties import R1, Penalty


class DiracGAN(Game):
    r"""The simplest GAN: data is a point mass at 0, the model a point mass at theta, the score of x is -psi x.

    Players: theta (generator) and psi (discriminator), two scalars. The sign of the score is that of the published
    fields, in which psi pushes theta: for the minimax objective
    $v = (-\psi f'(\theta\psi),\ \theta f'(\theta\psi))$ with $f(t) = -\log(1+e^{-t})$.
    Equilibrium: (0, 0). Losses are those of a `GAN` with these two functions.
    Source: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018, definition 2.1.

    Args:
        objective: what the players are paid; default non-saturating.
        penalty: a regulariser, or `None`.
        noise: standard deviation of Gaussian instance noise on real and fake; `None`: no noise. `key=None` integrates
            it by Gauss-Hermite quadrature, a key draws it.
        nodes: quadrature nodes.
        batch_size: number of noise draws for a key.

    Raises:
        ValueError: the noise is negative or not finite.

    >>> game = DiracGAN(penalty=R1(0.3))
    >>> [round(float(v), 3) for v in game.field((jnp.asarray(0.0), jnp.asarray(1.0)))]
    [-0.5, -0.3]
    """

    objective: Objective
    penalty: Penalty | None
    noise: Array | None
    nodes: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(
        self,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        noise: float | Array | None = None,
        nodes: int = 32,
        batch_size: int = 256,
    ):
        self.objective = NonSaturating() if objective is None else objective
        self.penalty = penalty
        self.noise = None if noise is None else as_leaf(noise)
        self.nodes = nodes
        self.batch_size = batch_size

    def __check_init__(self):
        if self.noise is not None:
            check_number(self, "noise", minimum=0)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        noise = None if self.noise is None else normal(0.0, self.noise, self.nodes)
        # Every draw of the noise needs a point of its own to be added to.
        zeros = PointMass(0.0) if noise is None or key is None else Points(jnp.zeros(self.batch_size, jnp.result_type(players[0])))
        gan = GAN(_shift, _score, zeros, zeros, self.objective, self.penalty, noise)
        return gan.losses(players, key)

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(penalty=R1(0.3)), as_players((1.0, 0.5))


def _shift(theta: Array, latent: Array) -> Array:
    return theta + latent


def _score(psi: Array, point: Array) -> Array:
    return -psi * point
