"""Regularisers that are added to the players' losses."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.scalars import half_square, safe_norm

if TYPE_CHECKING:
    from dynamics.gan import GAN


class Penalty(eqx.Module):
    """Something added to the losses of generator and discriminator, beyond the objective."""

    @abstractmethod
    def __call__(
        self, gan: "GAN", players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        """The terms added to the generator's and to the discriminator's loss, two scalars.

        `real` and `fake` are the samples the discriminator sees (instance noise included).
        """


def input_gradient(gan: "GAN", players: Players, sample: PyTree) -> PyTree:
    """Gradient of the score with respect to one sample, of the sample's shape."""
    return jax.grad(lambda point: gan.discriminator(players[1], point))(sample)


def gradient_norm(gan: "GAN", players: Players, sample: PyTree) -> Array:
    r"""$\|\nabla_x C(x)\|$ at one sample, with derivative 0 where the gradient vanishes."""
    flat, _ = ravel_pytree(input_gradient(gan, players, sample))
    return safe_norm(flat)


def half_squared_gradient(gan: "GAN", players: Players, samples: Sample) -> Array:
    r"""$\frac{1}{2} E\|\nabla_x C(x)\|^2$ over the samples."""

    def one(point):
        return sum(jnp.sum(half_square(leaf)) for leaf in jax.tree.leaves(input_gradient(gan, players, point)))

    return samples.each(one).mean()
