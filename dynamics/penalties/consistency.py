from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Players, as_callable, check_takes
from dynamics.objectives.base import Objective
from dynamics.penalties.base import Penalty, Score


def reflected(point: PyTree, key: PRNGKeyArray | None = None) -> PyTree:
    """The point with the opposite sign: an augmentation of data that are symmetric about 0."""
    del key
    return jax.tree.map(jnp.negative, point)


class Consistency(Penalty):
    r"""Squared change of the score under augmentation, $E_{real}(C(x)-C(Tx))^2$, and the same for fake samples.

    $\lambda_{real}$ and $\lambda_{fake}$ are the weights of the two; with the second 0 it is CR, else bCR. No factor
    1/2. With T adding noise $\sigma\epsilon$ this is `ApproximateR1` with $\gamma = 2\lambda\sigma^2$. Added to the
    discriminator's loss only.
    Source: Zhang, Zhang, Odena, Lee, Consistency Regularization for Generative Adversarial Networks, 2020 (with
    lambda = 10); Zhao, Singh, Lee, Zhang, Odena, Zhang, Improved Consistency Regularization for GANs, 2021 (of fake
    samples).

    Args:
        augmentation: T, a function `(point, key) -> point` of one sample. It gets a random key of its own for every
            sample, or `None` for the exact expectation, which only an augmentation without random numbers has. Default:
            reflection, x to -x.
        real: lambda on real samples, >= 0.
        fake: lambda on fake samples, >= 0.

    Raises:
        TypeError: the augmentation is no function of a point and a key.
        ValueError: a weight is negative or not finite, or the augmentation returned a point of another shape.

    >>> flip = Consistency(lambda image, key: image[:, ::-1], real=10.0)
    """

    augmentation: Callable[..., PyTree]
    real: Array
    fake: Array

    def __init__(self, augmentation: Callable[..., PyTree] = reflected, real: Any = 10.0, fake: Any = 0.0):
        self.augmentation = as_callable(augmentation, "augmentation")
        check_takes(augmentation, "augmentation", "(point, key)", 2)
        self.real = as_leaf(real)
        self.fake = as_leaf(fake)

    def __check_init__(self):
        check_number(self, "real", minimum=0)
        check_number(self, "fake", minimum=0)

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        def change(point: PyTree, key: PRNGKeyArray | None) -> Array:
            other = self.augmentation(point, key)
            if _shapes(other) != _shapes(point):
                raise ValueError(
                    f"the augmentation made points of shapes {_shapes(other)} of points of shapes {_shapes(point)}; "
                    "expected the same"
                )
            return jnp.square(score(players[1], point) - score(players[1], other))

        def mean(samples: Sample, key: PRNGKeyArray | None) -> Array:
            if key is None:
                return samples.mean(lambda point: change(point, None))
            keys = jax.random.split(key, samples.count)
            return Sample((samples.values, keys), samples.weights).mean(lambda pair: change(*pair))

        keys = (None, None) if key is None else jax.random.split(key)
        total = self.real * mean(real, keys[0]) + self.fake * mean(fake, keys[1])
        return jnp.asarray(0.0), total


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.shape, tree)
