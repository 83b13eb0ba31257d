from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics._checks import as_leaf, check_kind, check_number, check_whole
from dynamics.distributions import normal
from dynamics.game import Game, Losses, Players
from dynamics.gan import GAN
from dynamics.objectives import NonSaturating, Objective
from dynamics.penalties import R1, Penalty
from dynamics.penalties.base import check_stateless

LARGEST = 256  # beyond it the polynomials overflow at the outermost nodes


class HermiteGAN(Game):
    r"""The Gaussian GAN in function space: generator and critic are Hermite polynomials of degree up to K.

    Data and latents are N(0, s^2), the generator is $z + \sum_k \theta_k h_{k-1}(z)$, the score the ideal one plus
    $\sum_k \psi_k h_k(x)$, with normalised polynomials $h_k = He_k/\sqrt{k!}$, k = 1, ..., K. Losses are those of a
    `GAN` with these functions. Players: theta and psi, shape (K,).

    Equilibrium: theta = psi = 0. For s = 1 and R1 with weight $\gamma$ every degree is a game of two numbers there, and
    the spectrum of the flow is known: with $\kappa = a''+b''$ and $h'b'$ of a pointwise objective's functions at the
    ideal score (real, fake and generator's loss) the roots of $\mu^2 + (\kappa + \gamma k)\mu - h'b'\,k = 0$. That is
    $\mu^2 + \gamma k\mu + k = 0$ for Wasserstein's, $\mu^2 + (\tfrac12 + \gamma k)\mu + k/4 = 0$ for minimax and
    non-saturating; K = 1 is the Dirac-GAN. It is the spectrum of `function_space.DensityGAN` for N(0, 1) in the
    geometry of transport. The spectrum is ours; for K = 1: Mescheder, Geiger, Nowozin, Which Training Methods for GANs
    do actually Converge?, 2018.

    Args:
        degree: K, from 1 to 256. In float32 the outermost nodes overflow beyond about 40.
        objective: what the players are paid; default non-saturating.
        penalty: a regulariser, or `None`.
        std: s, of data and latents, >= 0.
        nodes: of the Gauss-Hermite quadrature for `key=None`; default 20, or degree + 8 where that is more. At the
            equilibrium anything above the degree is exact.
        batch_size: number of draws for a key.

    Raises:
        ValueError: the degree is out of bounds, or the standard deviation is negative.

    >>> from dynamics.objectives import Wasserstein
    >>> game = HermiteGAN(2, Wasserstein(), R1(0.3))
    >>> [round(float(v[1]), 6) for v in game.field((jnp.zeros(2), jnp.asarray([0.0, 1.0])))]  # sqrt(2) and -0.3 x 2
    [1.414214, -0.6]
    """

    degree: int = eqx.field(static=True)
    objective: Objective
    penalty: Penalty | None
    std: Array
    nodes: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(
        self,
        degree: int = 2,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        std: Any = 1.0,
        nodes: int | None = None,
        batch_size: int = 256,
    ):
        self.degree = degree
        check_whole(self, "degree")
        self.objective = NonSaturating() if objective is None else objective
        self.penalty = penalty
        self.std = as_leaf(std)
        self.nodes = max(20, degree + 8) if nodes is None else nodes
        self.batch_size = batch_size

    def __check_init__(self):
        if self.degree > LARGEST:
            raise ValueError(f"HermiteGAN.degree is {self.degree}; expected a whole number from 1 to {LARGEST}")
        check_kind(self, "objective", Objective, "dynamics.objectives.NonSaturating()")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_stateless(self)
        check_number(self, "std", minimum=0)
        check_whole(self, "nodes")
        check_whole(self, "batch_size")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        for name, player in zip(("theta", "psi"), players):
            if jnp.shape(player) != (self.degree,):
                raise ValueError(f"{name} has shape {jnp.shape(player)}; expected ({self.degree},), one per degree")
        return self.gan().losses(players, key)

    def gan(self) -> GAN:
        """The same game with data, latent and functions written out, as a `GAN`."""
        points = normal(0.0, self.std, self.nodes, self.batch_size)
        score = jax.tree_util.Partial(_score, self.objective.ideal_score)
        return GAN(_generated, score, points, points, self.objective, self.penalty)

    def equilibria(self) -> tuple[Players, ...]:
        zero = jnp.zeros(self.degree)
        return ((zero, zero),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(2, penalty=R1(0.3)), (jnp.asarray([0.4, -0.2]), jnp.asarray([0.3, 0.1]))


def hermite(x: Float[Array, ""], count: int) -> Float[Array, " count"]:
    r"""The first normalised Hermite polynomials at a point, degrees 0 to count - 1.

    >>> [round(float(h), 6) for h in hermite(jnp.asarray(2.0), 4)]  # 1, x, (x^2 - 1)/sqrt(2), (x^3 - 3x)/sqrt(6)
    [1.0, 2.0, 2.12132, 0.816497]
    """
    x = jnp.asarray(x)

    def following(pair: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
        before, here = pair
        after = (x * here - jnp.sqrt(k) * before) / jnp.sqrt(k + 1)
        return (here, after), after

    pair = jnp.zeros_like(x), jnp.ones_like(x)
    if count <= 8:  # written out: faster, and shorter to compile
        values = [pair[1]]
        for k in range(count - 1):
            pair, after = following(pair, jnp.asarray(k, x.dtype))
            values.append(after)
        return jnp.stack(values)
    _, values = jax.lax.scan(following, pair, jnp.arange(count - 1, dtype=x.dtype))
    return jnp.concatenate([jnp.ones(1, x.dtype), values])


def _generated(theta: Array, latent: Array) -> Array:
    return latent + jnp.sum(theta * hermite(latent, theta.size))


def _score(constant: Array, psi: Array, point: Array) -> Array:
    return constant + jnp.sum(psi * hermite(point, psi.size + 1)[1:])
