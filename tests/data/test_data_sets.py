"""Data sets: shapes, modes, moments against closed forms, and what is said to bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy


def test_ring_has_its_modes_where_they_belong():
    data = dy.data.ring(jax.random.key(0), 20_000, modes=5, radius=2.0, std=0.1)
    assert data.values.shape == (20_000, 2) and data.labels.shape == (20_000,)
    angles = 2 * np.pi * np.arange(5) / 5
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(data.centres, centres, atol=1e-12)
    offsets = np.asarray(data.values) - centres[np.asarray(data.labels)]
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=4 * 0.1 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(offsets.T), 0.01 * np.eye(2), atol=4e-4)
    shares = np.bincount(data.labels, minlength=5) / 20_000
    np.testing.assert_allclose(shares, 0.2, atol=4 * np.sqrt(0.2 * 0.8 / 20_000))


def test_grid_has_neighbours_at_its_spacing():
    data = dy.data.grid(jax.random.key(1), 100, side=3, spacing=0.7, std=0.0)
    assert data.modes == 9 and float(data.spread) == 0
    assert {tuple(np.round(point, 6)) for point in data.values.tolist()} <= {
        (round(0.7 * i, 6), round(0.7 * j, 6)) for i in (-1, 0, 1) for j in (-1, 0, 1)
    }
    np.testing.assert_allclose(data.centres.sum(axis=0), 0, atol=1e-12)


def test_mixture_is_weighted():
    data = dy.data.mixture(jax.random.key(2), 30_000, means=(-1.0, 2.0), std=0.5, weights=(3.0, 1.0))
    assert data.values.shape == (30_000,)
    np.testing.assert_allclose(np.mean(data.values), -0.25, atol=0.05)  # (3 (-1) + 2) / 4
    np.testing.assert_allclose(np.var(data.values), 0.25 + 3 / 16 * 9, atol=0.1)  # within, and between the modes


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    data, expected = dy.data.digits(), datasets.load_digits()
    assert data.values.shape == (1797, 1, 8, 8) and data.modes == 10
    np.testing.assert_array_equal(data.values[:, 0] * 8 + 8, expected.images)
    np.testing.assert_array_equal(data.labels, expected.target)
    assert float(data.values.min()) == -1 and float(data.values.max()) == 1


def test_stacked_digits_have_three_digits_each():
    pytest.importorskip("sklearn")
    single, data = dy.data.digits(), dy.data.stacked_digits(jax.random.key(3), 50)
    assert data.values.shape == (50, 3, 8, 8) and data.modes == 1000
    known = {image.tobytes(): int(label) for image, label in zip(np.asarray(single.values[:, 0]), single.labels)}
    for image, label in zip(np.asarray(data.values), data.labels.tolist()):
        assert [known[channel.tobytes()] for channel in image] == [label // 100, label // 10 % 10, label % 10]
    assert len(set(data.labels.tolist())) > 25


@pytest.mark.parametrize("make", [dy.data.ring, dy.data.grid, dy.data.mixture])
def test_the_same_key_gives_the_same_points(make):
    one, again, other = (make(jax.random.key(seed), 30) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.values, again.values)
    assert not np.array_equal(one.values, other.values)


def test_a_data_set_is_where_a_gan_takes_its_samples_from():
    points = dy.data.ring(jax.random.key(0), 30).points(7)
    assert points.sample(jax.random.key(1)).values.shape == (7, 2)
    assert points.sample().values.shape == (30, 2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda key: dy.data.ring(key, 0), "size is 0; expected a whole number >= 1"),
        (lambda key: dy.data.ring(key, modes=2.5), "modes is 2.5"),
        (lambda key: dy.data.ring(key, radius=-1.0), "radius is -1.0; expected a finite number > 0"),
        (lambda key: dy.data.ring(key, 10, std=-0.1), r"DataSet.spread is -0.1; expected a finite number >= 0"),
        (lambda key: dy.data.mixture(key, weights=(1.0, 2.0)), "weights is .* expected 3 numbers >= 0"),
        (lambda key: dy.data.mixture(key, means=3.0), "means is 3.0; expected one number per mode"),
        (lambda key: dy.data.ring(key, 10**15), "points would take .* of memory"),
        (lambda key: dy.data.DataSet(jnp.zeros(3), jnp.zeros(2, int)), r"labels is .* expected whole numbers of shape"),
        (lambda key: dy.data.DataSet(jnp.zeros(3), jnp.zeros(3)), r"labels is .* expected whole numbers"),
        (lambda key: dy.data.DataSet((jnp.zeros(3), jnp.zeros(2))), "leading axes .* expected one common"),
        (lambda key: dy.data.DataSet(jnp.asarray([1.0, jnp.nan])), "holds nan"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(jax.random.key(0))


@pytest.mark.slow
def test_shapes_are_drawn_evenly():
    square = np.asarray(dy.data.shape(jax.random.key(0), 4000, name="square", scale=np.sqrt(2)).values)
    np.testing.assert_allclose(np.abs(square).max(axis=1), 1, rtol=1e-12)
    sides = [np.isclose(square[:, axis], sign).mean() for axis in (0, 1) for sign in (1, -1)]
    np.testing.assert_allclose(sides, 0.25, atol=0.03)  # four standard errors
    circle = jax.jit(lambda key: dy.data.shape(key, 500, name="circle", scale=3.0).values)(jax.random.key(1))
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 3, rtol=1e-4)
    angles = np.sort(np.arctan2(*np.asarray(circle).T))
    assert np.abs(angles / (2 * np.pi) + 0.5 - (np.arange(500) + 0.5) / 500).max() < 0.09  # Kolmogorov's test
    noisy = dy.data.shape(jax.random.key(2), 2000, name="cross", std=0.1).values
    np.testing.assert_allclose(np.abs(noisy).min(axis=1).std(), 0.1 * np.sqrt(1 - 2 / np.pi), rtol=0.15)
    for name in ("heart", "moons", "spiral", "star"):
        points = dy.data.shape(jax.random.key(3), 300, name=name).values
        assert points.shape == (300, 2) and 0.7 < np.abs(points).max() < 1.1
    with pytest.raises(ValueError, match="no shape 'hart'; did you mean 'heart'"):
        dy.data.shape(jax.random.key(0), 3, name="hart")
    with pytest.raises(ValueError, match="scale is 0"):
        dy.data.shape(jax.random.key(0), 3, scale=0.0)
