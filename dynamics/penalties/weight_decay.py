import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score
from dynamics.scalars import half_square


class WeightDecay(Penalty):
    r"""Squared parameters, $\frac{\mu_G}{2}\|\theta\|^2$ for the generator, $\frac{\mu_D}{2}\|\psi\|^2$ for the other.

    In the loss, so that Adam divides it by its scale like any gradient; `optax.adamw` decays beside the gradient. It
    moves every equilibrium at which a decayed parameter is not 0.
    Source: Krogh and Hertz, A Simple Weight Decay Can Improve Generalization, 1991.

    Args:
        generator: mu_G, >= 0.
        discriminator: mu_D, >= 0.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    generator: Array = eqx.field(converter=as_leaf, default=0.0)
    discriminator: Array = eqx.field(converter=as_leaf, default=0.01)

    def __check_init__(self):
        check_number(self, "generator", minimum=0)
        check_number(self, "discriminator", minimum=0)

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        def decay(parameters: PyTree) -> Array:
            squares = [jnp.sum(half_square(leaf)) for leaf in jax.tree.leaves(parameters)]
            return sum(squares, jnp.asarray(0.0))

        return self.generator * decay(players[0]), self.discriminator * decay(players[1])
