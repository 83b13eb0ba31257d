"""Samples, exact expectations and random draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.distributions import (
    GaussianMixture,
    PointMass,
    Points,
    Sample,
    Sampler,
    as_distribution,
    normal,
    ring,
)

KEY = jax.random.key(3)


def test_mean_of_a_sample():
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    weights = np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    np.testing.assert_allclose(Sample(jnp.asarray(values)).mean(), values.mean(0), 1e-14)
    weighted = Sample(jnp.asarray(values), jnp.asarray(weights))
    np.testing.assert_allclose(weighted.mean(), np.einsum("n,nij->ij", weights, values), 1e-14)
    norms = (values**2).sum((1, 2))
    np.testing.assert_allclose(weighted.mean(lambda point: jnp.sum(point**2)), weights @ norms, 1e-14)


@pytest.mark.parametrize("count", [1, 2])
def test_each_takes_one_point_at_a_time(count):
    sample = Sample({"x": jnp.arange(3.0 * count).reshape(count, 3), "y": jnp.ones(count)})
    shapes = []

    def function(point):
        shapes.append((point["x"].shape, point["y"].shape))
        return {"sum": point["x"].sum() + point["y"]}

    result = sample.each(function)
    assert shapes == [((3,), ())]
    np.testing.assert_allclose(result.values["sum"], np.arange(3 * count).reshape(count, 3).sum(1) + 1)
    np.testing.assert_allclose(sample.mean(lambda point: point["x"]), np.arange(3.0) + 1.5 * (count - 1))


def test_one_point_leaves_no_axis_in_the_compiled_expectation():
    text = jax.jit(jax.vmap(lambda x: Sample(x[None]).mean(jnp.square))).lower(jnp.ones(7)).compile().as_text()
    assert "f64[7,1]" not in text and "reduce" not in text


def test_product_pairs_everything_and_multiplies_weights():
    one = Sample(jnp.asarray([1.0, 2.0]), jnp.asarray([0.25, 0.75]))
    two = Sample(jnp.asarray([10.0, 20.0, 30.0]))
    pairs = one.product(two, lambda a, b: a * b)
    assert pairs.count == 6
    np.testing.assert_allclose(sorted(pairs.values), [10, 20, 20, 30, 40, 60])
    np.testing.assert_allclose(pairs.weights.sum(), 1)
    np.testing.assert_allclose(pairs.mean(), 1.75 * 20)
    assert two.product(two, jnp.add).weights is None


def test_quadrature_integrates_polynomials_exactly():
    nodes = 6
    sample = GaussianMixture([1.0, -3.0], 0.7, nodes).sample()
    for degree in range(2 * nodes):
        exact = np.mean([moment(mean, 0.7, degree) for mean in (1, -3)])
        np.testing.assert_allclose(sample.mean(lambda x, d=degree: x**d), exact, rtol=1e-11, atol=1e-9)


def moment(mean, std, degree):
    """The moment E x^degree of N(mean, std^2), by the binomial theorem."""
    standard = [1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0]
    return sum(math.comb(degree, k) * mean ** (degree - k) * std**k * standard[k] for k in range(degree + 1))


def test_quadrature_of_vectors():
    sample = normal(jnp.asarray([1.0, -2.0]), 0.5, nodes=4).sample()
    assert sample.values.shape == (16, 2)
    np.testing.assert_allclose(sample.weights.sum(), 1)
    covariance = sample.mean(lambda x: jnp.outer(x - jnp.asarray([1.0, -2.0]), x - jnp.asarray([1.0, -2.0])))
    np.testing.assert_allclose(covariance, 0.25 * np.eye(2), atol=1e-14)
    np.testing.assert_allclose(sample.mean(), [1, -2])


def test_whole_numbers_as_means_are_real_numbers():
    np.testing.assert_allclose(GaussianMixture([0, 1], 0.5, 3).sample().mean(jnp.square), 0.5 + 0.25)


@pytest.mark.parametrize("distribution", [normal(1.0, 2.0), GaussianMixture([-1.0, 3.0], 0.5), ring(5, 2.0, 0.1)])
def test_draws_agree_with_the_quadrature(distribution):
    draws = np.asarray(jax.jit(lambda key: distribution.sample(key, 20_000).values)(KEY))
    exact = distribution.sample()
    for function in (lambda x: x, jnp.square):
        values = np.asarray(function(draws))
        error = values.std(0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(0) - exact.mean(function)) < 5 * error)


def test_ring_has_equally_spaced_modes():
    modes = ring(8, 2.0, 0.1).means
    np.testing.assert_allclose(np.linalg.norm(modes, axis=1), 2)
    np.testing.assert_allclose(np.linalg.norm(modes - np.roll(modes, 1, axis=0), axis=1), 4 * np.sin(np.pi / 8))


@pytest.mark.parametrize(
    "distribution, own",
    [
        (PointMass(2.0), 1),
        (Points(jnp.arange(6.0), batch_size=4), 4),
        (Points(jnp.arange(6.0)), 6),
        (normal(batch_size=7), 7),
        (Sampler(lambda key: jax.random.uniform(key, (5,))), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_number_of_draws(distribution, own):
    assert jax.eval_shape(distribution.sample, KEY).count == own
    for count in (1, 13):
        draws = jax.eval_shape(lambda key, count=count: distribution.sample(key, count), KEY)
        assert draws.count == count and draws.weights is None


def test_draws_of_points_are_points():
    points = {"x": jnp.arange(6.0), "y": jnp.arange(6.0)[:, None] ** 2}
    draws = Points(points, batch_size=50).sample(KEY).values
    assert set(np.asarray(draws["x"])) <= set(range(6)) and len(set(np.asarray(draws["x"]))) > 2
    np.testing.assert_array_equal(draws["y"][:, 0], draws["x"] ** 2)


def test_blocks_of_a_sampler_are_independent():
    draws = Sampler(lambda key: jax.random.uniform(key, (5,))).sample(KEY, 20).values
    assert len(set(np.asarray(draws))) == 20


def test_sources():
    assert isinstance(as_distribution([[1.0, 2.0]], "data"), Points)
    assert isinstance(as_distribution(np.ones(3), "data"), Points)
    assert isinstance(as_distribution(lambda key: jax.random.normal(key, (3,)), "data"), Sampler)
    distribution = normal()
    assert as_distribution(distribution, "data") is distribution


@pytest.mark.parametrize(
    "build, error, parts",
    [
        (lambda: as_distribution("mnist", "data"), TypeError, ["data", "'mnist'", "expected", "PointMass"]),
        (lambda: as_distribution(3.0, "latent"), TypeError, ["latent", "3.0", "expected", "PointMass"]),
        (lambda: Points({"x": jnp.ones(3), "y": jnp.ones(4)}), ValueError, ["(3,)", "(4,)", "expected"]),
        (lambda: Points(jnp.ones((0, 2))), ValueError, ["(0,)", "non-empty"]),
        (lambda: Points(jnp.asarray([1.0, jnp.nan, 2.0])), ValueError, ["nan", "1 of 3", "expected", "repair"]),
        (lambda: Points(jnp.ones(3), batch_size=0), ValueError, ["batch_size is 0", "expected", ">= 1"]),
        (lambda: Points(jnp.ones(3), batch_size=2.0), ValueError, ["batch_size is 2.0", "expected"]),
        (lambda: PointMass(jnp.inf), ValueError, ["PointMass.point", "inf", "expected"]),
        (lambda: PointMass("0"), TypeError, ["'0'", "str", "expected", "Pass"]),
        (lambda: normal(0.0, -1.0), ValueError, ["std is -1", "expected", ">= 0"]),
        (lambda: normal(0.0, 1.0, nodes=0), ValueError, ["nodes is 0", "expected"]),
        (lambda: GaussianMixture(1.0, 1.0), ValueError, ["()", "expected", "normal"]),
        (lambda: GaussianMixture([1.0, jnp.nan], 1.0), ValueError, ["means", "nan", "expected"]),
        (lambda: normal(jnp.zeros(12), 1.0, 5).sample(), ValueError, ["5 nodes", "12 dimensions", "key"]),
        (lambda: as_distribution(lambda key: key, "data").sample(), ValueError, ["key=None", "expect", "Points"]),
    ],
)
def test_messages(build, error, parts):
    with pytest.raises(error) as caught:
        build()
    for part in parts:
        assert part in str(caught.value)
