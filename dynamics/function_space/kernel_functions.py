"""Functions in the space of a kernel: discriminators that need no parameters but one number per point."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dynamics._checks import as_leaf
from dynamics.function_space.kernels import pairs
from dynamics.function_space.kernels.base import Kernel, as_points, check_same_points


class KernelFunction(eqx.Module):
    r"""A function $f(x) = f_0 + \sum_i \alpha_i\,k(x, p_i)$; high on real samples, where it is a discriminator.

    Attributes:
        kernel: k.
        points: p, shape (m, ...).
        coefficients: alpha, shape (m,).
        offset: f_0, a number.

    >>> from dynamics.function_space.kernels import Gaussian
    >>> function = KernelFunction(Gaussian(1.0), jnp.asarray([[0.0], [9.0]]), jnp.asarray([2.0, 1.0]), 0.5)
    >>> round(float(function(jnp.asarray([0.0]))), 9)  # 0.5 + 2 k(0, 0), and 9 is far
    2.5
    """

    kernel: Kernel
    points: Float[Array, "m ..."]
    coefficients: Float[Array, " m"]
    offset: Float[Array, ""]

    def __init__(self, kernel: Kernel, points: ArrayLike, coefficients: ArrayLike, offset: ArrayLike = 0.0):
        self.kernel = kernel
        self.points = as_points(points, "points")
        self.coefficients = jnp.asarray(coefficients) * 1.0
        self.offset = as_leaf(offset)

    def __check_init__(self):
        if not isinstance(self.kernel, Kernel):
            raise TypeError(f"KernelFunction.kernel is {self.kernel!r}; expected a Kernel, e.g. NeuralTangent()")
        if self.coefficients.shape != self.points.shape[:1]:
            raise ValueError(
                f"KernelFunction.coefficients has shape {self.coefficients.shape} for points of shape "
                f"{self.points.shape}; expected one number per point"
            )

    def __call__(self, x: ArrayLike) -> Float[Array, ""]:
        return self.at(jnp.asarray(x)[None])[0]

    def at(self, points: ArrayLike) -> Float[Array, " n"]:
        """Its values at many points, shape (n,). Of large sets with their gradients, which take the longest, at once.

        Raises:
            ValueError: the points have another shape than those of the function.
        """
        points = as_points(points, "points")
        check_same_points(points, self.points, "points", "the function")
        return self.offset + pairs.sums(self.kernel, points, self.points, self.coefficients)


def squared_discrepancy(kernel: Kernel, real: ArrayLike, fake: ArrayLike) -> Float[Array, ""]:
    r"""Squared maximum mean discrepancy $E\,k(x,x') + E\,k(y,y') - 2E\,k(x,y)$ of two sets as distributions.

    Args:
        kernel: k.
        real, fake: points, shape (n, ...) and (m, ...), equally weighted; pairs of a point with itself included.

    Raises:
        ValueError: the points have different shapes.

    >>> from dynamics.function_space.kernels import Gaussian
    >>> round(float(squared_discrepancy(Gaussian(1.0), jnp.zeros((1, 1)), jnp.ones((1, 1)))), 6)  # 2 - 2 exp(-1/2)
    0.786939
    """
    within = jnp.mean(kernel.matrix(real)) + jnp.mean(kernel.matrix(fake))
    return within - 2 * jnp.mean(kernel.matrix(real, fake))
