"""Scores of probabilities, histograms and neighbours, against plain loops, SciPy, scikit-learn and closed forms."""

import collections
import functools

import jax
import numpy as np
import pytest
import scipy.stats

import dynamics as dy
from dynamics import metrics

KEY = jax.random.key(0)


# Inception score


def slow_inception_score(rows, splits):
    scores = []
    for part in range(splits):
        rows_of_part = rows[part * len(rows) // splits : (part + 1) * len(rows) // splits]
        marginal = rows_of_part.mean(axis=0)
        scores.append(np.exp(np.mean([scipy.stats.entropy(row, marginal) for row in rows_of_part])))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("splits", [1, 3])
def test_inception_score_is_that_of_plain_loops(splits):
    rows = np.random.default_rng(0).dirichlet(np.full(5, 0.4), size=23)
    assert metrics.inception_score(rows, splits) == pytest.approx(slow_inception_score(rows, splits), rel=1e-12)


def test_bounds_of_the_inception_score():
    """1 where all samples look alike, the number of classes where each is of one class and all are as frequent."""
    alike = np.tile([0.2, 0.3, 0.5], (30, 1))
    assert metrics.inception_score(alike, 3) == pytest.approx((1, 0), abs=1e-12)
    sure = np.eye(7)[np.arange(70) % 7]
    assert metrics.inception_score(sure) == pytest.approx((7, 0), abs=1e-12)
    single = metrics.inception_score(np.eye(3), splits=1)  # one sample of each class is as good as many
    assert single.value == pytest.approx(3)
    softmax = jax.nn.softmax(jax.random.normal(KEY, (50, 4)).astype("float32"))
    assert 1 < metrics.inception_score(softmax).value < 4


# Histograms


def test_histogram_divergences_are_those_of_scipy():
    random = np.random.default_rng(1)
    real, fake = random.integers(1, 30, 12), random.integers(1, 30, (12,))
    p, q = real / real.sum(), fake / fake.sum()
    result = metrics.histogram_divergences(real, fake)
    assert result.kullback_leibler == pytest.approx(scipy.stats.entropy(p, q), rel=1e-12)
    assert result.reverse == pytest.approx(scipy.stats.entropy(q, p), rel=1e-12)
    assert result.jensen_shannon == pytest.approx(scipy.spatial.distance.jensenshannon(p, q) ** 2, rel=1e-10)
    assert result.total_variation == pytest.approx(np.abs(p - q).sum() / 2)
    assert result.kullback_leibler != pytest.approx(result.reverse, rel=1e-3)
    table = metrics.histogram_divergences(real.reshape(3, 4), fake.reshape(3, 4))
    assert table == pytest.approx(result)


def test_empty_bins_and_smoothing():
    apart = metrics.histogram_divergences([4, 0], [0, 9])
    assert apart == pytest.approx((np.inf, np.inf, np.log(2), 1))
    smooth = metrics.histogram_divergences([4, 0], [0, 9], smoothing=1)
    p, q = np.array([5, 1]) / 6, np.array([1, 10]) / 11
    assert smooth.kullback_leibler == pytest.approx(scipy.stats.entropy(p, q))
    assert metrics.histogram_divergences([1, 2], [10, 20]) == pytest.approx((0, 0, 0, 0), abs=1e-15)


def test_all_samples_are_assigned_to_modes():
    coverage = metrics.mode_coverage([0.0, 0.1, 0.6, 5.0], centres=[0.0, 1.0], spread=0.1)
    assert coverage.counts.tolist() == [2, 0] and coverage.assigned.tolist() == [2, 2]


def test_different_bins_by_hand():
    """Six clusters far apart, so that the bins are known: two-proportion z tests with the pooled variance."""
    centres = np.arange(6) * 100.0
    counts, others = np.array([40, 30, 20, 10, 10, 10]), np.array([33, 30, 27, 2, 10, 18])
    random = np.random.default_rng(2)
    real, fake = (np.repeat(centres, many) + random.normal(size=many.sum()) for many in (counts, others))
    random.shuffle(real)
    result = metrics.different_bins(real, fake, KEY, bins=6, significance=0.05)
    assert result.real.tolist() == counts.tolist()
    order = [int(np.flatnonzero(others == many)[0]) for many in result.fake]
    assert sorted(order) == sorted(int(np.flatnonzero(others == many)[0]) for many in others)
    p, q, pooled = counts / 120, others / 120, (counts + others) / 240
    z = np.abs(p - q) / np.sqrt(pooled * (1 - pooled) * 2 / 120)
    assert result.different == (z > 1.959964).sum() == 1 and result.share == pytest.approx(1 / 6)
    assert metrics.different_bins(real, fake, KEY, bins=6, significance=0.3).different == (z > 1.036433).sum() == 3
    expected = metrics.histogram_divergences(counts, others).jensen_shannon
    assert result.jensen_shannon == pytest.approx(expected)


def test_about_as_many_bins_differ_as_the_level_of_significance():
    random = np.random.default_rng(3)
    real = metrics.Reference(random.normal(size=(1500, 2)))
    shares = [metrics.different_bins(real, random.normal(size=(1500, 2)), KEY, bins=20).share for _ in range(20)]
    assert 0.01 < np.mean(shares) < 0.1
    assert metrics.different_bins(real, 0.5 + random.normal(size=(1500, 2)), KEY, bins=20).share > 0.6


@pytest.mark.slow
def test_bins_are_as_good_as_those_of_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    from dynamics.metrics.histograms import _bins

    rows = np.random.default_rng(4).normal(size=(300, 3))
    centres, counts = _bins(metrics.Reference(rows), 8, (0, 1))
    distances = np.linalg.norm(rows[:, None] - centres, axis=2)
    assert np.bincount(distances.argmin(1), minlength=8).tolist() == counts.tolist() == sorted(counts, reverse=True)
    inertia = (distances.min(1) ** 2).sum()
    assert inertia < 1.1 * cluster.KMeans(8, n_init=5, random_state=0).fit(rows).inertia_
    equal = _bins(metrics.Reference(np.zeros((5, 2))), 3, (0,))  # more bins than different samples
    assert equal[1].tolist() == [5, 0, 0]


# Neighbours


def slow_density_coverage(real, fake, k):
    def distance(x, y):
        return float(np.linalg.norm(x - y))

    radii = [sorted(distance(x, y) for j, y in enumerate(real) if j != i)[k - 1] for i, x in enumerate(real)]
    density = sum(distance(y, x) <= radius for y in fake for x, radius in zip(real, radii)) / (k * len(fake))
    return density, np.mean([any(distance(y, x) <= radius for y in fake) for x, radius in zip(real, radii)])


@pytest.mark.parametrize("k", [1, 4])
def test_density_and_coverage_are_those_of_plain_loops(k):
    random = np.random.default_rng(5)
    real, fake = random.normal(size=(30, 2)), [0.5, 0.0] + 0.5 * random.normal(size=(20, 2))
    assert metrics.density_coverage(real, fake, k) == pytest.approx(slow_density_coverage(real, fake, k))


def test_density_and_coverage_of_samples_of_the_data():
    """1, and 1 - prod (n - i) / (n + m - i), on average."""
    random, n, m, k = np.random.default_rng(6), 60, 40, 3
    result = [metrics.density_coverage(random.normal(size=(n, 2)), random.normal(size=(m, 2)), k) for _ in range(200)]
    values = np.array(result)
    expected = [1, 1 - np.prod([(n - i) / (n + m - i) for i in range(1, k + 1)])]
    assert np.all(np.abs(values.mean(0) - expected) < 4 * values.std(0) / np.sqrt(200))
    assert values.std(0).max() / np.sqrt(200) < 0.02


def test_an_outlier_among_the_fakes_does_not_cover_the_data():
    random = np.random.default_rng(7)
    real, fake = random.normal(size=(100, 2)), 100 + random.normal(size=(20, 2))
    with_outlier = np.concatenate([fake, [[-300.0, 0.0]]])
    assert metrics.precision_recall(real, with_outlier, 20).recall == 1
    assert metrics.density_coverage(real, with_outlier) == (0, 0)


def slow_divergence(real, fake, k):
    total = 0.0
    for i, x in enumerate(real):
        own = sorted(np.linalg.norm(x - y) for j, y in enumerate(real) if j != i)[k - 1]
        total += np.log(sorted(np.linalg.norm(x - y) for y in fake)[k - 1] / own)
    return real.shape[1] * total / len(real) + np.log(len(fake) / (len(real) - 1))


@pytest.mark.parametrize("k", [1, 3])
def test_neighbour_divergence_is_that_of_plain_loops(k):
    random = np.random.default_rng(8)
    real, fake = random.normal(size=(25, 2)), 1 + 2 * random.normal(size=(30, 2))
    assert metrics.neighbour_divergence(real, fake, k) == pytest.approx(slow_divergence(real, fake, k), rel=1e-10)


def test_neighbour_divergence_of_gaussians_tends_to_the_closed_form():
    """KL(N(m, s^2) | N(0, 1)) = (s^2 + m^2 - 1) / 2 - log s, and the reverse one, which differs: FACTS 10.1."""
    random = np.random.default_rng(9)
    estimates = []
    for _ in range(15):
        real, fake = 0.5 + 0.8 * random.normal(size=1000), random.normal(size=1000)
        estimates.append((metrics.neighbour_divergence(real, fake, 2), metrics.neighbour_divergence(fake, real, 2)))
    values = np.array(estimates)
    errors = values.std(0) / np.sqrt(15)
    assert np.all(np.abs(values.mean(0) - [0.1681435513, 0.2534189487]) < 0.04) and errors.max() < 0.02


# References and classifiers


def test_a_reference_gives_the_same_and_computes_what_is_real_once():
    random, calls = np.random.default_rng(10), []
    images = random.normal(size=(40, 1, 2, 3))

    def features(values):
        calls.append(len(values))
        return np.tanh(values.reshape(len(values), -1)[:, :4])

    reference, plain = metrics.Reference(images, features), features(images)
    del calls[:]
    every = [
        metrics.frechet_distance,
        metrics.kernel_distance,
        functools.partial(metrics.kernel_distance, degree=2),
        metrics.precision_recall,
        functools.partial(metrics.precision_recall, neighbours=2),
        metrics.density_coverage,
        metrics.neighbour_divergence,
        metrics.energy_distance,
        functools.partial(metrics.energy_distance, unbiased=True),
        functools.partial(metrics.different_bins, key=KEY, bins=5),
    ]
    for seed in range(2):
        fake = features(np.random.default_rng(seed).normal(size=(30, 1, 2, 3)))
        for function in every:
            one, other = function(reference, fake), function(plain, fake)
            assert all(map(np.array_equal, *(x if isinstance(x, tuple) else (x,) for x in (one, other))))
    assert calls == [30, 40, 30]  # the real images once, after the first fake ones
    assert reference.features_of(images[:3]).shape == (3, 4) and len(reference) == 40
    assert repr(reference) == "Reference(array of shape (40, 1, 2, 3), float64)"


def test_classification_accuracy_trains_on_generated_and_tests_on_real_samples():
    seen = []

    def train(data, key):
        seen.append((data.name, key))
        return collections.namedtuple("Nearest", "labels")(lambda values: (np.asarray(values)[:, 0] > 1.5).astype(int))

    real = dy.data.DataSet(np.array([[0.0], [1.0], [2.0], [3.0]]), labels=np.array([0, 0, 0, 1]), modes=3, name="real")
    fake = dy.data.DataSet(np.array([[0.0], [2.0]]), labels=np.array([0, 1]), modes=3, name="fake")
    result = metrics.classification_accuracy(real, fake, KEY, train=train)
    assert result.accuracy == 0.75 and seen == [("fake", KEY)]
    np.testing.assert_allclose(result.per_class, [2 / 3, 1, np.nan])


@pytest.mark.slow
def test_classification_accuracy_sees_a_class_that_is_missing():
    real, fake = (dy.data.ring(jax.random.key(seed), 400, modes=4, std=0.1) for seed in (0, 1))
    train = functools.partial(metrics.train_classifier, width=8, steps=300, rate=0.01)
    good = metrics.classification_accuracy(real, fake, KEY, train=train)
    rows = np.asarray(fake.labels) != 2
    missing = dy.data.DataSet(fake.values[rows], labels=fake.labels[rows], modes=4)
    poor = metrics.classification_accuracy(real, missing, KEY, train=train)
    assert good.accuracy > 0.97 and poor.per_class[2] == 0 and poor.accuracy == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.inception_score([[0.5, 0.6]], 1), "expected numbers >= 0 of shape .* adding up to 1"),
        (lambda: metrics.inception_score([0.5, 0.5], 1), "expected numbers >= 0 of shape"),
        (lambda: metrics.inception_score([[1.5, -0.5]], 1), "expected numbers >= 0"),
        (lambda: metrics.inception_score(np.eye(3)), "3 samples for 10 splits"),
        (lambda: metrics.histogram_divergences([0, 0], [1, 1]), "real is .* not all of them 0"),
        (lambda: metrics.histogram_divergences([1, 1], [1, -1]), "fake is .* expected counts or shares >= 0"),
        (lambda: metrics.histogram_divergences([1, 1], [1, 1, 1]), r"real has shape \(2,\) and fake \(3,\)"),
        (lambda: metrics.histogram_divergences([1], [1], smoothing=-1), "smoothing is -1.0"),
        (lambda: metrics.different_bins(np.eye(3), np.eye(3), KEY), "real has 3 samples for 100 bins"),
        (lambda: metrics.different_bins(np.eye(3), np.eye(3), KEY, bins=2, significance=1), "significance is 1"),
        (lambda: metrics.density_coverage(np.eye(3), np.eye(3), 3), "real has 3 samples; expected more than the 3"),
        (
            lambda: metrics.neighbour_divergence(np.zeros((9, 1)), np.ones((9, 1))),
            "9 samples with 5 others at the same",
        ),
        (lambda: metrics.neighbour_divergence(np.eye(3), np.eye(5), 3), "expected the same features"),
        (lambda: metrics.Reference([]), "values is .* expected at least 1 samples"),
        (lambda: metrics.classification_accuracy(dy.data.DataSet(np.eye(2)), None, KEY), "real data set 'data' has no"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_classes_have_to_be_the_same():
    one, other = (dy.data.DataSet(np.eye(2), labels=np.array([0, 1]), modes=modes) for modes in (2, 3))
    with pytest.raises(ValueError, match="real has 2 classes and fake 3"):
        metrics.classification_accuracy(one, other, KEY)
    with pytest.raises(TypeError, match="features is 3; expected a function"):
        metrics.Reference(np.eye(2), 3)
