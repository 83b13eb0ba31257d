from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number, check_whole
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score, normal_steps
from dynamics.scalars import half_square


class FiniteDifferences(Penalty):
    """A finite-difference estimate of the squared gradient of the score on some of the samples."""

    weight: Array = eqx.field(converter=as_leaf, default=1.0)
    std: Array = eqx.field(converter=as_leaf, default=0.01)
    nodes: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_number(self, "std", above=0)
        check_whole(self, "nodes")

    @abstractmethod
    def penalised(self, real: Sample, fake: Sample) -> Sample:
        """The samples at which the gradient is estimated."""

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        samples = self.penalised(real, fake)
        difference = half_squared_difference(score, players, samples, self.std, self.nodes, key)
        return jnp.asarray(0.0), self.weight * difference


class ApproximateR1(FiniteDifferences):
    r"""R1 by finite differences, $\frac{\gamma}{2} E_{real,\epsilon}\,(C(x+\sigma\epsilon)-C(x))^2/\sigma^2$.

    $\epsilon\sim N(0, I)$, one direction for each real sample: no derivative with respect to samples, so that a step
    takes no second derivative. The expectation over $\epsilon$ is $\frac{\gamma}{2} E\|\nabla_x C\|^2$ for a linear
    score, whatever $\sigma$; for a smooth one up to a term of order $\sigma^2$, with g and H its gradient and Hessian
    $\frac{\gamma}{2}E\bigl(\|g\|^2 + \frac{\sigma^2}{4}((\mathrm{tr} H)^2 + 2\,\mathrm{tr} H^2) + \sigma^2
    g\cdot\nabla\,\mathrm{tr} H + O(\sigma^4)\bigr)$. In the form $\lambda E(C(x+\sigma\epsilon)-C(x))^2$
    of the source $\lambda = \gamma/(2\sigma^2)$. The smaller $\sigma$, the more rounding: in float32 a relative error
    of about $10^{-7} |C| / (\sigma\|g\|)$. For `key=None` the expectation is a Gauss-Hermite quadrature. Added to the
    discriminator's loss only. Samples are arrays.
    Source: Lin et al., Diffusion Adversarial Post-Training for One-Step Video Generation, 2025.

    Args:
        weight: gamma, >= 0; that of `R1`.
        std: standard deviation sigma of the perturbation, > 0.
        nodes: quadrature nodes per dimension.

    Raises:
        ValueError: a number is out of bounds.
    """

    def penalised(self, real: Sample, fake: Sample) -> Sample:
        return real


def half_squared_difference(
    score: Score, players: Players, samples: Sample, std: Array, nodes: int, key: PRNGKeyArray | None
) -> Array:
    r"""$\frac12 E\,(C(x+\sigma\epsilon)-C(x))^2/\sigma^2$ over samples and perturbations."""
    if key is None:
        pairs = samples.product(normal_steps(samples.values[0], 1.0, nodes), lambda x, step: (x, step))
    else:
        steps = jax.random.normal(key, samples.values.shape, samples.values.dtype)
        pairs = Sample((samples.values, steps), samples.weights)

    def slope(pair: tuple[Array, Array]) -> Array:
        point, step = pair
        return half_square((score(players[1], point + std * step) - score(players[1], point)) / std)

    return pairs.each(slope).mean()
