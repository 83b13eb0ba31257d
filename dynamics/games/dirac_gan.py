import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_kind, check_number, check_whole
from dynamics._memory import check_memory, counted
from dynamics.distributions import PointMass, Points, Sample, normal
from dynamics.game import Game, Losses, Players, as_players
from dynamics.gan import GAN
from dynamics.objectives import NonSaturating, Objective
from dynamics.penalties import R1, Penalty
from dynamics.penalties.base import check_stateless


class DiracGAN(Game):
    r"""The simplest GAN: data is a point mass at 0, the model one at theta, the score of x is -psi x.

    Players: theta (generator) and psi (discriminator), two scalars. The sign of the score is that of the
    published fields, in which psi pushes theta: for the minimax objective $v = (-\psi f'(\theta\psi),\ \theta
    f'(\theta\psi))$ with $f(t) = -\log(1+e^{-t})$.
    Equilibrium: (0, 0). Losses are those of a `GAN` with these two functions.
    Source: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018,
    definition 2.1.

    Args:
        objective: what the players are paid; default non-saturating.
        penalty: a regulariser, or `None`.
        noise: standard deviation of Gaussian instance noise on real and fake; `None`: no noise. `key=None`
            integrates it by Gauss-Hermite quadrature, a key draws it.
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
        check_kind(self, "objective", Objective, "dynamics.objectives.NonSaturating()")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_stateless(self)
        if self.noise is not None:
            check_number(self, "noise", minimum=0)
        check_whole(self, "nodes")
        check_memory(f"a quadrature rule of {counted(self.nodes)} nodes", self.nodes**2, 8, "expected fewer nodes")
        check_whole(self, "batch_size")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        gan = self.gan(key)
        if self.noise is not None:
            return gan.losses(players, key)
        # The score of the data is 0 whatever psi is; as a constant it costs no exponential.
        real, fake = gan.samples(players)
        score = fake.each(lambda point: _score(players[1], point))
        known = Sample(jnp.zeros_like(score.values))
        penalise = None if key is None else jax.random.split(key)[1]
        return gan.losses_of_scores(players, (real, fake), (known, score), penalise)

    def gan(self, key: PRNGKeyArray | None = None) -> GAN:
        """The same game with data, latent and functions written out, as a `GAN`."""
        noise = None if self.noise is None else normal(0.0, self.noise, self.nodes)
        # Every draw of the noise needs a point of its own to be added to.
        many = noise is not None and key is not None
        zeros = Points(jnp.zeros(self.batch_size)) if many else PointMass(0.0)
        return GAN(_shift, _score, zeros, zeros, self.objective, self.penalty, noise)

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((0.0, 0.0)),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(penalty=R1(0.3)), as_players((1.0, 0.5))


def _shift(theta: Array, latent: Array) -> Array:
    return theta + latent


def _score(psi: Array, point: Array) -> Array:
    return -psi * point
