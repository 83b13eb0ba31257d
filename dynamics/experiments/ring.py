"""The ring of Gaussians."""

from typing import Any

import jax
import numpy as np

import dynamics.data as data
import dynamics.metrics as metrics
from dynamics._keys import key_of
from dynamics.experiments.experiment import Experiment, falling_adam, penalised_gan
from dynamics.networks.architectures import fully_connected
from dynamics.updates import Alternating

LATENT = 2


def ring(
    *,
    seed: int = 0,
    steps: int = 6000,
    rate: float = 1e-3,
    penalty: float = 0.1,
    width: int = 128,
    batch_size: int = 256,
    modes: int = 8,
) -> Experiment:
    """Eight Gaussians on a circle: a non-saturating GAN of fully connected networks, in half a minute on two cores.

    Alternating Adam (b1 = 0.5) with a rate that falls to 0 along a cosine, R1 on the discriminator, an average of the
    generator. Source of the data: Metz, Poole, Pfau, Sohl-Dickstein, Unrolled Generative Adversarial Networks, 2017.

    Args:
        seed: of data, start and training.
        steps: of the training.
        rate: of both players, at the beginning.
        penalty: weight of R1.
        width: units in each of the two hidden layers of both networks.
        batch_size: points in a batch.
        modes: number of Gaussians.

    Raises:
        ValueError: a number is out of bounds.

    >>> ring(width=8, modes=5).data.centres.shape
    (5, 2)
    """
    settings = dict(locals())
    points, first, second, training = jax.random.split(key_of(seed), 4)
    real = data.ring(points, modes=modes)
    generator, theta = fully_connected(LATENT, 2, width=width, key=first)
    discriminator, psi = fully_connected(2, None, width=width, key=second)
    options = {"latent_size": LATENT, "batch_size": batch_size}
    game = penalised_gan(generator, discriminator, real, penalty=penalty, **options)
    adam = falling_adam(rate, steps)

    def coverage(reference: metrics.Reference, fake: np.ndarray) -> dict[str, Any]:
        del reference
        covered = metrics.mode_coverage(fake, real.centres, real.spread, least=20)
        return {"modes": covered.modes, "high_quality": covered.high_quality}

    def distance(reference: metrics.Reference, fake: np.ndarray) -> float:
        return metrics.frechet_distance(reference, fake)

    return Experiment(
        name="ring",
        title=f"{modes} Gaussians on a circle",
        game=game,
        update=Alternating(adam, adam),
        players=(theta, psi),
        data=real,
        batch_size=batch_size,
        average=0.995,
        measures={"coverage": coverage, "frechet": distance},
        key=training,
        steps=steps,
        rows=0,
        settings=settings,
    )
