import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players, as_callable, check_scalar, check_takes
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score
from dynamics.scalars import half_square


def unit_normal(parameters: PyTree, point: PyTree) -> Array:
    """The log density of N(parameters, I), that of a generator that adds its parameters to standard normal latents."""
    flat, _ = ravel_pytree(point)
    return -jnp.sum(half_square(flat - ravel_pytree(parameters)[0])) - flat.size * math.log(2 * math.pi) / 2


class Entropy(Penalty):
    r"""The entropy of the generator, which it is paid for: $-\lambda H = \lambda E_{fake}\log p_\theta(x)$ in its loss.

    For a generator that has a density $p_\theta$, as one that adds noise: $x = \mu_\theta(z) + \sigma\epsilon$. This is
    a `GAN` with instance noise (PresGAN, too, adds the same noise to the data). Samples and density both depend on
    the parameters; in expectation the gradient is that through the samples alone, $\nabla H = -E\,(\partial x/\partial
    \theta)^\top\nabla_x\log p$, as the score $\nabla_\theta\log p_\theta$ has mean 0; that of a batch has its noise
    added. Of $x = az + \sigma\epsilon$, z standard normal: $\partial H/\partial a = a/(a^2+\sigma^2)$.
    Source: Dieng, Ruiz, Blei, Titsias, Prescribed Generative Adversarial Networks, 2019, where the density is not
    known: `PrescribedEntropy`.

    Args:
        log_density: function `(parameters, point) -> log p`, of the generator's parameters and one sample. Default:
            that of N(parameters, I).
        weight: lambda, >= 0.

    Raises:
        TypeError: the log density is no function of parameters and a point, or returns no real number.
        ValueError: the weight is negative or not finite.

    >>> paid = Entropy(lambda a, x: -x**2 / (2 * a**2) - jnp.log(jnp.abs(a)), weight=0.1)
    """

    log_density: Callable[[PyTree, PyTree], Array]
    weight: Array

    def __init__(self, log_density: Callable[[PyTree, PyTree], Array] = unit_normal, weight: Any = 0.01):
        self.log_density = as_callable(log_density, "log_density")
        check_takes(log_density, "log_density", "(parameters, point)", 2)
        self.weight = as_leaf(weight)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        def log_density(point: PyTree) -> Array:
            value = self.log_density(players[0], point)
            check_scalar(value, "the log density returned")
            return value

        return self.weight * fake.mean(log_density), jnp.asarray(0.0)
