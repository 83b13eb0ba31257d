from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number, check_whole
from dynamics.distributions import GaussianMixture, Sample, normal
from dynamics.game import Players, as_callable, check_takes
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score


class PrescribedEntropy(Penalty):
    r"""The entropy of a generator that adds noise, $x = \mu_\theta(z) + \sigma\epsilon$, whose density is not known.

    $-\lambda H$ in the generator's loss, as `Entropy`, for standard normal z and noise. The gradient is
    $-\lambda E\,(\partial x/\partial\theta)^\top c(x)$ with
    $c(x) = -\nabla_x\log p(x) = E_{z'|x}\,(x-\mu_\theta(z'))/\sigma^2$. With a key: z' from the posterior by
    Hamiltonian Monte Carlo on batches of its own, started at the z that x was made of; the term is worth 0, and
    only its gradient tells. As z is a draw from the posterior, so is every later z', and the mean of the estimate of c
    for a given x is right however few the steps; but an estimate that still depends on z is drawn towards 0, and
    without any step its mean is 0: trajectories should go through the posterior, whose width is about $\sigma$
    divided by the slope of $\mu$. With `key=None`: exact, for latents that are the points of the quadrature, where p is
    a mixture of Gaussians, and the fake samples that the discriminator sees; these should have the noise, by
    `GAN(noise=normal(0, sigma))`, as the data have in PresGAN.
    In the authors' code the proposals see no gradient of the likelihood, which is no error, but slow; there $\sigma$ is
    learned and the step adapted to an acceptance of 0.67; here both are given.
    Source: Dieng, Ruiz, Blei, Titsias, Prescribed Generative Adversarial Networks, 2019, with the authors' code.

    Args:
        mean: function mu, `(parameters, latent) -> sample`.
        latent: standard normal latents; its `batch_size` is that of the estimate.
        scale: sigma, > 0.
        weight: lambda, >= 0; that of the authors' code by default.
        step: length of a leapfrog step, > 0.
        leapfrog: steps of one trajectory.
        burn_in, draws: trajectories that are left out, and those whose ends are averaged.

    Raises:
        TypeError: the mean is no function of parameters and a latent, or the latents are no Gaussians.
        ValueError: a number is out of bounds.

    >>> from dynamics.distributions import normal
    >>> paid = PrescribedEntropy(lambda a, z: a * z, normal(0.0, 1.0), scale=0.5, step=0.1)
    >>> round(float(paid.log_density(jnp.asarray(0.8), jnp.asarray(0.0))), 4)  # of N(0, 0.8^2 + 0.5^2)
    -0.8607
    """

    mean: Callable[[PyTree, PyTree], Array]
    latent: GaussianMixture
    scale: Array
    weight: Array
    step: Array
    leapfrog: int = eqx.field(static=True)
    burn_in: int = eqx.field(static=True)
    draws: int = eqx.field(static=True)

    def __init__(
        self,
        mean: Callable[[PyTree, PyTree], Array] = jnp.add,
        latent: GaussianMixture | None = None,
        scale: Any = 0.1,
        weight: Any = 0.01,
        step: Any = 0.02,
        leapfrog: int = 5,
        burn_in: int = 2,
        draws: int = 2,
    ):
        self.mean = as_callable(mean, "mean")
        if mean is not jnp.add:
            check_takes(mean, "mean", "(parameters, latent)", 2)
        self.latent = normal() if latent is None else latent
        self.scale, self.weight, self.step = as_leaf(scale), as_leaf(weight), as_leaf(step)
        self.leapfrog, self.burn_in, self.draws = leapfrog, burn_in, draws

    def __check_init__(self):
        if not isinstance(self.latent, GaussianMixture):
            raise TypeError(
                f"PrescribedEntropy.latent is {self.latent!r}; expected standard normal latents, e.g. "
                "dynamics.distributions.normal(0.0, 1.0)"
            )
        check_number(self, "weight", minimum=0)
        check_number(self, "scale", above=0)
        check_number(self, "step", above=0)
        for name in ("leapfrog", "draws"):
            check_whole(self, name)
        check_whole(self, "burn_in", minimum=0)

    def log_density(self, parameters: PyTree, point: Array) -> Array:
        """The log density of the mixture of the Gaussians around the means of the latents' quadrature points."""
        latent = _trees.cast(self.latent.sample(), _trees.float_dtype(parameters))
        logs = latent.each(lambda z: self._log_likelihood(parameters, z, point))
        weights = jnp.full(latent.count, 1 / latent.count) if latent.weights is None else latent.weights
        size = jnp.size(point)
        return logsumexp(logs.values, b=weights) - size * jnp.log(self.scale * jnp.sqrt(2 * jnp.pi))

    def _log_likelihood(self, parameters: PyTree, latent: Array, point: Array) -> Array:
        return -jnp.sum(jnp.square(point - self.mean(parameters, latent))) / (2 * jnp.square(self.scale))

    def score(self, parameters: PyTree, point: Array, latent: Array, key: PRNGKeyArray) -> Array:
        r"""An estimate of $\nabla_x\log p(x)$ at one point, by a chain that starts at the latent it was made of."""

        def log_posterior(z: Array) -> Array:
            return self._log_likelihood(parameters, z, point) - jnp.sum(jnp.square(z)) / 2

        slope = jax.grad(log_posterior)

        def trajectory(z: Array, key: PRNGKeyArray) -> Array:
            of_momentum, of_decision = jax.random.split(key)
            start = jax.random.normal(of_momentum, jnp.shape(z), z.dtype)
            place, momentum = z, start + self.step / 2 * slope(z)
            for number in range(self.leapfrog):
                place = place + self.step * momentum
                momentum = momentum + (self.step if number < self.leapfrog - 1 else self.step / 2) * slope(place)
            energies = [log_posterior(q) - jnp.sum(jnp.square(p)) / 2 for q, p in ((z, start), (place, momentum))]
            accepted = jnp.log(jax.random.uniform(of_decision, dtype=z.dtype)) < energies[1] - energies[0]
            return jnp.where(accepted, place, z)

        total, keys = jnp.zeros_like(point), jax.random.split(key, self.burn_in + self.draws)
        for number in range(self.burn_in + self.draws):
            latent = trajectory(latent, keys[number])
            if number >= self.burn_in:
                total = total - (point - self.mean(parameters, latent)) / jnp.square(self.scale)
        return total / self.draws

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        parameters = players[0]
        if key is None:
            return self.weight * fake.mean(lambda point: self.log_density(parameters, point)), jnp.asarray(0.0)
        of_latents, of_noise, of_chains = jax.random.split(key, 3)
        latents = _trees.cast(self.latent.sample(of_latents), _trees.float_dtype(parameters)).values

        def paid(latent: Array, of_noise: PRNGKeyArray, of_chain: PRNGKeyArray) -> Array:
            mean = self.mean(parameters, latent)
            point = mean + self.scale * jax.random.normal(of_noise, jnp.shape(mean), mean.dtype)
            slope = self.score(*jax.lax.stop_gradient((parameters, point, latent)), of_chain)
            return jnp.sum((point - jax.lax.stop_gradient(point)) * slope)

        count = latents.shape[0]
        terms = jax.vmap(paid)(latents, jax.random.split(of_noise, count), jax.random.split(of_chains, count))
        return self.weight * jnp.mean(terms), jnp.asarray(0.0)
