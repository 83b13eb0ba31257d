"""What a kernel is: a symmetric function of two points, and the matrix of it between two sets of points."""

import functools
from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from dynamics._checks import as_leaf, as_whole, is_concrete
from dynamics.function_space.kernels import pairs


class Kernel(eqx.Module):
    """A positive semi-definite kernel of two points, each an array of any shape, the same for both.

    A kernel says what it needs of a point alone, and what it makes of two of these: of sets of points the former is
    computed once per point, the latter once per pair.

    Values keep the points' dtype. Gradients, first and second, are finite everywhere; where a kernel has a kink the
    gradient along it is 0, and the kernel's docstring says where.
    """

    @abstractmethod
    def of_point(self, point: Array) -> PyTree:
        """What is needed of a point, an array of floating dtype: a pytree of arrays."""

    @abstractmethod
    def of_pair(self, one: PyTree, two: PyTree) -> Float[Array, ""]:
        """The kernel of two points, from what `of_point` made of each."""

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
        """The kernel of two points of one shape, a scalar."""
        return self.of_pair(*map(self.of_point, _same_shape(x, y)))

    def matrix(
        self, rows: ArrayLike, columns: ArrayLike | None = None, *, chunk: int | None = None
    ) -> Float[Array, "n m"]:
        """The kernel of every point of one set with every point of another.

        Args:
            rows: points, shape (n, ...).
            columns: points, shape (m, ...); `None`: the same as `rows`.
            chunk: compute blocks of so many rows and columns, one after the other, for sets whose intermediate results
                have no room; `None`: all at once.

        Raises:
            ValueError: the points of both sets have different shapes, or there is no axis of points.
        """
        if columns is None and chunk is None:
            return _symmetric(self, as_points(rows, "rows"))
        rows, columns = as_points(rows, "rows"), as_points(rows if columns is None else columns, "columns")
        check_same_points(rows, columns, "rows", "columns")
        return _matrix(self, rows, columns, None if chunk is None else as_whole("chunk", chunk))

    def diagonal(self, points: ArrayLike) -> Float[Array, " n"]:
        """The kernel of every point with itself, shape (n,)."""
        return _diagonal(self, as_points(points, "points"))

    def __add__(self, other: "Kernel") -> "Kernel":
        return Sum(self, other) if isinstance(other, Kernel) else NotImplemented


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


@eqx.filter_jit
def _matrix(kernel: Kernel, rows: Array, columns: Array, chunk: int | None) -> Array:
    if chunk is None:
        return pairs.matrix(kernel, rows, columns)

    # What depends on one of the two points alone is computed once per point, not once per pair.
    def row(x: Array) -> Array:
        return jax.lax.map(lambda y: kernel(x, y), columns, batch_size=chunk)

    return jax.lax.map(row, rows, batch_size=chunk)


@eqx.filter_jit
def _symmetric(kernel: Kernel, points: Array) -> Array:
    return pairs.symmetric(kernel, points)


@eqx.filter_jit
def _diagonal(kernel: Kernel, points: Array) -> Array:
    return jax.vmap(lambda x: kernel(x, x))(points)


def as_points(points: ArrayLike, name: str) -> Array:
    """An array of floating type with a leading axis of points.

    Raises:
        ValueError: there is no such axis, or no point.
    """
    array = jnp.asarray(points) * 1.0
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(f"{name} has shape {array.shape}; expected (n, ...), n >= 1 points along the first axis")
    return array


def check_same_points(first: Array, second: Array, name: str, other: str) -> None:
    """Raise `ValueError` unless the points of both sets have one shape."""
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"{name} has points of shape {first.shape[1:]} and {other} of shape {second.shape[1:]}; expected the same"
        )


def _same_shape(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Two points of floating dtype.

    Raises:
        ValueError: they have different shapes, or no numbers.
    """
    x, y = jnp.asarray(x) * 1.0, jnp.asarray(y) * 1.0
    if x.shape != y.shape or x.size == 0:
        raise ValueError(f"the points have shapes {x.shape} and {y.shape}; expected two points of one shape")
    return x, y
