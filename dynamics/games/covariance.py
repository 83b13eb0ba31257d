import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import Numbers, as_leaf, check_kind, check_number, check_whole, is_concrete
from dynamics.distributions import Distribution, Sample, normal
from dynamics.game import Game, Losses, Players, as_players
from dynamics.gan import GAN
from dynamics.objectives import Objective, Wasserstein
from dynamics.penalties import Penalty, Sum
from dynamics.penalties.base import Score, check_stateless


class Covariance(Game):
    r"""The GAN that learns a covariance: generator $G(z) = Vz$, discriminator $C(x) = x^\top W x$.

    Data and latents are Gaussian of mean 0. With the default objective the field is that of
    $f = \mathrm{tr}(W^\top(\Sigma - VV^\top)) - \frac\mu2\|W\|^2$, which V minimises and W maximises:
    $v = ((W+W^\top)V,\ \Sigma - VV^\top - \mu W)$. Losses are those of a `GAN` with these two functions, with
    $\frac\mu2\|W\|^2$ as a penalty of the discriminator: $L_1 = -f$, while $L_0$ differs from f by terms of
    W alone. Players: V and W, shape (d, d); for a scalar sigma both are scalars.

    Equilibria: $V = \Sigma^{1/2} Q$, W = 0 for every orthogonal Q; `equilibria()` gives the symmetric
    root, and both signs for scalars. For $\mu > 0$ there are also those in which V misses some principal
    axes. Eigenvalues of the field's Jacobian there: $(-\mu\pm\sqrt{\mu^2 - 8(s_i+s_j)})/2$ for each pair
    $i \le j$ of eigenvalues of $\Sigma$, once more $-\mu$ for each pair i < j (the antisymmetric part of
    W, which scores nothing), and 0 for each pair i < j (the rotations Q). For a scalar and $\mu = 0$:
    $\pm 2i\sqrt\Sigma$. Any other objective and any penalty can be used; the score then carries the objective's
    ideal score as a constant, so that W = 0 stays an equilibrium.
    Sources: Daskalakis, Ilyas, Syrgkanis, Zeng, Training GANs with Optimism, 2018, section 5; for scalars
    Nagarajan and Kolter, Gradient Descent GAN Optimization is Locally Stable, 2017 (linear generator,
    quadratic discriminator); with mu: Fiez and Ratliff, Local Convergence Analysis of Gradient Descent
    Ascent with Finite Timescale Separation, 2021.

    Args:
        sigma: Sigma, the covariance of the data, shape (d, d), symmetric positive definite; a number is
            the variance.
        mu: weight of the discriminator's own quadratic term, >= 0.
        objective: what the players are paid; default Wasserstein.
        penalty: a regulariser, or `None`.
        noise: standard deviation of Gaussian instance noise on real and fake; `None`: no noise.
        nodes: Gauss-Hermite nodes per dimension for `key=None`, up to 10^5 points altogether. `None`: for
            the Wasserstein objective a rule of 2 d points, exact for all that is quadratic in the samples
            (the scores, and the penalties `R1`, `R2` and `DiscriminatorGradientNorm`), and 5 nodes per
            dimension for other objectives.
        batch_size: number of draws for a key.

    Raises:
        ValueError: sigma is not symmetric positive definite, or a number is negative.

    >>> game = Covariance(4.0)
    >>> [round(float(v), 6) for v in game.field((jnp.asarray(1.0), jnp.asarray(0.5)))]
    [1.0, 3.0]
    """

    sigma: Array
    mu: Array
    objective: Objective
    penalty: Penalty | None
    noise: Array | None
    nodes: int | None = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(
        self,
        sigma: Numbers,
        mu: float | Array = 0.0,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        noise: float | Array | None = None,
        nodes: int | None = None,
        batch_size: int = 256,
    ):
        self.sigma = as_leaf(sigma) * 1.0
        self.mu = as_leaf(mu)
        self.objective = Wasserstein() if objective is None else objective
        self.penalty = penalty
        self.noise = None if noise is None else as_leaf(noise)
        self.nodes = 5 if nodes is None and not isinstance(self.objective, Wasserstein) else nodes
        self.batch_size = batch_size

    def __check_init__(self):
        check_number(self, "mu", minimum=0)
        check_kind(self, "objective", Objective, "dynamics.objectives.Wasserstein()")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_stateless(self)
        check_whole(self, "batch_size")
        if self.nodes is not None:
            check_whole(self, "nodes")
        if self.noise is not None:
            check_number(self, "noise", minimum=0)
        shape = jnp.shape(self.sigma)
        if len(shape) not in (0, 2) or shape[:1] != shape[1:]:
            raise ValueError(f"Covariance.sigma has shape {shape}; expected (d, d), or () for scalars")
        if is_concrete(self.sigma):
            sigma = np.atleast_2d(self.sigma)
            if not np.all(np.isfinite(sigma)) or not np.allclose(sigma, sigma.T, rtol=1e-4, atol=0):
                raise ValueError(f"Covariance.sigma is {sigma.tolist()}; expected a symmetric matrix of finite numbers")
            least = np.linalg.eigvalsh(sigma)[0]
            if least <= 0:
                raise ValueError(f"Covariance.sigma has the eigenvalue {least:g}; expected only positive ones")

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        for name, player in zip(("V", "W"), players):
            if jnp.shape(player) != self.sigma.shape:
                raise ValueError(f"{name} has shape {jnp.shape(player)}; expected {self.sigma.shape}, that of sigma")
        return self.gan(key).losses(players, key)

    def gan(self, key: PRNGKeyArray | None = None) -> GAN:
        """The same game with data, latent and functions written out, as a `GAN`."""
        identity = jnp.eye(len(self.sigma), dtype=self.sigma.dtype) if self.sigma.ndim else jnp.ones_like(self.sigma)
        # Any root serves the data; this one has a derivative also where eigenvalues of sigma coincide.
        root = jnp.linalg.cholesky(self.sigma) if self.sigma.ndim else jnp.sqrt(self.sigma)
        real, latent = (_Gaussian(factor, self.nodes, self.batch_size) for factor in (root, identity))
        noise = None if self.noise is None else _Gaussian(self.noise * identity, self.nodes, self.batch_size)
        score = jax.tree_util.Partial(_score, self.objective.ideal_score)
        weight_norm = _WeightNorm(self.mu)
        penalty = weight_norm if self.penalty is None else Sum(weight_norm, self.penalty)
        return GAN(_apply, score, real, latent, self.objective, penalty, noise)

    def equilibria(self) -> tuple[Players, ...]:
        if not self.sigma.ndim:
            root = jnp.sqrt(self.sigma)
            return as_players((root, 0.0)), as_players((-root, 0.0))
        values, vectors = jnp.linalg.eigh(self.sigma)
        return (as_players(((vectors * jnp.sqrt(values)) @ vectors.T, jnp.zeros_like(self.sigma))),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        start = jnp.asarray([[1.0, 0.2], [-0.3, 0.8]]), jnp.asarray([[0.1, 0.0], [0.2, -0.1]])
        return cls([[2.0, 0.5], [0.5, 1.0]], mu=0.5), start


class _Gaussian(Distribution):
    """`factor` times a standard Gaussian: a quadrature for `key=None`, a random batch for a key."""

    factor: Array
    nodes: int | None = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray | None = None, count: int | None = None) -> Sample:
        shape, dtype = self.factor.shape[:1], self.factor.dtype
        if key is not None:
            batch = self.batch_size if count is None else count
            points = Sample(jax.random.normal(key, (batch, *shape), dtype))
        elif self.nodes is not None:
            points = normal(jnp.zeros(shape, dtype), 1.0, self.nodes).sample()
        else:
            # Mean 0, covariance I and no third moments: exact for polynomials of degree 3.
            dimension = int(np.prod(shape))
            corners = dimension**0.5 * np.concatenate([np.eye(dimension), -np.eye(dimension)])
            points = Sample(jnp.asarray(corners.reshape(-1, *shape), dtype))
        return points.each(lambda point: _apply(self.factor, point))


class _WeightNorm(Penalty):
    """`weight / 2` times the squared norm of the discriminator's parameters, for the discriminator."""

    weight: Array

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        return jnp.asarray(0.0), self.weight / 2 * jnp.sum(jnp.square(players[1]))


def _apply(matrix: Array, point: Array) -> Array:
    return matrix @ point if matrix.ndim else matrix * point


def _score(constant: Array, w: Array, point: Array) -> Array:
    return jnp.sum(point * _apply(w, point)) + constant
