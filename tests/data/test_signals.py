"""MNIST-1D: against the package that makes it; the missing package is named. Skipped without the extra `signals`."""

import random
import sys

import jax
import numpy as np
import optax
import pytest

import dynamics as dy


def test_the_extra_is_named_where_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    expected = 'dynamics.data.signals needs mnist1d, which is not installed; pip install "dynamics\\[signals\\]"'
    with pytest.raises(ImportError, match=expected):
        dy.data.signals()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"size": 15}, "size is 15; expected a multiple of 10"),
        ({"size": 0}, "size is 0"),
        ({"size": 10**13}, "signals would take .* of memory"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296; expected a whole number below 2"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        dy.data.signals(**arguments)


def test_signals_are_those_of_the_package_and_disturb_no_generator():
    package = pytest.importorskip("mnist1d")
    arguments = package.get_dataset_args()
    arguments.num_samples = 100
    expected = package.data.make_dataset(arguments)
    np.random.seed(3)
    random.seed(3)
    data = dy.data.signals(100)
    after = np.random.rand(), random.random()
    np.random.seed(3)
    random.seed(3)
    assert after == (np.random.rand(), random.random())
    np.testing.assert_allclose(data.values, np.concatenate([expected["x"], expected["x_test"]]), rtol=1e-12)
    np.testing.assert_array_equal(data.labels, np.concatenate([expected["y"], expected["y_test"]]))
    assert data.values.shape == (100, 40) and data.modes == 10
    assert np.bincount(data.labels).tolist() == [10] * 10
    other = dy.data.signals(50, seed=7)
    assert other.count == 50 and np.bincount(other.labels).tolist() == [5] * 10


@pytest.mark.slow
def test_a_gan_of_signals_trains():
    pytest.importorskip("mnist1d")
    data = dy.data.signals(100)
    generator, theta = dy.networks.fully_connected(8, 40, width=8, key=jax.random.key(0))
    discriminator, psi = dy.networks.fully_connected(40, None, width=8, key=jax.random.key(1))
    latent = dy.distributions.normal(np.zeros(8), 1.0, batch_size=16)
    game = dy.GAN(generator, discriminator, data.points(16), latent, penalty=dy.penalties.R1(0.1))
    adam = optax.adam(2e-3, b1=0.5)
    batches = dy.data.Batches(data, 16, jax.random.key(2))
    training = dy.train(
        game, dy.updates.Alternating(adam, adam), (theta, psi), steps=20, key=jax.random.key(3), data=batches
    )
    assert training.losses.shape == (21, 2) and np.isfinite(training.losses).all()
    assert dy.training.generate(game, training.state.players, jax.random.key(4), 5).shape == (5, 40)
