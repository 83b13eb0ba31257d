"""Functions in the space of a kernel: discriminators that need no parameters but one number per point."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dynamics._checks import as_leaf
from dynamics.function_space.kernels.base import Kernel, as_points, check_same_points

MANY = 10_000  # pairs of points, from which on a function is evaluated point by point


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
        kernels = jax.vmap(lambda point: self.kernel(x, point))(self.points)
        return self.offset + jnp.sum(self.coefficients * kernels)

    def at(self, points: ArrayLike) -> Float[Array, " n"]:
        """Its values at many points, shape (n,). Of large sets with their gradients, which take the longest, at once.

        Raises:
            ValueError: the points have another shape than those of the function.
        """
        points = as_points(points, "points")
        check_same_points(points, self.points, "points", "the function")
        if points.shape[0] * self.points.shape[0] < MANY:
            return jax.vmap(self)(points)
        return _values(self, points)


def _plain(function: Callable[[Array], Array], points: Array) -> Array:
    return jax.lax.map(function, points)


# Derivatives with respect to the points are those of one point after the other, so that what a row of kernels needs on
# the way stays in the cache, and the memory of a gradient through the matrix is not needed.
@eqx.filter_custom_jvp
def _values(function: Callable[[Array], Array], points: Array) -> Array:
    return _plain(function, points)


@_values.def_jvp
def _values_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    function, points = primals
    of_function, of_points = tangents
    total = None
    if of_points is None:
        values = _plain(function, points)
    else:
        values, gradients = jax.lax.map(jax.value_and_grad(function), points)
        total = jnp.sum(jnp.reshape(gradients * of_points, (len(values), -1)), axis=1)
    if jax.tree.leaves(of_function):
        change = eqx.filter_jvp(lambda function: _plain(function, points), (function,), (of_function,))[1]
        total = change if total is None else total + change
    return values, total  # pyright: ignore[reportReturnType]


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
