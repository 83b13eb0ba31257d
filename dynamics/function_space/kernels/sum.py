import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from dynamics._checks import as_leaf, is_concrete
from dynamics.function_space.kernels.base import Kernel


class Sum(Kernel):
    r"""A weighted sum of kernels, $\sum_i w_i k_i(x, y)$.

    Args:
        kernels: one or more.
        weights: one per kernel, >= 0; `None`: 1 each.

    Raises:
        TypeError: one of them is no kernel.
        ValueError: there is none, or not one weight >= 0 per kernel.

    >>> from dynamics.function_space.kernels import Gaussian
    >>> float(Sum(Gaussian(1.0), Gaussian(2.0), weights=(1.0, 3.0))(jnp.ones(2), jnp.ones(2)))
    4.0
    """

    kernels: tuple[Kernel, ...]
    weights: tuple[Array, ...]

    def __init__(self, *kernels: Kernel, weights: Sequence[ArrayLike] | None = None):
        self.kernels = kernels
        self.weights = tuple(map(as_leaf, (1.0,) * len(kernels) if weights is None else weights))

    def __check_init__(self):
        if not self.kernels:
            raise ValueError("Sum has no kernels; expected one or more, e.g. Sum(Gaussian(1.0), Gaussian(2.0))")
        for kernel in self.kernels:
            if not isinstance(kernel, Kernel):
                raise TypeError(f"Sum has {kernel!r} among its kernels; expected a Kernel, e.g. Gaussian(1.0)")
        if len(self.weights) != len(self.kernels):
            raise ValueError(f"Sum has {len(self.weights)} weights for {len(self.kernels)} kernels; expected one each")
        for weight in self.weights:
            if jnp.shape(weight) != () or (is_concrete(weight) and not 0 <= float(weight) < jnp.inf):
                raise ValueError(f"Sum has the weight {weight}; expected finite numbers >= 0")

    def of_point(self, point: Array) -> tuple[PyTree, ...]:
        return tuple(kernel.of_point(point) for kernel in self.kernels)

    def of_pair(self, one: tuple[PyTree, ...], two: tuple[PyTree, ...]) -> Float[Array, ""]:
        rows = zip(self.weights, self.kernels, one, two, strict=True)
        return functools.reduce(jnp.add, (weight * kernel.of_pair(*pair) for weight, kernel, *pair in rows))
