import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score


class LeCam(Penalty):
    r"""Scores are drawn to the other side's mean, $\lambda(E_{real}(C-\alpha_F)^2 + E_{fake}(C-\alpha_R)^2)$.

    $\alpha_R$ and $\alpha_F$ are the mean scores of real and fake samples, of this batch (or the exact ones for
    `key=None`), held fixed in the gradient. In the source they are exponential moving averages over the steps; these
    come to rest at the means, so that both have the same equilibria; on the way, and in the spectrum, the averages lag.
    The authors' code puts a ReLU around $C-\alpha_F$ and $\alpha_R-C$; the paper, and this, do not. Added to the
    discriminator's loss only.
    Source: Tseng, Jiang, Liu, Yang, Yang, Regularizing Generative Adversarial Networks under Limited Data, 2021, with
    the authors' code.

    Args:
        weight: lambda, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    weight: Array = eqx.field(converter=as_leaf, default=0.1)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        on_real, on_fake = (samples.each(lambda point: score(players[1], point)) for samples in (real, fake))

        def distance(scores: Sample, anchor: Array) -> Array:
            return scores.mean(lambda value: jnp.square(value - jax.lax.stop_gradient(anchor)))

        total = distance(on_real, on_fake.mean()) + distance(on_fake, on_real.mean())
        return jnp.asarray(0.0), self.weight * total
