"""Regularisers that are added to the players' losses."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.scalars import half_square, safe_norm

Score = Callable[[PyTree, PyTree], Array]  # of the discriminator's parameters and one point


class Penalty(eqx.Module):
    """Something added to the losses of generator and discriminator, beyond the objective."""

    @abstractmethod
    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        """The terms added to the generator's and to the discriminator's loss, two scalars.

        Args:
            score: the discriminator, a function of its parameters and one point.
            objective: what the players are paid, for penalties made of their losses.
            players: parameters of generator and discriminator.
            real, fake: the samples that the discriminator sees (instance noise included).
            key: for random numbers; `None`: the exact expectation.
        """


def input_gradient(score: Score, parameters: PyTree, sample: PyTree) -> PyTree:
    """Gradient of the score with respect to one sample, of the sample's shape."""
    return jax.grad(lambda point: score(parameters, point))(sample)


def gradient_norm(score: Score, parameters: PyTree, sample: PyTree) -> Array:
    r"""$\|\nabla_x C(x)\|$ at one sample, with derivative 0 where the gradient vanishes."""
    flat, _ = ravel_pytree(input_gradient(score, parameters, sample))
    return safe_norm(flat)


def half_squared_gradient(score: Score, parameters: PyTree, samples: Sample) -> Array:
    r"""$\frac{1}{2} E\|\nabla_x C(x)\|^2$ over the samples."""

    def at_point(point):
        return sum(jnp.sum(half_square(leaf)) for leaf in jax.tree.leaves(input_gradient(score, parameters, point)))

    return samples.each(at_point).mean()
