from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.penalties.base import Penalty

if TYPE_CHECKING:
    from dynamics.gan import GAN


class DiscriminatorGradientNorm(Penalty):
    r"""Squared norm of the discriminator's gradient, $\eta\|\nabla_\psi L_D\|^2$, in the generator's loss.

    $L_D$ is the discriminator's objective without penalties; no factor 1/2. So the generator
    looks one step ahead.
    Source: Nagarajan and Kolter, Gradient descent GAN optimization is locally stable, 2017, section 4.

    Args:
        weight: eta, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    weight: Array = eqx.field(converter=as_leaf, default=0.5)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(
        self, gan: "GAN", players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        generator, discriminator = players

        def discriminator_loss(parameters):
            return gan.objective.discriminator(
                real.each(lambda point: gan.discriminator(parameters, point)),
                fake.each(lambda point: gan.discriminator(parameters, point)),
            )

        gradient = jax.grad(discriminator_loss)(discriminator)
        return self.weight * _trees.dot(gradient, gradient), jnp.asarray(0.0)
