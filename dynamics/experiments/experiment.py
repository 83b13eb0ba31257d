"""What an experiment is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

import dynamics.distributions as distributions
import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics._checks import as_whole
from dynamics._printing import Titled
from dynamics.data import Batches, DataSet
from dynamics.game import Game, Players
from dynamics.gan import GAN
from dynamics.metrics import Reference
from dynamics.optimisers import Optimiser
from dynamics.training import Training, generate, train
from dynamics.updates.base import Update

SAMPLES = 2048  # that metrics are taken of
Measure = Callable[[Reference, np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class Experiment(Titled):
    """A training with everything that it needs, and how good its samples are.

    Attributes:
        name, title: what to call it, short and as a sentence.
        game, update, players: as in `dynamics.train`.
        data: all of the data, of which batches are made.
        batch_size: points in a batch.
        average: decay of the generator's average.
        measures: functions `(reference, fake)` of 2,048 real samples, as a `dynamics.metrics.Reference`, and as many
            generated ones, by name; each returns a number or a named tuple of numbers.
        key: random key of everything after the start.
        steps: how many, unless something else is asked for.
        rows: samples of the pictures are shown as a grid with so many rows of images; 0: as points of the plane.
        settings: the arguments that made it, by name.
        features: what the reference makes features of samples with; `None`: samples as they are.
    """

    name: str
    title: str
    game: Game
    update: Update
    players: Players
    data: DataSet
    batch_size: int
    average: float
    measures: Mapping[str, Measure]
    key: PRNGKeyArray
    steps: int
    rows: int
    settings: Mapping[str, Any]
    features: Callable[[np.ndarray], np.ndarray] | None = None

    def batches(self) -> Batches:
        """The data in batches without replacement."""
        return Batches(self.data, self.batch_size, jax.random.fold_in(self.key, 0))

    def reference(self) -> Reference:
        """The real samples that generated ones are compared with."""
        return Reference(self.real_samples(), self.features)

    def train(self, **options: Any) -> Training:
        """Train it; every argument of `dynamics.train` besides game, update and players can be given.

        Raises:
            As `dynamics.train`.
        """
        defaults: dict[str, Any] = {
            "steps": self.steps,
            "key": jax.random.fold_in(self.key, 1),
            "data": self.batches(),
            "average": self.average,
        }
        if "metrics" not in options:
            reference = self.reference()  # what is computed of real samples is computed once, for all measures
            defaults["metrics"] = {name: self._metric(measure, reference) for name, measure in self.measures.items()}
        return train(self.game, self.update, self.players, **(defaults | options))

    def real_samples(self, count: int = SAMPLES) -> np.ndarray:
        """The first points of the data."""
        return np.asarray(self.data.values[:count])

    def samples(self, players: Players, count: int = SAMPLES) -> np.ndarray:
        """Generated samples, always of the same latent points; with `training.averaged_players` of the average."""
        return np.asarray(generate(self.game, players, jax.random.fold_in(self.key, 2), count))

    def _metric(self, measure: Measure, reference: Reference) -> Callable[[Game, Players, PRNGKeyArray], Any]:
        def metric(game: Game, players: Players, key: PRNGKeyArray) -> Any:
            del key  # the same latent points at every evaluation: what changes is the generator
            samples = np.asarray(generate(game, players, jax.random.fold_in(self.key, 2), SAMPLES))
            return measure(reference, samples)

        return metric


def penalised_gan(
    generator: Any, discriminator: Any, data: DataSet, *, latent_size: int, batch_size: int, penalty: float
) -> GAN:
    """A non-saturating GAN with R1 on the data, whose latents are standard normal."""
    return GAN(
        generator,
        discriminator,
        data.points(batch_size),
        distributions.normal(np.zeros(latent_size), 1.0, batch_size=batch_size),
        objective=objectives.NonSaturating(),
        penalty=penalties.R1(penalty),
    )


def falling_adam(rate: float, steps: int) -> Optimiser:
    """Adam with b1 = 0.5 and b2 = 0.99, whose rate falls to 0 within so many steps along half of a cosine.

    Raises:
        ValueError: the rate is no finite number > 0, or the steps are no positive whole number.
    """
    if not 0 < rate < np.inf:
        raise ValueError(f"rate is {rate}; expected a finite number > 0, e.g. 1e-3")
    return Optimiser(optax.adam, optax.cosine_decay_schedule(rate, as_whole("steps", steps)), b1=0.5, b2=0.99)
