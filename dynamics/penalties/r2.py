from typing import TYPE_CHECKING

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.penalties.base import Penalty, half_squared_gradient

if TYPE_CHECKING:
    from dynamics.gan import GAN


class R2(Penalty):
    r"""Squared gradient of the discriminator on fake samples, $\frac{\gamma}{2} E_{fake}\|\nabla_x C(x)\|^2$.

    Added to the discriminator's loss only, although the fake samples depend on the generator.
    Source: Mescheder, Geiger, Nowozin, 2018, equation 10.

    Args:
        weight: gamma, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    weight: Array = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(
        self, gan: "GAN", players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        return jnp.asarray(0.0), self.weight * half_squared_gradient(gan, players, fake)
