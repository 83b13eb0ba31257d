"""The networks that experiments are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import _trees, networks

KEY = jax.random.key(5)


@pytest.mark.slow_cases("True-3", "False-3")
@pytest.mark.slow_cases("True-1", "False-1")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_images_go_out_and_scores_come_back(channels, residual):
    one, two = jax.random.split(KEY)
    generator, theta = networks.image_generator(5, channels=channels, width=3, residual=residual, key=one)
    discriminator, psi = networks.image_discriminator(channels=channels, width=2, residual=residual, key=two)
    image = generator(theta, jax.random.normal(KEY, (5,)))
    assert image.shape == (channels, 8, 8) and jnp.abs(image).max() < 1 and jnp.ptp(image) > 0
    score, gradient = jax.value_and_grad(discriminator, argnums=1)(psi, image)
    assert score.shape == () and jnp.isfinite(score)
    # Every pixel of every channel counts, and every parameter as well.
    assert jnp.all(gradient != 0)
    for player, function in (
        (theta, lambda theta: discriminator(psi, generator(theta, jnp.ones(5)))),
        (psi, lambda psi: discriminator(psi, image)),
    ):
        for leaf in jax.tree.leaves(jax.grad(function)(player)):
            assert jnp.any(leaf != 0)


def test_sizes_of_the_convolutional_networks():
    _, theta = networks.image_generator(16, width=32, key=KEY)
    _, psi = networks.image_discriminator(width=32, key=KEY)
    linear, first, last = 16 * 256 + 256, 64 * 32 * 16 + 32, 32 * 16 + 1
    assert _trees.size(theta) == linear + first + last
    assert _trees.size(psi) == 32 * 16 + 32 + 32 * 64 * 16 + 64 + 256 + 1


def test_fully_connected_is_what_it_says():
    function, parameters = networks.fully_connected(2, 3, width=4, depth=2, activation=jnp.tanh, key=KEY)
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(parameters)]
    assert [leaf.shape for leaf in arrays] == [(4, 2), (4,), (4, 4), (4,), (3, 4), (3,)]
    point = np.array([0.3, -1.2])
    hidden = np.tanh(arrays[2] @ np.tanh(arrays[0] @ point + arrays[1]) + arrays[3])
    np.testing.assert_allclose(function(parameters, point), arrays[4] @ hidden + arrays[5], rtol=1e-12)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: networks.fully_connected(2, None, width=0, key=KEY), "width is 0"),
        (lambda: networks.fully_connected(2, 0, key=KEY), "outputs is 0"),
        (lambda: networks.image_generator(0, key=KEY), "latent_size is 0"),
        (lambda: networks.image_discriminator(channels=1.5, key=KEY), "channels is 1.5"),
    ],
)
def test_sizes_are_whole_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()
