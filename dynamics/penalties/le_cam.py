from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Score, StatefulPenalty


class LeCam(StatefulPenalty):
    r"""Scores are drawn to the other side's mean, $\lambda(E_{real}(C-\alpha_F)^2 + E_{fake}(C-\alpha_R)^2)$.

    $\alpha_R$ and $\alpha_F$ are exponential moving averages, over the steps, of the mean scores of real and of fake
    samples, $\alpha\leftarrow\rho\alpha+(1-\rho)E\,C$, this step's included, which start at 0 and are held fixed in the
    gradient. They are memory of the update that plays the game, which has to be a `dynamics.GAN`. Without a decay
    $\rho = 0$: the means of this batch, or the exact ones for `key=None`, and no memory; that has the same equilibria,
    and any game can have it. The authors' code puts a ReLU around $C-\alpha_F$ and $\alpha_R-C$; paper and this do not.
    Added to the discriminator's loss only.
    Source: Tseng, Jiang, Liu, Yang, Yang, Regularizing Generative Adversarial Networks under Limited Data, 2021, with
    the authors' code.

    Args:
        weight: lambda, >= 0.
        decay: rho, >= 0 and < 1, or `None`.

    Raises:
        ValueError: a number is out of bounds.
    """

    weight: Array
    decay: Array | None
    averages: tuple[Array, Array] | None

    def __init__(self, weight: Any = 0.1, decay: Any = None):
        self.weight = as_leaf(weight)
        self.decay = None if decay is None else as_leaf(decay)
        self.averages = None if decay is None else (jnp.asarray(0.0), jnp.asarray(0.0))

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        if self.decay is not None:
            check_number(self, "decay", minimum=0, below=1)

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        on_real, on_fake = (samples.each(lambda point: score(players[1], point)) for samples in (real, fake))
        of_real, of_fake = jax.lax.stop_gradient(self._averages(on_real, on_fake))

        def distance(scores: Sample, anchor: Array) -> Array:
            return scores.mean(lambda value: jnp.square(value - anchor))

        return jnp.asarray(0.0), self.weight * (distance(on_real, of_fake) + distance(on_fake, of_real))

    @property
    def variables(self) -> PyTree:
        return self.averages

    def with_variables(self, variables: PyTree) -> "LeCam":
        return eqx.tree_at(lambda penalty: penalty.averages, self, variables, is_leaf=lambda node: node is None)

    def advanced(self, real: Sample, fake: Sample) -> "LeCam":
        return self if self.averages is None else self.with_variables(self._averages(real, fake))

    def _averages(self, real: Sample, fake: Sample) -> tuple[Array, Array]:
        """The averages after these scores."""
        means = real.mean(), fake.mean()
        if self.decay is None or self.averages is None:
            return means
        share = 1 - self.decay
        of_real, of_fake = (old + share * (mean - old) for old, mean in zip(self.averages, means, strict=True))
        return of_real, of_fake
