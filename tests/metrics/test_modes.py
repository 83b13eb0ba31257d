"""Modes, classes, precision and recall, against hand-made cases, SciPy and plain loops."""

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

import dynamics as dy
from dynamics import metrics


def test_samples_of_the_data_cover_all_modes():
    data = dy.data.ring(jax.random.key(0), 20_000, std=0.05)
    coverage = metrics.mode_coverage(data.values, data.centres, data.spread)
    assert coverage.modes == 8 and coverage.counts.sum() == round(coverage.high_quality * 20_000)
    assert coverage.high_quality == pytest.approx(1 - np.exp(-4.5), abs=4 * np.sqrt(0.011 / 20_000))
    assert coverage.divergence < 0.002


def test_modes_that_are_missing_and_samples_in_between():
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    samples = np.array([[0.0, 0.29], [0.31, 0.0], [1.0, 0.0], [0.05, 0.0], [np.sqrt(0.5), 0.0]])
    coverage = metrics.mode_coverage(samples, centres, 0.1)
    assert coverage.counts.tolist() == [2, 2, 0]  # 1 - sqrt(1/2) = 0.293 is within 0.3 of the second centre
    assert (coverage.modes, coverage.high_quality) == (2, 0.8)
    assert coverage.divergence == pytest.approx(scipy.stats.entropy([0.5, 0.5, 0], [1 / 3] * 3))
    assert metrics.mode_coverage(samples, centres, 0.1, least=3).modes == 0
    assert metrics.mode_coverage(samples, centres, 0.1, within=3.2).counts.tolist() == [3, 2, 0]
    nothing = metrics.mode_coverage(samples + 100, centres, 0.1)
    assert (nothing.modes, nothing.high_quality, nothing.divergence) == (0, 0, np.inf)


def test_label_coverage_is_the_entropy_of_scipy():
    labels, reference = np.array([3, 3, 3, 0, 1]), np.array([0, 1, 1, 2, 3, 3, 3, 3])
    coverage = metrics.label_coverage(labels, 4, reference)
    assert coverage.modes == 3 and coverage.counts.tolist() == [1, 1, 0, 3]
    assert coverage.divergence == pytest.approx(scipy.stats.entropy([1, 1, 0, 3], [1, 2, 1, 4]))
    assert metrics.label_coverage([2], 4, [0, 1]).divergence == np.inf
    assert metrics.label_coverage(np.arange(1000), 1000).divergence == pytest.approx(0)


def slow_share_inside(points, support, k):
    def distance(x, y):
        return float(np.linalg.norm(x - y))

    radii = [sorted(distance(x, y) for j, y in enumerate(support) if j != i)[k - 1] for i, x in enumerate(support)]
    return np.mean([any(distance(p, x) <= radius for x, radius in zip(support, radii)) for p in points])


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_those_of_plain_loops(k):
    random = np.random.default_rng(0)
    real, fake = random.normal(size=(30, 2)), [1.0, 0.0] + 0.5 * random.normal(size=(20, 2))
    result = metrics.precision_recall(real, fake, k)
    expected = slow_share_inside(fake, real, k), slow_share_inside(real, fake, k)
    assert result == pytest.approx(expected)
    assert 0 < result.recall < result.precision <= 1  # narrow samples are precise, and miss much


def test_precision_and_recall_tell_missing_modes_from_bad_samples():
    data = dy.data.ring(jax.random.key(0), 800, std=0.05)
    other = np.asarray(dy.data.ring(jax.random.key(1), 800, std=0.05).values)
    half = metrics.precision_recall(data.values, other[other[:, 0] > 0.3])  # three modes of eight
    assert half.precision > 0.9 and 0.3 < half.recall < 0.45
    noisy = metrics.precision_recall(data.values, np.concatenate([other[:400], 3 + other[:400]]))
    assert noisy.precision < 0.55 and noisy.recall > 0.85
    assert metrics.precision_recall(other, other) == (1, 1)
    assert metrics.precision_recall(other, 100 + other) == (0, 0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.mode_coverage([0.0], [0.0], 0.0), "spread is 0.0; expected a finite number > 0"),
        (lambda: metrics.mode_coverage([0.0], [0.0], 1.0, within=np.nan), "within is nan"),
        (lambda: metrics.mode_coverage([0.0], [0.0], 1.0, least=0), "least is 0"),
        (lambda: metrics.mode_coverage([[0.0, 1.0]], [0.0], 1.0), "expected the same features"),
        (lambda: metrics.label_coverage([4], 4), "labels is .* expected whole numbers from 0 to 3"),
        (lambda: metrics.label_coverage([0.5], 4), "labels is .* expected whole numbers"),
        (lambda: metrics.label_coverage([1], 4, []), "reference is"),
        (lambda: metrics.train_classifier(dy.data.DataSet(np.zeros((3, 1))), jax.random.key(0)), "has no labels"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_a_classifier_tells_modes_apart_and_is_the_same_for_the_same_key():
    data = dy.data.ring(jax.random.key(0), 400, modes=3, std=0.1)
    one, again = (metrics.train_classifier(data, jax.random.key(1), width=8, steps=300, rate=0.01) for _ in range(2))
    assert one.accuracy > 0.97
    assert (one.labels(data.values) == data.labels).mean() > 0.97
    features = one.features(data.values)
    assert features.shape == (400, 8) and features.dtype == np.float64
    np.testing.assert_array_equal(features, again.features(data.values))
    layers = [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in one.layers]
    rows = np.asarray(data.values, np.float32)
    for weight, bias in layers[:-1]:
        rows = np.maximum(rows @ weight.T + bias, 0)
    np.testing.assert_allclose(features, rows, rtol=1e-4, atol=1e-5)
    probabilities = one.probabilities(data.values)
    scores = rows @ layers[-1][0].T + layers[-1][1]
    np.testing.assert_allclose(probabilities, scipy.special.softmax(scores, axis=1), atol=1e-4)
    assert (probabilities.argmax(axis=1) == one.labels(data.values)).all()
    assert 2.7 < metrics.inception_score(probabilities).value <= 3
    with pytest.raises(ValueError, match="expected samples of 2 numbers"):
        one.labels(np.zeros((5, 3)))


@pytest.mark.slow
def test_digits_are_told_apart():
    pytest.importorskip("sklearn")
    data = dy.data.digits()
    classifier = metrics.train_classifier(data, jax.random.key(0))
    assert classifier.accuracy > 0.95
    stacked = dy.data.stacked_digits(jax.random.key(1), 2000)
    assert (classifier.stacked_labels(stacked.values) == stacked.labels).mean() > 0.9
    coverage = metrics.label_coverage(classifier.stacked_labels(stacked.values), 1000)
    assert 800 < coverage.modes < 900  # 1000 (1 - 0.999^2000) = 865 of as many draws
