import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_kind, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score
from dynamics.penalties.r1 import R1


class Scaled(Penalty):
    """Another penalty times a number, in both players' losses.

    What `dynamics.updates.Scheduled` makes of a penalty whose weight depends on the number of the step.

    Args:
        penalty: the penalty; default R1 with weight 1.
        factor: what it is multiplied by, any finite number.
        skip: whether the penalty is left out, not computed, where the factor is 0. That saves its time in a single run;
            among games that are computed side by side all are computed all the same.

    Raises:
        TypeError: no penalty.
        ValueError: the factor is not finite.

    >>> from dynamics.games import DiracGAN
    >>> game = DiracGAN(penalty=Scaled(R1(0.2), 3.0))
    >>> [round(float(v), 3) for v in game.field((0.0, 1.0))]
    [-0.5, -0.6]
    """

    penalty: Penalty = eqx.field(default_factory=R1)
    factor: Array = eqx.field(converter=as_leaf, default=1.0)
    skip: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if self.penalty is None:
            raise TypeError("Scaled.penalty is None; expected a Penalty, e.g. dynamics.penalties.R1(0.3)")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_number(self, "factor")

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        def scaled() -> tuple[Array, Array]:
            generator, discriminator = self.penalty(score, objective, players, real, fake, key)
            return self.factor * generator, self.factor * discriminator

        if not self.skip:
            return scaled()
        nothing = jax.tree.map(lambda term: jnp.zeros(term.shape, term.dtype), jax.eval_shape(scaled))
        terms = jax.lax.cond(self.factor != 0, lambda: jax.tree.map(_strong, scaled()), lambda: nothing)
        return terms[0], terms[1]


def _strong(term: Array) -> Array:
    """Not weakly typed, as both branches have to be alike."""
    return jax.lax.convert_element_type(term, term.dtype)
