"""Handwritten digits of 8 x 8 pixels."""

import functools
from typing import Any

import jax
import numpy as np

import dynamics.data as data
import dynamics.metrics as metrics
from dynamics._keys import key_of
from dynamics.experiments.experiment import Experiment, falling_adam, penalised_gan
from dynamics.metrics.classifier import Classifier
from dynamics.networks.architectures import image_discriminator, image_generator
from dynamics.updates import Alternating


def digits(
    *,
    seed: int = 0,
    steps: int = 8000,
    rate: float = 1e-3,
    penalty: float = 1.0,
    width: int = 12,
    latent_size: int = 16,
    batch_size: int = 64,
    residual: bool = False,
) -> Experiment:
    """The digits of scikit-learn: a non-saturating GAN of small convolutional networks, in minutes on two cores.

    Alternating Adam (b1 = 0.5) with a rate that falls to 0 along a cosine, R1 on the discriminator, an average of the
    generator. Samples are judged by the last hidden layer of a classifier that is trained on the same digits
    beforehand. Needs the extra `data`.

    Args:
        seed: of start and training; the classifier is the same for all seeds.
        steps: of the training.
        rate: of both players, at the beginning.
        penalty: weight of R1.
        width: channels of the networks at 4 x 4 pixels.
        latent_size: numbers in a latent vector.
        batch_size: images in a batch.
        residual: whether the networks are made of residual blocks.

    Returns:
        the experiment; its `train()` runs it.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: a number is out of bounds.
    """
    settings = dict(locals())
    real = data.digits()
    order, first, second, training = jax.random.split(key_of(seed), 4)
    assert real.labels is not None
    rows = jax.random.permutation(order, real.count)
    shuffled = data.DataSet(real.values[rows], real.labels[rows], name=real.name, modes=real.modes)
    generator, theta = image_generator(latent_size, width=width, residual=residual, key=first)
    discriminator, psi = image_discriminator(width=width, residual=residual, key=second)
    options = {"latent_size": latent_size, "batch_size": batch_size}
    game = penalised_gan(generator, discriminator, shuffled, penalty=penalty, **options)
    adam = falling_adam(rate, steps)

    def quality(reference: metrics.Reference, fake: np.ndarray) -> dict[str, Any]:
        features = reference.features_of(fake)
        labels = metrics.label_coverage(classifier_of_digits().labels(fake), 10, np.asarray(real.labels))
        kernel = metrics.kernel_distance(reference, features)
        shares = metrics.precision_recall(reference, features)
        return {
            "frechet": metrics.frechet_distance(reference, features),
            "kernel": kernel.value,
            "kernel_error": kernel.standard_error,
            "precision": shares.precision,
            "recall": shares.recall,
            "classes": labels.modes,
            "divergence": labels.divergence,
        }

    return Experiment(
        name="digits",
        title="Handwritten digits of 8 x 8 pixels",
        game=game,
        update=Alternating(adam, adam),
        players=(theta, psi),
        data=shuffled,
        batch_size=batch_size,
        average=0.995,
        measures={"quality": quality},
        key=training,
        steps=steps,
        rows=8,
        settings=settings,
        features=lambda images: classifier_of_digits().features(images),
    )


@functools.cache
def classifier_of_digits() -> Classifier:
    """The classifier whose features judge digits, trained in seconds at its first use."""
    return metrics.train_classifier(data.digits(), jax.random.key(0))
