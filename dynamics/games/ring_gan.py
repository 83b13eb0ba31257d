import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dynamics.distributions import Distribution, Points, ring
from dynamics.game import Game, Losses, Players
from dynamics.gan import GAN, split_module
from dynamics.objectives import Objective
from dynamics.penalties import Penalty
from dynamics.penalties.base import check_stateless


class RingGAN(Game):
    r"""A small neural GAN: Gaussians on a circle, two networks with a few hundred parameters.

    Generator and discriminator are fully connected tanh networks, smooth, so that Jacobians exist
    everywhere. With `key=None` the losses are exact expectations over a fixed set of latent points and
    over a quadrature of the data, a deterministic game; with a key they are over a minibatch. Starting
    players come from `start`. No equilibrium is known.

    Args:
        key: random key of the fixed latent points.
        modes: number of Gaussians, at angles 2 pi k / modes.
        radius: radius of the circle.
        std: standard deviation of each Gaussian.
        latent_size: dimension of the latents, which are standard Gaussian.
        latents: number of fixed latent points.
        width: units per hidden layer.
        depth: hidden layers of each network.
        batch_size: size of a minibatch.
        objective: what the players are paid; default non-saturating.
        penalty: a regulariser, or `None`.
        noise: instance noise, a `Distribution` of points in the plane, or `None`.

    Raises:
        ValueError: a size is not a positive whole number.

    >>> game = RingGAN(jax.random.key(0))
    >>> players = game.start(jax.random.key(1))
    >>> [sum(leaf.size for leaf in jax.tree.leaves(player)) for player in players]
    [354, 337]
    """

    parts: GAN
    latent_size: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        modes: int = 8,
        radius: float = 1.0,
        std: float = 0.02,
        latent_size: int = 2,
        latents: int = 64,
        width: int = 16,
        depth: int = 2,
        batch_size: int = 64,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        noise: Distribution | None = None,
    ):
        sizes = dict(modes=modes, latent_size=latent_size, latents=latents, width=width, depth=depth)
        for name, size in sizes.items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"RingGAN got {name}={size!r}; expected a positive whole number")
        self.latent_size, self.width, self.depth = latent_size, width, depth
        # The functions hold no numbers, any key gives the same ones.
        generator, discriminator = (split_module(network)[0] for network in self._networks(key))
        points = Points(jax.random.normal(key, (latents, latent_size)), batch_size)
        data = ring(modes, radius, std, batch_size=batch_size)
        self.parts = GAN(generator, discriminator, data, points, objective, penalty, noise)

    def __check_init__(self):
        check_stateless(self)

    def start(self, key: PRNGKeyArray) -> Players:
        """Freshly initialised players: the parameters of both networks, as equinox modules."""
        generator, discriminator = self._networks(key)
        return split_module(generator)[1], split_module(discriminator)[1]

    def _networks(self, key: PRNGKeyArray) -> tuple[eqx.nn.MLP, eqx.nn.MLP]:
        first, second = jax.random.split(key)
        generator = eqx.nn.MLP(self.latent_size, 2, self.width, self.depth, jnp.tanh, key=first)
        return generator, eqx.nn.MLP(2, "scalar", self.width, self.depth, jnp.tanh, key=second)

    def gan(self, key: PRNGKeyArray | None = None) -> GAN:
        """The same game with data, latent and functions written out, as a `GAN`."""
        return self.parts

    @property
    def objective(self) -> Objective:
        """What the players are paid."""
        return self.parts.objective

    @property
    def penalty(self) -> Penalty | None:
        """The regulariser, or `None`."""
        return self.parts.penalty

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        return self.parts.losses(players, key)

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game = cls(jax.random.key(0), modes=4, latents=16, width=8, depth=1)
        return game, game.start(jax.random.key(1))
