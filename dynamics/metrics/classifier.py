"""A small classifier of a data set: its features make distances between images, its labels count modes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_whole, described
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.data.dataset import DataSet
from dynamics.game import Game
from dynamics.metrics._features import blocks
from dynamics.optimisers import Optimiser
from dynamics.simulation import simulate
from dynamics.updates import Simultaneous


class Classifier(eqx.Module):
    """A fully connected network that tells the classes of a data set, made by `train_classifier`.

    Attributes:
        layers: linear layers; ReLU in between.
        accuracy: share of right labels on samples that it was not trained with.
    """

    layers: tuple[eqx.nn.Linear, ...]
    accuracy: float = eqx.field(static=True, default=float("nan"))

    def features(self, values: Any) -> np.ndarray:
        """What the last hidden layer makes of samples of shape (n, ...); shape (n, width), float64."""
        return self._each(values, _hidden).astype(np.float64)

    def labels(self, values: Any) -> np.ndarray:
        """The likeliest class of samples of shape (n, ...); shape (n,)."""
        return self._each(values, _scores).argmax(axis=1)

    def probabilities(self, values: Any) -> np.ndarray:
        """What it takes for the probability of each class, shape (n, classes), float64; for `inception_score`."""
        scores = self._each(values, _scores).astype(np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def stacked_labels(self, values: Any) -> np.ndarray:
        """Labels of images with several channels, shape (n, channels, ...): their classes as decimal digits."""
        total = 0
        for channel in range(np.shape(values)[1]):
            total = 10 * total + self.labels(values[:, channel : channel + 1])
        return np.asarray(total)

    def _each(self, values: Any, function: Any) -> np.ndarray:
        inputs = self.layers[0].in_features
        rows = np.asarray(values, np.float32)
        if rows.ndim < 2 or rows[0].size != inputs:
            raise ValueError(
                f"the classifier got {described(values)}; expected samples of {inputs} numbers, shape (n, ...)"
            )
        rows = rows.reshape(len(rows), -1)
        return np.concatenate([np.asarray(function(self.layers, rows[part])) for part in blocks(len(rows))])


def _forward(layers: tuple[eqx.nn.Linear, ...], point: Array) -> tuple[Array, Array]:
    """Last hidden layer and scores of one point."""
    for layer in layers[:-1]:
        point = jax.nn.relu(layer(point))
    return point, layers[-1](point)


@eqx.filter_jit
def _hidden(layers: tuple[eqx.nn.Linear, ...], rows: Array) -> Array:
    return jax.vmap(lambda point: _forward(layers, point)[0])(rows)


@eqx.filter_jit
def _scores(layers: tuple[eqx.nn.Linear, ...], rows: Array) -> Array:
    return jax.vmap(lambda point: _forward(layers, point)[1])(rows)


class ClassificationAccuracy(NamedTuple):
    """How many real samples a classifier is right about that has seen generated ones alone.

    Attributes:
        accuracy: share of right labels, over all real samples.
        per_class: the same for each class; NaN where there is no real sample of it.
    """

    accuracy: float
    per_class: np.ndarray

    describe = described_fields
    to_dict = named_fields


def classification_accuracy(
    real: DataSet, fake: DataSet, key: PRNGKeyArray, *, train: Callable[..., Any] | None = None
) -> ClassificationAccuracy:
    """The classification accuracy score: train a classifier on generated, test it on real samples.

    Both with labels: of generated samples those that the generator was asked for. The score of the same classifier
    trained on real samples is what it is compared with. It sees missing diversity within a class, which inception
    scores and Frechet distances do not tell from bad samples.
    Source: Ravuri and Vinyals, Classification Accuracy Score for Conditional Generative Models, 2019, section 3.

    Args:
        real, fake: data sets with labels and the same number of classes.
        key: random key of the training.
        train: a function `(data, key)` that returns something with a method `labels(values)`; default
            `train_classifier`, with `functools.partial` for its settings.

    Returns:
        the share of real samples that are classified as they are labelled, over all and for each
        class, shape (classes,).

    Raises:
        ValueError: a data set has no labels, or the classes are not equally many.
    """
    for name, data in (("real", real), ("fake", fake)):
        if data.labels is None or data.modes is None:
            raise ValueError(f"the {name} data set {data.name!r} has no labels; expected one with classes")
    if real.modes != fake.modes:
        raise ValueError(f"real has {real.modes} classes and fake {fake.modes}; expected the same ones")
    classifier = (train_classifier if train is None else train)(fake, key)
    labels = np.asarray(real.labels)
    right = np.asarray(classifier.labels(np.asarray(real.values))) == labels
    counts = np.bincount(labels, minlength=real.modes or 0)
    with np.errstate(invalid="ignore"):
        per_class = np.bincount(labels[right], minlength=len(counts)) / counts
    return ClassificationAccuracy(float(right.mean()), per_class)


def train_classifier(
    data: DataSet,
    key: PRNGKeyArray,
    *,
    width: int = 64,
    steps: int = 1500,
    batch_size: int = 128,
    rate: float = 2e-3,
    held_out: float = 0.2,
) -> Classifier:
    """Train a network with two hidden layers to tell the classes of a data set, by Adam, in float32.

    A game of one player, in seconds for the digits; the same key gives the same classifier.

    Args:
        data: with labels.
        key: random key of the first parameters, of the batches, and of which samples are held out.
        width: units per hidden layer, the number of features.
        steps: of Adam.
        batch_size: samples in a batch, drawn with replacement.
        rate: learning rate, which falls to 0 along a cosine.
        held_out: share of the samples that measure the accuracy, > 0 and < 1.

    Returns:
        the classifier, with its accuracy on the samples held out.

    Raises:
        ValueError: the data have no labels, or a number is out of bounds.
    """
    if data.labels is None or data.modes is None:
        raise ValueError(f"the data set {data.name!r} has no labels; expected one with classes, e.g. data.digits()")
    width, steps, batch_size = (
        as_whole(name, value) for name, value in (("width", width), ("steps", steps), ("batch_size", batch_size))
    )
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}; expected a share > 0 and < 1")
    rows = jnp.asarray(np.asarray(data.values, np.float32).reshape(data.count, -1))
    labels = jnp.asarray(data.labels)
    first, order, batches = jax.random.split(key, 3)
    sizes = (rows.shape[1], width, width, data.modes)
    layers = tuple(
        eqx.nn.Linear(*pair, key=one, dtype=jnp.float32)
        for pair, one in zip(zip(sizes, sizes[1:]), jax.random.split(first, 3), strict=True)
    )
    order = jax.random.permutation(order, data.count)
    cut = min(max(1, round(held_out * data.count)), data.count - 1)
    test, train = order[:cut], order[cut:]

    def losses(players: Any, key: PRNGKeyArray | None = None) -> tuple[Array]:
        drawn = train if key is None else train[jax.random.randint(key, (batch_size,), 0, len(train))]
        scores = jax.vmap(lambda point: _forward(players[0], point)[1])(rows[drawn])
        return (optax.softmax_cross_entropy_with_integer_labels(scores, labels[drawn]).mean(),)

    game = Game.from_losses(losses)
    update = Simultaneous(Optimiser(optax.adam, optax.cosine_decay_schedule(rate, steps)))
    run = simulate(game, update, (layers,), steps=steps, save_every="last", key=batches, classify=False)
    (trained,) = run.final
    right = Classifier(trained).labels(rows[test]) == np.asarray(labels[test])
    accuracy = float(right.mean())
    return Classifier(trained, accuracy)
