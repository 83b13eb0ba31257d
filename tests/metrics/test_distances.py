"""Distances between sets of features, against SciPy, plain loops and closed forms of Gaussians."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from dynamics import metrics


def gaussians(seed, size=5):
    """Two unequal Gaussians: means and covariances."""
    random = np.random.default_rng(seed)
    roots = random.normal(size=(2, size, size)) * [[[1.0]], [[0.3]]]
    one, two = (root @ root.T for root in roots)
    return random.normal(size=size), one, 2 + random.normal(size=size), two


@given(st.integers(0, 1000), st.sampled_from([1, 2, 5]))
def test_frechet_distance_is_that_of_scipy(seed, size):
    mean, one, other, two = gaussians(seed, size)
    root = np.atleast_2d(scipy.linalg.sqrtm(one @ two))
    expected = np.sum((mean - other) ** 2) + np.trace(one + two - 2 * root).real
    assert metrics.frechet_distance_of_moments(mean, one, other, two) == pytest.approx(expected, rel=1e-7)


def test_frechet_distance_of_samples_has_their_moments():
    random = np.random.default_rng(0)
    real, fake = random.normal(size=(50, 3)), 1 + random.normal(size=(40, 3)) @ np.diag([1.0, 2.0, 0.5])
    moments = real.mean(0), np.cov(real.T), fake.mean(0), np.cov(fake.T)
    expected = metrics.frechet_distance_of_moments(*moments)
    assert metrics.frechet_distance(real.reshape(50, 3, 1), fake) == pytest.approx(expected, rel=1e-12)
    assert metrics.frechet_distance(fake, real) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(real, real) == pytest.approx(0, abs=1e-10)


def test_frechet_distance_of_singular_covariances():
    """Of commuting covariances it is the distance of the standard deviations, zeros among them."""
    one, two = np.array([4.0, 0.0, 1.0]), np.array([0.0, 9.0, 16.0])
    rotation = scipy.linalg.expm(np.array([[0, 1, 2], [-1, 0, 0.5], [-2, -0.5, 0]]))
    spread = [rotation * values @ rotation.T for values in (one, two)]
    spread = [(matrix + matrix.T) / 2 for matrix in spread]
    value = metrics.frechet_distance_of_moments(np.zeros(3), spread[0], np.ones(3), spread[1])
    assert value == pytest.approx(3 + np.sum((np.sqrt(one) - np.sqrt(two)) ** 2), rel=1e-6)
    few = np.arange(8.0).reshape(2, 4)  # two samples in four dimensions
    assert metrics.frechet_distance(few, few + 3.0) == pytest.approx(36)


def test_float32_features_are_computed_with_in_float64():
    random = np.random.default_rng(1)
    real = 1e3 + random.normal(size=(200, 2)).astype(np.float32)
    assert metrics.frechet_distance(real, real + np.float32(0.5)) == pytest.approx(0.5, rel=1e-6)


def slow_kernel_distance(real, fake, degree, scale, offset):
    def kernel(x, y):
        return (x @ y / scale + offset) ** degree

    def mean(pairs):
        return np.mean([kernel(x, y) for x, y in pairs])

    within = mean(itertools.permutations(real, 2)) + mean(itertools.permutations(fake, 2))
    return within - 2 * mean(itertools.product(real, fake))


@pytest.mark.parametrize("degree, scale, offset", [(3, None, 1.0), (2, 0.7, 0.5), (1, 2.0, 0.0)])
def test_kernel_distance_is_that_of_plain_loops(degree, scale, offset):
    random = np.random.default_rng(2)
    real, fake = random.normal(size=(7, 4)), 0.5 + 2 * random.normal(size=(5, 4))
    result = metrics.kernel_distance(real, fake, degree=degree, scale=scale, offset=offset)
    arguments = degree, scale or 4, offset
    assert result.value == pytest.approx(slow_kernel_distance(real, fake, *arguments), rel=1e-10)
    left = [[slow_kernel_distance(np.delete(real, i, 0), fake, *arguments) for i in range(7)]]
    left += [[slow_kernel_distance(real, np.delete(fake, i, 0), *arguments) for i in range(5)]]
    variance = sum((len(one) - 1) / len(one) * np.sum((np.array(one) - np.mean(one)) ** 2) for one in left)
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_kernel_distance_is_unbiased_and_its_error_is_honest():
    """For degree 3 and scalars: the sum of squared differences of moments, weighted by binomial coefficients."""
    random = np.random.default_rng(3)
    mean, std = 0.7, 1.2
    moments = np.array([[0, 1, 0], [mean, mean**2 + std**2, mean**3 + 3 * mean * std**2]])
    exact = np.sum([3, 3, 1] * (moments[0] - moments[1]) ** 2)
    estimates = [
        metrics.kernel_distance(random.normal(size=60), mean + std * random.normal(size=90)) for _ in range(400)
    ]
    values, errors = np.array(estimates).T
    assert abs(values.mean() - exact) < 4 * values.std() / 20
    assert 0.8 < np.sqrt(np.mean(errors**2)) / values.std() < 1.3


def test_kernel_distance_of_equal_distributions_is_negative_at_times():
    random = np.random.default_rng(4)
    estimates = [metrics.kernel_distance(random.normal(size=(30, 2)), random.normal(size=(30, 2))) for _ in range(100)]
    values, errors = np.array(estimates).T
    assert (values < 0).any() and abs(values.mean()) < 4 * values.std() / 10
    assert np.mean(np.abs(values) < 3 * errors) > 0.95


def test_blocks_change_nothing(monkeypatch):
    from dynamics.metrics import _features

    random = np.random.default_rng(5)
    real, fake = random.normal(size=(20, 3)), random.normal(size=(17, 3))
    centres = random.normal(size=(4, 3))

    def all_of_them():
        return (
            *metrics.kernel_distance(real, fake),
            *metrics.precision_recall(real, fake),
            *metrics.mode_coverage(fake, centres, 0.5)[:3],
        )

    whole = all_of_them()
    monkeypatch.setattr(_features, "BLOCK", 6)
    np.testing.assert_allclose(all_of_them(), whole, rtol=1e-12)


@pytest.mark.parametrize("function", [metrics.frechet_distance, metrics.kernel_distance, metrics.precision_recall])
def test_bad_features_are_refused(function):
    good = np.zeros((9, 2))
    with pytest.raises(ValueError, match="real has 2 numbers per sample and fake 3"):
        function(good, np.zeros((9, 3)))
    with pytest.raises(ValueError, match="fake has 1 samples of 9 that are not finite"):
        function(good, np.where(np.arange(18).reshape(9, 2) == 4, np.nan, 0.0))
    with pytest.raises(ValueError, match="expected at least . samples"):
        function(good[:1], good)
    with pytest.raises(TypeError, match="real is .* expected an array of real numbers"):
        function(good + 1j, good)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.frechet_distance_of_moments([0.0], [[1.0, 2.0]], [0.0], [[1.0]]), "covariance has shape"),
        (lambda: metrics.frechet_distance_of_moments([0, 0], [[1, 2], [0, 1]], [0, 0], np.eye(2)), "not symmetric"),
        (lambda: metrics.frechet_distance_of_moments([np.inf], [[1.0]], [0.0], [[1.0]]), "mean has numbers"),
        (lambda: metrics.kernel_distance(np.eye(3), np.eye(3), degree=0), "degree is 0"),
        (lambda: metrics.kernel_distance(np.eye(3), np.eye(3), scale=0.0), "scale is 0.0"),
        (lambda: metrics.kernel_distance(np.eye(3), np.eye(3), offset=-1.0), "offset is -1.0"),
        (lambda: metrics.precision_recall(np.eye(3), np.eye(3), 3), "expected at least 4 samples"),
    ],
)
def test_bad_numbers_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
