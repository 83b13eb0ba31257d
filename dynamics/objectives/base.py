"""What each player is paid for the discriminator's scores."""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import Array

from dynamics.distributions import Sample


class Objective(eqx.Module):
    """Losses of generator and discriminator as functions of the scores of real and fake samples.

    Scores are the discriminator's raw outputs, high on real samples. `real` and `fake` are arrays of shape
    (n,), or `Sample`s with weights. Both losses are minimised.
    """

    @abstractmethod
    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        """The discriminator's loss, a scalar: the sum of a mean over real and a mean over fake scores."""

    @abstractmethod
    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        """The generator's loss, a scalar."""

    @property
    @abstractmethod
    def ideal_discriminator_loss(self) -> Array:
        """The least loss that a discriminator can reach when model and data have the same distribution."""

    @property
    @abstractmethod
    def ideal_score(self) -> Array:
        """A constant score that reaches the ideal loss when model and data have the same distribution."""

    @property
    @abstractmethod
    def divergence(self) -> str:
        """What the generator minimises against an optimal discriminator, in words; empty where unknown."""
