import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number, check_whole
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.approximate_r1 import half_squared_difference
from dynamics.penalties.base import Penalty, Score


class ApproximateR2(Penalty):
    r"""R2 by finite differences, $\frac{\gamma}{2} E_{fake,\epsilon}\,(C(x+\sigma\epsilon)-C(x))^2/\sigma^2$.

    As `ApproximateR1`, whose estimator and expectation it has, on fake samples. Added to the discriminator's loss only,
    although the fake samples depend on the generator.
    Source: Lin et al., Diffusion Adversarial Post-Training for One-Step Video Generation, 2025 (on real
    samples); Mescheder, Geiger, Nowozin, 2018, equation 10 (on fake ones).

    Args:
        weight: gamma, >= 0; that of `R2`.
        std: standard deviation sigma of the perturbation, > 0.
        nodes: quadrature nodes per dimension.

    Raises:
        ValueError: a number is out of bounds.
    """

    weight: Array = eqx.field(converter=as_leaf, default=1.0)
    std: Array = eqx.field(converter=as_leaf, default=0.01)
    nodes: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_number(self, "std", above=0)
        check_whole(self, "nodes")

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        difference = half_squared_difference(score, players, fake, self.std, self.nodes, key)
        return jnp.asarray(0.0), self.weight * difference
