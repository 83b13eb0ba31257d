"""Regularisers that are added to the players' losses."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._printing import Printed
from dynamics.distributions import GaussianMixture, Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.scalars import half_square, safe_norm

Score = Callable[[PyTree, PyTree], Array]  # of the discriminator's parameters and one point


class Penalty(Printed):
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


class StatefulPenalty(Penalty):
    """A penalty that keeps values from one step to the next, such as averages of scores.

    A `GAN` has them among its variables, so that they are memory of the update (`dynamics.updates.WithVariables`), also
    where the penalty is part of another one.
    """

    @property
    @abstractmethod
    def variables(self) -> PyTree:
        """A pytree of arrays, as they are before the next step; without leaves: it keeps nothing."""

    @abstractmethod
    def with_variables(self, variables: PyTree) -> "StatefulPenalty":
        """The same penalty with other variables, of the same structure, shapes and dtypes."""

    @abstractmethod
    def advanced(self, real: Sample, fake: Sample) -> "StatefulPenalty":
        """The penalty after a computation of the losses with these scores of real and fake samples."""


def stateful(penalty: Penalty | None) -> list[StatefulPenalty]:
    """The penalties within one that keep something."""
    nodes = jax.tree.leaves(penalty, is_leaf=_is_stateful)
    return [node for node in nodes if _is_stateful(node) and jax.tree.leaves(node.variables)]


def replace_stateful(penalty: Penalty | None, replace: Callable[[StatefulPenalty], StatefulPenalty]) -> Penalty | None:
    """The penalty with another one in place of each within it that keeps something, in the order of `stateful`."""

    def replaced(node: Any) -> Any:
        return replace(node) if _is_stateful(node) and jax.tree.leaves(node.variables) else node

    return jax.tree.map(replaced, penalty, is_leaf=_is_stateful)


def check_stateless(owner: Any) -> None:
    """Raise `TypeError` where a game that keeps nothing has a penalty that would."""
    if keeping := stateful(owner.penalty):
        raise TypeError(
            f"{type(owner).__name__}.penalty has {type(keeping[0]).__name__}, which keeps values from step to step; "
            "expected one that keeps nothing, e.g. LeCam without decay. A dynamics.GAN of the same parts can have it."
        )


def _is_stateful(node: Any) -> bool:
    return isinstance(node, StatefulPenalty)


def input_gradient(score: Score, parameters: PyTree, sample: PyTree) -> PyTree:
    """Gradient of the score with respect to one sample, of the sample's shape."""
    return jax.grad(lambda point: score(parameters, point))(sample)


def gradient_norm(score: Score, parameters: PyTree, sample: PyTree) -> Array:
    r"""$\|\nabla_x C(x)\|$ at one sample, with derivative 0 where the gradient vanishes."""
    flat, _ = ravel_pytree(input_gradient(score, parameters, sample))
    return safe_norm(flat)


def normal_steps(point: Array, std: Any, nodes: int) -> Sample:
    """The nodes of a Gauss-Hermite quadrature of N(0, std^2 I), of the shape of a point."""
    mean = jnp.zeros((1, point.size), point.dtype)
    return GaussianMixture(mean, std, nodes).sample().each(lambda step: step.reshape(point.shape))


def half_squared_gradient(score: Score, parameters: PyTree, samples: Sample) -> Array:
    r"""$\frac{1}{2} E\|\nabla_x C(x)\|^2$ over the samples."""

    def at_point(point):
        return sum(jnp.sum(half_square(leaf)) for leaf in jax.tree.leaves(input_gradient(score, parameters, point)))

    return samples.each(at_point).mean()
