import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score


class ScoreDrift(Penalty):
    r"""Squared scores of real samples, $\epsilon E_{real} C(x)^2$: a Wasserstein critic's constant does not drift away.

    No factor 1/2. Added to the discriminator's loss only.
    Source: Karras, Aila, Laine, Lehtinen, Progressive Growing of GANs for Improved Quality, Stability, and Variation,
    2018, appendix A.1 (epsilon = 0.001).

    Args:
        weight: epsilon, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    weight: Array = eqx.field(converter=as_leaf, default=0.001)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        return jnp.asarray(0.0), self.weight * real.mean(lambda point: jnp.square(score(players[1], point)))
