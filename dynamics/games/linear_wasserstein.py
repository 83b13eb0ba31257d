import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import Numbers, as_leaf, check_finite, check_kind, check_number, check_whole
from dynamics.distributions import Distribution, PointMass, Points, normal
from dynamics.game import Game, Losses, Players, as_players
from dynamics.gan import GAN
from dynamics.objectives import Objective, Wasserstein
from dynamics.penalties import R1, Penalty
from dynamics.penalties.base import check_stateless


class LinearWasserstein(Game):
    r"""The Wasserstein GAN that learns a mean: $G(z) = z + \theta$, $C(x) = \langle w, x\rangle$.

    Players: theta (generator) and w (discriminator), both of the shape of the mean. With the default
    objective this is the bilinear game $\langle w, \mu - \theta\rangle$ with field $v = (w,\ \mu -
    \theta)$ and eigenvalues $\pm i$: it turns around its equilibrium $(\mu, 0)$. Every other objective and
    every penalty can be used; the score then carries the objective's ideal score as a constant, so that
    $(\mu, 0)$ stays an equilibrium. Losses are those of a `GAN` with these two functions.
    Source: Daskalakis, Ilyas, Syrgkanis, Zeng, Training GANs with Optimism, 2018, section 2.

    Args:
        mean: mu, shape (d,), or () for scalar players.
        objective: what the players are paid; default Wasserstein.
        penalty: a regulariser, or `None`.
        std: standard deviation of the data around the mean and of the latents around 0; `None`: point
            masses, which give the same losses whenever these are linear in the samples.
        noise: standard deviation of Gaussian instance noise on real and fake; `None`: no noise.
        nodes: quadrature nodes per dimension for `key=None`; up to 10^5 points altogether.
        batch_size: number of draws for a key.

    Raises:
        ValueError: the mean is neither a number nor a vector, or a standard deviation is negative.

    >>> game = LinearWasserstein([3.0, 4.0])
    >>> [v.tolist() for v in game.field((jnp.asarray([1.0, 1.0]), jnp.asarray([0.5, -0.5])))]
    [[0.5, -0.5], [2.0, 3.0]]
    """

    mean: Array
    objective: Objective
    penalty: Penalty | None
    std: Array | None
    noise: Array | None
    nodes: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(
        self,
        mean: Numbers,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        std: float | Array | None = None,
        noise: float | Array | None = None,
        nodes: int = 8,
        batch_size: int = 256,
    ):
        self.mean = as_leaf(mean) * 1.0
        self.objective = Wasserstein() if objective is None else objective
        self.penalty = penalty
        self.std = None if std is None else as_leaf(std)
        self.noise = None if noise is None else as_leaf(noise)
        self.nodes = nodes
        self.batch_size = batch_size

    def __check_init__(self):
        if jnp.ndim(self.mean) > 1:
            raise ValueError(
                f"LinearWasserstein.mean has shape {jnp.shape(self.mean)}; expected (d,), or () for scalars"
            )
        check_finite(self.mean, "LinearWasserstein.mean")
        check_kind(self, "objective", Objective, "dynamics.objectives.Wasserstein()")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_stateless(self)
        check_whole(self, "nodes")
        check_whole(self, "batch_size")
        for name in ("std", "noise"):
            if getattr(self, name) is not None:
                check_number(self, name, minimum=0)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        for name, player in zip(("theta", "w"), players):
            if jnp.shape(player) != self.mean.shape:
                raise ValueError(
                    f"{name} has shape {jnp.shape(player)}; expected {self.mean.shape}, the shape of the mean"
                )
        return self.gan(key).losses(players, key)

    def gan(self, key: PRNGKeyArray | None = None) -> GAN:
        """The same game with data, latent and functions written out, as a `GAN`."""
        zero = jnp.zeros_like(self.mean)
        noise = None if self.noise is None else normal(zero, self.noise, self.nodes)
        score = jax.tree_util.Partial(_score, self.objective.ideal_score)
        real, latent = self._around(self.mean, key), self._around(zero, key)
        return GAN(_shift, score, real, latent, self.objective, self.penalty, noise)

    def _around(self, point: Array, key: PRNGKeyArray | None) -> Distribution:
        if self.std is not None:
            return normal(point, self.std, self.nodes, self.batch_size)
        if self.noise is None or key is None:
            return PointMass(point)
        # Every draw of the noise needs a point of its own to be added to.
        return Points(jnp.broadcast_to(point, (self.batch_size, *point.shape)))

    def equilibria(self) -> tuple[Players, ...]:
        return (as_players((self.mean, jnp.zeros_like(self.mean))),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls([3.0, 4.0], penalty=R1(0.1)), (jnp.asarray([1.7, 1.7]), jnp.asarray([1.4, 1.4]))


def _shift(theta: Array, latent: Array) -> Array:
    return theta + latent


def _score(constant: Array, w: Array, point: Array) -> Array:
    return jnp.sum(w * point) + constant
