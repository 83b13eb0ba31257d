import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number, check_whole
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score, gradient_norm, normal_steps


class DRAGAN(Penalty):
    r"""Gradient penalty around real samples, $\lambda E(\|\nabla_x C(x+\delta)\| - k)^2$.

    The perturbation is $\delta\sim N(0, s^2 I)$ as in the paper (the authors' notebook draws
    $\tfrac12\mathrm{std}(x)\,U[0,1)$ instead); for `key=None` its expectation is a Gauss-Hermite quadrature.
    Added to the discriminator's loss only. Samples are arrays.
    Source: Kodali et al., On Convergence and Stability of GANs, 2017, section 2.3.

    Args:
        weight: lambda, >= 0.
        target: k, the wanted gradient norm, >= 0.
        std: standard deviation s of the perturbation, >= 0.
        nodes: quadrature nodes per dimension.

    Raises:
        ValueError: a number is out of bounds.
    """

    weight: Array = eqx.field(converter=as_leaf, default=10.0)
    target: Array = eqx.field(converter=as_leaf, default=1.0)
    std: Array = eqx.field(converter=as_leaf, default=0.5)
    nodes: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_number(self, "target", minimum=0)
        check_number(self, "std", minimum=0)
        check_whole(self, "nodes")

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        def excess(point):
            return jnp.square(gradient_norm(score, players[1], point) - self.target)

        around = perturbed(real, self.std, self.nodes, key)
        return jnp.asarray(0.0), self.weight * around.each(excess).mean()


def perturbed(samples: Sample, std: Array, nodes: int, key: PRNGKeyArray | None) -> Sample:
    """Add Gaussian noise to samples (arrays): one draw per sample for a key, a quadrature for `key=None`."""
    if key is not None:
        noise = jax.random.normal(key, samples.values.shape, samples.values.dtype)
        return Sample(samples.values + std * noise, samples.weights)
    return samples.product(normal_steps(samples.values[0], std, nodes), jnp.add)
