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


class R1(Penalty):
    r"""Squared gradient of the discriminator on real samples, $\frac{\gamma}{2} E_{real}\|\nabla_x C(x)\|^2$.

    Added to the discriminator's loss only. With the factor 1/2, as in the paper; the authors' code has none,
    so that its `reg_param=10` is weight 20 here.
    Source: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018, eq. 9.

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
        return jnp.asarray(0.0), self.weight * half_squared_gradient(gan, players, real)
