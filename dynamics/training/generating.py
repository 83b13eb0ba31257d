"""The GAN within a game: its data exchanged for a batch, and samples of its generator."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._compiling import cheap_jit
from dynamics.distributions import Distribution
from dynamics.game import Game, Players
from dynamics.gan import GAN
from dynamics.networks.network import Network

BATCH = 1024  # points that a generator makes at a time


def _is_gan(node: Any) -> bool:
    return isinstance(node, GAN)


def gans_in(game: Game) -> list[GAN]:
    """All `GAN`s in a game: the game itself, or what it is made of."""
    return [node for node in jax.tree.leaves(game, is_leaf=_is_gan) if _is_gan(node)]


def gan_of(game: Game, what: str) -> GAN:
    """The only `GAN` in a game: the game itself, or what it is made of.

    Raises:
        TypeError: there is none, or several.
    """
    gans = gans_in(game)
    if len(gans) != 1:
        raise TypeError(
            f"{what} needs a game with one GAN in it, and {type(game).__name__} has {len(gans)}; expected a "
            "dynamics.GAN(generator, discriminator, data, latent)"
        )
    return gans[0]


def with_data(game: Game, data: Distribution) -> Game:
    """The game with other data in its `GAN`."""

    def exchanged(gan: GAN) -> GAN:
        return jax.tree.map(lambda node: data if node is gan.data else node, gan, is_leaf=lambda node: node is gan.data)

    return jax.tree.map(lambda node: exchanged(node) if _is_gan(node) else node, game, is_leaf=_is_gan)


def generate(game: Game, players: Players, key: PRNGKeyArray, count: int) -> PyTree:
    """Samples of a generator, without instance noise; of a network, in inference mode.

    Args:
        game: a `GAN`, or a game with one in it such as `games.RingGAN`.
        players: generator and discriminator, for instance `training.averaged_players`.
        key: random key of the latents.
        count: number of samples.

    Returns:
        an array, or a pytree of arrays, with a leading axis of `count` samples.

    Raises:
        TypeError: there is no GAN in the game.
        ValueError: the count is no positive whole number.

    >>> from dynamics.games import RingGAN
    >>> game = RingGAN(jax.random.key(0))
    >>> generate(game, game.start(jax.random.key(1)), jax.random.key(2), 5).shape
    (5, 2)
    """
    gan, count = gan_of(game, "generate"), as_whole("count", count)
    gan = _trees.cast(gan, _trees.float_dtype(players))
    size = min(count, BATCH)
    batches = [_batch(gan, players[0], jax.random.fold_in(key, i), size) for i in range(-(-count // size))]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *batches)


@functools.partial(cheap_jit)
def _batch(gan: GAN, parameters: PyTree, key: PRNGKeyArray, count: int) -> PyTree:
    latent = _trees.cast(gan.latent.sample(key, count), _trees.float_dtype(parameters))
    generator = gan.generator
    if isinstance(generator, Network):
        return jax.vmap(lambda point: generator.evaluate(parameters, gan.variables[0], point))(latent.values)
    return jax.vmap(lambda point: generator(parameters, point))(latent.values)
