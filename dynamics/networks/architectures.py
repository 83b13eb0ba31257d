"""Small generators and discriminators as players: fully connected, and convolutional for images of 8 x 8 pixels.

Each function returns `(function, parameters)` as `split_module` does. None of them keeps values from call to call.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_whole
from dynamics.networks.splitting import SplitModule, split_module

Activation = Callable[[Array], Array]
SIDE = 8  # pixels of an image's side


def fully_connected(
    inputs: int,
    outputs: int | None,
    *,
    width: int = 64,
    depth: int = 2,
    activation: Activation = jax.nn.relu,
    key: PRNGKeyArray,
) -> tuple[SplitModule, PyTree]:
    """A fully connected network: `depth` hidden layers of `width` units.

    Args:
        inputs: numbers that go in, as a vector.
        outputs: numbers that come out, as a vector; `None`: one number, of shape (), the score of a discriminator.
        width, depth: units per hidden layer, and number of hidden layers.
        activation: of the hidden layers; the last one is linear.
        key: random key of the first parameters.

    Raises:
        ValueError: a size is no positive whole number.

    >>> function, parameters = fully_connected(2, None, width=8, key=jax.random.key(0))
    >>> function(parameters, jnp.ones(2)).shape
    ()
    """
    last = "scalar" if outputs is None else as_whole("outputs", outputs)
    inputs, width, depth = as_whole("inputs", inputs), as_whole("width", width), as_whole("depth", depth)
    return split_module(eqx.nn.MLP(inputs, last, width, depth, activation, key=key))


def image_generator(
    latent_size: int, *, channels: int = 1, width: int = 32, residual: bool = False, key: PRNGKeyArray
) -> tuple[SplitModule, PyTree]:
    """A small DCGAN generator: from a latent vector to an image of shape (channels, 8, 8) in (-1, 1).

    A linear layer to 2 `width` channels of 2 x 2, two transposed convolutions of stride 2 (kernels 4 x 4) with ReLU
    before each, tanh at the end; no normalisation. With `residual`: two blocks of doubling by repetition, two 3 x 3
    convolutions and a shortcut in place of the transposed convolutions.
    Source: Radford, Metz, Chintala, Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks, 2016, section 3; the blocks: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually
    Converge?, 2018, appendix.

    Args:
        latent_size: numbers in a latent vector.
        channels: of the image.
        width: channels at 4 x 4 pixels.
        residual: whether to use residual blocks.
        key: random key of the first parameters.

    Raises:
        ValueError: a size is no positive whole number.

    >>> function, parameters = image_generator(16, width=4, key=jax.random.key(0))
    >>> function(parameters, jnp.ones(16)).shape
    (1, 8, 8)
    """
    latent_size, channels = as_whole("latent_size", latent_size), as_whole("channels", channels)
    return split_module(ImageGenerator(latent_size, channels, as_whole("width", width), residual, key=key))


def image_discriminator(
    *, channels: int = 1, width: int = 32, residual: bool = False, key: PRNGKeyArray
) -> tuple[SplitModule, PyTree]:
    """A small DCGAN discriminator: the score of an image of shape (channels, 8, 8).

    Two convolutions of stride 2 (kernels 4 x 4) with leaky ReLU of slope 0.2, and a linear layer; no normalisation.
    With `residual`: two blocks of two 3 x 3 convolutions, a shortcut and an average over 2 x 2 pixels.
    Source: as `image_generator`.

    Args:
        channels: of the image.
        width: channels at 4 x 4 pixels.
        residual: whether to use residual blocks.
        key: random key of the first parameters.

    Raises:
        ValueError: a size is no positive whole number.

    >>> function, parameters = image_discriminator(channels=3, width=4, key=jax.random.key(0))
    >>> function(parameters, jnp.ones((3, 8, 8))).shape
    ()
    """
    channels, width = as_whole("channels", channels), as_whole("width", width)
    return split_module(ImageDiscriminator(channels, width, residual, key=key))


def _leaky(values: Array) -> Array:
    return jax.nn.leaky_relu(values, 0.2)


class ImageGenerator(eqx.Module):
    """What `image_generator` splits."""

    first: eqx.nn.Linear
    blocks: tuple["eqx.nn.ConvTranspose2d | ResidualBlock", ...]
    last: eqx.nn.Conv2d | None

    def __init__(self, latent_size: int, channels: int, width: int, residual: bool, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Linear(latent_size, 2 * width * (SIDE // 4) ** 2, key=keys[0])
        if residual:
            self.blocks = (
                ResidualBlock(2 * width, width, "up", key=keys[1]),
                ResidualBlock(width, width, "up", key=keys[2]),
            )
            self.last = eqx.nn.Conv2d(width, channels, 3, padding=1, key=keys[3])
        else:
            self.blocks = (
                eqx.nn.ConvTranspose2d(2 * width, width, 4, 2, padding=1, key=keys[1]),
                eqx.nn.ConvTranspose2d(width, channels, 4, 2, padding=1, key=keys[2]),
            )
            self.last = None

    def __call__(self, latent: Array) -> Array:
        image = self.first(latent).reshape(-1, SIDE // 4, SIDE // 4)
        for block in self.blocks:
            image = block(image if isinstance(block, ResidualBlock) else jax.nn.relu(image))
        return jnp.tanh(image if self.last is None else self.last(jax.nn.relu(image)))


class ImageDiscriminator(eqx.Module):
    """What `image_discriminator` splits."""

    first: eqx.nn.Conv2d | None
    blocks: tuple["eqx.nn.Conv2d | ResidualBlock", ...]
    last: eqx.nn.Linear

    def __init__(self, channels: int, width: int, residual: bool, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        if residual:
            self.first = eqx.nn.Conv2d(channels, width, 3, padding=1, key=keys[0])
            self.blocks = (
                ResidualBlock(width, width, "down", key=keys[1]),
                ResidualBlock(width, 2 * width, "down", key=keys[2]),
            )
        else:
            self.first = None
            self.blocks = (
                eqx.nn.Conv2d(channels, width, 4, 2, padding=1, key=keys[1]),
                eqx.nn.Conv2d(width, 2 * width, 4, 2, padding=1, key=keys[2]),
            )
        self.last = eqx.nn.Linear(2 * width * (SIDE // 4) ** 2, "scalar", key=keys[3])

    def __call__(self, image: Array) -> Array:
        if self.first is not None:
            image = self.first(image)
        for block in self.blocks:
            image = block(image) if isinstance(block, ResidualBlock) else _leaky(block(image))
        return self.last((image if self.first is None else _leaky(image)).ravel())


class ResidualBlock(eqx.Module):
    """Two 3 x 3 convolutions beside a shortcut, at twice or half as many pixels in the end."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    shortcut: eqx.nn.Conv2d | None
    scale: str = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, scale: str, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.first = eqx.nn.Conv2d(inputs, outputs, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(outputs, outputs, 3, padding=1, key=keys[1])
        self.shortcut = None if inputs == outputs else eqx.nn.Conv2d(inputs, outputs, 1, use_bias=False, key=keys[2])
        self.scale = scale

    def __call__(self, image: Array) -> Array:
        if self.scale == "up":
            image = image.repeat(2, axis=1).repeat(2, axis=2)
        branch = self.second(_leaky(self.first(_leaky(image))))
        total = (image if self.shortcut is None else self.shortcut(image)) + 0.1 * branch
        if self.scale == "down":
            channels, height, breadth = total.shape
            total = total.reshape(channels, height // 2, 2, breadth // 2, 2).mean(axis=(2, 4))
        return total
