from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.penalties.base import Penalty

if TYPE_CHECKING:
    from dynamics.gan import GAN


class Sum(Penalty):
    """Several penalties at once; with none, nothing is added.

    Args:
        penalties: any number of penalties; each gets a key of its own.

    >>> from dynamics.penalties import R1, R2
    >>> len(Sum(R1(0.3), R2(0.1)).penalties)
    2
    """

    penalties: tuple[Penalty, ...]

    def __init__(self, *penalties: Penalty):
        self.penalties = penalties

    def __check_init__(self):
        for penalty in self.penalties:
            if not isinstance(penalty, Penalty):
                raise TypeError(f"Sum got {penalty!r}; expected penalties, e.g. dynamics.penalties.R1(0.3)")

    def __call__(
        self, gan: "GAN", players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        generator, discriminator = jnp.asarray(0.0), jnp.asarray(0.0)
        for index, penalty in enumerate(self.penalties):
            own_key = None if key is None else jax.random.fold_in(key, index)
            terms = penalty(gan, players, real, fake, own_key)
            generator, discriminator = generator + terms[0], discriminator + terms[1]
        return generator, discriminator
